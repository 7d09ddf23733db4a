"""Continuous batching for any transformers model with ordinary attention.

SelfCodeAlign asks a model for many samples of the same long prompt. So a prompt's keys and values are computed once and
stay where they are; the rows that sample from it keep only those of their own tokens (`server.attention`). On a CPU,
reading the prompt's keys and values is most of the work of a decoding step. A row that has a prompt to itself keeps a
copy with its own tokens, so that many such rows are computed together.
"""

import contextlib
import queue
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from concurrent.futures import InvalidStateError
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from server.attention import SHARED_PROMPT_ATTENTION, SharedPrompts
from server.cache import PromptCache, RowsCache
from server.completion import Completion, FinishReason, Token, choose

PROMPT_TOKENS_KEPT = 8192  # of prompts that no row uses: 23 KB for each token for SmolLM2-135M in bfloat16
WORTH_REUSING = 16  # tokens: a shorter common beginning is computed anew


@dataclass(eq=False)
class ComputedPrompt:
    """A prompt's keys and values [layers, 2, 1, heads, tokens, dim], and the scores of the token after it.

    In a `server.plain.PlainEngine`, the keys and values are a cache of transformers.
    """

    ids: tuple[int, ...]
    kv: Any
    scores: Tensor


class Engine:
    """Computes completions in one batch. At every step, finished ones leave it and waiting ones join it."""

    attention: str | None = SHARED_PROMPT_ATTENTION  # that the model is given
    keeps_beginnings = True  # whether a prompt is computed from where it differs from another

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, max_batch_size: int):
        self.model, self.tokenizer, self.max_batch_size = model, tokenizer, max_batch_size
        eos: Any = model.generation_config.eos_token_id if model.generation_config else None
        self.eos = set([tokenizer.eos_token_id] + (eos if isinstance(eos, list) else [eos]))
        self.special = set(tokenizer.all_special_ids)
        self.inbox: queue.SimpleQueue[Completion | None] = queue.SimpleQueue()
        self.waiting: deque[Completion] = deque()
        self.rows: dict[Completion, ComputedPrompt | None] = {}  # None: its prompt is in `cache`, with its own tokens
        self.inferences = {"prefill": 0, "decode": 0}  # how often the model was asked, for /metrics
        self.cache = RowsCache()
        self.prompts: OrderedDict[tuple[int, ...], ComputedPrompt] = OrderedDict()  # the least recently used first
        if self.attention:
            model.set_attn_implementation(self.attention)

    def submit(self, completion: Completion) -> None:
        self.inbox.put(completion)

    def start(self, threads: int) -> None:
        """Compute in the background, with as many threads of the processor."""
        self.thread = threading.Thread(target=self.run, args=[threads], name="engine", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """After the step in progress, end the thread, and every completion with an error."""
        self.inbox.put(None)

    @torch.inference_mode()
    def run(self, threads: int) -> None:
        torch.set_num_threads(threads)
        while self.receive():
            try:
                self.admit()
                if self.rows:
                    self.step()
            except BaseException as error:  # out of memory, a model that fails: these completions end, others may work
                for completion in self.rows:
                    end(completion, error)
                self.clear()
        for completion in (*self.waiting, *self.rows):
            end(completion, RuntimeError("the server is stopping"))

    def receive(self) -> bool:
        """Take in what has been submitted, and wait for it if there is nothing else to do. False when it is over."""
        idle = not self.rows and not self.waiting
        while idle or not self.inbox.empty():
            completion = self.inbox.get()
            if completion is None:
                return False
            self.waiting.append(completion)
            idle = False
        return True

    def admit(self) -> None:
        """Drop the rows that were cancelled, and fill the batch from those waiting, first come first served."""
        for completion in [row for row in self.rows if row.future.cancelled()]:
            self.leave(completion)
        self.waiting = deque(completion for completion in self.waiting if not completion.future.cancelled())
        while self.waiting and len(self.rows) < self.max_batch_size:
            completion = self.waiting.popleft()
            try:
                prompt = self.computed(tuple(completion.prompt))
                self.inferences["prefill"] += 1
                (first,) = choose([completion], prompt.scores[None])
                if not self.advance(completion, *first):
                    self.join(completion, prompt, shares=self.is_shared(prompt))
            except BaseException as error:
                end(completion, error)

    def is_shared(self, prompt: ComputedPrompt) -> bool:
        """Whether rows that attend to the prompt are in the batch, or may soon be."""
        ids = list(prompt.ids)
        return prompt in self.rows.values() or any(completion.prompt == ids for completion in self.waiting)

    def join(self, completion: Completion, prompt: ComputedPrompt, shares: bool) -> None:
        """A new row, which shares its prompt with others or keeps a copy."""
        kv = prompt.kv[:, :, 0]
        self.cache.join(completion, kv[..., :0, :] if shares else kv)
        self.rows[completion] = prompt if shares else None

    def leave(self, completion: Completion) -> None:
        self.cache.leave(completion)
        del self.rows[completion]

    def clear(self) -> None:
        """Forget all rows, of whatever state."""
        self.cache = RowsCache()
        self.rows = {}

    def step(self) -> None:
        """Compute one more token for every row."""
        completions, scores = self.scores_of_rows()
        self.inferences["decode"] += 1
        for completion, chosen in zip(completions, choose(completions, scores), strict=True):
            if self.advance(completion, *chosen):
                self.leave(completion)

    def scores_of_rows(self) -> tuple[list[Completion], Tensor]:
        """All rows, and the scores of the next token of each [rows, vocabulary]."""
        rows = self.cache.prepare()
        members: dict[ComputedPrompt, list[int]] = {}
        for number, row in enumerate(rows):
            if prompt := self.rows[row]:
                members.setdefault(prompt, []).append(number)
        device = self.model.device
        scores = self.model(
            input_ids=torch.tensor([[row.tokens[-1].id] for row in rows], device=device),
            position_ids=torch.tensor([[len(row.prompt) + len(row.tokens) - 1] for row in rows], device=device),
            past_key_values=self.cache,
            shared=SharedPrompts([(of_prompt, prompt.kv) for prompt, of_prompt in members.items()], self.cache),
        ).logits[:, -1]
        return rows, scores

    def advance(self, completion: Completion, id: int, logprob: float) -> bool:
        """Give a completion its next token; whether that was its last."""
        text = completion.decoder.step(self.tokenizer.backend_tokenizer, id)
        completion.tokens.append(Token(id, text, logprob, id in self.special))
        completion.text += text
        finish_reason: FinishReason | None = None
        if len(completion.tokens) >= completion.max_new_tokens:  # first, as in TGI
            finish_reason = "length"
        elif id in self.eos:
            finish_reason = "eos_token"
        elif any(stop in completion.text[-len(stop) - len(text) :] for stop in completion.stop):
            finish_reason = "stop_sequence"
        if finish_reason:
            end(completion, finish_reason)
        return finish_reason is not None

    def computed(self, ids: tuple[int, ...]) -> ComputedPrompt:
        """The prompt as it is kept, or computed from where it differs from the nearest one that is there."""
        known = self.prompts.get(ids)
        if known is None:
            known = self.prompts[ids] = self.prefill(ids, self.beginning(ids) if self.keeps_beginnings else None)
        self.prompts.move_to_end(ids)
        in_use = {known.ids, *(prompt.ids for prompt in self.rows.values() if prompt)}  # these stay in memory anyway
        idle = [other for other in self.prompts if other not in in_use]
        while sum(map(len, idle)) > PROMPT_TOKENS_KEPT:
            del self.prompts[idle.pop(0)]
        return known

    def beginning(self, ids: tuple[int, ...]) -> Tensor | None:
        """The keys and values of the beginning that a prompt has in common with one that is kept, or that a row has to
        itself; None if it is short."""
        known = [(common(prompt.ids, ids), prompt.kv) for prompt in self.prompts.values()]
        for row, prompt in self.rows.items():
            if prompt is None:
                known.append((common(row.prompt, ids), self.cache.tokens_of(row)[:, :, None]))
        reused, kv = max(known, key=lambda each: each[0], default=(0, None))
        reused = min(reused, len(ids) - 1)
        return kv[..., :reused, :] if kv is not None and reused >= WORTH_REUSING else None

    def prefill(self, ids: tuple[int, ...], kept: Tensor | None) -> ComputedPrompt:
        """Compute a prompt, but for its beginning whose keys and values are `kept`."""
        start, device = 0 if kept is None else kept.shape[-2], self.model.device
        cache = PromptCache()
        scores = self.model(
            input_ids=torch.tensor([ids[start:]], device=device),
            position_ids=torch.arange(start, len(ids), device=device)[None],
            past_key_values=cache,
            shared=SharedPrompts([] if kept is None else [([0], kept)]),
            logits_to_keep=1,
        ).logits[0, -1]
        kv = torch.stack(cache.layers)
        return ComputedPrompt(ids, kv if kept is None else torch.cat([kept, kv], -2), scores)


def end(completion: Completion, outcome: FinishReason | BaseException) -> None:
    """Tell the client, unless it has hung up."""
    with contextlib.suppress(InvalidStateError):
        if not isinstance(outcome, BaseException):
            completion.future.set_result(outcome)
        elif isinstance(outcome, Exception):
            completion.future.set_exception(outcome)
        else:  # a panic of tokenizers, which would end the thread that waits for the future
            completion.future.set_exception(RuntimeError(str(outcome)))


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two prompts share at their beginning."""
    for count, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return count
    return min(len(one), len(other))
