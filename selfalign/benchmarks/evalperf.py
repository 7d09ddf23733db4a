"""EvalPerf (Liu et al. 2024, arXiv:2408.06450): how fast correct code is, on 118 tasks of HumanEval+ and MBPP+.

100 samples are drawn per task at temperature 1. For each task with at least 10 samples that pass all tests, up to 20 of
these are measured on one demanding input, together with reference solutions of published scores, from slow to fast. A
sample has the score of the fastest reference that it is not slower than, 0 if it is slower than all: its differential
performance score (DPS), "better than so many percent of solutions". A task's DPS is the mean over its samples, a
model's the mean over its tasks. DPS_norm counts the references instead of using their scores.

What differs from EvalPerf's own evaluator, and what the figures can and can't say:
- It counts the processor's instructions in user mode during one call. So does this one where the kernel and the
  processor allow it (`--evalperf-effort`), but those of other threads and processes that the call starts count as well.
- Most virtual machines have no such counter. There it is CPU time of the calling thread, the minimum of several calls,
  each on a fresh copy of the input. It depends on the machine and on what else runs there. References and samples of a
  task are measured one after the other in the same run, and only their order counts; a sample within SLACK of a
  reference is not slower than it. Work in other threads is not counted, and code that remembers its answers is fast.
- In either case, programs run in the sandbox, one at a time, and report their own cost, so a sample that wants to can
  lie.

The win rate of a model is over pairs of models and the tasks that both have a DPS on: see `win_rates`.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from code_eval.perf_event import DESCRIPTOR
from code_eval.sandbox import Program, Result
from selfalign.benchmarks.harness.benchmark import Benchmark, Problem, Row, RunPrograms, Style
from selfalign.benchmarks.harness.functions import FunctionBenchmark
from selfalign.benchmarks.harness.problems import records
from selfalign.benchmarks.humanevalplus import HumanEvalPlus
from selfalign.benchmarks.mbppplus import MbppPlus, typed
from selfalign.errors import UserError

MIN_CORRECT, MAX_MEASURED = 10, 20  # samples per task
MEASURE_SECONDS = 45.0  # CPU time of all calls of one program; EvalPerf allows that for its one call
SLACK = 1.05  # CPU times of the same program differ by a few percent

LOST = "the counter was lost"
# Each calls a function and ends with what that took.
COUNT = f"""
def _measure(function, arguments):
    import os, sys
    before = os.read({DESCRIPTOR}, 8)
    function(*arguments)
    after = os.read({DESCRIPTOR}, 8)
    if len(before) + len(after) != 16:
        raise OSError({LOST!r})
    cost = int.from_bytes(after, sys.byteorder) - int.from_bytes(before, sys.byteorder)
    raise AssertionError(f"took {{cost}} instructions")
"""
TIME = """
def _measure(function, arguments):
    import copy, time
    best = total = 0.0
    calls = 0
    while calls < 3 or (total < 0.2 and calls < 200):
        fresh = copy.deepcopy(arguments)
        started = time.thread_time()
        function(*fresh)
        seconds = time.thread_time() - started
        best = min(best, seconds) if calls else seconds
        total += seconds
        calls += 1
        if total > 5:
            break
    raise AssertionError(f"took {best!r} s")
