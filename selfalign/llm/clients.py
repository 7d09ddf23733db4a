"""What a server speaks: text-generation-inference's own interface, or OpenAI's completions and chat.

One object a server: it asks for the server's limits, sends one request, and turns what comes back into `Generation`s or
into one of four errors. Nothing that a server answers is taken on trust: `_checked` sees every text.

Clients. TGI is asked through `huggingface_hub.AsyncInferenceClient`, its own client. OpenAI's interface has no client
that fits: the Hub's has chat but no completions, and the openai package takes 2.5 ms of CPU a request with a 10 kB
prompt, 404 requests/s from one process, where one TGI replica with short answers takes more. Both are one POST of JSON,
so they are sent with httpx2, the HTTP client that comes with huggingface_hub.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import re
import ssl
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from selfalign.errors import check_secret
from selfalign.options import API_KEY_VARIABLE, GenerationOptions

if TYPE_CHECKING:
    import httpx2
    from huggingface_hub import AsyncInferenceClient

MAX_PORT = 65535
CONNECT_SECONDS = 10  # for a GET; a generation request may wait longer, on a client that is busy itself:
POST_CONNECT_SECONDS = 30
TGI_CONCURRENCY = 128  # TGI's max_concurrent_requests by default; more get 429
OPENAI_CONCURRENCY = 256  # samples; vLLM's max_num_seqs by default, as its API does not tell
MAX_STOP_SEQUENCES = 4  # TGI's default and OpenAI's limit; the rest is cut on our side
POOL_CONNECTIONS = 16  # for each request, httpx2 looks at all connections of its pool: small ones are cheaper
ECHO_CHARACTERS = 40  # a text that begins with a prompt of at least this length repeats it

PROMPT_TOO_LONG = "prompt_too_long"
# TGI's three, OpenAI's "stop" (a stop sequence or the end: it doesn't tell) and a provider's moderation. Others
# ("error", "abort", null) are answers that were not finished.
FINISH_REASONS = {"length", "eos_token", "stop_sequence", "stop", "content_filter"}
# The words of TGI, vLLM, SGLang, llama.cpp and OpenAI for a prompt that leaves no room.
TOO_LONG = re.compile(
    r"must have less than \d+ tokens|must be <= |context[ _](length|size|window)|maximum model length|too long"
    r"|longer than|max_tokens.{0,40}too large",
    re.IGNORECASE,
)
HUGGING_FACE = re.compile(r"https://([\w.-]+\.)?(huggingface\.co|huggingface\.cloud|hf\.co)(:443)?(/|$)")


@dataclass(frozen=True)
class Generation:
    """What came back: the text without its stop sequence, why it ended, and how many tokens it took.

    `finish_reason` is "stop_sequence", "eos_token", "stop" (one of these two), "length", "content_filter", or
    "prompt_too_long" (and then there is no text).
    """

    text: str
    finish_reason: str
    generated_tokens: int

    @property
    def is_cut_off(self) -> bool:
        """Whether there would be more: the limit of tokens was reached, or a provider's moderation stepped in."""
        return self.finish_reason in ("length", "content_filter")

    def failure(self, otherwise: str) -> str:
        """Why a row has nothing to go on with: the generation's own reason if it has one, else `otherwise`."""
        return self.finish_reason if self.finish_reason == PROMPT_TOO_LONG else otherwise


@dataclass(frozen=True)
class Request:
    """One request: `n` samples of `prompt`; a temperature of 0 is greedy decoding."""

    prompt: str
    max_new_tokens: int
    seed: int
    n: int = 1
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float | None = None


class ServerFault(Exception):
    """The server did not do what it was asked; `kind` is what is counted."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind


class Unreachable(ServerFault):
    """The server can't be reached, or shows no sign of life."""


class Busy(ServerFault):
    """429 or 503: the server has no place; `retry_after` in seconds if it says."""

    def __init__(self, kind: str, retry_after: float | None = None) -> None:
        super().__init__(kind)
        self.retry_after = retry_after


class Refused(ServerFault):
    """The server understood the request and does not take it."""


class Unfit(Exception):
    """The server is not what was asked for, or does not do what it is asked; said in one sentence."""


class PromptTooLong(Exception):
    """Prompt and answer do not fit into the model's context."""


