"""A published instruction dataset as `instructions`: Evol-Instruct and OSS-Instruct of Table 11, or any other.

Paper: section 4, Table 11. A random subset of 74k rows of each, so that every method trains on as many examples.

    python -m experiments.baselines.published nickrosh/Evol-Instruct-Code-80k-v1 ./instructions \\
        --response-column output --size 74000 --license cc-by-nc-sa-4.0
    python -m experiments.baselines.published ise-uiuc/Magicoder-OSS-Instruct-75K ./instructions \\
        --instruction-column problem --response-column solution --size 74000 --license mit

Columns in:  those that the options name

Columns out:

    id                     hash of the two texts
    instruction, response
    license                what --license says, else that of the row

Rows with an empty text are counted and left out before the subset is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from selfalign.options import Count, StepOptions, run_script
from selfalign.runner.source import read_input
from selfalign.runner.step import run_step
from selfalign.runner.table import Removed, Table

COLUMNS = {name: str for name in ("id", "instruction", "response", "license")}


@dataclass(frozen=True, kw_only=True)
class Options(StepOptions):
    """Options of this step."""

    instruction_column: str = "instruction"
    """Column with the instruction."""

    response_column: str = "response"
    """Column with the response."""

    size: Count | None = None
    """How many rows to draw at random; all of them otherwise."""

    license: str | None = None
    """Licence of the data, for the column `license` and the card; otherwise it stays what each row says, if it does."""


def draw(ids: list[str], size: int | None, seed: int) -> list[int]:
    """Positions of `size` rows, or of all: those whose hashes are lowest, so that the order does not matter."""
    from selfalign.ids import content_id

    lots = sorted(range(len(ids)), key=lambda i: (content_id(seed, ids[i]), i))
    return sorted(lots[:size])


def to_instruction(row: dict[str, Any], options: Options) -> dict[str, Any]:
    """The row in our columns."""
    from selfalign.ids import content_id

    instruction, response = row[options.instruction_column], row[options.response_column]
    texts = {"instruction": instruction, "response": response, "license": options.license or row.get("license")}
    return {"id": content_id(instruction, response), **texts}


def main(options: Options) -> None:
    """Draw rows at random, and rename their columns."""
    from selfalign.errors import UserError
    from selfalign.ids import content_id

    texts = options.instruction_column, options.response_column
    published = read_input(options, *texts)
    pairs = list(zip(*(published.rows[name] for name in texts), strict=True))
    usable = [i for i, pair in enumerate(pairs) if all(text and text.strip() for text in pair)]
    if options.size and options.size > len(usable):
        raise UserError(f"{options.input} has {len(usable)} usable rows, fewer than --size {options.size}")
    drawn = [usable[i] for i in draw([content_id(*pairs[i]) for i in usable], options.size, options.seed)]
    run_step(
        options,
        Table(
            replace(published, rows=published.rows.select(drawn)),
            lambda row: to_instruction(row, options),
            COLUMNS,
            carry=False,
        ),
        removed=Removed({"empty": len(pairs) - len(usable), "not_drawn": len(usable) - len(drawn)}),
    )


if __name__ == "__main__":
    run_script(main, Options, __doc__)
