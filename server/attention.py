"""Attention for many rows that continue the same prompt, whose keys and values are computed and read only once.

A row attends to its prompt and to its own tokens (`server.cache`). The two results are merged by their log-sum-exp,
which is exact (Hydragen, arXiv 2402.05099). Where no other row has the prompt, it is among the row's own tokens.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from server.cache import RowsCache

SHARED_PROMPT_ATTENTION = "shared_prompt"  # its name in transformers


@dataclass
class SharedPrompts:
    """Which rows of a batch attend to which prompt: (rows, keys and values [layers, 2, 1, heads, tokens, dim])."""

    groups: list[tuple[list[int], Tensor]]
    own: RowsCache | None = None  # None: each row attends to the new keys, causally

    def __post_init__(self):
        """`order` are the rows that share a prompt, those of each prompt together; None if they are the batch as it
        is."""
        order = [row for rows, _ in self.groups for row in rows]
        as_it_is = order == list(range(1 if self.own is None else sum(self.own.sizes)))
        self.order = None if as_it_is or not order else torch.tensor(order, device=self.groups[0][1].device)

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
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    shared: SharedPrompts,
    **more: Any,
) -> tuple[Tensor, None]:
    """Each row attends to its own keys, and together with the other rows of its prompt to the prompt's."""
    if attention_mask is not None:  # Doge adds numbers of its own to the scores
        raise NotImplementedError("a mask of the model's own")
    if more.get("softcap") is not None or more.get("s_aux") is not None:  # Gemma 2; gpt-oss
        raise NotImplementedError("scores that are capped, or attention sinks")
    rows, heads, tokens, dim = query.shape
    kv_heads, scale = key.shape[1], more.get("scaling") or dim**-0.5
    group, layer = heads // kv_heads, module.layer_idx
    if shared.own is None:
        out, lse = attend(query, key.repeat_interleave(group, 1), value.repeat_interleave(group, 1), scale, causal=True)
        out, lse = out.reshape(rows, kv_heads, -1, dim), lse.reshape(rows, kv_heads, -1)
        query = query.reshape(rows, kv_heads, -1, dim)
    else:  # query heads that share a key head are so many more queries
        query = query.reshape(rows, kv_heads, -1, dim)
        blocks = zip(query.split(shared.own.sizes), shared.own.own_tokens(layer), strict=True)
        out, lse = together(attend(some, own.keys, own.values, scale, mask=own.mask) for some, own in blocks)
    if shared.groups:
        order = ... if shared.order is None else shared.order
        to_prompts = together(
            attend_together(some, kv[layer, 0], kv[layer, 1], scale) for some, kv in shared.split(query[order])
        )
        out[order] = merged(out[order], lse[order], *to_prompts)
    return out.reshape(rows, heads, tokens, dim).transpose(1, 2), None


def together(parts: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """What `attend` gives, of all parts of the batch."""
    out, lse = zip(*parts, strict=True)
    return torch.cat(out), torch.cat(lse)


def merged(out: Tensor, lse: Tensor, other: Tensor, other_lse: Tensor) -> Tensor:
    """Attention to two parts of the keys, from what `attend` gives for each."""
    weight = (other_lse - lse).sigmoid()[..., None].to(out.dtype)
    return torch.lerp(out, other.to(out.dtype), weight)


AttentionInterface.register(SHARED_PROMPT_ATTENTION, shared_prompt_attention)  # type: ignore
