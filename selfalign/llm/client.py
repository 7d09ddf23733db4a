"""The client of one server: what TGI's and OpenAI's have in common, and what a client can raise.

Neither protocol needs a package of its own. TGI is asked through `huggingface_hub.AsyncInferenceClient`, its own
client. OpenAI's interface is one POST of JSON, sent with httpx2, which huggingface_hub brings along: the Hub's client
knows chat but not completions, and the openai package takes 2.5 ms of CPU time for a request with a 10 kB prompt. That
is 404 requests per second from one process, fewer than one replica with short answers can serve.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import re
import socket
import ssl
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies

from selfalign.errors import UserError, check_secret, first_line, without_secrets
from selfalign.llm.completion import Completion, CompletionRequest
from selfalign.llm.reasoning import BLANK_LINES, opens_reasoning, split_reasoning
from selfalign.options import API_KEY_VARIABLE, GenerationOptions

if TYPE_CHECKING:
    import httpx2

MAX_PORT = 65535
TO_GET = (301, 302, 303)  # redirects behind which a POST becomes a GET
CONNECT_SECONDS = 10  # for a GET
COUNT_SECONDS = 60  # for the tokens of a prompt: a server on a busy machine, which has other requests to do as well
POST_CONNECT_SECONDS = 30  # longer, since a client that sends many requests is slow itself
MAX_STOP_SEQUENCES = 4  # TGI's default and OpenAI's limit; we cut at the other stop sequences ourselves
POOL_CONNECTIONS = 16  # httpx2 looks at every connection of a pool for each request, so small pools are cheaper
ECHO_CHARACTERS = 40  # an answer that begins with a prompt of at least this length repeats it

# A host that was restarted, or is gone, is noticed after a minute, though it closes no connection. Some platforms lack
# some of the three names.
KEEPALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}.items()
    if hasattr(socket, name)
]
# TGI's three, OpenAI's "stop" and "content_filter". With any other ("error", "abort", null) the answer is unfinished.
FINISH_REASONS = {"length", "eos_token", "stop_sequence", "stop", "content_filter"}
# How TGI, vLLM, SGLang, llama.cpp and OpenAI say that a prompt leaves no room for an answer.
TOO_LONG = re.compile(
    r"must have less than \d+ tokens|must be <= |context[ _](length|size|window)|maximum model length|too long"
    r"|longer than|maximum allowed length|max_tokens.{0,40}too large",
    re.IGNORECASE,
)
# Those counters at /metrics that grow with all that is generated, for whomever: of TGI and serve.py by each step of a
# batch, of vLLM, SGLang (with --enable-metrics) and llama.cpp (with --metrics) by tokens.
GENERATED = re.compile(
    r"^(?:tgi_batch_inference_success|vllm:generation_tokens_total|sglang:generation_tokens_total"
    r"|llamacpp:tokens_predicted_total)(?:\{.*\})? ([\d.eE+]+)",
    re.MULTILINE,
)
HUGGING_FACE = re.compile(r"https://([\w.-]+\.)?(huggingface\.co|huggingface\.cloud|hf\.co)(:443)?(/|$)")


class ServerFault(Exception):
    """The server did not do what it was asked to; faults are counted by their `kind`."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else kind)
        self.kind = kind


class Unreachable(ServerFault):
    """The server cannot be reached, or shows no sign of life."""


class Busy(ServerFault):
    """The server is full (429 or 503); `retry_after` is in seconds, if the server says."""

    def __init__(self, kind: str, retry_after: float | None = None) -> None:
        super().__init__(kind)
        self.retry_after = retry_after


class RequestRefused(ServerFault):
    """The server understood the request and rejected it."""


class Unfit(Exception):
    """The server is not what the user asked for, or does not do what it is asked to do; the message is for the user."""


class PromptTooLong(Exception):
    """Prompt and answer do not fit into the model's context."""


