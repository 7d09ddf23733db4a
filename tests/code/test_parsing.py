"""Parsing and normalizing code: no text raises or warns."""

import ast
import warnings

import pytest

from selfalign.code.parsing import code_without_comments, compiles, parsed

ODD = [
    *("def f(:", "\x00", "\ud800", "(" * 5000, "-" * 100_000 + "1", "a" + ".b" * 100_000, "if 1:\n" * 200),
    *("x = '\\d'", "f'{x!r:>{y}}'", "assert (x, 1)", "return", "1" * 5000),
]


@pytest.mark.parametrize("code", ODD, ids=range(len(ODD)))
def test_no_code_raises_or_warns(code):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = parsed(code)
        assert not (compiles(code) and tree is None)
        assert isinstance(code_without_comments(code), str)


def test_not_all_code_that_parses_compiles():
    tree = parsed("return 1")
    assert tree and not compiles(tree) and not compiles("return 1") and compiles("x = 1")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x  =  1 # one", "x = 1"),
        ('def f():\n    """Doc."""\n    return 1', "def f():\n\n    return 1  # one"),
        ('class A:\n  "Doc."', "class A:\n    pass"),
        ('"""Module."""\nx = 1', "x = 1\n"),
    ],
)
def test_comments_docstrings_and_format_do_not_count(one, other):
    assert code_without_comments(one) == code_without_comments(other)


def test_strings_that_are_no_docstrings_stay():
    code = "def f():\n    x = 'text'\n    'more'\n    return x"
    assert code_without_comments(code) == ast.unparse(ast.parse(code))
