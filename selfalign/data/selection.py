"""Which samples become examples: reading them, dropping what repeats another, pairing successes with failures.

All of it depends on ids and texts alone: neither the order of the rows nor the number of shards changes what comes out.
Of a row only what is in `Sample` is held in memory, texts only of rows that are chosen.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from selfalign.runner.source import Source

Row = dict[str, Any]
MANY = 10_000  # rows from which on comparing takes seconds, and a progress bar is shown
NEAR_DUPLICATE = 0.7  # Jaccard similarity of 5-word shingles from which on texts repeat each other (reference)
# Outcomes that say nothing about the response: there is no failure to learn from.
NO_VERDICT = ("no_tests", "sandbox_error")
SIMILAR_LENGTH = 1.5  # of a pair, longer by shorter at most: it should not be the length that is learned from it


class Sample(NamedTuple):
    """What is held of a row: its position, and these columns (None where there is none)."""

    position: int
    id: str
    task_id: str
    passed: bool
    outcome: str | None = None
    vacuous: bool | None = None
    mutation_score: float | None = None


def read_samples(executions: Source) -> tuple[list[Sample], dict[str, int]]:
    """The rows that can be samples, and how many can't: those with an error, or a null where something is needed."""
    kept = [name for name in Sample._fields if name in executions.rows.column_names]
    error = [name for name in ("error",) if name in executions.rows.column_names]
    samples, dropped = [], Counter()
    for position, row in executions.read(None, [*kept, *error, *executions.needs], "reading"):
        null = next((name for name in executions.needs if row[name] is None), None)
        if reason := row.get("error") or (null and f"null_{null}"):
            dropped[reason] += 1
        else:
            samples.append(Sample(position, **{name: row[name] for name in kept}))
    return samples, dict(dropped)


def _names(row: Row) -> Any:
    from selfalign.data.filters import names_of_definitions

    return names_of_definitions(row["response"])


def _code(row: Row) -> str | None:
    from selfalign.code.markdown import python_code
    from selfalign.code.near_duplicates import code_without_comments

    code = python_code(row["response"])
    return code and code_without_comments(code)


def _exactly(column: str) -> Callable[[Row], Any]:
    def key(row: Row) -> bytes:
        from selfalign.code.near_duplicates import exact_key

        return exact_key(row[column])

    return key


# What rows have in common that repeat each other, and the texts of which near-duplicates do: those of the reference
# implementation, in its order. Nothing (None, no names, no code) repeats nothing.
SAME: dict[str, Callable[[Row], Any]] = {
    "same_instruction": _exactly("instruction"),
    "same_response": _exactly("response"),
    "same_names": _names,
}
SIMILAR: dict[str, Callable[[Row], str | None]] = {
    "near_instruction": lambda row: row["instruction"],
    "near_response": lambda row: row["response"],
    "near_code": _code,
}


def repeats(rows: Sequence[Row], lots: Sequence[str], skip: Collection[str] = ()) -> dict[int, tuple[str, int]]:
    """Which of `rows` repeat another: their number -> the rule, and the number of the row that stays for it.

    Args:
        rows: each with `instruction` and `response`.
        lots: one for each row, no two alike: the row with the lowest of a group stays.
        skip: rules of SAME and SIMILAR that are left out.
    """
    from selfalign.code.near_duplicates import near_duplicates

    found: dict[int, tuple[str, int]] = {}
    for rule, what in {**SAME, **SIMILAR}.items():
        compared = [
            (i, text) for i, row in enumerate(rows) if i not in found and rule not in skip and (text := what(row))
        ]
        numbers, my_lots = [i for i, _ in compared], [lots[i] for i, _ in compared]
        if rule in SAME:
            first: dict[Any, tuple[str, int]] = {}
            for (i, key), lot in zip(compared, my_lots, strict=True):
                first[key] = min(first.get(key, (lot, i)), (lot, i))
            stays = [first[key][1] for _, key in compared]
        else:
            progress = rule if len(compared) >= MANY else ""
            groups = near_duplicates([text for _, text in compared], my_lots, NEAR_DUPLICATE, progress)
            stays = [numbers[group] for group in groups]
        found |= {i: (rule, other) for i, other in zip(numbers, stays, strict=True) if other != i}

    def staying(i: int) -> int:
        while i in found:  # what an earlier rule kept, a later one may have dropped
            i = found[i][1]
        return i

    return {i: (rule, staying(other)) for i, (rule, other) in found.items()}


def pairs_with_failures(
    executions: Source,
    samples: Sequence[Sample],
    chosen: Collection[int],
    lot_of: Callable[[str], str],
    skip: Collection[str] = (),
) -> dict[int, int]:
    """For each chosen position that passed, if there is one, the position of a failure at the same task.

    That is the failing sample whose response is nearest in length, among those that pass the format filters, whose code
    is other code, and that are of similar length. A sample fails by its own tests, which may be wrong.

    Args:
        executions: rows with `instruction`, `response` and `tests`.
        samples: of all rows.
        chosen: positions, one for each task.
        lot_of: id -> lot, the lowest of which wins among those that are as near.
        skip: filters that are left out.
    """
    from selfalign.data.filters import failed_filter

    successes = {sample.task_id: sample for sample in samples if sample.position in chosen and sample.passed}
    failures = {
        sample.position: sample
        for sample in samples
        if not sample.passed and sample.outcome not in NO_VERDICT and sample.task_id in successes
    }
    texts = ("instruction", "response", "tests")
    tasks = {sample.position: task for task, sample in successes.items()}
    good: dict[str, tuple[int, str | None]] = {}  # task -> length of the response that passed, and its code
    for position, row in executions.read(sorted(tasks), texts):
        good[tasks[position]] = len(row["response"]), _code(row)
    candidates = defaultdict(list)
    for position, row in executions.read(sorted(failures), ["response"], "failures"):
        sample = failures[position]
        short, long = sorted((good[sample.task_id][0], len(row["response"])))
        if long <= SIMILAR_LENGTH * short:
            candidates[sample.task_id].append((long - short, lot_of(sample.id), position))

    # The nearest one of each task first: as a rule it will do, and the others are not looked into.
    left = {task: [position for _, _, position in sorted(some)] for task, some in candidates.items()}
    pairs: dict[int, int] = {}
    while left:
        tried = {some[0]: task for task, some in left.items()}
        for position, row in executions.read(sorted(tried), texts, "preferences"):
            task = tried[position]
            if not failed_filter(row, skip) and _code(row) != good[task][1]:
                pairs[successes[task].position] = position
        left = {task: some[1:] for task, some in left.items() if successes[task].position not in pairs and some[1:]}
    return pairs


def tasks_of(samples: Sequence[Sample]) -> dict[str, list[int]]:
    """The positions of each task's samples, tasks and samples in the order of their ids."""
    tasks = defaultdict(list)
    for sample in sorted(samples, key=lambda sample: (sample.task_id, sample.id)):
        tasks[sample.task_id].append(sample.position)
    return dict(tasks)