class Client(ABC):
    """A client of the server at `url`. What it knows about the server is right once `describe` has been called.

    Enter it as an async context manager to send requests; it can be entered again, also in another event loop.
    """

    takes_n = False  # whether one request may ask for several samples
    takes_seeds = True
    max_stop_sequences = MAX_STOP_SEQUENCES
    default_concurrency: int  # where the server does not say how many requests it takes at a time

    def __init__(self, url: str, options: GenerationOptions) -> None:
        self.url, self.options = url.rstrip("/").removesuffix("/v1"), options
        self.model: str = options.model or ""
        self.revision: str | None = None
        self.concurrency = options.concurrency or self.default_concurrency
        self.max_input_tokens = self.max_total_tokens = sys.maxsize
        key = options.api_key or os.environ.get(API_KEY_VARIABLE)
        check_secret("--api-key", key)
        if not key and HUGGING_FACE.match(self.url):  # Hugging Face's token goes to nobody else
            from huggingface_hub import get_token

            key = getattr(options, "hf_token", None) or get_token()  # benchmark.py's options have no token
        self._with_reasoning = self._without = 0  # answers
        self._key = key or "none"  # without a key, the Hub's client would send that token to any server

    @property
    def may_open_reasoning(self) -> bool:
        """Whether the server may begin reasoning in the prompt, unseen, so that only a whole answer tells."""
        return False

    @abstractmethod
    async def describe(self) -> None:
        """Ask the server for its model and its limits.

        Raises:
            ServerFault: it does not answer.
            Unfit: it is not such a server, or serves another model than the user asked for.
        """

    @abstractmethod
    async def complete(self, request: CompletionRequest) -> list[Completion]:
        """Send a request. The result has 1 to `request.n` samples: some servers return one, whatever `n` is.

        Raises:
            PromptTooLong: the prompt leaves no room for the answer.
            ServerFault: anything else went wrong (`Busy`, `RequestRefused`, `Unreachable`).
        """

    async def ask(self, request: CompletionRequest) -> list[Completion]:
        """`complete`, again without stop sequences if one of them has stopped a model while it was thinking.

        Once most answers come with reasoning, stop sequences are no longer sent, and cut answers here alone.
        """
        has_sent_stop = bool(self.stops_for(request))
        completions = await self.complete(request)
        if has_sent_stop and any(_stopped_before_answer(each) for each in completions):
            completions = await self.complete(replace(request, send_stop=False))
        thinking = sum(each.reasoning is not None for each in completions)
        self._with_reasoning += thinking
        self._without += len(completions) - thinking
        return completions

    def stops_for(self, request: CompletionRequest) -> list[str]:
        """The stop sequences that the server is told: as many as it takes, and none to a model that thinks."""
        thinks = self._with_reasoning > self._without
        return list(request.stop[: self.max_stop_sequences]) if request.send_stop and not thinks else []

    async def count_tokens(self, prompt: str) -> int | None:
        """The length of the prompt in the server's tokens, or None if the server does not say."""
        import httpx2

        try:
            asked = self._http.post(f"{self.url}/tokenize", json={"inputs": prompt, "prompt": prompt})
            answer = await asyncio.wait_for(asked, COUNT_SECONDS)
            tokens = answer.raise_for_status().json()
            count = len(tokens) if isinstance(tokens, list) else tokens["count"]  # TGI; vLLM
            return count if isinstance(count, int) else None
        except (httpx2.HTTPError, ssl.SSLError, asyncio.TimeoutError):
            return None
        except (ValueError, KeyError, TypeError, RecursionError):  # it has no such route, or another one
            return None

    async def generated(self) -> float | None:
        """How much the server has generated so far for all of its clients, in a unit of its own, or None if it does not
        say. A server that lets a request wait may be busy with the requests of others, or stuck: this tells which."""
        import httpx2

        try:
            answer = await asyncio.wait_for(self._http.get(f"{self.url}/metrics"), CONNECT_SECONDS)
            return sum(map(float, counts)) if (counts := GENERATED.findall(text_of(answer))) else None
        except (httpx2.HTTPError, ssl.SSLError, asyncio.TimeoutError, ValueError):
            return None

    async def __aenter__(self) -> Client:
        self._stack = contextlib.AsyncExitStack()
        self._http = await self._stack.enter_async_context(self._http_client())
        self._pools = [await self._open_pool() for _ in range(math.ceil(self.concurrency / POOL_CONNECTIONS))]
        self._in_flight = [0] * len(self._pools)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    def _http_client(self) -> httpx2.AsyncClient:
        import httpx2

        verify = _certificates()
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)  # the window is the limit
        # A client that is given a transport ignores the proxies of the environment. Through one of them, the connection
        # that matters is the proxy's own.
        has_proxy = any(getproxies().get(scheme) for scheme in ("http", "https", "all"))
        transport = None if has_proxy else httpx2.AsyncHTTPTransport(verify, limits=limits, socket_options=KEEPALIVE)
        try:
            return httpx2.AsyncClient(
                headers={"authorization": f"Bearer {self._key}"},
                verify=verify,
                limits=limits,
                transport=transport,
                follow_redirects=True,
                timeout=http_timeout(),
            )
        except (ImportError, ValueError) as error:  # socks5:// needs socksio, and socks:// is not known
            raise UserError(
                f"a proxy of the environment (ALL_PROXY, HTTP_PROXY, HTTPS_PROXY) can't be used: {first_line(error)}"
            ) from None

    async def _open_pool(self) -> Any:
        """An HTTP client with connections of its own, as `complete` needs it: httpx2's here, the Hub's for TGI."""
        return await self._stack.enter_async_context(self._http_client())

    @contextlib.contextmanager
    def _pool(self) -> Iterator[Any]:
        """The first pool with a connection to spare, so that few connections are open."""
        spare = (i for i, requests in enumerate(self._in_flight) if requests < POOL_CONNECTIONS)
        chosen = next(spare, 0)
        self._in_flight[chosen] += 1
        try:
            yield self._pools[chosen]
        finally:
            self._in_flight[chosen] -= 1

    async def _get(self, path: str) -> Any:
        """The JSON at `path`, or None if the server answers with something else."""
        import httpx2

        try:
            if (httpx2.URL(self.url).port or 0) > MAX_PORT:
                raise httpx2.InvalidURL(f"a port is at most {MAX_PORT}")
            answer = await asyncio.wait_for(self._http.get(f"{self.url}{path}"), CONNECT_SECONDS)
        except asyncio.TimeoutError:  # httpx2's own timeout does not end an answer that comes byte by byte
            raise Unreachable("no answer", f"{path} took over {CONNECT_SECONDS:g} s") from None
        except (httpx2.HTTPError, ssl.SSLError) as error:
            raise Unreachable(type(error).__name__, str(error)) from None
        except (httpx2.InvalidURL, UnicodeError) as error:
            raise Unfit(f"{self.url} is not a URL ({error})") from None
        if any(each.status_code in TO_GET for each in answer.history):
            there = str(answer.url).removesuffix(path)
            raise Unfit(f"{self.url} redirects to {without_secrets(there)}: give that address")
        if answer.status_code == 429 or answer.status_code >= 500:
            raise ServerFault(f"{path} answers {answer.status_code}")
        if answer.status_code in (401, 403):
            raise Unfit(f"{self.url}{path} answers {answer.status_code}: it requires --api-key")
        try:
            return answer.json() if answer.status_code == 200 else None
        except (ValueError, RecursionError):
            return None


