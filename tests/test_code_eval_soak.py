"""Many programs on the same workers, one in ten of which misbehaves: nothing piles up, nothing slows down."""

import os
import random
import time
from pathlib import Path

import pytest
from sandbox_tools import descendants, processes_with

from code_eval.sandbox import Sandbox

MARK = "27182.81828"
GOOD = "def f(x): return x * x\nassert f({0}) == {0} ** 2"
BAD = (  # each is over quickly
    "import subprocess\nsubprocess.Popen(['sleep', '" + MARK + "'], start_new_session=True)\nassert int()",
    "import os, time\nif os.fork() == 0:\n os.setsid()\n if os.fork() == 0: time.sleep(1000)\nassert int()",
    "import os\nos._exit(0)\nassert int()",
    "import ctypes\nctypes.string_at(1)\nassert int()",
    "x = bytearray(9 << 30)\nassert int()",
    "for i in range(100): open(f'/tmp/{i}', 'w').write('x')\nassert int()",
    "print('x' * (1 << 21))\nassert int()",
    "import threading, time\nfor _ in range(8): threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\nassert int()",
    "import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(): f()\nclass C:\n def __del__(s): C()\nraise KeyError",
    "assert 1 ==",
)


def programs(count: int):
    draw = random.Random(0)
    for number in range(count):
        yield draw.choice(BAD) if number % 10 == 9 else GOOD.format(number)


def state(sandbox: Sandbox) -> dict[str, int]:
    """What must not grow; memory in kB: proportional set sizes of the workers, resident set of this process."""
    inside = descendants(os.getpid())
    memory = 0
    for pid in inside:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        memory += int(rollup.partition("Pss:")[2].split()[0])
    worker_descriptors = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in inside)
    return {
        "processes": len(inside),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "descriptors of workers": worker_descriptors,
        "memory of workers": memory,
        "memory of host": int(Path("/proc/self/statm").read_text().split()[1]) * 4,
        "workers": len(sandbox._alive),
        "files in /tmp": len(os.listdir("/tmp")),
    }


def soak(count: int, warm: int) -> tuple[dict, dict, list[float]]:
    """(state before, state after, programs/s in each tenth)."""
    with Sandbox(workers=2, timeout=5.0) as sandbox:
        workers = list(sandbox._alive)
        list(sandbox.run(programs(warm)))
        before, rates = state(sandbox), []
        started = time.monotonic()
        for done, result in enumerate(sandbox.run(programs(count)), 1):
            assert result.passed == (result.index % 10 != 9), result
            assert result.outcome not in ("sandbox_error", "timeout"), result
            if done % (count // 10) == 0:
                rates.append(count // 10 / (time.monotonic() - started))
                started = time.monotonic()
        time.sleep(0.2)
        after = state(sandbox)
        assert sandbox._alive == workers, "a worker was replaced"
    assert not processes_with(MARK)
    return before, after, rates


def check(before: dict, after: dict, noise: int) -> None:
    for name in ("processes", "descriptors", "descriptors of workers", "workers"):
        assert after[name] == before[name], (name, before, after)
    assert after["files in /tmp"] <= before["files in /tmp"] + 2  # of other processes on this machine
    for name in ("memory of workers", "memory of host"):
        assert after[name] < before[name] + noise, (name, before, after)


def test_a_short_soak():
    before, after, _ = soak(2000, warm=200)
    check(before, after, noise=4096)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_soak_of_100_000_programs():
    before, after, rates = soak(100_000, warm=1000)
    print(f"\nbefore: {before}\nafter:  {after}\nprograms/s in each tenth: {[round(rate) for rate in rates]}")
    check(before, after, noise=8192)
    assert min(rates[-3:]) > 0.5 * max(rates[:3]), "slower at the end; is the machine otherwise idle?"
