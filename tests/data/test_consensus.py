"""Consensus: marks of outputs, the vote, and tests that state what was agreed on."""

import asyncio
from functools import partial

import pytest

from code_eval.sandbox import Sandbox
from selfalign.data.agreement import result_in
from selfalign.data.consensus import OTHER_HASHES, agreed_tests, assertions_met, consensus_of, different, marks_of, vote
from selfalign.data.inputs import MAX_INPUTS, Input, claims_of, inputs_in, inputs_of


@pytest.fixture(scope="module")
def run():
    """Runs a program in a real sandbox."""
    with Sandbox(workers=1, timeout=5.0) as sandbox:
        yield partial(result_in, sandbox)


INPUTS = [Input("", f"f({n})") for n in (1, 2, 3)]
RIGHT, ALSO_RIGHT = "def f(x): return x * x", "def f(x): return x ** 2"
WRONG, WORSE = "def f(x): return x + x", "def f(x): return int(None)"


def test_most_samples_decide(run):
    marks = asyncio.run(marks_of([RIGHT, WRONG, ALSO_RIGHT, WORSE], INPUTS, run))
    assert marks[3] == [None] * 3 and marks[0] == marks[2] != marks[1]
    verdict = vote(marks)
    assert verdict.outputs == marks[0]
    assert verdict.support[0] == verdict.support[2] > verdict.support[1] > verdict.support[3] == 0


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("{3, 1, 2}", "{1, 2, 3}", True),
        ("0.1 + 0.2", "0.3", True),
        ("[1, 2]", "(1, 2)", False),
        ("{'a': 1, 'b': 2}", "{'b': 2, 'a': 1}", True),
        ("True", "1", False),
        ("object()", "object()", False),  # no plain value: equal to nothing
        ("'\\ud800'", "'\\ud800'", True),
    ],
)
def test_equal_outputs_have_equal_marks(run, one, other, equal):
    (first,), (second,) = asyncio.run(
        marks_of([f"def f(): return {one}", f"def f(): return {other}"], [Input("", "f()")], run)
    )
    assert (first is not None and first == second) is equal


def test_a_program_that_does_not_end_has_no_outputs(run):
    assert asyncio.run(marks_of(["def f(x):\n    while True: pass"], INPUTS, run)) == [[None] * 3]


def test_an_input_on_which_a_program_does_not_end_costs_only_its_own_output(run):
    slow = "def f(n): return n if n < 2 else f(n - 1) + f(n - 2)"
    fast = "def f(n):\n    a, b = 0, 1\n    for _ in range(n): a, b = b, a + b\n    return a"
    inputs = [Input("", f"f({n})") for n in (5, 60, 7)]
    marks = asyncio.run(marks_of([slow, fast], inputs, run))
    assert marks[0] == [marks[1][0], None, marks[1][2]] and None not in marks[1]


def test_the_end_of_the_time_is_no_exception_of_the_code(run):
    code = "def f(x):\n    try:\n        while x == 2: pass\n    except Exception: raise ValueError\n    return x"
    marks = asyncio.run(marks_of([code], INPUTS, run))
    assert marks[0][0] and not marks[0][1] and marks[0][2]


def test_an_input_that_ends_the_program_costs_only_its_own_output(run):
    code = "import sys\ndef f(x):\n    if x == 2: sys.exit('no')\n    return x * x"
    marks = asyncio.run(marks_of([code, RIGHT], INPUTS, run))
    assert marks[0] == [marks[1][0], None, marks[1][2]]


@pytest.mark.parametrize(
    "code",
    [
        "def mark(*x): return 0\ndef shown(x): return x * x\ndef f(x): return shown(x)",
        "def eval(text): return 3\ndef f(x): return x ** 2 + eval('3') - 3",
        "exec = format = sorted = repr = type = map = globals = None\ndef f(x): return x * x",
        "program = signal = None\ndef f(x): return x * x",
    ],
)
def test_the_names_of_a_program_are_its_own(run, code):
    agreed = asyncio.run(consensus_of([(each, "assert f(1) == 1\nassert f(2) == 2") for each in (code, RIGHT)], run))
    assert agreed.tests == ["assert f(1) == 1", "assert f(2) == 4"] and agreed.passed == [True, True]


@pytest.mark.parametrize(
    ("output", "plain"),
    [
        ("__import__('collections').Counter('aab')", "{'a': 2, 'b': 1}"),
        ("__import__('collections').OrderedDict(b=1, a=2)", "{'b': 1, 'a': 2}"),
        ("__import__('numpy').int64(3)", "3"),
        ("[__import__('numpy').bool_(True)]", "[True]"),
        ("__import__('torch').zeros(3, 2).shape", "(3, 2)"),
    ],
)
def test_what_equals_a_plain_value_is_taken_for_it(run, output, plain):
    codes = [f"def f(x): return {text} if x else 0" for text in (output, plain, plain)]
    agreed = asyncio.run(consensus_of([(code, "assert f(0) == 1\nassert f(1) == 1") for code in codes], run))
    assert agreed.passed == [True] * 3 and agreed.support == [1.0] * 3


