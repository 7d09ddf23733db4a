"""Runs of the same tasks or seeds side by side: what of each is kept, and what the kept ones are like.

Everything is a ratio of sums over units, which are tasks or seeds. Intervals come from drawing units with replacement,
the same ones for all runs, so that differences are paired. See experiments/compare.py, which reads the runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from selfalign.code.near_duplicates import near_duplicates
from selfalign.data.audit import Score, cell, score_of
from selfalign.data.duplicates import NEAR_DUPLICATE, plain_code
from selfalign.data.languages import branches_of
from selfalign.statistics import RESAMPLES

DRAWN_AT_A_TIME = 10_000_000  # numbers of resamples that are in memory together


class Kept(NamedTuple):
    """A sample that could become an example.

    lines: of its code without comments and docstrings
    branches: of its code; None if it does not parse
    right: whether hidden tests accept it; None if no audit has judged it
    """

    lines: int
    branches: int | None
    right: bool | None = None


@dataclass(frozen=True)
class Task:
    """A task that samples were asked for, or was to be written itself.

    asked, executed, passed: samples that were asked for, that had code and tests, and that passed these
    right, accepting: samples that hidden tests accept, and whose tests accept the benchmark's solution; None without
        an audit
    rate: the share of its judged samples that passed; None if none was judged
    kept: the samples that could become its example
    repeats: whether its instruction nearly repeats that of another task with a kept sample; None if it is not known
    """

    asked: int
    executed: int = 0
    passed: int = 0
    right: int | None = None
    accepting: int | None = None
    rate: float | None = None
    kept: tuple[Kept, ...] = ()
    instruction: str | None = None
    category: str | None = None
    repeats: bool | None = None


class Measure(NamedTuple):
    """A ratio: what a task adds to its numerator and its denominator, which is 0 where nothing is known."""

    of: Callable[[Task], tuple[float, float]]
    is_share: bool = True


Units = Mapping[str, Sequence[Task]]  # the tasks of each unit; a seed may have several


def size_of(row: Mapping[str, Any]) -> Kept:
    """How long the code of a row's response is, and how often it branches."""
    code = plain_code(dict(row)) or ""
    lines = [line for line in code.splitlines() if line.strip()]
    return Kept(len(lines), branches_of(dict(row)), row.get("right"))


def with_repeats(units: Units) -> dict[str, list[Task]]:
    """The tasks, which now know whether their instruction nearly repeats another one of those with a kept sample: all
    but one of each group do."""
    places = [(key, i) for key, tasks in units.items() for i, t in enumerate(tasks) if t.kept and t.instruction]
    texts = [units[key][i].instruction or "" for key, i in places]
    first = near_duplicates(texts, [f"{number:09}" for number in range(len(texts))], NEAR_DUPLICATE)
    repeats = {place: first[number] != number for number, place in enumerate(places)}
    return {
        key: [replace(task, repeats=repeats.get((key, i))) for i, task in enumerate(tasks)]
        for key, tasks in units.items()
    }


def _of_asked(count: Callable[[Task], int | None]) -> Measure:
    """A share of the samples that were asked for."""

    def of(task: Task) -> tuple[float, float]:
        found = count(task)
        return (0.0, 0.0) if found is None else (found, task.asked)

    return Measure(of)


def _of_kept(value: Callable[[Task], float | None]) -> Measure:
    """A share of the tasks with a kept sample, or a mean over them."""

    def of(task: Task) -> tuple[float, float]:
        found = value(task) if task.kept else None
        return (0.0, 0.0) if found is None else (found, 1.0)

    return Measure(of)


def _of_drawn(value: Callable[[Kept], float | None]) -> Measure:
    """The same of the kept sample that select.py draws, any one of those of the task."""

    def mean(task: Task) -> float | None:
        known = [each for each in map(value, task.kept) if each is not None]
        return sum(known) / len(known) if known else None

    return _of_kept(mean)


