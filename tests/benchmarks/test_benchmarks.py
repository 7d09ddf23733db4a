"""What every benchmark has, and how answers are judged and measured."""

import asyncio
import contextlib

import pytest

from code_eval.sandbox import Program, Sandbox
from selfalign.benchmarks import Benchmark, Problem, benchmark_names, load_benchmark
from selfalign.benchmarks.harness.judging import judge_of, measured_by
from selfalign.errors import UserError

PROBLEM = Problem("T/0", "def f():", "f", "", "assert f() > 0")


class Toy(Benchmark):
    def problems(self, data=None):
        return [PROBLEM]

    def completion_prompt(self, problem):
        return problem.prompt

    chat_prompt = completion_prompt

    def program(self, problem, answer, style):
        return Program(answer, problem.test)


def test_a_name_that_is_no_benchmark_is_said():
    with pytest.raises(UserError) as error:
        load_benchmark("humanevil")
    assert "humaneval, humanevalplus" in str(error.value) and "evoeval-subtle" in str(error.value)


@pytest.mark.parametrize("name", benchmark_names())
def test_every_benchmark_can_judge(name):
    benchmark = load_benchmark(name)
    assert type(benchmark).program is not Benchmark.program or type(benchmark).checks is not Benchmark.checks
    assert "{" not in benchmark.dataset


def judged(benchmark, *answers):
    async def judge_all():
        with Sandbox(workers=1) as sandbox:
            judge = judge_of(benchmark, sandbox)
            return [await judge(PROBLEM, answer, "solution") for answer in answers]

    return asyncio.run(judge_all())


def test_an_answer_passes_when_its_program_does():
    good, bad = judged(Toy(), "def f(): return 1", "def f(): return 0")
    assert good["passed"] and bad["outcome"] == "failed" and good["code"] == "def f(): return 1"
    assert good["checks"] is bad["checks"] is None


def test_an_answer_passes_when_all_its_checks_do():
    class TwoChecks(Toy):
        def checks(self, problem, answer, style):
            return {"first": Program(answer, "assert f() > 0"), "second": Program(answer, "assert f() > 1")}

    good, bad = judged(TwoChecks(), "def f(): return 2", "def f(): return 1")
    assert good["passed"] and not bad["passed"] and bad["outcome"] == "failed"
    assert bad["checks"] == [{"name": "first", "outcome": "passed"}, {"name": "second", "outcome": "failed"}]


def test_rows_are_measured_after_they_were_judged(capsys):
    class Measures(Toy):
        def measure(self, rows, problems, run):
            results = run([Program(row["code"], "assert f()") for row in rows])
            return {row["id"]: {"outcome": result.outcome} for row, result in zip(rows, results, strict=True)}

    rows = [{"id": str(n), "code": f"def f(): return {n}"} for n in range(2)]
    measured = measured_by(Measures(), rows, {"T/0": PROBLEM}, timeout=5)
    assert measured == {"0": {"outcome": "failed"}, "1": {"outcome": "passed"}}
    assert "measure" in capsys.readouterr().err
    assert measured_by(Toy(), rows, {}, timeout=5) == {} and not capsys.readouterr().err


@pytest.mark.parametrize("name", benchmark_names())
def test_every_benchmark_can_be_asked_as_the_reference_does(name):
    """Where the reference does not measure it, in our words, and not in a loop without end."""
    benchmark = load_benchmark(name)
    benchmark.ask_as_the_reference()
    with contextlib.suppress(KeyError, AttributeError):  # this problem lacks what the benchmark's own have
        assert isinstance(benchmark.chat_prompt(PROBLEM), str)
