"""Gathering the rows that come out of a step into parts."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from selfalign.runner.part import lineage_in
from selfalign.runner.table import Done, Table

if TYPE_CHECKING:
    import pyarrow as pa

    from selfalign.llm.endpoint import Endpoint
    from selfalign.runner.folder_output import Describe, FolderOutput

PART_ROWS = 10_000  # output rows per part: some ten MB of text
PART_BYTES = 64 << 20
PART_SECONDS = 60  # the most that a kill can lose, besides the rows in flight
PACKED_ROWS = 500  # rows that become columns at a time


class PartWriter:
    """Gathers what becomes of a table's rows, and writes parts: whenever enough is there, and every minute."""

    def __init__(
        self, output: FolderOutput, describe: Describe, name: str, table: Table, endpoint: Endpoint | None = None
    ) -> None:
        self.output, self.describe, self.name = output, describe, name
        self.count_by, self.endpoint = table.count_by, endpoint
        self.left_out = _missing(output, name, table) if table.later else set()
        self.schema = table.schema(self.left_out)
        self.counts: Counter[str] = Counter()
        self._columns = set(self.schema.names)
        self._built: tuple[pa.Table, dict[str, Any]] | None = None  # a part that is not known to be written
        self._start_part()

    def _start_part(self) -> None:
        self._unpacked: list[tuple[int, Done]] = []
        self._batches: list[pa.RecordBatch] = []
        self._positions: list[int] = []
        self._part_counts: Counter[str] = Counter()
        self._part_rows = self._part_bytes = 0
        self._since = time.monotonic()

    def add(self, position: int, done: Done) -> Counter[str]:
        """Take what became of the row at `position`. Returns how many rows (this one or earlier ones) can't be stored,
        and so stay open, by the reason why."""
        self._unpacked.append((position, done))
        self._part_rows += len(done.rows)
        faults = self._pack() if len(self._unpacked) >= PACKED_ROWS or len(done.rows) >= PACKED_ROWS else Counter()
        full = self._part_rows >= PART_ROWS or len(self._positions) >= PART_ROWS or self._part_bytes >= PART_BYTES
        if full or self.is_due():
            faults += self.flush()
        return faults

    def is_due(self) -> bool:
        """Whether anything is gathered for which it is time to be written."""
        return bool(self._unpacked or self._positions) and time.monotonic() - self._since >= PART_SECONDS

    def summary(self) -> str:
        """The most frequent counts so far, for the progress line."""
        return ", ".join(f"{n} {name}" for name, n in (self.counts + self._part_counts).most_common(3))

    def _pack(self) -> Counter[str]:
        """Make columns of the rows that came since the last time; returns faults as `add` does."""
        import pyarrow as pa

        unpacked, self._unpacked = self._unpacked, []
        faults: Counter[str] = Counter()
        try:
            packed = [self._batch(unpacked)]
        except (pa.ArrowException, ValueError, TypeError, OverflowError):  # of some row: one by one, to lose no other
            packed, good = [], []
            for each in unpacked:
                try:
                    packed.append(self._batch([each]))
                    good.append(each)
                except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
                    faults[f"its result can't be stored: {self._fault_of(each[1], error)}"[:200]] += 1
                    self._part_rows -= len(each[1].rows)
            unpacked = good
        for position, done in unpacked:
            self._positions.append(position)
            self._part_counts.update(done.counts)
            if self.count_by:
                self._part_counts.update(row[self.count_by] or "ok" for row in done.rows)
        self._batches += packed
        self._part_bytes += sum(batch.nbytes for batch in packed)
        return faults

    def _fault_of(self, done: Done, error: Exception) -> str:
        """Which column can't hold what it was given: a reason that rows share, where pyarrow's names their values."""
        import pyarrow as pa

        for row in done.rows:
            for field in self.schema if row.keys() == self._columns else ():
                try:
                    pa.array([row[field.name]], field.type)
                except (pa.ArrowException, ValueError, TypeError, OverflowError):
                    return f"its {field.name} is a value of {type(row[field.name]).__name__} that is no {field.type}"
        return str(error)

    def _batch(self, pairs: list[tuple[int, Done]]) -> pa.RecordBatch:
        import pyarrow as pa

        rows = [row for _, done in pairs for row in done.rows]
        if self.left_out:
            rows = [{name: value for name, value in row.items() if name not in self.left_out} for row in rows]
        for row in rows:
            if row.keys() != self._columns:
                differing = ", ".join(sorted(row.keys() ^ self._columns))
                raise ValueError(f"the columns of a row differ from those of the step: {differing}")
        return pa.RecordBatch.from_pylist(rows, schema=self.schema)

    def flush(self) -> Counter[str]:
        """Write what is gathered as one part; returns faults as `add` does.

        A write that fails may have stored the part all the same, as when only the answer of a store is lost. So exactly
        this part is written again by the next call, under its name; what is gathered meanwhile goes into the next one.
        """
        faults = self._pack()
        written = self._write_built()
        self._build()
        if self._write_built() or written:
            self.output.commit(self.describe)
        return faults

    def _write_built(self) -> bool:
        """Write the part that is built, if there is one; returns whether there was."""
        if self._built is None:
            return False
        self.output.write_part(*self._built, self.name)
        self._built = None  # before the commit: what it raises must not make us write the part again
        return True

    def _build(self) -> None:
        """Make a part of what is gathered. One without rows records what was used of the endpoint for rows that stayed
        open."""
        import pyarrow as pa

        used = self.endpoint.used() if self.endpoint else {}
        if self._positions or used:
            rows = pa.Table.from_batches(self._batches, schema=self.schema)
            note = {
                "covered": _ranges(sorted(self._positions)),
                "counts": dict(self._part_counts),
                "lineage": {column: _counted(rows[column]) for column in lineage_in(self.schema)},
                "seconds": round(time.monotonic() - self._since, 3),
                "used": used,
            }
            self._built = rows, note
            self.counts.update(self._part_counts)
        self._start_part()


def _missing(output: FolderOutput, name: str, table: Table) -> set[str]:
    """The later columns of a table that its parts in the output do not have."""
    begun = [set(part.columns) for part in output.parts() if part.table == name and part.rows]
    return {column for column in table.later if begun and column not in set.intersection(*begun)}


def _counted(column: pa.ChunkedArray) -> dict[str, int]:
    """How often each value occurs; null is "unknown"."""
    counts = ((pair["values"].as_py(), pair["counts"].as_py()) for pair in column.value_counts())
    return {str(value) if value is not None else "unknown": n for value, n in counts}


def _ranges(positions: list[int]) -> list[tuple[int, int]]:
    """Sorted positions as first-to-last ranges."""
    ranges: list[tuple[int, int]] = []
    for position in positions:
        if ranges and ranges[-1][1] == position - 1:
            ranges[-1] = (ranges[-1][0], position)
        else:
            ranges.append((position, position))
    return ranges
