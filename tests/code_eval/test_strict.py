# ruff: noqa: E501 - a program that is data stays on one line
"""Strict mode: code cannot forge a verdict, and plain data passes in both directions unharmed."""

from collections import Counter, OrderedDict, defaultdict, deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from http import HTTPStatus  # a subclass of int

import pytest

from code_eval.plain_data import decode, encode
from code_eval.sandbox import Program, Sandbox

TESTS = "assert f(2) == 4\nassert f(3) == 9\nassert f(4) != f(5)"
ITERATIONS = (  # which would hold if what the code raises could end them
    "assert all(map(lambda x: f(x) == x * x, [2, 3]))",
    "for got, want in zip(map(f, [2, 3]), [4, 9]):\n assert got == want",
    "for got in iter(lambda: f(2), 4):\n assert got == 4",
)
SQUARE = "def f(x): return x * x"
WRONG = "def f(x): return 0\n"
SENDS = WRONG + "import sys\nsys.modules['code_eval_worker.served'].encode = lambda value: {}"

# Each would pass in one process, or tries to; none computes what the tests ask for.
FORGERIES = {
    "equals_everything": "class E:\n __eq__ = __ne__ = lambda s, o: True\ndef f(x): return E()",
    "integer_that_equals_everything": "class E(int):\n __eq__ = __ne__ = lambda s, o: True\ndef f(x): return E()",
    "float_that_equals_everything": "class E(float):\n __eq__ = __ne__ = lambda s, o: True\ndef f(x): return [E()]",
    "string_with_another_hash": "class E(str):\n __eq__ = __ne__ = lambda s, o: True\n __hash__ = str.__hash__\n"
    "def f(x): return {E(): E()}",
    "leaves": "import os\ndef f(x): os._exit(0)",
    "leaves_at_once": "import os\nos._exit(0)",
    "sys_exit": "import sys\ndef f(x): sys.exit(0)",
    "sys_exit_at_once": "import sys\nsys.exit(0)",
    "prints_the_verdict": WRONG + "print('ready\\npassed\\n')",
    "writes_the_verdict": WRONG + "import os\nfor fd in range(3, 64):\n"
    " try: os.write(fd, b'ready\\npassed\\n')\n except OSError: pass",
    "frames": WRONG + "import sys\nframe = sys._getframe()\nwhile frame:\n"
    " frame.f_globals['has_tests'] = frame.f_globals['classify'] = lambda *a: ('passed', '')\n"
    " for name, value in list(frame.f_locals.items()):\n"
    "  if hasattr(value, 'tests'): value.tests = 'assert int()==0'\n frame = frame.f_back",
    "claims_to_have_passed": "import __main__, sys\nmodule = sys.modules['code_eval_worker.served']\n"
    "module.classify = lambda e: ('passed', '')\nraise ValueError",
    "raises_a_pass": "import sys\nmodule = sys.modules['code_eval_worker.channel']\n"
    "def f(x):\n module.classify = lambda e: ('passed', '')\n class Claim(BaseException): pass\n raise Claim",
    "claims_with_a_line_too_many": "import sys\nsys.modules['code_eval_worker.served'].classify = lambda e: ('passed\\n', '')\nraise ValueError",
    "claims_a_list": "import sys\nsys.modules['code_eval_worker.served'].classify = lambda e: (['passed'], '')\nraise ValueError",
    "raises_with_a_line_too_many": "import sys\nmodule = sys.modules['code_eval_worker.channel']\ndef f(x):\n"
    " module.classify = lambda e: ('passed\\n', '')\n raise BaseException",
    "raises_exit": "def f(x): raise SystemExit(0)",
    "raises_generator_exit": "def f(x): raise GeneratorExit",
    "raises_stop_iteration": "def f(x): raise StopIteration",
    "replaces_builtins": WRONG + "__builtins__ = {}\nAssertionError = ValueError\nassert_ = len = all = isinstance = f",
    "replaces_builtins_module": WRONG + "import builtins\nbuiltins.AssertionError = builtins.BaseException = int",
    "answers_beforehand": WRONG + "import json, os\nfor value in (4, 9, 1, 2):\n"
    " body = json.dumps({'value': value}).encode()\n os.write(5, len(body).to_bytes(4, 'little') + body)",
    "answers_with_rubbish": WRONG + "import os\nos.write(5, b'\\xff' * 64)",
    "answers_for_names_nobody_asked": "import sys\nmodule = sys.modules['code_eval_worker.served']\n"
    "module.Served.result_of = lambda self, request: {'names': {'f': {'callable': True}, '__builtins__': {'value': {}}}}",
    "answers_with_unknown_kinds": "import sys\nmodule = sys.modules['code_eval_worker.served']\n"
    "def f(x): return 0\nmodule.encode = lambda value: {'exec': ['passed']}",
    "answers_with_a_bare_nan": SENDS.format("float('nan')"),
    "answers_with_nan_in_another_spelling": SENDS.format("{'float': 'NaN'}"),
    "answers_with_what_cannot_be_decoded": SENDS.format("{'deque': []}"),
    "answers_with_nan": "def f(x): return float('nan')",
    "answers_with_nan_in_a_list": "def f(x): return [float('nan')]",
    "kills_all": WRONG + "import os\nfor pid in [-1, 0, *range(1, 300)]:\n try: os.kill(pid, 9)\n except OSError: pass",
    "module_by_another_name": "import unittest.mock as f",
    "looks_for_the_tests_in_files": "import os\ndef f(x):\n for fd in range(64):\n"
    "  try: data = os.pread(fd, 10000, 0)\n  except OSError: continue\n  if b'f(2) == ' in data: return x * x\n return 0",
    "looks_for_the_tests_in_objects": "import gc, sys\ndef f(x):\n"
    " for o in gc.get_objects():\n  if isinstance(o, dict) and any('f(2) ' + '==' in str(v) for v in o.values()): return x * x\n"
    " return 0",
    "looks_for_the_tests_in_memory": "import re\ndef f(x):\n found = 0\n"
    " with open('/proc/self/maps') as maps, open('/proc/self/mem', 'rb') as memory:\n"
    "  for line in maps:\n"
    "   start, end = (int(a, 16) for a in line.split()[0].split('-'))\n"
    "   try:\n    memory.seek(start)\n    found += len(re.findall(rb'assert f[(]3[)] == 9', memory.read(end - start)))\n"
    "   except (OSError, ValueError, OverflowError): pass\n"
    " return x * x if found else 0",
}


