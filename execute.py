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

Samples that came with an error have nothing to execute: they are counted and left out.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Literal

from selfalign.options import OPERATIONAL, StepOptions, run_script

COLUMNS = {"program": str, "outcome": str, "passed": bool, "detail": str, "seconds": float}
WINDOW_PER_SANDBOX = 4  # programs in hand for each sandbox, so that none waits for the next


@dataclass(frozen=True, kw_only=True)
class Options(StepOptions):
    """Options of this step."""

    sandbox_mode: Literal["isolated", "strict", "unsafe"] = "isolated"
    """How programs are kept in: see code_eval/SECURITY.md. `unsafe` isolates nothing and needs HF_ALLOW_CODE_EVAL=1."""

    timeout: float = 10.0
    """Processor seconds that a program may use; several times as many may pass on the clock."""

    memory: int = 1024
    """MiB that a program may use."""

    sandboxes: int = field(default_factory=lambda: os.cpu_count() or 1, metadata=OPERATIONAL)
    """Programs that run at a time."""


def program_of(response: str, tests: str) -> tuple[str, str]:
    """Code and tests of a sample, out of their Markdown."""
    from selfalign.markdown import python_code

    return python_code(response) or "", python_code(tests) or ""


def main(options: Options) -> None:
    """Run every sample against its tests."""
    import asyncio

    from code_eval.sandbox import Program, Sandbox, SandboxUnavailable
    from selfalign.options import UserError
    from selfalign.steps import Done, RowOpen, read_input, run_step

    responses = read_input(options, "id", "response", "tests")

    async def execution_of(sample: dict[str, Any]) -> dict[str, Any] | Done:
        if sample.get("error"):
            return Done([], {sample["error"]: 1})
        code, tests = program_of(sample["response"], sample["tests"])
        result = await asyncio.wrap_future(sandbox.submit(Program(code=code, tests=tests)))
        if result.outcome == "sandbox_error":
            raise RowOpen(f"the sandbox failed: {result.detail}")
        return sample | {
            "program": f"{code}\n\n{tests}",
            "outcome": result.outcome,
            "passed": result.passed,
            "detail": result.detail or None,
            "seconds": result.cpu_seconds,
        }

    try:
        sandbox = Sandbox(
            mode=options.sandbox_mode, workers=options.sandboxes, timeout=options.timeout, memory=options.memory << 20
        )
    except SandboxUnavailable as error:
        raise UserError(str(error)) from None
    with sandbox:
        window = WINDOW_PER_SANDBOX * options.sandboxes
        run_step(options, responses, execution_of, COLUMNS, count_by="outcome", window=window)


if __name__ == "__main__":
    run_script(main, Options, __doc__)
