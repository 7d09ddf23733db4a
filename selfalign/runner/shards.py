"""Many machines: shards of a step, handed to datatrove's executors.

    python execute.py org/responses org/executions --executor slurm --shards 64 --workers 16 \\
        --executor-options partition=cpu time=20:00:00 cpus_per_task=8

A shard is the same command with `--shard 3/64`, in a process of its own, from a copy of the scripts that is sent with
the task. Nodes need Python with the packages in requirements.txt, access to the input and the output (Hub ids, or a
file system that they share), and a token of their own if these are on the Hub.

datatrove's completion markers are not relied on: they only say that a task ended, for some number of shards. They are
first set to what the parts in the output say. A task never fails, since one failing task ends the whole local pool.
Afterwards the parts are looked at again, since Ray and Jobs do not raise an error when they abandon a task.
"""

from __future__ import annotations

import builtins
import importlib.util
import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import types
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selfalign.errors import UserError, without_secrets
from selfalign.options import API_KEY_VARIABLE, ROOT, StepOptions, program_of
from selfalign.processes import die_with_parent
from selfalign.runner.hub import hub_name, is_hub_id

SHIPPED = ("*.py", "selfalign/**/*", "code_eval/**/*", "server/*.py", "prompts/*", "experiments/**/*.py")
# Packages in requirements.txt that no sharded step needs; they take gigabytes.
NOT_ON_JOBS = ("torch==", "trl==", "peft==", "accelerate==", "gguf==")


def run_shards(options: StepOptions, run: str, open_shards: Sequence[bool]) -> None:
    """Run the shards that are open, and return when they have ended.

    `run` is a hash of the run's identity. What is left to do afterwards is for the caller to see.

    Raises:
        UserError: the executor is not installed, or refuses its options.
        SystemExit: status 0 after handing the shards to Slurm, which runs them later.
    """
    executor = _executor(options, run)
    _mark_completed(executor.logging_dir, open_shards)
    if options.executor == "slurm":
        _launch_by_slurm(executor, options)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the pool ends, and its shards with it
    if options.executor == "local":  # after SIGKILL, datatrove's manager would live on
        os.register_at_fork(after_in_child=die_with_parent)
    executor.run()
    ended = executor.logging_dir.list_files("completions")
    lost = [number for number in range(options.shards) if f"completions/{number:05d}" not in ended]
    if lost:
        shown = f"{options.executor}: shards {', '.join(map(str, lost[:10]))} of {options.shards}"
        print(f"{shown} were abandoned before they finished", file=sys.stderr)


def _executor(options: StepOptions, run: str) -> Any:
    """datatrove's executor that `--executor` names, with our defaults and the user's options."""
    try:
        from datatrove import executor as executors
    except ImportError as error:
        raise UserError(f"--executor needs datatrove: pip install -r requirements.txt ({error})") from None

    name, kind = Path(sys.argv[0]).stem, str(options.executor)
    if kind == "ray" and importlib.util.find_spec("ray") is None:
        raise UserError("--executor ray needs ray: pip install ray, or choose local for the CPUs of this machine")
    defaults: dict[str, dict[str, Any]] = {
        "local": {},
        "slurm": {"job_name": name, "env_command": f"export PATH={os.path.dirname(sys.executable)}:$PATH"},
        "ray": {"mem_per_cpu_gb": 1},
        "jobs": {"job_name": name, "token": options.hf_token, "dependencies": _requirements()},
    }
    settings: dict[str, Any] = (
        defaults[kind] | {"logging_dir": _logging_folder(options, run)} | _parse(options.executor_options)
    )
    if options.hf_token:
        os.environ["HF_TOKEN"] = options.hf_token  # for the shards here and under Slurm; never in a command or a pickle
    if key := getattr(options, "api_key", None) or os.environ.get(API_KEY_VARIABLE):
        os.environ[API_KEY_VARIABLE] = key
        if kind == "jobs":
            settings["secrets"] = {API_KEY_VARIABLE: key, **settings.get("secrets", {})}
    try:
        return getattr(executors, f"{kind.capitalize()}PipelineExecutor")(
            pipeline=[_by_value(_shard_task(_project(), _arguments(options), local=kind == "local"))],
            tasks=options.shards,
            workers=options.workers or options.shards,
            **settings,
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"the executor {kind} rejects --executor-options: {error}") from None


def _shard_task(project: bytes, arguments: list[str], local: bool) -> Any:
    """datatrove's task: unpack the project and run the command for one shard. It uses nothing of this module.

    After SIGKILL of this process, its `local` pool would go on, as its parent is a fork server: the tasks end it.
    """
    folder, launcher = os.getcwd(), os.getpid() if local else None

    def task(data: Any, rank: int, world_size: int) -> None:
        import ctypes
        import io
        import os
        import signal
        import subprocess
        import sys
        import tempfile
        import time
        import zipfile

        def die_with_parent() -> None:
            if sys.platform == "linux":  # PR_SET_PDEATHSIG: a pool that is ended takes its shards with it
                ctypes.CDLL(None).prctl(1, signal.SIGTERM)

        def launcher_is_gone() -> bool:
            if launcher is None or sys.platform != "linux":
                return False
            try:
                with open(f"/proc/{launcher}/stat") as file:
                    return file.read().rpartition(")")[2].split()[0] == "Z"  # nobody has waited for it yet
            except OSError:
                return True

        def end_pool() -> None:
            server = os.getppid()
            with open(f"/proc/{server}/cmdline") as command, open(f"/proc/{server}/task/{server}/children") as children:
                if "forkserver" in command.read():
                    others = {int(pid) for pid in children.read().split()} - {os.getpid()}
                    for pid in (server, *others, os.getpid()):
                        os.kill(pid, signal.SIGTERM)

        with tempfile.TemporaryDirectory() as unpacked:
            zipfile.ZipFile(io.BytesIO(project)).extractall(unpacked)
            program = arguments if arguments[0] == "-m" else [os.path.join(unpacked, arguments[0]), *arguments[1:]]
            command = [sys.executable, *program, "--shard", f"{rank}/{world_size}"]
            environment = {**os.environ, "PYTHONPATH": unpacked}  # where -m finds the project
            here = folder if os.path.isdir(folder) else None
            parent, orphaned = os.getppid(), False
            shard = subprocess.Popen(command, cwd=here, env=environment, preexec_fn=die_with_parent)
            while shard.poll() is None:
                time.sleep(0.2)
                if not orphaned and (os.getppid() != parent or launcher_is_gone()):  # killed; what is done is written
                    shard.terminate()
                    orphaned = True
        if shard.returncode:
            print(f"shard {rank}/{world_size} ended with status {shard.returncode}", file=sys.stderr)
        if orphaned and launcher_is_gone():
            end_pool()

    return task


