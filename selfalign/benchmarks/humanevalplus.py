"""HumanEval+ (EvalPlus, arXiv:2305.01210): HumanEval with some 80 times the tests; an answer passes them all.

The Hub's data and those of EvalPlus' releases are both read, and judged alike: see `_evalplus`.
"""

from __future__ import annotations

from selfalign.benchmarks import Problem, records
from selfalign.benchmarks._evalplus import mended, released
from selfalign.benchmarks._functions import (
    CHAT_PREFIX,
    CHAT_STOP,
    COMPLETION_STOP,
    chat_prompt,
    completion_prompt,
    function_code,
)

__all__ = ["CHAT_PREFIX", "CHAT_STOP", "COMPLETION_STOP", "chat_prompt", "completion_prompt", "problems", "program"]

DATASET = "evalplus/humanevalplus@main"  # its commit is resolved when a run starts, and recorded
MEMORY = 4 << 30  # bytes, as EvalPlus
TIMEOUT = 20.0  # seconds of CPU time
SLOW, SLOW_TIMEOUT = (15, 59, 130, 139), 60.0  # these take the canonical solution up to 10 s on a busy machine
NOTE = "HumanEval/32 is judged by whether it finds a zero: its test on the Hub and EvalPlus 0.3.1 fail every solution"


def problems(data: str | None = None, variant: str | None = None) -> list[Problem]:
    """The problems, in order; from the Hub's layout or EvalPlus' own."""
    fields = ("task_id", "prompt", "entry_point", "canonical_solution")
    rows = records(data or DATASET, needs=fields)
    return [Problem(**{name: row[name] for name in fields}, test=_test(row), extra=_extra(row)) for row in rows]


def _extra(row: dict) -> dict:
    return {"timeout": SLOW_TIMEOUT} if int(row["task_id"].rpartition("/")[2]) in SLOW else {}


def _test(row: dict) -> str:
    if "plus_input" in row:
        return released(row, [*row["base_input"], *row["plus_input"]])
    return f"{mended(row['test'], row['entry_point'])}\ncheck({row['entry_point']})"


def program(problem: Problem, answer: str, style: str) -> tuple[str, str]:
    """Code and tests of an answer."""
    return function_code(problem, answer, style), problem.test