def test_the_order_of_a_set_is_no_output_of_its_own():
    unordered, ordered = "def f(x): return list(set(x))", "def f(x): return list(dict.fromkeys(x))"
    tests = "\n".join(f"assert f({text!r}) == 0" for text in ("xyzx", "q", "", "abcdefgh"))
    with (
        Sandbox(workers=1, timeout=5.0) as sandbox,
        Sandbox(workers=1, timeout=5.0, environment=OTHER_HASHES) as other,
    ):
        run, again = partial(result_in, sandbox), partial(result_in, other)
        programs = [(code, tests) for code in (unordered, f"{unordered}\n", ordered)]
        agreed = asyncio.run(consensus_of(programs, run, again=again))
    assert agreed.tests == ["assert f('q') == ['q']", "assert f('') == []"] and agreed.passed == [True] * 3


def test_the_kept_tests_state_what_was_agreed_on(run):
    marks = asyncio.run(marks_of([RIGHT, ALSO_RIGHT, WRONG], INPUTS, run))
    tests = asyncio.run(agreed_tests(RIGHT, INPUTS, marks[0], vote(marks).outputs, run))
    assert tests == ["assert f(1) == 1", "assert f(2) == 4", "assert f(3) == 9"]
    # WRONG gives the agreed output for f(2) alone, and one output is no evidence.
    assert asyncio.run(agreed_tests(WRONG, INPUTS, marks[2], vote(marks).outputs, run)) == []


def test_a_comparison_in_a_test_is_stated_as_a_whole(run):
    """`assert f(1) < f(2) == True` would compare f(2) with True."""
    tests = "assert f(1) < f(2)\nassert f(3) < f(2)\nassert f(4)"
    agreed = asyncio.run(consensus_of([(code, tests) for code in (RIGHT, ALSO_RIGHT, RIGHT)], run))
    assert "assert (f(1) < f(2)) == True" in agreed.tests and agreed.passed == [True] * 3


def test_what_is_compared_with_a_tolerance_is_an_output_itself(run):
    """Tests that only say whether an output is near something would all give True."""
    tests = "import math\nassert math.isclose(f(4), 2)\nassert abs(f(9) - 3) < 0.1"
    codes = ["def f(x): return x ** 0.5", "import math\ndef f(x): return math.sqrt(x)", "def f(x): return x / 2"]
    agreed = asyncio.run(consensus_of([(code, tests) for code in codes], run))
    assert agreed.tests[:2] == ["assert f(4) == 2.0", "import math\nassert math.isclose(f(4), 2) == True"]
    assert "assert f(9) == 3.0" in agreed.tests and agreed.passed == [True, True, False]


def test_nothing_is_stated_as_python_programmers_do(run):
    code, tests = "def f(x): return x or None", "assert f(0) == 1\nassert f(1) == 1"
    assert asyncio.run(consensus_of([(code, tests)] * 2, run)).tests == ["assert f(0) is None", "assert f(1) == 1"]


def test_an_address_in_memory_is_no_output(run):
    code = "class A: pass\ndef f(): return str(A())"
    assert asyncio.run(marks_of([code], [Input("", "f()")], run)) == [[None]]


def test_what_differs_in_the_last_digits_does_not_pass_the_tests_that_are_stated(run):
    """0.1 + 0.2 is 0.30000000000000004, and has the mark of 0.3."""
    summed, rounded = "def f(x): return x / 10 + 0.2", "def f(x): return round(x / 10 + 0.2, 9)"
    tests = "\n".join(f"assert f({n}) == 0" for n in range(1, 6))
    agreed = asyncio.run(consensus_of([(code, tests) for code in (summed, summed, rounded)], run))
    assert agreed.support == [1.0, 1.0, 1.0] and agreed.passed == [True, True, False]


def met_by(run, codes, suites):
    found = [list(inputs_in(tests, {"f"})) for tests in suites]
    inputs = inputs_of(found)
    marks = asyncio.run(marks_of(codes, inputs, run))
    return asyncio.run(assertions_met(codes, claims_of(found, inputs), marks, run))


def test_a_sample_meets_the_assertions_of_others_and_not_its_own(run):
    suites = ["assert f(2) == 4\nassert f(3) == 9", "assert f(3) == 6", "assert f(1) == 1\nassert f(3) == 9"]
    assert met_by(run, [RIGHT, WRONG, WORSE], suites) == [2 / 3, 1 / 4, 0]


