"""Answers that were cut off within their tests."""

import pytest

from selfalign.code.markdown import javascript_code, python_code
from selfalign.data.cut_off import tests_before_cut as whole_tests

CODE = "Adds.\n\n```python\nf = sum\n```"
LOOP = "for n in range(3):\n    assert f([n]) == n"
CALLED = "def test_f():\n    assert f([1]) == 1\n\ntest_f()"


@pytest.mark.parametrize(
    ("tests", "kept"),
    {
        "in an assertion": ("assert f([1]) == 1\nassert f([1, 2", "assert f([1]) == 1"),
        "in a number": ("assert f([1]) == 1\nassert f([7, 8]) == 1", "assert f([1]) == 1"),
        "in a text": ('assert f([1]) == 1\nassert f([2]) == 2, "two\n\n', "assert f([1]) == 1"),
        "in a bracket": ("assert f([1]) == 1\nassert f([\n1,\n2", "assert f([1]) == 1"),
        "in a function": (f"{CALLED}\n\ndef test_g():\n    assert f(", CALLED),
        "in a loop": (f"{LOOP}\nfor n in range(4):\n    assert f(", LOOP),
        "after a decorator": ("assert f([1]) == 1\n@cached\ndef g():", "assert f([1]) == 1"),
        "in a comment": ("assert f([1]) == 1\n# The empty li", "assert f([1]) == 1"),
        "in the first": ("assert f([1]) == 1", None),
        "before a test": ("import math\nassert f([math.pi]) ==", None),
        "in a test that nothing calls": ("def test_f():\n    assert f([1]) == 1\n\nx = 1", None),
        "at once": ("", None),
    }.values(),
)
def test_what_is_before_the_cut_stays(tests, kept):
    whole = whole_tests(CODE, f"```python\n{tests}", "python")
    assert (whole and python_code(whole).strip()) == kept


def test_blocks_before_the_one_that_is_cut_off_stay():
    tests = "```python\nx = [1]\nassert f(x) == 1\n```\nAnd:\n~~~python\nassert f([]) == 0\nassert f([2"
    assert python_code(whole_tests(CODE, tests, "python")).split("\n") == [
        "x = [1]", "assert f(x) == 1", "", "assert f([]) == 0", "",
    ]  # fmt: skip


@pytest.mark.parametrize("response", [None, "Adds.", CODE[:-4], f"{CODE}\n\n```python\ng ="])
def test_without_whole_code_nothing_is_kept(response):
    assert whole_tests(response, "```python\nassert f([1]) == 1\nassert", "python") is None


@pytest.mark.parametrize(
    "tests", [None, "", "None.", "```python\nassert f([1]) == 1\nassert f(\x00", "```python\n(" * 9]
)
def test_no_text_is_too_odd(tests):
    whole_tests(CODE, tests, "python")


def test_a_long_text_that_does_not_parse_is_given_up_soon():
    """Every line is tried by parsing all that comes before it."""
    assert whole_tests(CODE, "```python\n(\n" + "assert f([1]) == 1\n" * 20_000, "python") is None


def test_javascript():
    code = "```javascript\nconst f = (x) => x;\n```"
    tests = 'test("f", () => {\n  assert.equal(f(1), 1);\n});\ntest("g", () => {\n  assert.eq'
    whole = javascript_code(whole_tests(code, f"```javascript\n{tests}", "javascript"))
    assert whole.strip() == tests[: tests.index('\ntest("g"')]
