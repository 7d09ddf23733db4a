"""HumanEval+ and MBPP+: both layouts of their data, and that outputs are compared as by EvalPlus' evaluator."""

import pytest

from code_eval.sandbox import Program
from selfalign.benchmarks.harness.evalplus import hub_script
from selfalign.benchmarks.mbppplus import typed
from tests.benchmarks.rows import DOUBLE, DOUBLE_ON_HUB, SQUARES, SQUARES_ON_HUB, check, script
from tests.benchmarks.tools import problems_of


@pytest.fixture
def passes(sandbox):
    """The function from answers and the script that tests them to whether each passes."""
    return lambda test, *answers: [sandbox.submit(Program(answer, test)).result().passed for answer in answers]


def test_any_zero_of_the_polynomial_passes_humaneval_32(passes):
    """The script on the Hub takes the arguments in the wrong order."""
    test = check("assert _poly(*candidate(*inp), inp) <= 0.0001", [[[-6, 5, -1]]], [2.0])
    answers = [f"def find_zero(xs): return {zero}" for zero in (2.0, 3.0, 2.5)]
    assert passes(f"{hub_script(test, 'find_zero')}\ncheck(find_zero)", *answers) == [True, True, False]


PADDED = "sum(abs(int(x) - int(y)) for x, y in zip(str(a).zfill(2), str(b).zfill(2)))"
PLAIN = "{(1, 23): 0, (23, 56): 6}[a, b]"


@pytest.mark.parametrize(
    ("function", "inputs", "results", "right", "wrong"),
    [
        ("f(x)", [[1]], [0.1 + 0.2], ["0.3"], []),
        ("f(x)", [[1]], [[0.1 + 0.2, 1.0]], ["[0.3, 1.0]"], ["(0.3, 1.0)"]),
        ("f(x)", [[1]], [[0.5, 0.5]], [], ["[0.5]", "0.5000000001"]),
        ("f(x)", [[1]], [[]], [], ["[1.0]"]),
        ("f(x)", [[1]], [3], [], ["3.0000001"]),
        ("f(x)", [[1]], [1], ["True"], []),
        pytest.param("Diff(a, b)", [[[1], [2]]], [[1, 2]], ["[2, 1]"], ["[2]"], id="sets have no order"),
        # The script on the Hub compares those of Mbpp/737, 787 and 794 without an assertion.
        pytest.param(
            "check_str(s)",
            [["annie"], ["dog"]],
            [True, False],
            ["__import__('re').match('[aeiou]', s)", "s[0] in 'aeiou'"],
            ["True"],
            id="a match object counts as true",
        ),
        pytest.param(
            "digit_distance_nums(a, b)", [[1, 23], [23, 56]], [0, 6], [PADDED, PLAIN], ["0"], id="both readings pass"
        ),
    ],
)
def test_outputs_are_compared_as_by_the_evaluator(function, inputs, results, right, wrong, passes):
    entry_point = function.partition("(")[0]
    test = hub_script(script(f"assertion({entry_point}(*inp), exp, 0)", inputs, results), entry_point)
    answers = [f"def {function}: return {value}" for value in [*right, *wrong]]
    assert passes(test, *answers) == [True] * len(right) + [False] * len(wrong)


@pytest.mark.parametrize(
    ("name", "rows", "right", "wrong"),
    [
        ("mbppplus", (SQUARES, SQUARES_ON_HUB), "[x**2 for x in xs]", "[x * abs(x) for x in xs]"),
        ("humanevalplus", (DOUBLE, DOUBLE_ON_HUB), "x + x", "2 * x + 1"),
    ],
)
def test_both_layouts_are_the_same_problem(tmp_path, outcomes, name, rows, right, wrong):
    (benchmark, (first,)), (_, (second,)) = (problems_of(tmp_path, name, row) for row in rows)
    for part in ("prompt", "entry_point", "canonical_solution"):
        assert getattr(first, part) == getattr(second, part)
    argument = "xs" if name == "mbppplus" else "x"
    answers = [f"def {first.entry_point}({argument}): return {value}" for value in (right, wrong)]
    judged = outcomes(benchmark, *((p, answer, "solution") for p in (first, second) for answer in answers))
    assert [outcome == "passed" for outcome in judged] == [True, False] * 2


def test_a_reference_that_changes_its_argument_does_not_disturb(tmp_path, passes):
    clears = "\ndef square(xs):\n  out = [x**2 for x in xs]\n  xs.clear()\n  return out\n"
    _, (problem,) = problems_of(tmp_path, "mbppplus", SQUARES | {"canonical_solution": clears})
    assert passes(problem.test, "def square(xs): return [x * x for x in xs]") == [True]


@pytest.mark.parametrize(
    ("task", "arguments", "with_types"),
    [
        (2, [[1], [2]], [(1,), (2,)]),
        (63, [[[1, 2]]], [[(1, 2)]]),
        (106, [[1], [2]], [[1], (2,)]),
        (115, [[[1], []]], [[{1}, {}]]),
        (115, [[True, None, {"a": 1}, [2]]], [[{}, {}, {}, {2}]]),  # as version 0.1.0 has it
        (124, ["1", "2j"], [1.0, 2j]),
        (252, ["1+1j"], [1 + 1j]),
        (278, [[1, [2]]], [(1, (2,))]),
        (580, [[1, [2]]], [(1, (2,))]),
        (722, [{"a": [1]}, 2], [{"a": (1,)}, 2]),
        (3, [[1]], [[1]]),
    ],
)
def test_arguments_get_back_the_types_that_json_lacks(task, arguments, with_types):
    assert typed(task, arguments) == with_types
