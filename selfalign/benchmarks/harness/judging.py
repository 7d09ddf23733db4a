"""How answers are judged: the sandbox with a benchmark's limits, the verdict, and what is measured afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from code_eval.sandbox import PRELOAD, Program, Result, Sandbox, SandboxUnavailable
from selfalign.benchmarks.harness.benchmark import Benchmark, Problem, Row, Style
from selfalign.benchmarks.harness.packages import installed_packages
from selfalign.errors import RowOpen, UserError
from selfalign.llm.completion import UNFINISHED

Judge = Callable[[Problem, str | None, Style], Awaitable[Row]]


def sandbox_for(
    benchmark: Benchmark,
    problems: Iterable[Problem],
    *,
    workers: int,
    timeout: float,
    python: str | None,
    perf_event: str | None = None,
) -> Sandbox:
    """The sandbox with the benchmark's limits; UserError if this machine can't isolate programs, or count for them.

    `timeout` is in seconds of CPU time; `python` is the interpreter of the programs, by default this one; `perf_event`
    is what they can read of themselves.
    """
    preload = None
    if benchmark.preload is not None:
        wanted = dict.fromkeys([*PRELOAD, *benchmark.preload])
        installed = installed_packages(wanted, python)
        preload = [name for name in wanted if name.split(".")[0] in installed]
    try:
        return Sandbox(
            workers=workers,
            timeout=timeout,
            memory=benchmark.memory,
            disk=benchmark.disk,
            preload=preload,
            python=python,
            environment=benchmark.environment,
            read_only=benchmark.read_only(problems),
            language=benchmark.language,
            perf_event=perf_event,
        )
    except SandboxUnavailable as error:
        raise UserError(str(error)) from None


def judge_of(benchmark: Benchmark, sandbox: Sandbox) -> Judge:
    """The function that takes a problem, an answer and its style, and returns the columns of the verdict.

    An answer that is None, because the model did not stop thinking, has not passed, and nothing is run. The function
    raises RowOpen if the sandbox failed, which is not the answer's fault.
    """

    async def judge(problem: Problem, answer: str | None, style: Style) -> Row:
        if answer is None:
            names = filter(None, benchmark.checks(problem, "", style))
            return {
                "code": None,
                "outcome": UNFINISHED,
                "passed": False,
                "detail": "the model was still thinking",
                "seconds": 0.0,
                "checks": [{"name": name, "outcome": UNFINISHED} for name in names] or None,
            }
        programs = benchmark.checks(problem, answer, style)
        timeout = max(sandbox.timeout, problem.timeout)
        submitted = [sandbox.submit(Program(p.code, p.tests, timeout)) for p in programs.values()]
        results = await asyncio.gather(*map(asyncio.wrap_future, submitted))
        for result in results:
            if result.outcome == "sandbox_error":
                raise RowOpen(f"the sandbox failed: {result.detail}")
        worst = next((result for result in results if not result.passed), results[0])
        return {
            "code": next(iter(programs.values())).code,
            "outcome": worst.outcome,
            "passed": all(result.passed for result in results),
            "detail": worst.detail or None,
            "seconds": sum(result.cpu_seconds for result in results),
            "checks": [{"name": n, "outcome": r.outcome} for n, r in zip(programs, results, strict=True) if n] or None,
        }

    return judge


def measured_by(
    benchmark: Benchmark,
    rows: Sequence[Row],
    problems: Mapping[str, Problem],
    *,
    timeout: float,
    python: str | None = None,
) -> dict[str, Row]:
    """What the benchmark measures of judged rows, by the row's id; its programs run one at a time."""
    from tqdm import tqdm

    if type(benchmark).measure is Benchmark.measure:  # most benchmarks measure nothing, and need no sandbox
        return {}
    limits = sandbox_for(
        benchmark, problems.values(), workers=1, timeout=timeout, python=python, perf_event=benchmark.perf_event
    )
    with limits as sandbox, tqdm(desc="measure", unit=" programs") as progress:

        def run(programs: Sequence[Program]) -> list[Result]:
            results = []
            for program in programs:
                results.append(sandbox.submit(program).result())
                if results[-1].outcome == "sandbox_error":  # not the program's fault
                    raise UserError(
                        f"the sandbox failed while programs were measured ({results[-1].detail}): run the same command "
                        "again, which only measures"
                    )
                progress.update()
            return results

        return benchmark.measure(rows, problems, run)
