"""Executions in two languages side by side."""

import pytest

from experiments import languages
from selfalign.errors import UserError
from selfalign.runner.source import open_source
from tests.helpers import write_rows


def row(number, task, passed, language, **columns):
    return {
        "id": f"{language}{number}",
        "task_id": task,
        "passed": passed,
        "outcome": "passed" if passed else "failed",
        "language": language,
        "vacuous": False if passed else None,
        "mutation_score": 0.5 if passed else None,
        **columns,
    }


@pytest.fixture
def written(tmp_path):
    write_rows(tmp_path / "tasks.jsonl", [{"id": "a"}, {"id": "b"}])
    write_rows(tmp_path / "python.jsonl", [row(n, "a", True, "python") for n in range(2)])
    rows = [row(0, "a", True, "javascript"), row(1, "a", True, "javascript", vacuous=True, mutation_score=0.0)]
    write_rows(tmp_path / "javascript.jsonl", [*rows, row(2, "b", False, "javascript")])
    return tmp_path


def test_samples_that_were_not_executed_did_not_pass(written, capsys):
    inputs = tuple(str(written / f"{name}.jsonl") for name in ("python", "javascript"))
    languages.main(languages.Options(inputs=inputs, tasks=str(written / "tasks.jsonl"), samples=2))
    _, _, python, javascript, _, difference = capsys.readouterr().out.splitlines()
    assert python.startswith("| python | 4 | 2 | 2 (50.0 %) |") and python.endswith("| 1 | 0 | 0.50 |")
    assert javascript.startswith("| javascript | 4 | 3 | 2 (50.0 %) |") and javascript.endswith("| 1 | 1 | 0.50 |")
    assert difference.startswith("javascript minus python: +0.0 points")


def test_the_order_of_the_tasks_is_that_of_their_ids(tmp_path):
    """A set of texts has another one in each process, and the interval would change with it."""
    tasks = {f"task {number:02}" for number in range(50)}
    source = open_source(str(write_rows(tmp_path / "rows.jsonl", [row(0, "task 07", True, "python")])))
    assert list(languages.figures_of(source, tasks, 1).rates) == sorted(tasks)


def test_more_samples_than_are_said_are_refused(written):
    inputs = (str(written / "python.jsonl"),)
    with pytest.raises(UserError, match="2 samples of a task, which --samples 1 "):
        languages.main(languages.Options(inputs=inputs, tasks=str(written / "tasks.jsonl"), samples=1))


def test_executions_have_to_be_named(written):
    with pytest.raises(UserError, match="name the executions"):
        languages.main(languages.Options(inputs=(), tasks=str(written / "tasks.jsonl")))


def test_other_tasks_and_mixed_languages_are_refused(written):
    tasks = str(written / "tasks.jsonl")
    write_rows(written / "mixed.jsonl", [row(0, "a", True, "python"), row(1, "a", True, "javascript")])
    write_rows(written / "other.jsonl", [row(0, "c", True, "python")])
    for name, said in (("mixed", "rows in javascript and python"), ("other", "task c, which is none of --tasks")):
        with pytest.raises(UserError, match=said):
            languages.main(languages.Options(inputs=(str(written / f"{name}.jsonl"),), tasks=tasks))
