"""What an experiment of this size could have shown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from selfalign.report.results import Results
from selfalign.statistics import DEVIATIONS, paired_bootstrap

EFFECT = 3.0  # points, that one would want to see
POWER_DEVIATIONS = 0.84  # standard deviations that a true effect needs beyond DEVIATIONS, to be seen 4 times in 5
MANY_EXAMPLES = 1000


def problems_needed(half_width: float, problems: int) -> int:
    """How many problems it takes to see a true difference of EFFECT points 4 times in 5, from the half width of the
    95 % interval, in points, that `problems` gave."""
    error = half_width / DEVIATIONS
    return round(problems * (error * (DEVIATIONS + POWER_DEVIATIONS) / EFFECT) ** 2)


def by_problem(results: Results, system: str, benchmarks: Sequence[str]) -> dict[str, float]:
    """The share of trainings that solve a problem, by benchmark and id: all benchmarks together."""
    return {
        f"{name}: {task}": rate
        for name in benchmarks
        for task, rate in (results.result(system, name).get("by_problem") or {}).items()
    }


def conclusions(folder: Path, sizes: Mapping[str, int], benchmarks: Sequence[str], executions: str) -> str:
    """Each arm beside the base model and beside `passes`, on all problems together, and what this could have shown."""
    results = Results(f"small/{arm}={folder}/{arm}" for arm in ("base", *sizes))
    rates = {arm: by_problem(results, f"small/{arm}", benchmarks) for arm in ("base", *sizes)}
    lines, widths, problems = [f"All problems of {' and '.join(benchmarks)} together, in points:", ""], [], 0
    for other in ("base", "passes"):
        for arm in (arm for arm in sizes if arm != other and other in rates):
            test = paired_bootstrap(rates[arm], rates[other])
            low, high, problems = 100 * test["low"], 100 * test["high"], int(test["problems"])
            widths.append((high - low) / 2)
            text = f"{100 * test['difference']:+.1f} [{low:+.1f}, {high:+.1f}], p = {test['p']:.2g}"
            lines.append(f"  {arm:<10} against {other:<7} {text}")
    width = sum(widths) / len(widths)
    if width:
        lines += [
            "",
            f"With {problems} problems, the interval of a difference reaches {width:.1f} points to either side. A true",
            f"difference of {EFFECT:g} points would be seen in four of five such experiments with some "
            f"{problems_needed(width, problems):,} problems.",
        ]
    else:
        lines += ["", f"All models solve the same of the {problems} problems, so this can't show any difference."]
    trainings = {arm: _trainings(folder / arm, benchmarks) for arm in sizes}
    if spreads := [max(some) - min(some) for some in trainings.values() if len(some) > 1]:
        spread = 100 * sum(spreads) / len(spreads)
        lines.append(f"Trainings of one arm differ by {spread:.1f} points on average, which no interval contains.")
    size = min(sizes.values())
    if tasks := _tasks_of(executions):
        more = round(tasks * MANY_EXAMPLES / size)
        lines.append(f"The arms have {size:,} examples of {tasks:,} tasks; {MANY_EXAMPLES:,} take some {more:,} tasks.")
    return "\n".join(lines)


def _trainings(folder: Path, benchmarks: Sequence[str]) -> list[float]:
    """The share of all problems that each training of an arm solves."""
    shares = []
    for seed in sorted(folder.glob("seed-*")):
        files = [file for name in benchmarks if (file := seed / name / "results.json").exists()]
        rates = [rate for file in files for rate in json.loads(file.read_text())["by_problem"].values()]
        shares += [sum(rates) / len(rates)] if rates and len(files) == len(benchmarks) else []
    return shares


def _tasks_of(executions: str) -> int | None:
    """How many tasks the samples are for, None if the executions say it no more."""
    try:
        funnel = json.loads((Path(executions) / "run.json").read_text())["funnel"]
    except (OSError, ValueError, KeyError):
        return None
    return next((entry["rows_in"] for entry in funnel if entry["step"] == "sample_responses"), None)
