"""Running the steps of a run one after the other, as processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfalign.options import ROOT
from selfalign.processes import die_with_parent


@dataclass(frozen=True)
class Step:
    """One call of a script."""

    title: str
    words: tuple[str, ...]
    asks: bool = False  # whether it needs the server
    makes: str | None = None  # the dataset, if it is one of those that the run can end after


def run_step(step: Step, environment: dict[str, str]) -> None:
    """Run one script, which ends with this process; SystemExit with its status if that is not 0."""
    process = subprocess.Popen([sys.executable, *step.words], cwd=ROOT, env=environment, preexec_fn=die_with_parent)
    try:
        status = process.wait()
    except BaseException:  # Ctrl-C goes to both; SIGTERM only to this process
        process.terminate()
        process.wait()
        raise
    if status:
        print(f"\nStopped at: {step.title}. The same command goes on from there.", file=sys.stderr)
        raise SystemExit(status if status > 0 else 128 - status)


def ended_by_signal(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def say(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def begin(offline: bool) -> dict[str, str]:
    """Make this process ready for a run; the environment of its steps."""
    signal.signal(signal.SIGTERM, ended_by_signal)
    os.chdir(ROOT)
    environment = os.environ | {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    if offline:  # otherwise the libraries would wait for an answer from the Hub
        environment["HF_HUB_OFFLINE"] = os.environ["HF_HUB_OFFLINE"] = "1"
    return environment


def is_complete(folder: Path) -> bool:
    """Whether the run.json in `folder` says that its step has nothing left to do.

    A training that was killed while it removed its checkpoints has that left to do.
    """
    try:
        done = bool(json.loads((folder / "run.json").read_text()).get("complete"))
        return done and not any(folder.glob("checkpoint-*"))
    except FileNotFoundError:
        return False


def write_state(folder: Path, name: str, state: Any) -> None:
    """Write down which run the folder holds, in a file that is never half written."""
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / f".{name}.new"
    new.write_text(json.dumps(state, indent=2))
    os.replace(new, folder / name)
