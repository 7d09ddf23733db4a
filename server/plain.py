"""The engine for models that are not all ordinary attention: layers with a state (Qwen3.5), compressed keys and values
(DeepSeek-V2), capped scores (Gemma 2). Each row has a cache of transformers' own and is computed by itself, so a batch
is no faster."""

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from server.completion import Completion
from server.engine import ComputedPrompt, Engine
from server.packed import pack, unpack

TRIED = 5  # tokens: enough for a prompt and a step
SAME = 0.05  # of the largest score: bfloat16 rounds by a hundredth, and a layer that is not understood does far more


class PlainEngine(Engine):
    """An engine that leaves attention and caches to transformers."""

    attention = None
    keeps_beginnings = False

    def __init__(self, *arguments: Any, **more: Any):
        super().__init__(*arguments, **more)
        self.caches: dict[Completion, Any] = {}
        self.takes_positions = "position_ids" in inspect.signature(self.model.forward).parameters

    def prefill(self, ids: tuple[int, ...], kept: Tensor | None) -> ComputedPrompt:
        answer = self.answer(ids, 0, DynamicCache(config=self.model.config))
        return ComputedPrompt(ids, answer.past_key_values, answer.logits[0, -1])

    def answer(self, ids: Sequence[int], start: int, cache: Any) -> Any:
        """What the model says to `ids` at the positions from `start` on. It is told these, as by transformers'
        `generate`: Bamba does not see them from its cache."""
        device = self.model.device
        positions = {"position_ids": torch.arange(start, start + len(ids), device=device)[None]}
        return self.model(
            input_ids=torch.tensor([ids], device=device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            **(positions if self.takes_positions else {}),
        )

    def join(self, completion: Completion, prompt: ComputedPrompt, shares: bool) -> None:
        self.caches[completion] = copy.deepcopy(prompt.kv)
        self.rows[completion] = prompt

    def leave(self, completion: Completion) -> None:
        del self.rows[completion], self.caches[completion]

    def clear(self) -> None:
        self.rows, self.caches = {}, {}

    def scores_of_rows(self) -> tuple[list[Completion], Tensor]:
        scores = []
        for row in self.rows:
            start = len(row.prompt) + len(row.tokens) - 1
            scores.append(self.answer([row.tokens[-1].id], start, self.caches[row]).logits[0, -1])
        return list(self.rows), torch.stack(scores)


@torch.inference_mode()
def engine_for(model: PreTrainedModel, tokenizer: Any, max_batch_size: int, halve: bool = False) -> Engine:
    """The engine that shares prompts, if it computes what the model does by itself; otherwise the plain one. Either
    has packed weights, if these work and are not quantized; with `halve`, they may be rounded to float16
    (`server.packed`).

    Raises:
        ValueError: neither can compute the model.
    """
    ids = list(range(min(TRIED, model.config.get_text_config().vocab_size)))
    expected = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0, -1].float()
    ordinary: Any = model.config._attn_implementation
    failure: Exception | None = None
    for kind in (Engine, PlainEngine):
        if kind is PlainEngine:
            model.set_attn_implementation(ordinary)
        for packs in (True, False):
            try:
                if packs:
                    pack(model, halve)
                else:
                    unpack(model)
                engine = kind(model, tokenizer, max_batch_size)
                difference = (scores_of(engine, ids) - expected).abs().max()
            except Exception as error:  # whatever torch or a model raises for caches or layers that it can't use
                failure = error
                continue
            if difference <= SAME * expected.abs().max() or (kind is PlainEngine and not packs):
                return engine
    of_model = model.config.model_type  # Mamba, say, which has a state of its own in place of transformers' cache
    raise ValueError(f"serve.py can't compute models of the kind {of_model}: use TGI or vLLM ({failure})")


def scores_of(engine: Engine, ids: list[int]) -> Tensor:
    """The scores [2, vocabulary] that an engine computes behind `ids`, the last one as if the model had said it: for a
    row that shares its prompt, and for one that does not."""
    prompt = engine.prefill(tuple(ids[:-1]), None)
    for shares in (True, False):
        completion = Completion(prompt=ids[:-1], max_new_tokens=2)
        engine.advance(completion, ids[-1], 0.0)
        engine.join(completion, prompt, shares)
    _, scores = engine.scores_of_rows()
    engine.clear()
    return scores.float()
