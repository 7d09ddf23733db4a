"""Where problems are read from, and what is said of what can't be read."""

import gzip
import json
from datetime import datetime

import datasets
import pytest

from selfalign.benchmarks import load_benchmark
from selfalign.benchmarks.harness.problems import iso_date, pin_of, records
from selfalign.errors import UserError
from tests.benchmarks.rows import DOUBLE, DOUBLE_ON_HUB, SQUARES


@pytest.mark.parametrize("file", ["a.jsonl", "a.jsonl.gz", "a.json", "a.parquet"])
def test_rows_come_from_any_form_of_file(tmp_path, file):
    rows, path = [{"task_id": "a", "n": 1}, {"task_id": "b", "n": 2}], tmp_path / file
    if file.endswith("parquet"):
        datasets.Dataset.from_list(rows).to_parquet(path)
    elif file.endswith("gz"):
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    else:
        path.write_text(json.dumps(rows) if file.endswith("json") else "\n".join(map(json.dumps, rows)))
    assert records(str(path)) == rows


@pytest.mark.parametrize("file", ["a.jsonl", "a.json"])
def test_a_file_may_begin_with_a_byte_order_mark(tmp_path, file):
    (tmp_path / file).write_text('[{"n": 1}]' if file == "a.json" else '{"n": 1}\r\n', encoding="utf-8-sig")
    assert records(str(tmp_path / file)) == [{"n": 1}]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"task_id": "a"}\n{"task_id": "b', "line 2 is not JSON"),
        ("", "has no rows"),
        ("[1]", "not a JSON object"),
        ('{"id": 1}\n{"task_id": 2}', "1 of 2 rows"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a pointer of Git LFS"),
    ],
)
def test_a_damaged_file_is_said(tmp_path, content, said):
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(UserError, match=said):
        records(str(tmp_path / "a.jsonl"), needs=("task_id",))


def test_json_that_is_no_list_is_said(tmp_path):
    (tmp_path / "a.json").write_text("3")
    with pytest.raises(UserError, match="holds 3 and no list of rows"):
        records(str(tmp_path / "a.json"))


def test_results_of_evalplus_are_not_taken_for_samples(tmp_path):
    (tmp_path / "x_eval_results.json").write_text('{"date": "today", "eval": {"HumanEval/0": []}}')
    with pytest.raises(UserError, match="EvalPlus' results"):
        records(str(tmp_path / "x_eval_results.json"))


@pytest.mark.parametrize("date", ["2023-05-07 00:00:00", datetime(2023, 5, 7), 1683417600000])
def test_a_date_is_read_in_each_form_that_files_have(date):
    assert iso_date(date) == "2023-05-07T00:00:00"


@pytest.mark.parametrize("name", ["ds1000", "canitedit", "classeval-holistic", "humanevalplus", "mbppplus"])
def test_data_of_another_benchmark_are_said(tmp_path, name):
    (tmp_path / "a.jsonl").write_text('{"question_id": 1, "metadata": {}}')
    with pytest.raises(UserError, match=r"1 of 1 rows of .*a\.jsonl have no"):
        load_benchmark(name).problems(str(tmp_path / "a.jsonl"))


BASE = DOUBLE_ON_HUB | {"test": "def check(candidate):\n    assert candidate(1) == 2\n"}
EVOEVAL = {"task_id": "EvoEval/0", "prompt": "", "canonical_solution": "", "inputs": []}


@pytest.mark.parametrize(
    ("name", "row", "said"),
    [
        ("humanevalplus", BASE, "has the tests of HumanEval, and not those of HumanEval\\+"),
        ("humanevalplus", SQUARES, "has problems of another benchmark: Mbpp/8"),
        ("mbppplus", DOUBLE, "has problems of another benchmark: HumanEval/900"),
        ("humaneval", DOUBLE_ON_HUB, "choose the benchmark humanevalplus"),
        ("evoeval-difficult", EVOEVAL | {"entry_point": "has_close_elements"}, "is the set evoeval-subtle"),
    ],
)
def test_data_that_would_be_scored_under_a_wrong_name_are_said(tmp_path, name, row, said):
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    with pytest.raises(UserError, match=said):
        load_benchmark(name).problems(str(tmp_path / "a.jsonl"))


def test_a_file_that_is_not_there_is_said():
    with pytest.raises(UserError, match="neither a file that exists nor a Hub id"):
        pin_of("./nowhere.jsonl")
