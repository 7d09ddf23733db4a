"""DS-1000 (arXiv:2211.11501): 1000 questions about seven data science libraries, in the simplified format of 2024.

A question ends where its solution begins. The solution replaces `[insert]` in the `code_context`, which is then run.
The programs need pandas, numpy, matplotlib, tensorflow, scipy, scikit-learn and torch, in the versions that the
reference solutions were written for (environment.yml of xlang-ai/DS-1000). An environment that has them is made by
`python -m selfalign.benchmarks.harness.environment ds1000`, and its interpreter is for `--python`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from code_eval.sandbox import Program
from selfalign.benchmarks.harness.benchmark import Benchmark, Problem, Row, Style, pass_rates_by
from selfalign.benchmarks.harness.functions import first_python_block
from selfalign.benchmarks.harness.problems import records

MARKS = ("# SOLUTION START", "### BEGIN SOLUTION", "BEGIN SOLUTION")  # the last lines of the three kinds of questions
SOLUTION = "# Solution\n"


class DS1000(Benchmark):
    dataset = "xlangai/DS-1000@4416080ac5cb80bdf7576aefb8f9a0b4d5426a44"
    samples, temperature, top_p = 40, 0.2, 0.95  # paper, Table 6
    begins_with_code = False  # whether the problem's own code begins a chat model's answer
    max_new_tokens = 1024  # the paper does not say; the longest reference solutions have about a dozen lines
    completion_stop = ("</code>", "# SOLUTION END", "\nEND SOLUTION", "```")

    timeout = 120.0  # the benchmark's own script
    requirements = "ds1000"
    memory = 8 << 30  # address space, of which tensorflow and torch reserve a lot
    # Not matplotlib, which needs a writable folder when it is imported, nor tensorflow and torch, whose threads do not
    # survive a fork.
    preload = ("numpy", "pandas", "scipy.stats", "scipy.optimize", "sklearn")
    environment = {  # noqa: RUF012
        "TF_NUM_INTRAOP_THREADS": "1",  # by default as many as there are cores, and a program may have 32
        "TF_NUM_INTEROP_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",  # its log counts as output, which is limited
        "CUDA_VISIBLE_DEVICES": "-1",
        "MPLBACKEND": "Agg",
    }

    def problems(self, data: str | None = None) -> list[Problem]:
        """The questions, in order; their task ids are the numbers from 0 to 999."""
        return [
            Problem(
                task_id=str(row["metadata"]["problem_id"]),
                prompt=row["prompt"],
                canonical_solution=row["reference_code"],
                test=row["code_context"],
                extra={"library": row["metadata"]["library"]},
            )
            for row in records(data or self.dataset, needs=("prompt", "reference_code", "metadata", "code_context"))
        ]

    def completion_prompt(self, problem: Problem) -> str:
        """The question as it is published: its last line opens the solution."""
        return problem.prompt

    def chat_prompt(self, problem: Problem) -> str:
        """The question, and where the answer goes."""
        return (
            "The text below asks for a piece of Python code and ends where that code begins. Write the code that is "
            "missing there. Answer with one code block that holds nothing but this code, without what stands before "
            f"it, indented as it has to be at this place.\n\n{problem.prompt}"
        )

    def reference_prompt(self, problem: Problem) -> str:
        return question_and_beginning(problem.prompt)[0]

    def ask_as_the_reference(self) -> None:
        super().ask_as_the_reference()
        self.begins_with_code, self.chat_stop = True, ("```",)

    def beginning(self, problem: Problem) -> str:
        return question_and_beginning(problem.prompt)[1] if self.begins_with_code else super().beginning(problem)

    def program(self, problem: Problem, answer: str, style: Style) -> Program:
        """The solution as a string, and the benchmark's own functions, which insert it and judge it.

        Tags and fences are removed as by the benchmark's own script, which leaves the sentences of a chat answer in. If
        the answer begins with the problem's own code, the solution is what follows that.
        """
        beginning = question_and_beginning(problem.prompt)[1]
        if style == "chat" and answer.startswith(beginning):
            solution = answer[len(beginning) :]
        else:
            solution = first_python_block(answer) if style == "chat" else answer.replace("```python", "")
        for mark in self.completion_stop:  # given samples may continue after them, with the tags of another question
            solution = solution.partition(mark)[0]
        solution = solution.partition("<code>")[2] or solution  # chat models repeat the tags of the question
        tests = f"{problem.test}\n\ntest_execution(solution)"
        if "def test_string(" in problem.test:  # whether the solution uses what the question asks for
            tests += "\ntest_string(solution)"
        return Program(f"solution = {solution!r}", tests)

    def scores(self, rows: Sequence[Row], problems: Mapping[str, Problem]) -> dict[str, float]:
        """pass@1 by library."""
        return pass_rates_by(rows, problems, "library")


def question_and_beginning(prompt: str) -> tuple[str, str]:
    """A question without its code, and this code as the beginning of the answer (the reference's evaluation/ds_1000).

    What the question says between its code and the solution, such as the name of the result, becomes a comment. A
    function that the solution completes loses the two comments at its end. Matplotlib's questions are nothing but code.
    """
    mark = next((mark for mark in MARKS if mark in prompt), "")
    before = prompt.rpartition(mark)[0] if mark else prompt
    if mark == MARKS[0]:
        code = before.strip()
        return f"Write a solution to the following problem:\n```python\n{code}\n```", f"```python\n{code}\n{SOLUTION}"
    question, _, code = before.rpartition("A:")
    if mark == MARKS[1]:
        lines = code.strip().split("\n")
        indent = before[len(before.rstrip(" ")) :]
        beginning = "\n".join(lines[:-2]).strip() + f"\n{indent}{SOLUTION}"
    else:
        code, _, said = code.rpartition("</code>")
        comments = [f"# {line.strip()}\n" for line in said.split("\n") if line.strip()]
        beginning = f"{(code + ''.join(comments)).strip()}\n{SOLUTION}"
    texts = question.strip().removeprefix("Problem:").strip(), beginning
    question, beginning = (text.replace("<code>", "```python").replace("</code>", "```") for text in texts)
    return question, beginning
