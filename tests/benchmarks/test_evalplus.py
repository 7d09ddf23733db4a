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


def hub_test(entry_point, inputs, results):
    return hub_script(script(f"assertion({entry_point}(*inp), exp, 0)", inputs, results), entry_point)


def test_any_zero_of_the_polynomial_passes_humaneval_32(passes):
    """The script on the Hub takes the arguments in the wrong order."""
    test = check("assert _poly(*candidate(*inp), inp) <= 0.0001", [[[-6, 5, -1]]], [2.0])
    answers = [f"def find_zero(xs): return {zero}" for zero in (2.0, 3.0, 2.5)]
    assert passes(f"{hub_script(test, 'find_zero')}\ncheck(find_zero)", *answers) == [True, True, False]


def test_a_match_object_counts_as_true(passes):
    """The script on the Hub compares those of Mbpp/737, 787 and 794 without an assertion."""
    test = hub_test("check_str", [["annie"], ["dog"]], [True, False])
    matches = "import re\ndef check_str(s): return re.match('[aeiou]', s)"
    answers = [matches, "def check_str(s): return True", "def check_str(s): return s[0] in 'aeiou'"]
    assert passes(test, *answers) == [True, False, True]


@pytest.mark.parametrize(
    ("expected", "returned", "accepted"),
    [
        (0.1 + 0.2, 0.3, True),
        ([0.1 + 0.2, 1.0], [0.3, 1.0], True),
        ([0.3, 1.0], (0.3, 1.0), False),
        ([0.5, 0.5], [0.5], False),
        ([0.5, 0.5], 0.5000000001, False),
        ([], [1.0], False),
        (3, 3.0000001, False),
        (1, True, True),
    ],
)
def test_outputs_are_compared_as_by_the_evaluator(expected, returned, accepted, passes):
    test = hub_test("f", [[1]], [expected])
    assert passes(test, f"def f(x): return {returned!r}") == [accepted]


def test_the_order_does_not_count_where_the_evaluator_compares_sets(passes):
    test = hub_test("Diff", [[[1], [2]]], [[1, 2]])
    assert passes(test, "def Diff(a, b): return [2, 1]", "def Diff(a, b): return [2]") == [True, False]


def test_both_readings_of_a_task_pass(passes):
    test = hub_test("digit_distance_nums", [[1, 23], [23, 56]], [0, 6])
    padded = "return sum(abs(int(x) - int(y)) for x, y in zip(str(a).zfill(2), str(b).zfill(2)))"
    plain = "return {(1, 23): 0, (23, 56): 6}[a, b]"
    answers = [f"def digit_distance_nums(a, b): {body}" for body in (padded, plain, "return 0")]
    assert passes(test, *answers) == [True, True, False]


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
