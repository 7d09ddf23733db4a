"""Benchmarks, one file each: their problems, how a model is prompted, and the program that judges an answer.

A benchmark is a module with

    problems(data) -> list[Problem]              `data`: a file to read instead of the published one
    completion_prompt(problem), COMPLETION_STOP  for a base model: the answer continues the prompt
    chat_prompt(problem)                         for an instruction-tuned model: what the user asks
    program(problem, answer, style) -> (code, tests)
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

NAMES = ("humaneval",)


@dataclass(frozen=True)
class Problem:
    """A problem of a function-level benchmark: the function's head with its docstring, and the tests of it."""

    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    test: str


def load_benchmark(name: str) -> ModuleType:
    """The module of the benchmark `name`, one of NAMES."""
    return importlib.import_module(f"selfalign.benchmarks.{name}")


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """The unbiased estimate of pass@k from `samples` answers of which `correct` pass (arXiv:2107.03374)."""
    import numpy as np

    if samples - correct < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(samples - correct + 1, samples + 1)))
