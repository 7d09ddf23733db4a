"""Audit: executions -> how often each way to select samples picks correct code, by tests that the model has not seen.

The paper keeps a response that passes the model's own tests, and takes it for correct. Here the tasks are problems of
benchmarks, which have hidden tests, so that every sample can be judged. The output says for each way to select samples
how many of those that it keeps are right (precision), how many of the tasks that the model can solve are then solved
(recall), and for how many tasks it keeps anything (yield). Run this before you spend a week generating:

    python -m experiments.problem_tasks ./tasks --benchmarks humanevalplus mbppplus
    python sample_responses.py ./tasks ./responses --samples 8
    python execute.py ./responses ./executions
    python audit.py ./executions ./audit

Columns in:  id, task_id, benchmark, problem, response, tests, passed; if present, outcome, vacuous, mutation_score

Columns out: all of these, and

    right               whether the hidden tests pass
    hidden_outcome      how the code ended under the hidden tests: passed, failed, error, timeout, ...
    accepts_reference   whether the sample's own tests pass with the benchmark's solution
    rejects_wrong       of the wrong responses of other samples to the task, the share that its own tests reject
    agreement           with the other passing samples, on the tests of all of them; null where it did not pass
    support             the share of the other samples that give the same outputs, see selfalign/data/consensus.py
    assertions_met      the share of the assertions in the other samples' tests that its outputs meet, see there, too

`audit.json` beside them holds the figures of every rule with 95 % intervals (bootstrap over problems, or Wilson's where
all of them count or none does) and its gain in precision over `passes`; what the samples and their tests are like,
whatever is kept; and how they ended under their own and under the hidden tests. Figures that there are not, because a
rule keeps nothing, are null. The card shows all of it as tables, and the rules as a figure. The same command with
another --min-support, or with --halves, makes them anew from the rows, and judges nothing again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from code_eval.sandbox import Result, Sandbox
from selfalign.benchmarks import Problem, load_benchmark
from selfalign.benchmarks.harness.judging import Judge, judge_of, sandbox_for
from selfalign.benchmarks.harness.problems import files_by_name, pin_of
from selfalign.data.agreement import agreement_of, result_in, sandboxes_for
from selfalign.data.audit import SUPPORTS, figures_of, samples_by_task, share_of
from selfalign.data.consensus import Run, poll
from selfalign.data.languages import only_python, programs_of
from selfalign.data.selection import Sample, read_samples, source_of_tasks, tasks_of
from selfalign.errors import UserError
from selfalign.ids import content_id
from selfalign.options import OPERATIONAL, Count, Positive, SandboxOptions, StepOptions, run_script
from selfalign.report.audit import write_audit
from selfalign.runner.columns import MissingColumns
from selfalign.runner.source import Source, open_source, read_input
from selfalign.runner.step import run_step
from selfalign.runner.table import Done, Table

NEEDED = ("id", "task_id", "benchmark", "problem", "response", "tests", "passed")
KEPT = {"outcome": str, "vacuous": bool, "mutation_score": float}  # columns of the input, null where it lacks them
COLUMNS = {
    **dict.fromkeys(NEEDED[:-1], str),
    "passed": bool,
    **KEPT,
    "right": bool,
    "hidden_outcome": str,
    "accepts_reference": bool,
    "rejects_wrong": float,
    "agreement": float,
    "support": float,
    "assertions_met": float,
}
LATER_COLUMNS = {"assertions_met"}
TASKS_PER_SANDBOX = 2  # at a time, so that no sandbox has to wait

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Options(SandboxOptions, StepOptions):
    """Options of this step."""

    benchmark_data: tuple[str, ...] = field(default=(), metadata=OPERATIONAL)
    """Files to read the problems from instead of the Hub, such as mbppplus=MbppPlus.jsonl.gz."""

    timeout: Positive = 2.0
    """Seconds of CPU time that a sample may use under samples' tests, whose inputs are small; endless loops are most of
    what an audit waits for. Hidden tests have their benchmark's own limit."""

    memory: Count = 1024
    """MiB that a program may use; hidden tests have their benchmark's own limit."""

    min_support: tuple[float, ...] = field(default=SUPPORTS, metadata=OPERATIONAL)
    """Minimum supports, from 0 to 1, at which consensus is looked at: values of --min-support of select.py."""

    halves: bool = field(default=False, metadata=OPERATIONAL)
    """Also say what each rule keeps on either half of the tasks, which are drawn by a hash of their ids. What is chosen
    on the first half can then be looked at on the second."""


@dataclass(frozen=True)
class Judged:
    """A benchmark whose problems are tasks here."""

    problems: dict[str, Problem]
    judge: Judge
    reference: dict[str, str]
    """The code of each problem's own solution."""


def once_each(run: Run) -> Run:
    """`run`, which judges equal programs once: samples of one task are often the same."""
    known: dict[tuple[str, str], asyncio.Task[Result]] = {}

    async def judged(code: str, tests: str) -> Result:
        if (code, tests) not in known:
            known[code, tests] = asyncio.ensure_future(run(code, tests))
        return await known[code, tests]

    return judged


