"""How samples become examples to train on: chats, whose instructions may show some of the tests (paper, C.1), and
preferences, which pair a passing sample with a failing one for training that learns from both."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Sequence
from random import Random
from typing import Any, Literal

from selfalign.code.parsing import compiles, parsed
from selfalign.data.duplicates import plain_code
from selfalign.data.javascript_filters import assertions_alone, failed_filter
from selfalign.data.selection import NO_VERDICT, Rules, Sample
from selfalign.ids import content_id
from selfalign.runner.source import Source

CHAT = [{"role": str, "content": str}]  # the type of a column
# Tests are shown (paper, C.1; the numbers come from the reference implementation) if they consist of assertions only,
# of which the first few are shown, or if the whole program is short. An instruction that already mentions tests or
# gives an example shows none.
MAX_SHOWN_ASSERTIONS = MAX_SHOWN_LINES = 5
SHOWS_ALREADY = re.compile(r"\bassert|\btests?\b|\bfor example\b", re.IGNORECASE)
LINEAGE = ("seed_id", "concepts_id", "category", "difficulty", "repository", "path", "license")
PREFERENCE_COLUMNS = {
    **{name: str for name in ("id", "task_id", "chosen_id", "rejected_id")},
    **{name: CHAT for name in ("prompt", "chosen", "rejected")},
}
SIMILAR_LENGTH = 1.5  # longer by shorter response of a pair, at most, so that a model does not learn from the length

Row = dict[str, Any]
Order = Literal["first", "random", "reference"]  # which assertions are shown; `reference`: random ones in its words


def chat(role: str, content: str) -> list[dict[str, str]]:
    """A chat with one turn."""
    return [{"role": role, "content": content}]


def tests_to_show(
    instruction: str,
    tests: str,
    probability: float,
    draws: Random,
    order: Order = "first",
    language: str = "python",
) -> str | None:
    """The tests that an instruction shows, or None: the draw says no, or it or they do not have a suitable form.

    Of several assertions, a number between 1 and MAX_SHOWN_ASSERTIONS is shown: the first, or else random ones.
    """
    shown, assertions = draws.random() < probability, draws.randint(1, MAX_SHOWN_ASSERTIONS)
    found = (assertions_alone if language == "javascript" else _assertions_alone)(tests)
    if not shown or found is None or SHOWS_ALREADY.search(instruction):
        return None
    text, several = tests.strip(), list(dict.fromkeys(found))  # each once
    if several:
        if order != "first":
            several = draws.sample(several, min(assertions, len(several)))
        text = "\n".join(several[:assertions])
    return text if text and len(text.splitlines()) <= MAX_SHOWN_LINES and "```" not in text else None


def with_tests(instruction: str, shown: str | None, order: Order = "first", language: str = "python") -> str:
    """An instruction and the tests that it shows, if any, in our words or in those of the reference implementation."""
    if not shown:
        return instruction
    if order != "reference":
        return f"{instruction}\n\nThe code has to pass these tests:\n\n```{language}\n{shown}\n```"
    alone = _assertions_alone(shown)
    what = ("assertion" if len(alone) == 1 else "assertions") if alone else "test case"
    return f"{instruction}\n\nYour code should pass the following {what}:\n```{language}\n{shown}\n```"


def _assertions_alone(tests: str) -> list[str] | None:
    """The assertions of tests that have nothing else, [] if they have; None if they are no Python."""
    tree = parsed(tests)
    if tree is None or not compiles(tree):
        return None
    if not all(isinstance(node, ast.Assert) for node in tree.body):
        return []
    lines = tests.split("\n")
    return ["\n".join(lines[node.lineno - 1 : node.end_lineno]) for node in tree.body]


def to_preference(row: Row, failure: Row) -> Row:
    """A preference from a chosen row and a failing one for the same task. The prompt shows no tests, because they would
    be the chosen row's."""
    return {
        "id": content_id(row["id"], failure["id"]),
        "task_id": row["task_id"],
        "chosen_id": row["id"],
        "rejected_id": failure["id"],
        "prompt": chat("user", row["instruction"]),
        "chosen": chat("assistant", row["response"]),
        "rejected": chat("assistant", failure["response"]),
        **{name: row[name] for name in LINEAGE if name in row},
    }


def failures_beside(
    chosen: Sequence[Sample], executions: Source, samples: Sequence[Sample], rules: Rules
) -> dict[str, Row]:
    """The failing samples that are paired with chosen ones that passed: id of the chosen -> row with `id`, `response`.

    Of the task's failures of similar length that pass the format filters and have different code, the one nearest in
    length is taken. Those that match a benchmark are left out afterwards. A sample fails by its own tests, which may be
    wrong.
    """
    pairs = _pairs([sample for sample in chosen if sample.passed], executions, samples, rules)
    rows = executions.read(sorted(pairs.values()), ("id", "response"))
    clean = {position: row for position, row in rows if not rules.contamination(row["response"])}
    return {id: clean[position] for id, position in pairs.items() if position in clean}


def _pairs(successes: Sequence[Sample], executions: Source, samples: Sequence[Sample], rules: Rules) -> dict[str, int]:
    """Id of a success -> position of the failure nearest in length that can be paired with it."""
    ids = {sample.task_id: sample.id for sample in successes}
    columns = ("instruction", "response", "tests", *({"language"} & set(executions.rows.column_names)))
    tasks = {sample.position: sample.task_id for sample in successes}
    lengths: dict[str, int] = {}  # of the responses that passed, by task
    codes: dict[str, str | None] = {}
    for position, row in executions.read(sorted(tasks), columns):
        lengths[tasks[position]], codes[tasks[position]] = len(row["response"]), plain_code(row)

    # The nearest failure of each task first: it usually does, and then the others are not looked at.
    left = _by_distance(lengths, executions, samples, rules)
    pairs: dict[str, int] = {}
    while left:
        tried = {positions[0]: task for task, positions in left.items()}
        for position, row in executions.read(sorted(tried), columns, "preferences"):
            task = tried[position]
            if not failed_filter(row, rules.skip) and plain_code(row) != codes[task]:
                pairs[ids[task]] = position
        left = {task: rest for task, (_, *rest) in left.items() if rest and ids[task] not in pairs}
    return pairs


def _by_distance(
    lengths: dict[str, int], executions: Source, samples: Sequence[Sample], rules: Rules
) -> dict[str, list[int]]:
    """Task -> positions of its failures of similar length to the success, the nearest first, ties by lot."""
    failures = {
        sample.position: sample
        for sample in samples
        if not sample.passed and sample.outcome not in NO_VERDICT and sample.task_id in lengths
    }
    candidates = defaultdict(list)
    for position, row in executions.read(sorted(failures), ["response"], "failures"):
        sample = failures[position]
        short, long = sorted((lengths[sample.task_id], len(row["response"])))
        if long <= SIMILAR_LENGTH * short:
            candidates[sample.task_id].append((long - short, rules.lot(sample.id), position))
    return {task: [position for _, _, position in sorted(some)] for task, some in candidates.items()}
