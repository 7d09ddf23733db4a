"""CanItEdit (arXiv:2312.12450): 105 Python programs to edit, each with a "descriptive" and a "lazy" instruction.

That makes 210 tasks, 70 of each kind: corrective, adaptive, perfective. Its licence forbids training on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from code_eval.sandbox import Program
from selfalign.benchmarks.harness.benchmark import Benchmark, Problem, Row, Style, pass_rates_by
from selfalign.benchmarks.harness.functions import without_sentences
from selfalign.benchmarks.harness.problems import records
from selfalign.code.markdown import code_blocks

INSTRUCTIONS = ("instruction_descriptive", "instruction_lazy")
FIELDS = ("full_name", "before", "after", "tests", "taxonomy", *INSTRUCTIONS)


class CanItEdit(Benchmark):
    dataset = "nuprl/CanItEdit@3c07f38b1f9385f3214fcea94d4664c79df0d36a"
    samples, temperature = 20, 0.2  # paper, Table 7
    top_p, max_new_tokens = 0.95, 2048  # the benchmark's own script
    completion_stop = ("\n```",)
    timeout = 30.0  # some of the programs import torch
    requirements = "canitedit"
    memory = 4 << 30  # address space

    def problems(self, data: str | None = None) -> list[Problem]:
        """The tasks; their ids are those of the benchmark's own result files: 10_csv_parser_instruction_lazy."""
        return [
            Problem(
                task_id=f"{row['full_name']}_{instruction}",
                prompt=row[instruction],
                canonical_solution=row["after"],
                test=row["tests"],
                extra={"before": row["before"], "kind": row["taxonomy"]["change_kind"].lower()},
            )
            for row in records(data or self.dataset, needs=FIELDS)
            for instruction in INSTRUCTIONS
        ]

    def completion_prompt(self, problem: Problem) -> str:
        """The program, the instruction, and an open code block for the edited program."""
        return (
            f"## Program before the change\n\n```python\n{problem.extra['before'].strip()}\n```\n\n"
            f"## What to change\n\n{problem.prompt.strip()}\n\n"
            "## Whole program after the change\n\n```python\n"
        )

    def chat_prompt(self, problem: Problem) -> str:
        return (
            f"Change this program:\n\n```python\n{problem.extra['before'].strip()}\n```\n\n"
            f"The change: {problem.prompt.strip()}\n\n"
            "Answer with one code block that holds the whole program after the change."
        )

    def program(self, problem: Problem, answer: str, style: Style) -> Program:
        """The program after the change, and the hidden tests.

        The benchmark's own script takes the first code block of a chat answer, whatever its label. It finds nothing in
        an answer without one, where we take what follows the sentences.
        """
        if style == "chat":
            blocks = code_blocks(answer)
            answer = blocks[0].code if blocks else without_sentences(answer)
        return Program(answer, problem.test)

    def scores(self, rows: Sequence[Row], problems: Mapping[str, Problem]) -> dict[str, float]:
        """pass@1 by kind of change."""
        return pass_rates_by(rows, problems, "kind")
