"""Executions in several languages side by side: how often samples pass their own tests, and how strong these are.

    python -m experiments.problem_tasks ./tasks --benchmarks mbppplus --any-language --draw 50
    python sample_responses.py ./tasks ./responses-javascript --samples 4 --language javascript     # and Python's
    python execute.py ./responses-javascript ./executions-javascript
    python -m experiments.languages ./executions-python ./executions-javascript --tasks ./tasks

Samples without code or tests, which execute.py counts and leaves out, are samples that did not pass. Intervals are of
95 %, by bootstrap over tasks.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any

from selfalign.data.languages import language_of
from selfalign.errors import UserError
from selfalign.options import Count, Positional, argument, run_script
from selfalign.runner.source import Source, open_source
from selfalign.statistics import bootstrap_interval, paired_bootstrap

NEEDED = ("id", "task_id", "passed", "outcome")
HEAD = ("language", "samples", "executed", "passed", "95 %", "tasks with a pass", "vacuous", "mutation score")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of this command."""

    inputs: Annotated[tuple[str, ...], Positional, argument(metavar="EXECUTIONS")]
    """Executions, each in one language."""

    tasks: str
    """The tasks from which all of them were made."""

    samples: Count = 4
    """Number of responses that each task got."""


@dataclass(frozen=True)
class Figures:
    """What became of the samples in one language.

    Attributes:
        language: as `language_of` names it.
        executed: the number of samples with code and tests.
        rates: the share of each task's samples that passed, by the task's text; of all samples that it got.
        passed: the number of samples that passed.
        vacuous: of these, those whose tests assert nothing about the response.
        mutation: the mean mutation score of the others that have one, None if none has.
    """

    language: str
    executed: int
    rates: dict[str, float]
    passed: int
    vacuous: int
    mutation: float | None


def figures_of(source: Source, tasks: set[str], samples: int) -> Figures:
    """The figures of executions of these tasks.

    Raises:
        UserError: they are in several languages, or of other tasks, or a task has more samples.
    """
    rows = [row for _, row in source.read()]
    if len(languages := {language_of(row) for row in rows}) > 1:
        raise UserError(f"{source.name} has rows in {' and '.join(sorted(languages))}: give one dataset a language")
    passing = [row for row in rows if row["passed"]]
    scores = [row["mutation_score"] for row in passing if row.get("mutation_score") is not None and not row["vacuous"]]
    passes = dict.fromkeys(sorted(tasks), 0)  # in one order, by which the resamples are drawn
    most = max(Counter(row["task_id"] for row in rows).values())
    if most > samples:
        raise UserError(f"{source.name} has {most} samples of a task, which --samples {samples} would not count")
    for row in rows:
        if row["task_id"] not in passes:
            raise UserError(f"{source.name} has samples of task {row['task_id']}, which is none of --tasks")
        passes[row["task_id"]] += bool(row["passed"])
    return Figures(
        language=languages.pop(),
        executed=len(rows),
        rates={task: number / samples for task, number in passes.items()},
        passed=len(passing),
        vacuous=sum(bool(row.get("vacuous")) for row in passing),
        mutation=sum(scores) / len(scores) if scores else None,
    )


def table_of(several: list[Figures], samples: int) -> str:
    """The figures as a Markdown table, with a line for each difference from the first language."""
    lines = [HEAD, ("---", *["---:"] * (len(HEAD) - 1))]
    for one in several:
        low, high = bootstrap_interval(list(one.rates.values()))
        lines.append(
            (
                one.language,
                str(samples * len(one.rates)),
                str(one.executed),
                f"{one.passed} ({_percent(sum(one.rates.values()) / len(one.rates))})",
                f"{_percent(low)} to {_percent(high)}",
                str(sum(rate > 0 for rate in one.rates.values())),
                str(one.vacuous),
                "" if one.mutation is None else f"{one.mutation:.2f}",
            )
        )
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    first, *others = several
    for other in others:
        found: dict[str, Any] = paired_bootstrap(other.rates, first.rates)
        difference, low, high = (f"{100 * found[name]:+.1f}" for name in ("difference", "low", "high"))
        text += f"\n\n{other.language} minus {first.language}: {difference} points, 95 %: {low} to {high}"
    return text


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def main(options: Options) -> None:
    """Print the table."""
    if not options.inputs:
        raise UserError("name the executions: python -m experiments.languages ./executions ./others --tasks ./tasks")
    sources = [open_source(name, columns=NEEDED) for name in options.inputs]
    tasks = set(open_source(options.tasks, columns=("id",)).rows["id"])
    print(table_of([figures_of(source, tasks, options.samples) for source in sources], options.samples))


if __name__ == "__main__":
    run_script(main, Options, __doc__)
