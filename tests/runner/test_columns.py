"""The columns of an input that no step wrote: read where there is no doubt, refused at the start where there is."""

from dataclasses import replace
from decimal import Decimal

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selfalign.errors import UserError
from selfalign.ids import content_id
from selfalign.runner.columns import MissingColumns
from selfalign.runner.source import Source, read_input, usable_rows
from tests.helpers import read_rows, write_rows
from tests.runner.doubling import double_all, never, options


def read(folder, rows, *needed, **changes):
    source = write_rows(folder / "in.jsonl", rows)
    return read_input(options(folder, input=str(source), **changes), *(needed or ("id", "content")))


@pytest.mark.parametrize("ids", [[1, 2], [1.0, 2.0], ["1", "2"]], ids=str)
def test_ids_are_text_whatever_they_were(tmp_path, ids):
    assert read(tmp_path, [{"content": "x", "id": id} for id in ids]).rows["id"][:] == ["1", "2"]


def test_a_missing_id_among_numbers_stays_missing(tmp_path):
    (tmp_path / "in.csv").write_text("id,content\n1,x\n,y\n")
    source = read_input(options(tmp_path, input=str(tmp_path / "in.csv")), "id", "content")
    assert source.rows["id"][:] == ["1", None]


def test_ids_are_made_from_the_contents_where_there_are_none(tmp_path):
    ids = read(tmp_path, [{"content": text} for text in ("a", "b", "a")]).rows["id"][:]
    assert ids[:2] == [content_id("a"), content_id("b")] and len(set(ids)) == 3


def test_columns_may_have_other_names(tmp_path):
    rows = [{"key": 7, "code": "new", "content": "old", "more": 1}]
    source = read(tmp_path, rows, column=("content=code", "id=key"))
    assert source.rows[0] == {"id": "7", "content": "new", "more": 1}
    assert source.pin["columns"] == "content=code id=key", "other names are another run"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"id": 1, "content": 3}, "the column content of .* holds int64, but it must hold text"),
        ({"id": 1, "content": ["x"]}, "holds list<item: string>, but it must hold text"),
        ({"id": [1], "content": "x"}, "the column id of .* but ids must be text or whole numbers"),
        ({"id": 1.5, "content": "x"}, "holds double, but ids must be text or whole numbers"),
        ({"id": 1, "stars": 2, "func_source": "x"}, "its columns are id, stars, func_source. .*content=func_source"),
        ({"id": 1, "contents": "x", "other": "y"}, "add --column content=contents"),
        ({"id": 1, "stars": 2}, "its columns are id, stars$"),
    ],
    ids=str,
)
def test_what_is_no_seed_is_refused(tmp_path, row, said):
    with pytest.raises(UserError, match=said):
        read(tmp_path, [row])


@pytest.mark.parametrize(
    ("pair", "said"),
    [("content", "does not have the form NAME=COLUMN"), ("content=cod", "has no column cod; .*content=code?")],
)
def test_other_names_that_are_wrong_are_refused(tmp_path, pair, said):
    with pytest.raises(UserError, match=said):
        read(tmp_path, [{"id": 1, "code": "x"}], column=(pair,))


@pytest.mark.parametrize(
    "there",
    [
        "id",
        "seed_id",
        "contents_id",
        "finish_reason",
        "error",
        "prompt_hash",
        "content_hash",
        "content_reasoning",
        "stars",
    ],
)
@pytest.mark.parametrize("column", [(), ("content=conten",)], ids=str)
def test_a_column_that_is_not_near_is_not_proposed(tmp_path, there, column):
    """`--column instruction=finish_reason` would run for hours, and mean nothing."""
    with pytest.raises(UserError, match=f"its columns are id, {there}$|its columns are id$"):
        read(tmp_path, [{"id": "a", there: "x"}], column=column)


def test_a_missing_column_is_told_with_the_step_that_wrote_the_input(tmp_path):
    step = double_all(tmp_path, holding(number=[1, 2]))["step"]
    with pytest.raises(UserError, match=f"out, which {step} wrote, has no column content; its columns are"):
        read_input(options(tmp_path, input=str(tmp_path / "out")), "id", "content")


def test_concepts_are_lists(tmp_path):
    with pytest.raises(UserError, match=r"concepts .* holds string, but it must hold lists of text"):
        read(tmp_path, [{"id": 1, "concepts": "sorting, lists"}], "id", "concepts")


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("passed", "True", "holds string, but it must hold true or false"),
        ("vacuous", "False", "holds string, but it must hold true or false"),
        ("vacuous", 2, "holds int64, but it must hold true or false"),
        ("vacuous", [True], "but it must hold true or false"),
        ("mutation_score", "0.9", "holds string, but it must hold numbers"),
        ("mutation_score", True, "holds bool, but it must hold numbers"),
    ],
)
def test_verdicts_of_other_types_are_refused(tmp_path, column, value, said):
    row = {"id": 1, "passed": True, column: value}
    with pytest.raises(UserError, match=rf"the column {column} of .*{said}"):
        read(tmp_path, [row], "id", "passed")
    if column != "passed":
        assert len(read(tmp_path, [row], "id")) == 1, "where no verdict is asked for, it is any column"


