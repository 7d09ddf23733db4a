"""Agreement: which of several passing responses to a task behaves like most of the others.

A response passes if its own tests do, and these may be just as wrong. Here every passing sample of a task also runs
against the tests of all others. Samples that are right agree with each other, and those that are wrong are wrong in
different ways (the idea of CodeT, Chen et al. 2022, arXiv 2207.10397).
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from code_eval.sandbox import Program, Result, Sandbox, SandboxUnavailable
from selfalign.code.javascript import check_parser
from selfalign.data.languages import KNOWN, language_of, languages_in, programs_of
from selfalign.data.selection import source_of_tasks
from selfalign.errors import RowOpen, UserError
from selfalign.options import StepOptions
from selfalign.runner.source import Source, open_source
from selfalign.runner.step import run_step
from selfalign.runner.table import Done, Table

COLUMNS = {"id": str, "agreement": float}
TASKS_PER_SANDBOX = 2  # in flight, so that no sandbox sits idle; each task holds only its own samples

Row = dict[str, Any]


async def agreement_of(programs: list[tuple[str, str]], passes: Callable[[str, str], Awaitable[bool]]) -> list[float]:
    """How far each program agrees with the others, from 0 to 1.

    Two programs agree on tests that both pass or that both fail. All tests of the task are taken together, and equal
    ones count once. The agreement of a program is the share of pairs of another program and tests on which they agree.

    Args:
        programs: code and tests of each; every one passes its own tests.
        passes: whether code passes tests. It is called once for equal code, and never for code and its own tests.
    """
    codes, suites = (list(dict.fromkeys(parts)) for parts in zip(*programs, strict=True))
    known = set(programs)
    pairs = [(code, tests) for code in codes for tests in suites if (code, tests) not in known]
    verdicts = dict.fromkeys(known, True)
    verdicts |= dict(zip(pairs, await asyncio.gather(*(passes(*pair) for pair in pairs)), strict=True))
    votes = [[verdicts[code, tests] for tests in suites] for code, _ in programs]
    agreeing = [[sum(a == b for a, b in zip(one, other, strict=True)) for other in votes] for one in votes]
    return [(sum(row) - len(suites)) / max(1, len(suites) * (len(programs) - 1)) for row in agreeing]


async def result_in(sandbox: Sandbox, code: str, tests: str) -> Result:
    """How a program ended; RowOpen if the sandbox fails."""
    result = await asyncio.wrap_future(sandbox.submit(Program(code, tests)))
    if result.outcome == "sandbox_error":
        raise RowOpen(f"the sandbox failed: {result.detail}")
    return result


def samples_of(task: Row, executions: Source) -> dict[str, list[Row]]:
    """The samples of a task (`id`, `response`, `tests`) by their language; `positions` of the task says where they are.

    Those in different languages are not compared with each other. They are in the order of their ids, so that the order
    of the rows decides nothing.
    """
    columns = ["id", "response", "tests", *({"language"} & set(executions.rows.column_names))]
    by_language: dict[str, list[Row]] = {}
    rows = [row for _, row in executions.read(sorted(task["positions"]), columns)]
    for row in sorted(rows, key=lambda row: row["id"]):
        by_language.setdefault(language_of(row), []).append(row)
    return by_language


@contextmanager
def sandboxes_for(
    executions: Source,
    workers: int,
    *,
    timeout: float,
    memory: int,
    environment: Mapping[str, str] | None = None,
    of: Collection[str] = KNOWN,
) -> Iterator[dict[str, Sandbox]]:
    """A sandbox for each language of the executions that is in `of`, which is closed at the end; `environment` is that
    of programs.

    Raises:
        UserError: programs cannot be isolated here, or are in a language that cannot run.
    """
    with ExitStack() as stack:
        opened = {}
        for language in set(languages_in(executions)) & set(of):
            if language == "javascript":
                check_parser()
            try:
                sandbox = Sandbox(
                    workers=workers, timeout=timeout, language=language, memory=memory, environment=environment
                )
            except (SandboxUnavailable, ValueError) as error:
                raise UserError(str(error)) from None
            opened[language] = stack.enter_context(sandbox)
        yield opened


def agreements(
    options: StepOptions, executions: Source, tasks: list[list[int]], sandboxes: int, *, timeout: float, memory: int
) -> dict[str, float]:
    """The agreement of each sample of `tasks` by its id, computed by a step of its own that writes OUTPUT-agreement.

    It resumes and is divided like any step. Its results are kept: if they were computed again when the same command
    runs again, a timeout could change a choice that has already been written.

    Args:
        options: of the script.
        executions: rows with `id`, `response` and `tests`.
        tasks: positions of the samples of each task, at least two.
        sandboxes: how many programs run at a time.
        timeout: CPU seconds for each program.
        memory: bytes for each program.

    Raises:
        UserError: programs cannot be isolated here, or are in a language that cannot run.
        SystemExit: as `run_step` does, if tasks stay open.
    """

    async def passes(sandbox: Sandbox, code: str, tests: str) -> bool:
        return (await result_in(sandbox, code, tests)).passed

    async def agreements_in(task: dict[str, Any]) -> Done:
        rows = []
        for language, samples in samples_of(task, executions).items():  # seldom more than one
            programs = [programs_of(row) for row in samples]
            shares = await agreement_of(programs, partial(passes, opened[language]))
            rows += [{"id": row["id"], "agreement": share} for row, share in zip(samples, shares, strict=True)]
        return Done(rows)

    if not tasks:
        return {}
    output = options.output.rstrip("/") + "-agreement"
    with sandboxes_for(executions, sandboxes, timeout=timeout, memory=memory) as opened:
        run_step(
            dataclasses.replace(options, output=output, max_samples=None),
            Table(source_of_tasks(executions, tasks), agreements_in, COLUMNS, carry=False),
            window=TASKS_PER_SANDBOX * sandboxes,
            title="agreement",
        )
    found = open_source(output, columns=tuple(COLUMNS), token=options.hf_token).rows
    return dict(zip(found["id"], found["agreement"], strict=True))