@pytest.fixture(scope="module")
def strict():
    with Sandbox("strict", workers=1, timeout=3.0, preload=["gc", "json"]) as sandbox:
        yield lambda code, tests=TESTS, timeout=5.0: sandbox.submit(Program(code, tests, timeout)).result()


@pytest.mark.parametrize("name", FORGERIES)
def test_forgery(name, strict):
    result = strict(FORGERIES[name])
    assert not result.passed and result.outcome != "sandbox_error", result
    assert "code_eval_worker" not in result.detail, "the module that it looks for is not there"
    assert strict(SQUARE).passed


def test_the_search_in_memory_finds_what_is_there(strict):
    """Otherwise the forgery that looks for the tests in memory would prove nothing."""
    planted = "known = b'assert f(3) '.decode() + str('== 9')\n"
    assert strict(planted + FORGERIES["looks_for_the_tests_in_memory"]).passed


@pytest.mark.parametrize(
    ("code", "tests", "outcome"),
    [
        ("def f(x): return undefined", TESTS, "error"),
        ("def f(x:", TESTS, "syntax_error"),
        (SQUARE, "assert f(2", "syntax_error"),
        (SQUARE, "f(2)", "no_tests"),
        ("def g(x): pass", TESTS, "error"),
        ("def f(x):\n while True: pass", TESTS, "cpu_limit"),
        ("while True: pass", TESTS, "cpu_limit"),
        ("import time\ndef f(x): time.sleep(60)", TESTS, "timeout"),
        ("def f(x): return bytearray(5 << 30)", TESTS, "out_of_memory"),
        ("import ctypes\ndef f(x): ctypes.string_at(1)", TESTS, "killed"),
        ("def f(x):\n while True: print('x' * 9999)", TESTS, "output_limit"),
        ("class C: pass\ndef f(x): return C()", TESTS, "error"),
        ("def f(x): raise ValueError('no')", "try:\n f(1)\nexcept ValueError as e:\n assert str(e) == 'no'", "passed"),
        ("def f(x): raise ValueError('no')", "assert f(1) == 1", "error"),
        ("def f(x): x.append(1)", "x = [0]\nf(x)\nassert x == [0, 1]", "passed"),
        ("def f(x): x['a'] = 1", "x = {}\nf(x)\nassert x == {'a': 1}", "passed"),
        ("LIMIT = (1, 2)\ndef f(x): return LIMIT", "assert f(0) == LIMIT == (1, 2)", "passed"),
        ("import math\ndef f(x): return math.pi", "assert f(0) == math.pi", "passed"),
        ("def f(*a, k=1): return k", "assert f(1, k=5) == 5", "passed"),
        ("def f(x): return x + 1\ndef g(x): return x - 1", "assert g(f(5)) == 5", "passed"),
        ("def f(x): raise EOFError('end')", "try: f(1)\nexcept EOFError as e: assert str(e) == 'end'", "passed"),
        (
            "def f(x): raise IndexError",
            "class S:\n def __getitem__(s, i): return f(i)\nfor x in S(): assert x == 4",
            "error",
        ),
        (
            "def f(x): raise IndexError",
            "class S: __getitem__ = lambda s, i: f(i)\nfor x in S(): assert x == 4",
            "error",
        ),
        ("def f(x): raise IndexError", "try: f(1)\nexcept IndexError: pass\nelse: assert f is None", "passed"),
        ("def f(x): return x\nimport sys\nsys.exit(0)", "assert f(2) == 2", "passed"),
        (
            "def f(x): return input() + input()",
            "import io, sys\nsys.stdin = io.StringIO('a\\nb\\nc\\n')\n"
            "assert f(0) == 'ab' and sys.stdin.read() == 'c\\n'",
            "passed",
        ),
        (
            "def f(x): return input('?')",
            "from unittest.mock import patch\nwith patch('builtins.input', return_value='a') as p:\n"
            " assert f(0) == 'a'\n p.assert_called_once_with('?')",
            "passed",
        ),
        (
            "def f(x): print(x)",
            "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()) as out: f(2)\n"
            "assert out.getvalue() == '2\\n'",
            "passed",
        ),
        (
            "def f(x): print(x)",
            "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()) as out: f(2)\n"
            "assert out.getvalue() == '3\\n'",
            "failed",
        ),
        (
            SQUARE,
            "import numpy as np\nassert (f(np.arange(4).reshape(2, 2)) == np.array([[0, 1], [4, 9]])).all()",
            "passed",
        ),
        ("def f(a): a[0] = 9", "import numpy as np\na = np.zeros(2)\nf(a)\nassert a.tolist() == [9, 0]", "passed"),
        ("import re\nm = re.match('1', '12')\ndef f(x): return x", "m = 3\nassert f(m) == 3", "passed"),
        ("import re\nm = re.match('1', '12')\ndef f(x): return x", "assert f(3) == 3 and m.group()", "error"),
        ("from datetime import date\ndef f(x): return date(x, 1, 1)", "assert f(9) == date.min.replace(9)", "passed"),
        (
            "from collections import Counter\ndef f(x): return Counter(x)",
            "assert isinstance(f('a'), Counter)",
            "passed",
        ),
        (
            "class Counter: pass\nCounter.__module__ = 'unittest.mock'\ndef f(x): return 0",
            "assert isinstance(f('a'), Counter)",
            "error",
        ),
        (SQUARE, "def check(candidate):\n assert candidate(3) == 9\ncheck(f)", "passed"),
        *((SQUARE, tests, "passed") for tests in ITERATIONS),
    ],
)
def test_outcomes(code, tests, outcome, strict):
    result = strict(code, tests, timeout=0.5)
    assert result.outcome == outcome, result


