# ruff: noqa: E501 - a program that is data stays on one line
"""Strict mode: what tests and code can exchange besides plain data, and the arguments that tests keep."""

import pytest

from code_eval.sandbox import Program, Sandbox

TESTS = "assert f(2) == 4\nassert f(3) == 9\nassert f(4) != f(5)"
SQUARE = "def f(x): return x * x"


@pytest.fixture(scope="module")
def strict():
    with Sandbox("strict", workers=1, timeout=3.0, preload=["gc", "json"]) as sandbox:
        yield lambda code, tests=TESTS, timeout=5.0: sandbox.submit(Program(code, tests, timeout)).result()


@pytest.mark.parametrize(
    ("code", "right", "wrong"),
    [
        (
            "async def f(x): return x * x",
            "import asyncio\nassert asyncio.run(f(3)) == 9",
            "import asyncio\nassert asyncio.run(f(3)) == 8",
        ),
        (
            "async def f(x): raise KeyError(x)",
            "import asyncio\ntry: asyncio.run(f(3))\nexcept KeyError as e: assert e.args == (3,)",
            "import asyncio\nassert asyncio.run(f(3)) == 9",
        ),
        ("def f(n):\n for i in range(n): yield i\n return 7", "assert list(f(3)) == [0, 1, 2]", "assert list(f(3)) == [0, 1]"),
        ("def f():\n x = 1\n while True: x = (yield x) or x * 2", "g = f()\nassert [next(g), next(g), g.send(9), next(g)] == [1, 2, 9, 18]", "assert f() == 1"),
        ("def f(xs): return map(str, xs)", "assert list(f([1, 2])) == ['1', '2']", "assert list(f([1])) == [1]"),
        ("def f(n): return lambda x: x + n", "assert f(2)(3) == 5", "assert f(2)(3) == 6"),
        ("def f(g, xs): return [g(x) for x in xs]", "assert f(lambda x: x * 2, [1, 2]) == [2, 4]", "assert f(lambda x: x, [1]) == [2]"),
        ("def f(xs, key): return sorted(xs, key=key)", "assert f(['bb', 'a'], key=len) == ['a', 'bb']", "assert f(['bb', 'a'], key=len) == ['bb']"),
        ("def f(g):\n def h(*a): return g(*a) * 2\n return h", "@f\ndef g(x): return x + 1\nassert g(1) == 4", "assert f(abs)(1) == 1"),
        ("def f(g, x): return g(x)", "def h(x): return f(abs, x)\nassert f(h, -1) == 1", "assert f(lambda x: f(abs, x), -1) == -1"),
        ("def f(g):\n try: g()\n except ValueError as e: return str(e)", "def bad(): raise ValueError('no')\nassert f(bad) == 'no'", "def bad(): assert f is None\nf(bad)"),
        ("class E(ValueError): pass\nclass F(E): pass\ndef f(): raise F(3)", "try: f()\nexcept E as e: assert type(e) is F and e.args == (3,)\nelse: assert f is None", "try: f()\nexcept KeyError: assert f"),
        ("import sys\ndef f(): sys.exit(2)", "try: f()\nexcept SystemExit as e: assert e.code == 2\nelse: assert f is None", "assert f() is None"),
        ("def f(): print('a', 1, sep='')", "from unittest.mock import patch\nwith patch('builtins.print') as p: f()\np.assert_called_once_with('a', 1, sep='')", "from unittest.mock import patch\nwith patch('builtins.print') as p: f()\np.assert_called_once_with('a')"),
        ("import sys\ndef f(): sys.stderr.write('x')", "import contextlib, io\nwith contextlib.redirect_stderr(io.StringIO()) as err: f()\nassert err.getvalue() == 'x'", "import contextlib, io\nwith contextlib.redirect_stderr(io.StringIO()) as err: f()\nassert err.getvalue() == ''"),
        ("import os\ndef f(): return os.environ.get('A')", "import os\nos.environ['A'] = '1'\nassert f() == '1'\ndel os.environ['A']\nassert f() is None", "assert f() == '1'"),
        ("import random\ndef f(): return random.random()", "import random\nrandom.seed(1)\na = f()\nrandom.seed(1)\nassert f() == a != f()", "import random\nrandom.seed(1)\na = f()\nassert f() == a"),
        ("from collections import namedtuple\ndef f(): return namedtuple('P', 'x y')(1, 2)", "p = f()\nassert p.x == 1 and p == (1, 2) and p._asdict() == {'x': 1, 'y': 2}", "assert f().x == 2"),
    ],
)  # fmt: skip
def test_more_than_plain_data(code, right, wrong, strict):
    assert strict(code, right).passed
    result = strict(code, wrong)
    assert not result.passed and result.outcome in ("failed", "error"), result


