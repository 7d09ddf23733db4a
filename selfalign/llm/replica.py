"""One server of the fleet: whether it is well, how many requests it is given, and one try of a request at it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from typing import Any

from selfalign.errors import tell
from selfalign.llm.client import CONNECT_SECONDS, Busy, Client, ServerFault, Unfit, Unreachable
from selfalign.llm.completion import Completion, CompletionRequest
from selfalign.llm.concurrency import CongestionWindow
from selfalign.llm.probe import probe
from selfalign.options import GenerationOptions

BASE_SECONDS = 120.0  # a request may wait for its place inside the server for this long ...
SECONDS_PER_TOKEN = 1.0  # ... and a busy CPU generates one token per second
MOST_DEADLINES = 10  # while the server does others, a request may wait this many times as long: it is busy, not lost
PROBE_SECONDS = 300.0  # for five answers of 16 tokens and one of 256, on a slow machine
WATCH_SECONDS = 30.0  # a server that has been silent for this long is asked for a sign of life
REST_SECONDS, MAX_REST_SECONDS = 1.0, 60.0  # doubling
REFUSAL_SECONDS, MAX_REFUSAL_SECONDS = 0.5, 30.0  # that others are asked in place of one that refuses; doubling
MAX_RETRY_AFTER_SECONDS = 120.0  # a server that asks for a longer pause is asked again after this


class Replica:
    """A server, known by its client. Enter it as an async context manager to send it requests.

    A replica that is `resting` gets no requests until it describes itself again; one that is `unfit` never does.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.samples_per_request = 1
        self.window = CongestionWindow(client.concurrency)
        self.resting = self.unfit = self.was_probed = False
        self.rest_seconds = REST_SECONDS
        self.faults_in_a_row = 0
        self.gone_at = 0.0  # when it was last found to be unreachable
        self._refusal_seconds = REFUSAL_SECONDS
        self._paused_until = 0.0  # as time.monotonic() has it
        self._last_sign = self._last_work = 0.0  # when it has last answered anything, and last generated something
        self._idle_at = 0.0  # when it has last said that it had generated nothing for a while
        self._generated: float | None = None  # as it has last said, if it does
        self._sign_of_life: asyncio.Task[bool] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def identity(self) -> tuple[str, str | None]:
        """The model that it serves, and the model's revision."""
        return self.client.model, self.client.revision

    @property
    def places(self) -> int:
        """How many requests the server takes at a time, each for `samples_per_request` samples."""
        return -(-self.client.concurrency // self.samples_per_request)

    def is_available(self) -> bool:
        """Whether a request may be sent now."""
        return not self.resting and self.window.has_room and time.monotonic() >= self._paused_until

    async def __aenter__(self) -> Replica:
        await self.client.__aenter__()
        self._last_sign = time.monotonic()
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.client.__aexit__(*exc)

    def in_background(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` until it ends, or the replica is left."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # Is it what it should be? -----------------------------------------------------------------------------------------

    async def inspect(self, options: GenerationOptions) -> None:
        """Before a run: ask the server for its model and limits, and probe it.

        Raises:
            ServerFault: it does not answer.
            Unfit: it is not what the user asked for.
        """
        async with self.client:
            await self.client.describe()
            await self.probe(options)

    async def probe(self, options: GenerationOptions) -> None:
        """Try out the server, and print what the user should know about it; raises what `inspect` raises."""

        async def try_twice() -> list[str]:
            with contextlib.suppress(ServerFault):  # some servers close a kept connection once; that is no fault
                return await probe(self.client, options)
            return await probe(self.client, options)

        trial, took = asyncio.ensure_future(try_twice()), f"took more than {PROBE_SECONDS:g} s"
        try:
            is_busy = not (await asyncio.wait({trial}, timeout=PROBE_SECONDS))[0] and await self._generates(trial)
            if trial.done():
                remarks = trial.result()
            elif is_busy:
                remarks = [f"it is busy with the requests of others: a few short samples {took}, so it was not tested"]
            else:
                raise ServerFault(f"it reports its model, but a few short samples {took}")
        finally:
            trial.cancel()
        for remark in remarks:
            announce(f"{self.client.url}: {remark}")
        self.was_probed = True

    async def describes_itself(self) -> bool:
        """Whether the server answers a GET now; raises Unfit if it has become something else."""
        try:
            await asyncio.wait_for(self.client.describe(), CONNECT_SECONDS)
        except (ServerFault, asyncio.TimeoutError):
            return False
        self._last_sign = time.monotonic()
        return True

    async def _is_alive(self) -> bool:
        """Whether the server has answered anything lately, or answers a GET now. All its requests share the GET."""
        if time.monotonic() - self._last_sign < WATCH_SECONDS:
            return True
        if self._sign_of_life is None or self._sign_of_life.done():
            self._sign_of_life = self.in_background(self._shows_life())
        with contextlib.suppress(Unfit):  # the fleet notices when it looks at the resting replica
            return await asyncio.shield(self._sign_of_life)
        return False

    async def _shows_life(self) -> bool:
        """`describes_itself`; notes whether the server has generated anything since the last time."""
        is_there, before = await self.describes_itself(), self._generated
        if is_there and await self._has_generated():
            self._last_work = time.monotonic()
        elif is_there and before is not None and self._generated is not None:
            self._idle_at = time.monotonic()
        return is_there

    def _lost(self, started: float) -> bool:
        """Whether a request from then waits on a connection that leads nowhere: the server has been gone since, and is
        back with nothing to do. One that was only too slow to answer a GET generates, and its requests go on."""
        return started < self.gone_at < self._idle_at and self._last_work < self.gone_at

    async def _has_generated(self) -> bool:
        """Whether the server has generated since this was last asked, for whomever; False if it does not say."""
        before, self._generated = self._generated, await self.client.generated()
        return before is not None and self._generated is not None and self._generated > before

    async def _generates(self, ours: asyncio.Future[Any]) -> bool:
        """Whether the server generates something while a request of ours waits; it is watched until that ends."""
        await self._has_generated()
        await asyncio.wait({ours}, timeout=WATCH_SECONDS)
        return await self._has_generated()

    # Generating -------------------------------------------------------------------------------------------------------

    async def complete(self, request: CompletionRequest) -> list[Completion]:
        """One try of a request, with a deadline and checks that the server is alive; raises as `Client` does.

        The deadline moves while the server answers other requests, or says that it generates for other clients: 160
        requests to a laptop wait for each other, and TGI, vLLM and serve.py admit what comes first.
        """
        started = time.monotonic()
        patience = BASE_SECONDS + SECONDS_PER_TOKEN * request.max_new_tokens

        def left() -> float:
            busy_until = min(max(started, self._last_work), started + (MOST_DEADLINES - 1) * patience)
            return busy_until + patience - time.monotonic()

        task = asyncio.ensure_future(self.client.ask(request))
        try:
            while not (await asyncio.wait({task}, timeout=min(WATCH_SECONDS, max(0.0, left()))))[0]:
                if left() <= 0:
                    raise ServerFault("no answer before the deadline", f"{time.monotonic() - started:.0f} s")
                if not await self._is_alive():
                    detail = f"it has sent nothing for {WATCH_SECONDS:.0f} s and does not answer a GET"
                    raise Unreachable("no sign of life", detail)
                if self._lost(started):
                    raise Unreachable("gone while it answered", "it is back, and generates nothing")
        finally:
            task.cancel()
        completions = task.result()
        self.faults_in_a_row, self.rest_seconds, self._refusal_seconds = 0, REST_SECONDS, REFUSAL_SECONDS
        self._last_sign = self._last_work = time.monotonic()
        self.window.on_answer(self._last_sign - started, max(each.generated_tokens for each in completions))
        return completions

    def on_busy(self, busy: Busy, *, alone: bool) -> float:
        """A request was refused for lack of a place. Returns the seconds for which the server gets no others.

        One that is not `alone` and only refuses would look like the least loaded, and get every request.
        """
        self._last_sign = time.monotonic()
        self.window.on_refusal()
        pause = min(busy.retry_after or 0.0, MAX_RETRY_AFTER_SECONDS)
        if not alone and self._last_sign >= self._paused_until:  # what was sent before is refused as one
            pause = max(pause, self._refusal_seconds)
            self._refusal_seconds = min(MAX_REFUSAL_SECONDS, 2 * self._refusal_seconds)
        self._paused_until = max(self._paused_until, self._last_sign + pause)
        return pause

    def resume(self) -> None:
        """The server is back after a rest: send one request at first."""
        self.resting, self.faults_in_a_row = False, 0
        self.window.maximum = self.places
        self.window.restart()


def announce(sentence: str) -> None:
    """Tell the user about the servers, on standard error."""
    tell(f"endpoint: {sentence}")
