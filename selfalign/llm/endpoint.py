"""Talking to a fleet of servers: who gets a request, what happens when one fails, and what it all costs.

    endpoint = Endpoint(options)                          # asks each server for its limits and tries it out
    async with endpoint:
        answers = await endpoint.sample(prompt, 10, max_new_tokens=512, seed=1, stop=["###"])

Each request goes to the server that is least loaded. A server that fails is rested and looked at again later; its
requests go to the others, and wait when there are none. `selfalign.llm.clients` has what is spoken with one server, and
`selfalign.llm.concurrency` how many requests it is given at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from selfalign.errors import RowOpen, UserError, without_secrets
from selfalign.ids import derived_seed
from selfalign.llm.clients import (
    CONNECT_SECONDS,
    PROMPT_TOO_LONG,
    Busy,
    Generation,
    PromptTooLong,
    Refused,
    Request,
    Server,
    ServerFault,
    Unfit,
    Unreachable,
    server_at,
)
from selfalign.llm.concurrency import Window
from selfalign.llm.probe import Suspicions, probe
from selfalign.options import ROOT, GenerationOptions
from selfalign.processes import die_with_parent

__all__ = ["PROMPT_TOO_LONG", "Endpoint", "Generation", "served"]

DEFAULT_ENDPOINT = "http://127.0.0.1:8080"
TRIES = 8  # of one request that a server fails; refusals for lack of a place don't count
BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.5, 30.0  # between two tries: doubling, with jitter
MAX_RETRY_AFTER_SECONDS = 120.0  # a server that asks for more is asked again after this
FAULTS_IN_A_ROW = 3  # at least, and a server is rested
REST_SECONDS, MAX_REST_SECONDS = 1.0, 60.0  # doubling
BASE_SECONDS = 120.0  # a request may wait for its place in the server this long ...
SECONDS_PER_TOKEN = 1.0  # ... and a busy CPU gives a token a second
PROBE_SECONDS = 300.0  # for five answers of 16 tokens, where another run keeps the server busy
WATCH_SECONDS = 30.0  # a server silent for so long is asked for a sign of life
SPARE_ROWS = 1.25  # rows in flight for each place, so that places are not empty while refused requests wait


class _Replica:
    """A server of the fleet, its window, and how it is doing."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.window = Window(server.concurrency)
        self.resting = self.tried_out = self.unfit = False
        self.paused_until = 0.0  # in the time of the event loop: Retry-After
        self.rest_seconds = REST_SECONDS
        self.faults_in_a_row = 0
        self.last_sign = 0.0
        self.sign_of_life: asyncio.Task[bool] | None = None

    def is_available(self, now: float) -> bool:
        return not self.resting and now >= self.paused_until and self.window.free


