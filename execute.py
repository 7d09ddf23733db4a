"""Step 5: responses -> executions. Each response runs together with its own tests, in a sandbox.

Paper: section 2.3 and appendix C.2. The Python blocks of response and tests become one program. It passes if it runs to
its end without an assertion failing; `code_eval` tells apart why it does not.

    python execute.py ./responses ./executions --sandboxes 8

Columns in:  id, response, tests

Columns out: those, and

    program       code of the response, then that of the tests
    outcome       passed, failed, error, timeout, out_of_memory, syntax_error, no_tests, ... (see code_eval)
    passed        whether the outcome is "passed"
    detail        last line of the error, null if there was none
    seconds       processor time of the program
    vacuous       whether the tests also pass where nothing that the response defines does anything
    mutation_score    of small changes to the response's code, the share that its tests notice, 0 to 1

The last two say how strong the tests are (see selfalign/code/mutation.py). They are null where the tests do not pass,
and the score also where there was nothing to change. Samples that came with an error have nothing to execute: they are
counted and left out.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from selfalign.options import OPERATIONAL, Count, CountOrZero, Positive, StepOptions, run_script
from selfalign.runner.source import read_input
from selfalign.runner.step import run_step
from selfalign.runner.table import Done, Table

if TYPE_CHECKING:
    from code_eval.sandbox import Program, Result

COLUMNS = {
    "program": str,
    "outcome": str,
    "passed": bool,
    "detail": str,
    "seconds": float,
    "vacuous": bool,
    "mutation_score": float,
}
WINDOW_PER_SANDBOX = 4  # samples in hand for each sandbox, so that none waits for the next
# A mutant may loop for ever. It gets a multiple of the time that the response took, but enough for a slow moment of the
# machine: a program that takes 2 ms seldom takes 20.
MUTANT_TIME_FACTOR, MUTANT_TIME_FLOOR = 5, 0.2  # the floor in seconds


@dataclass(frozen=True, kw_only=True)
class Options(StepOptions):
    """Options of this step."""

    sandbox_mode: Literal["isolated", "strict", "unsafe"] = "isolated"
    """How programs are kept in: see code_eval/SECURITY.md. `unsafe` isolates nothing and needs HF_ALLOW_CODE_EVAL=1."""

    timeout: Positive = 10.0
    """Processor seconds that a program may use; several times as many may pass on the clock."""

    memory: Count = 1024
    """MiB that a program may use."""

    mutants: CountOrZero = 10
    """Programs with a small change that the tests of each passing sample are tried on, at most; 0 for none."""

    sandboxes: Count = field(default_factory=lambda: os.cpu_count() or 1, metadata=OPERATIONAL)
    """Programs that run at a time."""


def program_of(response: str, tests: str) -> tuple[str, str]:
    """Code and tests of a sample, out of their Markdown."""
    from selfalign.code.markdown import python_code

    return python_code(response) or "", python_code(tests) or ""


def wrong_programs(code: str, tests: str, result: Result, options: Options, sample_id: str) -> list[Program]:
    """What the tests of a passing sample should fail on: the response as a stub, and then its mutants."""
    from code_eval.sandbox import WALL_FACTOR, Program
    from selfalign.code.mutation import mutants, stubbed
    from selfalign.ids import draws_of

    took = max(result.cpu_seconds, result.wall_seconds / WALL_FACTOR)  # a program that sleeps uses no CPU
    limit = min(options.timeout, max(MUTANT_TIME_FLOOR, MUTANT_TIME_FACTOR * took))
    changed = mutants(code, options.mutants, draws_of(options.seed, sample_id))
    return [Program(text, tests, timeout=limit) for text in [stubbed(code), *(mutant.code for mutant in changed)]]


def strength(stub: Result, mutants: Sequence[Result]) -> dict[str, Any]:
    """`vacuous` and `mutation_score`, from how the `wrong_programs` ended; what the sandbox failed does not count."""
    judged = [mutant for mutant in mutants if mutant.outcome != "sandbox_error"]
    killed = sum(not mutant.passed for mutant in judged)
    return {"vacuous": stub.passed, "mutation_score": killed / len(judged) if judged else None}


def main(options: Options) -> None:
    """Run every sample against its tests."""
    import asyncio

    from code_eval.sandbox import Program, Sandbox, SandboxUnavailable
    from selfalign.errors import RowOpen, UserError

    responses = read_input(options, "id", "response", "tests")

    async def run(*programs: Program) -> list[Result]:
        results = await asyncio.gather(*(asyncio.wrap_future(sandbox.submit(program)) for program in programs))
        if results[0].outcome == "sandbox_error":
            raise RowOpen(f"the sandbox failed: {results[0].detail}")
        return results

    async def execution_of(sample: dict[str, Any]) -> Done:
        if sample.get("error"):
            return Done([], {sample["error"]: 1})
        code, tests = program_of(sample["response"], sample["tests"])
        (result,) = await run(Program(code, tests))
        execution = {
            "program": f"{code}\n\n{tests}",
            "outcome": result.outcome,
            "passed": result.passed,
            "detail": result.detail or None,
            "seconds": result.cpu_seconds,
            "vacuous": None,
            "mutation_score": None,
        }
        if result.passed:
            stub, *mutants = await run(*wrong_programs(code, tests, result, options, sample["id"]))
            execution |= strength(stub, mutants)
        return Done([sample | execution], {"vacuous": 1} if execution["vacuous"] else {})

    try:
        sandbox = Sandbox(
            mode=options.sandbox_mode, workers=options.sandboxes, timeout=options.timeout, memory=options.memory << 20
        )
    except SandboxUnavailable as error:
        raise UserError(str(error)) from None
    with sandbox:
        window = WINDOW_PER_SANDBOX * options.sandboxes
        run_step(options, Table(responses, execution_of, COLUMNS, count_by="outcome"), window=window)


if __name__ == "__main__":
    run_script(main, Options, __doc__)
