"""EvoEval (arXiv:2403.19114): HumanEval's problems, rewritten by GPT-4 to mean something else, in five sets of 100.

The expected output comes from running the canonical solution alongside the answer, on a copy of the arguments, in the
same sandbox; the `outputs` in the data of `creative` are mostly empty, and not used. Outputs are compared as in
EvoEval's evaluator: types must agree, floats may differ by 1e-6 and rtol 1e-5 (numpy's allclose), and six problems have
several right answers.
"""

from __future__ import annotations

from selfalign.benchmarks.harness.benchmark import Problem, Row
from selfalign.benchmarks.harness.functions import FunctionBenchmark, script_beside
from selfalign.benchmarks.harness.problems import FIELDS, problem_of, records
from selfalign.errors import UserError

COMPARE = """
def _kind(value):
    for kind in (bool, int, str, tuple, list, dict, set):
        if isinstance(value, kind):
            several = isinstance(value, (tuple, list))
            return float if several and all(isinstance(v, float) for v in value) else kind
    return float if isinstance(value, float) else type if isinstance(value, type) else type(value)

def _same(out, expected):
    import numpy
    kind = _kind(expected)
    if _kind(out) is not kind:
        return False
    if kind is float:
        return bool(numpy.allclose(expected, out, equal_nan=True, atol=1e-6))
    if kind in (list, tuple):
        return len(out) == len(expected) and all(map(_same, out, expected))
    if kind is dict:
        return out.keys() == expected.keys() and all(_same(out[key], expected[key]) for key in expected)
    return bool(out == expected)

def _judge(out, expected, *arguments):
    assert _same(out, expected), f"{out!r:.100} instead of {expected!r:.100}"
"""
# Problems with several right answers, by the variant and the number of the task.
ORACLES = {
    ("difficult", 10): """
def _judge(out, expected, text):
    assert len(out) == len(expected) and out.startswith(text) and out.lower() == out[::-1].lower()
""",
    ("difficult", 32): """
def _judge(out, expected, coefficients, interval):
    if expected is None:
        assert out is None
    else:
        assert interval[0] <= out <= interval[1]
        assert abs(sum(c * float(out) ** i for i, c in enumerate(coefficients))) <= 2e-2
""",
    ("subtle", 32): """
def _judge(out, expected, coefficients):
    powers = [0, 1, *range(3, 2 * len(coefficients), 2)]
    assert abs(sum(c * float(out) ** i for i, c in zip(powers, coefficients))) <= 1e-6
""",
    ("creative", 26): """
def _judge(out, expected, maze, start, end):
    if not expected:
        assert out == []
        return
    row, column = start
    for move in out:
        step = {"right": (0, 1), "left": (0, -1), "up": (-1, 0), "down": (1, 0)}[move]
        row, column = row + step[0], column + step[1]
        assert maze[row][column] != 1
    assert (row, column) == tuple(end)
""",
    ("creative", 30): """
def _judge(out, expected, maze, start, end):
    if not expected:
        assert out == []
        return
    assert out[0] == start and out[-1] == end
    for (row, column), (next_row, next_column) in zip(out, out[1:]):
        assert maze[next_row][next_column] != 0 and abs(next_row - row) + abs(next_column - column) == 1
""",
    ("creative", 69): """
def _judge(out, expected, numbers, target):
    if expected == "No magic today":
        assert out == expected
    else:
        assert isinstance(out, tuple)
        first, second = out
        assert 0 <= first < second < len(numbers) and numbers[first] * numbers[second] == target
""",
}

# The function of each set's task 0: the sets have the same task ids, and two of them the same fields.
FIRST = {
    "difficult": "has_close_elements_in_range",
    "creative": "calculate_shipping_cost",
    "subtle": "has_close_elements",
    "combine": "compare_happiness",
    "tool_use": "distribute_candies",
}


class EvoEval(FunctionBenchmark):
    dataset = "evoeval/EvoEval_{variant}@main"  # resolved to a commit when a run starts, and recorded
    variants = ("difficult", "creative", "subtle", "combine", "tool_use")
    memory = 4 << 30  # EvalPlus
    timeout = 40.0  # the canonical solution and the answer together take up to 10

    def problems(self, data: str | None = None) -> list[Problem]:
        """The problems of one set, in order."""
        rows = records(data or self.dataset, needs=(*FIELDS, "inputs"))
        first = next((row["entry_point"] for row in rows if row["task_id"] == "EvoEval/0"), None)
        others = [name for name, function in FIRST.items() if function == first and name != self.variant]
        if others:
            raise UserError(f"{data or self.dataset} is the set evoeval-{others[0]}, and not evoeval-{self.variant}")
        return [problem_of(row, self._test(row)) for row in rows]

    def _test(self, row: Row) -> str:
        number = int(row["task_id"].rpartition("/")[2])
        source = f"{row['prompt']}\n{row['canonical_solution']}"
        inputs = ",\n    ".join(f"[{arguments}]" for arguments in row["inputs"])
        inputs = f"((_a, _copy.deepcopy(_a)) for _a in [\n    {inputs},\n])"
        judge = f"import copy as _copy\n{COMPARE}{ORACLES.get((str(self.variant), number), '')}"
        return script_beside(source, row["entry_point"], judge, inputs, "*_arguments")