@pytest.mark.parametrize("verdicts", [{"vacuous": 0, "mutation_score": 1}, {"vacuous": None, "mutation_score": None}])
def test_verdicts_may_be_numbers_or_null(tmp_path, verdicts):
    assert len(read(tmp_path, [{"id": 1, "passed": True, **verdicts}], "id", "passed")) == 1


def test_lists_may_be_of_the_type_that_polars_writes(tmp_path):
    concepts = pa.array([["sorting"]], pa.large_list(pa.large_string()))
    pq.write_table(pa.table({"id": ["1"], "concepts": concepts}), tmp_path / "in.parquet")
    source = read_input(options(tmp_path, input=str(tmp_path / "in.parquet")), "id", "concepts")
    assert source.rows["concepts"][:] == [["sorting"]]


def test_repeated_ids_are_refused(tmp_path):
    with pytest.raises(UserError, match="has the id 1 in more than one row, and so have 1 other ids"):
        read(tmp_path, [{"id": id, "content": str(n)} for n, id in enumerate((1, 2, 1, 3, 2))])


def test_a_prompt_is_tried_with_rows_that_have_all_it_needs(tmp_path):
    rows = [{"id": "a", "content": None}, {"id": "b", "content": "x", "error": "bad"}, {"id": "c", "content": "x"}]
    source = read(tmp_path, rows)
    assert [row["id"] for row in usable_rows(source, 5)] == ["c"]
    with pytest.raises(UserError, match=r"no row of .* can be used"):
        usable_rows(replace(source, rows=source.rows.select([0, 1])), 5)


def holding(**columns):
    """A source with a row for each value, and these columns of Arrow's."""
    table = pa.table({"id": ["a", "b"], **columns})
    return Source("mine", {"fingerprint": "x"}, datasets.Dataset(datasets.table.InMemoryTable(table)), {})


STORED = {
    "null": pa.nulls(2),
    "text": pa.array(["x", None]),
    "large text": pa.array(["x", "y"], pa.large_string()),
    "bytes": pa.array([b"x", b"y"]),
    "float16": pa.array(np.array([1, 2], np.float16)),
    "time": pa.array([1, 2], pa.timestamp("ns")),
    "seconds": pa.array([1, 2], pa.duration("s")),
    "date": pa.array([1, 2], pa.date32()),
    "decimal": pa.array([Decimal("1.5"), None]),
    "lists of nothing": pa.array([[], []]),
    "structs": pa.array([{"a": [{"b": 1}]}, None]),
    "lists of pairs": pa.array([[[1, 2]], None], pa.list_(pa.list_(pa.int8(), 2))),
}


@pytest.mark.parametrize("kind", STORED)
def test_what_the_input_has_besides_is_stored_as_it_is(tmp_path, kind):
    source = holding(number=[1, 2], other=STORED[kind])
    double_all(tmp_path, source)
    assert read_rows(tmp_path / "out")[0]["other"] == source.rows[0]["other"]


def test_a_column_that_the_output_cannot_store_is_refused_before_the_first_row(tmp_path, monkeypatch):
    def refuse(*_):
        raise pa.ArrowNotImplementedError("no such type in Parquet")

    monkeypatch.setattr("pyarrow.parquet.write_table", refuse)
    with pytest.raises(UserError, match=r"column id of mine holds string, which the output can't store \(no such type"):
        double_all(tmp_path, holding(number=[1, 2]), function=never)


@pytest.mark.parametrize("values", [["x", "y"], [True, False], [[1], [2]], [{"a": 1}, None]], ids=str)
def test_a_column_that_the_step_would_replace_by_another_type_is_refused(tmp_path, values):
    with pytest.raises(UserError, match=r"this step writes int64 .*--column input_double=double"):
        double_all(tmp_path, holding(number=[1, 2], double=pa.array(values)), function=never)


@pytest.mark.parametrize("values", [[None, None], [1.5, 2.5], [1, 2]], ids=str)
def test_a_column_that_a_step_made_before_is_replaced(tmp_path, values):
    double_all(tmp_path, holding(number=[1, 2], double=pa.array(values)))
    assert [row["double"] for row in read_rows(tmp_path / "out")] == [2, 4]


def test_an_error_is_text(tmp_path):
    with pytest.raises(UserError, match=r"the column error of .* holds int64, but it must hold text"):
        read(tmp_path, [{"id": 1, "content": "x", "error": 404}])


def test_a_missing_column_is_told_from_other_faults_without_its_advice(tmp_path):
    with pytest.raises(UserError) as other:
        read(tmp_path, [{"code": "x"}], "content", column=("content=cod",))
    with pytest.raises(MissingColumns) as missing:
        read(tmp_path, [{"code": "x"}], "content")
    assert not isinstance(other.value, MissingColumns)
    assert str(missing.value) == f"{missing.value.fact}. If code is what is meant, add --column content=code"
