"""Repairs: which failures are mended, what an answer is split into, and which answers are not worth running."""

import pytest

from selfalign.data.conversations import conversation_of
from selfalign.data.repairs import failures_of, fault_of_repair, is_hard_coded, split_answer
from selfalign.data.selection import Sample

BLOCK = "```python\nx = 1\n```"


@pytest.mark.parametrize(
    ("completion", "parts"),
    {
        "whole": (f"It is wrong.\n\n{BLOCK}\n", ("It is wrong.", BLOCK, None)),
        "with a heading": (f"It is wrong.\n\n### Corrected code\n{BLOCK}", ("It is wrong.", BLOCK, None)),
        "no explanation": (BLOCK, (None, BLOCK, "no_explanation")),
        "no code": ("It is wrong.", ("It is wrong.", None, "no_code")),
        "cut off": ("It is wrong.\n```python\nx =", ("It is wrong.", None, "unfinished")),
        "nothing": ("", (None, None, "no_code")),
        "words after it": (f"Wrong.\n{BLOCK}\nNow it works.", ("Wrong.", BLOCK, None)),
    }.values(),
)
def test_answers_are_split(completion, parts):
    assert split_answer(completion) == parts


ATTEMPT = "def f(n):\n    return n + 1"
TESTS = "assert f(7) == 13\nassert f(9) == 34\nassert f(0) == 0"
CHEATS = {
    "branches": "def f(n):\n    if n == 7:\n        return 13\n    if n == 9:\n        return 34\n    return n",
    "a table": "def f(n):\n    return {7: 13, 9: 34}.get(n, 0)",
    "two lists": "def f(n):\n    return [13, 34, 0][[7, 9, 0].index(n)]",
}
HONEST = {
    "a loop": "def f(n):\n    a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    return a",
    "a base case": "def f(n):\n    if n == 0:\n        return 0\n    return f(n - 1) + 2",
    "one number of a test": "def f(n):\n    return n * 7 % 13",
}


@pytest.mark.parametrize("mended", CHEATS.values(), ids=CHEATS)
def test_code_that_holds_the_answers_is_found(mended):
    assert is_hard_coded(ATTEMPT, mended, TESTS) and fault_of_repair(ATTEMPT, mended, TESTS) == "hard_coded"


@pytest.mark.parametrize("mended", HONEST.values(), ids=HONEST)
def test_code_that_computes_is_not(mended):
    assert fault_of_repair(ATTEMPT, mended, TESTS) is None


def test_a_table_that_the_attempt_had_is_not_a_cheat():
    attempt = "DAYS = {'may': 31, 'june': 30}\ndef days(month):\n    return DAYS[month]"
    tests = "assert days('may') == 31\nassert days('june') == 30\nassert days('June') == 30"
    assert not is_hard_coded(attempt, attempt.replace("[month]", "[month.lower()]"), tests)


JAVASCRIPT = "const f = (n) => n + 1;"
CLAIMS = "assert.strictEqual(f('a'), 13);\nassert.deepStrictEqual(f(9), [3, 4]);\nassert(f(0) === 0);"


@pytest.mark.parametrize(
    ("mended", "fault"),
    [
        ("const f = (n) => ({ a: 13, 9: [3,4] })[n] ?? 0;", None),  # names of properties are no literals
        ('const f = (n) => (n === "a" ? 13 : n === 9 ? [3,4] : 0);', "hard_coded"),
        ("const f = (n) => new Map([['a', 13], [9, [3, 4]]]).get(n);", "hard_coded"),
        ("const f = (n) => n * 9 + 13;", None),
        ("// mended\nconst f = (n) => n + 1;", "unchanged"),
        ("const f = (", None),
    ],
)
def test_javascript_is_read_as_such(mended, fault):
    assert fault_of_repair(JAVASCRIPT, mended, CLAIMS, "javascript") == fault
    block = f"```javascript\n{mended}\n```"
    assert split_answer(f"Wrong.\n\n{block.replace('javascript', 'js')}", "javascript") == ("Wrong.", block, None)


def test_the_attempt_with_another_comment_is_no_repair():
    assert fault_of_repair(ATTEMPT, f"# mended\n{ATTEMPT}", TESTS) == "unchanged"


OUTCOMES = ["passed", "failed", "error", "cpu_limit", "timeout", "syntax_error", "no_tests", "sandbox_error", "failed"]
SAMPLES = [Sample(n, f"s{n}", "t", outcome == "passed", outcome) for n, outcome in enumerate(OUTCOMES)]


def test_failures_are_chosen_by_what_they_are():
    def chosen(*names):
        return [sample.outcome for sample in failures_of(SAMPLES, names, None, 0)[0]]

    assert chosen("failed") == ["failed", "failed"]
    assert chosen("timeout") == ["cpu_limit", "timeout"]
    assert chosen("error") == ["error", "syntax_error"]
    _, left_out = failures_of(SAMPLES, ["failed"], 1, 0)
    assert left_out == {"passed": 1, "without_verdict": 2, "other_failures": 4, "not_drawn": 1}


def test_some_of_a_tasks_failures_are_drawn_whatever_their_order():
    (drawn,), _ = failures_of(SAMPLES, ["failed"], 1, 0)
    (again,), _ = failures_of(SAMPLES[::-1], ["failed"], 1, 0)
    assert drawn == again


def test_a_repair_is_a_conversation_that_ends_with_the_mended_code():
    row = {"attempt": "a", "feedback": "it fails", "explanation": "why", "response": BLOCK}
    turns = conversation_of(row, "Do it.")
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user", "assistant"]
    assert turns[0]["content"] == "Do it." and turns[1]["content"] == "a" and "it fails" in turns[2]["content"]
    assert turns[3]["content"] == f"why\n\n{BLOCK}"