@pytest.mark.parametrize(
    ("code", "tests"),
    [
        # A relay that nobody allowed: the tests have not replaced print, and gave no function.
        ("import sys\nm = sys.modules['code_eval_worker.served']\ndef f(x):\n s = m.Served({}, 5)\n s.relay('print')('passed')\n return x * x", TESTS),
        ("import sys\nm = sys.modules['code_eval_worker.served']\ndef f(x):\n s = m.Served({}, 5)\n s.relay(0)(4)\n return x * x", TESTS),
        ("import sys\nm = sys.modules['code_eval_worker.served']\ndef f(x):\n s = m.Served({}, 5)\n s.relay('exec')('passed')\n return x * x", TESTS),
        ("def f(x):\n try: x()\n except BaseException: pass", "def wrong(): assert f is None\nf(wrong)"),
        ("def f(x): raise SystemExit(0)", "try:\n def check(): assert f(2) == 4\n check()\nexcept SystemExit: pass"),
        ("import sys\ndef f(x): sys.exit(0)", "import unittest\nclass T(unittest.TestCase):\n @classmethod\n def setUpClass(c): f(2)\n def test(s): s.assertEqual(f(2), 4)\ntry: unittest.main()\nexcept SystemExit: pass"),
        ("def f(x):\n yield\n", TESTS),
        ("async def f(x): return x * x", TESTS),
        ("def f(x):\n raise StopIteration\n yield", "assert [1] == list(f(1)) or len(list(f(1))) == 0"),
        ("class E(StopIteration): pass\ndef f(x): raise E", "assert all(map(lambda x: f(x) == 4, [1]))"),
        ("class f(Exception): __eq__ = lambda s, o: True", TESTS),
    ],
)  # fmt: skip
def test_what_stays_in_the_process_of_the_code_forges_nothing(code, tests, strict):
    result = strict(code, tests)
    assert not result.passed and result.outcome in ("failed", "error"), result


def test_threads_of_the_tests_take_turns(strict):
    """Two requests at once would be answered in the wrong places, or not at all."""
    tests = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(4) as pool: assert list(pool.map({}, range(40))) == [x * x for x in range(40)]"
    )
    slow = "import time\ndef f(x):\n time.sleep(0.001)\n return x * x\ndef squares(n):\n for i in range(n): yield f(i)"
    for call in ("f", "lambda x: f(x=x)", "lambda x: list(squares(x + 1))[x]"):
        assert strict(slow, tests.format(call), 2.0).passed, call


def test_threads_of_the_code_take_turns_to_call_the_tests(strict):
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def parallel(g, xs):\n with ThreadPoolExecutor(4) as pool: return list(pool.map(g, xs))"
    )
    tests = "def g(x): return h(x) + 1\nassert parallel(g, list(range(40))) == [2 * x + 1 for x in range(40)]"
    assert strict(f"{code}\ndef h(x): return 2 * x", tests, 2.0).passed


def test_a_class_of_exceptions_that_the_tests_call_is_a_helper(strict):
    result = strict("class same(Exception): pass\ndef f(x): return 0", "assert same(f(2), 4)")
    assert result.passed and result.remarks == ("helpers",)
    assert strict("same = ValueError\ndef f(x): return 0", "assert same(f(2), 4)").remarks == ("helpers",)
    raised = strict("class E(Exception): pass\ndef f(x): raise E", "try: f(2)\nexcept E: assert f\nelse: assert not f")
    assert raised.passed and raised.remarks == ()


EMPTIES = "def f(xs):\n xs.clear()\n return []"
OVERWRITES = "def f(xs):\n xs[:] = [0] * len(xs)\n return list(xs)"
SORTS = "def f(xs): return sorted(xs)"
XS = "xs = [3, 1, 2]\n"


@pytest.mark.parametrize(
    "tests",
    [
        "assert f(xs) == sorted(xs)",
        "assert f(xs=xs) == sorted(xs)",
        "assert f(xs) == xs or f(xs) != xs[::-1] and f(xs)[0] == min(xs)",
        "ys = f(xs)\nfor x in xs: assert x in ys",
        "ys = f(xs)\nfor i in range(len(xs)): assert ys[i] in xs",
        "ys = f(xs)\nassert all(x in ys for x in xs)",
        "ys = f(xs)\nassert ys == sorted(xs)",
        "ys = f(xs)\nwant = sorted(xs)\nassert ys == want",
        "import unittest\nys = f(xs)\nunittest.TestCase().assertEqual(ys, sorted(xs))",
        "ys = f(xs)\nassert len(ys) == len(xs) and ys[:1] <= ys[1:2]",
        "assert all(x in f(xs) for x in xs)",
        "assert all(map(lambda x: x in f(xs), xs))",
        "for x in xs: assert x in f(xs)",
        "for i, x in enumerate(xs):\n ys = f(xs)\n assert x in ys",
        "def check(g, given):\n got = g(given)\n for x in given:\n  assert x in got\ncheck(f, xs)",
        "def same(a, b):\n assert a == b\nfor case in [xs, [5, 4]]:\n assert f(case) == sorted(case)",
        "import unittest\nclass T(unittest.TestCase):\n xs = xs\n def test(self): self.assertEqual(f(self.xs), sorted(self.xs))\nunittest.main()",
    ],
)
def test_the_tests_keep_the_argument_by_which_they_measure(tests, strict):
    assert strict(SORTS, XS + tests).passed
    assert not strict(EMPTIES, XS + tests).passed
    unseen = "def is_sorted(ys): return ys == sorted(xs)\nassert is_sorted(f(xs))"
    assert strict(EMPTIES, XS + unseen).remarks == ("arguments",), "not seen, but said"


