"""Agreement: which of several passing responses to a task behaves as most of the others do.

A response passes when its own tests do, and these may be as wrong as it is. Here every passing sample of a task runs
against the tests of all others, too: samples that are right agree, and wrong ones are wrong in different ways (the idea
of CodeT, Chen et al. 2022, arXiv 2207.10397).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfalign.options import StepOptions
    from selfalign.runner.source import Source

COLUMNS = {"id": str, "agreement": float}
TASKS_PER_SANDBOX = 2  # in hand, so that no sandbox waits; each holds its samples and nothing else


async def agreement_of(programs: list[tuple[str, str]], passes: Callable[[str, str], Awaitable[bool]]) -> list[float]:
    """How far each program agrees with the others, from 0 to 1.

    Two programs agree on tests that both pass or both fail; all tests of the task are taken together, equal ones once.
    The number is the share of pairs of another program and tests on which they agree.

    Args:
        programs: code and tests of each; every one passes its own tests.
        passes: whether code passes tests. Equal code is run once, and no code against its own tests.
    """
    import asyncio

    codes, suites = (list(dict.fromkeys(parts)) for parts in zip(*programs, strict=True))
    known = set(programs)
    pairs = [(code, tests) for code in codes for tests in suites if (code, tests) not in known]
    verdicts = dict.fromkeys(known, True)
    verdicts |= dict(zip(pairs, await asyncio.gather(*(passes(*pair) for pair in pairs)), strict=True))
    votes = [[verdicts[code, tests] for tests in suites] for code, _ in programs]
    agreeing = [[sum(a == b for a, b in zip(one, other, strict=True)) for other in votes] for one in votes]
    return [(sum(row) - len(suites)) / (len(suites) * (len(programs) - 1)) for row in agreeing]


def agreements(
    options: StepOptions, executions: Source, tasks: list[list[int]], sandboxes: int, **limits: Any
) -> dict[str, float]:
    """The agreement of each sample of `tasks` by its id, computed as a step of its own into OUTPUT-agreement.

    It resumes and is divided as any step. What it said once stays: were it computed anew when the same command runs
    again, a timeout might change a choice that is written already.

    Args:
        options: of the script.
        executions: rows with `id`, `response` and `tests`.
        tasks: positions of the samples of each task, two at least.
        sandboxes: how many programs run at a time.
        limits: of each program, as `Sandbox` takes them: timeout, memory.

    Raises:
        UserError: programs can't be isolated here.
        SystemExit: as `run_step`, if tasks stay open.
    """
    import asyncio
    import dataclasses

    import datasets

    from code_eval.sandbox import Program, Sandbox, SandboxUnavailable
    from selfalign.code.markdown import python_code
    from selfalign.errors import RowOpen, UserError
    from selfalign.ids import content_id
    from selfalign.runner.source import Source, open_source
    from selfalign.runner.step import run_step
    from selfalign.runner.table import Done, Table

    async def passes(code: str, tests: str) -> bool:
        result = await asyncio.wrap_future(sandbox.submit(Program(code=code, tests=tests)))
        if result.outcome == "sandbox_error":
            raise RowOpen(f"the sandbox failed: {result.detail}")
        return result.passed

    async def agreements_in(task: dict[str, Any]) -> Done:
        samples = [row for _, row in executions.read(sorted(task["positions"]), ["id", "response", "tests"])]
        programs = [(python_code(row["response"]) or "", python_code(row["tests"]) or "") for row in samples]
        shares = await agreement_of(programs, passes)
        return Done([{"id": row["id"], "agreement": share} for row, share in zip(samples, shares, strict=True)])

    if not tasks:
        return {}
    output = options.output.rstrip("/") + "-agreement"
    pin = executions.pin | {"tasks": content_id(*tasks)}
    try:
        sandbox = Sandbox(workers=sandboxes, **limits)
    except SandboxUnavailable as error:
        raise UserError(str(error)) from None
    with sandbox:
        run_step(
            dataclasses.replace(options, output=output, max_samples=None),
            Table(
                Source(executions.name, pin, datasets.Dataset.from_dict({"positions": tasks}), executions.run),
                agreements_in,
                COLUMNS,
                carry=False,
            ),
            window=TASKS_PER_SANDBOX * sandboxes,
            title="agreement",
        )
    found = open_source(output, columns=tuple(COLUMNS), token=options.hf_token).rows
    return dict(zip(found["id"], found["agreement"], strict=True))
