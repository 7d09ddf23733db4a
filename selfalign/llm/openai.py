"""The client of OpenAI's interface: `/v1/completions`, or `/v1/chat/completions` with the prompt as the user's message.

vLLM, SGLang, llama.cpp, TGI and the providers behind https://router.huggingface.co speak it.
"""

from __future__ import annotations

import asyncio
import math
import re
import ssl
import sys
from typing import Any

from selfalign.llm.chat_template import template_arguments
from selfalign.llm.client import (
    CONNECT_SECONDS,
    Client,
    ServerFault,
    Unfit,
    Unreachable,
    checked,
    error_of,
    text_of,
    transport_fault,
)
from selfalign.llm.completion import Completion, CompletionRequest
from selfalign.llm.reasoning import ends_unopened
from selfalign.options import GenerationOptions

OPENED = re.compile(r"<think>[\sĊĠ▁]*\Z")  # tokens of a prompt as vLLM lists them: line breaks and spaces have signs


class OpenAIClient(Client):
    """Asks for all samples of a prompt in one request, where the server takes `n`."""

    takes_n = True
    takes_lists = True  # TGI's contract wants the prompt as a list of one; `transformers serve` wants a string
    default_concurrency = 256  # samples; vLLM's default of max_num_seqs, which its API does not report

    def __init__(self, url: str, options: GenerationOptions) -> None:
        super().__init__(url, options)
        self.is_chat = options.api == "chat"
        self.takes_seeds = options.send_seeds
        self.template_arguments = template_arguments(options.chat_template_kwargs)
        # Of chat, whose template the server applies: whether the prompt ends with `<think>` (None: not known), and
        # whether the server gives reasoning apart, so that no tag is left in the text.
        self._opens_reasoning: bool | None = None
        self._separates = self._has_asked = False

    async def describe(self) -> None:
        try:
            answer = await self._get("/v1/models")
        except ServerFault as fault:
            if isinstance(fault, Unreachable) or not self.options.model:
                raise
            answer = None  # `transformers serve` answers 500 while its cache is empty, and generates all the same
        listed = answer.get("data") if isinstance(answer, dict) else None
        models = {m["id"]: m for m in listed or () if isinstance(m, dict) and isinstance(m.get("id"), str)}
        if not models and self.options.model:
            return
        if not models:
            raise Unfit(f"{self.url} lists no models (/v1/models). If it is a server, name its model with --model")
        if not self.options.model and len(models) > 1:
            raise Unfit(f"{self.url} serves {len(models)} models: choose one with --model")
        model = self.options.model or next(iter(models))
        if model.partition(":")[0] not in {name.partition(":")[0] for name in models}:  # the router's model:provider
            raise Unfit(f"{self.url} serves {', '.join(sorted(models)[:5])}, not {model}")
        self.model = model
        entry = models.get(model, {})
        context = entry.get("max_model_len") or (entry.get("meta") or {}).get("n_ctx")  # vLLM and SGLang; llama.cpp
        self.max_total_tokens = self.max_input_tokens = context if isinstance(context, int) else sys.maxsize
        if self.is_chat and not self._has_asked:
            self._opens_reasoning, self._has_asked = await self._template_opens_reasoning(), True

    @property
    def may_open_reasoning(self) -> bool:
        return self.is_chat and self._opens_reasoning is None and not self._separates and not self._with_reasoning

    async def _template_opens_reasoning(self) -> bool | None:
        """Whether the chat template ends a prompt with `<think>`; None if the server does not show prompts as vLLM."""
        import httpx2

        body = self._chat("x") | {"model": self.model, "return_token_strs": True}
        try:
            answer = await asyncio.wait_for(self._http.post(f"{self.url}/tokenize", json=body), CONNECT_SECONDS)
            return bool(OPENED.search("".join(answer.json()["token_strs"])))
        except (httpx2.HTTPError, ssl.SSLError, asyncio.TimeoutError):
            return None
        except (ValueError, TypeError, LookupError, RecursionError):  # it has no such route, or another one
            return None

    def _chat(self, question: str) -> dict[str, Any]:
        """What a request to a chat says besides sampling."""
        chat: dict[str, Any] = {"messages": [{"role": "user", "content": question}]}
        return chat | ({"chat_template_kwargs": self.template_arguments} if self.template_arguments else {})

    async def complete(self, request: CompletionRequest) -> list[Completion]:
        import httpx2

        path = "/v1/chat/completions" if self.is_chat else "/v1/completions"
        body = self._body_of(request)
        try:
            with self._pool() as client:
                response = await client.post(f"{self.url}{path}", json=body)
        except (httpx2.HTTPError, ssl.SSLError) as error:  # httpx2 does not wrap TLS's error for a broken record
            raise transport_fault(error) from None
        wants_string = response.status_code in (400, 422) and "must be a string" in text_of(response)
        if wants_string and isinstance(body.get("prompt"), list):
            self.takes_lists = False
            return await self.complete(request)
        if response.status_code != 200:
            raise error_of(response)
        return self._completions_in(response, request)

    def _body_of(self, request: CompletionRequest) -> dict[str, Any]:
        is_sampled = request.temperature > 0
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": request.max_new_tokens,
            "temperature": request.temperature,
            "stop": self.stops_for(request) or None,
            "top_p": request.top_p if is_sampled else None,  # with it, TGI samples even at temperature 0
            "n": request.n if request.n > 1 else None,
            "seed": request.seed if self.takes_seeds and is_sampled else None,
        }
        if self.is_chat:
            body |= self._chat(request.prompt)
        else:
            body["prompt"] = [request.prompt] if self.takes_lists else request.prompt
        return {name: value for name, value in body.items() if value is not None}

    def _completions_in(self, response: Any, request: CompletionRequest) -> list[Completion]:
        try:
            payload = response.json()
            choices, tokens = payload["choices"], payload["usage"]["completion_tokens"]
            texts = [choice["message"]["content"] or "" if self.is_chat else choice["text"] for choice in choices]
            thoughts = [_reasoning(choice["message"]) if self.is_chat else "" for choice in choices]
            reasons = [_finish_reason(choice) for choice in choices]
            lengths = [len(text) + len(thought) for text, thought in zip(texts, thoughts, strict=True)]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ServerFault("an answer that is not OpenAI's", f"{type(error).__name__}: {error}") from None
        if not 0 < len(texts) <= request.n or not isinstance(tokens, int):
            raise ServerFault(f"{len(texts)} samples where {request.n} were asked for")
        shares = shares_of(tokens, lengths, request.max_new_tokens)
        self._separates |= any(thoughts)
        if self.is_chat and not self._opens_reasoning and any(map(ends_unopened, texts)):
            self._opens_reasoning = True
            self._with_reasoning, self._without = self._with_reasoning + self._without, 0  # so it was before
        opened = self._opens_reasoning is True and not self._separates
        return [
            checked(request, text, reason, share, reasoning=thought, opened=opened)
            for text, reason, share, thought in zip(texts, reasons, shares, thoughts, strict=True)
        ]


