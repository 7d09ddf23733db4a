"""EvalPerf: scores from what programs took, measured in the sandbox."""

import itertools
import json

import pytest

from code_eval.sandbox import Sandbox
from selfalign.benchmarks import evalperf, load_benchmark
from tests.benchmarks.rows import SQUARES
from tests.helpers import write_rows

EVALPERF = load_benchmark("evalperf")
SLOW = "def f(n):\n    return sum(i for i in range(n) for _ in range(40)) // 40\n"
MIDDLE = "def f(n):\n    return sum(i for i in range(n))\n"
FAST = "def f(n):\n    return n * (n - 1) // 2\n"


@pytest.fixture
def task(tmp_path):
    plus = {"task_id": "HumanEval/0", "entry_point": "f", "prompt": "", "canonical_solution": FAST}
    plus |= {"base_input": [[3]], "plus_input": [[4]], "atol": 0}
    task = {"task_id": "HumanEval/0", "pe_input": json.dumps([[20000]]), "reference": [SLOW, MIDDLE, FAST]}
    files = [[task | {"scores": [10.0, 60.0, 100.0]}], [plus], [SQUARES]]
    paths = [str(write_rows(tmp_path / f"{number}.jsonl", rows)) for number, rows in enumerate(files)]
    (problem,) = EVALPERF.problems(",".join(paths))
    return problem


def rows_of(codes):
    names = [{"id": f"HumanEval/0/{n}", "task_id": "HumanEval/0", "sample": n} for n in range(len(codes))]
    return [row | {"code": code, "passed": code is not None} for row, code in zip(names, codes, strict=True)]


def measured(rows, task):
    with Sandbox(workers=1) as sandbox:
        return EVALPERF.measure(rows, {"HumanEval/0": task}, lambda ps: [sandbox.submit(p).result() for p in ps])


def test_a_sample_has_the_score_of_the_fastest_reference_that_it_reaches(task, monkeypatch):
    monkeypatch.setattr(evalperf, "SLACK", 3.0)  # these differ by 5 times and more, equal ones by what disturbs them
    slower = SLOW.replace("range(40)", "range(200)")
    codes = [slower, SLOW + "# again", MIDDLE + "# again", FAST + "# again", *[MIDDLE] * 6, None]
    rows = rows_of(codes)
    result = measured(rows, task)
    assert [result[row["id"]]["dps"] for row in rows[:4]] == [0.0, 10.0, 60.0, 100.0]
    assert rows[-1]["id"] not in result
    rows = [row | {"measured": result.get(row["id"])} for row in rows]
    assert EVALPERF.scores(rows, {})["dps"] == pytest.approx((0 + 10 + 60 + 100 + 6 * 60) / 1000)


def test_a_task_with_fewer_than_ten_right_samples_is_not_measured(task):
    assert measured(rows_of([FAST] * 9), task) == {}


def test_a_sample_that_fails_on_the_large_input_scores_nothing(task):
    codes = ["def f(n):\n    assert n < 9\n    return n * (n - 1) // 2\n", *[FAST] * 9]
    assert measured(rows_of(codes), task)["HumanEval/0/0"] == {"seconds": None, "dps": 0.0, "dps_norm": 0.0}


def test_a_task_that_the_bootstrap_draws_twice_counts_twice():
    rows = [{"task_id": task, "measured": {"dps": dps, "dps_norm": dps}} for task, dps in (("a", 20.0), ("b", 80.0))]
    assert EVALPERF.scores(rows, {}) == {"measured": 1.0, "dps": 0.5, "dps_norm": 0.5}
    assert EVALPERF.scores([*rows, rows[1]], {})["dps"] == pytest.approx(0.6)
    assert EVALPERF.scores([*rows, {"task_id": "c", "measured": None}] * 2, {})["measured"] == pytest.approx(2 / 3)


def test_win_rates_are_over_common_tasks():
    dps = {"a": {"t1": 90, "t2": 50}, "b": {"t1": 80, "t2": 50, "t3": 99}, "c": {"t3": 1}}
    results = {
        model: {"measured": {f"{task}/{n}": {"dps": value} for (task, value), n in itertools.product(of.items(), "01")}}
        for model, of in dps.items()
    }
    assert evalperf.win_rates(results) == {"a": 0.75, "b": pytest.approx(1.5 / 3), "c": 0.0}
