"""Consensus for JavaScript: inputs out of its tests, which outputs are the same, and tests that state them."""

import asyncio
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from code_eval.sandbox import Sandbox
from selfalign.data.agreement import result_in
from selfalign.data.consensus import agreed_tests, consensus_of, marks_of
from selfalign.data.dialects import JAVASCRIPT
from selfalign.data.inputs import Input, inputs_of
from selfalign.data.javascript_inputs import definitions_in, inputs_in
from selfalign.data.javascript_observing import is_literal, stating


@pytest.fixture(scope="module")
def run():
    """Runs a program in a real sandbox."""
    with Sandbox(workers=1, timeout=5.0, language="javascript") as sandbox:
        yield partial(result_in, sandbox)


def calls(tests):
    return [(each.setup, each.call, each.claimed) for each in inputs_in(tests, {"f", "S"})]


CASES = "const cases = [[1, 2], [3, 4]];"
STACK = "const s = new S();\ns.push(1);"


@pytest.mark.parametrize(
    ("tests", "expected"),
    [
        ("assert.deepStrictEqual(f(1,[2]), {a: 1})", [("", "f(1, [2])", "{ a: 1 }")]),
        ("const { equal } = require('assert');\nequal(2, f('a'))", [("", 'f("a")', "2")]),
        ("assert.equal(f(1), 'a'); assert.equal(f(2), `b`)", [("", "f(1)", '"a"'), ("", "f(2)", "`b`")]),
        ("assert(f(1) === 2); assert(!f(2), 'x')", [("", "f(1)", "2"), ("", "f(2)", "false")]),
        ("assert.ok(Object.is(f(1), -0)); assert(f(2))", [("", "f(1)", "-0"), ("", "f(2)", "true")]),
        ("assert.notStrictEqual(f(1), 2)", [("", "f(1)", None)]),
        ("assert.throws(() => f(1), Error)", [("", "() => f(1)", "true")]),
        ("await assert.rejects(f(1)); assert.rejects(() => f(2))", [
            ("", "async () => f(1)", "true"), ("", "async () => f(2)", "true"),
        ]),
        ("expect(f(1)).toBe(2); expect(f(2)).to.deep.equal([1])", [("", "f(1)", "2"), ("", "f(2)", "[1]")]),
        ("expect(() => f(1)).toThrow(); expect(f(2)).not.toBe(3)", [("", "() => f(1)", "true"), ("", "f(2)", None)]),
        ("const s = new S()\ns.push(1)\nassert.equal(s.pop(), 1); assert.equal(s.size, 0)", [
            (STACK, "s.pop()", "1"), (f"{STACK}\ns.pop();", "s.size", "0"),
        ]),
        ("const x = [1], y = 2;\nconst z = 3;\nassert.equal(f(x), 2)", [("const x = [1], y = 2;", "f(x)", "2")]),
        ("const { f } = require('./f'); const x = 1; assert.equal(f(x), 2)", [("const x = 1;", "f(x)", "2")]),
        ("function f(x) { return 2; }\nconst r = f(1); assert.equal(r, 2)", [("const r = f(1);", "r", "2")]),
        ("assert(same(f(1), 2));\nfunction same(a, b) { return a == b; }", [
            ("function same(a, b) { return a == b; }", "same(f(1), 2)", "true"),
        ]),
        ("(async () => { assert.equal(await f(1), 2); })();", [("", "await f(1)", "2")]),
        ("f(1).then((r) => assert.equal(r, 2));", [("const r = await f(1);", "r", "2")]),
        ("describe('f', () => { it('adds', () => { assert.equal(f(1), 2); }); });", [("", "f(1)", "2")]),
        ("function testIt() { assert.equal(f(1), 2); }\ntestIt();", [("", "f(1)", "2")]),
        ("try { assert.equal(f(1), 2); } catch (e) { console.log(e); }", [("", "f(1)", "2")]),
        ("for (const x of [1, -2]) assert.equal(f(x), 2)", [
            ("const x = 1;", "f(x)", "2"), ("const x = -2;", "f(x)", "2"),
        ]),
        ("const cases = [[1, 2], [3, 4]];\nfor (const [x, y] of cases) { assert.equal(f(x), y); }", [
            (f"{CASES}\nconst [x, y] = cases[0];", "f(x)", "y"), (f"{CASES}\nconst [x, y] = cases[1];", "f(x)", "y"),
        ]),
        ("[{ x: 1 }].forEach(({ x, y = 2 }, i) => { const r = f(x); assert.equal(r, y); });", [
            ("const { x, y = 2 } = { x: 1 };\nconst r = f(x);", "r", "y"),
        ]),
        ("describe('f', () => { [1].forEach((x) => { it(`f ${x}`, () => { assert.equal(f(x), 2); }); }); });", [
            ("const x = 1;", "f(x)", "2"),
        ]),
        ("for (const x of [1, ...y]) assert.equal(f(x), 2)", []),
        ("for (const x of [1]) for (const y of [1]) for (const z of [1]) assert.equal(f(x, y, z), 2)", []),
        ("for (const x in [1]) assert.equal(f(x), 2)", []),
        ("for (let x = 1; x < 2; x++) assert.equal(f(x), 2)", []),
        ("assert.equal(typeof f, 'function'); assert(f); assert.equal(f.length, 1)", []),
        ("assert.equal(g(1), 2)", []),
        ("assert.equal(f(1),", []),
    ],
)  # fmt: skip
def test_the_inputs_of_tests(tests, expected):
    assert calls(tests) == expected