@pytest.mark.parametrize(
    ("assertion", "met"),
    [
        ("x = 2\nassert f(x) == x + 2", 1),  # an output that has to be computed
        ("assert f(2) == f(-2)", 0),  # one that the code would have to compute counts for nothing
        ("assert f(2) == nothing_known", 0),
        ("assert f(2) == 4\nassert f(2) == 5", 1 / 2),
        ("assert f(2)", 0),  # 4 is true, but not True
        ("result = f(2)\nassert result == 4", 1),  # what is expected does not need what the code gives
        ("expected = [2]\nexpected.append(4)\nresult = [2, f(2)]\nassert result == expected", 1),
        ("import math\nresult = f(2)\nassert result == math.isqrt(16)", 1),
        ("class T(TestCase):\n    def test_it(self):\n        result = f(2)\n        self.assertEqual(result, 4)", 1),
        ("expected = f(2)\nassert f(-2) == expected", 0),
        ("x = [2]\nx.append(f(x[0]))\nassert x == x", 0),
    ],
)
def test_what_an_assertion_expects(run, assertion, met):
    assert met_by(run, [RIGHT, WORSE], ["", assertion]) == [met, 0]


def test_what_is_claimed_of_an_object(run):
    """Its setup makes the object, so it can't be evaluated without the code; what is claimed can."""
    tests = "s = f(2)\ns.push(1)\nassert s.pop() == 1\nassert s.pop() is None"
    stack = "class f:\n    def __init__(self, n): self.items = []\n    def push(self, x): self.items.append(x)\n"
    right = f"{stack}    def pop(self): return self.items.pop() if self.items else None"
    half = f"{stack}    def pop(self): return self.items.pop() if self.items else -1"
    assert met_by(run, [right, half, WORSE], ["", "", tests]) == [1, 1 / 2, 0]


CHECKED = "def f(x):\n    if x < 0: raise ValueError('negative')\n    return x * x"


@pytest.mark.parametrize(
    ("code", "is_output"),
    [
        (CHECKED, True),
        ("def check(x):\n    if x < 0: raise ValueError\n    return x\ndef f(x): return check(x) ** 2", True),
        ("def f(x): return x * x if x >= 0 else int('x')", False),  # it may as well be a mistake
        ("def f(x):\n    if x < 0: raise TypeError\n    return x * x", False),  # another one
        ("def f(x):\n    assert x >= 0\n    return x * x", False),
        ("def f(x): return x * x if x >= 0 else ValueError('negative')", False),
    ],
)
def test_an_exception_that_code_raises_is_an_output(run, code, is_output):
    programs = [(code, "assert f(2) == 4\nassert f(-1) == 1") for code in (CHECKED, code, CHECKED)]
    agreed = asyncio.run(consensus_of(programs, run))
    raising = "try:\n    f(-1)\nexcept ValueError:\n    pass\nelse:\n    assert False"
    assert agreed.tests == ["assert f(2) == 4", raising]
    assert agreed.passed == [True, is_output, True]


def test_variables_named_like_built_in_functions_take_nothing_from_the_code(run):
    code = "def f(x): return list(x)"
    agreed = asyncio.run(consensus_of([(code, "list = f('ab')\nassert list == 0\nassert f('c') == 0")] * 2, run))
    assert agreed.tests == ["list_ = f('ab')\nassert list_ == ['a', 'b']", "assert f('c') == ['c']"]
    assert agreed.passed == [True, True]


def test_an_exception_before_the_call_is_no_output(run):
    marks = asyncio.run(marks_of([CHECKED], [Input("x = f(-1)", "f(2)"), Input("x = f(1)", "f(-1)")], run))
    assert not marks[0][0] and marks[0][1]


def test_an_exception_of_the_codes_own_is_an_output(run):
    code = "class Full(Exception): pass\nclass Q:\n    def push(self, x):\n        if x > 1: raise Full('no')"
    agreed = asyncio.run(consensus_of([(code, "q = Q()\nassert q.push(1) is None\nassert q.push(2) == 0")] * 2, run))
    assert "except Full:" in agreed.tests[1] and agreed.passed == [True] * 2


def test_a_test_may_expect_an_exception_of_the_codes_own(run):
    code = "class Bad(Exception): pass\ndef f(x): raise Bad"
    assert met_by(run, [code, code, RIGHT], ["", "with pytest.raises(Bad): f(1)", ""]) == [1, 0, 0]


@pytest.mark.parametrize(
    "tests",
    [
        "assert f(-1) == ValueError('negative')",
        "try:\n    f(-1)\n    assert False\nexcept ValueError: pass",
        "with pytest.raises(ValueError): f(-1)",
    ],
)
def test_a_test_may_expect_an_exception(run, tests):
    assert met_by(run, [CHECKED, RIGHT, CHECKED.replace("ValueError", "KeyError")], ["", tests, ""]) == [1, 0, 0]


