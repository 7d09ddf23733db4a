"""By what a benchmark measures the effort of programs: the processor's instructions, or CPU time."""

from __future__ import annotations

from typing import Literal, Protocol

from code_eval.sandbox import CounterUnavailable, Sandbox, SandboxUnavailable
from selfalign.benchmarks.harness.benchmark import Benchmark
from selfalign.errors import UserError

Effort = Literal["auto", "instructions", "cpu-time"]


class Choice(Protocol):
    """The options of benchmark.py that this needs."""

    @property
    def benchmark(self) -> str: ...
    @property
    def evalperf_effort(self) -> Effort: ...
    @property
    def python(self) -> str | None: ...


def choose_effort(benchmark: Benchmark, choice: Choice) -> None:
    """From now on, `benchmark` measures by what was chosen or, with "auto", by the best that this machine can count.

    Raises:
        UserError: this machine counts no instructions for programs, or can't isolate them; the benchmark measures no
            effort.
    """
    effort = choice.evalperf_effort
    if not benchmark.perf_event:
        if effort != "auto":
            raise UserError(f"--evalperf-effort is for evalperf: {choice.benchmark} measures no effort")
    elif effort == "cpu-time":
        benchmark.measure_by_cpu_time("")
    else:
        try:
            Sandbox(workers=1, preload=[], python=choice.python, perf_event=benchmark.perf_event).close()
        except CounterUnavailable as error:
            if effort == "instructions":
                raise UserError(f"{error}; `--evalperf-effort cpu-time` measures without them") from None
            benchmark.measure_by_cpu_time(str(error))
        except SandboxUnavailable as error:
            raise UserError(str(error)) from None
