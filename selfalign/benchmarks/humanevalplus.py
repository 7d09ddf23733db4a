"""HumanEval+ (EvalPlus, arXiv:2305.01210): HumanEval with about 80 times as many tests, all of which must pass.

It reads the Hub's data and those of EvalPlus' releases, and judges them in the same way: see `harness.evalplus`.
"""

from __future__ import annotations

from selfalign.benchmarks.harness.benchmark import Problem, Row
from selfalign.benchmarks.harness.evalplus import hub_script, is_of_evalplus, release_script
from selfalign.benchmarks.harness.functions import FunctionBenchmark
from selfalign.benchmarks.harness.problems import FIELDS, check_fields, check_is_not_of, problem_of, records
from selfalign.errors import UserError

# CPU seconds for problems whose canonical solutions take up to 10 on a busy machine.
SLOW = dict.fromkeys([f"HumanEval/{number}" for number in (15, 59, 130, 139)], 60.0)


class HumanEvalPlus(FunctionBenchmark):
    dataset = "evalplus/humanevalplus@main"  # resolved to a commit when a run starts, and recorded
    memory = 4 << 30  # EvalPlus
    timeout = 20.0
    note = (
        "HumanEval/32 is judged by whether it finds a zero: its test on the Hub and EvalPlus 0.3.1 fail every solution"
    )

    def problems(self, data: str | None = None) -> list[Problem]:
        """The problems, in order, in the Hub's layout or in that of EvalPlus' releases."""
        source = data or self.dataset
        rows = records(source, needs=FIELDS)
        check_is_not_of("Mbpp/", rows, source)
        needs = ("base_input", "atol") if "plus_input" in rows[0] else ("test",)
        check_fields(rows, needs, source)
        if "test" in needs and not any(is_of_evalplus(row["test"]) for row in rows):
            raise UserError(f"{source} has the tests of HumanEval, and not those of HumanEval+")
        return [problem_of(row, _test(row), SLOW.get(row["task_id"], 0.0)) for row in rows]


def _test(row: Row) -> str:
    if "plus_input" in row:
        return release_script(row, [*row["base_input"], *row["plus_input"]])
    return f"{hub_script(row['test'], row['entry_point'])}\ncheck({row['entry_point']})"
