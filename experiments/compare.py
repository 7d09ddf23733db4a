"""Runs of the same tasks or seeds side by side: what other prompts, worked examples or temperatures change.

    python -m experiments.compare ./executions one-shot=./executions-1 hot=./executions-hot
    python -m experiments.compare ./audit ./audit-1 --samples 4 --json comparison.json

Each dataset is what execute.py or audit.py wrote. All others are compared with the first one, on the seeds that all
have in common if their tasks were written from seeds (column seed_id), and else on the tasks that all have in common.
Intervals are of 95 %, by bootstrap over these seeds or tasks; differences are paired. The first table says what is
kept:

    samples with code and tests     of all that were asked for, and so are the next three; execute.py runs no others
    samples that pass               their own tests
    samples that are right          by hidden tests, in an audit
    tests that accept the solution  of the benchmark, in an audit
    tasks with an instruction       with a sample that passes and breaks no rule of select.py for single samples (those
                                    for duplicates and benchmarks are left out)
    of these, right                 in an audit: the sample that is drawn from those of the task

The second table says what the tasks with an instruction are like: the mean share of their samples that pass; the lines
and branches (conditions, loops, comprehensions, handlers and cases) of their code without comments; how many of their
instructions nearly repeat another one, as select.py finds them; and their categories.

Samples without code and tests, tasks without any sample and seeds without a task are found in the datasets from which
the executions were made, which their run.json names. Where these can't be read, only tasks with executions count.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from selfalign.data.selection import NO_VERDICT, Rules, Sample
from selfalign.errors import UserError, warn
from selfalign.options import Count, Positional, argument, run_script
from selfalign.report.comparison import (
    WHAT_IS_KEPT,
    WHAT_THE_KEPT_ARE_LIKE,
    Beside,
    Kept,
    Task,
    category_measures,
    compared,
    size_of,
    table_of,
    with_repeats,
)
from selfalign.runner.source import Source, open_recorded_input, open_source

NEEDED = ("id", "task_id", "response", "tests", "passed")
WANTED = (
    "seed_id",
    "sample",
    "instruction",
    "category",
    "language",
    "outcome",
    "vacuous",
    "right",
    "accepts_reference",
)
OF_EXECUTIONS = ("seed_id", "sample", "instruction", "category")  # which an audit leaves out
# The steps whose inputs are looked at: responses, tasks and concepts.
STEPS = ("execute", "sample_responses", "generate_tasks")
RULES = Rules("passes", seed=0)
MARK = "paired_by"  # begins the file that --json writes

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of this command."""

    datasets: Annotated[tuple[str, ...], Positional, argument(metavar="DATASET", help_behavior_hint="")]
    """Executions or audits (Hub ids, folders, URLs), each as PLACE or LABEL=PLACE. All others are compared with the
    first."""

    samples: Count | None = None
    """Use only the first samples of each task, this many."""

    json: Path | None = None
    """File to write the figures to as well, such as comparison.json."""

    hf_token: str | None = None
    """Hugging Face token. By default, the one from `hf auth login` or HF_TOKEN."""


class Executed(NamedTuple):
    """What is needed of a sample; `kept` is None if it can't become an example."""

    number: int
    passed: bool
    judged: bool
    kept: Kept | None
    right: bool | None
    accepts: bool | None


@dataclass(frozen=True)
class Run:
    """A dataset as it is compared.

    Attributes:
        executed: the samples with code and tests, by task.
        about: `seed_id`, `instruction` and `category` of each task, None where there is no such column.
        before: its responses, tasks and concepts, as far as they can be read, each with the run.json of the step that
            read them.
        samples: number of responses that each task got.
        numbered: whether the rows say which of their task's samples they are.
        audited: whether hidden tests have judged the samples.
    """

    label: str
    source: Source
    executed: dict[str, list[Executed]]
    about: dict[str, Row]
    before: list[tuple[Source, Row]]
    samples: int
    numbered: bool
    audited: bool


