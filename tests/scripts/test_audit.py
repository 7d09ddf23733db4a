"""audit.py and the tasks that it needs: problems as tasks, samples judged by hidden tests, figures of the rules."""

import json
import shutil

import pytest

from experiments import problem_tasks
from selfalign.errors import UserError
from tests.benchmarks.rows import DOUBLE, SQUARES
from tests.helpers import load_script, read_rows, run, run_json, run_well, write_rows

# execute.py leaves the last part out, and so does the audit.
RIGHT = 'def double(x):\n    return x + x\n\n\nif __name__ == "__main__":\n    print(double(int(input())))'
ALSO_RIGHT = "def double(x):\n    return 2 * x"
WRONG = "def double(x):\n    return x ** 2"
TESTS = "assert double(1) == 2\nassert double(3) == 6\nassert double(4) == 8"
WRONG_TESTS = "assert double(1) == 1\nassert double(3) == 9"


def block(code):
    return f"```python\n{code}\n```"


def sample(number, code, tests, passed):
    return {
        "id": f"s{number}",
        "task_id": "t",
        "benchmark": "humanevalplus",
        "problem": "HumanEval/900",
        "instruction": "Double a number.",
        "response": block(code),
        "tests": block(tests),
        "passed": passed,
        "vacuous": False if passed else None,
        "mutation_score": 1.0 if passed else None,
    }


SAMPLES = [
    sample(0, RIGHT, WRONG_TESTS, False),  # right, and given up by the paper's rule
    sample(1, ALSO_RIGHT, TESTS, True),
    sample(2, WRONG, WRONG_TESTS, True),  # wrong, with tests that agree
]


@pytest.fixture(scope="module")
def problems(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("problems") / "humanevalplus.jsonl", [DOUBLE])


@pytest.fixture(scope="module")
def audited(tmp_path_factory, problems):
    folder = tmp_path_factory.mktemp("audit")
    executions = write_rows(folder / "executions.jsonl", SAMPLES)
    result = run_well("audit", executions, folder / "out", "--benchmark-data", f"humanevalplus={problems}")
    return folder / "out", result.stdout


def test_each_sample_is_judged_by_the_hidden_tests(audited):
    rows = read_rows(audited[0])
    assert [row["right"] for row in rows] == [True, True, False]
    assert [row["accepts_reference"] for row in rows] == [False, True, False]
    assert [row["rejects_wrong"] for row in rows] == [0.0, 1.0, None]
    assert rows[0]["support"] == rows[1]["support"] > rows[2]["support"]
    assert [round(row["assertions_met"], 3) for row in rows] == [0.6, 0.0, 0.4]
    assert rows[0]["agreement"] is None and rows[1]["agreement"] is not None


def test_the_figures_say_which_rule_keeps_what_is_right(audited):
    folder, printed = audited
    rules = json.loads((folder / "audit.json").read_text())["rules"]
    assert rules["passes"]["precision"][0] == 0.5 and rules["consensus"]["precision"][0] == 1.0
    assert "| consensus | 1 | 100.0 [20.7, 100.0]" in printed
    assert (
        printed.partition("\n")[2].strip() in (folder / "README.md").read_text()
        and (folder / "figures" / "precision.png").exists()
    )


def test_the_figures_say_what_the_samples_and_their_tests_are_like(audited):
    folder, printed = audited
    figures = json.loads((folder / "audit.json").read_text())
    shares = {name: round(value, 3) for name, (value, *_) in figures["shares"].items()}
    assert shares["samples that are right"] == 0.667
    assert shares["of the samples that pass their own tests, those that are right"] == 0.5
    assert shares["of the samples that are right, those that pass their own tests"] == 0.5
    assert shares["samples whose tests accept the benchmark's solution"] == 0.333
    assert shares["of the wrong code of other samples, what a sample's tests reject"] == 0.5
    ended = {(row["own"], row["hidden"]): row["samples"] for row in figures["outcomes"]}
    assert ended == {("unknown", "passed"): 1, ("passed", "passed"): 1, ("passed", "failed"): 1}
    assert "| own tests \\ hidden tests | passed | failed |" in printed