def test_calls_that_differ_in_quotes_and_spaces_are_one_input():
    suites = ["assert.equal(f('a',{b:[1,2]}), 1)", 'assert.equal(f("a", { b: [ 1, 2 ] }), 1)']
    assert len(inputs_of([list(inputs_in(tests, {"f"})) for tests in suites])) == 1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from([*"(){}.,;=[]`'x", "assert.equal", "f(1)", "=>", "then", "await", "test", "function"])))
def test_any_text_has_inputs(words):
    calls(" ".join(words))


def test_deep_nesting_has_no_inputs():
    assert calls("{" * 5000 + "assert(f(1))" + "}" * 5000) == []


def test_definitions():
    code = "const f = (x) => x, g = 1;\nclass S {}\nasync function h() {}\nfunction* i() {}"
    assert definitions_in(code) == {"f", "S", "h", "i"} and definitions_in("function (") == set()


SAME = [
    ("NaN", "0 / 0"),
    ("0.1 + 0.2", "0.3"),
    ("{ a: 1, b: [2] }", "{ b: [2], a: 1 }"),
    ("new Set([1, 2])", "new Set([2, 1])"),
    ("new Map([[{ a: 1 }, 1], ['b', 2]])", "new Map([['b', 2], [{ a: 1 }, 1]])"),
    ("10n", "5n * 2n"),
    ("'\\ud800'", "'\\ud800'"),
    ("new Date(5)", "new Date(5)"),
]
DIFFERENT = [
    ("0", "-0"),
    ("null", "undefined"),
    ("1", "1n"),
    ("1", "true"),
    ("'1'", "1"),
    ("[1, 2]", "new Set([1, 2])"),
    ("{}", "Object.create(null)"),
    ("[0.1 + 0.2]", "[0.3]"),  # no test could state both
    ("{ a: undefined }", "{}"),
]
NOT_PLAIN = [
    "() => 1",
    "Symbol.iterator",
    "new (class A {})()",
    "new Error('a')",
    "[, 1]",
    "'a'.match(/a/)",
    "Promise.resolve(1)",
    "Promise.reject(new Error('a'))",
    "((a) => { a.push(a); return a; })([])",
    "JSON.parse('{\"__proto__\": 1}')",
]


def test_which_outputs_are_the_same(run):
    """As assert.deepStrictEqual says; what is no plain value equals nothing."""
    values = [value for pair in SAME + DIFFERENT for value in pair] + NOT_PLAIN
    ((*marks,),) = [asyncio.run(marks_in_turn(values, run))]
    pairs = list(zip(marks[::2], marks[1::2], strict=False))
    assert all(a is not None and a == b for a, b in pairs[: len(SAME)])
    assert all(a is not None and b is not None and a != b for a, b in pairs[len(SAME) : len(SAME + DIFFERENT)])
    assert marks[-len(NOT_PLAIN) :] == [None] * len(NOT_PLAIN)


async def marks_in_turn(values, run):
    """The marks of expressions, as many at a time as a program can tell of."""
    marks = []
    for start in range(0, len(values), 20):
        inputs = [Input("", f"f(({value}))") for value in values[start : start + 20]]
        (some,) = await marks_of(["const f = (x) => x;"], inputs, run, JAVASCRIPT)
        marks += some
    return marks


def test_an_exception_is_an_output_where_a_test_asks_for_one(run):
    code = "const f = (x) => { throw new RangeError(x); };\nconst g = async (x) => { throw new Error(x); };"
    sync, waiting = (Input("", call, None, True) for call in ("() => f(1)", "async () => g(1)"))
    left = [Input("", "() => g(1)", None, True), Input("", "() => 1", None, True)]  # they throw nothing
    none = [Input("", "f(1)"), Input("", "() => unknown(1)", None, True)]
    (marks,) = asyncio.run(marks_of([code], [sync, waiting, *left, *none], run, JAVASCRIPT))
    assert marks[0] == marks[1] != marks[2] == marks[3] is not None and marks[4:] == [None, None]


