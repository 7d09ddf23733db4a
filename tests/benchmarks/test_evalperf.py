"""EvalPerf: scores from what programs took, measured in the sandbox.

Few virtual machines count instructions, so what is counted here is page faults, which every kernel counts: the same
code with another number in one place.
"""

import itertools
import json
from dataclasses import dataclass, replace
from unittest.mock import MagicMock

import pytest

from code_eval.perf_event import EVENTS
from code_eval.sandbox import Result, Sandbox
from selfalign.benchmarks import evalperf, load_benchmark
from selfalign.benchmarks.harness import judging
from selfalign.benchmarks.harness.effort import choose_effort
from selfalign.errors import UserError
from selfalign.options import identity_of
from tests.benchmarks.rows import SQUARES
from tests.fakes.server import simulated
from tests.helpers import load_script, write_rows

EVALPERF = load_benchmark("evalperf")
EVALPERF.measure_by_cpu_time("")
COUNTING = load_benchmark("evalperf")
NO_SUCH_EVENT, SOME_EVENT = (1, 999), EVENTS["page-faults"]
SLOW = "def f(n):\n    return sum(i for i in range(n) for _ in range(40)) // 40\n"
MIDDLE = "def f(n):\n    return sum(i for i in range(n))\n"
FAST = "def f(n):\n    return n * (n - 1) // 2\n"


def touching(pages):
    """A solution that takes so many page faults, and the argument."""
    return (
        f"import mmap\ndef f(n):\n    size = {pages} * mmap.PAGESIZE\n"
        "    with mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:\n"
        "        if hasattr(mmap, 'MADV_NOHUGEPAGE'): pages.madvise(mmap.MADV_NOHUGEPAGE)\n"
        "        for at in range(0, size, mmap.PAGESIZE): pages[at] = 1\n"
        "    return n * (n - 1) // 2\n"
    )


@pytest.fixture
def data(tmp_path):
    """Data of one task for --data."""
    plus = {"task_id": "HumanEval/0", "entry_point": "f", "prompt": "", "canonical_solution": FAST}
    plus |= {"base_input": [[3]], "plus_input": [[4]], "atol": 0}
    task = {"task_id": "HumanEval/0", "pe_input": json.dumps([[2000]]), "reference": [SLOW, MIDDLE, FAST]}
    files = [[task | {"scores": [10.0, 60.0, 100.0]}], [plus], [SQUARES]]
    return ",".join(str(write_rows(tmp_path / f"{number}.jsonl", rows)) for number, rows in enumerate(files))


@pytest.fixture
def task(data):
    (problem,) = EVALPERF.problems(data)
    return problem


def rows_of(codes):
    names = [{"id": f"HumanEval/0/{n}", "task_id": "HumanEval/0", "sample": n} for n in range(len(codes))]
    return [row | {"code": code, "passed": code is not None} for row, code in zip(names, codes, strict=True)]


def measured(rows, task):
    with Sandbox(workers=1) as sandbox:
        return EVALPERF.measure(rows, {"HumanEval/0": task}, lambda ps: [sandbox.submit(p).result() for p in ps])


def test_a_sample_has_the_score_of_the_fastest_reference_that_it_reaches(task, monkeypatch):
    monkeypatch.setattr(evalperf, "SLACK", 6.0)  # these differ by 40 times and more, equal ones by what disturbs them
    slower = SLOW.replace("range(40)", "range(1600)")
    codes = [slower, SLOW + "# again", MIDDLE + "# again", FAST + "# again", *[MIDDLE] * 6, None]
    rows = rows_of(codes)
    result = measured(rows, task)
    assert [result[row["id"]]["dps"] for row in rows[:4]] == [0.0, 10.0, 60.0, 100.0]
    assert rows[-1]["id"] not in result
    rows = [row | {"measured": result.get(row["id"])} for row in rows]
    assert EVALPERF.scores(rows, {})["dps"] == pytest.approx((0 + 10 + 60 + 100 + 6 * 60) / 1000)


def test_a_task_with_fewer_than_ten_right_samples_is_not_measured(task):
    assert measured(rows_of([FAST] * 9), task) == {}


def test_a_sample_that_fails_on_the_large_input_scores_nothing(task):
    codes = ["def f(n):\n    assert n < 9\n    return n * (n - 1) // 2\n", *[FAST] * 9]
    assert measured(rows_of(codes), task)["HumanEval/0/0"] == {"seconds": None, "dps": 0.0, "dps_norm": 0.0}


def test_a_task_that_the_bootstrap_draws_twice_counts_twice():
    rows = [{"task_id": task, "measured": {"dps": dps, "dps_norm": dps}} for task, dps in (("a", 20.0), ("b", 80.0))]
    assert EVALPERF.scores(rows, {}) == {"measured": 1.0, "dps": 0.5, "dps_norm": 0.5}
    assert EVALPERF.scores([*rows, rows[1]], {})["dps"] == pytest.approx(0.6)
    assert EVALPERF.scores([*rows, {"task_id": "c", "measured": None}] * 2, {})["measured"] == pytest.approx(2 / 3)


def test_win_rates_are_over_common_tasks():
    dps = {"a": {"t1": 90, "t2": 50}, "b": {"t1": 80, "t2": 50, "t3": 99}, "c": {"t3": 1}}
    results = {
        model: {"measured": {f"{task}/{n}": {"dps": value} for (task, value), n in itertools.product(of.items(), "01")}}
        for model, of in dps.items()
    }
    assert evalperf.win_rates(results) == {"a": 0.75, "b": pytest.approx(1.5 / 3), "c": 0.0}


