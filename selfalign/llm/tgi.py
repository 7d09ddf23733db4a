"""The client of text-generation-inference (TGI), which is also serve.py's: its own interface, not OpenAI's."""

from __future__ import annotations

import ssl
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from selfalign.llm.client import (
    MAX_STOP_SEQUENCES,
    Client,
    ServerFault,
    Unfit,
    checked,
    error_of,
    http_timeout,
    transport_fault,
)
from selfalign.llm.completion import Completion, CompletionRequest

if TYPE_CHECKING:
    from huggingface_hub import AsyncInferenceClient


class TgiClient(Client):
    """Asks for one sample per request: TGI refuses a seed together with several samples (`best_of`)."""

    default_concurrency = 128  # TGI's own default of max_concurrent_requests; it answers 429 to more

    async def describe(self) -> None:
        info = await self._get("/info")
        if not isinstance(info, dict) or not isinstance(info.get("model_id"), str):
            raise Unfit(
                f"{self.url} is not a text-generation-inference endpoint (it has no /info): use --api completions "
                "or --api chat for vLLM, SGLang, llama.cpp and other servers"
            )
        self.model, self.revision = info["model_id"], info.get("model_sha")
        if self.options.model and self.options.model != self.model:
            raise Unfit(f"{self.url} serves {self.model}, not {self.options.model}")
        limit = info.get("max_concurrent_requests") or self.default_concurrency
        self.concurrency = min(self.options.concurrency or limit, limit)
        self.max_total_tokens = info.get("max_total_tokens") or sys.maxsize
        self.max_input_tokens = info.get("max_input_tokens") or self.max_total_tokens
        self.max_stop_sequences = info.get("max_stop_sequences") or MAX_STOP_SEQUENCES

    async def complete(self, request: CompletionRequest) -> list[Completion]:
        import httpx2
        from huggingface_hub.errors import HfHubHTTPError, InferenceTimeoutError, TextGenerationError

        sampling: dict[str, Any] = {"do_sample": True, "temperature": request.temperature, "seed": request.seed}
        if request.top_p is not None and request.top_p < 1:  # TGI refuses 1.0, which means all tokens
            sampling["top_p"] = request.top_p
        try:
            with self._pool() as client:
                output = await client.text_generation(
                    request.prompt,
                    details=True,
                    return_full_text=False,  # TGI's POST / repeats the prompt by default
                    max_new_tokens=request.max_new_tokens,
                    stop=self.stops_for(request),
                    **(sampling if request.temperature > 0 else {}),
                )
            details = output.details
            completion = checked(request, output.generated_text, details.finish_reason, details.generated_tokens)
            logprobs = [token.logprob for token in details.tokens or ()]
            return [replace(completion, logprob=sum(logprobs) if logprobs and None not in logprobs else None)]
        except (HfHubHTTPError, TextGenerationError) as error:
            response = getattr(error if isinstance(error, HfHubHTTPError) else error.__cause__, "response", None)
            if response is None:
                raise ServerFault(type(error).__name__, str(error)) from None
            raise error_of(response) from None
        except (InferenceTimeoutError, httpx2.HTTPError, ssl.SSLError) as error:
            raise transport_fault(error) from None
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise ServerFault("an answer that is not TGI's", f"{type(error).__name__}: {error}") from None

    async def _open_pool(self) -> AsyncInferenceClient:
        from huggingface_hub import AsyncInferenceClient, set_async_client_factory

        # The Hub's default HTTP client keeps at most 100 connections, and refuses even a server on the local network
        # while HF_HUB_OFFLINE is set.
        set_async_client_factory(self._http_client)
        client = AsyncInferenceClient(base_url=self.url, api_key=self._key)
        client.timeout = http_timeout()  # type: ignore[assignment]
        self._stack.push_async_callback(client.close)
        return client