STATED = {
    "2": "assert.strictEqual(f(2), 2);",
    "-0": "assert.strictEqual(f(-0), -0);",
    "NaN": "assert.strictEqual(f(NaN), NaN);",
    "'a  b\\n\\u2028\\u{1f600} é'": 'assert.strictEqual(f({}), "a\\x20 b\\n\\u{{2028}}\\u{{1f600}} é");',
    "[{ 'b c': undefined, a: 5n }]": 'assert.deepStrictEqual(f({}), [{{ "b c": undefined, a: 5n }}]);',
    "new Map([[1, new Set(['b', 'a'])]])": 'assert.deepStrictEqual(f({}), new Map([[1, new Set(["b", "a"])]]));',
    "-12.5 - 0.01": "assert(Math.abs(f({}) + 12.51) < 1e-6);",
}


def test_the_kept_tests_state_the_outputs_and_hold(run):
    code, inputs = "const f = (x) => x;", [Input("", f"f({value})") for value in STATED]
    marks = [str(number) for number in range(len(inputs))]
    first, rest = (asyncio.run(agreed_tests(code, some, own, own, run, JAVASCRIPT)) for some, own in (
        (inputs[:4], marks[:4]), (inputs[4:], marks[4:])))  # fmt: skip
    assert first + rest == [test.format(value) for value, test in STATED.items()]
    assert asyncio.run(run(code, JAVASCRIPT.joined(first + rest))).passed


@pytest.mark.parametrize("text", ["f()", "a", "[1, g]", "`a`", "1;", "1 /* one */", "new Foo()", "{ get a() {} }", ""])
def test_what_a_program_only_says_is_its_output_is_not_stated(text):
    assert not is_literal(text)


def test_statements_before_a_call_stand_in_a_block_with_it():
    each = Input("const s = new S();\ns.push(1);", "s.pop()")
    assert stating(each, "1") == "{\n  const s = new S();\n  s.push(1);\n  assert.strictEqual(s.pop(), 1);\n}"
    assert "\n two`" in stating(Input("const t = `one\n two`;", "f(t)"), "1")


RIGHT, ALSO_RIGHT = "const f = async (x) => x * x;", "async function f(x) {\n  return x ** 2;\n}"
WRONG, WORSE = "const f = async (x) => x + x;", "const f = (x) => { throw new Error('no'); };"
CLAIMS = "assert.strictEqual(await f(3), 9);\nawait assert.rejects(async () => f(4));"


def test_most_samples_decide_and_assertions_of_others_count_if_asked_for(run):
    programs = [(WRONG, CLAIMS), (WRONG, CLAIMS), (RIGHT, "assert.equal(await f(5), 25)"), (ALSO_RIGHT, CLAIMS)]
    counted = asyncio.run(consensus_of(programs, run, assertions=True, dialect=JAVASCRIPT))
    assert counted.passed == [False, False, True, True]
    assert counted.tests == ["assert.strictEqual(await f(3), 9);", "assert.strictEqual(await f(5), 25);"]
    plain = asyncio.run(consensus_of([*programs, (WRONG, "")], run, dialect=JAVASCRIPT))
    assert plain.passed == [True, True, False, False, True] and "assert.strictEqual(await f(3), 6);" in plain.tests


@pytest.mark.parametrize(
    "claims",
    [
        "const r = await f(3);\nassert.strictEqual(r, 9);\nconst want = [16];\nassert.deepEqual([await f(4)], want);",
        "const cases = [[3, 9], [4, 16]];\nfor (const [x, y] of cases) assert.strictEqual(await f(x), y);",
    ],
)
def test_what_is_claimed_counts_without_the_code_that_it_is_about(claims, run):
    programs = [(WRONG, claims), (WRONG, claims), (RIGHT, claims), (ALSO_RIGHT, claims)]
    counted = asyncio.run(consensus_of(programs, run, assertions=True, dialect=JAVASCRIPT))
    assert counted.support == [1 / 6, 1 / 6, 2 / 3, 2 / 3] and counted.passed == [False, False, True, True]


def test_one_sample_alone_and_broken_ones_agree_with_nobody(run):
    agreed = asyncio.run(consensus_of([(RIGHT, CLAIMS), (WORSE, CLAIMS), ("(", "(")], run, dialect=JAVASCRIPT))
    assert agreed.tests == [] and not any(agreed.passed)
