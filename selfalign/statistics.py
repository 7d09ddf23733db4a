"""Scores with their uncertainty: pass@k, bootstrap over problems or tasks, and paired bootstrap of two models."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

Row = dict[str, Any]
PASS_AT = (1, 10, 100)
RESAMPLES = 10_000
RESAMPLES_OF_ROWS = 1000  # of scores that are computed anew from the rows of each resample
CONFIDENCE = 0.95
DEVIATIONS = 1.96  # standard deviations, of as much of a normal distribution


def summarize(
    rows: Sequence[Row], further_scores: Callable[[list[Row]], Mapping[str, float]] | None = None
) -> dict[str, Any]:
    """The scores of `rows`, which have `task_id`, `passed` and `outcome`, as results.json has them.

    `further_scores` gives scores besides pass@k, from the rows of the problems that a resample has drawn.
    """
    of_task: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        of_task[row["task_id"]].append(row)
    counts = [(len(samples), sum(row["passed"] for row in samples)) for samples in of_task.values()]
    scores: dict[str, float] = {}
    intervals: dict[str, list[float]] = {}
    for k in (k for k in PASS_AT if k <= min(n for n, _ in counts)):
        estimates = [pass_at_k(n, c, k) for n, c in counts]
        scores[f"pass@{k}"] = sum(estimates) / len(estimates)
        intervals[f"pass@{k}"] = bootstrap_interval(estimates)
    if further_scores and (further := further_scores(list(rows))):
        scores |= further
        intervals |= _intervals_of(further_scores, further, list(of_task.values()))
    return {
        "scores": scores,
        "intervals": intervals,
        "by_problem": {task: c / n for task, (n, c) in zip(of_task, counts, strict=True)},
        "problems": len(of_task),
        "samples": len(rows),
        "passed": sum(row["passed"] for row in rows),
        "outcomes": dict(Counter(row["outcome"] for row in rows).most_common()),
    }


def _intervals_of(
    scores_of: Callable[[list[Row]], Mapping[str, float]], scores: Mapping[str, float], tasks: list[list[Row]]
) -> dict[str, list[float]]:
    """The intervals of `scores`, which `scores_of` computed from the rows of `tasks`, by bootstrap over tasks.

    Where all tasks that a score is about were solved or none was, the interval is Wilson's, as in bootstrap_interval.
    """
    intervals = bootstrap(lambda drawn: scores_of([row for position in drawn for row in tasks[position]]), len(tasks))
    if same := [name for name, score in scores.items() if intervals[name] == [score, score] and score in (0, 1)]:
        about = Counter(name for rows in tasks for name in scores_of(rows))
        intervals |= {name: list(wilson_interval(int(scores[name]) * about[name], about[name])) for name in same}
    return intervals


def mean_over_trainings(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The results.json files of several trainings of one system on a benchmark, as one.

    Each problem counts with the mean of the trainings, and the interval of pass@1 is that over problems: how much the
    trainings differ is not in it, but in `trainings`, which has the pass@1 of each.
    """
    problems = set.intersection(*(set(result["by_problem"]) for result in results))
    mean = {task: sum(result["by_problem"][task] for result in results) / len(results) for task in sorted(problems)}
    names = [name for name in results[0]["scores"] if all(name in result["scores"] for result in results)]
    return {
        **results[0],
        "scores": {name: sum(result["scores"][name] for result in results) / len(results) for name in names},
        "intervals": {"pass@1": bootstrap_interval(list(mean.values()))},
        "by_problem": mean,
        "trainings": [result["scores"]["pass@1"] for result in results],
    }


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """The unbiased estimate of pass@k from `samples` answers of which `correct` pass (arXiv:2107.03374)."""
    import numpy as np

    if samples - correct < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(samples - correct + 1, samples + 1)))


def bootstrap_interval(values: Sequence[float]) -> list[float]:
    """The 95 % interval of the mean of `values`, one for each problem, from problems drawn with replacement.

    Where all problems were solved or none was, resamples don't differ, and the interval is Wilson's.
    """
    if all(value in (0, 1) for value in values) and sum(values) in (0, len(values)):
        return list(wilson_interval(int(sum(values)), len(values)))
    return interval_of(_means(values, 0, RESAMPLES))