class Server:
    """A server at `url`, and what is known about it once `describe` has been called.

    Enter it as an async context manager to talk to it.
    """

    takes_n = False  # several samples of a prompt in one request
    takes_seeds = True
    max_stop_sequences = MAX_STOP_SEQUENCES

    def __init__(self, url: str, options: GenerationOptions, token: str | None) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self.asked_model = options.model
        self.model: str = options.model or ""
        self.revision: str | None = None
        self.concurrency = options.concurrency or TGI_CONCURRENCY
        self.max_input_tokens = self.max_total_tokens = sys.maxsize
        self._given_concurrency = options.concurrency
        key = options.api_key or os.environ.get(API_KEY_VARIABLE)
        check_secret("--api-key", key)
        # Hugging Face's token goes to Hugging Face alone. "none": without a key, its client sends that token anywhere.
        self._key = key or (token if HUGGING_FACE.match(self.url) else None) or "none"

    async def __aenter__(self) -> Server:
        self._stack = contextlib.AsyncExitStack()
        self._http = await self._stack.enter_async_context(self._http_client())
        self._pools = [await self._pool() for _ in range(math.ceil(self.concurrency / POOL_CONNECTIONS))]
        self._in_flight = [0] * len(self._pools)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    def _http_client(self) -> httpx2.AsyncClient:
        import httpx2

        return httpx2.AsyncClient(
            headers={"authorization": f"Bearer {self._key}"},
            verify=_certificates(),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),  # the window is the limit
            follow_redirects=True,
            timeout=_timeout(),
        )

    @contextlib.contextmanager
    def _client(self) -> Iterator[Any]:
        """One of the pools for a request: the first that has a connection to spare, so that few are open."""
        spare = (i for i, requests in enumerate(self._in_flight) if requests < POOL_CONNECTIONS)
        chosen = next(spare, 0)
        self._in_flight[chosen] += 1
        try:
            yield self._pools[chosen]
        finally:
            self._in_flight[chosen] -= 1

    async def _pool(self) -> Any:
        """A client for generation requests, with connections of its own."""
        return await self._stack.enter_async_context(self._http_client())

    async def describe(self) -> None:
        """Ask the server for its model and limits.

        Raises:
            ServerFault: it does not answer.
            Unfit: it is something else, or serves another model than the one that was asked for.
        """
        raise NotImplementedError

    async def complete(self, request: Request) -> list[Generation]:
        """The samples of a request, at most `request.n`: some servers give one whatever they are asked.

        Raises:
            PromptTooLong, Busy, Refused, ServerFault
        """
        raise NotImplementedError

    async def count_tokens(self, prompt: str) -> int | None:
        """How many tokens the prompt is to the server; None if it does not say."""
        import httpx2

        try:
            answer = await self._http.post(f"{self.url}/tokenize", json={"inputs": prompt, "prompt": prompt})
            tokens = answer.raise_for_status().json()
            if isinstance(tokens, list):  # TGI's
                return len(tokens)
            return tokens["count"] if isinstance(tokens["count"], int) else None  # vLLM's
        except (httpx2.HTTPError, ValueError, KeyError, TypeError, RecursionError):
            return None

    async def _get(self, path: str) -> Any:
        """The JSON at `path`; None if the server answers something else."""
        import httpx2

        try:
            if (httpx2.URL(self.url).port or 0) > MAX_PORT:
                raise httpx2.InvalidURL(f"a port is at most {MAX_PORT}")
            answer = await asyncio.wait_for(self._http.get(f"{self.url}{path}"), CONNECT_SECONDS)
        except asyncio.TimeoutError:  # also of an answer that comes byte by byte
            raise Unreachable("no answer", f"{path} took over {CONNECT_SECONDS:g} s") from None
        except (httpx2.HTTPError, ssl.SSLError) as error:
            raise Unreachable(type(error).__name__, str(error)) from None
        except (httpx2.InvalidURL, UnicodeError) as error:
            raise Unfit(f"{self.url} is no URL ({error})") from None
        if answer.status_code == 429 or answer.status_code >= 500:
            raise ServerFault(f"{path} answers {answer.status_code}")
        if answer.status_code in (401, 403):
            raise Unfit(f"{self.url}{path} answers {answer.status_code}: it wants --api-key")
        try:
            return answer.json() if answer.status_code == 200 else None
        except (ValueError, RecursionError):
            return None