def shares_of(tokens: int, lengths: list[int], most: int) -> list[int]:
    """The tokens of each sample, of which `usage` tells the sum: by the length of its text, and at most `most`, unless
    the sum is more than that for each."""
    most = max(most, math.ceil(tokens / len(lengths)))
    shares, left, characters = [0] * len(lengths), tokens, sum(lengths)
    for sample in sorted(range(len(lengths)), key=lambda number: -lengths[number]):  # what one can't have, others get
        part = lengths[sample] / characters if characters else 1.0
        shares[sample] = min(most, left, math.ceil(left * part))
        left, characters = left - shares[sample], characters - lengths[sample]
    return shares


def _reasoning(message: dict[str, Any]) -> str:
    """What a server gives as reasoning apart from the answer: vLLM's `reasoning`, or the `reasoning_content` of
    DeepSeek, SGLang, llama.cpp and older vLLM; "" if there is none."""
    return next((text for name in ("reasoning", "reasoning_content") if isinstance(text := message.get(name), str)), "")


def _finish_reason(choice: dict[str, Any]) -> str | None:
    """OpenAI's finish reason in TGI's terms, where vLLM's additional field tells the two kinds of "stop" apart."""
    if choice["finish_reason"] == "eos":  # Together
        return "eos_token"
    if choice["finish_reason"] == "stop" and "stop_reason" in choice:
        return "stop_sequence" if isinstance(choice["stop_reason"], str) else "eos_token"
    return choice["finish_reason"]
