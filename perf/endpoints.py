"""How well one client process uses a server: our endpoint beside two usual ways to send requests.

    python -m perf.endpoints                 # all three tables, 10 minutes
    python -m perf.endpoints --only cost

saturation  The same work for a simulated TGI (128 places, lengths with a heavy tail, 5 % of answers 429 under load):
            ours; chunks with a barrier after each, as the reference implementation sends them; `asyncio.gather` under a
            fixed semaphore. The ideal is a list schedule of the same lengths over 128 places, without refusals or a
            network in between. The three run at the same time, each with a server and a process of its own, so whatever
            else the machine does disturbs them alike. Answers list no tokens here. `occupied` is the mean share of
            places taken until the last request arrived, measured by the server, which is late on a busy machine itself.
cost        The client's CPU time per request with a 10 kB prompt, 128 in flight: ours, the bare AsyncInferenceClient,
            our OpenAI client, and the openai package if it is installed. Rounds alternate; the median counts. Ours uses
            that client with small pools of connections and can cost less; its own share is measured without any client.
memory      The client's resident memory while it sends requests, and the slope in MB per 1,000,000 of them.
"""

import asyncio
import contextlib
import gc
import heapq
import importlib.util
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import tyro

from selfalign.ids import derived_seed
from selfalign.llm.completion import Completion
from selfalign.llm.endpoint import Endpoint
from selfalign.options import GenerationOptions
from tests.fakes.server import length_of

PLACES = 128
SECONDS_PER_TOKEN = 0.04  # one answer takes 11 s, the longest 41 s, as with a model of 7B under load
MAX_NEW_TOKENS = 1024
PROMPT = "def f(x):\n    return x + 1\n" * 370  # 10 kB


@dataclass
class Options:
    only: Literal["saturation", "cost", "memory"] | None = None
    requests: int = 1280
    """Requests of the saturation table."""
    cost_requests: int = 2000
    """Requests per round of the cost table."""
    rounds: int = 5
    memory_requests: int = 40_000


@contextlib.contextmanager
def simulated(*options: str) -> Iterator[str]:
    """The URL of a simulated server in a process of its own."""
    command = [sys.executable, "-m", "tests.fakes.server", *options]
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


async def ask_bare(client: Any, prompt: str, seed: int, max_new_tokens: int) -> int:
    """The length of one answer, with retries: 0.5 s, doubled up to 8 s, with jitter, as the openai package does."""
    from huggingface_hub.errors import OverloadedError

    options = {"details": True, "return_full_text": False, "do_sample": True, "temperature": 0.7}
    for attempt in range(100):
        try:
            output = await client.text_generation(prompt, seed=seed, max_new_tokens=max_new_tokens, **options)
            return output.details.generated_tokens
        except OverloadedError:
            await asyncio.sleep(min(8.0, 0.5 * 2**attempt) * random.uniform(0.75, 1.0))
    raise RuntimeError("refused 100 times")


# Saturation -----------------------------------------------------------------------------------------------------------


def ideal_seconds(lengths: list[int]) -> float:
    """When the last answer ends if every place takes the next request as soon as it is free."""
    places = [0.0] * PLACES
    for length in lengths:
        heapq.heapreplace(places, places[0] + length * SECONDS_PER_TOKEN)
    return max(places)


async def chunks_with_a_barrier(url: str, jobs: range) -> list[int]:
    """The reference implementation: it sends a chunk, and the next one after the slowest answer."""
    lengths = []
    async with bare_client(url) as client:
        for start in range(0, len(jobs), PLACES):
            chunk = jobs[start : start + PLACES]
            lengths += await asyncio.gather(*(ask_bare(client, f"task {n}", n, MAX_NEW_TOKENS) for n in chunk))
    return lengths


async def gather_under_a_semaphore(url: str, jobs: range) -> list[int]:
    """What most scripts do: a task for each request, and a semaphore."""
    places = asyncio.Semaphore(PLACES)
    async with bare_client(url) as client:

        async def ask(number: int) -> int:
            async with places:
                return await ask_bare(client, f"task {number}", number, MAX_NEW_TOKENS)

        return list(await asyncio.gather(*map(ask, jobs)))


async def ours(endpoint: Endpoint, jobs: range) -> list[int]:
    """The endpoint, with as many rows in flight as a step has."""
    lengths = []

    async def ask(number: int) -> None:
        answer = await endpoint.generate(f"task {number}", max_new_tokens=MAX_NEW_TOKENS, seed=number)
        lengths.append(answer.generated_tokens)

    async with endpoint:
        await in_flight(endpoint.window, iter(jobs), ask)
    return lengths


def saturate(way: Callable[..., Any], requests: int) -> str:
    """The line of the table for one way."""
    import httpx2

    jobs = range(requests)
    rate = ("--places", str(PLACES), "--seconds-per-token", str(SECONDS_PER_TOKEN), "--refusals", "0.05")
    with simulated(*rate, "--no-list-tokens") as url:
        server = Endpoint(GenerationOptions(endpoint=(url,))) if way is ours else url
        started, cpu = time.perf_counter(), time.process_time()
        lengths = asyncio.run(way(server, jobs))
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        occupancy = httpx2.get(f"{url}/occupancy").json()["occupancy"]
    assert len(lengths) == len(jobs)
    # The seeds that the endpoint derives lead to other lengths, so it has an ideal of its own.
    seeds = [derived_seed(n, 0) if way is ours else n for n in jobs]
    ideal = ideal_seconds([length_of(f"task {n}", seeds[n], MAX_NEW_TOKENS) for n in jobs])
    return (
        f"{way.__name__.replace('_', ' '):28} {seconds:8.1f} {ideal:8.1f} {sum(lengths) / seconds:9,.0f} "
        f"{100 * ideal / seconds:8.1f}% {100 * occupancy:8.1f}% {cpu:6.1f}"
    )


