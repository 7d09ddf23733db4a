"""Samples that were made elsewhere: which problem each is of, and what is said of those that don't fit."""

import pytest

from selfalign.benchmarks import load_benchmark
from selfalign.benchmarks.harness.given_samples import given_samples
from selfalign.errors import UserError
from tests.benchmarks.tools import solutions
from tests.helpers import write_rows

PROBLEMS = load_benchmark("humaneval").problems()[:3]


def given(tmp_path, rows, **options):
    return given_samples(str(write_rows(tmp_path / "samples.jsonl", rows)), PROBLEMS, **options)[0]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (solutions(0, 1), "1 of 3 problems have no sample (HumanEval/2)"),
        (solutions(0, 1, 2, 2), "1 of 3 problems have more than 1 (HumanEval/2)"),
        (solutions(0, 0, 1, 1, 2), "1 of 3 problems have fewer than 2 (HumanEval/2)"),
        (solutions(0, 1, 2, 164, 165), "2 belong to no problem of the benchmark (HumanEval/164, HumanEval/165)"),
        ([*solutions(0, 1), {"task_id": "HumanEval/2", "solution": None}], "1 have neither solution nor completion"),
    ],
)
def test_samples_that_do_not_fit_are_said_with_counts(tmp_path, rows, said):
    with pytest.raises(UserError) as error:
        given(tmp_path, rows)
    assert said in str(error.value) and f"the {len(rows)} samples of" in str(error.value)


def test_the_number_of_samples_can_be_told(tmp_path):
    rows = solutions(0, 0, 1, 1, 2, 2)
    assert len(given(tmp_path, rows)) == len(given(tmp_path, rows, per_problem=2)) == 6
    with pytest.raises(UserError, match="3 of 3 problems have more than 1"):
        given(tmp_path, rows, per_problem=1)


def test_samples_of_other_problems_can_be_ignored(tmp_path, capsys):
    assert len(given(tmp_path, solutions(0, 1, 2, 164, 165), ignore_unknown=True)) == 3
    assert "2 samples belong to no problem of the benchmark and are ignored (HumanEval/164" in capsys.readouterr().err
    with pytest.raises(UserError, match="--ignore-unknown leaves those of other problems out"):
        given(tmp_path, solutions(0, 1, 2, 164))


def test_columns_that_are_not_used_are_said(tmp_path, capsys):
    given(tmp_path, [row | {"logprob": 1.0} for row in solutions(0, 1, 2)])
    assert "1 columns are ignored: logprob" in capsys.readouterr().err


def test_characters_that_can_not_be_stored_are_replaced(tmp_path):
    row = {"task_id": "HumanEval/2", "completion": "    return '\ud83d'"}  # half of an emoji
    assert given(tmp_path, [*solutions(0, 1), row])[2]["text"] == "    return '?'"


def test_numbers_are_task_ids_too(tmp_path):
    rows = given(tmp_path, [{"task_id": n, "solution": "x"} for n in range(3)])
    assert [row["task_id"] for row in rows] == ["HumanEval/0", "HumanEval/1", "HumanEval/2"]
