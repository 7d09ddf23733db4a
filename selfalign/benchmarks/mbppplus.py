"""MBPP+ (EvalPlus v0.2.0, arXiv:2305.01210): 378 problems of MBPP with some 35 times the tests.

An answer passes them all; `mbppplus-base` are the same problems with MBPP's own three tests. The Hub's data and those
of EvalPlus' releases are both read, and judged alike: see `_evalplus`.
"""

from __future__ import annotations

from typing import Any

from selfalign.benchmarks import Problem, records
from selfalign.benchmarks._evalplus import mended, released
from selfalign.benchmarks.mbpp import (
    CHAT_PREFIX,
    CHAT_STOP,
    COMPLETION_STOP,
    chat_prompt,
    completion_prompt,
    docstring,
    entry_point,
    program,
)

__all__ = ["CHAT_PREFIX", "CHAT_STOP", "COMPLETION_STOP", "chat_prompt", "completion_prompt", "problems", "program"]

DATASET = "evalplus/mbppplus@main"  # its commit is resolved when a run starts, and recorded
VARIANTS = (None, "base")
MEMORY = 4 << 30  # bytes, as EvalPlus
TIMEOUT = 20.0  # seconds of CPU time
SLOW = {255: 60.0, 271: 60.0, 392: 60.0, 599: 120.0}  # these take the canonical solution up to 22 s on a busy machine
NOTE = "Mbpp/164, 249, 295, 558, 581, 737, 787 and 794 are judged as in EvalPlus' evaluator, not as by their scripts"

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


def problems(data: str | None = None, variant: str | None = None) -> list[Problem]:
    """The problems, in order; from the Hub's layout or EvalPlus' own."""
    rows = records(data or DATASET, needs=("task_id", "prompt"))
    if "plus_input" in rows[0]:
        return [_of_release(row, variant) for row in rows]
    return [_of_hub(row, variant) for row in rows]


def _of_hub(row: dict[str, Any], variant: str | None) -> Problem:
    name = entry_point(row["code"], row["test_list"][0])
    base = "\n".join([*row["test_imports"], *row["test_list"]])
    return Problem(
        task_id=f"Mbpp/{row['task_id']}",
        prompt=docstring(row["prompt"], row["test_list"][0]),
        entry_point=name,
        canonical_solution=row["code"],
        test=base if variant == "base" else mended(row["test"], name),
        extra=_extra(int(row["task_id"])),
    )


def _of_release(row: dict[str, Any], variant: str | None) -> Problem:
    inputs = row["base_input"] if variant == "base" else [*row["base_input"], *row["plus_input"]]
    number = int(row["task_id"].rpartition("/")[2])
    return Problem(
        task_id=row["task_id"],
        prompt=row["prompt"],
        entry_point=row["entry_point"],
        canonical_solution=row["canonical_solution"],
        test=released(row, [typed(number, arguments) for arguments in inputs]),
        extra=_extra(number),
    )


def _extra(number: int) -> dict[str, Any]:
    return {"timeout": SLOW[number]} if number in SLOW else {}


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
