"""What a failing program says: the assertion and the value instead, and what it is told as if nothing is known."""

import pytest

from code_eval.sandbox import Program, Sandbox
from selfalign.code.feedback import feedback_of, telling

CODE = """
def f(x):
    if x == 9:
        raise ValueError("nine")
    return [x] * 200 if x == 8 else x + 1

class Odd:
    def __repr__(self):
        raise RuntimeError("no words")
"""


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=1, timeout=1.0) as sandbox:
        yield sandbox


@pytest.mark.parametrize(
    ("tests", "said"),
    {
        "a value": ("assert f(1) == 3", "`assert f(1) == 3` fails: its left side is 2"),
        "a truth": ("assert not f(2)", "`assert not f(2)` fails"),
        "an error": ("assert f(9) == 1", "`assert f(9) == 1` raises ValueError: nine"),
        "no such name": ("assert g(2) == 1", "`assert g(2) == 1` raises NameError: name 'g' is not defined"),
        "the first that fails": ("assert f(1) == 2\nassert f(1) == 3", "`assert f(1) == 3` fails: its left side is 2"),
        "in a function": ("def t():\n    assert f(1) == 3\nt()", "`assert f(1) == 3` fails: its left side is 2"),
        "no assertion": ("x = f(9)\nassert x == 1", "The program ends with ValueError: nine"),
        "no words": ("assert Odd() == 1", "`assert Odd() == 1` fails: its left side is <Odd>"),
        "endless": ("assert f(1) == 2\nwhile f(1): pass", "The program does not end: it needs more than 1 s of CPU "),
        "no Python": ("assert f(", "The program is not valid Python: SyntaxError: '(' was never closed"),
        "unittest": (
            "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        self.assertEqual(f(1), 3)\n"
            "unittest.main()",
            "The program ends with AssertionError: 2 != 3",
        ),
    }.values(),
)
def test_what_is_said_of_a_failure(sandbox, tests, said):
    (result,) = sandbox.run([Program(CODE, telling(tests) or tests)])
    assert feedback_of(result.outcome, result.detail).startswith(said)


def test_long_values_and_assertions_fit_into_a_detail(sandbox):
    (result,) = sandbox.run([Program(CODE, telling(f"assert f(8) == {list(range(200))}") or "")])
    said = feedback_of(result.outcome, result.detail)
    assert said.count("...") == 2 and "fails: its left side is [8, 8" in said


@pytest.mark.parametrize("tests", ["try:\n    assert f(9)\nexcept ValueError:\n    x = 1\nassert x == 1"])
def test_what_the_tests_wait_for_is_still_raised(sandbox, tests):
    (result,) = sandbox.run([Program(CODE, telling(tests) or "")])
    assert result.passed, result.detail


def test_what_does_not_parse_tells_nothing():
    assert telling("assert (") is None and feedback_of("error", None) == "The program ends with error"


@pytest.mark.parametrize("end", ["", "import sys\nsys.exit(0)"])
def test_it_is_said_of_code_that_leaves_as_scripts_do_and_of_tests_with_future_imports(sandbox, end):
    tests = telling('"""Tests."""\nfrom __future__ import annotations\nassert f(1) == 3') or ""
    (result,) = sandbox.run([Program(CODE + end, tests)])
    assert feedback_of(result.outcome, result.detail) == "`assert f(1) == 3` fails: its left side is 2"


@pytest.mark.parametrize("tests", ["assert f(", f"assert f(1) == {'+'.join('1' * 1500)}"])
def test_tests_that_cannot_be_changed(tests):
    assert telling(tests) is None
