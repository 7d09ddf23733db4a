"""A recipe from its first to its last step, and once more after a kill in the middle.

Everything is real but what needs a GPU: vLLM is tests/fakes/vllm.py, and the model that is trained is a tiny one, under
the name of the paper's in the Hub's cache.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.benchmarks import (
    test_canitedit,
    test_classeval,
    test_ds1000,
    test_livecodebench,
    test_livecodebench_scenarios,
    test_mbpp,
)
from tests.benchmarks.rows import DOUBLE, SQUARES
from tests.fakes.vllm import TASKS
from tests.helpers import ROOT, read_rows, run_json, write_rows

NEEDED = ("*.py", "code_eval", "experiments", "prompts", "runs", "selfalign", "server")
VLLM = f'#!/usr/bin/env bash\nPYTHONPATH={ROOT} exec {sys.executable} -m tests.fakes.vllm "$@"\n'
EVOEVAL = {"task_id": "EvoEval/1", "prompt": 'def f(a):\n    """Doc."""\n', "entry_point": "f"}
EVOEVAL |= {"canonical_solution": "    return a\n", "inputs": ["1"]}
PROBLEMS = {
    "mbpp": [test_mbpp.TREE | {"task_id": 11}],
    "humanevalplus": [DOUBLE],
    "mbppplus": [SQUARES],
    "evoeval": [EVOEVAL],
    "livecodebench": [test_livecodebench.STDIN],
    "livecodebench-execution": test_livecodebench_scenarios.CALLS[:1],
    "livecodebench-test-output": test_livecodebench_scenarios.TESTS[:1],
    "classeval": [test_classeval.ROW],
    "ds1000": test_ds1000.ROWS[:1],
    "canitedit": test_canitedit.ROWS[:1],
    "gsm8k": [{"question": "How many apples do Anna and Ben have together?", "answer": "4"}],
}


@pytest.fixture
def project(tmp_path, tiny_model):
    """A copy of the project with a tiny model as CodeQwen1.5-7B, and vLLM's stand-in on a free port."""
    folder = tmp_path / "project"
    folder.mkdir()
    for path in (path for pattern in NEEDED for path in ROOT.glob(pattern)):
        if path.is_dir():
            shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("out", "__pycache__"))
        else:
            shutil.copy(path, folder)
    (folder / "runs" / "setup.sh").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as free:
        recipe = folder / "experiments" / "recipe.sh"
        recipe.write_text(recipe.read_text().replace("8100", str(free.getsockname()[1])))
    (folder / "bin").mkdir()
    for name, text in {"vllm": VLLM, "nvidia-smi": "#!/bin/sh\necho GPU 0\n"}.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    cached = folder / "home" / "hub" / "models--Qwen--CodeQwen1.5-7B"
    shutil.copytree(tiny_model, cached / "snapshots" / "abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    content = "def {name}(values):\n    return list(values)"
    write_rows(folder / "seeds.jsonl", [{"id": name, "content": content.format(name=name)} for name in TASKS])
    for name, rows in PROBLEMS.items():
        write_rows(folder / f"{name}.jsonl", rows)
    return folder


def start(project, recipe, *arguments):
    """Start a recipe in a process group of its own."""
    paths = f"{project / 'bin'}:{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": paths, "HF_HOME": str(project / "home"), "HF_HUB_OFFLINE": "1"}
    words = ["bash", f"experiments/{recipe}.sh", *arguments, "--seeds", "./seeds.jsonl"]
    for name in PROBLEMS:
        words += ["--benchmark-data", f"{name}=./{name}.jsonl"]
    with (project / "log").open("a") as log:
        return subprocess.Popen(
            words,
            cwd=project,
            env=environment,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )


def wait_for(path, process, seconds):
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None and time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_recipe_goes_on_after_a_kill_and_ends_with_its_table(project):
    out = project / "runs" / "out"
    data = out / "data" / "codeqwen1.5-7b-37k"
    first = start(project, "table9", "passes")
    wait_for(data / "executions" / "run.json", first, 600)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    written = {path: path.stat().st_mtime_ns for path in (data / "responses").rglob("*.parquet")}
    assert written

    second = start(project, "table9", "passes")
    try:
        status = second.wait(timeout=1500)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(second.pid, signal.SIGKILL)
    log = (project / "log").read_text()
    assert status == 0, log[-3000:]
    assert all(path.stat().st_mtime_ns == then for path, then in written.items()), "responses were sampled again"
    folder = out / "table9" / "passes"
    assert run_json(folder / "instructions")["rows_out"] == len(TASKS)
    assert run_json(folder / "model")["complete"]
    assert json.loads((folder / "humanevalplus" / "results.json").read_text())["scores"]["pass@1"] == 1
    (row,) = read_rows(folder / "humanevalplus")
    assert row["prompt"].startswith("You are an exceptionally intelligent") and row["prompt"].endswith("```python")
    assert "## Table 9" in log and "100.0" in log
