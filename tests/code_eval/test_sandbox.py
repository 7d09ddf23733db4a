"""Running, cancelling and closing: each program has its result, and nothing waits for what nobody wants."""

import asyncio
import itertools
import os
import time
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from code_eval.messages import QUEUE
from code_eval.sandbox import PROGRAM_LIMIT, Sandbox
from tests.code_eval.tools import GOOD, NEVER, descendants, gone, one

SOON = 20  # seconds: long before a program that sleeps would be ended, and enough on a busy machine


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=2, timeout=2.0, preload=[]) as sandbox:
        yield sandbox


@pytest.fixture
def patient():
    """One worker, which a program that sleeps would keep for minutes."""
    with Sandbox(workers=1, timeout=60.0, preload=[]) as sandbox:
        yield sandbox


def is_free(sandbox: Sandbox) -> bool:
    """Whether a program gets its turn soon."""
    started = time.monotonic()
    return one(sandbox, GOOD).passed and time.monotonic() - started < SOON


def test_each_program_has_its_result(sandbox):
    programs = [f"assert int('{i}') % 2 == 0" for i in range(50)]
    results = sandbox.run_unordered(programs)
    assert sorted((result.index, result.passed) for result in results) == [(i, i % 2 == 0) for i in range(50)]


SLOW_FIRST = ["import time\ntime.sleep(1)\n" + GOOD, GOOD, "assert int('1') == 2", *[GOOD] * 20]


def test_results_come_in_the_order_of_the_programs(sandbox):
    results = [(result.index, result.passed) for result in sandbox.run(SLOW_FIRST)]
    assert results == [(i, i != 2) for i in range(len(SLOW_FIRST))]


def test_results_come_as_they_finish_where_the_order_does_not_matter(sandbox):
    first, *others = (result.index for result in sandbox.run_unordered(SLOW_FIRST))
    assert first != 0 and 0 in others


def test_programs_are_read_no_further_ahead_than_needed(sandbox):
    read = itertools.count()
    results = sandbox.run_unordered(GOOD for _ in read)
    for _ in range(10):
        next(results)
    results.close()
    assert next(read) < 10 + 2 * QUEUE * sandbox.workers + 2


def test_an_abandoned_run_leaves_a_sandbox_that_works():
    with Sandbox(workers=2, timeout=60.0, preload=[]) as sandbox:
        next(sandbox.run([GOOD, NEVER, NEVER, NEVER, NEVER]))
        assert is_free(sandbox)


def test_an_error_of_the_source_comes_through(sandbox):
    def programs():
        yield GOOD
        raise KeyError("source")

    with pytest.raises(KeyError, match="source"):
        list(sandbox.run(programs()))


def test_threads_share_a_sandbox(sandbox):
    with ThreadPoolExecutor(4) as threads:
        runs = threads.map(lambda _: [result.passed for result in sandbox.run([GOOD] * 20)], range(4))
    assert list(runs) == [[True] * 20] * 4


def test_asyncio(sandbox):
    async def gather():
        futures = [asyncio.wrap_future(sandbox.submit(GOOD)) for _ in range(8)]
        return [result.passed for result in await asyncio.gather(*futures)]

    assert asyncio.run(gather()) == [True] * 8


def test_asyncio_in_the_order_of_the_programs(sandbox):
    async def gather():
        return [(result.index, result.passed) async for result in sandbox.run_async(SLOW_FIRST)]

    assert asyncio.run(gather()) == [(i, i != 2) for i in range(len(SLOW_FIRST))]


def test_cancelling_ends_what_runs_and_what_waits(patient):
    futures = [patient.submit(NEVER) for _ in range(10)]
    time.sleep(0.3)
    assert all([future.cancel() for future in futures])
    with pytest.raises(CancelledError):
        futures[0].result()
    assert is_free(patient)


def test_cancelling_an_asyncio_task(patient):
    async def cancelled():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(patient.submit(NEVER)), 0.3)

    asyncio.run(cancelled())
    assert is_free(patient)


def test_closing_cancels_what_waits():
    with Sandbox(workers=1, preload=[]) as sandbox:
        futures = [sandbox.submit(NEVER) for _ in range(5)]
    assert all(future.cancelled() for future in futures)
    with pytest.raises(RuntimeError, match="closed"):
        sandbox.submit(GOOD)


def test_closing_leaves_no_process():
    with Sandbox(workers=2, preload=[]) as sandbox:
        sandbox.submit(NEVER)
        time.sleep(0.2)
        workers = [worker.process.pid for worker in sandbox._pool.alive]
        inside = [*workers, *(below for pid in workers for below in descendants(pid))]
        assert len(inside) >= 7
    assert gone(inside)


def test_a_fork_of_the_host_can_end_without_harm(sandbox):
    if (pid := os.fork()) == 0:
        sandbox.close()
        os._exit(0)
    os.waitpid(pid, 0)
    assert one(sandbox, GOOD).passed


def test_a_program_can_have_its_own_timeout(sandbox):
    result = one(sandbox, "while True: assert id", timeout=0.2)
    assert result.outcome == "cpu_limit" and 0.2 <= result.cpu_seconds < sandbox.timeout


def test_measurements(sandbox):
    busy = "import time\nwhile time.process_time() < 0.3: pass\nx = b'x' * (200 << 20)\ntime.sleep(0.3)\n" + GOOD
    result = one(sandbox, busy)
    assert 0.3 <= result.cpu_seconds < 2.0 and result.wall_seconds >= 0.6
    assert 200 << 20 <= result.peak_memory < 300 << 20


def test_long_programs(sandbox):
    assert one(sandbox, "x = '''" + "x" * (8 << 20) + "'''", "assert len(x) == 8 << 20").passed
    assert one(sandbox, "#" * (PROGRAM_LIMIT + 1)).outcome == "error"


def test_a_loaded_machine_makes_no_timeouts():
    """Each program needs 0.4 s of CPU; six at a time on few cores take longer than the CPU limit on the clock."""
    busy = "import time\nwhile time.process_time() < 0.4: pass\n" + GOOD
    with Sandbox(workers=3 * len(os.sched_getaffinity(0)), timeout=0.6, wall_timeout=60, preload=[]) as sandbox:
        results = list(sandbox.run([busy] * sandbox.workers))
    assert [result.outcome for result in results] == ["passed"] * len(results)


def test_on_the_clock_a_loaded_machine_ends_programs_all_the_same():
    """Six at a time on each core have a sixth of it: they would have used their half second of CPU after three."""
    workers = 6 * len(os.sched_getaffinity(0))
    with Sandbox(workers=workers, timeout=0.5, on_the_clock=True, preload=[]) as sandbox:
        results = list(sandbox.run(["while int('1'): pass\nassert f()"] * workers))
    assert [result.outcome for result in results] == ["timeout"] * workers
    assert max(result.cpu_seconds for result in results) < 0.4
