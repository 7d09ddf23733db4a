"""Draw the concepts that a round of runs/rounds.py begins with.

    python -m runs.draw ./concepts ./round-2/concepts --draw 500 --seed 2 --after ./round-1/executions

Columns in:  id, error

Columns out: those of the input, and

    solved    share of the samples of earlier rounds, of all tasks made from these concepts, that passed; null if none
              was judged
    weight    with which the row was drawn, see selfalign/data/difficulty.py
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from selfalign.data.difficulty import FLOOR, Solved, draw_by_weight, solved_by, weight_of
from selfalign.errors import UserError
from selfalign.ids import content_id
from selfalign.options import OPERATIONAL, Count, ShareAboveZero, StepOptions, run_script
from selfalign.runner.source import open_source, read_input
from selfalign.runner.step import run_step
from selfalign.runner.table import Removed, Table

COLUMNS = {"solved": float, "weight": float}
LINK = "concepts_id"  # the column of executions that says which concepts their task was made from


@dataclass(frozen=True, kw_only=True)
class Options(StepOptions):
    """Options of this step."""

    draw: Count
    """Number of rows to draw; all if there are fewer."""

    # What they hold decides what is drawn, and so is part of what the input is pinned to.
    after: tuple[str, ...] = field(default=(), metadata=OPERATIONAL)
    """Executions of earlier rounds. Without any, all rows have the same weight."""

    floor: ShareAboveZero = FLOOR
    """Weight of a row whose tasks were always or never solved, where one that was solved half of the time has 1."""


def solved_before(options: Options) -> dict[str, Solved]:
    """How often the tasks of each row were solved in the rounds of `--after`."""
    together: dict[str, Solved] = {}
    for name in options.after:
        columns = (LINK, "passed", "outcome")
        rows = open_source(name, columns=columns, token=options.hf_token).read(None, columns)
        for id, solved in solved_by((row for _, row in rows), LINK).items():
            known = together.setdefault(id, Solved())
            known.passed, known.judged = known.passed + solved.passed, known.judged + solved.judged
    return together


def main(options: Options) -> None:
    """Draw rows by how often their tasks were solved."""
    concepts = read_input(options, "id")
    names = [name for name in ("id", "error") if name in concepts.rows.column_names]
    usable = {position: row["id"] for position, row in concepts.read(None, names) if not row.get("error")}
    if not usable:
        raise UserError(f"{options.input} has no row without an error to draw from")
    solved = solved_before(options)
    rates = {id: solved[id].rate if id in solved else None for id in usable.values()}
    weights = {id: weight_of(rate, options.floor) for id, rate in rates.items()}
    positions = list(usable)
    drawn = [positions[n] for n in draw_by_weight(list(usable.values()), weights, options.draw, options.seed)]

    # Progress is recorded by position among the drawn rows, so others are another run.
    pin = concepts.pin | {"drawn": content_id(*((usable[p], weights[usable[p]]) for p in drawn))}
    source = replace(concepts, rows=concepts.rows.select(drawn), pin=pin)

    def with_weight(row: dict[str, Any]) -> dict[str, Any]:
        return row | {"solved": rates[row["id"]], "weight": weights[row["id"]]}

    left_out = {"error": len(concepts) - len(usable), "not_drawn": len(usable) - len(drawn)}
    removed = Removed({name: number for name, number in left_out.items() if number})
    run_step(options, Table(source, with_weight, COLUMNS), removed=removed)


if __name__ == "__main__":
    run_script(main, Options, __doc__)
