"""The unit of work of a step: a table of its output, the rows that it is made from, and the function that makes it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Set
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from selfalign.runner.columns import check_storable
from selfalign.runner.source import Source

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]


@dataclass(frozen=True)
class Done:
    """The result of an input row: the rows it yields, and what to count (such as why it was dropped)."""

    rows: list[Row]
    counts: dict[str, int] = field(default_factory=dict)


RowFunction = Callable[[Row], "Done | Row | Awaitable[Done | Row]"]


@dataclass(frozen=True)
class Table:
    """A table of a step's output (a configuration on the Hub), and how its rows are made.

    Attributes:
        source: the rows that it is made from.
        row_function: row -> row, `Done`, or an awaitable of one; it may raise `RowOpen`.
        columns: the columns that it adds: name -> str, int, float, bool, list[...], a dict of such types, or the type
            of a column of the source.
        carry: whether the columns of the source are kept.
        count_by: a column whose values are counted in the rows that are written ("ok" where it is null).
        around: async context managers that are held while the rows run.
        later: those of `columns` that a step got after runs had been begun. A run whose parts lack them is continued
            without them, because `load_dataset` refuses parts with different columns.
        limit: how many rows of the source count; all of them if None. `run_step` sets it from `--max-samples`, but for
            further tables.
    """

    source: Source
    row_function: RowFunction
    columns: Mapping[str, Any]
    carry: bool = True
    count_by: str | None = None
    around: tuple[AbstractAsyncContextManager[Any], ...] = ()
    limit: int | None = None
    later: Set[str] = frozenset()

    def __len__(self) -> int:
        return len(self.source) if self.limit is None else min(len(self.source), self.limit)

    def check(self) -> None:
        """UserError if the output could not hold what comes out of the step."""
        if self.carry:
            added = {name: _arrow_type(kind) for name, kind in self.columns.items()}
            check_storable(self.source.rows, self.source.name, added)

    def schema(self, without: Set[str] = frozenset()) -> pa.Schema:
        """The columns of the source (if they are kept) and those that the step adds or replaces, but for some."""
        import pyarrow as pa

        fields = {f.name: f.type for f in self.source.rows.features.arrow_schema} if self.carry else {}
        fields |= {name: _arrow_type(kind) for name, kind in self.columns.items()}
        return pa.schema([(name, kind) for name, kind in fields.items() if name not in without])


@dataclass(frozen=True)
class Removed:
    """What a script itself left out of the rows before it handed them to `run_step`, for the funnel and the card.

    Attributes:
        by_rule: how many rows each rule left out, in the order in which the rules were applied.
        decontamination: what was left out because it matches a benchmark (`contamination.record_of`).
    """

    by_rule: dict[str, int] = field(default_factory=dict)
    decontamination: dict[str, Any] | None = None


def _arrow_type(kind: Any) -> pa.DataType:
    import pyarrow as pa

    if isinstance(kind, pa.DataType):
        return kind
    if isinstance(kind, dict):
        return pa.struct([(name, _arrow_type(k)) for name, k in kind.items()])
    if getattr(kind, "__origin__", None) is list:
        return pa.list_(_arrow_type(kind.__args__[0]))
    if isinstance(kind, list):
        return pa.list_(_arrow_type(kind[0]))
    return {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}[kind]
