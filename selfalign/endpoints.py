"""Talking to a text-generation-inference endpoint: its limits, retries, and a check of what comes back.

TGI's client is `huggingface_hub.AsyncInferenceClient`; it does not retry, so this does.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfalign.options import GenerationOptions, UserError
from selfalign.steps import RowOpen

CONNECT_SECONDS = 10
TRIES = 8  # of one request, with waits of 0.5, 1, 2 ... 30 s between them: about two minutes
MAX_WAIT_SECONDS = 30.0
BASE_SECONDS = 120  # a request may wait for its place this long ...
SECONDS_PER_TOKEN = 1.0  # ... and a busy CPU gives a token a second
DEFAULT_CONCURRENCY = 128  # TGI's own default
MAX_STOP_SEQUENCES = 4  # TGI's default; it refuses more

PROMPT_TOO_LONG = "prompt_too_long"


@dataclass(frozen=True)
class Generation:
    """What came back: the text without its stop sequence, why it ended, and how many tokens it took.

    `finish_reason` is "stop_sequence", "eos_token", "length", or "prompt_too_long" (and then there is no text).
    """

    text: str
    finish_reason: str
    generated_tokens: int

    def failure(self, otherwise: str) -> str:
        """Why a row has nothing to go on with: the generation's own reason if it has one, else `otherwise`."""
        return self.finish_reason if self.finish_reason == PROMPT_TOO_LONG else otherwise


