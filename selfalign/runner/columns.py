"""The columns of a step's input: under the names and of the types that the step expects, with ids that tell rows apart.

Datasets that no step wrote come in other shapes: their columns have other names, ids are numbers or missing, and code
may be a list of lines. What can be read without a doubt is; anything else is refused before any work is done.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from selfalign.errors import UserError, first_line, warn, without_secrets
from selfalign.ids import content_id

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

TRIED_ROWS = 20  # in which a value that can't be stored is looked for before a step begins
TEXTS = frozenset(("content", "instruction", "response", "tests"))
VERDICTS = ("vacuous", "mutation_score")  # which a step that needs `passed` reads, too, where they are there
# What others call the code of a function, or a task: shown where a column is missing. The first that is there is taken.
SYNONYMS = {
    "content": (
        "code",
        "func_source",
        "source",
        "func_code_string",
        "whole_func_string",
        "func",
        "function",
        "snippet",
    ),
    "instruction": ("prompt", "task", "problem", "question", "problem_statement"),
    "response": ("output", "answer", "solution", "completion"),
    "tests": ("test", "test_code", "assertions", "test_list"),
    "task_id": ("task", "problem_id", "question_id"),
}
# What steps write about a row, which is never the text that is looked for.
ABOUT_A_ROW = re.compile(
    r"error|finish_reason|verdict|contamination|outcome|detail|reasoning|.*_(error|hash|reasoning)"
)
NEAR = 0.6  # the similarity of names above which one may be meant by the other; unrelated ones reach 0.6


def with_columns(rows: datasets.Dataset, name: str, needed: Sequence[str], named: Sequence[str]) -> datasets.Dataset:
    """The dataset `name` as a step needs it.

    Columns get other names as `named` says (new=old), ids become text, and rows get ids if `id` is needed but missing.

    Raises:
        UserError: a needed column is missing or has values of the wrong type, or an id stands in more than one row.
    """
    rows = renamed(rows, name, named)
    others = [column for column in needed if column != "id"]
    if missing := [column for column in others if column not in rows.column_names]:
        raise missing_columns(name, missing, rows, "--column")
    also = ("error", *(VERDICTS if "passed" in needed else ()))
    for column in (*others, *also):  # by `error`, an earlier step says why a row has no result: it is passed on
        if not is_id(column) and column in rows.column_names:
            check_type(rows, name, column)
    if "id" in needed and "id" not in rows.column_names:
        return _with_new_ids(rows, name, others)
    for column in filter(is_id, needed):
        rows = _with_text_ids(rows, name, column)
    if "id" in needed:
        _check_ids_differ(rows, name)
    return rows


def is_id(column: str) -> bool:
    """Whether a column holds ids, by its name."""
    return column == "id" or column.endswith("_id")


class MissingColumns(UserError):
    """A dataset lacks columns. `fact` is the sentence without the advice that follows it."""

    def __init__(self, fact: str, advice: str = "") -> None:
        super().__init__(fact + advice)
        self.fact = without_secrets(fact)


def missing_columns(
    name: str, missing: Sequence[str], rows: datasets.Dataset, option: str | None = None
) -> MissingColumns:
    """The error that the dataset `name` lacks columns; it names those that are there and the one that is nearest.

    `option` is the one that gives a column another name, if the script has it.
    """
    sentence = f"{name} has no column {', '.join(missing)}; its columns are {', '.join(rows.column_names)}"
    wanted = missing[0]
    near = nearest(wanted, fitting(wanted, rows))
    if not near or not option:
        return MissingColumns(sentence)
    return MissingColumns(sentence, f". If {near} is what is meant, add {option} {wanted}={near}")


def fitting(wanted: str, rows: datasets.Dataset) -> list[str]:
    """The columns that may be meant by `wanted`, by their type; a text is neither an id nor what a step says of it."""
    fits = _is_id_type if is_id(wanted) else (lambda kind: not _fault_of(wanted, kind))
    names = [field.name for field in rows.features.arrow_schema if fits(field.type)]
    if wanted not in TEXTS:
        return names
    return [name for name in names if not (is_id(name) or ABOUT_A_ROW.fullmatch(name))]


def nearest(wanted: str, there: Collection[str]) -> str | None:
    """Whichever name is nearest to `wanted`, by its meaning or else by its letters; None if none is near."""
    if known := [name for name in SYNONYMS.get(wanted, ()) if name in there]:
        return known[0]
    ratios = {name: SequenceMatcher(None, wanted, name.lower()).ratio() for name in there}
    near = [name for name, ratio in ratios.items() if ratio > NEAR or wanted in name.lower()]
    return max(near, key=ratios.__getitem__, default=None)


def renamed(rows: datasets.Dataset, name: str, named: Sequence[str]) -> datasets.Dataset:
    """The rows with the columns that `named` (new=old) names; a column that already has a new name is left out."""
    names: dict[str, str] = {}
    for pair in named:
        new, equals, old = pair.partition("=")
        if not (new and equals and old):
            raise UserError(f"--column {pair} does not have the form NAME=COLUMN, such as content=func_source")
        if old not in rows.column_names:
            near = nearest(old, fitting(new, rows))
            meant = f"{old}={new}" if new in rows.column_names else near and f"{new}={near}"
            raise UserError(
                f"--column {pair}: {name} has no column {old}; its columns are {', '.join(rows.column_names)}"
                + (f". Did you mean {meant}?" if meant else "")
            )
        if old in names and names[old] != new:
            raise UserError(f"--column {pair}: the column {old} has been given another name already")
        names[old] = new
    hidden = [new for old, new in names.items() if new in rows.column_names and new not in names and new != old]
    return rows.remove_columns(hidden).rename_columns(names) if names else rows


def check_type(rows: datasets.Dataset, name: str, column: str) -> None:
    """UserError if a column holds something else than the step takes from it."""
    kind = rows.features.arrow_schema.field(column).type
    wanted = _fault_of(column, kind)
    if column == "vacuous" and not wanted and not {*rows.data.column(column).unique().to_pylist()} <= {0, 1, None}:
        wanted = "true or false"  # numbers may stand for these
    if wanted:
        raise UserError(f"the column {column} of {name} holds {kind}, but it must hold {wanted}")


def _fault_of(column: str, kind: pa.DataType) -> str | None:
    """What the column must hold instead, or None if it may hold values of this type."""
    import pyarrow as pa

    if pa.types.is_null(kind):
        return None  # rows without a value are counted, not refused
    if column in (*TEXTS, "error") and not _is_text(kind):
        return "text"
    if column == "concepts" and not (_is_list(kind) and _is_text(kind.value_type)):
        return "lists of text"
    if column == "mutation_score" and not _is_number(kind):
        return "numbers"
    wants_truth = column == "passed" or (column == "vacuous" and not _is_number(kind))
    return "true or false" if wants_truth and not pa.types.is_boolean(kind) else None


def check_text(rows: datasets.Dataset, name: str, column: str) -> None:
    """UserError if the column does not hold text, whatever it is called."""
    kind = rows.features.arrow_schema.field(column).type
    if not _is_text(kind):
        raise UserError(f"the column {column} of {name} holds {kind}, but it must hold text")


def check_storable(rows: datasets.Dataset, name: str, added: Mapping[str, pa.DataType]) -> None:
    """UserError if an output with the columns of the dataset `name` and those that a step adds could not hold them.

    That is so if a column's values don't survive being read and written, which is tried with the first rows, or if the
    step replaces a column by values of another type, which would lose what the user has in it.
    """
    for field in rows.features.arrow_schema:
        if field.name not in added:
            if fault := _fault_of_storing(rows, field):
                raise UserError(
                    f"the column {field.name} of {name} holds {field.type}, which the output can't store ({fault}): "
                    "leave it out of the input, or convert it"
                )
        elif not _alike(field.type, added[field.name]):
            raise UserError(
                f"the column {field.name} of {name} holds {field.type}, but this step writes {added[field.name]} into "
                f"a column of that name: add --column input_{field.name}={field.name} to keep yours under another name"
            )


def _fault_of_storing(rows: datasets.Dataset, field: pa.Field) -> str | None:
    """Why the first values of a column can't be read, made into a column again, and written; None if they can."""
    import io

    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        tried: Any = rows.select_columns([field.name]).with_format("arrow")[:TRIED_ROWS]
        array = pa.array(tried.column(field.name).to_pylist(), field.type)
        table = pa.Table.from_arrays([array], schema=pa.schema([field]))
        pq.write_table(table, io.BytesIO())
        datasets.Features.from_arrow_schema(table.schema)
    except UnicodeDecodeError:
        return None  # rows that can't be read, which is said of them when it is their turn
    except (pa.ArrowException, ValueError, TypeError, OverflowError, KeyError, NotImplementedError) as error:
        return first_line(error)
    return None


