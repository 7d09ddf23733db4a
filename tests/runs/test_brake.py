"""The brake of the rounds: what it measures, when it is pulled, and that a good run is left alone."""

import json
import random
import subprocess
import sys

import datasets
import pytest

from runs.brake import Limits, brake_table, distinct, measured, read_rounds, reasons_to_stop, repeats_of, sentence
from tests.helpers import ROOT

WORDS = [f"word{n}" for n in range(400)]


def tasks(number, seed=0):
    """Instructions that have nothing in common."""
    draws = random.Random(seed)
    return [" ".join(draws.sample(WORDS, 20)) for _ in range(number)]


def rows(number, vacuous=0, score=0.9):
    """Samples that pass, some of them with tests that accept anything."""
    return [
        {"task_id": str(n), "vacuous": n < vacuous, "mutation_score": 0.0 if n < vacuous else score}
        for n in range(number)
    ]


def one(seed=0, instructions=None, chosen=None, passing=None, by_problem=None):
    instructions = tasks(40, seed) if instructions is None else instructions
    return {
        "instructions": instructions,
        "chosen": instructions[:20] if chosen is None else chosen,
        "passing": rows(60) if passing is None else passing,
        "by_problem": by_problem,
    }


BEFORE = {f"p{n}": float(n % 2) for n in range(100)}
WORSE = {problem: score if n % 4 else 0.0 for n, (problem, score) in enumerate(BEFORE.items())} | {
    f"p{n}": 0.0 for n in range(1, 30)
}
HEALTHY = {
    "two rounds": [one(0), one(1)],
    "a few vacuous tests": [one(0), one(1, passing=rows(60, vacuous=6))],
    "too few rows to say": [one(0), one(1, passing=rows(3, vacuous=1), chosen=tasks(2))],
    "some repeats": [one(0), one(1, chosen=[*tasks(40, 0)[:6], *tasks(14, 1)])],
    "weak tests now and then": [one(0), one(1, passing=[*rows(30), *rows(30, score=0.2)])],
    "another score by chance": [one(0, by_problem=BEFORE), one(1, by_problem=BEFORE | {"p1": 0.0, "p2": 1.0})],
    "no mutants": [one(0), one(1, passing=[{"task_id": "a", "vacuous": False, "mutation_score": None}] * 30)],
    "samples of four tasks": [one(0), one(1, passing=[r | {"task_id": n // 15} for n, r in enumerate(rows(60, 30))])],
    "nothing passes": [one(0), one(1, passing=[])],
}
FEEDING = {
    "tests that accept everything": ([one(0, passing=rows(60, vacuous=50))], "83.3 % of the passing samples accept"),
    "tests that notice little": ([one(0), one(1, passing=rows(60, score=0.2))], "notice 20.0 % of small mistakes"),
    "the same tasks again": ([one(0), one(1, instructions=tasks(40, 0))], "100.0 % of the instructions nearly repeat"),
    "a few phrases": (
        [one(0), one(1, instructions=[f"{text} x" for text in tasks(4, 1)] * 10, chosen=tasks(20, 1))],
        "is down to 10",
    ),
    "a worse model": ([one(0, by_problem=WORSE)], "the benchmark has fallen by"),
}


@pytest.mark.parametrize("rounds", HEALTHY.values(), ids=HEALTHY)
def test_a_healthy_run_goes_on(rounds):
    found = measured(rounds, BEFORE)
    assert reasons_to_stop(found, Limits()) == []
    assert brake_table(found, Limits()).count("\n") == 8


@pytest.mark.parametrize(("rounds", "why"), FEEDING.values(), ids=FEEDING)
def test_a_model_that_feeds_on_itself_is_stopped(rounds, why):
    reasons = reasons_to_stop(measured(rounds, BEFORE), Limits())
    assert len([reason for reason in reasons if why in reason]) == 1, reasons
    assert sentence(len(rounds), reasons).startswith(f"stopped in round {len(rounds)}, since")


def test_limits_can_be_set():
    rounds = measured([one(0, passing=rows(60, vacuous=50))])
    assert reasons_to_stop(rounds, Limits(max_vacuous=0.95, min_mutation_score=0.0)) == []


def test_only_the_last_round_counts():
    """One that was stopped, and then done again with other data, goes on."""
    rounds = [one(0, passing=rows(60, vacuous=50)), one(1)]
    assert reasons_to_stop(measured(rounds), Limits()) == []


def test_distinct_is_the_share_of_different_ngrams():
    assert distinct(["a b c d e"]) == 1.0 and distinct(["a b c d", "a b c d"]) == 0.5
    assert distinct(["a b"]) == 0.0


def test_repeats_are_near_duplicates_of_earlier_rounds_and_not_of_each_other():
    earlier, text = tasks(3, 0), tasks(1, 1)[0]
    assert repeats_of([f"{earlier[1]} again", text, text], earlier) == 1


def write_round(at, instructions):
    """A round as its steps leave it, with tests that accept everything."""
    for name, some in {
        "tasks": [{"id": str(n), "instruction": text, "error": None} for n, text in enumerate(instructions)],
        "executions": [{"id": str(n), "passed": True, **row} for n, row in enumerate(rows(30, vacuous=30))],
        "instructions": [{"id": str(n), "instruction": text} for n, text in enumerate(instructions)],
    }.items():
        (at / name / "data").mkdir(parents=True)
        datasets.Dataset.from_list(some).to_parquet(at / name / "data" / "train-0.parquet")
        (at / name / "run.json").write_text(json.dumps({"complete": True, "step": name}))


@pytest.fixture
def folder(tmp_path):
    """What the first of some rounds leaves."""
    write_round(tmp_path / "round-1", tasks(12))
    return tmp_path


def test_a_folder_is_read_and_judged(folder):
    (found,) = read_rounds(folder)
    assert found.tasks == 12 and found.vacuous.value == 1.0 and found.benchmark is None


def test_a_round_is_judged_as_it_was_when_a_later_one_has_begun(folder):
    """A run that is continued asks the brake of the earlier rounds again. Round 3 has fewer tasks to compare with."""
    write_round(folder / "round-2", [*tasks(8, seed=1), *tasks(1, seed=2) * 4])
    before = read_rounds(folder)
    write_round(folder / "round-3", tasks(5, seed=3))
    assert read_rounds(folder, 2) == before


def test_the_brake_as_a_command(folder):
    result = subprocess.run(
        [sys.executable, "-m", "runs.brake", str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 4 and "stopped in round 1, since the model seems to feed on itself" in result.stdout
    assert "| vacuous tests | 100.0 % [88.6 %, 100.0 %] | at most 20.0 % |" in result.stdout