WHAT_IS_KEPT = {
    "samples with code and tests": _of_asked(lambda task: task.executed),
    "samples that pass": _of_asked(lambda task: task.passed),
    "samples that are right": _of_asked(lambda task: task.right),
    "tests that accept the solution": _of_asked(lambda task: task.accepting),
    "tasks with an instruction": Measure(lambda task: (bool(task.kept), 1)),
    "of these, right": _of_drawn(lambda kept: kept.right),
}
WHAT_THE_KEPT_ARE_LIKE = {
    "pass rate": _of_kept(lambda task: task.rate),
    "lines": _of_drawn(lambda kept: kept.lines)._replace(is_share=False),
    "branches": _of_drawn(lambda kept: kept.branches)._replace(is_share=False),
    "near-duplicates": _of_kept(lambda task: task.repeats),
}


def category_measures(runs: Sequence[Units]) -> dict[str, Measure]:
    """What share of the tasks with a kept sample is of each category, where the tasks have categories."""
    found = sorted({t.category for units in runs for tasks in units.values() for t in tasks if t.kept and t.category})
    return {name: _of_kept(lambda task, name=name: task.category == name if task.category else None) for name in found}


class Beside(NamedTuple):
    """A run's figures, None for what is not known of it, and how they differ from those of the first run."""

    scores: dict[str, Score | None]
    differences: dict[str, Score | None]


def compared(runs: Sequence[Units], measures: Mapping[str, Measure]) -> list[Beside]:
    """The measures of each run over the same units, with 95 % intervals, and their differences from the first run."""
    import numpy as np

    keys = sorted(runs[0])
    sums = [_sums(units, keys, measures) for units in runs]
    draws = _ratios(np.stack(sums))
    found = []
    for run, units in zip(draws, sums, strict=True):
        scores, differences = {}, {}
        for i, (name, measure) in enumerate(measures.items()):
            beside_first = run[:, i] - draws[0][:, i]
            known = (units[:, i, 1] > 0).sum()
            scores[name] = _known(score_of(run[:, i], known if measure.is_share else 0))
            differences[name] = _known(score_of(beside_first))
        found.append(Beside(scores, differences))
    return found


def _sums(units: Units, keys: Sequence[str], measures: Mapping[str, Measure]) -> Any:
    """Numerator and denominator of each measure in each unit, [units, measures, 2]."""
    import numpy as np

    return np.array(
        [[np.sum([measure.of(task) for task in units[key]], axis=0) for measure in measures.values()] for key in keys],
        float,
    )


def _ratios(sums: Any) -> Any:
    """The ratios, [runs, 1 + RESAMPLES, measures], of sums [runs, units, measures, 2]: first those of all units, then
    those of each resample."""
    import numpy as np

    runs, units, measures, _ = sums.shape
    flat = np.moveaxis(sums, 1, 0).reshape(units, -1)
    draws, totals = np.random.default_rng(0), [flat.sum(axis=0, keepdims=True)]
    step = max(1, DRAWN_AT_A_TIME // units)
    for start in range(0, RESAMPLES, step):
        times = draws.multinomial(units, np.full(units, 1 / units), size=min(step, RESAMPLES - start))
        totals.append(times @ flat)
    both = np.concatenate(totals).reshape(-1, runs, measures, 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.moveaxis(both[..., 0] / both[..., 1], 1, 0)


def _known(score: Score) -> Score | None:
    return None if score.value != score.value else score


def table_of(labels: Sequence[str], found: Sequence[Beside], measures: Mapping[str, Measure]) -> str:
    """The figures as a Markdown table, with a line for each run and one below it for its difference from the first.

    Measures that are known of no run are left out. Shares are in percent.
    """
    shown = [name for name in measures if any(run.scores[name] for run in found)]
    lines = [f"| | {' | '.join(shown)} |", "|---|" + "---:|" * len(shown)]
    for number, (label, run) in enumerate(zip(labels, found, strict=True)):
        lines.append(f"| {label} | {' | '.join(_cell(run.scores[name], measures[name]) for name in shown)} |")
        if number:
            cells = " | ".join(_cell(run.differences[name], measures[name], sign="+") for name in shown)
            lines.append(f"| {label} - {labels[0]} | {cells} |")
    return "\n".join(lines)


def _cell(score: Score | None, measure: Measure, sign: str = "") -> str:
    if score is None:
        return "-"
    return cell(score if measure.is_share else Score(*(each / 100 for each in score)), sign)
