"""What each vote adds: rankings of the samples of an audit at the same yields."""

import pytest

from experiments import rankings
from selfalign.data.audit import half_of, samples_by_task
from selfalign.errors import UserError
from tests.helpers import write_rows

# Two of these tasks are in the first half and two in the second.
TASKS = [task for half in (0, 1) for task in [f"t{n}" for n in range(40) if half_of(f"t{n}") == half][:2]]


def row(task, right, support, met, passed=False):
    return {
        "task_id": task,
        "response": "",
        "right": right,
        "passed": passed,
        "outcome": "passed" if passed else "failed",
        "hidden_outcome": "passed" if right else "failed",
        "vacuous": None,
        "mutation_score": 0.5 if passed else None,
        "agreement": None,
        "support": support,
        "assertions_met": met,
        "accepts_reference": False,
        "rejects_wrong": None,
    }


# Outputs are right about the first task of each half, assertions about the second, and own tests about none.
ROWS = [
    one
    for first, second in zip(TASKS[::2], TASKS[1::2], strict=True)
    for one in (
        row(first, True, support=0.9, met=0.1),
        row(first, False, support=0.3, met=0.2, passed=True),
        row(second, True, support=0.2, met=0.9),
        row(second, False, support=0.4, met=0.0, passed=True),
    )
]


def test_each_ranking_keeps_the_samples_that_it_puts_first():
    tasks = samples_by_task(ROWS)
    found = rankings.at_yield_of_passes(list(tasks.values()))
    assert {audit.kept for audit in found.values()} == {4}
    precision = {name: audit.precision.value for name, audit in found.items()}
    assert precision["outputs"] == precision["assertions"] == 0.5
    assert precision["own tests"] == precision["mutants"] == 0
    assert precision["outputs and assertions, their mean"] == 1
    assert precision["outputs and assertions, their product"] == 1
    gains = {name: audit.gain and audit.gain.value for name, audit in found.items()}
    assert gains["outputs"] is None and gains["outputs and assertions, their mean"] == 0.5


def test_at_low_yields_the_tasks_with_the_highest_number_count():
    """Of four tasks, 20 to 30 % are one, 40 to 60 % two and 70 to 80 % three. By outputs, those of 0.9 come first."""
    means = dict(zip(rankings.RANKINGS, rankings.at_yields(list(samples_by_task(ROWS).values())), strict=True))
    assert means["outputs"] == pytest.approx((5 * 1 + 2 * 0.5) / 7)  # the third and fourth task have the same number
    assert means["outputs and assertions, their mean"] == 1


def test_the_table_has_a_line_for_each_ranking(tmp_path, capsys):
    rankings.main(rankings.Options(audit=str(write_rows(tmp_path / "audit.jsonl", ROWS))))
    head, _, *table = capsys.readouterr().out.strip().splitlines()
    assert head == "4 tasks with 8 samples; passes keeps 4 of them. In percent."
    assert [line.split(" | ")[0].removeprefix("| ") for line in table[2:]] == list(rankings.RANKINGS)
    assert table[2].startswith("| outputs | 50.0 [0.0, 100.0] |  | 85.7 | ")


def test_what_is_no_audit_and_what_is_too_small_are_said(tmp_path):
    no_audit = write_rows(tmp_path / "executions.jsonl", [{"task_id": "a", "response": "", "passed": True}])
    with pytest.raises(UserError, match="right"):
        rankings.main(rankings.Options(audit=str(no_audit)))
    small = write_rows(tmp_path / "small.jsonl", ROWS[:1])
    with pytest.raises(UserError, match="1 task"):
        rankings.main(rankings.Options(audit=str(small)))
