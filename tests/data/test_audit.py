"""The audit of selection rules: what they keep of hand-made tasks, and how sure their figures are."""

import math

import pytest

from selfalign.data.audit import (
    RULES,
    RULES_WITH_ASSERTIONS,
    Audited,
    at_coverage,
    audit,
    audit_table,
    figures_of,
    half_of,
    halves_of,
    rules_for,
)
from selfalign.report.audit import record_of


def sample(passed, right, **more):
    return Audited(passed, right, more.pop("length", 10), **more)


STRONG = {"vacuous": False, "mutation_score": 1.0}
# One task where consensus knows better than the samples' own tests, one where they agree, one that nobody solves.
TASKS = [
    [sample(True, False, **STRONG), sample(False, True, support=0.5), sample(False, True, support=0.5)],
    [sample(True, True, support=0.5, length=5, **STRONG), sample(False, True, support=0.5), sample(False, False)],
    [sample(True, False, vacuous=True, mutation_score=0.0), sample(False, False), sample(False, False)],
]


def test_what_is_not_known_is_null_in_the_record():
    """NaN would be no JSON."""
    nobody = [[sample(False, False)], [sample(False, True)]]
    rules = record_of(figures_of({"a": nobody[0], "b": nobody[1]}), {})["rules"]
    assert rules["passes"]["precision"] == [None] * 3 and rules["random"]["precision"][0] == 0.5


def test_precision_recall_and_yield():
    found = audit(TASKS)
    assert found["passes"].precision.value == pytest.approx(1 / 3)
    assert found["passes"].recall.value == pytest.approx(1 / 2)
    assert found["passes"].coverage.value == 1
    assert found["consensus"].precision.value == 1 and found["consensus"].kept == 2
    assert found["random"].precision.value == pytest.approx((2 / 3 + 2 / 3) / 3)
    assert found["passes, not vacuous"].kept == 2
    assert found["consensus"].gain.value == pytest.approx(2 / 3) and found["passes"].gain is None


def test_intervals_hold_the_value_and_shrink_with_more_tasks():
    few, many = audit(TASKS)["passes"].precision, audit(TASKS * 30)["passes"].precision
    assert few.low <= few.value <= few.high and many.low <= many.value <= many.high
    assert many.high - many.low < few.high - few.low


def test_a_rule_that_keeps_nothing_has_no_precision():
    nothing = audit([[sample(False, True)]])["passes"]
    assert nothing.kept == 0 and math.isnan(nothing.precision.value)
    assert "| - |" in audit_table({"passes": nothing}, 1)


def test_what_is_right_in_all_of_a_few_tasks_is_not_certain():
    found = audit([[sample(True, True)]] * 4)["passes"]
    assert found.precision.value == 1 and found.precision.low == pytest.approx(0.51, abs=0.01)


def test_consensus_at_equal_yield_keeps_what_is_most_agreed_on():
    tasks = [[sample(False, True, support=share)] * 2 for share in (0.2, 0.8, 0.5)]
    rule = at_coverage(tasks, 2)
    assert [bool(rule(samples)) for samples in tasks] == [False, True, True]
    assert not any(at_coverage(tasks, 0)(samples) for samples in tasks)


def test_assertions_can_decide_what_is_kept():
    alone, claimed = sample(False, False, support=0.6, met=0.0), sample(False, True, support=0.4, met=0.5)
    assert RULES["consensus"]([alone, claimed]) == [alone]
    assert RULES_WITH_ASSERTIONS["consensus with assertions"]([alone, claimed]) == [claimed]
    assert RULES_WITH_ASSERTIONS["consensus with assertions >= 0.5"]([alone, claimed]) == []
    assert not RULES_WITH_ASSERTIONS["passes, consensus with assertions >= 0.25"]([alone, claimed])


def test_a_task_that_few_samples_pass_can_be_left_out():
    samples = [sample(True, True), *(sample(False, False) for _ in range(3))]
    assert RULES["passes, pass rate >= 0.25"](samples) == samples[:1]
    assert RULES["passes, pass rate >= 0.5"](samples) == []


def test_an_audit_without_assertions_has_no_rules_that_need_them():
    assert not rules_for(TASKS).keys() & RULES_WITH_ASSERTIONS.keys()
    assert rules_for([*TASKS, [sample(True, True, met=0.5)]]).keys() > RULES_WITH_ASSERTIONS.keys()


def test_ties_are_all_kept_and_every_rule_takes_an_empty_task():
    assert len(RULES["consensus"](TASKS[0])) == 2
    assert all(list(rule([])) == [] for rule in (RULES | RULES_WITH_ASSERTIONS).values())


def test_consensus_is_looked_at_wherever_one_wants():
    tasks = {"t": [sample(False, True, support=0.4), sample(False, False, support=0.2)]}
    rules = figures_of(tasks, (0.4, 0.41)).rules
    assert (rules["consensus >= 0.4"].kept, rules["consensus >= 0.41"].kept) == (1, 0)
    assert "consensus >= 0.5" not in rules


def test_the_halves_share_the_tasks_and_stay_the_same_with_more_of_them():
    tasks = {f"task {number}": [sample(True, number % 2 == 0)] for number in range(40)}
    first, second = halves_of(tasks)
    assert len(first) + len(second) == 40 and min(len(first), len(second)) > 10
    assert halves_of(dict(list(tasks.items())[:20]))[0] == first[: sum(half_of(id) == 0 for id in list(tasks)[:20])]
    halves = figures_of(tasks, halves=True).halves
    assert [half.tasks for half in halves] == [len(first), len(second)]
    assert halves[0].rules["passes"].precision.value == sum(one[0].right for one in first) / len(first)
    assert "The second half of the tasks:" in figures_of(tasks, halves=True).as_markdown()
