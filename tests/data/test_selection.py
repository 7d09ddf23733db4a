"""Which sample of a task is drawn."""

import pytest

from selfalign.data.selection import Rules, Sample, one_of_each_task

SAMPLES = [Sample(i, f"{task}-{i}", task, passed=True) for i, task in enumerate(("sort", "sort", "sort", "count"))]


def chosen(seed, samples=SAMPLES, **rules):
    return {sample.id for sample in one_of_each_task(samples, Rules("passes", seed, **rules))}


def test_every_sample_can_be_drawn_and_each_task_gives_one():
    draws = [chosen(seed) for seed in range(50)]
    assert set().union(*draws) == {sample.id for sample in SAMPLES}
    assert all(len(ids) == 2 for ids in draws)


@pytest.mark.parametrize("seed", range(5))
def test_neither_the_order_nor_other_tasks_change_a_draw(seed):
    assert chosen(seed) == chosen(seed, SAMPLES[::-1]) == chosen(seed, SAMPLES[:3]) | {"count-3"}


@pytest.mark.parametrize("seed", range(5))
def test_the_sample_that_costs_least_is_chosen(seed):
    assert "sort-2" in chosen(seed, costs_of=lambda samples: {"sort-2": -1})
