"""Comparing runs: what is read of them, and what of that is comparable."""

import json

import pytest

from experiments import compare
from selfalign.errors import UserError
from selfalign.runner.source import open_source
from tests.helpers import write_rows

CODE, TESTS = "```python\ndef f(x):\n    return x + 1\n```", "```python\nassert f(1) == 2\n```"


def sample(task, number, passed, **columns):
    return {
        "id": f"{task}-{number}",
        "task_id": task,
        "sample": number,
        "instruction": f"Write a function f, the one of task {task}.",
        "response": CODE,
        "tests": TESTS,
        "passed": passed,
        "outcome": "passed" if passed else "failed",
        "vacuous": False if passed else None,
        **columns,
    }


def written(folder, rows, step="", before=None):
    """A dataset as a step leaves it that has read the whole of `before`."""
    (folder / "data").mkdir(parents=True)
    write_rows(folder / "data" / "train-0.jsonl", rows)
    run = {"step": step, "complete": True}
    if before:
        source = open_source(str(before))
        run |= {"input": {"name": str(before), **source.pin}, "rows_in": len(source)}
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def figures(tmp_path, *datasets, **options):
    file = tmp_path / "comparison.json"
    compare.main(compare.Options(datasets=tuple(map(str, datasets)), json=file, **options))
    return json.loads(file.read_text())


def share(run, name, table="kept"):
    return run[table]["scores"][name][0]


def test_samples_and_seeds_that_were_lost_are_found_in_what_was_read(tmp_path):
    """Of three seeds one has no task, one no sample with code and tests, and one both of its samples."""
    seeds = [{"id": f"t{n}", "seed_id": f"s{n}", "error": None} for n in range(3)]
    concepts = written(tmp_path / "concepts", seeds)
    tasks = written(tmp_path / "tasks", [*seeds[:2], seeds[2] | {"error": "unfinished"}], "generate_tasks", concepts)
    both = [sample(f"t{n}", number, True, seed_id=f"s{n}") for n in (0, 1) for number in (0, 1)]
    responses = written(tmp_path / "responses", both, "sample_responses", tasks)
    executions = written(tmp_path / "executions", both[:2], "execute", responses)
    found = figures(tmp_path, executions)
    (run,) = found["runs"]
    assert (found["paired_by"], found["units"]) == ("seed_id", 3)
    assert share(run, "samples with code and tests") == pytest.approx(2 / 6)
    assert share(run, "tasks with an instruction") == pytest.approx(1 / 3)


def test_tasks_that_an_unfinished_run_does_not_have_yet_are_no_failures(tmp_path, capsys):
    rows = [sample(f"t{n}", 0, True) for n in range(3)]
    responses = written(tmp_path / "responses", rows)
    executions = written(tmp_path / "executions", rows[:1], "execute", responses)
    run_json = executions / "run.json"
    run_json.write_text(json.dumps(json.loads(run_json.read_text()) | {"complete": False}))
    found = figures(tmp_path, executions)
    assert (found["units"], share(found["runs"][0], "samples that pass")) == (1, 1.0)
    assert "executions is not complete" in capsys.readouterr().err


def test_what_was_read_is_found_where_a_run_was_moved_and_left_alone_where_it_changed(tmp_path, capsys):
    rows = [sample("a", 0, True), sample("b", 0, True)]
    responses = written(tmp_path / "there" / "responses", rows)
    written(tmp_path / "there" / "executions", rows[:1], "execute", responses)
    moved = (tmp_path / "there").rename(tmp_path / "here") / "executions"
    assert figures(tmp_path, moved)["units"] == 2
    write_rows(tmp_path / "here" / "responses" / "data" / "train-0.jsonl", [*rows, sample("c", 0, True)])
    assert "may be missing" not in capsys.readouterr().err
    assert figures(tmp_path, moved)["units"] == 1 and "may be missing" in capsys.readouterr().err


def test_only_tasks_in_common_and_the_first_samples_count(tmp_path, capsys):
    base = [sample("a", 0, True), sample("a", 1, False), sample("b", 0, False)]
    other = [*(sample("a", number, number == 3) for number in range(4)), sample("c", 0, True)]
    write_rows(tmp_path / "base.jsonl", base)
    write_rows(tmp_path / "other.jsonl", other)
    one, two = figures(tmp_path, tmp_path / "base.jsonl", tmp_path / "other.jsonl", samples=2)["runs"]
    assert (share(one, "samples that pass"), share(two, "samples that pass")) == (0.5, 0)
    assert "1 tasks in common (base.jsonl has 2, other.jsonl has 2), with 2 samples" in capsys.readouterr().out


def test_what_select_would_drop_is_no_instruction(tmp_path):
    rows = [
        sample("a", 0, True, vacuous=True),
        sample("b", 0, True, tests="```python\nf(1)\n```"),
        sample("c", 0, True),
    ]
    (run,) = figures(tmp_path, write_rows(tmp_path / "rows.jsonl", rows))["runs"]
    assert share(run, "samples that pass") == 1 and share(run, "tasks with an instruction") == pytest.approx(1 / 3)


def test_an_audit_takes_from_its_executions_what_it_leaves_out(tmp_path):
    rows = [sample("a", 1, True, category="class"), sample("a", 3, True, category="class")]
    executions = written(tmp_path / "executions", rows)
    dropped = ("sample", "instruction", "category")
    audited = [{name: value for name, value in row.items() if name not in dropped} for row in rows]
    audited = [row | {"right": number == 0, "accepts_reference": True} for number, row in enumerate(audited)]
    (run,) = figures(tmp_path, written(tmp_path / "audit", audited, "audit", executions), samples=2)["runs"]
    assert share(run, "samples that are right") == 0.5 and share(run, "of these, right") == 1
    assert share(run, "class", "like") == 1


@pytest.mark.parametrize(
    ("other", "options", "said"),
    [
        ([sample("z", 0, True)], {}, "no task in common"),
        ([sample("a", 0, True)], {"samples": 2}, "has only 1 for each task"),
        ([{k: v for k, v in sample("a", 0, True).items() if k != "sample"}], {"samples": 1}, "leave out --samples"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_sentence(tmp_path, other, options, said):
    base = write_rows(tmp_path / "base.jsonl", [sample("a", 0, True), sample("a", 1, True)])
    with pytest.raises(UserError, match=said):
        figures(tmp_path, base, write_rows(tmp_path / "other.jsonl", other), **options)


def test_datasets_of_one_name_need_labels(tmp_path):
    there = write_rows(tmp_path / "rows.jsonl", [sample("a", 0, True)])
    with pytest.raises(UserError, match="LABEL=PLACE"):
        figures(tmp_path, there, there)
    assert [run["label"] for run in figures(tmp_path, there, f"again={there}")["runs"]] == ["rows.jsonl", "again"]


def test_a_file_that_is_no_comparison_is_not_overwritten(tmp_path):
    (tmp_path / "comparison.json").write_text("{}")
    with pytest.raises(UserError, match="not overwritten"):
        figures(tmp_path, write_rows(tmp_path / "rows.jsonl", [sample("a", 0, True)]))
    assert (tmp_path / "comparison.json").read_text() == "{}"
