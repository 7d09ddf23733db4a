"""Mutants and stubs as text; what tests make of them in the sandbox is in test_execute.py."""

import ast
import random
import warnings

import pytest

from selfalign.code.mutation import OPERATORS, echoing, mutants, stubbed

CODE = '''
import math

LIMIT = 3


def closest(values: list[float], target: float = 0.5) -> float | None:
    """The value that is nearest."""
    best = None
    for value in values:
        if value is not None and not math.isnan(value):
            if best is None or abs(value - target) < abs(best - target):
                best = value
    values.append(1)
    print("done", 7)
    return best


print(closest([1.0, 2.0]))
'''


def changed(before):
    """What the mutants of `before` have in its place, by kind."""
    return {(kind, text) for kind, text in mutants(before, 100, random.Random(0))}


def function(body):
    return f"def f(a, b):\n    {body}"


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("arithmetic", "return a + b", "return a - b"),
        ("arithmetic", "a *= b", "a += b"),
        ("comparison", "return a == b", "return a != b"),
        ("comparison", "return a in b", "return a not in b"),
        ("boolean", "return a and b", "return a or b"),
        ("boolean", "return not a", "return a"),
        ("condition", "return a if b else None", "return a if not b else None"),
        ("condition", "return [x for x in a if x]", "return [x for x in a if not x]"),
        ("constant", "return True", "return False"),
        ("constant", "return 'text'", "return ''"),
        ("constant", "return 0.5", "return 1.5"),
        ("off_by_one", "return 1", "return 2"),
        ("off_by_one", "return a < b", "return a <= b"),
        ("off_by_one", "return range(a)", "return range(a - 1)"),
        ("off_by_one", "return a[:b]", "return a[:b - 1]"),
        ("returned", "return a", "return type(a)()"),
        ("deleted", "a.append(b)", "pass"),
        ("deleted", "a = a + b", "pass"),
        ("deleted", "a[b] = b", "pass"),
        ("deleted", "raise ValueError(a)", "pass"),
    ],
)
def test_each_operator_makes_its_change(kind, before, after):
    assert (kind, function(after)) in changed(function(before))


@pytest.mark.parametrize(
    "body",
    [
        "'a docstring'",
        "print('for a reader', 1)",
        "import os",
        "c = a",  # without it, what follows would merely raise NameError
        "assert a < 1",
    ],
)
def test_what_tests_have_no_reason_to_see_stays(body):
    assert not changed(function(body))


def test_messages_of_errors_stay_and_joined_strings_are_not_subtracted():
    assert changed(function("raise ValueError('a' + 'b')")) == {("deleted", function("pass"))}
    assert not [text for _, text in changed(function("return 'a' + b")) if "-" in text]


def test_annotations_decorators_and_examples_of_use_stay():
    for _, text in changed(CODE):
        assert "values: list[float], target: float" in text and "print('done', 7)" in text
        assert text.endswith("print(closest([1.0, 2.0]))")


def test_mutants_differ_from_the_program_and_from_each_other():
    texts = [ast.dump(ast.parse(text)) for _, text in mutants(CODE, 100, random.Random(0))]
    assert len({*texts, ast.dump(ast.parse(CODE))}) == len(texts) + 1 > 20


def test_the_draws_decide_which_and_are_spread_over_the_kinds():
    assert mutants(CODE, 5, random.Random("a")) == mutants(CODE, 5, random.Random("a"))
    assert mutants(CODE, 5, random.Random("a")) != mutants(CODE, 5, random.Random("b"))
    assert {mutant.kind for mutant in mutants(CODE, len(OPERATORS), random.Random(0))} == set(OPERATORS)


@pytest.mark.parametrize(
    "code", ["", "def f(:", "x = '\\ud800'\0", "(" * 10_000, "-" * 10_000 + "1", "f'{x!r:>{y}}'", "\ud800"]
)
def test_odd_programs_have_none_and_raise_nothing(code):
    assert isinstance(mutants(code, 10, random.Random(0)), list)


def test_odd_escapes_warn_nobody():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert changed("def f(x):\n    return x + '\\d'")


def test_the_program_is_as_it_was_for_each_mutant():
    lines = function("a += 1\n    return a > b")
    for _, text in changed(lines):
        assert sum(x != y for x, y in zip(text.split("\n"), lines.split("\n"), strict=True)) == 1


# ---- stubs ----