class Endpoint:
    """The servers of `options.endpoint`, asked for their limits and tried out when this object is made.

    Enter it as an async context manager to generate. `window` is how many rows a step should have in flight when each
    asks for `samples_a_row` samples; `identity` becomes part of a run's identity.

    Raises:
        UserError: no server answers, one is something else than was said, or serves another model than was asked for
            or than the others, or does not do what it is asked (see `selfalign.llm.probe.probe`).
    """

    def __init__(self, options: GenerationOptions, *, samples_a_row: int = 1) -> None:
        self.options = options
        urls = dict.fromkeys(url.rstrip("/") for url in options.endpoint or (DEFAULT_ENDPOINT,))
        token = getattr(options, "hf_token", None) or _saved_token()
        self._replicas = [_Replica(server_at(url, options, token)) for url in urls]
        asyncio.run(self._look())
        first = next(replica.server for replica in self._replicas if not replica.resting)
        self.model, self.identity = first.model, {"model": first.model, "revision": first.revision}
        self.takes_n = all(replica.server.takes_n for replica in self._replicas)
        self._samples_a_request = samples_a_row if self.takes_n else 1
        for replica in self._replicas:
            replica.window = Window(self._places_at(replica.server))
        places = sum(replica.window.maximum for replica in self._replicas) * self._samples_a_request
        self.window = int(SPARE_ROWS * places / samples_a_row) + 1
        self.requests = self.tokens = 0  # answered, and generated
        self.faults: Counter[str] = Counter()
        self._told: dict[str, float] = {}  # of these, by `used`
        self._told_faults: Counter[str] = Counter()
        self._suspicions = Suspicions(options.temperature)
        self._started = self._seconds = 0.0

    # Before the run ---------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Ask every server for its limits, and try it out."""

        async def look(replica: _Replica) -> None:
            async with replica.server as server:
                await server.describe()
                await self._try_out(replica)

        looks = (look(replica) for replica in self._replicas)
        results = await asyncio.gather(*looks, return_exceptions=True)
        for replica, problem in zip(self._replicas, results, strict=True):
            if isinstance(problem, ServerFault):
                replica.resting = True
                sentence = (
                    f"no endpoint answers at {replica.server.url} ({problem}): start TGI or vLLM there, or "
                    "`python serve.py` on a laptop"
                )
                if all(isinstance(result, ServerFault) for result in results):
                    raise UserError(sentence)
                _say(sentence)
            elif isinstance(problem, Unfit):
                raise UserError(str(problem))
            elif problem:
                raise problem
        answering = [replica.server for replica in self._replicas if not replica.resting]
        for server in answering[1:]:
            if (server.model, server.revision) != (answering[0].model, answering[0].revision):
                names = " and ".join(f"{s.url} {s.model} ({s.revision})" for s in (answering[0], server))
                raise UserError(f"the endpoints serve different models: {names}")

    async def _try_out(self, replica: _Replica) -> None:
        async def tries() -> list[str]:
            with contextlib.suppress(ServerFault):  # one fault is none: some close a connection that they kept
                return await probe(replica.server, self.options)
            return await probe(replica.server, self.options)

        try:
            remarks = await asyncio.wait_for(tries(), PROBE_SECONDS)
        except asyncio.TimeoutError:
            raise ServerFault(
                "it says what it serves", f"but a few short samples took over {PROBE_SECONDS:g} s"
            ) from None
        for remark in remarks:
            _say(f"{replica.server.url}: {remark}")
        replica.tried_out = True

    def check_room(self, prompt: str, max_new_tokens: int) -> None:
        """UserError if a typical `prompt` (in tokens of the endpoint) leaves no room for `max_new_tokens`."""

        async def count(server: Server) -> int | None:
            async with server:
                return await server.count_tokens(prompt)

        server = next(replica.server for replica in self._replicas if not replica.resting)
        tokens = asyncio.run(count(server))
        if tokens is None:
            return  # some servers have no /tokenize; the requests will tell
        if tokens + max_new_tokens > server.max_total_tokens or tokens > server.max_input_tokens:
            raise UserError(
                f"{server.model} at {server.url} takes {server.max_input_tokens} prompt tokens and "
                f"{server.max_total_tokens} in all; the first prompt has {tokens} and asks for {max_new_tokens} more: "
                "lower --shots or --max-new-tokens, or serve with larger limits"
            )

    async def __aenter__(self) -> Endpoint:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[asyncio.Future[_Replica]] = deque()
        self._background: set[asyncio.Task[Any]] = set()
        self._started = self._last_success = time.monotonic()
        self._stack = contextlib.AsyncExitStack()
        for replica in self._replicas:
            await self._stack.enter_async_context(replica.server)
            replica.last_sign = self._started
            if replica.resting:
                self._in_background(self._look_again(replica))
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._seconds, self._started = self.seconds, 0.0
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._stack.aclose()

    # Generating -------------------------------------------------------------------------------------------------------

    async def generate(self, prompt: str, *, max_new_tokens: int, seed: int, stop: Sequence[str] = ()) -> Generation:
        """One completion of `prompt`: `sample` for one."""
        return (await self.sample(prompt, 1, max_new_tokens=max_new_tokens, seed=seed, stop=stop))[0]

    async def sample(
        self, prompt: str, n: int, *, max_new_tokens: int, seed: int, stop: Sequence[str] = ()
    ) -> list[Generation]:
        """`n` completions of `prompt`, each cut before the first of the stop sequences.

        One request where the server takes `n`, else n requests with seeds derived from `seed`.

        Raises:
            RowOpen: the servers failed again and again; the row can be done in another run.
        """
        seeds = [derived_seed(seed, number) for number in range(n)]
        whole = Request(prompt, max_new_tokens, seeds[0], n, tuple(stop), self.options.temperature, self.options.top_p)
        answers = await self._ask(whole) if self.takes_n or n == 1 else []
        if 0 < len(answers) < n and self.takes_n:
            self.takes_n = False
            self.faults["gives one sample whatever n is asked for"] += 1
            _say(f"{self.model} is served without `n`: each sample is a request of its own from now on")
        if missing := seeds[len(answers) :]:
            tasks = [asyncio.ensure_future(self._ask(replace(whole, n=1, seed=seed))) for seed in missing]
            try:
                answers += [answer for (answer,) in await asyncio.gather(*tasks)]
            finally:
                for task in tasks:  # the row is lost when one of them is: don't pay for the others
                    task.cancel()
        self._suspicions.look_at(answers)
        return answers

    async def _ask(self, request: Request) -> list[Generation]:
        """The samples of one request, from whichever server has a place, however often it takes."""
        faults = refusals = 0
        refused_since = 0.0
        while True:
            replica = await self._place(again=faults + refusals > 0)
            try:
                return await self._attempt(replica, request)
            except PromptTooLong:
                return [Generation("", PROMPT_TOO_LONG, 0)] * request.n
            except Busy as busy:
                self._on_busy(replica, busy)
                refusals += 1
                refused_since = refused_since or time.monotonic()
                if time.monotonic() - refused_since > self.options.patience:
                    raise RowOpen(f"{replica.server.url} has had no place for {self.options.patience:.0f} s") from None
            except ServerFault as fault:
                self._on_fault(replica, fault)
                faults += 1
                if faults == TRIES or isinstance(fault, Refused):
                    raise RowOpen(f"failed {faults} times, last at {replica.server.url} with {fault}") from None
            finally:
                self._leave(replica)
            backoff = min(MAX_BACKOFF_SECONDS, BACKOFF_SECONDS * 2.0 ** (faults + refusals - 1))
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))

    async def _attempt(self, replica: _Replica, request: Request) -> list[Generation]:
        """One try at one server, with a deadline and an eye on whether the server is alive."""
        started = time.monotonic()
        deadline = started + BASE_SECONDS + SECONDS_PER_TOKEN * request.max_new_tokens
        task = asyncio.ensure_future(replica.server.complete(request))
        try:
            while not task.done():
                await asyncio.wait({task}, timeout=min(WATCH_SECONDS, max(0.0, deadline - time.monotonic())))
                if task.done():
                    break
                if time.monotonic() >= deadline:
                    raise ServerFault("no answer before the deadline", f"{time.monotonic() - started:.0f} s")
                if not await self._is_alive(replica):
                    raise Unreachable("no sign of life", f"nothing for {WATCH_SECONDS:.0f} s and no answer to a GET")
        finally:
            task.cancel()
        answers = task.result()
        now = time.monotonic()
        replica.faults_in_a_row, replica.rest_seconds = 0, REST_SECONDS
        replica.last_sign = self._last_success = now
        replica.window.served(now - started, max(answer.generated_tokens for answer in answers))
        self.requests += 1
        self.tokens += sum(answer.generated_tokens for answer in answers)
        return answers

    async def _is_alive(self, replica: _Replica) -> bool:
        """Whether a server has answered anything lately, or answers a GET now. All its requests share the GET."""
        if time.monotonic() - replica.last_sign < WATCH_SECONDS:
            return True
        if replica.sign_of_life is None or replica.sign_of_life.done():
            replica.sign_of_life = self._in_background(self._describes_itself(replica))
        with contextlib.suppress(Unfit):  # `_look_again` will say so
            return await asyncio.shield(replica.sign_of_life)
        return False

    async def _describes_itself(self, replica: _Replica) -> bool:
        try:
            await asyncio.wait_for(replica.server.describe(), CONNECT_SECONDS)
        except (ServerFault, asyncio.TimeoutError):
            return False
        replica.last_sign = time.monotonic()
        return True

    # Places -----------------------------------------------------------------------------------------------------------

    async def _place(self, *, again: bool) -> _Replica:
        """A place at the server that is least loaded; who asks again goes before those who ask for the first time."""
        if (replica := self._least_loaded()) is None:
            if self._given_up():
                raise RowOpen(self._complaint())
            waiter: asyncio.Future[_Replica] = self._loop.create_future()
            (self._waiting.appendleft if again else self._waiting.append)(waiter)
            try:
                return await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._leave(waiter.result())
                raise
        replica.window.in_flight += 1
        return replica

    def _places_at(self, server: Server) -> int:
        return -(-server.concurrency // self._samples_a_request)

    def _leave(self, replica: _Replica) -> None:
        replica.window.in_flight -= 1
        self._fill_places()

    def _fill_places(self) -> None:
        """Give the places that are free to those who wait."""
        while self._waiting and (replica := self._least_loaded()):
            waiter = self._waiting.popleft()
            if not waiter.done():
                replica.window.in_flight += 1
                waiter.set_result(replica)

    def _least_loaded(self) -> _Replica | None:
        now = self._loop.time()
        available = [replica for replica in self._replicas if replica.is_available(now)]
        return min(available, key=lambda replica: replica.window.load, default=None)

    # When a server does not do what it should -------------------------------------------------------------------------

    def _on_busy(self, replica: _Replica, busy: Busy) -> None:
        self.faults[busy.kind] += 1
        replica.last_sign = time.monotonic()
        replica.window.refused()
        if busy.retry_after:
            pause = min(busy.retry_after, MAX_RETRY_AFTER_SECONDS)
            replica.paused_until = max(replica.paused_until, self._loop.time() + pause)
            self._loop.call_later(pause + 0.01, self._fill_places)

    def _on_fault(self, replica: _Replica, fault: ServerFault) -> None:
        self.faults[fault.kind] += 1
        if isinstance(fault, Refused):
            return  # of this request; the server is well
        replica.faults_in_a_row += 1
        # As many as are in flight: a proxy that breaks one connection in three is no reason to stop.
        too_many = replica.faults_in_a_row >= max(FAULTS_IN_A_ROW, replica.window.in_flight)
        if not replica.resting and (too_many or isinstance(fault, Unreachable)):
            replica.resting = True
            _say(f"{replica.server.url} rests: {fault}")
            if all(other.resting for other in self._replicas):
                _say(f"no endpoint is left: waiting up to {self.options.patience:.0f} s for one to come back")
            self._in_background(self._look_again(replica))

    async def _look_again(self, replica: _Replica) -> None:
        """Let a server rest until it describes itself as before; then use it again, one request at first."""
        server = replica.server
        while True:
            await asyncio.sleep(replica.rest_seconds * random.uniform(0.5, 1.0))
            replica.rest_seconds = min(MAX_REST_SECONDS, 2 * replica.rest_seconds)
            try:
                answers = await self._describes_itself(replica)
                if answers and (server.model, server.revision) != tuple(self.identity.values()):
                    raise Unfit(f"{server.url} serves {server.model} ({server.revision}) now")
                if answers and not replica.tried_out:
                    await self._try_out(replica)
            except ServerFault:
                answers = False
            except Unfit as error:
                _say(f"{error}: it is not used any more")
                replica.unfit, answers = True, False
            if answers:
                break
            if self._given_up():
                for waiter in self._waiting:
                    if not waiter.done():
                        waiter.set_exception(RowOpen(self._complaint()))
                self._waiting.clear()
            if replica.unfit:
                return
        replica.resting, replica.faults_in_a_row = False, 0
        replica.window.maximum = self._places_at(server)
        replica.window.restart()
        _say(f"{server.url} answers again")
        self._fill_places()

    def _given_up(self) -> bool:
        if all(replica.unfit for replica in self._replicas):  # none will come back
            return True
        patience = self.options.patience
        return all(r.resting for r in self._replicas) and time.monotonic() - self._last_success > patience

    def _complaint(self) -> str:
        if all(replica.unfit for replica in self._replicas):
            return "no endpoint is left that serves what this run began with"
        return f"no endpoint has answered for {self.options.patience:.0f} s"

    def _in_background(self, coroutine: Any) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    # What it costs ----------------------------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """How long the endpoint has been in use."""
        return self._seconds + (time.monotonic() - self._started if self._started else 0.0)

    def used(self) -> dict[str, Any]:
        """What was used since the last call, for the metadata of a part; nothing if nothing was asked."""
        now: dict[str, float] = {"seconds": self.seconds, "requests": self.requests, "tokens": self.tokens}
        if self.options.price_per_hour is not None:
            now["cost"] = self.options.price_per_hour * len(self._replicas) * self.seconds / 3600
        new = {name: round(value - self._told.get(name, 0), 6) for name, value in now.items()}
        faults = dict(self.faults - self._told_faults)
        if not new["requests"] and not faults:
            return {}
        self._told, self._told_faults = now, self.faults.copy()
        return {**new, "faults": faults}

    def report(self, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What was used for parts, for run.json and the card: their `used`, added up, whichever process wrote them.

        Shards that share servers at the same time count their seconds and their cost each: an upper bound. The cost is
        left out where a part does not say it.
        """
        servers = [replica.server for replica in self._replicas]
        names = ["seconds", "requests", "tokens"]
        if parts and all("cost" in part for part in parts):
            names.append("cost")
        used = {name: round(sum(part[name] for part in parts), 4) for name in names}
        faults = sum((Counter(part["faults"]) for part in parts), Counter())
        if self.options.temperature == 0:
            seeds = "not needed"
        else:
            seeds = "sent" if all(server.takes_seeds for server in servers) else "not sent"
        return {"api": self.options.api, "replicas": len(servers), "seeds": seeds, **used, "faults": dict(faults)}

    def summary(self) -> str:
        """Tokens so far, tokens a second and the cost, for the progress line."""
        parts = [f"{_short(self.tokens)} tokens", f"{_short(self.tokens / max(1e-9, self.seconds))} tokens/s"]
        if self.options.price_per_hour is not None:
            parts.append(f"cost {self.options.price_per_hour * len(self._replicas) * self.seconds / 3600:.2f}")
        return ", ".join(parts)


def _short(number: float) -> str:
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.3g}{name}"
    return f"{number:.0f}"


def _say(sentence: str) -> None:
    from tqdm import tqdm

    tqdm.write(f"endpoint: {without_secrets(sentence)}", file=sys.stderr)


def _saved_token() -> str | None:
    from huggingface_hub import get_token

    return get_token()


@contextmanager
def served(model: str, *arguments: str) -> Iterator[str]:
    """Serve the model folder or Hub id `model` with serve.py for a while; gives the URL.

    Raises:
        UserError: serve.py could not load it; its own sentence is on standard error.
    """
    command = [sys.executable, str(ROOT / "serve.py"), "--model", model, "--port", "0", *arguments]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=die_with_parent
    )
    try:
        line = server.stdout.readline() if server.stdout else ""
        if "http://" not in line:
            raise UserError(f"{model} can't be served (see above)")
        yield line[line.index("http://") :].strip()
    finally:
        server.terminate()
        server.wait()