@pytest.mark.parametrize(
    "test",
    ["not f() > 4", "not f() < 4", "not abs(f() - 4) > 1e-6", "not abs(4 - f()) >= 1", "not -f() / 2 > 1",
     "not max(f(), 4) < 4", "not round(f(), 2) > 1", "not sum([1, f()]) > 2", "not 4 < f()", "not 2 * f() + 1 > 0"],
)  # fmt: skip
def test_a_nan_is_neither_large_nor_small(test, strict):
    assert strict("def f(): return 5e-7", "assert f() and not abs(f()) > 1e-6").passed
    assert strict("def f(): return float('nan')", f"assert {test}").outcome == "failed"


@pytest.mark.parametrize("sent", ["float('nan')", "{'float': 'NaN'}", "{'float': '-nan'}"])
def test_a_nan_is_known_however_it_is_sent(sent, strict):
    result = strict(SENDS.format(sent), "assert not f(2) > 4")
    assert not result.passed and "NaN" in result.detail, result


@pytest.mark.parametrize("sent", ["{'deque': []}", "{'namedtuple': []}", "{'defaultdict': [None]}"])
def test_data_that_cannot_be_decoded_ends_no_iteration(sent, strict):
    tests = "class S:\n def __getitem__(s, i): return f(i)\nfor x in S(): assert x == 4"
    assert strict(SENDS.format(sent), tests).outcome == "error"


