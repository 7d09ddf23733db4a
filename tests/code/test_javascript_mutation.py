"""Mutants and stubs of JavaScript: programs that differ in one place, and that good tests notice."""

import random

import pytest

from code_eval.sandbox import Program, Sandbox
from selfalign.code.javascript_mutation import OPERATORS, javascript_mutants, javascript_stubbed
from tests.verdicts.javascript import tasks


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=2, language="javascript") as sandbox:
        yield sandbox


@pytest.mark.parametrize(
    ("kind", "code", "changed"),
    [
        ("arithmetic", "const f = (a) => a + 1n;", "a - 1n"),
        ("arithmetic", "function f(a) { a *= 2; }", "a += 2"),
        ("comparison", "const f = (a) => a === 0;", "a !== 0"),
        ("boolean", "const f = (a, b) => a && b;", "a || b"),
        ("boolean", "const f = (a) => !a;", "=> a;"),
        ("condition", "function f(a) { if (a) g(); }", "if (!(a)) g();"),
        ("condition", "const f = (a) => a ? 1 : 2;", "!(a) ? 1 : 2"),
        ("constant", "const f = () => true;", "false"),
        ("constant", "const f = (a) => a === 'x';", 'a === ""'),
        ("constant", "const f = () => 0.5;", "(0.5 + 1)"),
        ("off_by_one", "const f = (a) => a < 0;", "a <= 0"),
        ("off_by_one", "const f = (a, n) => a.slice(0, n);", "a.slice(0, (n) - 1)"),
        ("returned", "function f(a) { return g(a); }", "[typeof v] ?? v)(g(a))"),
        ("deleted", "function f(a) { a.push(1); return a; }", "{ ; return a; }"),
        ("deleted", "function f(a) { if (!a) throw new Error('a'); return a; }", "if (!a) ; return a;"),
    ],
)
def test_kinds_of_change(kind, code, changed):
    found = javascript_mutants(code, 100, random.Random(0))
    assert any(mutant.kind == kind and changed in mutant.code for mutant in found), found
    assert kind in OPERATORS and len({mutant.code for mutant in found} | {code}) == len(found) + 1


@pytest.mark.parametrize(
    "code",
    [
        "const { add } = require('x');",
        "import { add } from 'x';",
        "f(1, 'a');\nif (require.main === module) f(2);",
        "function f() { console.log('words'); }",
        "function f() { 'use strict'; }",
        "const f = (",
    ],
)
def test_what_tests_have_no_reason_to_notice_is_left_alone(code):
    assert not javascript_mutants(code, 100, random.Random(0))


def test_an_empty_value_has_the_type_of_the_real_one(sandbox):
    (mutant,) = [m for m in javascript_mutants("const f = (v) => v;", 9, random.Random(0)) if m.kind == "returned"]
    values = {"7": "0", "'a'": "''", "[1]": "[]", "true": "false", "3n": "0n", "({ a: 1 })": "{}", "null": "null"}
    tests = [f"assert.deepStrictEqual(f({value}), {empty});" for value, empty in values.items()]
    assert sandbox.submit(Program(mutant.code, "\n".join(tests))).result().passed


def test_good_tests_notice_most_mutants_and_every_stub(sandbox):
    """The tests of the 50 tasks are short, so that some mutants pass."""
    rights = [right for right, _ in tasks().values()][:12]
    stubs = [Program(javascript_stubbed(right.code), right.tests) for right in rights]
    assert not [result for result in sandbox.run(stubs) if result.passed]
    mutants = [
        Program(mutant.code, right.tests, timeout=1.0)
        for right in rights
        for mutant in javascript_mutants(right.code, 3, random.Random(0))
    ]
    results = list(sandbox.run(mutants))
    assert len(results) > 25 and sum(not result.passed for result in results) > 0.6 * len(results)
    assert not [result for result in results if result.outcome == "syntax_error"]


@pytest.mark.parametrize(
    ("code", "tests"),
    [
        ("function f(x) { return x; }", "assert(true || f(1));"),
        (
            "class A { #n = 1; constructor(n) { this.#n = n; } get() { return this.#n; } }",
            "assert(new A(2) !== undefined)",
        ),
        ("class A { } class B extends A { constructor() { super(); this.x = 1; } }", "assert(new B() instanceof A)"),
        (
            "const f = ([a, ...b]) => a;\nconst { y } = f([{ y: 1 }]);\nconsole.log(y.z);",
            "assert.equal(f([]), undefined)",
        ),
        ("const rows = [1, 2];\nconst total = rows.map((x) => x * 2);", "assert.notEqual(total, 3)"),
        ("module.exports = { f: (x) => x + 1, limit: 3 };", "assert(module.exports.f)"),
        ("async function* f() { yield 1; }", "for await (const x of f()) assert.equal(x, 1);\nassert(1 === 1)"),
    ],
)
def test_vacuous_tests_pass_with_stubs(code, tests, sandbox):
    result = sandbox.submit(Program(javascript_stubbed(code), tests)).result()
    assert result.passed, (javascript_stubbed(code), result)