def _by_value(function: Any) -> Any:
    """`function` as one of `__main__`: dill and cloudpickle then send its code along, which workers do not have."""
    home = {"__name__": "__main__", "__builtins__": builtins}
    return types.FunctionType(function.__code__, home, function.__name__, closure=function.__closure__)


def _project() -> bytes:
    """The scripts and what they import, as a zip archive: a shard that starts hours later must run the same code."""
    archive = io.BytesIO()
    script = Path(sys.argv[0]).resolve()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as files:
        shipped = {path.relative_to(ROOT): path for pattern in SHIPPED for path in ROOT.glob(pattern)}
        for name, path in (shipped | {Path(script.name): script}).items():
            if path.is_file() and "__pycache__" not in name.parts:
                files.write(path, name)
    return archive.getvalue()


def _arguments(options: StepOptions) -> list[str]:
    """The script and the arguments of this process, without the token, the key, and the executor's options, which may
    hold secrets. They are written into files: UserError if a URL among them holds a password."""
    arguments, left_out = program_of(Path(sys.argv[0])), 0.0
    for word in sys.argv[1:]:
        name, equals, _ = word.replace("_", "-").partition("=")
        if name in ("--hf-token", "--api-key"):
            left_out = 0 if equals else 1
        elif name == "--executor-options":
            left_out = 0 if equals else math.inf
        elif left_out and not (left_out > 1 and word.startswith("--")):
            left_out -= 1
        elif without_secrets(word) != word:
            raise UserError(
                f"--executor writes its command to files, and {word} contains a password or a key: pass it with "
                "--api-key, or put it into fsspec's configuration"
            )
        else:
            left_out = 0
            arguments.append(word)
    return arguments


def _logging_folder(options: StepOptions, run: str) -> str:
    """Where datatrove keeps logs and markers. Its name has the run and the number of shards, which the markers lack."""
    name = f"{run}-of-{options.shards}"
    if not is_hub_id(options.output):
        # An absolute path: Ray's workers are in a folder of their own.
        here = options.output if "://" in options.output else os.path.abspath(os.path.expanduser(options.output))
        return f"{here.rstrip('/')}/.shards/{name}"
    if options.executor == "jobs":  # jobs share no other place
        return f"hf://buckets/{hub_name(options.output)}-shards/{name}"
    from huggingface_hub import constants

    return f"{constants.HF_HOME}/selfalign/{hub_name(options.output).replace('/', '--')}/.shards/{name}"


def _mark_completed(logs: Any, open_shards: Sequence[bool]) -> None:
    """Make datatrove's completion markers say what the output says."""
    for folder in ("completions", "stats"):
        logs.makedirs(folder, exist_ok=True)
    there = set(logs.list_files("completions"))
    for number, is_open in enumerate(open_shards):
        mark = f"completions/{number:05d}"
        if is_open and mark in there:
            logs.rm(mark)
        elif not is_open and mark not in there:
            logs.write_text(f"stats/{number:05d}.json", "[]")  # Ray and Jobs want to add up the statistics of all
            logs.open(mark, "w").close()


def _launch_by_slurm(executor: Any, options: StepOptions) -> None:
    """Hand an array job to Slurm, unless the one of an earlier call is still there, and end."""
    if not shutil.which("sbatch"):
        raise UserError(
            "--executor slurm needs sbatch, which is not on this machine: run this on a login node of a Slurm cluster"
        )
    job_file = "slurm_job_id"
    if executor.logging_dir.isfile(job_file):
        job = executor.logging_dir.read_text(job_file)
        queued = subprocess.run(["squeue", "--noheader", "--jobs", job], capture_output=True, text=True)
        if queued.returncode == 0 and queued.stdout.strip():
            raise UserError(f"Slurm job {job} is still working on this: wait for it, or cancel it with `scancel {job}`")
    executor.run()
    executor.logging_dir.write_text(job_file, str(executor.job_id))
    print(
        f"Slurm job {executor.job_id} has {options.shards} shards; its logs are in {executor.slurm_logs_folder}. "
        "When it has ended, run the same command again: it reports what is still open and completes the card."
    )
    raise SystemExit(0)


def _requirements() -> list[str]:
    lines = (line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines())
    return [line for line in lines if line and not line.startswith(NOT_ON_JOBS)]


def _parse(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Pairs name=value; a value that is JSON is parsed, any other is a string (time=20:00:00)."""
    parsed = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"--executor-options {pair} does not have the form name=value")
        try:
            parsed[name] = json.loads(value)
        except ValueError:
            parsed[name] = value
    return parsed