class Tgi(Server):
    """Text generation inference, through its own interface; serve.py speaks it too."""

    async def _pool(self) -> AsyncInferenceClient:
        from huggingface_hub import AsyncInferenceClient, set_async_client_factory

        # The Hub's default client keeps 100 connections at most, and refuses a server in the same room while
        # HF_HUB_OFFLINE is set.
        set_async_client_factory(self._http_client)
        client = AsyncInferenceClient(base_url=self.url, api_key=self._key)
        client.timeout = _timeout()  # type: ignore[assignment]
        self._stack.push_async_callback(client.close)
        return client

    async def describe(self) -> None:
        info = await self._get("/info")
        if not isinstance(info, dict) or not isinstance(info.get("model_id"), str):
            raise Unfit(
                f"{self.url} is not a text-generation-inference endpoint (no /info): vLLM, SGLang, llama.cpp and other "
                "servers are asked with --api completions or --api chat"
            )
        self.model, self.revision = info["model_id"], info.get("model_sha")
        if self.asked_model and self.asked_model != self.model:
            raise Unfit(f"{self.url} serves {self.model}, not {self.asked_model}")
        told = info.get("max_concurrent_requests") or TGI_CONCURRENCY
        self.concurrency = min(self._given_concurrency or told, told)
        self.max_total_tokens = info.get("max_total_tokens") or sys.maxsize
        self.max_input_tokens = info.get("max_input_tokens") or self.max_total_tokens
        self.max_stop_sequences = info.get("max_stop_sequences") or MAX_STOP_SEQUENCES

    async def complete(self, request: Request) -> list[Generation]:
        import httpx2
        from huggingface_hub.errors import HfHubHTTPError, InferenceTimeoutError, TextGenerationError

        sampling: dict[str, Any] = {"do_sample": True, "temperature": request.temperature, "seed": request.seed}
        if request.top_p is not None and request.top_p < 1:  # TGI refuses 1.0, which means no nucleus
            sampling["top_p"] = request.top_p
        try:
            with self._client() as client:
                output = await client.text_generation(
                    request.prompt,
                    details=True,
                    return_full_text=False,  # TGI's POST / repeats the prompt unless told not to
                    max_new_tokens=request.max_new_tokens,
                    stop=list(request.stop[: self.max_stop_sequences]),
                    **(sampling if request.temperature > 0 else {}),
                )
            details = output.details
            return [
                _checked(request, output.generated_text, details and details.finish_reason, details.generated_tokens)
            ]
        except (HfHubHTTPError, TextGenerationError) as error:
            response = getattr(error if isinstance(error, HfHubHTTPError) else error.__cause__, "response", None)
            if response is None:
                raise ServerFault(type(error).__name__, str(error)) from None
            raise _error_of(response) from None
        except (InferenceTimeoutError, httpx2.HTTPError, ssl.SSLError) as error:
            raise _transport_fault(error) from None
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise ServerFault("an answer that is not TGI's", f"{type(error).__name__}: {error}") from None


class OpenAI(Server):
    """OpenAI's `/v1/completions`, or `/v1/chat/completions` with the prompt as the one message of the user.

    vLLM, SGLang, llama.cpp, TGI and the providers behind https://router.huggingface.co speak them.
    """

    takes_n = True
    takes_lists = True  # a prompt as a list of one: TGI's contract has it so; `transformers serve` wants a string

    def __init__(self, url: str, options: GenerationOptions, token: str | None) -> None:
        super().__init__(url, options, token)
        self.concurrency = options.concurrency or OPENAI_CONCURRENCY
        self.chat = options.api == "chat"
        self.takes_seeds = options.send_seeds

    async def describe(self) -> None:
        try:
            models = await self._get("/v1/models")
        except ServerFault as fault:
            if isinstance(fault, Unreachable) or not self.asked_model:
                raise
            models = None  # `transformers serve` answers 500 where its cache is empty, and generates all the same
        listed = models.get("data") if isinstance(models, dict) else None
        known = {m["id"]: m for m in listed or () if isinstance(m, dict) and isinstance(m.get("id"), str)}
        if not known and not self.asked_model:
            raise Unfit(f"{self.url} does not list its models (/v1/models): is this a server? Then give --model")
        if known:
            model = self.asked_model or next(iter(known))
            if not self.asked_model and len(known) > 1:
                raise Unfit(f"{self.url} serves {len(known)} models: choose one with --model")
            if model.partition(":")[0] not in {
                name.partition(":")[0] for name in known
            }:  # model:provider on the router
                raise Unfit(f"{self.url} serves {', '.join(sorted(known)[:5])}, not {model}")
            self.model = model
            entry = known.get(model, {})
            context = entry.get("max_model_len") or (entry.get("meta") or {}).get("n_ctx")  # vLLM and SGLang; llama.cpp
            self.max_total_tokens = self.max_input_tokens = context if isinstance(context, int) else sys.maxsize

    async def complete(self, request: Request) -> list[Generation]:
        import httpx2

        prompt = [request.prompt] if self.takes_lists and not self.chat else request.prompt
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": request.max_new_tokens,
            "temperature": request.temperature,
            **({"messages": [{"role": "user", "content": prompt}]} if self.chat else {"prompt": prompt}),
            **({"stop": list(request.stop[: self.max_stop_sequences])} if request.stop else {}),
            **({"top_p": request.top_p} if request.top_p is not None else {}),
            **({"n": request.n} if request.n > 1 else {}),
            **({"seed": request.seed} if self.takes_seeds and request.temperature > 0 else {}),
        }
        path = "/v1/chat/completions" if self.chat else "/v1/completions"
        try:
            with self._client() as client:
                answer = await client.post(f"{self.url}{path}", json=body)
        except (httpx2.HTTPError, ssl.SSLError) as error:  # of a broken record; httpx2 lets it through
            raise _transport_fault(error) from None
        if answer.status_code in (400, 422) and isinstance(prompt, list) and "must be a string" in _text_of(answer):
            self.takes_lists = False
            return await self.complete(request)
        if answer.status_code != 200:
            raise _error_of(answer)
        try:
            payload = answer.json()
            choices, tokens = payload["choices"], payload["usage"]["completion_tokens"]
            texts = [choice["message"]["content"] or "" if self.chat else choice["text"] for choice in choices]
            reasons = [_reason(choice) for choice in choices]
            characters = sum(map(len, texts)) or 1
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ServerFault("an answer that is not OpenAI's", f"{type(error).__name__}: {error}") from None
        if not 0 < len(texts) <= request.n or not isinstance(tokens, int):
            raise ServerFault(f"{len(texts)} samples where {request.n} were asked for")
        # `usage` counts the tokens of all samples together; each gets its share by length, and the sum stays right.
        shares = [round(tokens * len(text) / characters) for text in texts] if len(texts) > 1 else [tokens]
        return [_checked(request, *sample) for sample in zip(texts, reasons, shares, strict=True)]