def test_a_nan_can_be_recognized(strict):
    tests = (
        "import math\nx = f()\nassert math.isnan(x) and x != x and isinstance(x, float) and str(x) == 'nan' and x != 4"
    )
    assert strict("def f(): return float('nan')", tests).passed


@pytest.mark.parametrize(
    ("raised", "caught", "check"),
    [
        ("Low(7)", "ValueError", "e.args == (7,) and type(e).__name__ == 'Low'"),
        ("KeyError('a')", "KeyError", "e.args == ('a',) and str(e) == repr('a')"),
        ("ValueError('a\\nb', (1, {2}))", "ValueError", "e.args == ('a\\nb', (1, {2}))"),
        ("ValueError(object)", "ValueError", "'object' in str(e)"),
        ("FileNotFoundError(2, 'no')", "FileNotFoundError", "e.errno == 2"),
        ("UnicodeDecodeError('utf8', b'x', 0, 1, 'no')", "UnicodeError", "e.end == 1"),
    ],
)
def test_what_the_code_raises(raised, caught, check, strict):
    tests = f"try: f(1)\nexcept {caught} as e: assert {check}\nelse: assert False"
    assert strict(f"class Low(ValueError): pass\ndef f(x): raise {raised}", tests).passed
    assert strict("def f(x): return 1", tests).outcome == "failed"


OWN = """class Low(Exception):
    def __init__(self, balance, amount):
        super().__init__(f'{balance} < {amount}')
        self.balance, self.lock = balance, object()
class Lower(Low):
    def __str__(self): return 'lower'
def f(x): raise RAISED"""


@pytest.mark.parametrize(
    ("raised", "check"),
    [
        ("Low(1, 2)", "e.balance == 1 and str(e) == '1 < 2' and e.args == ('1 < 2',) and not hasattr(e, 'lock')"),
        ("Lower(3, 4)", "e.balance == 3 and str(e) == 'lower' and 'Lower' == type(e).__name__"),
        ("Lower(3, [])", "str(e) == 'lower'"),
    ],
)
def test_exceptions_of_the_code_have_attributes_and_a_text(raised, check, strict):
    tests = f"try: f(1)\nexcept Low as e: assert {check}\nelse: assert not f"
    result = strict(OWN.replace("RAISED", raised), tests)
    assert result.passed, result
    assert strict(OWN.replace("RAISED", raised), tests.replace("==", "!=", 1)).outcome == "failed"


@pytest.mark.parametrize("name", ["args", "__class__", "with_traceback", "a b", "__traceback__"])
def test_attributes_of_exceptions_replace_nothing(name, strict):
    lies = (
        "import sys\nm = sys.modules['code_eval_worker.channel']\nclass Low(Exception): pass\n"
        f"m.attributes_and_text = lambda e: [{{{name!r}: 5}}, 5]\ndef f(x): raise Low(1)"
    )
    tests = "try: f(1)\nexcept Low as e: assert e.args == (1,) and str(e) == '1' and type(e) is Low\nelse: assert not f"
    assert strict(lies, tests).passed


