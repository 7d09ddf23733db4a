"""DS-1000 (arXiv:2211.11501): 1000 questions on seven libraries of data science, in the simplified format of 2024.

A question ends where the solution begins; the solution is put where its `code_context` says `[insert]`, and run. The
programs need pandas, numpy, matplotlib, tensorflow, scipy, scikit-learn and torch: in an environment of their own, that
of `--python`, because the reference solutions are for the versions of 2023 (environment.yml of xlang-ai/DS-1000).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from selfalign.benchmarks import Problem, records
from selfalign.benchmarks._shared import code_of, pass_rates

DATASET = "xlangai/DS-1000@4416080ac5cb80bdf7576aefb8f9a0b4d5426a44"
SAMPLES, TEMPERATURE, TOP_P = 40, 0.2, 0.95  # paper, Table 6
MAX_NEW_TOKENS = 1024  # not in the paper; reference solutions have some dozen lines at most
COMPLETION_STOP = ("</code>", "# SOLUTION END", "\nEND SOLUTION", "```")

TIMEOUT = 120.0  # seconds, that of the benchmark's own script
MEMORY = 8 << 30  # bytes of addresses, of which tensorflow and torch reserve a lot
# matplotlib wants a folder to write to when it is imported, tensorflow and torch have threads that a fork loses.
PRELOAD = ("numpy", "pandas", "scipy.stats", "scipy.optimize", "sklearn")
ENVIRONMENT = {
    "TF_NUM_INTRAOP_THREADS": "1",  # by default as many as there are cores, and a program may have 32
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",  # what it logs is output, of which there is a limit, too
    "CUDA_VISIBLE_DEVICES": "-1",
    "MPLBACKEND": "Agg",
}


def problems(data: str | None = None, variant: str | None = None) -> list[Problem]:
    """The questions, in order; their task ids are the numbers of 0 to 999."""
    return [
        Problem(
            task_id=str(row["metadata"]["problem_id"]),
            prompt=row["prompt"],
            entry_point="",
            canonical_solution=row["reference_code"],
            test=row["code_context"],
            extra={"library": row["metadata"]["library"]},
        )
        for row in records(data or DATASET)
    ]


def completion_prompt(problem: Problem) -> str:
    """The question as it is published: its last line opens the solution."""
    return problem.prompt


def chat_prompt(problem: Problem) -> str:
    """The question, and where the answer goes."""
    return (
        "The text below asks for a piece of Python code and ends where that code begins. Write the code that is "
        "missing there. Answer with one code block that holds nothing but this code, without what stands before it, "
        f"indented as it has to be at this place.\n\n{problem.prompt}"
    )


def program(problem: Problem, answer: str, style: str) -> tuple[str, str]:
    """The solution as a string, and the benchmark's own functions that insert it and judge."""
    solution = code_of(answer) if style == "chat" else answer
    solution = solution.partition("<code>")[2] or solution  # chat models repeat the question's own marks
    for mark in COMPLETION_STOP:  # in `style` solution, the completions of others
        solution = solution.partition(mark)[0]
    tests = f"{problem.test}\n\ntest_execution(solution)"
    if "def test_string(" in problem.test:  # whether the solution is written with what the question asks for
        tests += "\ntest_string(solution)"
    return f"solution = {solution!r}", tests


def scores(rows: Iterable[Mapping[str, Any]], problems: Mapping[str, Problem]) -> dict[str, float]:
    """pass@1 by library."""
    libraries: dict[str, list[str]] = {}
    for task, problem in problems.items():
        libraries.setdefault(problem.extra["library"], []).append(task)
    return pass_rates(rows, libraries)
