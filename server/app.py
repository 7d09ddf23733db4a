"""TGI's HTTP interface before an `Engine`: routes, limits, answers."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from aiohttp import web

from server.chat import chat_answer, check_chat, prompt_of
from server.completion import Completion, FinishReason
from server.engine import Engine
from server.validation import MAX_STOP_SEQUENCES, Parameters, TgiError, check, invalid

MAX_BODY_BYTES = 32 * 1024**2
DEFAULT_MAX_NEW_TOKENS = 1024  # where there is room for them
VERSION = "3.3.6-dev0"  # of TGI, whose contract this is
TEMPERATURES = (1e-30, 1e30)  # with others, scores are no numbers in float32 any more; these do the same

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Limits:
    """How much may be asked for, in requests and tokens; /info shows it."""

    max_concurrent_requests: int
    max_input_tokens: int
    max_total_tokens: int


class App:
    """The handlers of the routes. Everything slow happens in the engine's thread, or in a thread for the tokenizer."""

    def __init__(self, engine: Engine, limits: Limits, model_id: str):
        self.engine, self.limits, self.model_id = engine, limits, model_id
        self.tokenizer = engine.tokenizer.backend_tokenizer
        self.tokenizer.no_truncation()  # a tokenizer keeps the length to which its training data was cut and filled up
        self.tokenizer.no_padding()
        self.running = 0

    def application(self) -> web.Application:
        app = web.Application(middlewares=[errors_as_json], client_max_size=MAX_BODY_BYTES)
        app.add_routes(
            [
                web.post("/generate", self.generate),
                web.post("/generate_stream", self.generate_stream),
                web.post("/", self.compatible),
                web.post("/v1/chat/completions", self.chat),
                web.get("/v1/models", self.models),
                web.post("/tokenize", self.tokenize),
                web.get("/info", self.info),
                web.get("/health", self.health),
                web.get("/metrics", self.metrics),
            ]
        )
        return app

    async def info(self, _: web.Request) -> web.Response:
        model = {
            "model_id": self.model_id,
            "model_sha": None,
            "model_pipeline_tag": "text-generation",
            "model_dtype": str(self.engine.model.dtype).removeprefix("torch."),
            "model_device_type": self.engine.model.device.type,
        }
        limits = {"max_best_of": 1, "max_stop_sequences": MAX_STOP_SEQUENCES, "max_client_batch_size": 1}
        router = {"validation_workers": 1, "router": "selfalign-serve", "version": VERSION, "sha": None}
        return web.json_response({**model, **asdict(self.limits), **limits, **router})

    async def health(self, _: web.Request) -> web.Response:
        if not self.engine.thread.is_alive():
            raise TgiError(503, "healthcheck", "unhealthy")
        return web.Response()

    async def metrics(self, _: web.Request) -> web.Response:
        """GET /metrics, in Prometheus' format: that the model works, and how much it has to do. TGI has more."""
        engine = self.engine
        texts = ["# TYPE tgi_batch_inference_success counter"]
        texts += [f'tgi_batch_inference_success{{method="{name}"}} {n}' for name, n in engine.inferences.items()]
        texts += ["# TYPE tgi_batch_current_size gauge", f"tgi_batch_current_size {len(engine.rows)}"]
        waiting = engine.inbox.qsize() + len(engine.waiting)
        texts += ["# TYPE tgi_queue_size gauge", f"tgi_queue_size {waiting}", ""]
        return web.Response(text="\n".join(texts))

    async def tokenize(self, request: web.Request) -> web.Response:
        inputs, _ = await asked_by(request)
        encoding = await asyncio.to_thread(self.tokenizer.encode, inputs)
        rows = zip(encoding.ids, encoding.offsets, strict=True)
        return web.json_response(
            [{"id": id, "text": inputs[start:stop], "start": start, "stop": stop} for id, (start, stop) in rows]
        )

    async def generate(self, request: web.Request) -> web.Response:
        inputs, parameters = await asked_by(request)
        return web.json_response(await self.answer(inputs, parameters, bool(parameters.return_full_text)))

    async def generate_stream(self, _: web.Request) -> web.Response:
        raise invalid("serve.py does not support streaming: use /generate")

    async def compatible(self, request: web.Request) -> web.Response:
        """POST /, which huggingface_hub's clients use: repeats the prompt unless `return_full_text` is false."""
        inputs, parameters = await asked_by(request)
        return web.json_response([await self.answer(inputs, parameters, parameters.return_full_text is not False)])

    async def chat(self, request: web.Request) -> web.Response:
        """POST /v1/chat/completions: OpenAI's chat, as TGI has it. The chat template writes the special tokens."""
        messages, arguments, parameters = check_chat(await body_of(request))
        prompt = await asyncio.to_thread(prompt_of, self.engine.tokenizer, messages, arguments)
        completion, text, reason = await self.completed(prompt, parameters, add_special_tokens=False)
        return web.json_response(chat_answer(self.model_id, VERSION, completion, text, reason))

    async def models(self, _: web.Request) -> web.Response:
        """GET /v1/models: the one model, which OpenAI's clients ask for first."""
        model = {"id": self.model_id, "object": "model", "created": 0, "owned_by": self.model_id}
        return web.json_response({"object": "list", "data": [model]})

    async def answer(self, inputs: str, parameters: Parameters, repeat_prompt: bool) -> dict[str, Any]:
        """What a request for a completion is answered."""
        completion, text, finish_reason = await self.completed(inputs, parameters)
        answer: dict[str, Any] = {"generated_text": inputs + text if repeat_prompt else text}
        if parameters.details:
            tokens = [asdict(token) for token in completion.tokens]
            ending = {"finish_reason": finish_reason, "generated_tokens": len(tokens), "seed": completion.seed}
            answer["details"] = {**ending, "prefill": [], "tokens": tokens}
        return answer

    async def completed(
        self, inputs: str, parameters: Parameters, add_special_tokens: bool = True
    ) -> tuple[Completion, str, FinishReason]:
        """The completion of a prompt, its text, and why it ended. A client that hangs up cancels it."""
        if self.running >= self.limits.max_concurrent_requests:
            raise TgiError(429, "overloaded", "Model is overloaded")
        self.running += 1
        try:
            encode = partial(self.tokenizer.encode, add_special_tokens=add_special_tokens)
            prompt = (await asyncio.to_thread(encode, inputs)).ids
            completion = self.completion_of(prompt, parameters)
            self.engine.submit(completion)
            try:
                finish_reason = await asyncio.wrap_future(completion.future)
            except Exception as error:
                message = f"Request failed during generation: {type(error).__name__}: {error}"
                raise TgiError(424, "generation", message) from error
        finally:
            self.running -= 1
        return completion, self.text_of(completion, finish_reason), finish_reason

    def completion_of(self, prompt: list[int], parameters: Parameters) -> Completion:
        """What the engine is to compute for a prompt in tokens; TgiError if that is too long."""
        if parameters.truncate:
            prompt = prompt[-parameters.truncate :]
        limits, length = self.limits, len(prompt)
        if not length:
            raise invalid("`inputs` cannot be empty")
        if length > limits.max_input_tokens:
            raise invalid(f"`inputs` must have less than {limits.max_input_tokens} tokens. Given: {length}")
        room = limits.max_total_tokens - length
        max_new_tokens = parameters.max_new_tokens or max(1, min(DEFAULT_MAX_NEW_TOKENS, room))
        if max_new_tokens > room:
            raise invalid(
                f"`inputs` tokens + `max_new_tokens` must be <= {limits.max_total_tokens}. "
                f"Given: {length} `inputs` tokens and {max_new_tokens} `max_new_tokens`"
            )
        seed = random.getrandbits(63) if parameters.seed is None else parameters.seed
        return Completion(
            prompt=prompt,
            max_new_tokens=max_new_tokens,
            seed=seed if parameters.is_sampling() else None,
            temperature=1.0 if parameters.temperature is None else within(*TEMPERATURES, parameters.temperature),
            top_k=parameters.top_k,
            top_p=parameters.top_p,
            stop=parameters.stop,
        )

    def text_of(self, completion: Completion, finish_reason: FinishReason) -> str:
        """The generated text without special tokens; if a stop sequence ended it, up to and including that."""
        before = completion.context
        text = self.tokenizer.decode(before + [token.id for token in completion.tokens])
        text = text[len(self.tokenizer.decode(before)) :]
        if finish_reason == "stop_sequence":
            ends = [text.find(stop) + len(stop) for stop in completion.stop if stop in text]
            text = text[: min(ends, default=len(text))]
        return text


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns a TgiError into an answer."""
    try:
        return await handler(request)
    except TgiError as error:
        return web.json_response({"error": str(error), "error_type": error.error_type}, status=error.status)


def within(least: float, most: float, number: float) -> float:
    """The number, or the nearest one that is allowed."""
    return float(min(max(number, least), most))


async def body_of(request: web.Request) -> Any:
    """The body of a request; TgiError if it is not JSON."""
    try:
        return await request.json()
    except (ValueError, LookupError, RecursionError):  # LookupError: a charset that nobody knows
        raise invalid("the body is not JSON") from None


async def asked_by(request: web.Request) -> tuple[str, Parameters]:
    """The prompt and the parameters of a request for a completion; TgiError if it can't be taken."""
    return check(await body_of(request))
