"""MBPP+ (EvalPlus, arXiv:2305.01210): problems of MBPP with about 35 times as many tests.

The Hub has version 0.2.0 with 378 problems; the paper measured on version 0.1.0 with 399, which `--data FILE` reads.

An answer must pass them all; `mbppplus-base` are the same problems with MBPP's own three tests. It reads the Hub's data
and those of EvalPlus' releases, and judges them in the same way: see `harness.evalplus`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from selfalign.benchmarks.harness.benchmark import Problem, Row
from selfalign.benchmarks.harness.evalplus import hub_script, release_script
from selfalign.benchmarks.harness.problems import FIELDS, check_fields, check_is_not_of, problem_of, records
from selfalign.benchmarks.mbpp import Mbpp, docstring, entry_point

SLOW = {255: 60.0, 271: 60.0, 392: 60.0, 599: 120.0}  # the canonical solutions take up to 22 s on a busy machine


def _as_tuples(value: Any) -> Any:
    """`value` with tuples for lists at any depth."""
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


# JSON has no tuples, sets and complex numbers: what gives the arguments of these tasks the types that the functions
# take (EvalPlus' own layout).
TYPED: list[tuple[tuple[int, ...], Callable[..., list[Any]]]] = [
    ((2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424, 429, 470, 560, 579, 596, 616, 630, 726, 740, 744, 809),
     lambda *arguments: [tuple(a) for a in arguments]),
    ((63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780),
     lambda *arguments: [[tuple(e) for e in a] for a in arguments]),
    ((75, 413, 444, 753), lambda first, *rest: [[tuple(e) for e in first], *rest]),
    ((106, 750), lambda first, second: [first, tuple(second)]),
    # Whatever is no list becomes an empty dict, also the dicts with content that version 0.1.0 has.
    ((115,), lambda first: [[set(e) if isinstance(e, list) and e else {} for e in first]]),
    ((124,), lambda first, second: [float(first), complex(second)]),
    ((250, 307, 405, 446, 617, 720, 763, 808), lambda first, *rest: [tuple(first), *rest]),
    ((252,), lambda first: [complex(first)]),
    ((259, 401, 445), lambda *arguments: [tuple(tuple(e) for e in a) for a in arguments]),
    ((278,), lambda first: [tuple(tuple(e) if isinstance(e, list) else e for e in first)]),
    ((580, 615, 791), lambda *arguments: [_as_tuples(a) for a in arguments]),
    ((722,), lambda first, *rest: [{name: tuple(value) for name, value in first.items()}, *rest]),
]  # fmt: skip
TYPED_BY_TASK = {task: with_types for tasks, with_types in TYPED for task in tasks}


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
        check_is_not_of("HumanEval/", rows, data or self.dataset)
        if "plus_input" in rows[0]:
            problem, needs = self._of_release, (*FIELDS, "base_input", "plus_input", "atol")
        else:
            problem, needs = self._of_hub, ("code", "test_list", "test_imports", "test")
        check_fields(rows, needs, data or self.dataset)
        return [problem(row) for row in rows]

    def published(self) -> int | None:
        return None  # 378, or 399 in version 0.1.0

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
        test = release_script(row, [typed(number, arguments) for arguments in inputs])
        return problem_of(row, test, SLOW.get(number, 0.0))


def typed(task: int, arguments: list[Any]) -> list[Any]:
    """`arguments` of task number `task`, as JSON has them, in the types that the function takes."""
    return TYPED_BY_TASK[task](*arguments) if task in TYPED_BY_TASK else arguments
