"""A published dataset in our columns: Evol-Instruct and OSS-Instruct of Table 11, or any other.

Paper: section 4, Table 11. Of each dataset a random subset of 74k rows is taken, so that every method trains on equally
many examples.

    python -m experiments.baselines.published nickrosh/Evol-Instruct-Code-80k-v1 ./instructions \\
        --response-column output --size 74000 --license cc-by-nc-sa-4.0
    python -m experiments.baselines.published ise-uiuc/Magicoder-OSS-Instruct-75K ./instructions \\
        --instruction-column problem --response-column solution --size 74000 --license mit

Columns in:  the ones that the options name

Columns out:

    id                     hash of the two texts
    instruction, response
    license                the value of --license, or else the row's own

Before the subset is drawn, rows with an empty instruction or response are counted and left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from selfalign.errors import UserError
from selfalign.ids import content_id
from selfalign.options import Count, StepOptions, run_script
from selfalign.runner.source import read_input
from selfalign.runner.step import run_step
from selfalign.runner.table import Removed, Table

COLUMNS = {name: str for name in ("id", "instruction", "response", "license")}


@dataclass(frozen=True, kw_only=True)
class Options(StepOptions):
    """Options of this step."""

    instruction_column: str = "instruction"
    """Column of the instructions."""

    response_column: str = "response"
    """Column of the responses."""

    size: Count | None = None
    """How many rows to draw at random. By default all of them."""

    license: str | None = None
    """Licence of the data, for the column `license` and the card. By default that of each row, if it has one."""


def to_instruction(row: dict[str, Any], options: Options) -> dict[str, Any]:
    """The row in our columns."""
    instruction, response = row[options.instruction_column], row[options.response_column]
    texts = {"instruction": instruction, "response": response, "license": options.license or row.get("license")}
    return {"id": content_id(instruction, response), **texts}


def main(options: Options) -> None:
    """Draw rows at random, and rename their columns."""
    texts = options.instruction_column, options.response_column
    published = read_input(options, *texts)
    pairs = list(zip(*(published.rows[name] for name in texts), strict=True))
    usable = [i for i, pair in enumerate(pairs) if all(text and text.strip() for text in pair)]
    if options.size and options.size > len(usable):
        raise UserError(f"{options.input} has {len(usable)} usable rows, fewer than --size {options.size}")
    # Those with the lowest hashes are drawn, so that the order of the rows makes no difference.
    lots = sorted(usable, key=lambda i: (content_id(options.seed, content_id(*pairs[i])), i))
    drawn = replace(published, rows=published.rows.select(sorted(lots[: options.size])))
    run_step(
        options,
        Table(drawn, lambda row: to_instruction(row, options), COLUMNS, carry=False),
        removed=Removed({"empty": len(pairs) - len(usable), "not_drawn": len(usable) - len(drawn)}),
    )


if __name__ == "__main__":
    run_script(main, Options, __doc__)
