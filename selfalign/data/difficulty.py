"""Which rows a next round begins with: rather those whose tasks the model solves sometimes.

A task that is always solved teaches nothing new, and neither does one that is never solved. The spread of a verdict
that is true with probability p is sqrt(p (1 - p)), highest at one half: rows are drawn with this weight. None has less
than a floor, so that no row is left out for ever because its first task was too hard.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from selfalign.data.selection import NO_VERDICT
from selfalign.ids import draws_of

FLOOR = 0.2  # of the highest weight
UNKNOWN = 1.0  # weight of a row without a task yet: as that of one that is solved half of the time


@dataclass
class Solved:
    """How often the tasks that were made from a row were solved."""

    passed: int = 0
    judged: int = 0

    @property
    def rate(self) -> float | None:
        return self.passed / self.judged if self.judged else None


def solved_by(executions: Iterable[dict[str, Any]], column: str) -> dict[str, Solved]:
    """What became of the samples that go back to each row, by the row's id, which `column` holds.

    Args:
        executions: rows with `column`, `passed` and `outcome`; those without a verdict do not count.
    """
    found: dict[str, Solved] = {}
    for row in executions:
        if row["outcome"] not in NO_VERDICT:
            solved = found.setdefault(row[column], Solved())
            solved.judged += 1
            solved.passed += row["passed"]
    return found


def weight_of(rate: float | None, floor: float = FLOOR) -> float:
    """The weight of a row whose tasks were solved at this rate, from `floor` to 1; UNKNOWN if none was tried."""
    return UNKNOWN if rate is None else max(floor, 2 * (rate * (1 - rate)) ** 0.5)


def draw_by_weight(ids: Sequence[str], weights: Mapping[str, float], count: int, seed: int) -> list[int]:
    """The positions of `count` of `ids`, drawn without replacement with these weights, ascending.

    Each row's lot depends on the seed and its id alone (Efraimidis and Spirakis 2006: the largest u^(1/w) are drawn).
    """
    lots = [draws_of(seed, id).random() ** (1 / weights[id]) for id in ids]
    ordered = sorted(range(len(ids)), key=lambda position: (lots[position], ids[position]), reverse=True)
    return sorted(ordered[:count])
