"""How long HumanEval+ and MBPP+ take to score, beside EvalPlus itself: the same samples, the same verdicts, in one run.

    python -m venv /tmp/evalplus && /tmp/evalplus/bin/pip install evalplus==0.3.1
    python -m perf.evalplus /tmp/evalplus/bin/python --humanevalplus HumanEvalPlus.jsonl.gz --mbppplus MbppPlus.jsonl.gz

The files are those of EvalPlus' releases, which both sides read. The samples are the canonical solution of each
problem; with `--per-problem 2` and more, also mutants of it as in tests/verdicts/evalplus.py. `--limit N` takes the
first N problems.

What is timed is the whole command of each side, from its start to its results, with as many workers. EvalPlus runs the
canonical solutions first and keeps what they return: "cold" is the first time, "warm" any later one. We keep nothing.
Rounds alternate between the three; the table has the median and the best of each in seconds on the clock, and the
median of the CPU time of all of its processes, which other work on the machine changes less. Above it stands how many
verdicts agree, and each that does not. EvalPlus' limits are on the clock: beside other work it fails right solutions.
`--min-time-limit` raises the limit of an input, but no problem gets more than 61 s.
"""

import argparse
import gzip
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from selfalign.benchmarks.harness.problems import records
from selfalign.errors import UserError
from tests.verdicts.evalplus import Ids, compare, ours, samples_of, theirs


def seconds_of(call: Callable[[], list[bool]]) -> tuple[list[bool], float, float]:
    """What `call` returns, the seconds that it took, and the CPU seconds of the processes that it started."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    verdicts = call()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return verdicts, time.monotonic() - started, cpu


def first_problems(data: str, limit: int | None, folder: Path) -> tuple[str, list[dict]]:
    """The file `data`, or one with its first `limit` problems, and these."""
    rows = records(data)[:limit]
    if limit is None:
        return data, rows
    path = folder / "problems.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return str(path), rows


def measure(options: argparse.Namespace, benchmark: str, data: str, workers: int) -> None:
    """Print the table of one benchmark."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, rows = first_problems(data, options.limit, folder)
        samples = samples_of(rows, options.per_problem, seed=0)
        ids: Ids = [(row["task_id"], n % options.per_problem) for n, row in enumerate(samples)]

        def place(cache: str) -> Path:
            """The samples in the folder `cache`, in which EvalPlus keeps what canonical solutions return."""
            path = folder / cache / "samples.jsonl"
            path.parent.mkdir(exist_ok=True)
            path.write_text("".join(json.dumps(row) + "\n" for row in samples))
            path.with_name("samples_eval_results.json").unlink(missing_ok=True)  # else they are read instead
            return path

        def evalplus(cache: str) -> list[bool]:
            path, limit = place(cache), options.min_time_limit
            return [both for _, both in theirs(options.python, benchmark, data, path, ids, workers, limit)]

        def us() -> list[bool]:
            judged[:] = ours(benchmark, data, place("ours"), ids, workers)
            return [row["passed"] for row in judged]

        evalplus("warm")
        taken, verdicts, judged = defaultdict(list), {}, []
        for number in range(options.rounds):
            for side, call in {
                "EvalPlus, cold": lambda number=number: evalplus(f"cold-{number}"),
                "EvalPlus, warm": lambda: evalplus("warm"),
                "ours": us,
            }.items():
                verdicts[side], *seconds = seconds_of(call)
                taken[side].append(seconds)
                print(f"  round {number + 1}, {side}: {seconds[0]:.1f} s, {seconds[1]:.1f} s of CPU time", flush=True)
    compare(f"{benchmark}, workers: {workers}", verdicts["EvalPlus, warm"], judged)
    print("\n| | median s | best s | median CPU s |\n|---|---:|---:|---:|")
    for side, seconds in taken.items():
        clock, cpu = zip(*seconds, strict=True)
        print(f"| {side} | {statistics.median(clock):.1f} | {min(clock):.1f} | {statistics.median(cpu):.1f} |")
    print(f"\nload {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", help="a Python in whose environment evalplus 0.3.1 is installed")
    parser.add_argument("--humanevalplus", help="HumanEval+ as EvalPlus releases it")
    parser.add_argument("--mbppplus", help="MBPP+ as EvalPlus releases it")
    parser.add_argument("--per-problem", type=int, default=1, help="samples of each problem (%(default)s)")
    parser.add_argument("--limit", type=int, help="only the first problems")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[1], help="of both sides, each measured (%(default)s)"
    )
    parser.add_argument("--min-time-limit", type=float, default=1.0, help="of EvalPlus, in seconds (%(default)s)")
    options = parser.parse_args()
    files = {name: getattr(options, name) for name in ("humanevalplus", "mbppplus")}
    if not any(files.values()):
        parser.error("give --humanevalplus FILE, --mbppplus FILE, or both")
    for benchmark, data in files.items():
        for workers in options.workers if data else []:
            measure(options, benchmark, data, workers)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
