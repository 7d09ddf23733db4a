"""HumanEval+ (EvalPlus, arXiv:2305.01210): HumanEval with about 80 times as many tests, all of which must pass.

It reads the Hub's data and those of EvalPlus' releases, and judges them alike: see `harness.evalplus`.
"""

from __future__ import annotations

from selfalign.benchmarks.harness.benchmark import Problem, Row
from selfalign.benchmarks.harness.evalplus import hub_script, release_script
from selfalign.benchmarks.harness.functions import FunctionBenchmark
from selfalign.benchmarks.harness.problems import records

SLOW, SLOW_TIMEOUT = (15, 59, 130, 139), 60.0  # the canonical solutions take up to 10 s on a busy machine


class HumanEvalPlus(FunctionBenchmark):
    dataset = "evalplus/humanevalplus@main"  # resolved to a commit when a run starts, and recorded
    memory = 4 << 30  # EvalPlus
    timeout = 20.0
    note = (
        "HumanEval/32 is judged by whether it finds a zero: its test on the Hub and EvalPlus 0.3.1 fail every solution"
    )

    def problems(self, data: str | None = None) -> list[Problem]:
        """The problems, in order, in the Hub's layout or in that of EvalPlus' releases."""
        fields = ("task_id", "prompt", "entry_point", "canonical_solution")
        return [
            Problem(
                **{name: row[name] for name in fields},
                test=_test(row),
                timeout=SLOW_TIMEOUT if int(row["task_id"].rpartition("/")[2]) in SLOW else 0.0,
            )
            for row in records(data or self.dataset, needs=fields)
        ]


def _test(row: Row) -> str:
    if "plus_input" in row:
        return release_script(row, [*row["base_input"], *row["plus_input"]])
    return f"{hub_script(row['test'], row['entry_point'])}\ncheck({row['entry_point']})"
