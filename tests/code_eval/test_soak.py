# ruff: noqa: E501 - a program that is data stays on one line
"""Many programs on the same workers, one in ten of which misbehaves: nothing piles up, nothing slows down."""

import os
import random
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import pytest

from code_eval.sandbox import Sandbox
from tests.code_eval.tools import descendants, processes_with

MARK = "27182.81828"
GOOD = "def f(x): return x * x\nassert f({0}) == {0} ** 2"
BAD = (  # each is over quickly
    "import subprocess\nsubprocess.Popen(['sleep', '" + MARK + "'], start_new_session=True)\nassert int()",
    "import os, time\nif os.fork() == 0:\n os.setsid()\n if os.fork() == 0: time.sleep(1000)\nassert int()",
    "import os\nos._exit(0)\nassert int()",
    "import ctypes\nctypes.string_at(1)\nassert int()",
    "x = bytearray(9 << 30)\nassert int()",
    "for i in range(100): open(f'/tmp/" + MARK + "-{i}', 'w').write('x')\nassert int()",
    "print('x' * (1 << 21))\nassert int()",
    "import threading, time\nfor _ in range(8): threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\nassert int()",
    "import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(): f()\nclass C:\n def __del__(s): C()\nraise KeyError",
    "assert 1 ==",
)


def programs(count: int):
    draw = random.Random(0)
    for number in range(count):
        yield draw.choice(BAD) if number % 10 == 9 else GOOD.format(number)


def state() -> dict[str, int]:
    """What must not grow; memory in kB: proportional set sizes of the workers, resident set of this process."""
    inside = descendants(os.getpid())
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in inside]
    return {
        "processes": len(inside),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "descriptors of workers": sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in inside),
        "memory of workers": sum(int(rollup.partition("Pss:")[2].split()[0]) for rollup in rollups),
        "memory of host": int(Path("/proc/self/statm").read_text().split()[1]) * 4,
        "files in /tmp": len([name for name in os.listdir("/tmp") if name.startswith(MARK)]),
    }


def cpu_seconds() -> float:
    """CPU time of the workers and of all programs that they have waited for."""
    ticks = 0
    for pid in descendants(os.getpid()):
        with suppress(FileNotFoundError, ProcessLookupError):  # a program that ended since: its worker has its time
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def soak(count: int, warm: int) -> tuple[dict, dict, list[float]]:
    """(state before, state after, CPU milliseconds per program in each tenth)."""
    with Sandbox(workers=2, timeout=5.0) as sandbox:
        workers = list(sandbox._pool.alive)
        list(sandbox.run_unordered(programs(warm)))
        time.sleep(0.2)
        before, costs = state(), []
        used = cpu_seconds()
        for done, result in enumerate(sandbox.run_unordered(programs(count)), 1):
            assert result.passed == (result.index % 10 != 9), result
            assert result.outcome not in ("sandbox_error", "timeout"), result
            if done % (count // 10) == 0:
                cpu = cpu_seconds()
                costs.append((cpu - used) / (count // 10) * 1000)
                print(f"{done} programs: {costs[-1]:.2f} ms of CPU each", flush=True)
                used = cpu
        time.sleep(0.2)
        after = state()
        assert sandbox._pool.alive == workers, "a worker was replaced"
    assert not processes_with(MARK)
    return before, after, costs


def soak_in_new_process(count: int, warm: int) -> tuple[dict, dict, list[float]]:
    """What `soak` gives, from a process in which nothing else happens: what other tests leave behind, such as threads of
    a server, takes and frees memory at any time."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(soak, count, warm).result()


def check(before: dict, after: dict, noise: int) -> None:
    for name in ("processes", "descriptors", "descriptors of workers", "files in /tmp"):
        assert after[name] == before[name], (name, before, after)
    for name in ("memory of workers", "memory of host"):
        assert after[name] < before[name] + noise, (name, before, after)


def test_a_short_soak():
    check(*soak_in_new_process(2000, warm=200)[:2], noise=4096)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_soak_of_100_000_programs():
    before, after, costs = soak_in_new_process(100_000, warm=1000)
    print(f"before: {before}\nafter:  {after}")
    check(before, after, noise=8192)
    # CPU time, because programs/s also depend on what else the machine is doing.
    assert min(costs[-3:]) < 1.2 * max(costs[:3]), "programs cost more at the end than at the start"
