"""Consensus: inputs out of tests, marks of outputs, the vote, and tests that state what was agreed on."""

import asyncio
from functools import partial

import pytest

from code_eval.sandbox import Sandbox
from selfalign.data.agreement import result_in
from selfalign.data.consensus import OTHER_HASHES, agreed_tests, assertions_met, consensus_of, different, marks_of, vote
from selfalign.data.inputs import MAX_INPUTS, Input, claims_of, definitions_in, inputs_in, inputs_of


@pytest.fixture(scope="module")
def run():
    """Runs a program in a real sandbox."""
    with Sandbox(workers=1, timeout=5.0) as sandbox:
        yield partial(result_in, sandbox)


def calls(tests, *names):
    return [(each.setup, each.call, each.claimed) for each in inputs_of([list(inputs_in(tests, names or ("f",)))])]


@pytest.mark.parametrize(
    ("tests", "expected"),
    [
        ("assert f(1) == 2", [("", "f(1)", "2")]),
        ("assert 2 == f(1)", [("", "f(1)", "2")]),
        ("assert [5] == f(1)", [("", "f(1)", "[5]")]),
        ("assert -5 == f(1)", [("", "f(1)", "-5")]),
        ("assert (1, 2) == f(1)", [("", "f(1)", "(1, 2)")]),
        ("assert sorted([2, 1]) == f(1)", [("", "f(1)", "sorted([2, 1])")]),
        ("expected = [1]\nassert expected == f(1)", [("", "f(1)", "expected")]),
        ("y = [1]\nx = f(1)\nassert y == x", [("y = [1]\nx = f(1)", "x", "y")]),
        ("def twice(n): return f(n) * 2\nassert [2] == twice(1)", [
            ("def twice(n):\n    return f(n) * 2", "twice(1)", "[2]"),
        ]),
        ("class T(TestCase):\n    def test_it(self):\n        self.assertEqual(5, f(1))", [("", "f(1)", "5")]),
        ("assert f(1) == f(2)", [("", "f(1)", "f(2)")]),
        ("assert f(1)", [("", "f(1)", "True")]),
        ("assert not f(1), 'why'", [("", "f(1)", "False")]),
        ("assert len(f(1)) == 2", [("", "len(f(1))", "2")]),
        ("from solution import f\nassert f(1) == 2", [("", "f(1)", "2")]),
        ("import math\nassert f(math.pi) == 3", [("import math", "f(math.pi)", "3")]),
        ("x = [1]\nassert f(x) == 2", [("x = [1]", "f(x)", "2")]),
        ("s = f()\nassert s.pop() == 1\nassert s.pop() == 2", [
            ("s = f()", "s.pop()", "1"), ("s = f()\ns.pop()", "s.pop()", "2"),
        ]),
        ("def test_it():\n    x = 1\n    assert f(x) == 2", [("x = 1", "f(x)", "2")]),
        ("class T(TestCase):\n    def test_it(self):\n        self.assertEqual(f(1), 2)", [("", "f(1)", "2")]),
        ("class T(TestCase):\n    def test_it(self):\n        self.assertEqual(f(self.x), 2)", []),
        ("def test_it():\n    x = 1\n    assert f(x) == 2\ntest_it()", [("x = 1", "f(x)", "2")]),
        ("class T(TestCase):\n    def test_it(self):\n        x = 1\n        self.assertEqual(f(x), 2)\n"
         "if __name__ == '__main__':\n    unittest.main()", [("x = 1", "f(x)", "2")]),
        ("class T(TestCase):\n    def test_it(self):\n        s = f()\n        self.assertIsNone(s.peek())\n"
         "        self.assertEqual(s.pop(), 1)", [("s = f()", "s.pop()", "1")]),
        ("def twice(n): return [n] * 2\nassert f(twice(1)) == 2", [
            ("def twice(n):\n    return [n] * 2", "f(twice(1))", "2"),
        ]),
        ("result = f(1)\nassert result == 2", [("result = f(1)", "result", "2")]),
        ("input = 1\nassert f(input) == 2", [("input = 1", "f(input)", "2")]),
        ("assert g(1) == 2", []),
        ("assert f == 2", []),
        ("assert f(1) ==", []),
        ("for x in [1, -2]:\n    assert f(x) == 2", [("", "f(1)", "2"), ("", "f(-2)", "2")]),
        ("for x, y in [(1, [2]), ('a', 3)]: assert f(x) == y", [("", "f(1)", "[2]"), ("", "f('a')", "3")]),
        ("cases = [(1, (2, 3))]\nfor a, (b, c) in cases:\n    result = f(a)\n    assert result == b + c, a", [
            ("cases = [(1, (2, 3))]\nresult = f(1)", "result", "2 + 3"),
        ]),
        ("for x, y in zip([1, 2], (3,)):\n    assert f(x) == y", [("", "f(1)", "3")]),
        ("d = {'a': 1}\nfor k, v in d.items(): assert f(k) == v", [("", "f('a')", "1")]),
        ("for n, x in enumerate([5, 6]): assert f(x) == n", [("", "f(5)", "0"), ("", "f(6)", "1")]),
        ("for x in {'a': 1}: assert f(x)", [("", "f('a')", "True")]),
        ("for x in [[1], [2]]:\n    assert f(x, x) == 2", [
            ("x = [1]", "f(x, x)", "2"), ("x = [2]", "f(x, x)", "2"),
        ]),
        ("for s in [f()]:\n    s.push(1)\n    assert s.pop() == 1", [("s = f()\ns.push(1)", "s.pop()", "1")]),
        ("class T(TestCase):\n    def test_it(self):\n        for x, y in [(1, 2)]:\n"
         "            with self.subTest(x=x):\n                self.assertEqual(f(x), y)", [("", "f(1)", "2")]),
        ("for x in [1, 2]:\n    for y in [3]:\n        assert f(x, y) == 0", [
            ("", "f(1, 3)", "0"), ("", "f(2, 3)", "0"),
        ]),
        ("for x in ['\\n']:\n    y = f'{x}'\n    assert f(y) == 2", [("x = '\\n'\ny = f'{x}'", "f(y)", "2")]),
        ("for x in [1]: assert f(lambda x: x) == 2", []),
        ("for x in [1]:\n for y in [1]:\n  for z in [1]:\n   assert f(x, y, z) == 2", []),
        ("for x in range(3): assert f(x) == 2", []),
        ("for x in [1]:\n    x += 1\n    assert f(x) == 2", []),
        ("for x in [1]:\n    if x: break\n    assert f(x) == 2", []),
        ("for x, y in [(1, 2), 3]: assert f(x) == y", []),
        ("cases = cases\nfor x in cases: assert f(x) == 2", []),
    ],
)  # fmt: skip
def test_the_inputs_of_tests(tests, expected):
    assert calls(tests) == expected