async def audit_of(samples: list[Row], judged: Judged, sandbox: Sandbox) -> list[Row]:
    """The rows of one task's samples, with what the audit finds out about each."""
    problem = judged.problems[samples[0]["problem"]]
    programs = [programs_of(row) for row in samples]
    verdicts = await asyncio.gather(*(judged.judge(problem, code, "solution") for code, _ in programs))

    run = once_each(partial(result_in, sandbox))

    async def passes(code: str, tests: str) -> bool:
        return (await run(code, tests)).passed

    wrong = {code for (code, _), verdict in zip(programs, verdicts, strict=True) if not verdict["passed"]}
    accepts = await asyncio.gather(*(passes(judged.reference[problem.task_id], tests) for _, tests in programs))

    async def rejected_by(code: str, tests: str) -> list[bool]:
        return [not passed for passed in await asyncio.gather(*(passes(each, tests) for each in wrong - {code}))]

    rejects = await asyncio.gather(*(rejected_by(*program) for program in programs))
    passing = [i for i, row in enumerate(samples) if row["passed"]]
    shares = await agreement_of([programs[i] for i in passing], passes) if len(passing) > 1 else [1.0] * len(passing)
    agreement = dict(zip(passing, shares, strict=True))
    polled = await poll(programs, run, assertions=True)
    return [
        {name: row.get(name) for name in (*NEEDED, *KEPT)}
        | {
            "vacuous": None if row.get("vacuous") is None else bool(row["vacuous"]),  # a number may stand for it
            "right": verdict["passed"],
            "hidden_outcome": verdict["outcome"],
            "accepts_reference": accepts[i],
            "rejects_wrong": share_of(rejects[i]),
            "agreement": agreement.get(i),
            "support": polled.support[i],
            "assertions_met": polled.met[i] if polled.met else None,
        }
        for i, (row, verdict) in enumerate(zip(samples, verdicts, strict=True))
    ]


def read_executions(options: Options) -> Source:
    """The input; UserError, with the way to make one, if its rows are no tasks with hidden tests."""
    try:
        return read_input(options, *NEEDED)
    except MissingColumns as error:
        hint = "what an audit reads begins with the tasks of `python -m experiments.problem_tasks`"
        raise UserError(f"{error.fact}; {hint}") from None


def problems_of(executions: Source, samples: Sequence[Sample]) -> dict[str, set[str]]:
    """The problems of each benchmark that the samples are for; UserError if those of one task are for several."""
    asked: dict[str, set[str]] = {}
    of_task: dict[str, tuple[str, str]] = {}
    rows = executions.read([sample.position for sample in samples], ["task_id", "benchmark", "problem"])
    for _, row in rows:
        problem = row["benchmark"], row["problem"]
        known = of_task.setdefault(row["task_id"], problem)
        if known != problem:
            raise UserError(
                f"{executions.name} has samples with the task_id {row['task_id']} for {' '.join(known)} and for "
                f"{' '.join(problem)}: give each problem a task_id of its own, since samples with the same one are "
                "judged by the same hidden tests"
            )
        asked.setdefault(row["benchmark"], set()).add(row["problem"])
    return asked


def check_problems(name: str, asked: set[str], there: Collection[str], data: str | None) -> None:
    """UserError if samples are of problems that the benchmark, or the file of it, does not have."""
    if missing := sorted(asked - {*there}):
        where, lacking = data or f"the published {name}", len(missing)
        raise UserError(f"{where} lacks {lacking} of the problems that the samples are for, such as {missing[0]}")


def check_supports(options: Options) -> None:
    """UserError if a minimum support is none."""
    if wrong := next((least for least in options.min_support if not 0 <= least <= 1), None):
        raise UserError(f"--min-support {wrong} is out of range: each must be at least 0 and at most 1")


def main(options: Options) -> None:
    """Judge every sample of every task by the hidden tests of its problem, and compare the ways to select."""
    check_supports(options)
    executions = read_executions(options)
    only_python(executions, "benchmarks with hidden tests are here")
    samples, _ = read_samples(executions)
    tasks = list(tasks_of(samples).values())
    asked = problems_of(executions, samples)
    data = files_by_name(options.benchmark_data)
    with ExitStack() as stack:
        benchmarks, pins = {}, {}
        for name in sorted(asked):
            benchmark = load_benchmark(name)
            source, pins[name] = pin_of(data.get(name) or benchmark.dataset, options.hf_token)
            problems = {problem.task_id: problem for problem in benchmark.problems(source)}
            check_problems(name, asked[name], problems, data.get(name))
            limits = {"workers": options.sandboxes, "timeout": benchmark.timeout, "python": None}
            hidden = stack.enter_context(sandbox_for(benchmark, problems.values(), **limits))
            references = {id: problem.prompt + problem.canonical_solution for id, problem in problems.items()}
            benchmarks[name] = Judged(problems, judge_of(benchmark, hidden), references)
        own = sandboxes_for(executions, options.sandboxes, timeout=options.timeout, memory=options.memory << 20)
        sandbox = stack.enter_context(own)["python"]

        async def audited_task(task: Row) -> Done:
            rows = [row for _, row in executions.read(sorted(task["positions"]))]
            rows.sort(key=lambda row: row["id"])  # the order of the input decides nothing
            return Done(await audit_of(rows, benchmarks[rows[0]["benchmark"]], sandbox))

        run_step(
            options,
            Table(
                source_of_tasks(executions, tasks, problems=content_id(pins)),
                audited_task,
                COLUMNS,
                carry=False,
                later=LATER_COLUMNS,
            ),
            window=TASKS_PER_SANDBOX * options.sandboxes,
        )
    judged = samples_by_task(open_source(options.output, token=options.hf_token).rows.to_list())
    figures = figures_of(judged, options.min_support, halves=options.halves)
    write_audit(options.output, figures, pins, token=options.hf_token)
    print(figures.as_markdown())


if __name__ == "__main__":
    run_script(main, Options, __doc__)