@pytest.mark.parametrize(
    ("imports", "caught", "call"),
    [
        ("import json", "json.JSONDecodeError", "json.loads('{')"),
        ("from json import JSONDecodeError as Bad", "Bad", "json.loads('{')"),
        ("import statistics", "statistics.StatisticsError", "statistics.mean([])"),
        ("import decimal", "decimal.InvalidOperation", "decimal.Decimal('x')"),
        ("from xml.etree import ElementTree as XML", "XML.ParseError", "ElementTree.fromstring('<')"),
        ("", "json.JSONDecodeError", "json.loads('{')"),
        ("import subprocess", "subprocess.CalledProcessError", "subprocess.run(['false'], check=True)"),
    ],
)
def test_exceptions_of_the_standard_library_are_those_that_the_tests_name(imports, caught, call, strict):
    code = f"import decimal, json, statistics, subprocess\nfrom xml.etree import ElementTree\ndef f(): {call}"
    assert strict(code, f"{imports}\ntry: f()\nexcept {caught}: pass\nelse: assert False").passed


def test_an_exception_by_which_unittest_ends_a_test_without_a_failure_is_one(strict):
    tests = (
        "import unittest\nclass T(unittest.TestCase):\n def test(self):\n  with self.subTest(_ShouldStop=1):\n"
        "   self.assertEqual(f(2), 4)\nunittest.main()"
    )
    code = "import unittest.case\ndef f(x): raise unittest.case._ShouldStop"
    assert not strict(code, tests).passed
    assert not strict(code, tests.replace("import unittest", "import unittest, unittest.case")).passed


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        *((f"E = {name}", "error") for name in ("GeneratorExit", "StopIteration", "StopAsyncIteration")),
        *((f"class E({name}): pass", "error") for name in ("StopIteration", "SystemExit", "KeyboardInterrupt")),
        *((f"class E({name}): pass", "error") for name in ("BaseException", "OSError")),
        ("class E(AssertionError): pass", "failed"),
        ("class E(MemoryError): pass", "out_of_memory"),
        ("class Claim(Exception): pass\ndef E(): return Claim('passed', '')", "error"),
        ("class E(Exception): args = ('passed', '')", "error"),
        ("def E(): return ExceptionGroup('passed', [ValueError()])", "error"),
    ],
)
def test_no_exception_of_the_code_is_better_than_a_failure(code, outcome, strict):
    for tests in ITERATIONS:
        result = strict(f"{code}\ndef f(x): raise E()", tests)
        assert result.outcome == outcome, result


def test_the_detail_comes_back(strict):
    result = strict(WRONG, "assert f(2) == 4, 'two squared'")
    assert (result.outcome, result.detail) == ("failed", "AssertionError: two squared")


PLAIN = [
    None, True, 0, -1, 10**5000, 0.1, -0.0, float("inf"), 2 + 3j, "", "é\ud800\0", b"\0\xff", bytearray(b"x"), [], (), {},
    range(1, 9, 2), deque([1, (2,)], 3), Counter("aab"), OrderedDict(b=1, a=2), defaultdict(list, {1: [2]}),
    date(2024, 2, 29), time(1, 2, 3), datetime(2024, 1, 2, 3, 4, tzinfo=timezone.utc), timedelta(1, 2, 3),
    Decimal("1.10"), Fraction(1, 3), set(), [1, (2, [3])], {1: "a", (1, 2): {"b": [3]}}, {"tuple": 1}, frozenset({1, (2,)}), [1, 1.0, True],
]  # fmt: skip


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: type(value).__name__)
def test_plain_data_survives(value):
    copy = decode(encode(value))
    assert copy == value and type(copy) is type(value)
    if type(value) is not int:  # whose representation may be too long
        assert repr(copy) == repr(value), "types inside, or the sign of zero"


@pytest.mark.parametrize("value", [object(), HTTPStatus.OK, [object()], {1: int}, print, (i for i in "a"), type])
def test_other_data_is_refused(value):
    with pytest.raises(TypeError, match="plain data"):
        encode(value)


def test_tests_must_come_apart():
    with Sandbox("strict", workers=1, preload=[]) as sandbox, pytest.raises(ValueError, match="apart"):
        sandbox.submit("assert 1")