"""
TOOK = re.compile(r"took (\S+) (?:s|instructions)$")


class EvalPerf(Benchmark):
    dataset = f"evalplus/evalperf@main,{HumanEvalPlus.dataset},{MbppPlus.dataset}"
    note, perf_event = "measured by the processor's instructions, as in the paper", "instructions"
    samples, temperature, memory = 100, 1.0, 4 << 30  # paper, Table 4; bytes
    top_p = 0.95  # EvalPlus, whenever it samples
    completion_stop, chat_prefix, chat_stop = MbppPlus.completion_stop, MbppPlus.chat_prefix, MbppPlus.chat_stop

    def __init__(self, variant: str | None = None) -> None:
        super().__init__(variant)
        self.humanevalplus, self.mbppplus = HumanEvalPlus(), MbppPlus()

    def problems(self, data: str | None = None) -> list[Problem]:
        """The tasks, from EvalPerf's data, HumanEval+ and MBPP+: each a Hub dataset or a file, separated by commas."""
        sources = (data or self.dataset).split(",")
        if len(sources) != 3:
            raise UserError("EvalPerf needs three sources, separated by commas: its own data, HumanEval+ and MBPP+")
        judged = [*self.humanevalplus.problems(sources[1]), *self.mbppplus.problems(sources[2])]
        by_id = {problem.task_id: problem for problem in judged}
        rows = records(sources[0], needs=("task_id", "pe_input", "reference", "scores"))
        if unknown := [row["task_id"] for row in rows if row["task_id"] not in by_id]:
            raise UserError(
                f"{len(unknown)} tasks of EvalPerf are not in HumanEval+ or MBPP+: {', '.join(unknown[:5])}"
            )
        return [replace(by_id[row["task_id"]], extra=_extra(row)) for row in rows]

    def measure_by_cpu_time(self, reason: str) -> None:
        super().measure_by_cpu_time(reason)
        note = "measured by CPU time, where the paper counts the processor's instructions"
        self.note = f"{note}: {reason}" if reason else note

    def _origin(self, problem: Problem) -> FunctionBenchmark:
        """The benchmark that a task comes from, whose prompts and tests it keeps."""
        return self.mbppplus if problem.task_id.startswith("Mbpp") else self.humanevalplus

    def completion_prompt(self, problem: Problem) -> str:
        return self._origin(problem).completion_prompt(problem)

    def chat_prompt(self, problem: Problem) -> str:
        return self._origin(problem).chat_prompt(problem)

    def reference_prompt(self, problem: Problem) -> str:
        return self._origin(problem).reference_prompt(problem)

    def program(self, problem: Problem, answer: str, style: Style) -> Program:
        return self._origin(problem).program(problem, answer, style)

    def measure(self, rows: Sequence[Row], problems: Mapping[str, Problem], run: RunPrograms) -> dict[str, Row]:
        """`instructions` or `seconds`, and `dps` and `dps_norm` (from 0 to 100), of the samples that are measured.

        Raises UserError if the references' instructions can't be counted any more.
        """
        measure, unit, slack = (COUNT, "instructions", 1.0) if self.perf_event else (TIME, "seconds", SLACK)
        passing = defaultdict(list)
        for row in sorted(rows, key=lambda row: row["sample"]):
            if row["passed"]:
                passing[row["task_id"]].append(row)
        measured = {}
        for task_id, samples in passing.items():
            if len(samples) < MIN_CORRECT:
                continue
            extra, samples = problems[task_id].extra, samples[:MAX_MEASURED]
            # What was judged is measured; identical samples are measured once.
            codes = list(dict.fromkeys([*extra["reference"], *(row["code"] for row in samples)]))
            call = f"_measure({problems[task_id].entry_point}, {extra['arguments']!r})"
            tests = f"from math import inf, nan\n{measure}\n{call}"
            results = run([Program(code=code, tests=tests, timeout=MEASURE_SECONDS) for code in codes])
            if any(LOST in result.detail for result in results[: len(extra["reference"])]):
                raise UserError(
                    "another program has taken the processor's counter of instructions (perf?): run the same command "
                    "again, which only measures"
                )
            costs = {code: _cost(result) for code, result in zip(codes, results, strict=True)}
            references = [costs[code] for code in extra["reference"]]
            for row in samples:
                cost = costs[row["code"]]
                rank = _rank(cost, references, slack)
                measured[row["id"]] = {
                    unit: cost if math.isfinite(cost) else None,
                    "dps": float(extra["scores"][rank - 1]) if rank else 0.0,
                    "dps_norm": 100 * rank / len(references),
                }
        return measured

    def scores(self, rows: Sequence[Row], problems: Mapping[str, Problem]) -> dict[str, float]:
        """`dps` and `dps_norm` of the tasks that were measured, and which share of all tasks that is.

        Every task has the same number of rows; one that the bootstrap has drawn several times counts as often.
        """
        counts, tasks = Counter(row["task_id"] for row in rows), defaultdict(list)
        for row in rows:
            if row.get("measured"):
                tasks[row["task_id"]].append(row["measured"])
        total = sum(counts[task] for task in tasks)
        result = {"measured": total / max(1, len(rows))}
        for name in ("dps", "dps_norm") if tasks else ():
            means = {task: sum(m[name] for m in measured) / len(measured) for task, measured in tasks.items()}
            result[name] = sum(counts[task] * mean for task, mean in means.items()) / total / 100
        return result


def _extra(row: Mapping[str, Any]) -> dict[str, Any]:
    inputs = json.loads(row["pe_input"]) if isinstance(row["pe_input"], str) else row["pe_input"]
    kind, _, number = row["task_id"].partition("/")
    arguments = typed(int(number), inputs[0]) if kind == "Mbpp" else inputs[0]
    return {"arguments": arguments, "reference": row["reference"], "scores": row["scores"]}


def _cost(result: Result) -> float:
    """Instructions or CPU seconds of a call, infinity if it failed or took too long."""
    reported = TOOK.search(result.detail) if result.outcome == "failed" else None
    return float(reported[1]) if reported else math.inf


def _rank(cost: float, references: list[float], slack: float) -> int:
    """The number, from 1, of the fastest (last) reference that `cost` does not exceed; 0 if it exceeds all.

    It may be `slack` times as much. A reference that could not be measured (infinite) is skipped.
    """
    reached = [n for n, own in enumerate(references, start=1) if math.isfinite(own) and cost <= slack * own]
    return max(reached, default=0)


def win_rates(results: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Each model's share of the comparisons that it wins, from the results.json of several models, by model.

    Each pair of models is compared on each task that both have a DPS on, so that being right more often does not count;
    the higher DPS wins. Equal ones count half for each: how the paper counts them is not published.
    """
    tasks: dict[str, dict[str, float]] = {}
    for model, result in results.items():
        of_task = defaultdict(list)
        for row_id, measured in result.get("measured", {}).items():
            of_task[row_id.rpartition("/")[0]].append(measured["dps"])
        tasks[model] = {task: sum(dps) / len(dps) for task, dps in of_task.items()}
    rates = {}
    for model, ours in tasks.items():
        points = [
            1.0 if ours[task] > theirs[task] else 0.5 if ours[task] == theirs[task] else 0.0
            for other, theirs in tasks.items()
            if other != model
            for task in ours.keys() & theirs.keys()
        ]
        if points:
            rates[model] = sum(points) / len(points)
    return rates