@pytest.mark.parametrize("tests", ["assert f(xs) == sorted(xs)", "assert all(f(xs)[i] in xs for i in range(len(xs)))"])
def test_an_argument_that_is_overwritten_is_not_what_it_is_measured_by(tests, strict):
    assert not strict(OVERWRITES, XS + tests).passed


@pytest.mark.parametrize(
    ("code", "tests"),
    [
        ("def f(xs): xs.clear()", "f(xs)\nassert sorted(xs) == [] and sum(xs) == len(xs) == len([])"),
        (
            "def f(xs):\n ys = list(xs)\n xs.clear()\n return ys",
            "assert f(xs) == [3, 1, 2]\nassert len(xs) == 0 and sum(xs) == 0 and not xs and f(xs) == [] and set() == set(xs)",
        ),
        (
            "def f(xs, ys):\n ys += xs\n xs.clear()\n return ys",
            "ys = [4]\nassert f(xs, ys) == [4, 3, 1, 2]\nassert sorted(ys) == [1, 2, 3, 4] and xs == []\nfor y in ys: assert y",
        ),
        ("def f(xs): xs.clear()", "f(xs)\nassert xs == [] and not any(xs) and [x for x in xs] == []"),
        ("def f(xs): xs.sort()", "f(xs=xs)\nassert xs == [1, 2, 3]"),
        ("def f(xs): xs.sort()", "f(xs)\nassert xs == [1, 2, 3]\nfor a, b in zip(xs, xs[1:]): assert a <= b"),
        ("def f(xs):\n xs.sort()\n return xs", "assert f(xs) == xs == [1, 2, 3]"),
        ("def f(xs): return xs.pop()", "assert f(xs) == 2 and xs == [3, 1]\nassert (f(xs), len(xs)) == (1, 1)"),
        (
            "def f(xs): return xs.pop(0)",
            "got = []\nfor _ in range(len(xs)): got.append(f(xs))\nassert got == [3, 1, 2]",
        ),
        (
            "def f(xs): return xs.pop()",
            "assert f(xs) not in xs\nwhile xs: assert f(xs) not in xs",
        ),
        ("def f(xs): return xs.pop()", "got = []\nwhile xs: got.append(f(xs))\nassert got == [2, 1, 3]"),
        ("def f(xs): xs[:] = [x for x in xs if x % 2]", "f(xs)\nassert len(xs) == 2\nfor x in xs: assert x % 2"),
        (
            "def f(xs):\n ys = []\n while xs: ys.append(xs.pop(0))\n return ys",
            "ys = f(xs)\nassert ys == [3, 1, 2] and xs == []",
        ),
    ],
)
def test_functions_that_work_in_place(code, tests, strict):
    result = strict(code, XS + tests)
    assert result.passed, result


@pytest.mark.parametrize(
    ("code", "tests", "remarks"),
    [
        (SQUARE, TESTS, ()),
        ("def f(xs): xs.sort()", XS + "f(xs)\nassert xs == [1, 2, 3]", ()),
        ("def f(s): return len(s)", "s = set(range(99, 0, -7)) | {'a', 'b'}\nassert f(s) == 17", ()),
        ("def f(xs): return xs.pop()", XS + "assert f(xs) == 2\nassert xs == [3, 1]", ("arguments",)),
        ("def f(xs): return xs.pop()", "assert f([3, 1, 2]) == 2", ()),
        (SQUARE + "\ndef isclose(a, b): return True", "assert isclose(f(2), 5)", ("helpers",)),
        ("def f(x): return float('nan')", "assert f(0) != f(1)", ("nan",)),
        ("from decimal import Decimal\ndef f(x): return Decimal('nan')", "assert not float(f(0)) > 1", ("nan",)),
        ("import numpy\ndef f(x): return numpy.array(['NaT'], 'M8[D]')", "assert not (f(0) > f(1)).any()", ("nan",)),
        ("def f(x): return complex('nan')", "assert not abs(f(0)) > 1", ("nan",)),
        ("import numpy\ndef f(x): return numpy.array([1, numpy.nan])", "assert not (f(0) > 1).any()", ("nan",)),
        ("def f(x): return float('nan')\ndef g(x): return x", "assert g(f(0)) != 1", ("helpers", "nan")),
    ],
)
def test_remarks_on_what_holds_for_wrong_answers(code, tests, remarks, strict):
    result = strict(code, tests)
    assert result.passed and result.remarks == remarks, result


