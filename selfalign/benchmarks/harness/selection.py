"""Which problems of a benchmark a run takes: those of a release, and of contests in a span of time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Protocol

from selfalign.benchmarks.harness.benchmark import Benchmark, Problem, Row
from selfalign.errors import UserError, first_line, warn
from selfalign.runner.hub import is_hub_id


class Choice(Protocol):
    """The options of benchmark.py that choose problems."""

    @property
    def benchmark(self) -> str: ...
    @property
    def data(self) -> str | None: ...
    @property
    def release(self) -> str | None: ...
    @property
    def start_date(self) -> str | None: ...
    @property
    def end_date(self) -> str | None: ...


def choose_release(benchmark: Benchmark, choice: Choice) -> None:
    """From now on, `benchmark` reads the release that was chosen.

    Raises:
        UserError: it has no such release, or the problems come from files.
    """
    if not choice.release:
        return
    if choice.release not in benchmark.releases:
        known = f"choose from {', '.join(benchmark.releases)}" if benchmark.releases else "it has none to choose from"
        raise UserError(f"{choice.benchmark} has no release {choice.release}: {known}")
    if choice.data and not all(map(is_hub_id, choice.data.split(","))):
        raise UserError("--release chooses among what is published on the Hub, and --data names files: leave one out")
    benchmark.release = choice.release


def problems_of(benchmark: Benchmark, data: str, choice: Choice) -> list[Problem]:
    """The problems of `data` in the span of time that was chosen.

    Raises:
        UserError: what --data names does not have such problems, or there are none in this span.
    """
    start, end = (_midnight(day, name) for day, name in ((choice.start_date, "start"), (choice.end_date, "end")))
    try:
        problems = benchmark.problems(data)
    except (LookupError, TypeError, ValueError, AttributeError, SyntaxError) as error:
        if not choice.data:
            raise
        raise UserError(
            f"{choice.data} does not have problems as {choice.benchmark} reads them: {type(error).__name__}, "
            f"{first_line(error)}"
        ) from None
    published = benchmark.published()
    if choice.data and published and len(problems) != published:
        warn(f"{choice.data} has {len(problems)} problems of {choice.benchmark}, which was published with {published}")
    if not start and not end:
        return problems
    if not all("date" in problem.extra for problem in problems):
        raise UserError(f"the problems of {choice.benchmark} have no dates to choose by")
    # As in LiveCodeBench, a contest in the course of the last day is too late.
    chosen = [p for p in problems if (start or "") <= p.extra["date"] <= (end or "9999")]
    if not chosen:
        there = " to ".join(span_of(problems) or ("no day", "no day"))
        raise UserError(
            f"no problem of {choice.benchmark} is from {choice.start_date or 'the beginning'} to "
            f"{choice.end_date or 'the end'}: they are from {there}"
        )
    return chosen


def span_of(problems: Sequence[Problem]) -> tuple[str, str] | None:
    """The days of the first and the last of the problems; None if they have no dates."""
    days = sorted(problem.extra["date"][:10] for problem in problems if "date" in problem.extra)
    return (days[0], days[-1]) if days else None


def record_of(benchmark: Benchmark, problems: Sequence[Problem], data: str, choice: Choice) -> Row:
    """For results.json: `release` (null for files), `start_date` and `end_date` as chosen, `first` and `last` day."""
    first, last = span_of(problems) or (None, None)
    release = benchmark.release if benchmark.releases and all(map(is_hub_id, data.split(","))) else None
    chosen = {"start_date": choice.start_date, "end_date": choice.end_date}
    return {"release": release} | chosen | {"first": first, "last": last}


def _midnight(day: str | None, name: str) -> str | None:
    """The beginning of a day; UserError if it is not in the form 2023-09-01."""
    try:
        return f"{date.fromisoformat(day).isoformat()}T00:00:00" if day else None
    except ValueError:
        raise UserError(f"--{name}-date {day} is not a day in the form 2023-09-01") from None
