"""How well one client process uses a server: our endpoint beside two usual ways to send requests, and what it costs.

    python -m perf.endpoints                 # all three tables, 10 minutes
    python -m perf.endpoints --only cost

saturation  the same work for a simulated TGI (128 places, lengths with a heavy tail, 5 % of answers 429 under load):
            ours; chunks with a barrier after each, as the reference implementation sends them; `asyncio.gather` under a
            fixed semaphore. The ideal is a list schedule of the same lengths over 128 places, with no refusals and no
            network between. The three run at the same time, each with a server and a process of its own: all of them
            mostly wait, and what else the machine does disturbs them alike. Answers list no tokens here.
            `occupied` is the mean share of places taken, told by the server, until the last request arrived: where the
            machine is busy the server itself is late, and only this tells what the client is to blame for.
cost        CPU time of the client a request with a 10 kB prompt, 128 in flight: ours, the bare AsyncInferenceClient,
            our OpenAI side, and the openai package where it is installed. Rounds alternate; the median counts.
memory      resident memory of the client while it sends requests, and the slope as MB over 1,000,000 of them.
"""

import asyncio
import contextlib
import gc
import heapq
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import tyro

from selfalign.llm.endpoint import Endpoint
from selfalign.options import GenerationOptions
from tests.fakes.server import length_of

PLACES = 128
SECONDS_PER_TOKEN = 0.04  # one answer takes 11 s, the longest 41, as with a model of 7B under load
MAX_NEW_TOKENS = 1024
PROMPT = "def f(x):\n    return x + 1\n" * 370  # 10 kB


@dataclass
class Options:
    only: Literal["saturation", "cost", "memory"] | None = None
    requests: int = 1280
    """Requests of the saturation table."""
    cost_requests: int = 2000
    """Requests a round of the cost table."""
    rounds: int = 5
    memory_requests: int = 40_000