@pytest.mark.parametrize(
    ("output", "method", "literal"),
    [
        ("__import__('numpy').array([[1, x], [2, 3]])", ".tolist()", "[[1, 5], [2, 3]]"),
        ("__import__('torch').tensor([x, 0.5])", ".tolist()", "[5.0, 0.5]"),
        (
            "__import__('pandas').Series([x, 2])",
            ".to_frame().to_dict('split')",
            "{'index': [0, 1], 'columns': [0], 'data': [[5], [2]]}",
        ),
        (
            "__import__('pandas').DataFrame({'a': [x]})",
            ".to_dict('split')",
            "{'index': [0], 'columns': ['a'], 'data': [[5]]}",
        ),
    ],
)
def test_an_array_is_an_output(run, output, method, literal):
    """Though not the same as a list, which has other methods."""
    codes = [f"def f(x): return {output}", f"def f(x): return {output}\n", f"def f(x): return ({output}){method}"]
    tests = "assert f(5) == 1\nassert f(6) == 1"
    agreed = asyncio.run(consensus_of([(code, tests) for code in codes], run))
    assert agreed.tests[0] == f"assert f(5){method} == {literal}" and agreed.passed == [True, True, False]


def test_a_large_array_is_no_output(run):
    code = "import numpy\ndef f(n): return numpy.zeros(n)"
    marks = asyncio.run(marks_of([code], [Input("", "f(3)"), Input("", "f(100_000)")], run))
    assert marks[0][0] and not marks[0][1]


@pytest.mark.parametrize(
    "tests",
    [
        "import numpy as np\nassert np.array_equal(f(2), np.array([2, 4]))",
        "import numpy as np\nnp.testing.assert_array_equal(f(2), np.asarray([2, 4]))",
        "import numpy as np\nexpected = np.arange(2, 5, 2)\nassert np.array_equal(f(2), expected)",
        "import numpy as np\nassert (f(2) == np.array([2, 4])).all()",
        "import numpy as np\nassert f(2) == np.array([2, 4])",
        "assert np.array_equal(f(2), np.array([2, 4]))",  # the code imports it
    ],
)
def test_what_is_claimed_of_an_array(run, tests):
    right = "import numpy as np\ndef f(x): return np.array([x, x * 2])"
    assert met_by(run, [right, right.replace("* 2", "* 3")], ["", tests]) == [1, 0]


def test_more_claims_than_a_program_can_tell_of(run):
    suites = [f"assert f(2) == {n}" for n in range(MAX_INPUTS)] + ["assert f(2) == 4"]
    assert met_by(run, [RIGHT] * len(suites), suites)[0] == 2 / MAX_INPUTS


def test_assertions_decide_against_a_larger_group(run):
    """Two samples make the same mistake; all others differ, and most suites claim what one of them does."""
    right = "assert f(3) == 9\nassert f(4) == 16"
    programs = [(WRONG, right), (WRONG, right), (RIGHT, "assert f(3) == 6"), (RIGHT, right), (WRONG, right)]
    plain = asyncio.run(consensus_of(programs, run))
    assert plain.passed == [True, True, False, False, True] and "assert f(3) == 6" in plain.tests
    counted = asyncio.run(consensus_of(programs, run, assertions=True))
    assert counted.passed == [False, False, True, True, False]
    assert counted.tests == ["assert f(3) == 9", "assert f(4) == 16"]
    assert counted.support[2] == (1 / 4 + 1) / 2


def test_what_one_sample_alone_computes_is_stated_by_no_test(run):
    programs = [(WRONG, "assert f(3) == 9\nassert f(4) == 16"), (RIGHT, ""), (WORSE, "")]
    counted = asyncio.run(consensus_of(programs, run, assertions=True))
    assert counted.support.index(max(counted.support)) == 1
    assert counted.tests == [] and not any(counted.passed)


def test_tests_of_different_outputs_come_first_and_equal_calls_once():
    same, other = Input("x = 1\ny = 2", "f(x)"), Input("x = 1", "f(x)")
    agreed = [(same, "a"), (Input("", "f(3)"), "a"), (other, "a"), (Input("", "f(9)"), "b")]
    assert [each.call for each in different(agreed)] == ["f(3)", "f(9)", "f(x)"]
    assert different(agreed)[-1] is other


@pytest.mark.parametrize("output", ["'x' * 500", "float('nan')", "[float('inf')]"])
def test_outputs_that_are_no_short_literals_are_not_stated(run, output):
    code, inputs = f"def f(): return {output}", [Input("", "f()")]
    marks = asyncio.run(marks_of([code, code], inputs, run))
    assert asyncio.run(agreed_tests(code, inputs, marks[0], vote(marks).outputs, run)) == []


def test_one_sample_agrees_with_nobody():
    assert vote([["a", "b"]]).outputs == [None, None] and vote([["a", "b"]]).support == [0]
    assert vote([]).support == []