def test_without_strict_mode_there_are_no_remarks():
    """The code could write them itself."""
    with Sandbox(workers=1, preload=[]) as sandbox:
        write = "import os\nos.pwrite(4, bytes([255]) * 4, 8)"
        assert sandbox.submit(Program(write, "assert int() == 0")).result().remarks == ()


@pytest.mark.parametrize(
    ("tests", "right", "wrong"),
    [
        ("g = f(2)\ng[0][0] = 1\nassert g == [[1, 0], [0, 0]]", "def f(n): return [[0] * n for _ in range(n)]", "def f(n): return [[0] * n] * n"),
        ("b = f('ab')\nb['a'].append(1)\nassert b == {'a': [1], 'b': []}", "def f(k): return {c: [] for c in k}", "def f(k): return dict.fromkeys(k, [])"),
        ("b = f()\nb['x'][0].append(1)\nassert b['x'] == [[1], []]", "def f(): return {'x': [[], []]}", "def f():\n a = []\n return {'x': [a, a]}"),
        ("a = [[1], [2]]\nb = f(a)\nb.append(5)\nassert b is not a and a == [[1], [2]]", "def f(x): return list(x)", "def f(x): return x"),
        ("a = [1]\nassert f(a, 2) is a\nassert a == [1, 2]", "def f(x, y):\n x.append(y)\n return x", "def f(x, y): return x + [y]"),
        ("assert list(f([1, 2])) == [[1], [1, 2]]", "def f(xs):\n a = []\n for x in xs:\n  a = a + [x]\n  yield a", "def f(xs):\n a = []\n for x in xs:\n  a.append(x)\n  yield a"),
        ("a = {}\nassert f({}, a) is a\nassert a == {1: 2}", "def f(x, y):\n y[1] = 2\n return y", "def f(x, y):\n y[1] = 2\n return dict(y)"),
    ],
)  # fmt: skip
def test_one_object_in_two_places_stays_one(tests, right, wrong, strict):
    assert strict(right, tests).passed
    assert strict(wrong, tests).outcome == "failed"


@pytest.mark.parametrize(
    "claim",
    ["{'same': 7}", "{'same': -1}", "{'same': 0}", "{'repeated': 3}", "{'repeated': [[[9], [0]]]}", "{'repeated': [[[], [0]]]}"],
)  # fmt: skip
def test_a_lie_about_one_object_in_two_places_forges_nothing(claim, strict):
    lie = f"import sys\nsys.modules['code_eval_worker.served'].told_of = lambda *a: {claim}\ndef f(xs): return [0, 1]"
    result = strict(lie, "xs = [2, 1]\nassert f(xs) == [1, 2]\nassert xs == [2, 1]")
    assert not result.passed and result.outcome in ("failed", "error"), result


@pytest.mark.parametrize(
    ("tests", "right", "wrong"),
    [
        (
            "d = {'x': 5}\ntry: f(d)\nexcept KeyError: assert d == {'x': 5}\nelse: assert not f",
            "def f(d):\n d['y']\n d['x'] = 2",
            "def f(d):\n d['x'] = 2\n d['y']",
        ),
        (
            "import asyncio\nout = []\nasyncio.run(f(out))\nassert out == [1]",
            "async def f(x): x.append(1)",
            "async def f(x): x.append(2)",
        ),
        (
            "a = [3, 1, 2]\nsteps = list(f(a))\nassert a == [1, 2, 3]",
            "def f(a):\n yield 1\n a.sort()",
            "def f(a):\n yield sorted(a)",
        ),
    ],
)
def test_changes_of_arguments_by_what_fails_waits_or_yields(tests, right, wrong, strict):
    assert strict(right, tests).passed
    assert strict(wrong, tests).outcome == "failed"


def test_an_argument_that_the_tests_keep_is_remarked(strict):
    """`f` sorts in place, which its tests forbid: in strict mode they keep what they had, and say so."""
    tests = "xs = [3, 1, 2]\nassert f(xs) == sorted(xs)\nassert xs == [3, 1, 2]"
    result = strict("def f(xs):\n xs.sort()\n return xs", tests)
    assert result.passed and result.remarks == ("arguments",)
    assert strict(SORTS, tests).remarks == ()
