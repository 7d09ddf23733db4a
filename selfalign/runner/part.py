"""A part of an output: a Parquet file that says which rows of the input it covers.

There is no other state: the parts determine what is left to do, and run.json and the card are made from them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from selfalign.errors import UserError, first_line
from selfalign.runner.source import MAIN_TABLE

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

PART = re.compile(r"(data/train|data/empty|\w+/rows|\w+/empty)-\d{10}-[0-9a-f]{12}\.parquet$")
METADATA_KEY = b"selfalign"  # in a part's Parquet metadata: what `Part` has besides the name and the number of rows
LINEAGE = ("license", "repository")  # columns whose values are counted for the card


def lineage_in(schema: pa.Schema) -> list[str]:
    """The columns of LINEAGE that rows have, if they hold text: only the values of these are counted."""
    import pyarrow as pa

    texts = {f.name for f in schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)}
    return [column for column in LINEAGE if column in texts]


@dataclass(frozen=True)
class Part:
    """A part that has been written.

    Attributes:
        name: its path in the output.
        covered: the ranges of input rows that it was made from: the first and the last row of each.
        rows: how many rows it holds.
        columns: the names of its columns.
        counts: what was counted of its rows.
        lineage: how many of its rows come from each licence and each repository.
        seconds: how long its rows took.
        used: what it used of the endpoints (`Endpoint.used`).
    """

    name: str
    covered: list[tuple[int, int]]
    rows: int = 0
    columns: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    lineage: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: float = 0.0
    used: dict[str, Any] = field(default_factory=dict)

    @property
    def table(self) -> str:
        folder = self.name.split("/")[0]
        return MAIN_TABLE if folder == "data" else folder


def read_part(stream: Any, file: str, path: str) -> Part:
    """The part `file`, from its footer in `stream`; UserError if it is damaged or was not written by a step."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(stream)
        note = json.loads((metadata.metadata or {})[METADATA_KEY])
        note |= {"covered": [(a, b) for a, b in note["covered"]]}
        return Part(file, rows=metadata.num_rows, columns=tuple(metadata.schema.to_arrow_schema().names), **note)
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"part {path} is damaged or was not written by this step ({first_line(error)}): "
            "move it away, and its rows will be done again"
        ) from error


def covered_rows(parts: list[Part], rows: int, table: str = MAIN_TABLE) -> np.ndarray:
    """Which of the first `rows` rows of a table's input its parts cover, as booleans."""
    import numpy as np

    covered = np.zeros(rows, dtype=bool)
    for part in parts:
        for first, last in part.covered if part.table == table else ():
            covered[first : last + 1] = True
    return covered
