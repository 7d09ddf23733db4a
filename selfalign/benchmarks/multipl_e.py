"""MultiPL-E (arXiv:2208.08227): HumanEval's and MBPP's problems in other languages, of which JavaScript is run here.

`multipl-e-humaneval-js` and `multipl-e-mbpp-js` are configurations of the Hub dataset nuprl/MultiPL-E. A file for
`--data` has rows as they are there: `name`, `language`, `prompt`, `tests`, `stop_tokens`. Programs are run by the
`node` on the PATH (18 or newer).

As in the benchmark's own evaluation, a completion ends before the first of the problem's stop tokens, and prompt,
completion and tests are one script: a completion that declares a name of the tests (`const assert`) is a syntax error.
A program that ends itself before its tests (`process.exit(0)`) passes there, and does not here.
"""

from __future__ import annotations

import json
import re

from code_eval.sandbox import Program
from selfalign.benchmarks.harness.benchmark import Benchmark, Problem, Style
from selfalign.benchmarks.harness.problems import records
from selfalign.code.markdown import JAVASCRIPT_LABELS, code_blocks
from selfalign.errors import UserError

FIELDS = ("name", "language", "prompt", "tests", "stop_tokens")
LANGUAGE = "js"  # as the rows name it
NO_OTHER = "the sandbox runs JavaScript (js) and none of MultiPL-E's other languages"


class MultiplE(Benchmark):
    """The variant is the configuration on the Hub."""

    dataset = "nuprl/MultiPL-E@main"  # resolved to a commit when a run starts, and recorded
    variants = ("humaneval-js", "mbpp-js")
    samples, temperature = 20, 0.2  # for pass@1
    top_p, max_new_tokens = 0.95, 512  # multipl_e/completions.py, at 0adb7a42
    timeout = 15.0
    language = "javascript"
    chat_prefix = "Here is the function, complete:\n\n```javascript\n"
    chat_stop = ("\n```",)

    @classmethod
    def why_not(cls, variant: str) -> str:
        return "" if variant.endswith(LANGUAGE) else NO_OTHER

    def problems(self, data: str | None = None) -> list[Problem]:
        """The problems, in order; there are no canonical solutions. UserError if one is in another language."""
        rows = records(data or self.dataset, config=self.variant, needs=FIELDS)
        if others := sorted({row["language"] for row in rows} - {LANGUAGE}):
            raise UserError(f"{data or self.dataset} has problems in {', '.join(others)}: {NO_OTHER}")
        self.completion_stop = tuple(dict.fromkeys(stop for row in rows for stop in row["stop_tokens"]))
        return [
            Problem(
                task_id=row["name"],
                prompt=row["prompt"],
                entry_point=_tested(row["tests"]),
                test=row["tests"],
                extra={"stop": row["stop_tokens"]},
            )
            for row in rows
        ]

    def completion_prompt(self, problem: Problem) -> str:
        """What is asked, as comments, and the head of the function, without the line break behind it."""
        return problem.prompt.strip()

    def chat_prompt(self, problem: Problem) -> str:
        return (
            "Complete this JavaScript function. Answer with one code block that holds the whole function.\n\n"
            f"```javascript\n{problem.prompt.strip()}\n```"
        )

    def ask_as_the_reference(self) -> None:
        """Nothing changes: the paper's reference implementation does not measure it."""

    def program(self, problem: Problem, answer: str, style: Style) -> Program:
        """The function, and the tests; a completion must be one script together with them."""
        if style != "completion":
            return Program(_code_of(problem, answer) if style == "chat" else answer, problem.test)
        code = problem.prompt + _before(problem.extra["stop"], answer)
        script = json.dumps(f"{code}\n{problem.test}")
        return Program(code, f"new Function({script});  // which compiles it and runs nothing\n{problem.test}")


def _tested(tests: str) -> str:
    """The name of the function that the tests call; "" if they say it in another way than those that are published."""
    found = re.search(r"\bcandidate = (\w+);", tests)
    return found[1] if found else ""


def _before(stops: list[str], text: str) -> str:
    """`text` up to the first of the strings in `stops`."""
    return text[: min((at for stop in stops if (at := text.find(stop)) >= 0), default=len(text))]


def _code_of(problem: Problem, answer: str) -> str:
    """The code block of a Markdown answer that has the function, or the first one, to which the prompt is added."""
    blocks = code_blocks(answer)
    chosen = [block.code for block in blocks if block.label in JAVASCRIPT_LABELS] or [block.code for block in blocks]
    defining = [code for code in chosen or [answer] if problem.entry_point in code]
    return defining[0] if defining else problem.prompt + (chosen or [answer])[0]
