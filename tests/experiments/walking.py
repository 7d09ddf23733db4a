"""A copy of the project in which recipes run from their first to their last step, and are killed on the way.

Everything is real but what needs a GPU or the network: vLLM is tests/fakes/vllm.py, accelerate launches on the CPU, the
Hub is tests/fakes/hub.py, and each of the paper's models is a tiny one of the same name there. Environments of
benchmarks are this one, under another name. Sizes that a recipe states are made small by `edit`.
"""

import asyncio
import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from aiohttp import web

from selfalign.benchmarks.harness.environment import DONE, hash_of, requirements_of
from tests.benchmarks import (
    test_canitedit,
    test_classeval,
    test_ds1000,
    test_livecodebench,
    test_livecodebench_scenarios,
    test_mbpp,
)
from tests.benchmarks.rows import DOUBLE, SQUARES
from tests.fakes.hub import LocalHub
from tests.fakes.server import simulated
from tests.fakes.vllm import TASKS
from tests.helpers import ROOT, write_rows

NEEDED = ("*.py", "code_eval", "experiments", "prompts", "runs", "selfalign", "server")
VLLM = f'#!/usr/bin/env bash\nPYTHONPATH={ROOT} exec {sys.executable} -m tests.fakes.vllm "$@"\n'
# Two processes on the CPU: the configuration, `launch --config_file FILE`, is for GPUs.
ACCELERATE = (
    f'#!/usr/bin/env bash\nshift 3\nexec {sys.executable} -m accelerate.commands.launch --cpu --num_machines 1 "$@"\n'
)
SAME = {"task_id": "EvoEval/1", "prompt": 'def same(a):\n    """Doc."""\n', "entry_point": "same"}
SAME |= {"canonical_solution": "    return a\n", "inputs": ["1"]}
HUMANEVAL = {name: DOUBLE[name] for name in ("task_id", "prompt", "entry_point", "canonical_solution")}
HUMANEVAL |= {"test": "def check(candidate):\n    assert candidate(2) == 4\n"}
SLOW = "def double(x):\n    return sum(x for _ in range(2 + x - x)) + sum(0 for _ in range(9999))\n"
EVALPERF = {"task_id": DOUBLE["task_id"], "pe_input": "[[7]]", "scores": [50.0, 100.0]}
EVALPERF |= {"reference": [SLOW, "def double(x):\n    return 2 * x\n"]}
PROBLEMS = {
    "humaneval": [HUMANEVAL],
    "mbpp": [test_mbpp.TREE | {"task_id": 11}],
    "humanevalplus": [DOUBLE],
    "mbppplus": [SQUARES],
    "evoeval": [SAME],
    "livecodebench": [test_livecodebench.STDIN],
    "livecodebench-execution": test_livecodebench_scenarios.CALLS[:1],
    "livecodebench-test-output": test_livecodebench_scenarios.TESTS[:1],
    "classeval": [test_classeval.ROW],
    "ds1000": test_ds1000.ROWS[:1],
    "canitedit": test_canitedit.ROWS[:1],
    "gsm8k": [{"question": "How many apples do Anna and Ben have together?", "answer": "4"}],
}
SEEDS = [{"id": name, "content": f"def {name}(values): return list(values)"} for name in TASKS]
# What files and datasets on the Hub hold.
STACK = [{"content": row["content"]} for row in SEEDS]
EVOL = [{"instruction": f"Write {name}.", "output": f"```python\ndef {name}(): pass\n```"} for name in TASKS]
OSS = [{"problem": row["instruction"], "solution": row["output"], "lang": "python"} for row in EVOL]


