"""A server without a model: TGI's interface and OpenAI's, with TGI's batching, limits and refusals.

    with simulated(max_concurrent_requests=7) as server:        # in a thread of the test's own process
        Endpoint(GenerationOptions(endpoint=(server.url,)))
        server.bodies, server.most_running                      # what was asked, and how much at a time

    python -m tests.fakes.server --port 8090 --seconds-per-token 0.004

`places` requests are computed at a time, each for `seconds_per_token` times its length; when one ends, the next takes
its place (continuous batching). Lengths are drawn by prompt and seed from a log-normal distribution: most answers are
short, and a few run into `max_new_tokens`. More than `max_concurrent_requests` are refused with 429, as TGI does; so is
a share of `refusals` of the others while at least half of the places are taken. The text of an answer is drawn by the
prompt, the seed and the number of the sample, so that a client can tell whether it got its own (`expected`).

Faults are a test's own: a `hook(request, body, number)` sees each generation request before it is answered. It may
change the body, which makes the server ignore what it was asked, or return an answer of its own.
"""

import asyncio
import contextlib
import json
import random
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import tyro
from aiohttp import web

from selfalign.ids import derived_seed

WORDS = [f" w{n}" for n in range(64)]
TOKENS = {word: json.dumps({"id": n, "text": word, "logprob": -1.5, "special": False}) for n, word in enumerate(WORDS)}
MEDIAN_TOKENS, SIGMA = 220, 0.7  # mean 270; 1.5 % of the answers are longer than 1,000 tokens
TEST_MEDIAN_TOKENS = 8
PROBE_REQUESTS = 4  # our client's, before the work: they do not count as occupancy

Hook = Callable[[web.Request, dict[str, Any], int], Awaitable[web.StreamResponse | None]]


@dataclass
class Options:
    host: str = "127.0.0.1"
    port: int = 0
    places: int = 128
    max_concurrent_requests: int = 128
    seconds_per_token: float = 0.0
    refusals: float = 0.0
    median_tokens: int = MEDIAN_TOKENS
    max_total_tokens: int = 8192
    model: str = "simulated/model"
    has_info: bool = True
    """Whether /info says what it should; if not, it is as empty as /health."""
    template_tokens: tuple[str, ...] = ()
    """The tokens of a prompt with its chat template, if /tokenize shows them."""
    list_tokens: bool = True
    """Whether each answer lists its tokens, as TGI's do: most of what a client has to parse."""


def length_of(prompt: str, seed: int, max_new_tokens: int, median: int = MEDIAN_TOKENS) -> int:
    """How many tokens the answer to `prompt` has."""
    drawn = random.Random(f"length {seed} {prompt}").lognormvariate(0, SIGMA)
    return max(1, min(max_new_tokens, round(median * drawn)))


def draw_tokens(prompt: str, seed: int, length: int, greedy: bool = False) -> list[str]:
    """The tokens of the answer to `prompt`."""
    return random.Random(prompt if greedy else f"{seed} {prompt}").choices(WORDS, k=length)


def expected(prompt: str, seed: int, number: int = 0, *, max_new_tokens: int = 16, api: str = "tgi") -> str:
    """The text of sample `number` when `Endpoint.sample` is called with `prompt` and `seed`."""
    asked = derived_seed(seed, number) if api == "tgi" else derived_seed(seed, 0) + number
    return "".join(draw_tokens(prompt, asked, length_of(prompt, asked, max_new_tokens, TEST_MEDIAN_TOKENS)))


