"""SIGKILL at random moments: each step, run again with the same command, ends with the rows of an undisturbed run.

The scripts run as they are, but for parts of a few rows, a pause in each row, and a note of each row that is begun.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
import pytest

from selfalign.runner.source import part_prefix
from tests.helpers import ROOT, read_rows, run_json, write_rows
from tests.scripts.test_execute import sample
from tests.scripts.test_generating import small

PART_ROWS, WINDOW, ROW_SECONDS = 5, 4, 0.02
WRAPPER = f"""
import asyncio, dataclasses, inspect, runpy, sys
script, log = sys.argv[1:3]
sys.argv = [script, *sys.argv[3:]]
from selfalign.runner import step, writer
writer.PART_ROWS = {PART_ROWS}
real = step.run_step

def noting(function):
    async def noted(row):
        with open(log, "a") as begun:
            print(row["id"] if "id" in row else row["path"], file=begun)
        await asyncio.sleep({ROW_SECONDS})
        result = function(row)
        return await result if inspect.isawaitable(result) else result
    return noted

def run_step(options, table, **more):
    if "endpoint" not in more:
        more["window"] = {WINDOW}
    noted = lambda table: dataclasses.replace(table, row_function=noting(table.row_function))
    tables = {{name: noted(further) for name, further in more.pop("tables", {{}}).items()}}
    return real(options, noted(table), tables=tables, **more)

step.run_step = run_step
runpy.run_path(script, run_name="__main__")
"""


def begin(name, arguments, log):
    command = [sys.executable, "-c", WRAPPER, str(ROOT / f"{name}.py"), str(log), *map(str, arguments)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=-1, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def kill(process):
    """The process and all that it started, at once; it may have ended meanwhile."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def seed(i):
    return {"id": f"s{i:02d}", "content": f'def f{i}(x):\n    """Add {i}."""\n    return x + {i}'}


ROWS = {
    "collect_seeds": [{"content": f"{seed(i)['content']}\n", "path": f"{i}.py"} for i in range(40)],
    "generate_concepts": [seed(i) for i in range(40)],
    "generate_tasks": [{"id": f"c{i:02d}", "concepts": ["lists", f"item {i}"], "error": None} for i in range(40)],
    "sample_responses": [{"id": f"t{i:02d}", "instruction": f"Add {i}.", "error": None} for i in range(20)],
    "execute": [sample(f"e{i:02d}", f"def f(x):\n    return x + {i % 2}") for i in range(40)],
    "select": [
        sample(
            f"x{i:02d}",
            f"def f{i // 3}(x):\n    return x + {i}" if i % 3 < 2 else "def f(:",
            f"assert f{i // 3}(0) == {i}",
        )
        | {"task_id": f"t{i // 3}", "instruction": f"Add number {i // 3}.", "passed": i % 3 != 1}
        for i in range(90)
    ],
    "benchmark": [
        {
            "task_id": f"HumanEval/{i}",
            "prompt": f'def f{i}(x):\n    """Add {i}."""\n',
            "entry_point": f"f{i}",
            "canonical_solution": f"    return x + {i}\n",
            "test": f"def check(f):\n    assert f(1) == {i + 1}\n",
        }
        for i in range(40)
    ],
}
GENERATING = ("generate_concepts", "generate_tasks", "sample_responses")
KINDS = dict.fromkeys(GENERATING, lambda endpoint, _: (*small(endpoint), "--concurrency", WINDOW))
KINDS["collect_seeds"] = lambda *_: ("--type-checker", "pyrefly")  # it starts in no time
KINDS["benchmark"] = lambda _, source: ("--data", source, "--max-new-tokens", 8, "--concurrency", WINDOW)


def rows_of(folder):
    """What a deterministic step gives, by table; how long a program took is not part of it."""

    def rows(table):
        read = (pq.read_table(part).to_pylist() for part in folder.glob(f"{part_prefix(table)}*"))
        plain = [{name: value for name, value in row.items() if name != "seconds"} for rows in read for row in rows]
        return sorted(plain, key=lambda row: row["id"])

    return {table: rows(table) for table in ("default", *run_json(folder).get("tables", ()))}


def kill_again_and_again(name, kills, folder, endpoint):
    source = write_rows(folder / "in.jsonl", ROWS[name])
    more = KINDS[name](endpoint, source) if name in KINDS else ()
    first = endpoint if name == "benchmark" else source
    undisturbed = begin(name, (first, folder / "undisturbed", *more), folder / "log")
    while not (folder / "log").exists() and undisturbed.poll() is None:
        time.sleep(0.01)
    started = time.monotonic()
    said = undisturbed.communicate(timeout=200)[0]
    assert undisturbed.returncode == 0, said
    seconds = time.monotonic() - started  # from the first row on; what comes before writes nothing

    draws, out, begun = random.Random(name), folder / "out", []
    for number in range(kills):
        log = folder / f"log{number}"
        process = begin(name, (first, out, *more), log)
        while not log.exists() and process.poll() is None:
            time.sleep(0.002)
        time.sleep(draws.uniform(0, min(seconds, 4 * seconds / kills)))
        kill(process)
        begun += log.read_text().split() if log.exists() else []
        assert not list(out.glob("data/train-*")) or read_rows(out), "what was written can be read at any time"
    last = begin(name, (first, out, *more), folder / "last")
    said = last.communicate(timeout=200)[0]
    assert last.returncode == 0, said
    begun += (folder / "last").read_text().split() if (folder / "last").exists() else []

    assert rows_of(out) == rows_of(folder / "undisturbed")
    assert run_json(out)["complete"]
    once = len((folder / "log").read_text().split())
    again = len(begun) - once
    allowed = kills * (PART_ROWS + WINDOW + 1)
    print(f"{name}: {kills} kills, {once} rows, {again} begun again, at most {allowed} allowed")
    assert again <= allowed


@pytest.mark.parametrize("name", ["sample_responses", "execute"])
def test_killed_three_times(name, tmp_path, endpoint):
    kill_again_and_again(name, 3, tmp_path, endpoint)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ROWS)
def test_killed_twenty_times(name, tmp_path, endpoint):
    kill_again_and_again(name, 20, tmp_path, endpoint)
