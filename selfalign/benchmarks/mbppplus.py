"""MBPP+ (EvalPlus v0.2.0, arXiv:2305.01210): 378 problems of MBPP with about 35 times as many tests.

An answer must pass them all; `mbppplus-base` are the same problems with MBPP's own three tests. It reads the Hub's data
and those of EvalPlus' releases, and judges them alike: see `harness.evalplus`.
"""

from __future__ import annotations

from typing import Any

from selfalign.benchmarks.harness.benchmark import Problem, Row
from selfalign.benchmarks.harness.evalplus import hub_script, release_script
from selfalign.benchmarks.harness.problems import records
from selfalign.benchmarks.mbpp import Mbpp, docstring, entry_point

SLOW = {255: 60.0, 271: 60.0, 392: 60.0, 599: 120.0}  # the canonical solutions take up to 22 s on a busy machine

# JSON has no tuples, sets and complex numbers: which arguments of which task are some (EvalPlus' own layout).
ARE_TUPLES = {  # the elements of each argument, of the first one or of all, at this depth: 0 is the argument itself
    "arguments": (
        2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424, 429, 470, 560, 579, 596, 616, 630, 726, 740, 744, 809,
    ),
    "elements": (63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780),
    "elements of the first": (75, 413, 444, 753),
    "second": (106, 750),
    "first": (250, 307, 405, 446, 617, 720, 763, 808),
    "arguments and elements": (259, 401, 445),
    "first and its elements": (278,),
    "values of the first": (722,),
    "everything": (580, 615, 791),
}  # fmt: skip
KIND = {task: kind for kind, tasks in ARE_TUPLES.items() for task in tasks}


class MbppPlus(Mbpp):
    dataset = "evalplus/mbppplus@main"  # resolved to a commit when a run starts, and recorded
    variants = (None, "base")
    memory = 4 << 30  # EvalPlus
    timeout = 20.0
    note = (
        "Mbpp/164, 249, 295, 558, 581, 737, 787 and 794 are judged as in EvalPlus' evaluator, not as by their scripts"
    )

    def problems(self, data: str | None = None) -> list[Problem]:
        """The problems, in order, in the Hub's layout or in that of EvalPlus' releases."""
        rows = records(data or self.dataset, needs=("task_id", "prompt"))
        problem = self._of_release if "plus_input" in rows[0] else self._of_hub
        return [problem(row) for row in rows]

    def _of_hub(self, row: Row) -> Problem:
        name = entry_point(row["code"], row["test_list"][0])
        base = "\n".join([*row["test_imports"], *row["test_list"]])
        return Problem(
            task_id=f"Mbpp/{row['task_id']}",
            prompt=docstring(row["prompt"], row["test_list"][0]),
            entry_point=name,
            canonical_solution=row["code"],
            test=base if self.variant == "base" else hub_script(row["test"], name),
            timeout=SLOW.get(int(row["task_id"]), 0.0),
        )

    def _of_release(self, row: Row) -> Problem:
        inputs = row["base_input"] if self.variant == "base" else [*row["base_input"], *row["plus_input"]]
        number = int(row["task_id"].rpartition("/")[2])
        return Problem(
            task_id=row["task_id"],
            prompt=row["prompt"],
            entry_point=row["entry_point"],
            canonical_solution=row["canonical_solution"],
            test=release_script(row, [typed(number, arguments) for arguments in inputs]),
            timeout=SLOW.get(number, 0.0),
        )


def typed(task: int, arguments: list[Any]) -> list[Any]:
    """`arguments` of task number `task` as JSON has them, in the types that the function takes."""
    first, rest = arguments[0], arguments[1:]
    match KIND.get(task):
        case "arguments":
            return [tuple(a) for a in arguments]
        case "elements":
            return [[tuple(e) for e in a] for a in arguments]
        case "elements of the first":
            return [[tuple(e) for e in first], *rest]
        case "second":
            return [first, tuple(arguments[1])]
        case "first":
            return [tuple(first), *rest]
        case "arguments and elements":
            return [tuple(tuple(e) for e in a) for a in arguments]
        case "first and its elements":
            return [tuple(tuple(e) if isinstance(e, list) else e for e in first)]
        case "values of the first":
            return [{name: tuple(value) for name, value in first.items()}, *rest]
        case "everything":
            return [_all_tuples(a) for a in arguments]
    if task == 115:  # sets; the empty one became a dict
        return [[set(e) if e else {} for e in first]]
    if task == 124:
        return [float(first), complex(arguments[1])]
    if task == 252:
        return [complex(first)]
    return arguments


def _all_tuples(value: Any) -> Any:
    return tuple(map(_all_tuples, value)) if isinstance(value, list) else value
