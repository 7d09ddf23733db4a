"""What a step calls: one object for all the servers of --endpoint.

endpoint = Endpoint(options)                          # asks each server for its limits and probes it
async with endpoint:
    samples = await endpoint.sample(prompt, 10, max_new_tokens=512, seed=1, stop=["###"])
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from selfalign.errors import UserError
from selfalign.ids import derived_seed
from selfalign.llm.client import Client
from selfalign.llm.completion import Completion, CompletionRequest
from selfalign.llm.concurrency import CongestionWindow
from selfalign.llm.fleet import Fleet
from selfalign.llm.openai import OpenAIClient
from selfalign.llm.probe import Suspicions
from selfalign.llm.replica import Replica, announce
from selfalign.llm.tgi import TgiClient
from selfalign.llm.usage import Usage, total
from selfalign.options import GenerationOptions

DEFAULT_ENDPOINT = "http://127.0.0.1:8080"
SPARE_ROWS = 1.25  # rows in flight per place, so that no place stays empty while refused requests wait


class Endpoint:
    """The servers of `options.endpoint`, which are inspected when this object is made.

    Enter it as an async context manager to generate.

    Attributes:
        window: how many rows a step should have in flight, if each asks for `samples_a_row` samples.
        model: what the servers serve.
        identity: `model` and `revision`, as part of the identity of a run.

    Raises:
        UserError: no server answers; or one has another interface or model than the user asked for, serves another
            model than the others, or does not do what it is asked to do (`selfalign.llm.probe`).
    """

    def __init__(self, options: GenerationOptions, *, samples_a_row: int = 1) -> None:
        self.options = options
        if options.chat_template_kwargs and options.api != "chat":
            raise UserError(
                f"--chat-template-kwargs needs --api chat: --api {options.api} sends prompts as they are, without a "
                "chat template"
            )
        self.usage = Usage()
        clients = [client_for(url, options) for url in options.endpoint or (DEFAULT_ENDPOINT,)]
        # By the client's own URL, since a server may be named with /v1 and without.
        replicas = [Replica(client) for client in {client.url: client for client in clients}.values()]
        self._fleet = Fleet(replicas, options, self.usage)
        asyncio.run(self._fleet.inspect())
        self.model, revision = self._fleet.identity
        self.identity: dict[str, str | None] = {"model": self.model, "revision": revision}
        self._takes_n = all(replica.client.takes_n for replica in replicas)
        samples_per_request = samples_a_row if self._takes_n else 1
        for replica in replicas:
            replica.samples_per_request = samples_per_request
            replica.window = CongestionWindow(replica.places)
        places = sum(replica.window.maximum for replica in replicas) * samples_per_request
        self.window = int(SPARE_ROWS * places / samples_a_row) + 1
        self._suspicions = Suspicions(options.temperature)

    def check_room(self, prompts: Sequence[str], max_new_tokens: int) -> None:
        """Check that one of a run's first `prompts` leaves room for `max_new_tokens`, if the server can count tokens.

        Prompts that are too long are outcomes of their rows: only if the shortest is, too, all others would be.

        Raises:
            UserError: even the shortest does not.
        """
        client, prompt = self._fleet.first.client, min(prompts, key=len)

        async def count() -> int | None:
            async with client:
                return await client.count_tokens(prompt)

        tokens = asyncio.run(count())
        if tokens is None:
            return
        if tokens + max_new_tokens > client.max_total_tokens or tokens > client.max_input_tokens:
            raise UserError(
                f"{client.model} at {client.url} accepts {client.max_input_tokens} prompt tokens and "
                f"{client.max_total_tokens} tokens in total, but of the first {len(prompts)} prompts, even the "
                f"shortest has {tokens} and asks for "
                f"{max_new_tokens} more: lower --shots or --max-new-tokens, or start the server with larger limits"
            )

    async def __aenter__(self) -> Endpoint:
        self.usage.start()
        await self._fleet.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.usage.stop()
        await self._fleet.__aexit__(*exc)

    async def generate(self, prompt: str, *, max_new_tokens: int, seed: int, stop: Sequence[str] = ()) -> Completion:
        """One completion of `prompt`."""
        return (await self.sample(prompt, 1, max_new_tokens=max_new_tokens, seed=seed, stop=stop))[0]

    async def sample(
        self, prompt: str, n: int, *, max_new_tokens: int, seed: int, stop: Sequence[str] = ()
    ) -> list[Completion]:
        """`n` completions of `prompt`, each cut before the first of the stop sequences.

        If the servers take `n`, this is one request; otherwise it is n requests with seeds derived from `seed`.

        Raises:
            RowOpen: the servers failed again and again; another run can do the row.
        """
        seeds = [derived_seed(seed, number) for number in range(n)]
        sampling = (self.options.temperature, self.options.top_p)
        request = CompletionRequest(prompt, max_new_tokens, seeds[0], n, tuple(stop), *sampling)
        completions = await self._fleet.complete(request) if self._takes_n or n == 1 else []
        if 0 < len(completions) < n and self._takes_n:
            self._takes_n = False
            self.usage.faults["gives one sample whatever n is asked for"] += 1
            announce(f"the server of {self.model} ignores `n`: from now on, each sample is a separate request")
        if missing := seeds[len(completions) :]:
            tasks = [asyncio.ensure_future(self._fleet.complete(replace(request, n=1, seed=each))) for each in missing]
            try:
                completions += [completion for (completion,) in await asyncio.gather(*tasks)]
            finally:
                for task in tasks:  # if one fails, the row stays open, and the other samples would be wasted
                    task.cancel()
        self._suspicions.look_at(completions)
        return completions

    def used(self) -> dict[str, Any]:
        """`Usage.since_last_call`, for the metadata of a part."""
        return self.usage.since_last_call()

    def report(self, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """`generation` in run.json and the card: how the servers were asked, and the sum of what `used` said of parts.

        Columns: api, replicas, seeds (sent, not sent, not needed), seconds, requests, tokens, faults (count by kind).
        """
        clients = [replica.client for replica in self._fleet.replicas]
        seeds = "sent" if all(client.takes_seeds for client in clients) else "not sent"
        if self.options.temperature == 0:
            seeds = "not needed"
        return {"api": self.options.api, "replicas": len(clients), "seeds": seeds, **total(parts)}

    def summary(self) -> str:
        """`Usage.summary`, for the progress line."""
        return self.usage.summary(sum(replica.window.in_flight for replica in self._fleet.replicas))


def client_for(url: str, options: GenerationOptions) -> Client:
    """A client of the server at `url`, whose interface is `options.api`."""
    return (TgiClient if options.api == "tgi" else OpenAIClient)(url, options)
