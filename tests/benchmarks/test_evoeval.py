"""EvoEval: what is expected, and how it is compared."""

import pytest

from tests.benchmarks.tools import problems_of


@pytest.mark.parametrize(
    ("variant", "number", "solution", "inputs", "right", "wrong"),
    [
        pytest.param(
            "combine",
            0,
            "def f(a, b): return {a: b}",
            ["(1, 2), {3}", "'x', 1.5"],
            ["def f(a, b): return dict([(a, b)])"],
            ["def f(a, b): return {a: str(b)}"],
            id="what is expected comes from the canonical solution",
        ),
        pytest.param(
            "combine",
            0,
            "def f(a): print('x' * 2**21)",
            ["1"],
            ["def f(a): print('y' * 2**21)"],
            [],
            id="what is printed is no reason to fail",
        ),
        pytest.param(
            "combine",
            0,
            "def f(a): return [a, 1]",
            ["1"],
            ["def f(a): return [1, 1]"],
            ["def f(a): return (a, 1)", "def f(a): return [True, 1]"],
            id="types must agree",
        ),
        pytest.param(
            "creative",
            69,
            "def f(numbers, target): return (0, 1)",
            ["[2, 3, 1, 6], 6"],
            ["def f(numbers, target): return (0, 1)", "def f(numbers, target): return (2, 3)"],
            ["def f(numbers, target): return (0, 2)"],
            id="any right answer passes",
        ),
    ],
)
def test_verdicts(tmp_path, outcomes, variant, number, solution, inputs, right, wrong):
    row = {"task_id": f"EvoEval/{number}", "prompt": "", "entry_point": "f", "canonical_solution": solution}
    benchmark, (problem,) = problems_of(tmp_path, f"evoeval-{variant}", row | {"inputs": inputs})
    found = outcomes(benchmark, *((problem, answer, "solution") for answer in [*right, *wrong]))
    assert found == ["passed"] * len(right) + ["failed"] * len(wrong)
