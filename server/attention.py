"""Attention for many rows that continue the same prompt, whose keys and values are computed and read only once.

A row attends to its prompt and to its own tokens. The two results are merged by their log-sum-exp, which is exact
(Hydragen, arXiv 2402.05099).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

SHARED_PROMPT_ATTENTION = "shared_prompt"  # its name in transformers
FIRST_TOKENS = 64  # for which a new block of keys and values has room


@dataclass
class SharedPrompts:
    """Which rows of a batch attend to which prompt: (rows, keys and values [layers, 2, 1, heads, tokens, dim])."""

    groups: list[tuple[list[int], Tensor]]
    mask: Tensor | None = None  # [rows, 1, 1, own tokens], added to the scores; None: causal

    def __post_init__(self):
        """`order` puts the rows of each prompt together, and `back` undoes that; None if they are together already."""
        order = [row for rows, _ in self.groups for row in rows]
        together = order == sorted(order)
        self.order = None if together else torch.tensor(order, device=self.groups[0][1].device)
        self.back = None if self.order is None else self.order.argsort()

    def split(self, query: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The queries of each prompt's rows, which are in `order`, and the prompt's keys and values."""
        return zip(query.split([len(rows) for rows, _ in self.groups]), (kv for _, kv in self.groups), strict=True)


def attend(query: Tensor, key: Tensor, value: Tensor, scale: float, mask: Tensor | None = None, causal: bool = False):
    """Attention and the log-sum-exp of its scores: [batch, heads, queries, dim] and [batch, heads, queries]."""
    if query.device.type == "cpu":  # the kernel behind scaled_dot_product_attention, which hides the log-sum-exp
        kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        return kernel(query, key, value, is_causal=causal, attn_mask=mask, scale=scale)
    scores = (query @ key.transpose(2, 3)).float() * scale
    if causal:
        scores += torch.full(scores.shape[2:], -torch.inf, device=scores.device).triu(1)
    if mask is not None:
        scores += mask
    lse = scores.logsumexp(-1)
    return (scores - lse[..., None]).exp().to(value.dtype) @ value, lse


def attend_together(query: Tensor, key: Tensor, value: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Attention of several rows [rows, heads, queries, dim] to the same keys, as if they were one: as `attend`."""
    rows, heads, _, dim = query.shape
    out, lse = attend(query.transpose(0, 1).reshape(1, heads, -1, dim), key, value, scale)
    return out.view(heads, rows, -1, dim).transpose(0, 1), lse.view(heads, rows, -1).transpose(0, 1)


def shared_prompt_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: None, *, shared: SharedPrompts, **more: Any
) -> tuple[Tensor, None]:
    """Each row attends to its own keys, and together with the other rows of its prompt to the prompt's."""
    if more.get("softcap") is not None or more.get("s_aux") is not None:  # Gemma 2; gpt-oss
        raise NotImplementedError("scores that are capped, or attention sinks")
    rows, heads, tokens, dim = query.shape
    kv_heads, scale = key.shape[1], more.get("scaling") or dim**-0.5
    group = heads // kv_heads
    if shared.mask is None:
        out, lse = attend(query, key.repeat_interleave(group, 1), value.repeat_interleave(group, 1), scale, causal=True)
        out, lse = out.reshape(rows, kv_heads, -1, dim), lse.reshape(rows, kv_heads, -1)
        query = query.reshape(rows, kv_heads, -1, dim)
    else:  # query heads that share a key head are so many more queries
        query = query.reshape(rows, kv_heads, -1, dim)
        out, lse = attend(query, key, value, scale, mask=shared.mask)
    if shared.groups:
        query = query if shared.order is None else query[shared.order]
        layer = module.layer_idx
        parts = [attend_together(some, kv[layer, 0], kv[layer, 1], scale) for some, kv in shared.split(query)]
        prompt_out, prompt_lse = (torch.cat(some) for some in zip(*parts, strict=True))
        if shared.back is not None:
            prompt_out, prompt_lse = prompt_out[shared.back], prompt_lse[shared.back]
        weight = (prompt_lse - lse).sigmoid()[..., None].to(out.dtype)
        out = torch.lerp(out, prompt_out.to(out.dtype), weight)
    return out.reshape(rows, heads, tokens, dim).transpose(1, 2), None


AttentionInterface.register(SHARED_PROMPT_ATTENTION, shared_prompt_attention)  # type: ignore


class PromptCache:
    """Records the keys and values of a prompt as the model computes them."""

    def __init__(self):
        self.layers: list[Tensor] = []

    def update(self, key: Tensor, value: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.layers.append(torch.stack([key, value]))
        return key, value

    def get_seq_length(self, *_: Any) -> int:
        return 0


class RowsCache:
    """Keys and values of the tokens that each row has generated.

    They are one block [layers, 2, rows, heads, tokens, dim], which has no gaps between rows and grows by doubling.
    """

    def __init__(self):
        self.block: Tensor | None = None
        self.lengths = torch.zeros(0, dtype=torch.long)

    def prepare(self, like: Tensor, lengths: list[int]) -> None:
        """Make room for one more token in each row; `like` are the keys and values of some prompt."""
        layers, _, _, heads, _, dim = like.shape
        rows, tokens = len(lengths), max(lengths) + 1
        old = self.block
        if old is None or old.shape[2] < rows or old.shape[4] < tokens:
            had = (0, FIRST_TOKENS) if old is None else (old.shape[2], old.shape[4])
            rows = had[0] if rows <= had[0] else max(rows, 2 * had[0])
            tokens = had[1] if tokens <= had[1] else max(tokens, 2 * had[1])
            self.block = like.new_zeros(layers, 2, rows, heads, tokens, dim)
            if old is not None:
                self.block[:, :, : old.shape[2], :, : old.shape[4]] = old
        self.lengths = torch.tensor(lengths, device=like.device)
        self.rows = torch.arange(len(lengths), device=like.device)
        self.longest = max(lengths) + 1

    def mask(self, dtype: torch.dtype) -> Tensor:
        """What hides the room that a row does not use: [rows, 1, 1, own tokens]."""
        unused = torch.arange(self.longest, device=self.lengths.device) > self.lengths[:, None]
        mask = torch.zeros(unused.shape, dtype=dtype, device=unused.device).masked_fill(unused, -torch.inf)
        return mask[:, None, None]

    def move(self, source: int, target: int) -> None:
        """Put one row in the place of another."""
        if self.block is not None and source != target:
            self.block[:, :, target] = self.block[:, :, source]

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        assert self.block is not None
        keys, values = self.block[layer]
        keys[self.rows, :, self.lengths] = key[:, :, 0]
        values[self.rows, :, self.lengths] = value[:, :, 0]
        rows = len(self.rows)
        return keys[:rows, :, : self.longest], values[:rows, :, : self.longest]

    def get_seq_length(self, *_: Any) -> int:
        return 0
