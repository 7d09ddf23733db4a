"""What several benchmarks share: the code in a chat answer, and pass@1 of groups of problems."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def code_of(answer: str) -> str:
    """The first Python block of a Markdown answer; one without code blocks is taken as code.

    An answer may have ended within its block: one that is not closed counts.
    """
    from selfalign.code.markdown import PYTHON_LABELS, code_blocks

    blocks = code_blocks(answer)
    python = [block for block in blocks if block.label in PYTHON_LABELS] or blocks
    return python[0].code if python else answer


def pass_rates(rows: Iterable[Mapping[str, Any]], groups: Mapping[str, Iterable[str]]) -> dict[str, float]:
    """pass@1 of each group: the mean over the group's problems, all of which have the same number of samples.

    `rows` have `task_id` and `passed`; `groups` are task ids by the group's name, and may overlap. A group of which
    there is no row has the rate NaN.
    """
    names: dict[str, list[str]] = {}
    for name, tasks in groups.items():
        for task in tasks:
            names.setdefault(task, []).append(name)
    counts = {name: [0, 0] for name in groups}
    for row in rows:
        for name in names.get(row["task_id"], ()):
            counts[name][0] += row["passed"]
            counts[name][1] += 1
    return {name: passed / rows if rows else float("nan") for name, (passed, rows) in counts.items()}
