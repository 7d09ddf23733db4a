"""LiveCodeBench, code execution: what a function returns for an input, which the model has to work out.

479 calls of solutions of 85 problems (execution-v2). `livecodebench-execution` asks for the answer at once, and
`livecodebench-execution-cot` for the steps of the computation before it. As in LiveCodeBench, the answer is an
expression, which is evaluated beside the function and compared by `==`; one that contains the call itself is wrong.
"""

from __future__ import annotations

from code_eval.sandbox import Program
from selfalign.benchmarks.harness.assertions import right_side
from selfalign.benchmarks.harness.benchmark import Benchmark, Problem, Style
from selfalign.benchmarks.harness.livecodebench_judge import PRELUDE
from selfalign.benchmarks.harness.problems import iso_date, records

FIELDS = ("id", "function_name", "code", "input", "output", "contest_date")

QUESTION = "[PYTHON]\n{code}\nassert {call} == ??\n[/PYTHON]\n"
THOUGHT = "[THOUGHT]\n{thought}\n[/THOUGHT]\n"
ANSWER = "[ANSWER]\nassert {call} == {output}\n[/ANSWER]\n\n"
RULES = (
    "Each block between [PYTHON] and [/PYTHON] has a Python function and an assertion that calls it. Write the "
    "assertion with the value that the call really returns in place of ??, even if the function has mistakes: as a "
    "literal, without calls and without operators that are still to be worked out. "
)
AT_ONCE = "Write the whole assertion between [ANSWER] and [/ANSWER], and nothing else, as in the examples.\n\n"
STEP_BY_STEP = (
    "First go through the function step by step between [THOUGHT] and [/THOUGHT]. Then write the whole assertion "
    "between [ANSWER] and [/ANSWER], as in the example.\n\n"
)
# Worked examples: code, call, output, and the steps that lead to it.
EXAMPLES = (
    (
        "def lastTwo(values):\n    return values[-2:]",
        "lastTwo(values = [4, 9, 1])",
        "[9, 1]",
        "The function is called with values = [4, 9, 1]. The slice values[-2:] begins at the last element but one, so "
        "it has the elements 9 and 1. The function returns the list [9, 1].",
    ),
    (
        "def withDashes(words : list) -> str:\n    return '-'.join(words) + '-'",
        "withDashes(words = ['up', 'down'])",
        "'up-down-'",
        "",
    ),
)


class LiveCodeBenchExecution(Benchmark):
    """The variant `cot` asks for the steps of the computation first."""

    dataset = "livecodebench/execution-v2@main"  # resolved to a commit when a run starts, and recorded
    variants = (None, "cot")
    samples, temperature, top_p, max_new_tokens = 10, 0.2, 0.95, 2000  # LiveCodeBench's own
    completion_stop = ("[/ANSWER]",)
    memory = 4 << 30  # LiveCodeBench

    def problems(self, data: str | None = None) -> list[Problem]:
        """The calls, in order; `prompt` is the function."""
        return [
            Problem(
                task_id=row["id"],
                prompt=row["code"],
                entry_point=row["function_name"],
                canonical_solution=row["output"],
                test=row["input"],
                extra={"date": iso_date(row["contest_date"])},
            )
            for row in records(data or self.dataset, needs=FIELDS)
        ]

    def completion_prompt(self, problem: Problem) -> str:
        """The rules, worked examples, and the call, up to where the answer, or the steps before it, begin."""
        steps = self.variant == "cot"
        text = RULES + (STEP_BY_STEP if steps else AT_ONCE)
        for code, call, output, thought in EXAMPLES[:1] if steps else EXAMPLES:
            text += QUESTION.format(code=code, call=call) + (THOUGHT.format(thought=thought) if steps else "")
            text += ANSWER.format(call=call, output=output)
        return (
            text + QUESTION.format(code=problem.prompt, call=problem.test) + ("[THOUGHT]\n" if steps else "[ANSWER]\n")
        )

    def chat_prompt(self, problem: Problem) -> str:
        return self.completion_prompt(problem)

    def program(self, problem: Problem, answer: str, style: Style) -> Program:
        """The expression of the answer as a string, and what evaluates it beside the function."""
        expression = answer if style == "solution" else expression_in(answer, problem.test)
        check = f"_expected = ({problem.canonical_solution})\nassert _value == _expected, f'{{_value!r:.60}} instead'"
        judge = (
            f"assert {problem.test!r} not in ANSWER, 'the answer is the call itself'\n_value = eval(ANSWER)\n{check}"
        )
        more = "import numpy as np\nfrom os.path import commonprefix\n" + (
            "import pandas as pd\n" * ("pd." in problem.prompt)
        )
        return Program(f"ANSWER = {expression!r}", f"{PRELUDE}{more}{problem.prompt}\n{judge}")


def expression_in(answer: str, call: str) -> str:
    """What an answer says that `call` returns, as LiveCodeBench's own script finds it.

    That is what follows the first "==" behind [ANSWER], up to [/ANSWER] or else to the end of the line. Where the
    answer repeats the call, it is what follows that, since the arguments may contain "==".
    """
    before, tag, after = answer.partition("[ANSWER]")
    if tag and "[/ANSWER]" not in before:  # otherwise it is that of a further question, which the model has added
        answer = after
    sign = f"{call} ==" if f"{call} ==" in answer else "=="
    answer = (answer.partition(sign)[2] or answer).strip()
    answer = answer.split("[/ANSWER]")[0].strip() if "[/ANSWER]" in answer else answer.split("\n")[0].strip()
    return right_side(f"assert 0 == {answer}") or answer