def read_run(place: str, token: str | None = None) -> Run:
    """The run LABEL=PLACE, or PLACE; UserError if it holds no executions."""
    label, equals, path = place.partition("=")
    if not equals or "/" in label:
        label, path = path_label(place), place
    source = open_source(path, columns=NEEDED, token=token)
    there, executions, more = source.rows.column_names, source, {}
    if "right" in there:
        executions = open_recorded_input(path, source.run, token) or source
        columns = [name for name in OF_EXECUTIONS if name in executions.rows.column_names and name not in there]
        if executions is not source and columns:
            more = {row.pop("id"): row for _, row in executions.read(None, ("id", *columns))}
    executed: dict[str, list[Executed]] = {}
    about: dict[str, Row] = {}
    for _, row in source.read(None, [name for name in (*NEEDED, *WANTED) if name in there], label):
        whole = row | more.get(row["id"], {})
        samples = executed.setdefault(row["task_id"], [])
        samples.append(executed_sample(whole, len(samples)))
        about.setdefault(row["task_id"], {name: whole.get(name) for name in OF_EXECUTIONS})
    before = inputs_before(executions, token) if source.run.get("complete", True) else []
    numbers = [each.number for samples in executed.values() for each in samples]
    if before and "sample" in before[0][0].rows.column_names:
        numbers += before[0][0].rows["sample"]
    numbered = "sample" in executions.rows.column_names
    return Run(label, source, executed, about, before, 1 + max(numbers), numbered, "right" in there)


def path_label(place: str) -> str:
    """The last part of a dataset's name."""
    return place.rstrip("/").rsplit("/", 1)[-1]


def executed_sample(row: Row, number: int) -> Executed:
    """What is needed of a row; `number` is that of the sample if the row does not say it."""
    found, passed, kept = row.get("sample"), bool(row["passed"]), None
    if passed:
        sample = Sample(0, row["id"], row["task_id"], passed, vacuous=row.get("vacuous"))
        kept = None if RULES.broken_by(sample, {"instruction": None} | row) else size_of(row)
    judged = row.get("outcome") not in NO_VERDICT
    return Executed(
        number if found is None else found, passed, judged, kept, row.get("right"), row.get("accepts_reference")
    )


def inputs_before(executions: Source, token: str | None) -> list[tuple[Source, Row]]:
    """The datasets from which executions came, the responses first, each with the run.json of the step that read it.

    A dataset that a step has not read to its end is the last one, since rows before it may never have been asked for.
    """
    found, name, run = [], executions.name, executions.run
    for step in STEPS:
        if run.get("step") != step or not run.get("complete"):
            break
        source = open_recorded_input(name, run, token)
        if source is None:
            break
        found.append((source, run))
        if run["rows_in"] < len(source):
            break
        name, run = source.name, source.run
    return found


def asked_for(run: Run, unit: str) -> Counter[str]:
    """How many tasks each unit was asked for, by the column `unit`: task_id, or seed_id for a seed's tasks."""
    asked = Counter(run.about[task][unit] if unit == "seed_id" else task for task in run.about)
    for step, (source, record) in zip(STEPS, run.before, strict=False):
        if unit not in source.rows.column_names:
            break
        columns = ("task_id", unit) if step == "execute" else (unit,)
        rows = [tuple(row.values()) for _, row in source.read(range(record["rows_in"]), columns)]
        asked |= Counter(row[-1] for row in (set(rows) if step == "execute" else rows))
        if unit == "task_id":
            break
    return asked


def units_of(run: Run, unit: str, samples: int) -> dict[str, list[Task]]:
    """The tasks of each unit, judged by the first `samples` samples."""
    asked, units = asked_for(run, unit), {}
    for task, executed in run.executed.items():
        key = run.about[task][unit] if unit == "seed_id" else task
        first = [each for each in executed if each.number < samples]
        units.setdefault(key, []).append(task_of(first, run.about[task], samples, run.audited))
    for key, number in asked.items():
        tasks = units.setdefault(key, [])
        tasks += [task_of([], dict.fromkeys(OF_EXECUTIONS), samples, run.audited)] * (number - len(tasks))
    return units


def task_of(executed: Sequence[Executed], about: Row, samples: int, audited: bool) -> Task:
    """What became of a task's samples."""
    judged = [each.passed for each in executed if each.judged]
    return Task(
        asked=samples,
        executed=len(executed),
        passed=sum(each.passed for each in executed),
        right=sum(bool(each.right) for each in executed) if audited else None,
        accepting=sum(bool(each.accepts) for each in executed) if audited else None,
        rate=sum(judged) / len(judged) if judged else None,
        kept=tuple(each.kept for each in executed if each.kept),
        instruction=about["instruction"],
        category=about["category"],
    )