@pytest.mark.parametrize("tests", ["assert f(1) == {}", "x = {}\nassert f(x) == 1", "for x in [{}]: assert f(x) == 1"])
def test_deep_nesting_has_no_inputs(tests):
    """As of a model that repeats itself."""
    assert calls(tests.format("+".join("1" * 500))) == []


def test_loops_in_loops_take_no_time():
    many = repr(list(range(10_000)))
    tests = f"for a in {many}:\n for b in {many}:\n  assert f(a, b) == 0"
    assert len(list(inputs_in(tests, {"f"}))) == MAX_INPUTS**2


def test_each_input_counts_once_and_each_suite_has_its_turn():
    suites = [f"assert f({n}) == 0\nassert f(-1) == 1\nassert f({n} + 100) == 0" for n in range(MAX_INPUTS)]
    found = inputs_of([list(inputs_in(tests, {"f"})) for tests in suites])
    assert len(found) == len(set(found)) == MAX_INPUTS
    assert {each.call for each in found} >= {f"f({n})" for n in range(MAX_INPUTS - 1)}


INPUTS = [Input("", f"f({n})") for n in (1, 2, 3)]
RIGHT, ALSO_RIGHT = "def f(x): return x * x", "def f(x): return x ** 2"
WRONG, WORSE = "def f(x): return x + x", "def f(x): raise ValueError"


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
    return asyncio.run(assertions_met(claims_of(found, inputs), marks, run))


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


def test_definitions():
    assert definitions_in("import os\ndef f(): pass\nclass A:\n    def g(self): pass\nasync def h(): pass") == {
        "f",
        "A",
        "h",
    }
    assert definitions_in("def (") == set()
