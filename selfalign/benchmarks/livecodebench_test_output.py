"""LiveCodeBench, test output prediction: what a function has to return for an input, by the text of the problem alone.

442 tests of problems of LeetCode (test_generation). The model completes an assertion. As in LiveCodeBench, the right
side of the last assertion that it writes is evaluated and compared with the expected output by `==`.
"""

from __future__ import annotations

import json

from code_eval.sandbox import Program
from selfalign.benchmarks.harness.assertions import right_side
from selfalign.benchmarks.harness.benchmark import Benchmark, Problem, Row, Style
from selfalign.benchmarks.harness.problems import iso_date, records
from selfalign.code.markdown import PYTHON_LABELS, code_blocks

FIELDS = ("question_id", "test_id", "question_content", "function_name", "starter_code", "test", "contest_date")

JUDGE = """import json
_value, _expected = eval(ANSWER), json.loads({output!r})
assert _value == _expected, f"{{_value!r:.60}} instead of {{_expected!r:.60}}"
"""
# A worked example for base models: the problem, the head of the function, and an assertion.
EXAMPLE = (
    "You are given a list of words. Return how many of them begin and end with the same letter.",
    "class Solution:\n    def sameEnds(self, words: List[str]) -> int:",
    'assert sameEnds(["level", "tree", "a"]) == 2',
)


class LiveCodeBenchTestOutput(Benchmark):
    dataset = "livecodebench/test_generation@main"  # resolved to a commit when a run starts, and recorded
    samples, temperature, top_p, max_new_tokens = 10, 0.2, 0.95, 2000  # LiveCodeBench's own
    completion_stop = ("\n",)

    def problems(self, data: str | None = None) -> list[Problem]:
        """The tests, in order; `prompt` is the problem, and `test` the expected output in JSON."""
        return [_problem(row) for row in records(data or self.dataset, needs=FIELDS)]

    def completion_prompt(self, problem: Problem) -> str:
        """A worked example, the problem, and an assertion up to its right side."""
        statement, head, assertion = EXAMPLE
        example = f"{_section(statement, head)}{assertion}\n```\n\n"
        return f"{example}{_section(problem.prompt, problem.extra['starter_code'])}{_left_side(problem)}"

    def chat_prompt(self, problem: Problem) -> str:
        return (
            "The problem below asks for a Python function. Work out what this function has to return for the input of "
            "the test that follows, and answer with the whole assertion in one code block.\n\n"
            f"{problem.prompt.strip()}\n\n"
            f"The function:\n\n```python\n{problem.extra['starter_code'].strip()}\n```\n\n"
            f"The test to complete:\n\n```python\n{_left_side(problem)} ...\n```"
        )

    def program(self, problem: Problem, answer: str, style: Style) -> Program:
        """The expression of the answer as a string, and what evaluates it."""
        if style == "completion":
            answer = f"{_left_side(problem)} {answer.strip()}"
        return Program(f"ANSWER = {expression_in(answer)!r}", JUDGE.format(output=problem.test))


def expression_in(answer: str) -> str:
    """The output that an answer expects, as LiveCodeBench's own script finds it.

    That is the right side of the last line that begins with an assertion, or else of the assertion in the first code
    block of Python. Anything else, such as a given sample with nothing but the output, is taken as it is.
    """
    lines = [line for line in answer.split("\n") if line.startswith("assert")]
    blocks = code_blocks(answer)
    blocks = [block for block in blocks if block.label in PYTHON_LABELS] or blocks
    if lines:
        text = lines[-1]
    else:
        text = blocks[0].code if blocks else answer
        inside = (line for line in text.splitlines() if "assert" in line and not line.startswith("#"))
        text = next(inside, text) if "\n" in text.strip() else text
    return right_side(text.strip()) or text.strip()


def _problem(row: Row) -> Problem:
    test = json.loads(row["test"])[0]
    return Problem(
        task_id=f"{row['question_id']}_{row['test_id']}",
        prompt=row["question_content"],
        entry_point=row["function_name"],
        canonical_solution=repr(json.loads(test["output"])),
        test=test["output"],
        extra={
            "arguments": ", ".join(test["input"].split("\n")),
            "starter_code": row["starter_code"],
            "date": iso_date(row["contest_date"]),
        },
    )


def _left_side(problem: Problem) -> str:
    return f"assert {problem.entry_point}({problem.extra['arguments']}) =="


def _section(statement: str, head: str) -> str:
    function = f"### Function\n\n```python\n{head.strip()}\n```"
    return f"### Problem\n\n{statement.strip()}\n\n{function}\n\n### Test\n\n```python\n"
