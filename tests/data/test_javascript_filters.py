"""The format filters of JavaScript, its duplicates and the tests that it shows; any text can occur."""

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfalign.code.javascript import without_comments
from selfalign.code.javascript_mutation import javascript_mutants, javascript_stubbed
from selfalign.data.duplicates import repeated_rows
from selfalign.data.examples import tests_to_show as shown_tests
from selfalign.data.filters import FILTERS
from selfalign.data.javascript_filters import JAVASCRIPT_FILTERS, failed_filter

CODE = "function add(a, b) {\n  return a + b;\n}"
TESTS = 'const assert = require("assert");\n\nassert.strictEqual(add(1, 2), 3);'


def row(code=CODE, tests=TESTS, words="The sum.", instruction="Write a function that adds."):
    blocks = [f"```javascript\n{text}\n```" for text in (code, tests)]
    return {
        "instruction": instruction,
        "response": f"{words}\n\n{blocks[0]}",
        "tests": blocks[1],
        "language": "javascript",
    }


@pytest.mark.parametrize(
    "good",
    {
        "a function": row(),
        "an arrow": row("const add = (a, b) => a + b;"),
        "a class": row("class Sum {\n  of(a) { return a; }\n}", "if (new Sum().of(1) !== 1) throw new Error('no');"),
        "exported": row("module.exports = { add: (a, b) => a + b };", "assert.equal(module.exports.add(1, 2), 3);"),
        "awaited": row("const add = async (a, b) => a + b;", "assert.equal(await add(1, 2), 3);"),
        "node:test": row(
            tests="const { test } = require('node:test');\ntest('add', () => assert.equal(add(1, 2), 3));"
        ),
        "imported by name": row(tests="const { strictEqual: same } = require('node:assert');\nsame(add(1, 2), 3);"),
        "imported from assert/strict": row(tests="import { equal } from 'assert/strict';\nequal(add(1, 2), 3);"),
        "of the context": row(tests="require('node:test').test('add', (t) => { t.assert.equal(add(1, 2), 3); });"),
        "a to-do list": row("const add = (a, b) => a + b; // with every todo that is open"),
        "a pattern": row("const add = (a, b) => a + b; // numbers such as XXX-XXXX"),
        "console.assert": row(tests="console.assert(add(1, 2) === 3);"),
        "a default": row("const add = (a, { b } = {}) => a + b; // the to-do list", "assert(add(1, { b: 2 }) === 3)"),
    }.values(),
)
def test_good_samples_pass(good):
    assert failed_filter(good) is None


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        (row(code="x" * 60_000), "too_long"),
        (row() | {"response": "```python\ndef add(a, b): return a + b\n```"}, "no_code_block"),
        (row() | {"tests": "none"}, "no_test_block"),
        (row(instruction="word " * 201), "long_instruction"),
        (row("function add(a, b) { return a + ; }"), "does_not_compile"),
        (row("function add(a, b) {\n  // TODO\n  return a + b;\n}"), "unfinished_code"),
        (row("function add(a, b) {\n  // XXX: negative numbers\n  return a + b;\n}"), "unfinished_code"),
        (row("function add(a, b) {\n  // todo: negative numbers\n  return a + b;\n}"), "unfinished_code"),
        (row("function add(a, b) {\n  throw new Error('Not implemented');\n}"), "unfinished_code"),
        (row("function add(a, b) {\n  // adds\n}"), "stub"),
        (row("const add = () => {};"), "stub"),
        (row(tests="console.log(add(1, 2));"), "no_assertion"),
        (row(tests="assert(true); add(1, 2);"), "no_assertion"),
        (row(tests="const check = () => assert(add(1, 2) === 3);"), "tests_not_run"),
        (row(tests="assert.equal(typeof add, 'function');"), "tests_do_not_call"),
        (row(tests="const add = (a) => a;\nassert.equal(add(1), 1);"), "tests_do_not_call"),
    ],
)
def test_bad_samples_are_dropped_by_name(bad, name):
    assert failed_filter(bad) == name and failed_filter(bad, skip=[name]) != name


def test_the_rules_are_those_of_python():
    assert list(JAVASCRIPT_FILTERS) == list(FILTERS)


def test_python_rows_are_judged_as_python():
    assert failed_filter(row() | {"language": "python"}) == "no_code_block"


def test_repeated_code_and_names_are_found_within_a_language():
    rows = [
        row(instruction="Write a sum of two numbers and return it to the caller of the function."),
        row(
            "// Adds.\n" + CODE.replace("  ", "    "),
            words="Here it is, with quite other words.",
            instruction="How much is one thing together with another one? Say it.",
        ),
    ]
    assert repeated_rows(rows, ["a", "b"], skip=("same_names",)) == {1: ("near_code", 0)}
    assert repeated_rows(rows, ["a", "b"]) == {1: ("same_names", 0)}
    python = rows[1] | {"response": "Other.\n\n```python\ndef add(a, b):\n    return b - -a\n```", "language": "python"}
    assert not repeated_rows([rows[0], python], ["a", "b"])


def test_assertions_are_shown():
    draws = random.Random(0)
    assert shown_tests("Add.", TESTS, 1.0, draws, language="javascript") == "assert.strictEqual(add(1, 2), 3);"
    tests = "const x = add(1, 2);\nassert.equal(x, 3);"
    assert shown_tests("Add.", tests, 1.0, draws, language="javascript") == tests
    assert shown_tests("Add.", "assert(", 1.0, draws, language="javascript") is None


SNIPPETS = [
    "=> ",
    "{",
    "}",
    "(",
    ")",
    "`${",
    "class A ",
    "function ",
    "return ",
    "a",
    "=",
    "await ",
    "\n",
    ";",
    "\ud800",
    "'",
]


DEEP = {
    "a pattern": "const " + "[" * 3000 + "a" + "]" * 3000 + " = [];",
    "an object": "const a = " + "{ a: " * 3000 + "1" + " }" * 3000 + ";",
    "functions": "const f = " + "(x) => " * 3000 + "x;",
    "calls": "function f(x) { x = " + "f(" * 3000 + "x" + ")" * 3000 + "; }",
    "blocks": "function f(x) { " + "if (x) { " * 3000 + "return x; " + "}" * 3000 + " }",
}


@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_deep_code_neither_raises_nor_takes_long(text):
    begun = time.process_time()
    failed_filter(row(text, text))
    javascript_stubbed(text)
    javascript_mutants(text, 3, random.Random(0))
    without_comments(text)
    assert time.process_time() - begun < 60  # 1 to 6 s, more where others use the machine's memory, too


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(SNIPPETS), max_size=25).map("".join))
def test_no_text_raises(text):
    one = row(text, text)
    failed_filter(one)
    repeated_rows([one, one], ["a", "b"])
    without_comments(text)
    javascript_stubbed(text)
    javascript_mutants(text, 5, random.Random(0))
