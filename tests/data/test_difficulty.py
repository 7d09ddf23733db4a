"""Drawing by difficulty: rather what is solved sometimes, and nothing is starved."""

from collections import Counter

import pytest

from selfalign.data.difficulty import FLOOR, UNKNOWN, draw_by_weight, solved_by, weight_of

IDS = [f"c{n}" for n in range(60)]
# A third is always solved, a third sometimes, a third never.
RATES = {id: (1.0, 0.5, 0.0)[n % 3] for n, id in enumerate(IDS)}
WEIGHTS = {id: weight_of(rate) for id, rate in RATES.items()}


@pytest.mark.parametrize(
    ("rate", "weight"),
    [(0.0, FLOOR), (1.0, FLOOR), (0.5, 1.0), (0.1, 0.6), (0.9, 0.6), (0.001, FLOOR), (None, UNKNOWN)],
)
def test_weights(rate, weight):
    assert weight_of(rate) == pytest.approx(weight)


def test_what_is_solved_sometimes_is_drawn_most_and_the_rest_not_never():
    drawn = Counter()
    for seed in range(200):
        drawn.update(IDS[position] for position in draw_by_weight(IDS, WEIGHTS, 15, seed))
    shares = [sum(drawn[id] for id in IDS if RATES[id] == rate) / 3000 for rate in (0.0, 0.5, 1.0)]
    assert shares[1] > 0.5 and min(shares[0], shares[2]) > 0.1 and min(drawn[id] for id in IDS) > 0


def test_what_is_drawn_depends_on_the_seed_and_the_ids_alone():
    def ids(positions, names):
        return {names[position] for position in positions}

    first = ids(draw_by_weight(IDS, WEIGHTS, 15, 1), IDS)
    assert first == ids(draw_by_weight(IDS[::-1], WEIGHTS, 15, 1), IDS[::-1])
    assert first != ids(draw_by_weight(IDS, WEIGHTS, 15, 2), IDS)
    assert len(draw_by_weight(IDS, WEIGHTS, 100, 1)) == 60


def test_samples_without_a_verdict_do_not_count():
    rows = [("a", "passed"), ("a", "failed"), ("a", "no_tests"), ("b", "sandbox_error"), ("c", "timeout")]
    executions = [{"concepts_id": id, "outcome": outcome, "passed": outcome == "passed"} for id, outcome in rows]
    found = solved_by(executions, "concepts_id")
    assert {id: solved.rate for id, solved in found.items()} == {"a": 0.5, "c": 0.0}
