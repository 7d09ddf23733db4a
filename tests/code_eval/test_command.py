"""`python -m code_eval` and `pip install ./code_eval`: the sandbox without the rest of the project."""

import json
import math
import os
import subprocess
import sys

import pytest

from code_eval.estimate import pass_at
from tests.code_eval.tools import ROOT

RIGHT, WRONG, TESTS = "def f(x): return x * x", "def f(x): return 4", "assert f(3) == 9"


def run(*arguments, folder, rows=None, given=None):
    if rows is not None:
        (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [sys.executable, "-m", "code_eval", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, input=given)


def test_samples_are_judged_and_counted_by_task(tmp_path):
    codes = {"a": [RIGHT, WRONG], "b": [f"So:\n```python\n{RIGHT}\n```", WRONG], "c": [WRONG, "def f(x"]}
    rows = [{"task_id": task, "code": code, "tests": TESTS} for task, samples in codes.items() for code in samples]
    done = run("samples.jsonl", "--k", 1, 2, 3, "--results", "results.jsonl", folder=tmp_path, rows=rows)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[:3] == [["failed", "3", "50.0%"], ["passed", "2", "33.3%"], ["syntax_error", "1", "16.7%"]]
    assert lines[3:] == [["pass@1", "0.3333"], ["pass@2", "0.6667"]], "there are not three samples of each task"
    written = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [(row["task_id"], row["passed"]) for row in written] == [*zip("aabbcc", (1, 0, 1, 0, 0, 0), strict=True)]
    assert all(row["tests"] == TESTS for row in written), "the samples' own columns are kept"
    again = run("samples.jsonl", "--results", "results.jsonl", folder=tmp_path)
    assert again.returncode == 2 and "nothing is overwritten" in again.stderr


def test_tests_from_another_file(tmp_path):
    (tmp_path / "tasks.jsonl").write_text(json.dumps({"task_id": 7, "test": [TESTS, "assert f(2) == 4"]}))
    done = run("samples.jsonl", "--tests", "tasks.jsonl", folder=tmp_path, rows=[{"task_id": 7, "completion": RIGHT}])
    assert "pass@1  1.0000" in done.stdout, done.stderr


def test_samples_from_a_pipe_are_written_with_their_outcomes(tmp_path):
    sample = json.dumps({"code": RIGHT, "tests": TESTS})
    done = run("/dev/stdin", "--results", "results.jsonl", folder=tmp_path, given=sample)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "results.jsonl").read_text())["passed"]


def test_code_that_waits_for_input_as_a_script_is_judged_by_its_tests(tmp_path):
    code = f"{RIGHT}\nif __name__ == '__main__':\n    print(f(int(input())))"
    done = run("samples.jsonl", folder=tmp_path, rows=[{"code": code, "tests": TESTS}])
    assert "pass@1  1.0000" in done.stdout, done.stdout + done.stderr


def test_remarks_of_strict_mode_are_counted(tmp_path):
    rows = [
        {"code": RIGHT + "\ndef same(a, b): return a == b", "tests": test} for test in (TESTS, "assert same(f(3), 9)")
    ]
    done = run("samples.jsonl", "--mode", "strict", folder=tmp_path, rows=rows)
    assert "1 passed with the remark 'helpers'" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("rows", "arguments", "message"),
    [
        ([{"code": "x", "answer": 4}], [], "line 1 has no column tests or test; its columns are code, answer."),
        ([{"tests": TESTS}], [], "line 1 has no column code or completion or solution; its columns are tests."),
        ([{"code": 4, "tests": TESTS}], [], "line 1: code must be text, and not 4."),
        ([{"code": RIGHT, "tests": [{"input": "1"}]}], [], 'line 1: tests must be text, and not [{"input": "1"}].'),
        (["text"], [], "each line must be an object"),
        ([], [], "samples.jsonl has no samples."),
        ([{"code": RIGHT, "tests": TESTS}], ["--workers", 0], "workers must be at least 1"),
        ([{"code": RIGHT, "tests": TESTS}], ["--memory", 1], "memory must be at least"),
        ([{"code": RIGHT, "tests": TESTS}], ["--k", 0], "--k must be at least 1."),
        (
            [{"code": RIGHT, "tests": TESTS}],
            ["--results", "no/r.jsonl"],
            "no/r.jsonl can't be written: no is no folder",
        ),
        ([{"code": RIGHT, "task_id": 1}], ["--tests", "nowhere"], "nowhere can't be read: No such file"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(rows, arguments, message, tmp_path):
    done = run("samples.jsonl", *arguments, folder=tmp_path, rows=rows)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_the_estimate():
    assert pass_at(2, 5, 2) == pytest.approx(1 - math.comb(3, 2) / math.comb(5, 2))
    assert (pass_at(1, 3, 0), pass_at(3, 3, 1)) == (0.0, 1.0)


def test_it_imports_nothing_but_the_standard_library_and_bubblewrap():
    """What `pip install ./code_eval` brings is all that it needs."""
    look = "import sys, code_eval, code_eval.__main__\nprint(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-S", "-c", look], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) - set(sys.stdlib_module_names) <= {"code_eval", "__main__"}, done.stdout