def test_a_sample_has_the_score_of_the_fastest_reference_whose_count_it_does_not_exceed(task):
    task.extra["reference"] = [touching(pages) for pages in (20000, 4000, 800)]
    codes = [*map(touching, (30000, 10000, 2000, 200)), task.extra["reference"][0], *[FAST] * 5]
    with Sandbox(workers=1, perf_event="page-faults") as sandbox:
        result = COUNTING.measure(
            rows_of(codes), {"HumanEval/0": task}, lambda ps: [sandbox.submit(p).result() for p in ps]
        )
    assert [row["dps"] for row in result.values()] == [0.0, 10.0, 60.0, 100.0, 10.0, *[100.0] * 5]
    counts = [row["instructions"] for row in result.values()]
    assert 29_900 < counts[0] < 31_000 and 9_900 < counts[1] < 11_000, "a call, and nothing else"


def test_a_counter_that_others_take_is_said(task):
    lost = Result(0, False, "error", f"OSError: {evalperf.LOST}")
    with pytest.raises(UserError, match="the same command again"):
        COUNTING.measure(rows_of([FAST] * 10), {"HumanEval/0": task}, lambda programs: [lost] * len(programs))


def test_a_sandbox_that_fails_while_it_measures_is_said(task, monkeypatch):
    sandbox = MagicMock()
    failed = Result(0, False, "sandbox_error", "no memory")
    sandbox.__enter__.return_value.submit.return_value.result.return_value = failed
    monkeypatch.setattr(judging, "sandbox_for", lambda *_, **__: sandbox)
    with pytest.raises(UserError, match=r"\(no memory\): run the same command again"):
        judging.measured_by(COUNTING, rows_of([FAST] * 10), {"HumanEval/0": task}, timeout=1.0)


@dataclass
class Choice:
    evalperf_effort: str
    benchmark: str = "evalperf"
    python: None = None


CPU_TIME = "measured by CPU time, where the paper counts the processor's instructions"
NO_COUNTER = "instructions can't be counted: this processor or virtual machine has no counter of them"


@pytest.mark.parametrize(
    ("effort", "event", "perf_event", "note"),
    [
        ("auto", SOME_EVENT, "instructions", "measured by the processor's instructions, as in the paper"),
        ("instructions", SOME_EVENT, "instructions", "measured by the processor's instructions, as in the paper"),
        ("auto", NO_SUCH_EVENT, None, f"{CPU_TIME}: {NO_COUNTER} (perf_event_open: No such file or directory)"),
        ("cpu-time", SOME_EVENT, None, CPU_TIME),
    ],
)
def test_what_is_measured_and_how_the_note_says_so(effort, event, perf_event, note, monkeypatch):
    monkeypatch.setitem(EVENTS, "instructions", event)
    benchmark = load_benchmark("evalperf")
    choose_effort(benchmark, Choice(effort))
    assert (benchmark.perf_event, benchmark.note) == (perf_event, note)


def test_instructions_that_cannot_be_counted_are_refused(monkeypatch):
    monkeypatch.setitem(EVENTS, "instructions", NO_SUCH_EVENT)
    with pytest.raises(UserError, match=rf"^{NO_COUNTER} .*; `--evalperf-effort cpu-time` measures without them$"):
        choose_effort(load_benchmark("evalperf"), Choice("instructions"))


def test_an_effort_identifies_a_run_unless_it_is_the_default():
    """Runs that were begun before there was a choice go on."""
    options = load_script("benchmark").Options(input="m", output="o", benchmark="evalperf")
    assert "evalperf_effort" not in identity_of(options)
    assert identity_of(replace(options, evalperf_effort="cpu-time"))["evalperf_effort"] == "cpu-time"


def test_only_evalperf_has_an_effort():
    with pytest.raises(UserError, match=r"^--evalperf-effort is for evalperf: humaneval measures no effort$"):
        choose_effort(load_benchmark("humaneval"), Choice("cpu-time", "humaneval"))
    choose_effort(load_benchmark("humaneval"), Choice("auto", "humaneval"))


@pytest.mark.parametrize(("event", "unit"), [(SOME_EVENT, "instructions"), (NO_SUCH_EVENT, "seconds")])
def test_a_run_counts_what_this_machine_can_count(tmp_path, data, event, unit, monkeypatch):
    monkeypatch.setitem(EVENTS, "instructions", event)
    script = load_script("benchmark")
    samples = write_rows(tmp_path / "samples.jsonl", [{"task_id": "HumanEval/0", "solution": FAST}] * 10)
    options = {"input": "m", "output": str(tmp_path / "out"), "benchmark": "evalperf", "data": data, "sandboxes": 1}
    script.main(script.Options(samples=str(samples), **options))
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {frozenset(row) for row in results["measured"].values()} == {frozenset({unit, "dps", "dps_norm"})}
    assert results["scores"]["measured"] == 1 and ("CPU time" in results["note"]) == (unit == "seconds")


def test_what_cannot_be_counted_is_said_before_anything_is_asked(tmp_path, data, monkeypatch):
    monkeypatch.setitem(EVENTS, "instructions", NO_SUCH_EVENT)
    script = load_script("benchmark")
    options = {"output": str(tmp_path / "out"), "benchmark": "evalperf", "data": data}
    with simulated() as server:
        with pytest.raises(UserError, match="can't be counted"):
            script.main(script.Options(input=server.url, evalperf_effort="instructions", **options))
        assert not server.bodies and not (tmp_path / "out").exists()