def check_runs(runs: Sequence[Run], options: Options) -> None:
    """UserError if runs have the same label, or not the samples that are asked for; a warning where they cannot be
    compared fairly."""
    labels = [run.label for run in runs]
    if repeated := next((label for label in labels if labels.count(label) > 1), None):
        raise UserError(f"two datasets are called {repeated}: write LABEL=PLACE to tell them apart")
    for run in runs:
        if options.samples and not run.numbered:
            raise UserError(
                f"{run.source.name} does not say which samples are the first ones, and neither do its executions, if "
                "they can be read: leave out --samples"
            )
        if options.samples and options.samples > run.samples:
            raise UserError(f"--samples {options.samples}: {run.source.name} has only {run.samples} for each task")
    numbers = {run.label: run.samples for run in runs}
    if not options.samples and len(set(numbers.values())) > 1:
        told = ", ".join(f"{label} has {number}" for label, number in numbers.items())
        fewest = min(numbers.values())
        warn(f"the datasets have different numbers of samples ({told}): --samples {fewest} compares the first {fewest}")


def unit_of(runs: Sequence[Run]) -> str:
    """The column by which runs are compared: seed_id if all tasks were written from seeds, or else task_id."""
    seeds = all(about["seed_id"] is not None for run in runs for about in run.about.values())
    return "seed_id" if seeds else "task_id"


def warn_of_losses(run: Run, unit: str) -> None:
    """A warning if what was asked for is not known of a run."""
    if not run.source.run.get("complete", True):
        return warn(f"{run.label} is not complete: only the tasks that it has are compared")
    if len(run.before) >= (len(STEPS) if unit == "seed_id" else 1):
        return
    lost = "seeds without a task and tasks without a sample" if unit == "seed_id" else "tasks without a sample"
    warn(f"{run.label}: {lost} with code and tests may be missing, since what its steps read is not all there")


def in_common(runs: Sequence[Run], unit: str, options: Options) -> list[dict[str, list[Task]]]:
    """The tasks of the units that all runs have; UserError if there is none."""
    units = [units_of(run, unit, options.samples or run.samples) for run in runs]
    common = set.intersection(*(set(each) for each in units))
    what = "seed" if unit == "seed_id" else "task"
    if not common:
        raise UserError(f"the datasets have no {what} in common (column {unit}), so there is nothing to compare")
    sizes = ", ".join(f"{run.label} has {len(each):,}" for run, each in zip(runs, units, strict=True))
    numbers = {options.samples or run.samples for run in runs}
    shown = f"{min(numbers)}" if len(numbers) == 1 else f"{min(numbers)} to {max(numbers)}"
    print(f"{len(common):,} {what}s in common ({sizes}), with {shown} samples for each task.")
    print(f"Shares in percent, with 95 % intervals by bootstrap over {what}s; differences are paired.\n")
    return [with_repeats({key: each[key] for key in sorted(common)}) for each in units]


def check_file(file: Path) -> None:
    """UserError if `file` can't be written, or holds something else than an earlier comparison."""
    if not file.parent.is_dir():
        raise UserError(f"--json {file}: there is no folder {file.parent}")
    if file.is_dir():
        raise UserError(f"--json {file} is a folder: name a file in it, such as {file / 'comparison.json'}")
    if file.exists() and MARK not in file.read_text(encoding="utf-8", errors="replace")[:100]:
        raise UserError(f"--json {file} is there already, and is no comparison: it is not overwritten")


def record_of(runs: Sequence[Run], unit: str, found: dict[str, list[Beside]], common: int) -> dict[str, Any]:
    """All figures, for programs to read: each a value with the bounds of its interval, null where it is not known."""
    tables = {title: [run._asdict() for run in table] for title, table in found.items()}
    return {
        MARK: unit,
        "units": common,
        "runs": [
            {"label": run.label, "name": run.source.name, **run.source.pin, "samples": run.samples}
            | {title: table[number] for title, table in tables.items()}
            for number, run in enumerate(runs)
        ],
    }


def main(options: Options) -> None:
    """Print the tables, and write --json."""
    if not options.datasets:
        raise UserError("name the datasets to compare: python -m experiments.compare ./executions ./other-executions")
    if options.json:
        check_file(options.json)
    runs = [read_run(place, options.hf_token) for place in options.datasets]
    check_runs(runs, options)
    unit = unit_of(runs)
    for run in runs:
        warn_of_losses(run, unit)
    units = in_common(runs, unit, options)
    measures = {"kept": WHAT_IS_KEPT, "like": WHAT_THE_KEPT_ARE_LIKE | category_measures(units)}
    found = {title: compared(units, those) for title, those in measures.items()}
    labels = [run.label for run in runs]
    print("\n\n".join(table_of(labels, found[title], those) for title, those in measures.items()))
    if options.json:
        record = record_of(runs, unit, found, len(units[0]))
        options.json.write_text(json.dumps(record, indent=2), encoding="utf-8")


if __name__ == "__main__":
    run_script(main, Options, __doc__)
