"""Problems as they are published (tests/fixtures/benchmarks): their references pass, and wrong answers do not."""

import pytest

from selfalign.benchmarks import load_benchmark
from tests.helpers import ROOT

WRONG = {
    "ds1000": lambda problem: "result = None",
    "canitedit": lambda problem: problem.extra["before"],
    "mbppplus": lambda problem: f"def {problem.entry_point}(*arguments): return object()",
}


def published(name):
    benchmark = load_benchmark(name)
    return benchmark, benchmark.problems(str(ROOT / "tests" / "fixtures" / "benchmarks" / f"{name}.jsonl.gz"))


@pytest.mark.parametrize("name", WRONG)
def test_references_pass_and_wrong_answers_do_not(outcomes, name):
    benchmark, problems = published(name)
    right = [(problem, problem.canonical_solution, "solution") for problem in problems]
    wrong = [(problem, WRONG[name](problem), "solution") for problem in problems]
    verdicts = [outcome == "passed" for outcome in outcomes(benchmark, *right, *wrong)]
    assert verdicts == [True] * len(right) + [False] * len(wrong)


@pytest.mark.parametrize("name", ["ds1000", "canitedit"])
def test_references_pass_behind_a_sentence_too(outcomes, name):
    benchmark, problems = published(name)
    cases = [(problem, f"Here's what was asked for:\n\n{problem.canonical_solution}", "chat") for problem in problems]
    assert set(outcomes(benchmark, *cases)) == {"passed"}
