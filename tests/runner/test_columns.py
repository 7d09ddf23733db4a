"""The columns of an input that no step wrote: read where there is no doubt, refused at the start where there is."""

from dataclasses import replace

import pytest

from selfalign.errors import UserError
from selfalign.ids import content_id
from selfalign.runner.source import read_input, usable_rows
from tests.helpers import write_rows
from tests.runner.doubling import options


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


def test_concepts_are_lists(tmp_path):
    with pytest.raises(UserError, match=r"concepts .* holds string, but it must hold lists of text"):
        read(tmp_path, [{"id": 1, "concepts": "sorting, lists"}], "id", "concepts")


def test_repeated_ids_are_refused(tmp_path):
    with pytest.raises(UserError, match="has the id 1 in more than one row, and so have 1 other ids"):
        read(tmp_path, [{"id": id, "content": str(n)} for n, id in enumerate((1, 2, 1, 3, 2))])


def test_a_prompt_is_tried_with_rows_that_have_all_it_needs(tmp_path):
    rows = [{"id": "a", "content": None}, {"id": "b", "content": "x", "error": "bad"}, {"id": "c", "content": "x"}]
    source = read(tmp_path, rows)
    assert [row["id"] for row in usable_rows(source, 5)] == ["c"]
    with pytest.raises(UserError, match=r"no row of .* can be used"):
        usable_rows(replace(source, rows=source.rows.select([0, 1])), 5)