def server_at(url: str, options: GenerationOptions, token: str | None) -> Server:
    """The object for the server at `url`, which speaks `options.api`."""
    return (Tgi if options.api == "tgi" else OpenAI)(url, options, token)


def _timeout() -> Any:
    """To connect; how long an answer may take is for the endpoint to say."""
    import httpx2

    return httpx2.Timeout(None, connect=POST_CONNECT_SECONDS)


@cache
def _certificates() -> Any:
    """One for all clients: reading the certificates takes 0.15 s, and a fleet has many."""
    import httpx2

    return httpx2.create_ssl_context()


def _reason(choice: dict[str, Any]) -> str | None:
    """OpenAI's finish reason in TGI's words where vLLM's extra field allows it."""
    if choice["finish_reason"] == "stop" and "stop_reason" in choice:
        return "stop_sequence" if isinstance(choice["stop_reason"], str) else "eos_token"
    return choice["finish_reason"]


def _checked(request: Request, text: Any, reason: Any, tokens: Any) -> Generation:
    """The sample, cut before the first stop sequence, since servers miss some or keep them; ServerFault if it is not
    what was asked for."""
    if not isinstance(text, str) or not isinstance(tokens, int):
        raise ServerFault("an answer without text or tokens")
    if not isinstance(reason, str) or reason not in FINISH_REASONS:
        raise ServerFault(f"an answer that ended with {reason!r:.60}")
    if tokens > request.max_new_tokens + 1:  # some count the token that ends the text
        raise ServerFault("more tokens than asked for", f"{tokens} instead of {request.max_new_tokens}")
    if len(request.prompt) >= ECHO_CHARACTERS and text.startswith(request.prompt):
        raise ServerFault("an answer that repeats the prompt")
    cuts = [cut for cut in (text.find(stop) for stop in request.stop) if cut >= 0]
    if cuts:
        text, reason = text[: min(cuts)], "stop_sequence"
    text = text.encode("utf-8", "replace").decode()  # lone surrogates can't be stored
    return Generation(text, str(reason), tokens)


def _text_of(response: Any) -> str:
    """The text of an HTTP answer, whatever charset it says."""
    return response.content.decode("utf-8", "replace")


def _error_of(response: Any) -> Exception:
    """The error that an HTTP answer other than 200 means."""
    status, text = response.status_code, " ".join(_text_of(response)[:500].split())
    if status in (429, 503):
        try:
            wait = float(response.headers["Retry-After"])
        except (KeyError, ValueError):  # none, or a date
            wait = None
        return Busy(str(status), wait)
    if status in (400, 413, 422) and TOO_LONG.search(text):
        return PromptTooLong()
    if 400 <= status < 500 and status not in (408, 424):  # 424 is TGI's for a failed generation
        return Refused(str(status), text)
    return ServerFault(str(status), text)


def _transport_fault(error: Exception) -> ServerFault:
    import httpx2

    kind = Unreachable if isinstance(error, httpx2.ConnectError) else ServerFault
    error = error.__cause__ if isinstance(error.__cause__, httpx2.HTTPError) else error  # the Hub's client wraps some
    return kind(type(error).__name__, str(error))
