"""The examples of a report: a fair choice of those that were accepted and of those that were not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from selfalign.ids import content_id
from selfalign.runner.source import Source

if TYPE_CHECKING:
    import pyarrow as pa

EXAMPLES = 200  # on the page, of the accepted and of the rejected ones each
SHOWN = (
    *("id", "instruction", "response", "tests", "category", "difficulty", "concepts"),
    *("outcome", "detail", "mutation_score", "kept_id", "contamination"),
)


def choose_examples(instructions: Source, rejected: Source | None, executions: Source | None) -> list[dict[str, Any]]:
    """Rows of the columns SHOWN with a `reason`: accepted ones, and as many rejected ones, spread evenly over the
    reasons. The choice depends on nothing but the ids."""
    groups: dict[str, tuple[Source, list[int]]] = {}
    for source, column in ((rejected, "reason"), (executions, "outcome")):
        if source and column in source.rows.column_names:
            for position, reason in enumerate(arrow_columns(source, column)[column].to_pylist()):
                found, positions = groups.setdefault(str(reason), (source, []))
                if found is source and reason != "passed":  # the rule that rejected a row says more than its outcome
                    positions.append(position)
    accepted = {"accepted": (instructions, list(range(len(instructions))))}
    return _spread(accepted) + _spread({reason: group for reason, group in groups.items() if group[1]})


def _spread(groups: dict[str, tuple[Source, list[int]]]) -> list[dict[str, Any]]:
    """At most `EXAMPLES` rows from the positions of the groups: in each, those whose ids have the lowest hashes."""
    found = []
    sizes = sorted(groups.items(), key=lambda group: len(group[1][1]))
    for i, (reason, (source, positions)) in enumerate(sizes):
        share = (EXAMPLES - len(found)) // (len(sizes) - i)  # what small groups leave goes to the larger ones
        ids = arrow_columns(source, "id")["id"].to_pylist()
        lots = sorted((content_id("report", ids[position]), position) for position in positions)[:share]
        there = [name for name in SHOWN if name in source.rows.column_names]
        rows = source.rows.select_columns(there).select([position for _, position in lots])
        found += [dict.fromkeys(SHOWN) | {"reason": reason} | row for row in rows.to_list()]
    return found


def arrow_columns(source: Source, *names: str) -> pa.Table:
    """Those of the columns that the dataset has, as an Arrow table; data on disk is read only when it is used."""
    return source.rows.select_columns([n for n in names if n in source.rows.column_names]).with_format("arrow")[:]