def _alike(one: pa.DataType, other: pa.DataType) -> bool:
    """Whether two types hold values of the same kind: text, numbers, lists of the same, and so on."""
    import pyarrow as pa

    if pa.types.is_null(one):
        return True
    if _is_list(one) and _is_list(other):
        return _alike(one.value_type, other.value_type)
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        fields = {field.name: field.type for field in one}
        return {field.name for field in other} == {*fields} and all(_alike(fields[f.name], f.type) for f in other)
    tests = (_is_text, _is_number, pa.types.is_boolean)
    return any(test(one) and test(other) for test in tests)


def _is_list(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_id_type(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return _is_text(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)


def _with_text_ids(rows: datasets.Dataset, name: str, column: str) -> datasets.Dataset:
    """The rows with the ids in `column` as text, since steps derive further ids from them."""
    import pyarrow as pa

    values = rows.data.column(column)
    if _is_text(values.type) or pa.types.is_null(values.type):
        return rows
    try:
        # Where an id is missing, CSV readers make floats of the others.
        whole = values if pa.types.is_integer(values.type) else values.cast(pa.int64())
        if pa.types.is_boolean(values.type):
            raise pa.ArrowInvalid("no ids")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise UserError(
            f"the column {column} of {name} holds {values.type}, but ids must be text or whole numbers"
        ) from None
    return _replaced(rows, column, whole.cast(pa.string()).to_pylist())


def _replaced(rows: datasets.Dataset, column: str, values: list[Any]) -> datasets.Dataset:
    """The rows with other values in a column, which stays where it is; a new one comes first."""
    order = rows.column_names if column in rows.column_names else [column, *rows.column_names]
    others = rows.remove_columns([column]) if column in rows.column_names else rows
    return others.add_column(column, values).select_columns(order)


def _with_new_ids(rows: datasets.Dataset, name: str, columns: Sequence[str]) -> datasets.Dataset:
    """The rows with ids from their contents, as `collect_seeds.py` makes them; the number of a repetition counts."""
    seen: Counter[str] = Counter()
    ids = []
    table: Any = rows.select_columns(list(columns)).with_format("arrow")
    for batch in table.iter(1000):
        for row in batch.to_pylist():
            id = content_id(*(row[column] for column in columns))
            ids.append(content_id(id, seen[id]) if seen[id] else id)
            seen[id] += 1
    if repeated := len(ids) - len(seen):
        warn(f"rows of {name} repeat the {' and '.join(columns)} of another: {repeated:,} of {len(ids):,}")
    return _replaced(rows, "id", ids)


def _check_ids_differ(rows: datasets.Dataset, name: str) -> None:
    """UserError if two rows have the same id: what becomes of one could not be told from what becomes of the other."""
    ids = rows.data.column("id").drop_null()
    if len(ids.unique()) == len(ids):
        return
    repeated = [pair["values"].as_py() for pair in ids.value_counts() if pair["counts"].as_py() > 1]
    others = f", and so have {len(repeated) - 1:,} other ids" if len(repeated) > 1 else ""
    raise UserError(
        f"{name} has the id {repeated[0]} in more than one row{others}: give each row an id of its own, or leave the "
        "column id out, and ids are made from the contents"
    )