def saturation(options: Options) -> None:
    """The same work three ways."""
    print(f"saturation: {options.requests:,} requests, {PLACES} places, 5 % of answers 429 under load")
    print(f"{'':28} {'seconds':>8} {'ideal':>8} {'tokens/s':>9} {'of ideal':>9} {'occupied':>9} {'CPU s':>6}")
    ways = (ours, gather_under_a_semaphore, chunks_with_a_barrier)
    with ProcessPoolExecutor(len(ways)) as pool:
        for line in pool.map(saturate, ways, [options.requests] * len(ways)):
            print(line, flush=True)


# Cost -----------------------------------------------------------------------------------------------------------------

# A way to ask the server at a URL is a context manager: it gives a function that sends a request with a seed, and the
# number of requests to keep in flight.


@contextlib.asynccontextmanager
async def bare(url: str):
    async with bare_client(url) as client:
        yield (lambda seed: ask_bare(client, PROMPT, seed, 32)), PLACES


@contextlib.asynccontextmanager
async def openai_package(url: str):
    import openai  # type: ignore

    options = {"model": "simulated/model", "prompt": PROMPT, "max_tokens": 32, "temperature": 0.7}
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
        yield (lambda seed: client.completions.create(seed=seed + 1, **options)), PLACES


@contextlib.asynccontextmanager
async def our_endpoint(url: str, api: Any = "tgi", without_client: bool = False):
    """The endpoint; `without_client` is what remains if sending a request costs nothing."""

    async def answer(request: Any) -> list[Completion]:
        await asyncio.sleep(0)
        return [Completion("text", "eos_token", 16)]

    options = GenerationOptions(endpoint=(url,), api=api, concurrency=PLACES)
    endpoint = await asyncio.to_thread(Endpoint, options)  # it probes in an event loop of its own
    if without_client:
        endpoint._fleet.first.client.complete = answer
    async with endpoint:
        yield (lambda seed: endpoint.generate(PROMPT, max_new_tokens=32, seed=seed)), endpoint.window


async def measure(client: contextlib.AbstractAsyncContextManager, requests: int) -> tuple[float, float]:
    """CPU seconds per request and requests per second, without what the first connections cost."""
    async with client as (ask, width):
        await in_flight(width, iter(range(2 * width)), ask)
        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        await in_flight(width, iter(range(requests)), ask)
        return (time.process_time() - cpu) / requests, requests / (time.perf_counter() - wall)


def cost(options: Options) -> None:
    """CPU seconds of this process per request."""
    ways: dict[str, Any] = {"AsyncInferenceClient, bare": bare, "ours, tgi": our_endpoint}
    ways["ours, completions"] = partial(our_endpoint, api="completions")
    if importlib.util.find_spec("openai"):
        ways["openai package, bare"] = openai_package
    print(f"\ncost: {options.rounds} rounds of {options.cost_requests:,} requests, 10 kB prompts, {PLACES} in flight")
    print(f"{'':28} {'CPU ms/request':>15} {'requests/s':>11}   best round: {'CPU ms':>6} {'requests/s':>11}")
    with simulated("--median-tokens", "16") as url:
        rounds = [
            {name: asyncio.run(measure(way(url), options.cost_requests)) for name, way in ways.items()}
            for _ in range(options.rounds)
        ]
        for name in ways:
            cpu, rate = zip(*(measured[name] for measured in rounds), strict=True)
            medians = f"{1000 * statistics.median(cpu):15.2f} {statistics.median(rate):11,.0f}"
            print(f"{name:28} {medians}   {'':12} {1000 * min(cpu):6.2f} {max(rate):11,.0f}", flush=True)
        more = statistics.median(each["ours, tgi"][0] - each["AsyncInferenceClient, bare"][0] for each in rounds)
        print(f"ours, tgi, beside the bare one: {1000 * more:+.2f} ms per request (median of the differences by round)")
        alone = []
        for _ in range(options.rounds):
            cpu, _rate = asyncio.run(measure(our_endpoint(url, without_client=True), 10 * options.cost_requests))
            alone.append(1000 * cpu)
    print(f"our own share: {statistics.median(alone):.2f} ms, best round {min(alone):.2f} (without any client)")


# Memory ---------------------------------------------------------------------------------------------------------------


def memory(options: Options) -> None:
    """Resident memory while requests go through, and its slope after the first quarter."""
    import psutil

    process, points, requests = psutil.Process(), [], options.memory_requests
    with simulated("--median-tokens", "16") as url:
        endpoint = Endpoint(GenerationOptions(endpoint=(url,)))

        async def ask(seed: int) -> None:
            await endpoint.generate(PROMPT, max_new_tokens=32, seed=seed)
            if seed % (requests // 20) == 0:
                gc.collect()
                points.append((seed, process.memory_info().rss / 2**20))

        async def run() -> None:
            async with endpoint:
                await in_flight(endpoint.window, iter(range(requests)), ask)

        asyncio.run(run())
    numbers, megabytes = zip(*points[len(points) // 4 :], strict=True)
    print(f"\nmemory: {requests:,} requests in {endpoint.usage.seconds:.0f} s")
    print("  ".join(f"{n:,}: {mb:.1f} MB" for n, mb in points[::4]))
    slope = statistics.linear_regression(numbers, megabytes).slope
    print(f"slope after the first quarter: {slope * 1e6:.1f} MB per 1,000,000 requests (extrapolated)")


if __name__ == "__main__":
    chosen = tyro.cli(Options, description=__doc__)
    for table in (saturation, cost, memory):
        if chosen.only in (None, table.__name__):
            table(chosen)