def http_timeout() -> httpx2.Timeout:
    """Only for connecting; `Replica` limits how long an answer may take."""
    import httpx2

    return httpx2.Timeout(None, connect=POST_CONNECT_SECONDS)


@cache
def _certificates() -> ssl.SSLContext:
    """Shared by all clients, because reading the certificates takes 0.15 s."""
    import httpx2

    return httpx2.create_ssl_context()


# What the protocols share in reading an answer ------------------------------------------------------------------------


def checked(
    request: CompletionRequest, text: Any, reason: Any, tokens: Any, *, reasoning: str = "", opened: bool = False
) -> Completion:
    """A sample as the server sent it, cut before the first stop sequence, since servers miss some or keep them.

    `reasoning` is what the server gave apart from the text; `opened`, whether the server's prompt ended with `<think>`.

    Raises:
        ServerFault: it is not what `request` asked for.
    """
    if not isinstance(text, str) or not isinstance(tokens, int):
        raise ServerFault("an answer without text or tokens")
    if not isinstance(reason, str) or reason not in FINISH_REASONS:
        raise ServerFault(f"an answer that ended with {reason!r:.60}")
    # Some servers count the token that ends the text, and some limit the answer without its reasoning.
    if tokens > request.max_new_tokens + 1 and not reasoning:
        raise ServerFault("more tokens than asked for", f"{tokens} instead of {request.max_new_tokens}")
    if len(request.prompt) >= ECHO_CHARACTERS and text.startswith(request.prompt):
        raise ServerFault("an answer that repeats the prompt")
    parts = split_reasoning(text, opened=opened or opens_reasoning(request.prompt))
    text = BLANK_LINES.sub("", parts.answer) if reasoning else parts.answer
    thoughts = "\n\n".join(filter(None, (reasoning, parts.reasoning))) or None
    if parts.unfinished or (reasoning and not text.strip()):
        thoughts = _storable(thoughts or "")
        return Completion("", str(reason), tokens, reasoning=thoughts, in_reasoning=True)
    cuts = [cut for cut in (text.find(stop) for stop in request.stop) if cut >= 0]
    if cuts:
        text, reason = text[: min(cuts)], "stop_sequence"
    return Completion(_storable(text), str(reason), tokens, reasoning=thoughts and _storable(thoughts))


def _storable(text: str) -> str:
    """`text` without lone surrogates, which cannot be stored."""
    return text.encode("utf-8", "replace").decode()


def _stopped_before_answer(completion: Completion) -> bool:
    """Whether there is reasoning and no answer, and a stop sequence may be why."""
    is_empty = completion.reasoning is not None and not completion.text.strip()
    return is_empty and completion.finish_reason in ("stop_sequence", "stop")


def text_of(response: httpx2.Response) -> str:
    """The body of a response, whatever charset it claims to have."""
    return response.content.decode("utf-8", "replace")


def error_of(response: httpx2.Response) -> Exception:
    """What an HTTP response other than 200 means: `PromptTooLong` or a `ServerFault`."""
    status, text = response.status_code, " ".join(text_of(response)[:500].split())
    if status in (429, 503):
        try:
            wait = float(response.headers["Retry-After"])
        except (KeyError, ValueError):  # not sent, or a date
            wait = None
        return Busy(str(status), wait)
    if status in (400, 413, 422) and TOO_LONG.search(text):
        return PromptTooLong()
    if 400 <= status < 500 and status not in (408, 424):  # TGI answers 424 when a generation fails
        return RequestRefused(str(status), text)
    return ServerFault(str(status), text)


def transport_fault(error: Exception) -> ServerFault:
    """What an error below HTTP means: httpx2's, TLS's, or the Hub client's wrapper around one of these."""
    import httpx2

    kind = Unreachable if isinstance(error, httpx2.ConnectError) else ServerFault
    cause = error.__cause__ if isinstance(error.__cause__, httpx2.HTTPError) else error
    return kind(type(cause).__name__, str(cause))
