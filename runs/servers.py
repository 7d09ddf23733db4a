"""The server that a run of the whole chain asks: given, vLLM on this machine's GPUs, or serve.py."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfalign.errors import UserError
from selfalign.models import resolve_model
from selfalign.options import ROOT
from selfalign.processes import die_with_parent

if TYPE_CHECKING:
    from runs.settings import ModelOptions

LOADING_SECONDS = 1800  # for the weights of a large model to be downloaded and loaded
LOG_LINES = 3  # of a server that did not start


@dataclass(frozen=True)
class Server:
    """Where the model answers: the servers of one model, and their interface."""

    urls: tuple[str, ...]
    api: str = "tgi"

    @property
    def words(self) -> tuple[str, ...]:
        """The options of a step that asks it."""
        return (*("--api", self.api) * (self.api != "tgi"), *(w for url in self.urls for w in ("--endpoint", url)))


NO_SERVER = Server(("none",))


def gpus_here() -> list[str]:
    """The GPUs that this run may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:  # -1 or an empty name hides all from there on
        return list(takewhile(lambda device: device not in ("", "-1"), map(str.strip, visible.split(","))))
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    return [str(number) for number in range(sum(line.startswith("GPU ") for line in listed.splitlines()))]


def gpu_count() -> int:
    """How many GPUs this run may use."""
    return len(gpus_here())


def uses_serve_py(gpus: int) -> bool:
    """Whether serve.py serves the model here, and not vLLM."""
    return not gpus or not shutil.which("vllm")


def settings_for(options: ModelOptions, gpus: int) -> Any:
    """The settings that are meant by `auto`, or those that are given."""
    if options.settings != "auto":
        return options.settings
    return "small" if not options.endpoint and uses_serve_py(gpus) else "paper"


def launcher(gpus: int, training: Sequence[str] = ()) -> tuple[str, ...]:
    """What comes before finetune.py with the options `training`, so that it trains on all GPUs, or on as many of them
    as the examples of an optimizer step can be divided among; nothing where there is one GPU at most."""
    if gpus < 2:
        return ()
    words = dict(pairwise(training))
    batches = int(words.get("--batch-size", 64)) // int(words.get("--device-batch-size", 1))
    used = max(number for number in range(1, gpus + 1) if batches % number == 0)
    config = "experiments/accelerate/ddp.yaml"
    return ("-m", "accelerate.commands.launch", "--config_file", config, "--num_processes", str(used))


@contextlib.contextmanager
def serving(
    model: str,
    given: Sequence[str],
    api: str,
    gpus: int,
    folder: Path,
    environment: dict[str, str],
    *,
    quantize: str | None = None,
) -> Iterator[Server]:
    """The `given` servers, or one that runs as long as it is needed; UserError if it does not start.

    vLLM runs once on each GPU: a model that needs several is served by hand, and named with --endpoint. serve.py is
    what can `quantize` the model.
    """
    if given:
        yield Server(tuple(given), api)
        return
    processes: list[Any] = []
    try:
        if uses_serve_py(gpus):
            if gpus:
                print("serve.py runs on one GPU; with vLLM (pip install vllm), all are used, and faster")
            yield Server((_start_serve_py(model, folder, environment, processes, quantize),))
        elif quantize:
            raise UserError(f"--quantize {quantize} is for serve.py, and here vLLM serves the model")
        else:
            yield Server(_start_vllm(resolve_model(model), gpus_here(), folder, environment, processes), "completions")
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


def _start(words: Sequence[str], log: Path, processes: list[Any], **more: Any) -> subprocess.Popen:
    with log.open("wb") as stream:
        process = subprocess.Popen(
            words, cwd=ROOT, stderr=stream, stdin=subprocess.DEVNULL, start_new_session=True,
            preexec_fn=die_with_parent, **more,
        )  # fmt: skip
    processes.append(process)
    return process


def _start_serve_py(
    model: str, folder: Path, environment: dict[str, str], processes: list[Any], quantize: str | None
) -> str:
    resolve_model(model)  # here, so that the bar of a conversion is seen
    words = [sys.executable, "serve.py", "--port", "0", "--model", model]
    words += ["--quantize", quantize] if quantize else []
    process = _start(words, folder / "serve.log", processes, stdout=subprocess.PIPE, env=environment)
    line = process.stdout.readline().decode() if process.stdout else ""
    if "http://" not in line:
        raise UserError(f"serve.py has ended: {_end_of(folder / 'serve.log')}")
    return line[line.index("http://") :].strip()


def _start_vllm(
    model: str, devices: Sequence[str], folder: Path, environment: dict[str, str], processes: list[Any]
) -> tuple[str, ...]:
    urls = []
    for device in devices:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = ["bash", "experiments/serving/vllm.sh", model, str(port)]
        own = environment | {"CUDA_VISIBLE_DEVICES": device}
        _start(words, folder / f"vllm-{device}.log", processes, stdout=subprocess.DEVNULL, env=own)
        urls.append(f"http://127.0.0.1:{port}")
    deadline = time.monotonic() + LOADING_SECONDS
    while not _is_healthy(urls[0]):  # the others are used as soon as they answer
        if processes[0].poll() is not None or time.monotonic() > deadline:
            raise UserError(f"vLLM has not started: {_end_of(folder / f'vllm-{devices[0]}.log')}")
        time.sleep(2)
    return tuple(urls)


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def _end_of(log: Path) -> str:
    """The last lines of a log, as one."""
    return " ".join(log.read_text(errors="replace").split("\n")[-LOG_LINES - 1 :]).strip() or f"see {log}"