class Simulation:
    """The server from one start to the next."""

    def __init__(self, options: Options, hook: Hook | None = None) -> None:
        self.options, self.hook = options, hook
        self.batch = asyncio.Semaphore(options.places)
        self.running = self.requests = self.most_running = self.generated = 0
        self.bodies: list[dict[str, Any]] | None = None  # a list here gathers the bodies of generation requests
        self.draws = random.Random(0)
        self.busy, self.busy_seconds, self.since = 0, 0.0, time.monotonic()
        self.first_arrival = self.last_arrival = self.busy_seconds_then = 0.0

    async def serve(self) -> web.AppRunner:
        """Start listening, at a free port if `options.port` is 0."""
        app = web.Application(client_max_size=32 * 1024**2)
        app.router.add_get("/info", self.info if self.options.has_info else self.health)
        app.router.add_get("/health", self.health)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_get("/occupancy", self.occupancy)
        app.router.add_get("/v1/models", self.models)
        app.router.add_post("/tokenize", self.tokenize)
        app.router.add_post("/", self.tgi)
        app.router.add_post("/generate", self.tgi)
        app.router.add_post("/v1/completions", self.openai)
        app.router.add_post("/v1/chat/completions", self.openai)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.2, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, self.options.host, self.options.port, backlog=1024).start()
        self.options.port = runner.addresses[0][1]
        return runner

    async def info(self, _: web.Request) -> web.Response:
        total, at_a_time = self.options.max_total_tokens, self.options.max_concurrent_requests
        who = {"model_id": self.options.model, "model_sha": "0" * 40, "router": "simulation", "version": "3.3.6-dev0"}
        limits = {"max_input_tokens": total - 1, "max_total_tokens": total, "max_concurrent_requests": at_a_time}
        others = {"max_best_of": 1, "max_stop_sequences": 4, "max_client_batch_size": 1, "validation_workers": 1}
        return web.json_response(who | limits | others)

    async def health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def metrics(self, _: web.Request) -> web.Response:
        """The counters of TGI and of vLLM, which grow with each answer here."""
        tgi = f'tgi_batch_inference_success{{method="decode"}} {self.generated}'
        return web.Response(text=f'{tgi}\nvllm:generation_tokens_total{{model_name="x"}} {self.generated:.1f}\n')

    async def models(self, _: web.Request) -> web.Response:
        model = {"id": self.options.model, "object": "model", "created": 0, "owned_by": "simulation"}
        return web.json_response({"object": "list", "data": [model]})

    async def tokenize(self, request: web.Request) -> web.Response:
        body = await request.json()
        if "messages" in body:  # a chat, as vLLM takes it: only a model that thinks tells its tokens
            if not self.options.template_tokens:
                return web.json_response({"error": "no inputs"}, status=422)
            tokens = self.options.template_tokens
            count = {"count": len(tokens), "max_model_len": self.options.max_total_tokens}
            return web.json_response(count | {"tokens": [0] * len(tokens), "token_strs": list(tokens)})
        words = body["inputs"].split()
        return web.json_response([{"id": 0, "text": word, "start": 0, "stop": 0} for word in words])

    async def tgi(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if answer := await self._hooked(request, body):
            return answer
        prompt, asked = body["inputs"], body["parameters"]
        if refusal := self._refusal(prompt, asked["max_new_tokens"]):
            status, kind, message = refusal
            return web.json_response({"error": message, "error_type": kind}, status=status)
        greedy, seed = not asked.get("do_sample"), asked.get("seed") or 0
        text, words, reason = await self._generate(prompt, seed, asked["max_new_tokens"], asked.get("stop"), greedy)
        if asked.get("return_full_text", request.path == "/"):
            text = prompt + text
        # Joined by hand: a simulation must not need more time for an answer than the client for a request.
        details = (
            f'{{"finish_reason":"{reason}","generated_tokens":{len(words)},"seed":{seed},"prefill":[],'
            f'"tokens":[{",".join(TOKENS[word] for word in words if self.options.list_tokens)}]}}'
        )
        answer = f'{{"generated_text":{json.dumps(text)},"details":{details}}}'
        return web.Response(text=f"[{answer}]" if request.path == "/" else answer, content_type="application/json")

    async def openai(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if answer := await self._hooked(request, body):
            return answer
        chat = "messages" in body
        prompt = body["messages"][-1]["content"] if chat else "".join(body["prompt"])  # a string, or a list of one
        if refusal := self._refusal(prompt, body["max_tokens"]):
            status, kind, message = refusal
            return web.json_response({"error": {"message": message, "type": kind, "code": status}}, status=status)
        greedy, seed = not body.get("temperature"), body.get("seed") or random.getrandbits(31)
        seeds = range(seed, seed + body.get("n", 1))
        samples = await asyncio.gather(
            *(self._generate(prompt, each, body["max_tokens"], body.get("stop"), greedy) for each in seeds)
        )
        choices = []
        for index, (text, _, reason) in enumerate(samples):
            content = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
            choices.append({"index": index, "finish_reason": "length" if reason == "length" else "stop", **content})
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": sum(len(words) for _, words, _ in samples)}
        usage["total_tokens"] = sum(usage.values())
        kind = "chat.completion" if chat else "text_completion"
        who = {"id": "x", "object": kind, "created": 0, "model": self.options.model, "system_fingerprint": "simulation"}
        return web.json_response({**who, "choices": choices, "usage": usage})

    async def _hooked(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse | None:
        self.requests += 1
        if self.bodies is not None:
            self.bodies.append(body)
        return await self.hook(request, body, self.requests) if self.hook else None

    def _refusal(self, prompt: str, max_new_tokens: int) -> tuple[int, str, str] | None:
        """Status, kind and message of a refusal."""
        total = self.options.max_total_tokens
        if len(prompt.split()) + max_new_tokens > total:
            return 422, "validation", f"Input validation error: `inputs` tokens + `max_new_tokens` must be <= {total}."
        loaded = self.running >= self.options.places / 2 and self.draws.random() < self.options.refusals
        if loaded or self.running >= self.options.max_concurrent_requests:
            return 429, "overloaded", "Model is overloaded"
        return None

    async def _generate(
        self, prompt: str, seed: int, max_new_tokens: int, stop: list[str] | None, greedy: bool
    ) -> tuple[str, list[str], str]:
        """Text, tokens and finish reason; a stop sequence ends the text and stays in it, as with TGI."""
        length = length_of(prompt, 0 if greedy else seed, max_new_tokens, self.options.median_tokens)
        words = draw_tokens(prompt, seed, length, greedy)
        text, reason = "".join(words), "length" if length == max_new_tokens else "eos_token"
        if ends := [text.find(s) + len(s) for s in stop or [] if s in text]:
            text, reason = text[: min(ends)], "stop_sequence"
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            self._arrived()
            async with self.batch:
                self._occupy(1)
                try:
                    await asyncio.sleep(length * self.options.seconds_per_token)
                finally:
                    self._occupy(-1)
        finally:
            self.running -= 1
        self.generated += len(words)
        return text, words, reason

    # How well the places are used -------------------------------------------------------------------------------------

    async def occupancy(self, _: web.Request) -> web.Response:
        """The mean share of places taken, from the first request to the arrival of the last one."""
        seconds = self.last_arrival - self.first_arrival
        return web.json_response({"occupancy": self.busy_seconds_then / max(1e-9, seconds) / self.options.places})

    def _occupy(self, change: int) -> None:
        now = time.monotonic()
        self.busy_seconds += self.busy * (now - self.since)
        self.busy, self.since = self.busy + change, now

    def _arrived(self) -> None:
        self._occupy(0)
        if self.requests <= PROBE_REQUESTS:
            self.busy_seconds, self.first_arrival = 0.0, self.since
        self.last_arrival, self.busy_seconds_then = self.since, self.busy_seconds


class SimulatedServer:
    """A simulation in a thread, which can be killed and started again at the same address."""

    def __init__(self, hook: Hook | None = None, **options: Any) -> None:
        self.hook, self.options = hook, Options(**{"median_tokens": TEST_MEDIAN_TOKENS, **options})
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.start()
        self.url = f"http://127.0.0.1:{self.options.port}"

    def start(self) -> None:
        """Start, with no requests so far: `bodies` will hold those for answers."""
        self._simulation = Simulation(self.options, self.hook)
        self.bodies = self._simulation.bodies = []
        self._runner = self._run(self._simulation.serve())

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def stop(self) -> None:
        """Break off all connections, as when the process is killed."""

        async def stop() -> None:
            for connection in list(self._runner.server.connections):
                if connection.transport:
                    connection.transport.abort()
            await self._runner.cleanup()

        self._run(stop())

    async def stop_listening(self) -> None:
        """Refuse new connections; those that are there go on."""
        for site in list(self._runner.sites):
            await site.stop()

    @property
    def most_running(self) -> int:
        """The most requests that ran or waited at a time."""
        return self._simulation.most_running


@contextlib.contextmanager
def simulated(hook: Hook | None = None, **options: Any) -> Iterator[SimulatedServer]:
    """A `SimulatedServer` with these `Options`."""
    server = SimulatedServer(hook, **options)
    try:
        yield server
    finally:
        with contextlib.suppress(Exception):  # it may be stopped already
            server.stop()
        server.loop.call_soon_threadsafe(server.loop.stop)


async def main(options: Options) -> None:
    """Serve until killed."""
    await Simulation(options).serve()
    print(f"listening on http://{options.host}:{options.port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(tyro.cli(Options, description=__doc__)))
