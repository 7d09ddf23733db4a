"""select.py: which samples become examples; and that its name does not hide the standard library's module."""

import subprocess
import sys

import pytest
from helpers import ROOT, load_script, read_rows, run, run_well, write_rows

SAMPLES = [
    {
        "id": f"{task}-{number}",
        "task_id": task,
        "instruction": f"Do {task}.",
        "response": f"Done {number}.",
        "passed": passed,
    }
    for task, verdicts in {"a": [True, False, True], "b": [False, False], "c": [True], "d": [False]}.items()
    for number, passed in enumerate(verdicts)
]


def chosen(strategy, samples=SAMPLES, seed=0):
    return {samples[i]["id"] for i in load_script("select").choose(samples, strategy, seed)}


def test_only_passing_samples_are_chosen():
    assert {id for id in chosen("passes")} <= {"a-0", "a-2", "c-0"}


@pytest.mark.parametrize(("strategy", "tasks"), [("passes", 2), ("random", 4), ("random-subset", 2), ("failures", 2)])
def test_each_task_gives_one_sample_and_subsets_are_as_many_as_passes(strategy, tasks):
    assert len({id[0] for id in chosen(strategy)}) == len(chosen(strategy)) == tasks


def test_failures_did_not_pass():
    assert chosen("failures") <= {sample["id"] for sample in SAMPLES if not sample["passed"]}


def test_the_order_of_the_rows_does_not_matter():
    assert chosen("random") == chosen("random", SAMPLES[::-1])


def test_the_seed_matters():
    assert len({tuple(sorted(chosen("random", seed=seed))) for seed in range(20)}) > 1


def test_every_passing_sample_can_be_drawn():
    assert {id for seed in range(50) for id in chosen("passes", seed=seed)} == {"a-0", "a-2", "c-0"}


def test_as_a_command(tmp_path):
    executions = write_rows(tmp_path / "executions.jsonl", SAMPLES)
    run_well("select", executions, tmp_path / "out")
    rows = read_rows(tmp_path / "out")
    assert {row["task_id"] for row in rows} == {"a", "c"}
    assert all(
        row["messages"]
        == [{"role": "user", "content": row["instruction"]}, {"role": "assistant", "content": row["response"]}]
        for row in rows
    )


def test_nothing_to_choose_is_said(tmp_path):
    executions = write_rows(tmp_path / "executions.jsonl", [s for s in SAMPLES if not s["passed"]])
    result = run("select", executions, tmp_path / "out")
    assert result.returncode == 2 and "no sample that --strategy passes could choose" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "code",
    [
        "import subprocess, asyncio, selectors",
        "import select; select.poll",
        "import select, sys; assert sys.modules['select'] is select and 'choose' not in dir(select)",
        "import multiprocessing as m; p = m.get_context('spawn').Process(target=print); p.start(); p.join(); "
        "assert p.exitcode == 0",
    ],
)
def test_the_standard_library_keeps_its_select_in_the_projects_root(code):
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
