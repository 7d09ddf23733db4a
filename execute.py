"""Step 5: responses -> executions. Each response runs together with its own tests, in a sandbox.

Paper: section 2.3 and appendix C.2. The Python blocks of response and tests are joined into one program, without the
response's `if __name__ == "__main__":`. It passes if it runs to its end and no assertion fails; otherwise, `code_eval`
says why it did not. Where the rows have a column `language`, those with "javascript" are run by node.

    python execute.py ./responses ./executions --sandboxes 8

Columns in:  id, response, tests, and perhaps language ("python", which is the default, or "javascript")

Columns out: those of the input, and

    program       code of the response, followed by the code of the tests
    outcome       passed, failed, error, timeout, out_of_memory, syntax_error, no_tests, ... (see code_eval)
    passed        whether the outcome is "passed"
    detail        last line of the error; null if there was none
    seconds       CPU time of the program, in seconds
    vacuous       whether the tests pass even if nothing that the response defines does anything, or if all that its
                  functions and methods do is to hand back their first argument (Python alone)
    mutation_score    share of small changes to the response's code that its tests notice, from 0 to 1

The last two columns say how strong the tests are (see selfalign/code/mutation.py). They are null if the tests do not
pass; the score is also null if there was nothing to change. Samples with an error have nothing to execute, so they are
counted and left out. In `strict`, samples that pass with a remark of the sandbox are counted as well: their tests did
what holds for some wrong answers (see code_eval/SECURITY.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

from code_eval.sandbox import WALL_FACTOR, Program, Result, Sandbox, SandboxUnavailable
from selfalign.code.javascript import check_parser
from selfalign.code.javascript_mutation import javascript_mutants, javascript_stubbed
from selfalign.code.mutation import echoing, mutants, stubbed
from selfalign.data.languages import language_of, languages_in, programs_of
from selfalign.errors import RowOpen, UserError
from selfalign.ids import draws_of
from selfalign.options import Count, CountOrZero, Positive, SandboxOptions, StepOptions, run_script
from selfalign.runner.source import read_input
from selfalign.runner.step import run_step
from selfalign.runner.table import Done, Table

COLUMNS = {
    "program": str,
    "outcome": str,
    "passed": bool,
    "detail": str,
    "seconds": float,
    "vacuous": bool,
    "mutation_score": float,
}
WINDOW_PER_SANDBOX = 4  # samples in flight per sandbox, so that no sandbox sits idle
# A mutant may loop forever. It gets a multiple of the time that the response took, but at least the floor, in case the
# machine is slow for a moment: a program that takes 2 ms rarely takes 20.
MUTANT_TIME_FACTOR, MUTANT_TIME_FLOOR = 5, 0.2  # the floor in seconds


@dataclass(frozen=True, kw_only=True)
class Options(SandboxOptions, StepOptions):
    """Options of this step."""

    sandbox_mode: Literal["isolated", "strict", "unsafe"] = "isolated"
    """How programs are isolated; see code_eval/SECURITY.md. `unsafe` does not isolate them and needs
    HF_ALLOW_CODE_EVAL=1."""

    timeout: Positive = 10.0
    """CPU seconds that a program may use. Several times as many may pass in wall-clock time."""

    memory: Count = 1024
    """Memory that a program may use, in MiB."""

    mutants: CountOrZero = 10
    """Maximum number of mutants (programs with one small change) on which the tests of each passing sample are tried; 0
    turns this off."""


def columns_of(code: str, tests: str, result: Result) -> dict[str, Any]:
    """The columns that say how a program ended; nothing is known yet about the strength of its tests."""
    return {
        "program": f"{code}\n\n{tests}",
        "outcome": result.outcome,
        "passed": result.passed,
        "detail": result.detail or None,
        "seconds": result.cpu_seconds,
        "vacuous": None,
        "mutation_score": None,
    }


def wrong_programs(
    code: str, tests: str, result: Result, options: Options, sample_id: str, language: str = "python"
) -> tuple[list[Program], list[Program]]:
    """Programs on which the tests of a passing sample should fail: the response as stubs, and its mutants.

    There are none for JavaScript that its parser does not know.
    """
    took = max(result.cpu_seconds, result.wall_seconds / WALL_FACTOR)  # a program that sleeps uses no CPU
    limit = min(options.timeout, max(MUTANT_TIME_FLOOR, MUTANT_TIME_FACTOR * took))
    draws = draws_of(options.seed, sample_id)
    if language == "javascript":
        stub, changed = javascript_stubbed(code), javascript_mutants(code, options.mutants, draws)
        stubs = [] if stub is None else [stub]
    else:
        stubs, changed = [stubbed(code), echoing(code)], mutants(code, options.mutants, draws)

    def programs(texts: Iterable[str]) -> list[Program]:
        return [Program(text, tests, timeout=limit) for text in texts]

    return programs(stubs), programs(mutant.code for mutant in changed)


def strength(stubs: Sequence[Result], changed: Sequence[Result]) -> dict[str, Any]:
    """`vacuous` and `mutation_score`, from the outcomes of `wrong_programs`.

    Programs on which the sandbox itself failed do not count.
    """
    judged = [mutant for mutant in changed if mutant.outcome != "sandbox_error"]
    killed = sum(not mutant.passed for mutant in judged)
    vacuous = any(stub.passed for stub in stubs)
    return {"vacuous": vacuous, "mutation_score": killed / len(judged) if judged else None}


def open_sandbox(options: Options, language: str = "python") -> Sandbox:
    """The sandbox; UserError if programs cannot be isolated on this machine, or not with these options."""
    memory = options.memory << 20
    try:
        return Sandbox(options.sandbox_mode, options.sandboxes, options.timeout, language=language, memory=memory)
    except (SandboxUnavailable, ValueError) as error:
        raise UserError(str(error)) from None


async def run_in(sandbox: Sandbox, *programs: Program) -> list[Result]:
    """How each program ended; RowOpen if the sandbox failed the first one."""
    results = await asyncio.gather(*(asyncio.wrap_future(sandbox.submit(program)) for program in programs))
    if results[0].outcome == "sandbox_error":
        raise RowOpen(f"the sandbox failed: {results[0].detail}")
    return results


def main(options: Options) -> None:
    """Run every sample against its tests, and the tests of those that pass against wrong programs."""
    responses = read_input(options, "id", "response", "tests")
    languages = languages_in(responses)
    if "javascript" in languages:
        check_parser()

    async def execution_of(sample: dict[str, Any]) -> Done:
        if sample.get("error"):
            return Done([], {sample["error"]: 1})
        code, tests = programs_of(sample)
        language = language_of(sample)
        sandbox = sandboxes[language]
        (result,) = await run_in(sandbox, Program(code, tests))
        execution = columns_of(code, tests, result)
        if result.passed:
            stubs, changed = wrong_programs(code, tests, result, options, sample["id"], language)
            judged = await run_in(sandbox, *stubs, *changed) if stubs else []
            execution |= strength(judged[: len(stubs)], judged[len(stubs) :]) if judged else {}
        counts = {"vacuous": 1} if execution["vacuous"] else {}
        return Done([sample | execution], counts | {f"remark_{name}": 1 for name in result.remarks if result.passed})

    with ExitStack() as stack:
        sandboxes = {name: stack.enter_context(open_sandbox(options, name)) for name in languages}
        window = WINDOW_PER_SANDBOX * options.sandboxes
        run_step(options, Table(responses, execution_of, COLUMNS, count_by="outcome"), window=window)


if __name__ == "__main__":
    run_script(main, Options, __doc__)