class Endpoint:
    """A TGI server, asked for its limits when this object is made.

    Enter it as an async context manager to generate. `window` is how many rows a step should have in flight,
    `identity` what becomes part of a run's identity.

    Raises:
        UserError: nothing answers there, it is not TGI, or it serves another model than the one that was asked for.
    """

    def __init__(self, options: GenerationOptions, *, requests_a_row: int = 1) -> None:
        self.url = options.endpoint.rstrip("/")
        info = self._get_info()
        self.model: str = info["model_id"]
        if options.model and options.model != self.model:
            raise UserError(f"{self.url} serves {self.model}, not {options.model}")
        self.max_total_tokens: int = info.get("max_total_tokens") or sys.maxsize
        self.max_input_tokens: int = info.get("max_input_tokens") or self.max_total_tokens
        self.concurrency = options.concurrency or info.get("max_concurrent_requests") or DEFAULT_CONCURRENCY
        self.temperature, self.top_p = options.temperature, options.top_p
        self.window = (
            -(-self.concurrency // requests_a_row) + 1
        )  # one more row, so that no place waits for the last sample
        self.identity = {"model": self.model, "revision": info.get("model_sha")}
        self.retries: Counter[str] = Counter()
        self._client: Any = None

    def _get_info(self) -> dict[str, Any]:
        import httpx2

        try:
            answer = httpx2.get(f"{self.url}/info", timeout=CONNECT_SECONDS)
        except (httpx2.TransportError, httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            raise UserError(
                f"no endpoint answers at {self.url} ({error}): start TGI there, or `python serve.py` on a laptop"
            ) from None
        try:
            info = answer.raise_for_status().json()
            info["model_id"], info["max_concurrent_requests"]
        except (httpx2.HTTPStatusError, ValueError, KeyError, TypeError):
            raise UserError(
                f"{self.url} is not a text-generation-inference endpoint (GET /info: {answer.status_code})"
            ) from None
        return info

    def check_room(self, prompt: str, max_new_tokens: int) -> None:
        """UserError if a typical `prompt` (in tokens of the endpoint) leaves no room for `max_new_tokens`."""
        import httpx2

        try:
            answer = httpx2.post(f"{self.url}/tokenize", json={"inputs": prompt}, timeout=60)
            tokens = len(answer.raise_for_status().json())
        except (httpx2.HTTPError, ValueError):
            return  # some servers have no /tokenize; the requests will tell
        if tokens + max_new_tokens > self.max_total_tokens or tokens > self.max_input_tokens:
            raise UserError(
                f"{self.model} at {self.url} takes {self.max_input_tokens} prompt tokens and {self.max_total_tokens} "
                f"in all; the first prompt has {tokens} and asks for {max_new_tokens} more: lower --shots or "
                "--max-new-tokens, or serve with larger limits"
            )

    async def __aenter__(self) -> Endpoint:
        import httpx2
        from huggingface_hub import AsyncInferenceClient, set_async_client_factory

        # The default client keeps 100 connections at most, and refuses a server in the same room while HF_HUB_OFFLINE
        # is set.
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=self.concurrency)
        set_async_client_factory(lambda: httpx2.AsyncClient(limits=limits, follow_redirects=True, timeout=None))
        self._client = AsyncInferenceClient(base_url=self.url)
        self._places = asyncio.Semaphore(self.concurrency)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.close()

    async def generate(self, prompt: str, *, max_new_tokens: int, seed: int, stop: Sequence[str] = ()) -> Generation:
        """One completion of `prompt`; stop sequences are cut off here too, since servers miss some or keep them.

        Raises:
            RowOpen: the endpoint failed again and again; the row can be done in another run.
        """
        sampling = {"do_sample": True, "temperature": self.temperature, "top_p": self.top_p, "seed": seed}
        request = {
            "details": True,
            "return_full_text": False,  # TGI's POST / repeats the prompt unless told not to
            "max_new_tokens": max_new_tokens,
            "stop": list(stop[:MAX_STOP_SEQUENCES]),
            **(sampling if self.temperature > 0 else {}),
        }
        async with self._places:
            output = await self._ask(prompt, request)
        if output is None:
            return Generation("", PROMPT_TOO_LONG, 0)
        text, reason = output.generated_text, str(output.details.finish_reason)
        cuts = [cut for cut in (text.find(s) for s in stop) if cut >= 0]
        if cuts:
            text, reason = text[: min(cuts)], "stop_sequence"
        text = text.encode("utf-8", "replace").decode()  # lone surrogates can't be stored
        return Generation(text, reason, output.details.generated_tokens)

    async def _ask(self, prompt: str, request: dict[str, Any]) -> Any:
        import httpx2
        from huggingface_hub.errors import HfHubHTTPError, InferenceTimeoutError, TextGenerationError, ValidationError

        self._client.timeout = BASE_SECONDS + SECONDS_PER_TOKEN * request["max_new_tokens"]
        problem = ""
        for attempt in range(TRIES):
            try:
                return await self._client.text_generation(prompt, **request)
            except ValidationError as error:
                if "tokens" in str(error) and "must be <=" in str(error):
                    return None
                raise UserError(f"{self.url} refuses the request: {error}") from None
            except (HfHubHTTPError, TextGenerationError, InferenceTimeoutError, httpx2.TransportError) as error:
                http = error if isinstance(error, HfHubHTTPError) else error.__cause__
                response = getattr(http, "response", None)
                if response is not None and response.status_code in (401, 403, 404, 405):
                    raise UserError(f"{self.url} answered {response.status_code} to a generation request") from None
                problem = f"{type(error).__name__} {str(error).splitlines()[0] if str(error) else ''}".strip()
                self.retries[type(error).__name__] += 1
                await asyncio.sleep(_wait_before(attempt, response))
            except (ValueError, TypeError, KeyError) as error:
                problem = f"an answer that is not TGI's ({type(error).__name__}: {error})"
                await asyncio.sleep(_wait_before(attempt, None))
        raise RowOpen(f"{self.url} failed {TRIES} times, last with {problem}")


def _wait_before(attempt: int, response: Any) -> float:
    """Seconds before the next try: what the server says, else doubling with jitter, so that clients spread."""
    backoff = min(MAX_WAIT_SECONDS, 0.5 * 2.0**attempt) * random.uniform(0.5, 1.0)
    try:
        return max(backoff, min(MAX_WAIT_SECONDS, float(response.headers["Retry-After"])))
    except (AttributeError, KeyError, ValueError):
        return backoff


@contextmanager
def served(model: str, *arguments: str) -> Iterator[str]:
    """Serve the model folder or Hub id `model` with serve.py for a while; gives the URL.

    Raises:
        UserError: serve.py could not load it; its own sentence is on standard error.
    """
    serve = Path(__file__).resolve().parent.parent / "serve.py"
    command = [sys.executable, str(serve), "--model", model, "--port", "0", *arguments]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        line = server.stdout.readline() if server.stdout else ""
        if "http://" not in line:
            raise UserError(f"{model} can't be served (see above)")
        yield line[line.index("http://") :].strip()
    finally:
        server.terminate()
        server.wait()
