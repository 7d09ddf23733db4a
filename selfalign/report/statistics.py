"""Scores of a benchmark with their uncertainty: pass@k, bootstrap over problems, and paired bootstrap of two models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

RESAMPLES = 10_000
CONFIDENCE = 0.95


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """The unbiased estimate of pass@k from `samples` answers of which `correct` pass (arXiv:2107.03374)."""
    import numpy as np

    if samples - correct < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(samples - correct + 1, samples + 1)))


def bootstrap_interval(values: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES) -> tuple[float, float]:
    """The 95 % interval of the mean of `values`, one for each problem: percentiles of the mean over problems drawn with
    replacement."""
    import numpy as np

    return interval_of(_means(np.asarray(values, float)[:, None], seed, resamples)[:, 0])


def interval_of(draws: Any) -> tuple[float, float]:
    """The middle 95 % of `draws`, shape (resamples,)."""
    import numpy as np

    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.nanpercentile(draws, [tail, 100 - tail])
    return float(low), float(high)


def bootstrap(
    statistic: Callable[[list[int]], Mapping[str, float]], problems: int, *, seed: int = 0, resamples: int = 1000
) -> dict[str, tuple[float, float]]:
    """The 95 % intervals of what `statistic` gives for problems drawn with replacement, which it gets as positions."""
    import numpy as np

    draws = np.random.default_rng(seed)
    rows = [statistic(draws.integers(0, problems, problems).tolist()) for _ in range(resamples)]
    return {name: interval_of([row[name] for row in rows]) for name in rows[0]}


def paired_bootstrap(
    ours: Mapping[str, float], theirs: Mapping[str, float], *, seed: int = 0, resamples: int = RESAMPLES
) -> dict[str, float]:
    """Whether two models differ on the problems that both did: `ours` and `theirs` are scores by task id.

    Gives `difference` (mean of ours less mean of theirs), `low` and `high` (its 95 % interval), `p` (two-sided: twice
    the share of resamples in which the difference has the other sign or is zero, at most 1), and `problems`.
    """
    import numpy as np

    tasks = sorted(ours.keys() & theirs.keys())
    if not tasks:
        raise ValueError("the two results have no problem in common")
    differences = np.array([[ours[task] - theirs[task]] for task in tasks], float)
    means = _means(differences, seed, resamples)[:, 0]
    low, high = interval_of(means)
    # One is added to counts, for a test from resamples can't show a probability of 0.
    tail = (min((means <= 1e-12).sum(), (means >= -1e-12).sum()) + 1) / (resamples + 1)
    result = {"difference": differences.mean(), "low": low, "high": high, "p": min(1.0, 2 * tail)}
    return {name: float(value) for name, value in result.items()} | {"problems": len(tasks)}


def _means(values: Any, seed: int, resamples: int) -> Any:
    """Means of the columns of `values` (problems, columns), problems drawn with replacement: (resamples, columns)."""
    import numpy as np

    # How often each problem is drawn, rather than which: 10,000 draws of 164 problems are one product of matrices.
    counts = np.random.default_rng(seed).multinomial(len(values), np.full(len(values), 1 / len(values)), size=resamples)
    return counts @ values / len(values)
