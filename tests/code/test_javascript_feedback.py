"""What a failing program in JavaScript says: the assertion and the value instead."""

import pytest

from code_eval.sandbox import Program, Sandbox
from selfalign.code.javascript_feedback import feedback_of, telling

CODE = """
const f = (x) => {
  if (x === 9) throw new RangeError("nine");
  return x === 8 ? Array(200).fill(x) : x + 1;
};
const g = async (x) => f(x);
const odd = { get name() { throw 1; }, toString() { throw 2; } };
"""


@pytest.fixture(scope="module")
def said():
    """What is said of tests, and how they ended."""
    with Sandbox(workers=1, timeout=1.0, language="javascript") as sandbox:

        def run(tests):
            (result,) = sandbox.run([Program(CODE, telling(tests) or tests)])
            return feedback_of(result.outcome, result.detail), result

        yield run


@pytest.mark.parametrize(
    ("tests", "expected"),
    {
        "a value": ("assert.equal(f(1), 3);", "`assert.equal(f(1), 3)` fails: its first value is 2"),
        "a truth": ("assert(f(1) === 3)", "`assert(f(1) === 3)` fails"),
        "an error": ("assert.equal(f(9), 1)", "`assert.equal(f(9), 1)` throws RangeError: nine"),
        "no such name": ("assert(h(9))", "`assert(h(9))` throws ReferenceError: h is not defined"),
        "no error": ("assert.throws(() => f(1))", "`assert.throws(() => f(1))` fails"),
        "the first that fails": (
            "assert.equal(f(1), 2);\nassert.equal(f(1), 3);\nassert.equal(f(1), 4);",
            "`assert.equal(f(1), 3)` fails: its first value is 2",
        ),
        "in a loop": (
            "for (const x of [1, 2]) assert.equal(f(x), 2);",
            "`assert.equal(f(x), 2)` fails: its first value is 3",
        ),
        "in a function": (
            "(async () => { assert.strictEqual(await g(1), 5); })();",
            "`assert.strictEqual(await g(1), 5)` fails: its first value is 2",
        ),
        "spaces and lines": (
            "assert.equal('a  b' + f(1),\n  'c');",
            "`assert.equal('a  b' + f(1), 'c')` fails: its first value is 'a  b2'",
        ),
        "destructured": (
            "const { deepEqual } = require('assert');\ndeepEqual([f(1)], [3]);",
            "`deepEqual([f(1)], [3])` fails: its first value is [ 2 ]",
        ),
        "no assertion": ("const x = f(9); assert(x);", "The program ends with RangeError: nine"),
        "no words": ("assert(odd.name)", "`assert(odd.name)` throws 1"),
        "none at all": (
            "assert((() => { throw odd; })())",
            "`assert((() => { throw odd; })())` throws something that has no text",
        ),
        "no JavaScript": ("assert(f(", "The program is not valid JavaScript: SyntaxError"),
    }.values(),
)
def test_what_is_said_of_a_failure(said, tests, expected):
    text, _ = said(tests)
    assert text.startswith(expected) and len(text) <= len(expected) + 60


def test_long_values_and_assertions_fit_into_a_detail(said):
    text, _ = said(f"assert.deepStrictEqual(f(8), {list(range(200))});")
    assert text.count("...") == 2 and "fails: its first value is [ 8, 8" in text


def test_tests_that_pass_still_pass(said):
    tests = "try { assert(f(9)); } catch (e) { assert.equal(e.name, 'RangeError'); }\nassert.throws(() => f(9))"
    _, result = said(f"{tests}\nif (f(1)) assert.equal(f(1), 2); else assert(false)\nawait assert.rejects(g(9))")
    assert result.passed, result.detail
