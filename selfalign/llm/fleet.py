"""The replicas of an endpoint: which of them gets a request, and what happens when one of them fails.

A request goes to the replica with the smallest share of its places taken. A replica that fails is left alone for a
while and then tried again; meanwhile its requests go to the others, or wait if there are none.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections import deque

from selfalign.errors import RowOpen, UserError
from selfalign.llm.client import Busy, PromptTooLong, RequestRefused, ServerFault, Unfit, Unreachable
from selfalign.llm.completion import PROMPT_TOO_LONG, Completion, CompletionRequest
from selfalign.llm.replica import MAX_REST_SECONDS, Replica, announce
from selfalign.llm.usage import Usage
from selfalign.options import GenerationOptions

TRIES = 8  # of one request that servers fail on; refusals for lack of a place do not count
BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.5, 30.0  # between two tries: doubling, with jitter
MIN_FAULTS_IN_A_ROW = 3  # before a replica is rested


class Fleet:
    """The replicas, and the requests that wait for one. Call `inspect` first, then enter it as a context manager.

    `identity` is the model that all of them serve, and its revision.
    """

    identity: tuple[str, str | None]

    def __init__(self, replicas: list[Replica], options: GenerationOptions, usage: Usage) -> None:
        self.replicas, self.options, self.usage = replicas, options, usage

    async def inspect(self) -> None:
        """Ask all servers for their limits, and probe them.

        Raises:
            UserError: none answers, one is unfit, or they serve different models.
        """
        inspections = (replica.inspect(self.options) for replica in self.replicas)
        problems = await asyncio.gather(*inspections, return_exceptions=True)
        for replica, problem in zip(self.replicas, problems, strict=True):
            if isinstance(problem, ServerFault):
                replica.resting = True
                sentence = (
                    f"no endpoint answers at {replica.client.url} ({problem}): start TGI or vLLM there, or "
                    "`python serve.py` on a laptop"
                )
                if all(isinstance(each, ServerFault) for each in problems):
                    raise UserError(sentence)
                announce(sentence)
            elif isinstance(problem, Unfit):
                raise UserError(str(problem))
            elif problem:
                raise problem
        self.identity = self.first.identity
        for replica in self.replicas:
            if not replica.resting and replica.identity != self.identity:
                described = (f"{r.client.url} {r.client.model} ({r.client.revision})" for r in (self.first, replica))
                raise UserError(f"the endpoints serve different models: {' and '.join(described)}")

    @property
    def first(self) -> Replica:
        """The first replica that answers."""
        return next(replica for replica in self.replicas if not replica.resting)

    async def __aenter__(self) -> Fleet:
        self._waiting: deque[asyncio.Future[Replica]] = deque()
        # When the last of the servers failed, or has answered since. The seconds before do not count: the first answers
        # may take longer than the patience.
        self._silent_since: float | None = None
        self._refused_since: float | None = None  # the first refusal after the last answer
        self._stack = contextlib.AsyncExitStack()
        for replica in self.replicas:
            await self._stack.enter_async_context(replica)
            if replica.resting:
                replica.in_background(self._revive(replica))
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def complete(self, request: CompletionRequest) -> list[Completion]:
        """The samples of one request, from whichever replica has room, trying again after faults and refusals.

        Raises:
            RowOpen: servers failed on it `TRIES` times, rejected it, or had no room for `options.patience` seconds,
                for this request or for any.
        """
        faults = refusals = 0
        refused_since = 0.0
        while True:
            replica = await self._take_place(is_retry=faults + refusals > 0)
            sent = time.monotonic()
            try:
                completions = await replica.complete(request)
                # An answer may still arrive after the server was found to be gone.
                self._silent_since = time.monotonic() if self._all_rest() else None
                self._refused_since = None
                self.usage.count(completions, time.monotonic() - sent)
                return completions
            except PromptTooLong:
                return [Completion("", PROMPT_TOO_LONG, 0)] * request.n
            except Busy as busy:
                self._on_busy(replica, busy)
                refusals += 1
                refused_since = refused_since or time.monotonic()
                self._refused_since = self._refused_since or time.monotonic()
                if time.monotonic() - min(refused_since, self._refused_since) > self.options.patience:
                    raise RowOpen(f"{replica.client.url} has been busy for {self.options.patience:.0f} s") from None
            except ServerFault as fault:
                self._on_fault(replica, fault, sent)
                faults += 1
                if faults == TRIES or isinstance(fault, RequestRefused):
                    raise RowOpen(f"failed {faults} times, last at {replica.client.url} with {fault}") from None
            finally:
                self._give_back_place(replica)
            backoff = min(MAX_BACKOFF_SECONDS, BACKOFF_SECONDS * 2.0 ** (faults + refusals - 1))
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))

    # Places -----------------------------------------------------------------------------------------------------------

    async def _take_place(self, *, is_retry: bool) -> Replica:
        """Wait for a place at the least loaded replica; retries are served before first tries."""
        if replica := self._least_loaded():
            replica.window.in_flight += 1
            return replica
        if reason := self._reason_to_give_up():
            raise RowOpen(reason)
        waiter: asyncio.Future[Replica] = asyncio.get_running_loop().create_future()
        (self._waiting.appendleft if is_retry else self._waiting.append)(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self._give_back_place(waiter.result())
            raise

    def _give_back_place(self, replica: Replica) -> None:
        replica.window.in_flight -= 1
        self._fill_places()

    def _fill_places(self) -> None:
        """Give free places to waiting requests."""
        while self._waiting and (replica := self._least_loaded()):
            waiter = self._waiting.popleft()
            if not waiter.done():
                replica.window.in_flight += 1
                waiter.set_result(replica)

    def _least_loaded(self) -> Replica | None:
        available = [replica for replica in self.replicas if replica.is_available()]
        return min(available, key=lambda replica: replica.window.load, default=None)

    # Faults -----------------------------------------------------------------------------------------------------------

    def _on_busy(self, replica: Replica, busy: Busy) -> None:
        self.usage.faults[busy.kind] += 1
        if pause := replica.on_busy(busy, alone=len(self.replicas) == 1):
            asyncio.get_running_loop().call_later(pause + 0.01, self._fill_places)

    def _on_fault(self, replica: Replica, fault: ServerFault, sent: float) -> None:
        self.usage.faults[fault.kind] += 1
        if isinstance(fault, RequestRefused) or sent < replica.gone_at:
            return  # only this request is at fault; or it was lost with the others, and the server may be back by now
        replica.faults_in_a_row += 1
        # As many as are in flight: a proxy that breaks one connection in three is no reason to rest a server.
        too_many = replica.faults_in_a_row >= max(MIN_FAULTS_IN_A_ROW, replica.window.in_flight)
        if not replica.resting and (too_many or isinstance(fault, Unreachable)):
            replica.resting = True
            if isinstance(fault, Unreachable):
                replica.gone_at = time.monotonic()
            announce(f"{replica.client.url} is not used for a while: {fault}")
            if self._all_rest():
                self._silent_since = self._silent_since or time.monotonic()
                announce(f"no endpoint is left: waiting up to {self.options.patience:.0f} s for one to come back")
            replica.in_background(self._revive(replica))

    async def _revive(self, replica: Replica) -> None:
        """Leave a replica alone until it describes itself as before, then use it again."""
        while not await self._is_back(replica):
            if reason := self._reason_to_give_up():
                for waiter in self._waiting:
                    if not waiter.done():
                        waiter.set_exception(RowOpen(reason))
                self._waiting.clear()
            if replica.unfit:
                return
        replica.resume()
        self._fill_places()
        announce(f"{replica.client.url} answers again")

    async def _is_back(self, replica: Replica) -> bool:
        """Whether a resting replica is what it was, after a pause that doubles each time."""
        await asyncio.sleep(replica.rest_seconds * random.uniform(0.5, 1.0))
        replica.rest_seconds = min(MAX_REST_SECONDS, 2 * replica.rest_seconds)
        client = replica.client
        try:
            if not await replica.describes_itself():
                return False
            if replica.identity != self.identity:
                raise Unfit(f"{client.url} now serves {client.model} ({client.revision})")
            if not replica.was_probed:
                await replica.probe(self.options)
        except ServerFault:
            return False
        except Unfit as error:
            replica.unfit = True
            announce(f"{error}; it is no longer used")
            return False
        return True

    def _all_rest(self) -> bool:
        return all(replica.resting for replica in self.replicas)

    def _reason_to_give_up(self) -> str | None:
        if all(replica.unfit for replica in self.replicas):
            return "no endpoint is left that serves the model this run began with"
        silent = time.monotonic() - (self._silent_since or math.inf)
        if self._all_rest() and silent > self.options.patience:
            return f"no endpoint has answered for {self.options.patience:.0f} s"
        return None