@contextlib.contextmanager
def simulated(**options: Any) -> Iterator[str]:
    """The URL of a simulated server in a process of its own."""
    words = []
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", *([str(value)] if value is not None else [])]
    command = [sys.executable, "-m", "tests.fakes.server", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            yield server.stdout.readline().split()[-1]
        finally:
            server.terminate()


async def in_flight(width: int, jobs: Iterator[Any], work: Callable[[Any], Awaitable[Any]]) -> None:
    """`work` for every job, `width` of them at a time, as run_step does it."""

    async def worker() -> None:
        for job in jobs:
            await work(job)

    await asyncio.gather(*(worker() for _ in range(width)))


@contextlib.asynccontextmanager
async def bare_client(url: str):
    """huggingface_hub's client as one would set it up by hand, without its limit of 100 connections."""
    import httpx2
    from huggingface_hub import AsyncInferenceClient, set_async_client_factory

    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    set_async_client_factory(lambda: httpx2.AsyncClient(limits=limits, timeout=None))
    client = AsyncInferenceClient(base_url=url, api_key="none")
    yield client
    await client.close()


async def ask_bare(client: Any, prompt: str, seed: int, max_new_tokens: int) -> Any:
    """One request with retries: 0.5 s, doubled up to 8 s, with jitter, as the openai package does."""
    from huggingface_hub.errors import OverloadedError

    options = {"details": True, "return_full_text": False, "do_sample": True, "temperature": 0.7}
    for attempt in range(100):
        try:
            return await client.text_generation(prompt, seed=seed, max_new_tokens=max_new_tokens, **options)
        except OverloadedError:
            await asyncio.sleep(min(8.0, 0.5 * 2**attempt) * random.uniform(0.75, 1.0))


# Saturation -----------------------------------------------------------------------------------------------------------


def ideal_seconds(lengths: list[int]) -> float:
    """When the last answer ends if every place takes the next request as soon as it is free."""
    places = [0.0] * PLACES
    for length in lengths:
        heapq.heapreplace(places, places[0] + length * SECONDS_PER_TOKEN)
    return max(places)


async def chunks_with_a_barrier(url: str, jobs: list[tuple[str, int]]) -> list[int]:
    """The reference implementation: a chunk is sent, and the next when its slowest answer is there."""
    lengths = []
    async with bare_client(url) as client:
        for start in range(0, len(jobs), PLACES):
            chunk = jobs[start : start + PLACES]
            answers = await asyncio.gather(*(ask_bare(client, *job, MAX_NEW_TOKENS) for job in chunk))
            lengths += [answer.details.generated_tokens for answer in answers]
    return lengths


async def gather_under_a_semaphore(url: str, jobs: list[tuple[str, int]]) -> list[int]:
    """What most scripts do: a task for each request, and a semaphore."""
    places = asyncio.Semaphore(PLACES)
    async with bare_client(url) as client:

        async def ask(prompt: str, seed: int) -> int:
            async with places:
                return (await ask_bare(client, prompt, seed, MAX_NEW_TOKENS)).details.generated_tokens

        return list(await asyncio.gather(*(ask(*job) for job in jobs)))


def ours(url: str, jobs: list[tuple[str, int]]) -> tuple[list[int], float]:
    """The endpoint, with as many rows in flight as a step has."""
    endpoint, lengths = Endpoint(GenerationOptions(endpoint=(url,))), []

    async def ask(job: tuple[str, int]) -> None:
        lengths.append((await endpoint.generate(job[0], max_new_tokens=MAX_NEW_TOKENS, seed=job[1])).generated_tokens)

    async def work() -> float:
        async with endpoint:
            started = time.perf_counter()
            await in_flight(endpoint.window, iter(jobs), ask)
            return time.perf_counter() - started

    return lengths, asyncio.run(work())


def saturate(way: Callable[..., Any], requests: int) -> str:
    """The line of the table for one way."""
    import httpx2

    jobs = [(f"task {n}", n) for n in range(requests)]
    rate = {"places": PLACES, "seconds_per_token": SECONDS_PER_TOKEN, "refusals": 0.05}
    with simulated(**rate, no_list_tokens=None) as url:
        started, cpu = time.perf_counter(), time.process_time()
        if way is ours:  # the seeds that the endpoint derives lead to other lengths: an ideal of its own
            lengths, seconds = ours(url, jobs)
            ideal = ideal_seconds([derived_length(*job) for job in jobs])
        else:
            lengths = asyncio.run(way(url, jobs))
            seconds = time.perf_counter() - started
            ideal = ideal_seconds([length_of(prompt, seed, MAX_NEW_TOKENS) for prompt, seed in jobs])
        occupancy = httpx2.get(f"{url}/occupancy").json()["occupancy"]
    assert len(lengths) == len(jobs)
    return (
        f"{way.__name__.replace('_', ' '):28} {seconds:8.1f} {ideal:8.1f} {sum(lengths) / seconds:9,.0f} "
        f"{100 * ideal / seconds:8.1f}% {100 * occupancy:8.1f}% {time.process_time() - cpu:6.1f}"
    )


def saturation(options: Options) -> None:
    """The same work three ways."""
    from concurrent.futures import ProcessPoolExecutor

    ways = (ours, gather_under_a_semaphore, chunks_with_a_barrier)
    print(f"saturation: {options.requests:,} requests, {PLACES} places, 5 % of answers 429 under load")
    print(
        f"{'':28} {'seconds':>8} {'ideal':>8} {'tokens/s':>9} {'of ideal':>9} {'occupied':>9} {'CPU s':>6}", flush=True
    )
    with ProcessPoolExecutor(len(ways)) as pool:
        for line in pool.map(saturate, ways, [options.requests] * len(ways)):
            print(line, flush=True)


def derived_length(prompt: str, seed: int) -> int:
    """The length that the endpoint's own derived seed leads to."""
    from selfalign.ids import derived_seed

    return length_of(prompt, derived_seed(seed, 0), MAX_NEW_TOKENS)


# Cost -----------------------------------------------------------------------------------------------------------------


def cost(options: Options) -> None:
    """CPU seconds of this process a request."""
    with simulated(median_tokens=16) as url:
        ways: dict[str, Any] = {"AsyncInferenceClient, bare": bare_round, "ours, tgi": our_round("tgi")}
        ways["ours, completions"] = our_round("completions")
        with contextlib.suppress(ImportError):
            import openai  # type: ignore  # noqa: F401

            ways["openai package, bare"] = openai_round
        measured: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, way in ways.items():
                measured[name].append(way(url, options.cost_requests))
        print(
            f"\ncost: {options.rounds} rounds of {options.cost_requests:,} requests, 10 kB prompts, {PLACES} in flight"
        )
        print(f"{'':28} {'CPU ms/request':>15} {'requests/s':>11}   best round: {'CPU ms':>6} {'requests/s':>11}")
        for name, rounds in measured.items():
            cpu, rate = ([r[i] for r in rounds] for i in (0, 1))
            medians = f"{1000 * statistics.median(cpu):15.2f} {statistics.median(rate):11,.0f}"
            print(f"{name:28} {medians}   {'':12} {1000 * min(cpu):6.2f} {max(rate):11,.0f}", flush=True)
        pairs = zip(measured["ours, tgi"], measured["AsyncInferenceClient, bare"], strict=True)
        own = statistics.median(a[0] - b[0] for a, b in pairs)
        print(f"our own share: {1000 * own:.2f} ms a request (median of the differences, round by round)")
        alone = [our_round("tgi", stub=True)(url, 10 * options.cost_requests)[0] for _ in range(options.rounds)]
        best, median = 1000 * min(alone), 1000 * statistics.median(alone)
        print(f"our own share: {median:.2f} ms a request, best round {best:.2f} (a stub in place of the client)")


async def timed(requests: int, width: int, ask: Callable[[int], Awaitable[Any]]) -> tuple[float, float]:
    """CPU seconds a request, and requests a second; what the first connections cost is not in it."""
    await in_flight(width, iter(range(2 * width)), ask)
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    await in_flight(width, iter(range(requests)), ask)
    return (time.process_time() - cpu) / requests, requests / (time.perf_counter() - wall)


def bare_round(url: str, requests: int) -> tuple[float, float]:
    async def run() -> tuple[float, float]:
        async with bare_client(url) as client:
            return await timed(requests, PLACES, lambda seed: ask_bare(client, PROMPT, seed, 32))

    return asyncio.run(run())


def openai_round(url: str, requests: int) -> tuple[float, float]:
    async def run() -> tuple[float, float]:
        import openai  # type: ignore

        options = {"model": "simulated/model", "max_tokens": 32, "temperature": 0.7}
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
            return await timed(
                requests, PLACES, lambda seed: client.completions.create(prompt=PROMPT, seed=seed + 1, **options)
            )

    return asyncio.run(run())


def our_round(api: Any, stub: bool = False) -> Callable[[str, int], tuple[float, float]]:
    """The endpoint; with `stub`, what it takes where asking the server takes nothing."""
    from selfalign.llm.completion import Completion

    answers = [Completion("text", "eos_token", 16)]

    async def answer(request: Any) -> list[Completion]:
        await asyncio.sleep(0)
        return answers

    def measure(url: str, requests: int) -> tuple[float, float]:
        endpoint = Endpoint(GenerationOptions(endpoint=(url,), api=api, concurrency=PLACES))
        if stub:
            endpoint._fleet.first.client.complete = answer

        async def run() -> tuple[float, float]:
            async with endpoint:
                ask = lambda seed: endpoint.generate(PROMPT, max_new_tokens=32, seed=seed)  # noqa: E731
                return await timed(requests, endpoint.window, ask)

        return asyncio.run(run())

    return measure


# Memory ---------------------------------------------------------------------------------------------------------------


def memory(options: Options) -> None:
    """Resident memory while requests go through, and its slope after the first quarter."""
    import psutil

    process, points = psutil.Process(), []
    with simulated(median_tokens=16) as url:
        endpoint = Endpoint(GenerationOptions(endpoint=(url,)))

        async def ask(seed: int) -> None:
            await endpoint.generate(PROMPT, max_new_tokens=32, seed=seed)
            if seed % (options.memory_requests // 20) == 0:
                gc.collect()
                points.append((seed, process.memory_info().rss / 2**20))

        async def run() -> None:
            async with endpoint:
                await in_flight(endpoint.window, iter(range(options.memory_requests)), ask)

        started = time.perf_counter()
        asyncio.run(run())
        seconds = time.perf_counter() - started
    later = points[len(points) // 4 :]
    slope = statistics.linear_regression([n for n, _ in later], [mb for _, mb in later]).slope
    print(
        f"\nmemory: {options.memory_requests:,} requests in {seconds:.0f} s ({options.memory_requests / seconds:.0f}/s)"
    )
    print("  ".join(f"{n:,}: {mb:.1f} MB" for n, mb in points[::4]))
    print(f"slope after the first quarter: {slope * 1e6:.1f} MB over 1,000,000 requests (extrapolated)")


if __name__ == "__main__":
    chosen = tyro.cli(Options, description=__doc__)
    for table in (saturation, cost, memory):
        if chosen.only in (None, table.__name__):
            table(chosen)
