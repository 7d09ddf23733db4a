"""Do our verdicts agree with EvalPlus' own? The same samples through its evaluator and through benchmark.py.

    python -m venv /tmp/evalplus && /tmp/evalplus/bin/pip install evalplus==0.3.1
    python -m tests.verdicts.evalplus /tmp/evalplus/bin/python humanevalplus HumanEvalPlus.jsonl.gz \
        --ours HumanEvalPlus.jsonl.gz HumanEvalPlus-OriginFmt.jsonl.gz
    python -m tests.verdicts.evalplus /tmp/evalplus/bin/python mbppplus MbppPlus.jsonl.gz

The samples of a problem are its canonical solution and mutants of it: with a small change (selfalign/code/mutation.py),
or that return another value or type, raise an exception, or never end. EvalPlus' verdict is "passed" if its base tests
and its additional ones pass.

Prints, for each file given to --ours, the table of verdicts, the share that agrees, the time that both took, and each
disagreement. `python -m perf.evalplus` compares the time alone, in rounds.
"""

import argparse
import contextlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from selfalign.benchmarks.harness.problems import records
from selfalign.code.mutation import mutants
from selfalign.options import ROOT
from selfalign.runner.source import open_source

EVALPLUS = {"humanevalplus": ("humaneval", "HUMANEVAL_OVERRIDE_PATH"), "mbppplus": ("mbpp", "MBPP_OVERRIDE_PATH")}
MIN_TIME_LIMIT = 5.0  # seconds on the clock for an input; EvalPlus' own 1 s fails right solutions on a busy machine
# Of the mutants. Each endless one costs both evaluators their whole time limit.
ENDLESS_SHARE, RAISING_SHARE, RETURNING_SHARE = 0.02, 0.08, 0.2
RETURNED = ["None", "[value]", "list(value)", "tuple(value)", "str(value)", "float(value)", "bool(value)"]
CHANGED = """{source}

_original = {entry_point}


def {entry_point}(*arguments):
    {before}
    value = _original(*arguments)
    return {returned}
"""

Ids = list[tuple[str, int]]  # of samples: the problem, and the number of its sample


def mutant(source: str, entry_point: str, draws: random.Random) -> str:
    """`source` with one change, which may happen to make no difference."""
    small = mutants(source, 1, draws)
    share = draws.random()
    if small and share > ENDLESS_SHARE + RAISING_SHARE + RETURNING_SHARE:
        return small[0].code
    before, returned = "pass", draws.choice(RETURNED)
    if share < ENDLESS_SHARE:
        before = "while True: pass"
    elif share < ENDLESS_SHARE + RAISING_SHARE:
        before = "raise ValueError('never')"
    return CHANGED.format(source=source, entry_point=entry_point, before=before, returned=returned)


def samples_of(rows: list[dict], per_problem: int, seed: int) -> list[dict]:
    """The canonical solution of each problem and `per_problem` - 1 mutants, in EvalPlus' format."""
    samples = []
    for row in rows:
        source = row["prompt"] + row["canonical_solution"]
        draws = random.Random(f"{seed}:{row['task_id']}")
        solutions = [source, *(mutant(source, row["entry_point"], draws) for _ in range(per_problem - 1))]
        samples += [{"task_id": row["task_id"], "solution": solution} for solution in solutions]
    return samples


def theirs(
    python: str,
    benchmark: str,
    data: str,
    samples: Path,
    ids: Ids,
    workers: int,
    min_time_limit: float = MIN_TIME_LIMIT,
) -> list[tuple[bool, bool]]:
    """EvalPlus' verdicts, in the order of `ids`: whether the base tests pass, and whether all do."""
    name, variable = EVALPLUS[benchmark]
    environment = os.environ | {variable: os.path.abspath(data), "XDG_CACHE_HOME": str(samples.parent)}
    environment |= {"PYTHONPATH": "", "HF_HUB_OFFLINE": "1"}
    command = [python, "-m", "evalplus.evaluate", "--dataset", name, "--samples", str(samples)]
    command += ["--min_time_limit", str(min_time_limit)]
    try:
        done = subprocess.run([*command, "--parallel", str(workers)], env=environment, capture_output=True, text=True)
    except OSError as error:
        sys.exit(f"EvalPlus failed: {python}: {error.strerror}")
    if done.returncode:
        sys.exit(f"EvalPlus failed: {done.stderr[-2000:]}")
    evaluated = json.loads(samples.with_name(f"{samples.stem}_eval_results.json").read_text())["eval"]
    passed = []
    for task_id, number in ids:
        result = evaluated[task_id][number]
        base = result["base_status"] == "pass"
        passed.append((base, base and result["plus_status"] == "pass"))
    return passed