def test_it_is_known_by_its_problems(audited, tmp_path):
    """The same command does nothing again; other problems are another audit."""
    folder, _ = audited
    other = write_rows(tmp_path / "other.jsonl", [DOUBLE | {"plus_input": [[7]]}])
    result = run("audit", folder.parent / "executions.jsonl", folder, "--benchmark-data", f"humanevalplus={other}")
    assert result.returncode == 2 and "differs" in result.stderr


def test_other_figures_of_a_finished_audit_need_no_new_judgement(audited, tmp_path, problems):
    folder, _ = audited
    again = shutil.copytree(folder, tmp_path / "again")
    command = ("audit", folder.parent / "executions.jsonl", again, "--benchmark-data", f"humanevalplus={problems}")
    result = run_well(*command, "--min-support", "0.1", "0.9", "--halves")
    record = json.loads((again / "audit.json").read_text())
    assert "nothing was left to do" in result.stderr + result.stdout and read_rows(again) == read_rows(folder)
    assert "consensus >= 0.9" in record["rules"] and "consensus >= 0.5" not in record["rules"]
    assert [half["tasks"] for half in record["halves"]] == [1]
    refused = run(*command, "--min-support", "1.5")
    assert refused.returncode == 2 and "--min-support 1.5 is out of range" in refused.stderr


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        (("a", "b", "c"), "{problems} lacks 2 of the problems .* HumanEval/901"),
        (("a", "b", "b"), "task_id b for humanevalplus HumanEval/901 and for humanevalplus HumanEval/902: give each"),
    ],
)
def test_samples_of_other_problems_are_refused(tmp_path, problems, tasks, said):
    script = load_script("audit")
    rows = [
        sample(number, RIGHT, TESTS, True) | {"problem": f"HumanEval/{number}", "task_id": task}
        for number, task in zip((900, 901, 902), tasks, strict=True)
    ]
    options = script.Options(
        input=str(write_rows(tmp_path / "executions.jsonl", rows)),
        output=str(tmp_path / "out"),
        benchmark_data=(f"humanevalplus={problems}",),
    )
    with pytest.raises(UserError, match=said.format(problems=problems)):
        script.main(options)


def test_a_sandbox_with_too_little_memory_is_said(audited, tmp_path, problems):
    command = ("audit", audited[0].parent / "executions.jsonl", tmp_path / "out", "--memory", "8")
    refused = run(*command, "--benchmark-data", f"humanevalplus={problems}")
    assert refused.returncode == 2 and "memory must be at least" in refused.stderr


@pytest.mark.parametrize("name", ["classeval-holistic", "ds1000", "livecodebench"])
def test_problems_that_are_no_single_functions_become_no_tasks(tmp_path, name):
    with pytest.raises(UserError, match=f"{name} .* single functions"):
        problem_tasks.main(problem_tasks.Options(output=str(tmp_path / "tasks"), benchmarks=(name,)))


def test_problems_become_tasks(tmp_path, problems):
    squares = write_rows(tmp_path / "mbppplus.jsonl", [SQUARES])
    data = (f"humanevalplus={problems}", f"mbppplus={squares}")
    problem_tasks.main(problem_tasks.Options(output=str(tmp_path / "tasks"), benchmark_data=data))
    double, square = sorted(read_rows(tmp_path / "tasks"), key=lambda row: row["benchmark"])
    assert double["instruction"].startswith("Complete the Python function `double`")
    assert square["instruction"] == (
        "Write a function to square the numbers of a list.\n\nThe function is `square(xs)`."
    )
    assert (square["benchmark"], square["problem"], square["error"]) == ("mbppplus", "Mbpp/8", None)
    assert run_json(tmp_path / "tasks")["complete"]


def test_humaneval_which_comes_with_a_package_becomes_tasks_and_is_audited(tmp_path):
    options = problem_tasks.Options(output=str(tmp_path / "tasks"), benchmarks=("humaneval",), draw=2)
    problem_tasks.main(options)
    assert len(read_rows(tmp_path / "tasks")) == 2
    add = sample(0, "def add(x, y):\n    return y + x", "assert add(1, 2) == 3", True)
    rows = [add | {"benchmark": "humaneval", "problem": "HumanEval/53"}]
    run_well("audit", write_rows(tmp_path / "executions.jsonl", rows), tmp_path / "out")
    assert read_rows(tmp_path / "out")[0]["right"]
