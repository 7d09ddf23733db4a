"""What each vote of a task's samples adds: ways to rank samples, compared at the same yields.

    python -m experiments.rankings ./audit

A ranking gives every sample of an audit a number. Of each task, the samples with the highest number are kept, and of
all tasks those in which it is highest, as many as the yield says. Tasks in which it is equal are kept together, and
none where it is 0, so that a ranking of few different numbers, such as `own tests`, keeps the same tasks at several
yields. The table has for each ranking

    at the yield of passes      its precision where it keeps as many tasks as the paper's rule, with a 95 % interval by
                                bootstrap over tasks, and what it gains over `outputs`, paired by task
    mean                        of its precisions at yields of 20, 30, ... 80 %
    first half, second half     the same mean on either half of the tasks, which are drawn by a hash of their ids

The rankings are made of what the audit knows of a sample: the share of the other samples that give the same outputs
(`outputs`), the share of their assertions that it meets (`assertions`), whether its own tests pass (`own tests`), and
the share of mutants that these notice (`mutants`). The mean of outputs and assertions is what `select.py --support
outputs-and-assertions` goes by; their product is in the spirit of CodeT (arXiv 2207.10397), which multiplies the number
of solutions that agree with the number of tests that they pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated

from selfalign.data.audit import (
    Audit,
    Audited,
    Merit,
    Samples,
    at_coverage,
    audit,
    by_outputs,
    cell,
    halves_of,
    passing,
    samples_by_task,
    with_assertions,
)
from selfalign.errors import UserError
from selfalign.options import Positional, argument, run_script
from selfalign.runner.source import open_source

YIELDS = (20, 30, 40, 50, 60, 70, 80)  # percent
NEEDED = ("task_id", "response", "right", "passed", "support", "assertions_met")
TENTH = 0.1  # what a sample's own tests count for beside the votes of the others


def own_tests(sample: Audited) -> float:
    """Whether its own tests pass."""
    return float(sample.passed)


def mutants(sample: Audited) -> float:
    """The share of mutants that its own tests notice, if they pass."""
    return (sample.mutation_score or 0.0) if sample.passed else 0.0


def assertions(sample: Audited) -> float:
    """The share of the assertions in the other samples' tests that it meets."""
    return sample.met or 0.0


RANKINGS: Mapping[str, Merit] = {
    "outputs": by_outputs,
    "own tests": own_tests,
    "mutants": mutants,
    "assertions": assertions,
    "outputs and assertions, their mean": with_assertions,
    "outputs and assertions, their product": lambda sample: by_outputs(sample) * assertions(sample),
    "outputs, and a tenth for own tests": lambda sample: by_outputs(sample) + TENTH * own_tests(sample),
    "the mean, and a tenth for own tests": lambda sample: with_assertions(sample) + TENTH * own_tests(sample),
    "the mean, and a tenth for mutants": lambda sample: with_assertions(sample) + TENTH * mutants(sample),
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of this command."""

    audit: Annotated[str, Positional, argument(metavar="AUDIT")]
    """What audit.py wrote: a Hub id, a local folder, or an fsspec URL."""

    hf_token: str | None = None
    """Hugging Face token. By default, the one from `hf auth login` or HF_TOKEN."""


def at_yields(tasks: Sequence[Samples]) -> list[float]:
    """The mean precision of each ranking over YIELDS."""
    keeping = [round(len(tasks) * percent / 100) for percent in YIELDS]
    rules = {
        f"{name} {kept}": at_coverage(tasks, kept, merit) for name, merit in RANKINGS.items() for kept in {*keeping}
    }
    found = audit(tasks, rules, against=next(iter(rules)))
    return [fmean(found[f"{name} {kept}"].precision.value for kept in keeping) for name in RANKINGS]


def at_yield_of_passes(tasks: Sequence[Samples]) -> dict[str, Audit]:
    """What each ranking keeps where it keeps as many tasks as the paper's rule."""
    kept = sum(bool(passing(samples)) for samples in tasks)
    return audit(tasks, {name: at_coverage(tasks, kept, merit) for name, merit in RANKINGS.items()}, against="outputs")


def table_of(tasks: Mapping[str, Samples]) -> str:
    """The rankings as a Markdown table, in percent."""
    everything, halves = list(tasks.values()), halves_of(tasks)
    means = zip(at_yields(everything), *map(at_yields, halves), strict=True)
    lines = [
        "| ranking | at the yield of passes | beside `outputs` | mean | first half | second half |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for (name, found), values in zip(at_yield_of_passes(everything).items(), means, strict=True):
        gain = cell(found.gain, sign="+") if found.gain else ""
        shares = " | ".join(f"{100 * value:.1f}" for value in values)
        lines.append(f"| {name} | {cell(found.precision)} | {gain} | {shares} |")
    return "\n".join(lines)


def main(options: Options) -> None:
    """Read the audit, and print the table."""
    rows = open_source(options.audit, columns=NEEDED, token=options.hf_token).rows.to_list()
    tasks = samples_by_task(rows)
    if not all(halves_of(tasks)):
        raise UserError(f"{options.audit} has {len(tasks)} tasks, which can't be divided into halves: audit more")
    kept = sum(bool(passing(samples)) for samples in tasks.values())
    print(f"{len(tasks):,} tasks with {len(rows):,} samples; passes keeps {kept:,} of them. In percent.\n")
    print(table_of(tasks))


if __name__ == "__main__":
    run_script(main, Options, __doc__)
