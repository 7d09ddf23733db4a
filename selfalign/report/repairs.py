"""How many failures were mended, by what kind of error, and how many of these repairs are right.

    python repair.py ./executions ./repairs
    python execute.py ./repairs ./mended
    python -m selfalign.report.repairs ./repairs ./mended

A failure is mended if one of its repairs passes its tests, which may be wrong themselves. For problems of benchmarks,
hidden tests say more: run audit.py on the repairs, and on the executions that they come from, and add `--audit` and
`--attempts-audit`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import tyro

from selfalign.options import run_script
from selfalign.runner.source import open_source
from selfalign.statistics import interval_over_tasks

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to count."""

    repairs: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="REPAIRS")]
    """What repair.py wrote."""

    mended: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MENDED")]
    """What execute.py made of it."""

    audit: str | None = None
    """What audit.py made of MENDED."""

    attempts_audit: str | None = None
    """What audit.py made of the executions that repair.py read."""

    hf_token: str | None = None
    """Hugging Face token. By default, the one from `hf auth login` or HF_TOKEN."""


class Attempt(NamedTuple):
    """A failure and its repairs.

    kind: the outcome, and for errors the name of the exception
    unusable: repairs that were not run, because there was no code or it was the attempt again, for example
    passed: of each repair that was run, whether it passes the tests
    right: of each repair that passes, whether hidden tests accept it; None where they were not asked
    was_right: whether hidden tests accept the attempt itself
    """

    task: str
    kind: str
    unusable: int
    passed: list[bool]
    right: list[bool | None]
    was_right: bool | None


def kind_of(row: Row) -> str:
    """What went wrong with an attempt: "failed", "error: TypeError", "cpu_limit"."""
    name = (row["attempt_detail"] or "").partition(":")[0].strip()
    is_name = row["attempt_outcome"] == "error" and name.isidentifier()
    return f"{row['attempt_outcome']}: {name}" if is_name else row["attempt_outcome"]


def attempts_of(
    repairs: Sequence[Row], passed: Mapping[str, bool], right: Mapping[str, bool], were_right: Mapping[str, bool]
) -> list[Attempt]:
    """The failures that `repairs` are of; `passed` and `right` are by the id of a repair, `were_right` by that of an
    attempt."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in repairs:
        groups[row["attempt_id"]].append(row)
    attempts = []
    for id, rows in groups.items():
        run = [row["id"] for row in rows if row["id"] in passed]
        verdicts = [right.get(repair) for repair in run if passed[repair]]
        first = rows[0]
        known = (len(rows) - len(run), [passed[repair] for repair in run], verdicts, were_right.get(id))
        attempts.append(Attempt(first["task_id"], kind_of(first), *known))
    return attempts


def share(attempts: Sequence[Attempt], verdicts_of: Callable[[Attempt], list[bool]]) -> str:
    """The share of true verdicts as "12 of 60, 20.0 % [11.2, 31.0]", with its interval over tasks; "-" without
    verdicts."""
    tasks: dict[str, list[bool]] = defaultdict(list)
    for attempt in attempts:
        tasks[attempt.task] += verdicts_of(attempt)
    judged = {task: verdicts for task, verdicts in tasks.items() if verdicts}
    if not judged:
        return "-"
    total, true = sum(map(len, judged.values())), sum(map(sum, judged.values()))
    low, high = interval_over_tasks(judged)
    return f"{true} of {total}, {100 * true / total:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def repairs_table(attempts: Sequence[Attempt]) -> str:
    """The failures by kind as a Markdown table, with 95 % intervals."""
    kinds: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        kinds[attempt.kind].append(attempt)
    ordered = sorted(kinds.items(), key=lambda item: (-len(item[1]), item[0]))
    lines = [
        "| failures | number | mended (a repair passes) | repairs not run | right by hidden tests: of the attempts "
        "| of the repairs that pass |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, some in [*ordered, ("all", list(attempts))]:
        cells = (
            share(some, lambda attempt: [any(attempt.passed)]),
            f"{sum(attempt.unusable for attempt in some)}",
            share(some, lambda attempt: [] if attempt.was_right is None else [attempt.was_right]),
            share(some, lambda attempt: [verdict for verdict in attempt.right if verdict is not None]),
        )
        lines.append(f"| {name} | {len(some)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(options: Options) -> None:
    """Print the table."""

    def rows_of(name: str | None, *columns: str) -> list[Row]:
        source = open_source(name, columns=columns, token=options.hf_token) if name else None
        return [row for _, row in source.read(None, columns)] if source else []

    repairs = rows_of(options.repairs, "id", "task_id", "attempt_id", "attempt_outcome", "attempt_detail")
    passed = {row["id"]: row["passed"] for row in rows_of(options.mended, "id", "passed")}
    right, were_right = (
        {row["id"]: row["right"] for row in rows_of(name, "id", "right")}
        for name in (options.audit, options.attempts_audit)
    )
    print(repairs_table(attempts_of(repairs, passed, right, were_right)))


if __name__ == "__main__":
    run_script(main, Options, __doc__)
