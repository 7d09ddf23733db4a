"""EvoEval: what is expected, and how it is compared."""

import pytest

from tests.benchmarks.tools import problems_of

CASES = {  # the variant, the problem's number, its solution and inputs, and answers; "def f" precedes each function
    "what is expected comes from the canonical solution": (
        *("combine", 0, "(a, b): return {a: b}", ["(1, 2), {3}", "'x', 1.5"]),
        ["(a, b): return dict([(a, b)])"],
        ["(a, b): return {a: str(b)}"],
    ),
    "what is printed is no reason to fail": (
        *("combine", 0, "(a): print('x' * 2**21)", ["1"]),
        ["(a): print('y' * 2**21)"],
        [],
    ),
    "types must agree": (
        *("combine", 0, "(a): return [a, 1]", ["1"]),
        ["(a): return [1, 1]"],
        ["(a): return (a, 1)", "(a): return [True, 1]"],
    ),
    "any right answer passes": (
        *("creative", 69, "(numbers, target): return (0, 1)", ["[2, 3, 1, 6], 6"]),
        ["(numbers, target): return (0, 1)", "(numbers, target): return (2, 3)"],
        ["(numbers, target): return (0, 2)"],
    ),
}


@pytest.mark.parametrize(("variant", "number", "solution", "inputs", "right", "wrong"), CASES.values(), ids=CASES)
def test_verdicts(tmp_path, outcomes, variant, number, solution, inputs, right, wrong):
    row = {"task_id": f"EvoEval/{number}", "prompt": "", "entry_point": "f", "canonical_solution": f"def f{solution}"}
    benchmark, (problem,) = problems_of(tmp_path, f"evoeval-{variant}", row | {"inputs": inputs})
    found = outcomes(benchmark, *((problem, f"def f{answer}", "solution") for answer in [*right, *wrong]))
    assert found == ["passed"] * len(right) + ["failed"] * len(wrong)


@pytest.mark.parametrize("end", ["\n", ""])
def test_a_solution_follows_its_prompt(tmp_path, end):
    """Without a line break between them, neither decontamination nor an audit could read it."""
    row = {"task_id": "EvoEval/1", "prompt": f'def f(a):\n    """Doc."""{end}', "entry_point": "f", "inputs": ["1"]}
    _, (problem,) = problems_of(tmp_path, "evoeval-subtle", row | {"canonical_solution": "    return a\n"})
    assert problem.prompt + problem.canonical_solution == 'def f(a):\n    """Doc."""\n    return a\n'