def test_code_that_leaves_as_scripts_do_is_stubbed_as_well():
    names: dict = {"__name__": "program"}
    with pytest.raises(SystemExit):
        exec(stubbed("import sys\ndef f(x): return x\nsys.exit(f(0))"), names)
    assert names["f"](4) is None


POINT = """
class Point:
    unit = 1
    def __init__(self, x): self.x = x
    @property
    def double(self): return 2 * self.x
    @staticmethod
    def origin(): return Point(0)
    @classmethod
    def at(cls, x): return cls(x)
"""
SINGLETON = """
class One:
    one = None
    def __new__(cls):
        cls.one = cls.one or super().__new__(cls)
        return cls.one
"""
SINGLETON_BY_METACLASS = """
class Meta(type):
    def __call__(cls, *arguments):
        return cls
class One(metaclass=Meta): pass
"""
NO_TWO_ALIKE = "One() is not One() and One() != One()"


@pytest.mark.parametrize(
    ("code", "holds"),
    {
        "a function": ("def f(a):\n    return a", "f(1, 2, x=3) is None"),
        "a lambda": ("f = lambda x: x", "f(1) is None"),
        "a cached function": ("import functools\n@functools.lru_cache\ndef f(x):\n    return x", "f(1) is None"),
        "a partial function": ("from functools import partial\nf = partial(lambda a, b: a * b, 2)", "f(3) is None"),
        "a callable of a library": ("import operator\nf = operator.itemgetter(1)", "f([1, 2]) is None"),
        "another's function": ("import math\nf = math.sqrt", "f(4) is None and math.sqrt(4) == 2"),
        "a generator": ("def g():\n    yield 1", "list(g()) == []"),
        "a coroutine": ("import asyncio\nasync def c():\n    return 1", "asyncio.run(c()) is None"),
        "a field": ("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int = 1", "P(1).x is None"),
        "methods": (POINT, "[Point(1).double, Point.origin(), Point.at(2), Point.unit] == [None] * 4"),
        "an attribute": (POINT, "not hasattr(Point(1), 'x')"),
        "a singleton": (SINGLETON, NO_TWO_ALIKE),
        "a singleton by metaclass": (SINGLETON_BY_METACLASS, NO_TWO_ALIKE),
        "a named tuple": ("from collections import namedtuple\nOne = namedtuple('One', '')", NO_TWO_ALIKE),
        "a class of a class": ("class A:\n    class B:\n        def f(self): return 1", "A.B().f() is None"),
        "a class that names itself": ("class A:\n    def f(self): return 1\nA.same = A", "A().f() is None"),
        "a class that is made": (
            "from dataclasses import make_dataclass as make\nP = make('P', ['x'])",
            "'P' not in globals() or not hasattr(P(1), 'x')",  # from Python 3.12 on, it is a class of the program
        ),
        "a class of fields": (
            "from types import SimpleNamespace as Model\nclass P(Model):\n    x: int",
            "not hasattr(P(x=1), 'x')",
        ),
        "an exception stays one": ("class E(ValueError):\n    code: int = 1", "isinstance(E(2), ValueError)"),
        "a computed value": ("def f(): return 1\nRESULT = f()", "'RESULT' not in globals()"),
        "an enumeration": ("import enum\nclass Color(enum.Enum):\n    RED = 1", "'Color' not in globals()"),
        "imports stay": ("import math\nfrom math import gcd", "math.gcd(4, 6) == gcd(4, 6) == 2"),
        "imports under another name stay": (
            "from math import sqrt as f\ntry:\n    import re\nfinally:\n    pass",
            "f(4) == 2",
        ),
        "imported classes stay": ("from collections import Counter", "Counter('aa')['a'] == 2"),
    }.values(),
)
def test_nothing_that_a_program_defines_does_anything(code, holds):
    names = {"__name__": "program"}
    exec(stubbed(code), names)
    assert eval(holds, names)


@pytest.mark.parametrize(
    ("code", "holds"),
    {
        "a function": ("def f(x, y): return y", "f(3, 4) == 3 and f() is None"),
        "methods": (f"{POINT}    def plus(self, x): return self.x + x", "Point(1).plus(7) == Point.at(7) == 7"),
        "a constructor": (POINT, "not hasattr(Point(1), 'x')"),
        "a generator": ("def f(x):\n    yield x", "list(f(3)) == []"),
    }.values(),
)
def test_all_that_a_program_defines_hands_back_what_it_is_given(code, holds):
    names = {"__name__": "program"}
    exec(echoing(code), names)
    assert eval(holds, names)
