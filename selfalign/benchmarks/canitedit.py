"""CanItEdit (arXiv:2312.12450): 105 Python programs to change as told, in detail ("descriptive") and in short ("lazy").

That makes 210 tasks, 70 of each kind: corrective, adaptive, perfective. Its licence forbids training on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from selfalign.benchmarks import Problem, records
from selfalign.benchmarks._shared import code_of, pass_rates

DATASET = "nuprl/CanItEdit@3c07f38b1f9385f3214fcea94d4664c79df0d36a"
SAMPLES, TEMPERATURE = 20, 0.2  # paper, Table 7
TOP_P, MAX_NEW_TOKENS = 0.95, 2048  # of the benchmark's own script
COMPLETION_STOP = ("\n```",)

INSTRUCTIONS = ("instruction_descriptive", "instruction_lazy")
TIMEOUT = 30.0  # seconds: some of the programs import torch
MEMORY = 4 << 30  # bytes of addresses


def problems(data: str | None = None, variant: str | None = None) -> list[Problem]:
    """The tasks; their ids are those of the benchmark's own result files, such as 10_csv_parser_instruction_lazy."""
    return [
        Problem(
            task_id=f"{row['full_name']}_{instruction}",
            prompt=row[instruction],
            entry_point="",
            canonical_solution=row["after"],
            test=row["tests"],
            extra={"before": row["before"], "kind": row["taxonomy"]["change_kind"].lower()},
        )
        for row in records(data or DATASET)
        for instruction in INSTRUCTIONS
    ]


def completion_prompt(problem: Problem) -> str:
    """The program, the change, and an open code block for the program that results."""
    return (
        f"## Program before the change\n\n```python\n{problem.extra['before'].strip()}\n```\n\n"
        f"## What to change\n\n{problem.prompt.strip()}\n\n"
        "## Whole program after the change\n\n```python\n"
    )


def chat_prompt(problem: Problem) -> str:
    """What a user would ask."""
    return (
        f"Change this program:\n\n```python\n{problem.extra['before'].strip()}\n```\n\n"
        f"The change: {problem.prompt.strip()}\n\n"
        "Answer with one code block that holds the whole program after the change."
    )


def program(problem: Problem, answer: str, style: str) -> tuple[str, str]:
    """The program after the change, and the hidden tests."""
    return code_of(answer) if style == "chat" else answer, problem.test


def scores(rows: Iterable[Mapping[str, Any]], problems: Mapping[str, Problem]) -> dict[str, float]:
    """pass@1 by kind of change."""
    kinds: dict[str, list[str]] = {}
    for task, problem in problems.items():
        kinds.setdefault(problem.extra["kind"], []).append(task)
    return pass_rates(rows, kinds)