def ours(benchmark: str, data: str | None, samples: Path, ids: Ids, workers: int) -> list[dict]:
    """The rows of benchmark.py, in the order of `ids`."""
    out = tempfile.mkdtemp(dir=samples.parent)
    command = [sys.executable, str(ROOT / "benchmark.py"), "evalplus-samples", out, "--samples", str(samples)]
    command += ["--benchmark", benchmark, "--sandboxes", str(workers), *(["--data", data] if data else [])]
    subprocess.run(command, check=True)
    by_id = {row["id"]: row for row in open_source(out).rows.to_list()}
    return [by_id[f"{task_id}/{number}"] for task_id, number in ids]


@contextlib.contextmanager
def timed(name: str) -> Iterator[None]:
    """Print how long it took, on the clock and in CPU time of all processes that it started."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    yield
    after, took = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - started
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{name}: {took:.1f} s, {cpu:.1f} s of CPU time, load {os.getloadavg()[0]:.1f}", flush=True)


def compare(title: str, verdicts: list[bool], rows: list[dict]) -> None:
    """Print the table of verdicts, and where they differ."""
    pairs = Counter((verdict, row["passed"]) for verdict, row in zip(verdicts, rows, strict=True))
    agree = pairs[True, True] + pairs[False, False]
    print(f"\n{title}: {agree} of {len(rows)} verdicts agree, {100 * agree / len(rows):.2f} %\n")
    print("| | we: passed | we: not |\n|---|---:|---:|")
    print(f"| EvalPlus: passed | {pairs[True, True]} | {pairs[True, False]} |")
    print(f"| EvalPlus: not | {pairs[False, True]} | {pairs[False, False]} |")
    for verdict, row in zip(verdicts, rows, strict=True):
        if verdict != row["passed"]:
            print(f"{row['id']}: EvalPlus {'passed' if verdict else 'not'}, we {row['outcome']} {row['detail'] or ''}")


def main() -> None:
    """Make the samples, let both judge them, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", help="a Python in whose environment evalplus is installed")
    parser.add_argument("benchmark", choices=EVALPLUS)
    parser.add_argument("data", help="the problems in the layout of EvalPlus' releases, which its evaluator reads")
    parser.add_argument("--ours", nargs="*", help="files of the problems for us, each compared; the same one otherwise")
    parser.add_argument("--per-problem", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        samples = Path(folder) / "samples.jsonl"
        rows = samples_of(records(options.data), options.per_problem, options.seed)
        samples.write_text("".join(json.dumps(row) + "\n" for row in rows))
        print(f"{options.benchmark}: {len(rows)} samples; load {os.getloadavg()[0]:.1f}", flush=True)
        ids = [(row["task_id"], n % options.per_problem) for n, row in enumerate(rows)]
        with timed("EvalPlus"):
            verdicts = theirs(options.python, options.benchmark, options.data, samples, ids, options.workers)
        for data in options.ours or [options.data]:
            with timed("ours"):
                judged = ours(options.benchmark, data, samples, ids, options.workers)
            compare(f"{options.benchmark}, {Path(data).name}", [both for _, both in verdicts], judged)
        # HumanEval's own tests, and those of MBPP, against EvalPlus' base tests.
        base = "humaneval" if options.benchmark == "humanevalplus" else "mbppplus-base"
        judged = ours(base, None if base == "humaneval" else (options.ours or [options.data])[-1], samples, ids, 2)
        compare(f"{base} and EvalPlus' base tests", [passed for passed, _ in verdicts], judged)


if __name__ == "__main__":
    main()
