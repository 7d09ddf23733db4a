"""The samples of step 6: what is held in memory of each row of executions.

Texts are read again where they are needed, and only those of the rows concerned.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from selfalign.runner.source import Source


class Sample(NamedTuple):
    """A row's position and some of its columns; None for a column that the input does not have."""

    position: int
    id: str
    task_id: str
    passed: bool
    outcome: str | None = None
    vacuous: bool | None = None
    mutation_score: float | None = None


def read_samples(executions: Source) -> tuple[list[Sample], dict[str, int]]:
    """The rows that can be samples, and why how many cannot be: an error, or a null in a column that is needed."""
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


def tasks_of(samples: Sequence[Sample]) -> dict[str, list[int]]:
    """The positions of each task's samples; both tasks and samples are in the order of their ids."""
    tasks = defaultdict(list)
    for sample in sorted(samples, key=lambda sample: (sample.task_id, sample.id)):
        tasks[sample.task_id].append(sample.position)
    return dict(tasks)
