"""Runs side by side: figures of tasks made by hand, and how sure they are."""

import pytest

from selfalign.report.comparison import (
    WHAT_IS_KEPT,
    WHAT_THE_KEPT_ARE_LIKE,
    Kept,
    Task,
    compared,
    size_of,
    table_of,
    with_repeats,
)

RIGHT, WRONG = Kept(lines=2, branches=0, right=True), Kept(lines=6, branches=1, right=False)
# Of one task two samples are kept, one of them right; of the other, all samples were lost.
BASE = {
    "a": [Task(asked=4, executed=3, passed=2, right=1, accepting=2, rate=2 / 3, kept=(RIGHT, WRONG))],
    "b": [Task(asked=4, right=0, accepting=0)],
}
OTHER = BASE | {"b": [Task(asked=4, executed=4, passed=1, right=2, accepting=1, rate=1 / 4, kept=(RIGHT,))]}


def values(runs, measures=WHAT_IS_KEPT):
    return [{name: score and score.value for name, score in run.scores.items()} for run in compared(runs, measures)]


def test_lost_samples_and_tasks_count_as_not_passing():
    (found,) = values([BASE])
    assert found["samples with code and tests"] == 3 / 8 and found["samples that pass"] == 2 / 8
    assert found["samples that are right"] == 1 / 8 and found["tasks with an instruction"] == 1 / 2


def test_what_is_kept_counts_as_it_is_drawn():
    assert [run["of these, right"] for run in values([BASE, OTHER])] == [1 / 2, 3 / 4]
    assert [run["lines"] for run in values([BASE, OTHER], WHAT_THE_KEPT_ARE_LIKE)] == [4, 3]


def test_equal_runs_differ_by_nothing():
    _, again = compared([OTHER, OTHER], WHAT_IS_KEPT)
    assert {tuple(score) for score in again.differences.values() if score} == {(0.0, 0.0, 0.0)}


def test_differences_are_paired():
    """The tasks differ widely among themselves, and each gains the same."""
    base = {str(n): [Task(asked=10, executed=n)] for n in range(9)}
    other = {key: [Task(asked=10, executed=int(key) + 1)] for key in base}
    found, name = compared([base, other], WHAT_IS_KEPT)[1], "samples with code and tests"
    value, difference = found.scores[name], found.differences[name]
    assert value and difference and difference == pytest.approx((0.1, 0.1, 0.1))
    assert value.high > value.low + 0.1


def test_none_of_few_is_no_certainty():
    score = compared([{str(n): [Task(asked=1)] for n in range(5)}], WHAT_IS_KEPT)[0].scores["samples that pass"]
    assert score and score.value == 0 and score.high > 0.3


def test_what_only_one_run_knows_has_no_difference():
    unaudited = {"a": [Task(asked=4, executed=3, passed=2)], "b": [Task(asked=4)]}
    table = table_of(("base", "other"), compared([BASE, unaudited], WHAT_IS_KEPT), WHAT_IS_KEPT).splitlines()
    assert table[3].split(" | ")[3] == "-" and table[4].split(" | ")[3] == "-"
    assert "right" not in table_of(("one",), compared([unaudited], WHAT_IS_KEPT), WHAT_IS_KEPT)


def test_all_but_one_of_equal_instructions_are_repeats():
    text = "Write a function that adds two given numbers and returns the sum"
    kept = Task(asked=1, kept=(RIGHT,))
    units = {
        key: [Task(asked=1, kept=kept.kept, instruction=each)]
        for key, each in {"a": text, "b": "Reverse a list of words, and join them by commas", "c": f"{text}."}.items()
    }
    assert [task.repeats for (task,) in with_repeats(units).values()] == [False, False, True]


def test_comments_are_no_lines_and_conditions_and_loops_are_branches():
    code = 'def f(x):\n    """Doc."""\n    # why\n    if x:\n        return [y for y in x]\n\n    return None\n'
    assert size_of({"response": f"```python\n{code}```"}) == Kept(4, 2)
