"""runs/rounds.sh and runs/small.sh, killed at many moments, end with what an undisturbed run gives.

A moment lies within a step (so many seconds into its work), in the middle of writing a file, or right after a file was
written, before the next step begins. Everything is real but the answers of the model: see tests/experiments/walking.py.
"""

import json
import signal

import pytest

from tests.experiments.walking import Project
from tests.fakes.hub import LocalHub
from tests.helpers import read_rows, run_json

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
SECONDS = 1500  # at most, for each start of a run, if others use the machine
# Loaded by every Python of a run. A run.json counts once it says that its step is complete.
DYING = """
import fnmatch, os, signal

how, _, pattern = os.environ.get("DIE", "").partition(" ")
replace = os.replace

def dying(source, target, **more):
    here = pattern and fnmatch.fnmatch(os.path.abspath(target), pattern)
    if here and pattern.endswith("/run.json"):
        here = '"complete": true' in open(source).read()
    if here and how == "half":
        os.truncate(source, os.path.getsize(source) // 2)
    else:
        replace(source, target, **more)
    if here:
        os.killpg(0, signal.SIGKILL)

os.replace = dying
"""


class Runs(Project):
    """The copy of the project, whose runs/ can be killed while they write a file that matches a pattern."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.die = ""
        (self.folder / "bin" / "nvidia-smi").write_text("#!/bin/sh\necho GPU 0: none\n")  # so that vLLM serves
        (self.folder / "dying").mkdir()
        (self.folder / "dying" / "sitecustomize.py").write_text(DYING)

    def words_of(self, recipe, *arguments):
        return ["bash", f"runs/{recipe}.sh", *arguments]

    def environment(self):
        return super().environment() | {"PYTHONPATH": str(self.folder / "dying"), "DIE": self.die}

    def complete(self):
        """When each file was written of what is finished in the run that is killed."""
        done = [path.parent for path in self.out.glob("killed/**/run.json") if '"complete": true' in path.read_text()]
        names = ("data/*.parquet", "results.json", "model.safetensors")
        return {path: path.stat().st_mtime_ns for folder in done for name in names for path in folder.glob(name)}

    def kill_at(self, how, where, recipe, *arguments):
        """Run it until half of a file lies there under another name, or all of it in its place ("half", "whole").

        Not if a step's run.json says that it is complete: on a quick machine, the kill before may have come too late.
        """
        runs = [path for path in self.out.glob(f"killed/{where}") if path.name == "run.json"]
        if runs and all('"complete": true' in path.read_text() for path in runs):
            return self.complete()
        self.die = f"{how} {self.out}/killed/{where}"
        status, said = self.run(recipe, *arguments, seconds=SECONDS)
        self.die = ""
        assert status == -signal.SIGKILL, f"{how} {where} never came: {said[-3000:]}"
        return self.complete()


@pytest.fixture
def project(tmp_path, tiny_model):
    with LocalHub() as hub:
        yield Runs(tmp_path / "project", hub, tiny_model)


def walk(project, recipe, moments, *arguments):
    """Kill a run at each moment, let it end, and compare what it leaves to an undisturbed one; what both have said."""
    status, said = project.run(recipe, *arguments, "--out", "./runs/out/undisturbed", seconds=SECONDS)
    assert status == 0, project.end_of_log()
    words, written = (recipe, *arguments, "--out", "./runs/out/killed"), {}
    for moment, where in moments:
        if moment in ("half", "whole"):
            written |= project.kill_at(moment, where, *words)
        else:
            written |= project.kill_within(moment, *words, after=where, seconds=SECONDS)
    status, said_at_last = project.run(*words, seconds=SECONDS)
    assert status == 0, project.end_of_log()
    assert all(path.stat().st_mtime_ns == then for path, then in written.items()), "work was done again"
    undisturbed, killed = outputs_of(project.out / "undisturbed"), outputs_of(project.out / "killed")
    assert undisturbed.keys() == killed.keys()
    for name, output in undisturbed.items():
        assert killed[name] == output, name
    return said, said_at_last


def outputs_of(folder):
    """Rows of datasets, scores, and bytes of models, by their path in the folder. What was timed is no part of them."""
    found = {}
    for there in (path.parent for path in folder.rglob("run.json")):
        name = str(there.relative_to(folder))
        assert run_json(there)["complete"], name
        if (there / "model.safetensors").exists():
            assert not list(there.glob("checkpoint-*"))
            found[name] = (there / "model.safetensors").read_bytes()
            continue
        found[name] = [{column: row[column] for column in row if column != "seconds"} for row in read_rows(there)]
        if (there / "results.json").exists():
            results = json.loads((there / "results.json").read_text())
            found[f"{name}: scores"] = [results["scores"], results["intervals"], results["by_problem"]]
    return found


ROUNDS = [
    ("half", "rounds.json"),
    ("generate_concepts.py", 4),  # in the middle of its answers, which take half a second each
    ("half", "concepts/run.json"),
    ("whole", "before/humaneval/data/*.parquet"),  # all is answered, nothing is counted
    ("whole", "round-1/concepts/run.json"),
    ("sample_responses.py", 0.4),
    ("half", "round-1/executions/data/*.parquet"),
    ("whole", "round-1/executions/run.json"),  # before the brake is asked
    ("finetune.py", 0.2),
    ("half", "round-1/model/run.json"),  # all of the model is there
    ("whole", "round-1/humaneval/results.json"),
    ("half", "round-2/concepts/data/*.parquet"),
    ("generate_tasks.py", 4),
    ("half", "round-2/instructions/run.json"),
    ("whole", "round-2/model/run.json"),
]


def test_rounds(project):
    words = ("--rounds", "2", "--seeds", "./seeds.jsonl", "--draw", "4", "--settings", "small")
    words += ("--max-repeats", "1", "--benchmark-data", "./humaneval.jsonl")  # all tasks are the stand-in's six
    texts = walk(project, "rounds", ROUNDS, str(project.tiny_model), *words)
    first, second = (text.partition("After round 2")[2].partition("The model of")[0] for text in texts)
    assert "| pass@1 |" in first and first == second


SMALL = [
    ("half", "small.json"),
    ("whole", "measured/humaneval/data/*.parquet"),
    ("half", "data/self_align.json"),
    ("generate_tasks.py", 4),
    ("whole", "data/responses/run.json"),  # complete, and not yet noted
    ("half", "data/executions/run.json"),
    ("whole", "random/selected/run.json"),
    ("half", "random/instructions/run.json"),  # the size of the arms is noted
    ("half", "base/humaneval/results.json"),
    ("finetune.py", 0.2),
    ("whole", "random/seed-0/model/run.json"),
    ("whole", "passes/seed-0/humaneval/data/*.parquet"),
]


def test_small(project):
    words = ("--settings", "small", "--seeds", "./seeds.jsonl", "--arms", "random", "passes", "--training-seeds", "1")
    words += ("--benchmarks", "humaneval", "--benchmark-data", "humaneval=./humaneval.jsonl")
    texts = walk(project, "small", SMALL, str(project.tiny_model), *words)
    first, second = (text.partition("\nResults")[2] for text in texts)
    assert "passes" in first and first.replace("undisturbed", "killed") == second