def interval_over_tasks(values: Mapping[str, Sequence[float]]) -> list[float]:
    """The 95 % interval of the mean of all values, each a sample's and from 0 to 1, from tasks drawn with all samples:
    those of a task are alike, so that many samples of few tasks say little, and those of one nothing of others. Where
    all are 0 or all 1, it is Wilson's, of tasks.
    """
    return interval_over_counts([sum(some) for some in values.values()], [len(some) for some in values.values()])


def interval_over_counts(passed: Sequence[float], samples: Sequence[int]) -> list[float]:
    """What `interval_over_tasks` returns, of how many `samples` each task has and how many of them `passed`."""
    import numpy as np

    totals, counts = np.array(passed, float), np.array(samples, float)
    if (same := totals.sum() / counts.sum()) in (0, 1):
        return list(wilson_interval(int(same) * len(counts), len(counts)))
    if len(counts) == 1:
        return [0.0, 1.0]
    return interval_of([totals[drawn].sum() / counts[drawn].sum() for drawn in _resamples(len(counts))])


def wilson_interval(passed: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share, by Wilson's formula (1927), which also holds for few samples."""
    z2 = DEVIATIONS**2
    middle = (passed + z2 / 2) / (total + z2)
    spread = DEVIATIONS / (total + z2) * (passed * (total - passed) / total + z2 / 4) ** 0.5
    return max(0.0, middle - spread), min(1.0, middle + spread)


def bootstrap(statistic: Callable[[list[int]], Mapping[str, float]], problems: int) -> dict[str, list[float]]:
    """The 95 % intervals of what `statistic` returns for the positions of problems drawn with replacement.

    A name that it does not return for some resamples, such as those without a measured problem, has the interval of the
    others.
    """
    results = [statistic(drawn.tolist()) for drawn in _resamples(problems)]
    names = dict.fromkeys(name for result in results for name in result)
    return {name: interval_of([result.get(name, math.nan) for result in results]) for name in names}


def _resamples(problems: int) -> Iterator[np.ndarray]:
    """The positions of problems drawn with replacement, of shape (problems,), once for each resample."""
    import numpy as np

    draws = np.random.default_rng(0)
    for _ in range(RESAMPLES_OF_ROWS):
        yield draws.integers(0, problems, problems)


def interval_of(draws: Sequence[float] | np.ndarray) -> list[float]:
    """The bounds of the middle 95 % of `draws`, of shape (resamples,); NaN is left out."""
    import numpy as np

    tail = 100 * (1 - CONFIDENCE) / 2
    return np.nanpercentile(draws, [tail, 100 - tail]).tolist()


def paired_bootstrap(
    ours: Mapping[str, float], theirs: Mapping[str, float], *, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, float]:
    """Whether two models differ on the problems that both did: `ours` and `theirs` are scores by task id.

    Returns `difference` (mean of ours minus mean of theirs), `low` and `high` (its 95 % interval), `p` (two-sided:
    twice the share of resamples in which the difference has the other sign or is zero, at most 1), and `problems`.
    """
    import numpy as np

    tasks = sorted(ours.keys() & theirs.keys())
    if not tasks:
        raise ValueError("the two results have no problem in common")
    differences = [ours[task] - theirs[task] for task in tasks]
    means = _means(differences, seed, resamples)
    low, high = interval_of(means)
    # One is added to both counts, because a test based on resamples can't show a probability of 0.
    tail = (min((means <= 1e-12).sum(), (means >= -1e-12).sum()) + 1) / (resamples + 1)
    result = {"difference": np.mean(differences), "low": low, "high": high, "p": min(1.0, 2 * tail)}
    return {name: float(value) for name, value in result.items()} | {"problems": len(tasks)}


def _means(values: Sequence[float], seed: int, resamples: int) -> np.ndarray:
    """Means of `values`, one for each problem, over problems drawn with replacement: shape (resamples,)."""
    import numpy as np

    # How often each problem is drawn, rather than which: 10,000 draws of 164 problems are one product of matrices.
    counts = np.random.default_rng(seed).multinomial(len(values), np.full(len(values), 1 / len(values)), size=resamples)
    return counts @ values / len(values)
