"""Preferences: examples paired with failures at the same task, for training that learns from both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from selfalign.data.duplicates import plain_code
from selfalign.data.examples import CHAT, chat
from selfalign.data.filters import failed_filter
from selfalign.data.selection import Rules, Sample
from selfalign.ids import content_id
from selfalign.runner.source import Source

LINEAGE = ("seed_id", "concepts_id", "category", "difficulty", "repository", "path", "license")
PREFERENCE_COLUMNS = {
    **{name: str for name in ("id", "task_id", "chosen_id", "rejected_id")},
    **{name: CHAT for name in ("prompt", "chosen", "rejected")},
}
NO_VERDICT = ("no_tests", "sandbox_error")  # outcomes that say nothing about the response
SIMILAR_LENGTH = 1.5  # longer by shorter response of a pair, at most: length should not be what is learned from it

Row = dict[str, Any]


def to_preference(row: Row, failure: Row) -> Row:
    """A chosen row and a failure at its task as a preference. The prompt shows no tests: they belong to the chosen
    row."""
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
    """The failure that goes with each chosen sample that passed, if there is one: id of the sample -> `id` and
    `response` of the failure.

    It is the failing sample of the task whose response is nearest in length, among those of similar length that pass
    the format filters and whose code is different. Those of benchmarks are left out afterwards. A sample fails by its
    own tests, which may be wrong.
    """
    pairs = _pairs([sample for sample in chosen if sample.passed], executions, samples, rules)
    rows = executions.read(sorted(pairs.values()), ("id", "response"))
    clean = {position: row for position, row in rows if not rules.contamination(row["response"])}
    return {id: clean[position] for id, position in pairs.items() if position in clean}


def _pairs(successes: Sequence[Sample], executions: Source, samples: Sequence[Sample], rules: Rules) -> dict[str, int]:
    """Id of a success -> position of the failure nearest in length that can be paired with it."""
    ids = {sample.task_id: sample.id for sample in successes}
    columns = ("instruction", "response", "tests")
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