def lines(rows: Iterable[dict]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


class Project:
    """The copy in `folder`, with `gpus` GPUs that nvidia-smi reports."""

    def __init__(self, folder: Path, hub: LocalHub, tiny_model: Path, gpus: int = 1) -> None:
        self.folder, self.hub, self.tiny_model = folder, hub, tiny_model
        self.out, self.log = folder / "runs" / "out", folder / "log"
        folder.mkdir()
        for path in (path for pattern in NEEDED for path in ROOT.glob(pattern)):
            if path.is_dir():
                shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("out", "__pycache__"))
            else:
                shutil.copy(path, folder)
        (folder / "runs" / "setup.sh").write_text("")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.edit("recipe", {"8100": str(free.getsockname()[1])})
        (folder / "bin").mkdir()
        listed = "#!/bin/sh\n" + "".join(f"echo 'GPU {number}: none'\n" for number in range(gpus))
        for name, text in {"vllm": VLLM, "accelerate": ACCELERATE, "nvidia-smi": listed}.items():
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)
        for name in ("ds1000", "canitedit", "classeval"):
            self._environment(name)
        write_rows(folder / "seeds.jsonl", SEEDS)
        self.files = {}
        for name, rows in PROBLEMS.items():
            self.files[name] = f"./{name}.jsonl"
            write_rows(folder / self.files[name], rows)
        write_rows(folder / "evalperf.jsonl", [EVALPERF])
        self.files["evalperf"] = "./evalperf.jsonl,./humanevalplus.jsonl,./mbppplus.jsonl"

    def _environment(self, name: str) -> None:
        """An environment that looks like the one of a benchmark's era and has the packages of this one."""
        folder = self.folder / ".environments" / name
        venv.create(folder)
        (packages,) = (folder / "lib").glob("python*/site-packages")
        (packages / "ours.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
        (folder / DONE).write_text(hash_of(requirements_of(name)))

    def install_pandas(self) -> None:
        """In the environment of DS-1000, whose programs need it. They see nothing outside of the environment."""
        folder = self.folder / ".environments" / "ds1000"
        for path in folder.glob("lib/python*/site-packages/ours.pth"):
            path.unlink()
        venv.create(folder, with_pip=True)
        subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "--quiet", "pandas"], check=True)

    def edit(self, recipe: str, changes: dict[str, str]) -> None:
        """Replace words in a recipe, all of which have to be there."""
        path = self.folder / "experiments" / f"{recipe}.sh"
        text = path.read_text()
        for old, new in changes.items():
            assert old in text, f"{recipe}.sh does not have {old}"
            text = text.replace(old, new)
        path.write_text(text)

    def add_models(self, *names: str, template: str | None = None) -> None:
        """Put the tiny model on the Hub under other names, with a chat template if one is given."""
        files = {path.name: path.read_bytes() for path in self.tiny_model.iterdir()}
        if template:
            files["chat_template.jinja"] = template.encode()
        for name in names:
            self.hub.add(name, files, repo_type="model")

    def add_data(self, name: str, rows: Iterable[dict], path: str = "data.jsonl") -> None:
        """Put a file of a dataset on the Hub."""
        self.hub.add(name, {path: lines(rows)})

    def pin(self, name: str, revision: str) -> None:
        """Give the last commit of a dataset the name that a recipe knows it by."""
        commits = self.hub._repos["dataset", name].commits
        commits[-1] = replace(commits[-1], oid=revision)

    def words_of(self, recipe: str, *arguments: str) -> list[str]:
        """The command of a recipe, with the data that is here."""
        words = ["bash", f"experiments/{recipe}.sh", *arguments, "--seeds", "./seeds.jsonl"]
        for name, file in self.files.items():
            words += ["--benchmark-data", f"{name}={file}"]
        return words

    def environment(self) -> dict[str, str]:
        """That of a recipe, whose processes are known by it."""
        paths = f"{self.folder / 'bin'}:{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
        return self.hub.environment(self.folder / "home") | {"PATH": paths, "WALK": str(self.folder)}

    def start(self, recipe: str, *arguments: str) -> subprocess.Popen:
        """Start a recipe in a process group of its own."""
        words = self.words_of(recipe, *arguments)
        with self.log.open("a") as log:
            log.write(f"\n=== {recipe} {' '.join(arguments)}\n")
            log.flush()
            return subprocess.Popen(
                words,
                cwd=self.folder,
                env=self.environment(),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def processes(self) -> Iterator[tuple[int, str]]:
        """The processes that a recipe of this project has started, whatever group they are in now."""
        mark = f"WALK={self.folder}".encode()
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (path / "environ").read_bytes().split(b"\0"):
                    yield int(path.name), (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")

    def complete(self) -> dict[Path, int]:
        """When each file of what is finished so far was written."""
        done = [path.parent for path in self.out.rglob("run.json") if '"complete": true' in path.read_text()]
        done = [folder for folder in done if folder.name != "model" or not list(folder.glob("checkpoint-*"))]
        return {path: path.stat().st_mtime_ns for folder in done for path in folder.glob("**/*.parquet")}

    def kill_within(self, step: str, recipe: str, *arguments: str, after: float, seconds: float) -> dict[Path, int]:
        """Run the recipe until `after` seconds into the work of the first call of `step`, and kill all of it.

        Returns what was complete then.
        """
        before = self.log.stat().st_size if self.log.exists() else 0
        process, deadline = self.start(recipe, *arguments), time.monotonic() + seconds

        def runs() -> bool:
            assert process.poll() is None and time.monotonic() < deadline, f"{step} never came: {self.end_of_log()}"
            return any(f" {step}" in command for _, command in self.processes())

        try:
            while not runs():
                time.sleep(0.1)
            if step == "sample_responses.py":
                while not list(self.out.rglob("responses")) and runs():
                    time.sleep(0.05)
            if step == "finetune.py":  # until its progress is shown
                while not re.search(rb"[\r\n]  0%\|", self.log.read_bytes()[before:]) and runs():
                    time.sleep(0.05)
            time.sleep(after)
            assert process.poll() is None, f"{recipe} had ended: {self.end_of_log()}"
        finally:
            self.kill(process)
        return self.complete()

    def kill(self, process: subprocess.Popen) -> None:
        """SIGKILL to the whole group, and to what has left it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for number, _ in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)

    def run(self, recipe: str, *arguments: str, seconds: float) -> tuple[int, str]:
        """Run a recipe to its end; its exit status and what it wrote."""
        before = self.log.stat().st_size if self.log.exists() else 0
        process = self.start(recipe, *arguments)
        try:
            status = process.wait(timeout=seconds)
        finally:
            self.kill(process)
        return status, self.log.read_bytes()[before:].decode(errors="replace")

    def end_of_log(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


# Seconds within which a step is killed, once it works or, where that can't be seen, from its start.
MOMENTS = {"sample_responses.py": (0, 0.4), "finetune.py": (0, 0.5), "collect_seeds.py": (0.3, 2)}


def moments(recipe: str, steps: Iterable[str]) -> dict[str, float]:
    """For each step, after how many seconds it is killed: another time for each recipe and step."""
    draws = random.Random(recipe)
    return {step: draws.uniform(*MOMENTS.get(step, (0.5, 3))) for step in steps}


@contextlib.contextmanager
def teacher() -> Iterator[str]:
    """The URL of a chat model that makes instructions harder, answers them, and writes problems about snippets."""

    async def hook(_: web.Request, body: dict, __: int) -> web.Response | None:
        prompt = body["messages"][-1]["content"] if "messages" in body else ""
        code = "```python\nx = 1\n```"
        if "## Solution" in prompt:
            text = f"## Problem\nWrite what {len(prompt)} does.\n\n## Solution\n{code}"
        elif "Task:\n" in prompt:
            text = prompt.rpartition("Task:\n")[2].strip() + " Faster."
        elif prompt.startswith("Write"):
            text = f"This does it.\n\n{code}"
        else:
            return None  # to a probe, another text each time
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"completion_tokens": 9, "prompt_tokens": 9, "total_tokens": 18}
        answer = {"choices": [choice], "usage": usage, "model": body["model"], "id": "1", "created": 0}
        await asyncio.sleep(0.3)  # so that a step lasts long enough to be killed in its middle
        return web.json_response(answer)

    with simulated(hook) as server:
        yield server.url
