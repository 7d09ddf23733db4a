"""Continuous batching for any transformers model with ordinary attention: the engine behind serve.py.

SelfCodeAlign asks a model for many samples of the same long prompt. So a prompt's keys and values are computed once and
stay where they are; the rows that sample from it keep only the keys and values of their own tokens. Attention over the
two parts is merged by their log-sum-exp (as in "cascade" or "Hydragen" attention, arXiv:2402.05099): exact, and the
prompt is read once for all of its samples, which on a CPU is most of the work of a decoding step.
"""

import queue
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from tokenizers.decoders import DecodeStream
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel, PreTrainedTokenizerFast
from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor, TypicalLogitsWarper

PROMPTS_KEPT = 8192  # tokens of prompts kept beside those in use: 23 KB each for SmolLM2-135M in bfloat16
WORTH_REUSING = 16  # tokens: a common beginning shorter than this is computed anew


@dataclass(frozen=True)
class Token:
    """One generated token; the last one of a request says why it ended."""

    id: int
    text: str
    logprob: float
    special: bool
    finish_reason: str | None = None


@dataclass(eq=False)
class Request:
    """What one client wants, and how far it is. `emit` gets each Token, or the exception that ended it, in the engine's
    thread."""

    inputs: list[int]
    max_new_tokens: int
    emit: Callable[[Token | Exception], Any]
    seed: int | None = None  # None: greedy
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    typical_p: float | None = None
    repetition_penalty: float | None = None
    stop: list[str] = field(default_factory=list)
    cancelled: bool = False

    def __post_init__(self):
        # A generator of its own: a request's draws do not depend on its neighbours in the batch.
        self.generator = torch.Generator()
        if self.seed is not None:
            self.generator.manual_seed(self.seed)
        self.tokens: list[int] = []
        self.text = ""
        self.stream = DecodeStream(ids=self.inputs[-4:], skip_special_tokens=False)


# Choosing a token ----------------------------------------------------------------------------------------------------


def keep_top_p(scores: Tensor, top_p: float) -> Tensor:
    """Nucleus sampling (arXiv:1904.09751): -inf for all but the likeliest tokens that together reach `top_p`."""
    probabilities = scores.softmax(-1)
    # Tokens below this bound add up to less than 1 - top_p, so none of them is in the nucleus: sorting the few others
    # takes 0.2 ms a row, sorting the whole vocabulary 4 ms.
    likely = (probabilities > (1 - top_p) / len(scores)).nonzero().squeeze(1)
    ordered, order = probabilities[likely].sort(descending=True)
    nucleus = likely[order[ordered.cumsum(0) - ordered < top_p]]
    return torch.full_like(scores, -torch.inf).index_copy_(0, nucleus, scores[nucleus])


def choose(request: Request, scores: Tensor) -> tuple[int, float]:
    """The next token and its log-probability, from scores [vocabulary]; in TGI's order: penalty, temperature, top-k,
    top-p, typical-p."""
    scores = scores.float()
    if request.repetition_penalty is not None:
        seen = torch.tensor([request.inputs + request.tokens], device=scores.device)
        scores = RepetitionPenaltyLogitsProcessor(request.repetition_penalty)(seen, scores[None])[0]  # type: ignore
    if request.seed is None:
        token = int(scores.argmax())
        return token, float(scores[token] - scores.logsumexp(-1))
    scores = scores / request.temperature
    if request.top_k is not None and request.top_k < len(scores):
        scores = scores.masked_fill(scores < scores.topk(request.top_k).values[-1], -torch.inf)
    if request.top_p is not None:
        scores = keep_top_p(scores, request.top_p)
    if request.typical_p is not None:
        scores = TypicalLogitsWarper(request.typical_p)(None, scores[None])[0]  # type: ignore
    logprobs = scores.log_softmax(-1)
    cumulated = logprobs.exp().cumsum(0)  # one uniform number a token, looked up in the cumulated probabilities
    drawn = torch.rand(1, generator=request.generator).to(scores.device) * cumulated[-1]
    token = int(torch.searchsorted(cumulated, drawn, right=True).clamp(max=len(scores) - 1))
    return token, float(logprobs[token])


# Attention -----------------------------------------------------------------------------------------------------------


@dataclass
class Shared:
    """Which rows of a batch attend to which prompt: (rows [n], keys and values [layers, 2, 1, heads, tokens, dim])."""

    groups: list[tuple[Tensor, Tensor]]
    mask: Tensor | None = None  # [rows, 1, 1, own tokens], added to the scores; None: causal


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


def shared_prompt_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: None, *, shared: Shared, **options: Any
) -> tuple[Tensor, None]:
    """Each row attends to its own keys, and to its prompt's together with the other rows of that prompt."""
    rows, heads, tokens, dim = query.shape
    kv_heads, scale = key.shape[1], options.get("scaling") or dim**-0.5
    group = heads // kv_heads
    if shared.mask is None:
        out, lse = attend(query, key.repeat_interleave(group, 1), value.repeat_interleave(group, 1), scale, causal=True)
        out, lse = out.reshape(rows, kv_heads, -1, dim), lse.reshape(rows, kv_heads, -1)
        query = query.reshape(rows, kv_heads, -1, dim)
    else:  # query heads of the same key head are that many more queries
        query = query.reshape(rows, kv_heads, -1, dim)
        out, lse = attend(query, key, value, scale, mask=shared.mask)
    for members, prompt in shared.groups:
        key, value = prompt[module.layer_idx]
        together = query[members].transpose(0, 1).reshape(1, kv_heads, -1, dim)
        prompt_out, prompt_lse = attend(together, key, value, scale)
        prompt_out = prompt_out.view(kv_heads, len(members), -1, dim).transpose(0, 1)
        prompt_lse = prompt_lse.view(kv_heads, len(members), -1).transpose(0, 1)
        weight = (prompt_lse - lse[members]).sigmoid()[..., None].to(out.dtype)
        out[members] = torch.lerp(out[members], prompt_out.to(out.dtype), weight)
    return out.reshape(rows, heads, tokens, dim).transpose(1, 2), None


AttentionInterface.register("shared_prompt", shared_prompt_attention)  # type: ignore


class PromptCache:
    """Takes down the keys and values of a prompt as the model computes them."""

    def __init__(self):
        self.layers: list[Tensor] = []

    def update(self, key: Tensor, value: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.layers.append(torch.stack([key, value]))
        return key, value

    def get_seq_length(self, *_: Any) -> int:
        return 0


class RowsCache:
    """Keys and values of the tokens that each row generated: one block [layers, 2, rows, heads, tokens, dim], dense in
    rows, which grows by doubling."""

    def __init__(self):
        self.block: Tensor | None = None
        self.lengths = torch.zeros(0, dtype=torch.long)

    def prepare(self, like: Tensor, lengths: list[int]) -> None:
        """Makes room for one more token in each row, in blocks shaped as the prompt's `like`."""
        layers, _, _, heads, _, dim = like.shape
        rows, tokens = len(lengths), max(lengths) + 1
        old = self.block
        if old is None or old.shape[2] < rows or old.shape[4] < tokens:
            had = (0, 64) if old is None else (old.shape[2], old.shape[4])
            rows = had[0] if rows <= had[0] else max(rows, 2 * had[0])
            tokens = had[1] if tokens <= had[1] else max(tokens, 2 * had[1])
            self.block = like.new_zeros(layers, 2, rows, heads, tokens, dim)
            if old is not None:
                self.block[:, :, : old.shape[2], :, : old.shape[4]] = old
        self.lengths = torch.tensor(lengths, device=like.device)
        self.rows = torch.arange(len(lengths), device=like.device)
        self.longest = max(lengths) + 1

    def mask(self, dtype: torch.dtype) -> Tensor:
        unused = torch.arange(self.longest, device=self.lengths.device) > self.lengths[:, None]
        return torch.zeros(unused.shape, dtype=dtype, device=unused.device).masked_fill(unused, -torch.inf)[
            :, None, None
        ]

    def move(self, source: int, target: int) -> None:
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


# The engine ----------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Prompt:
    """A computed prompt: keys and values [layers, 2, 1, heads, tokens, dim], and the scores of its next token."""

    ids: tuple[int, ...]
    kv: Tensor
    scores: Tensor


class Engine:
    """Answers requests in one batch, which finished ones leave and waiting ones join at every step."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, max_batch_size: int):
        self.model, self.tokenizer, self.max_batch_size = model, tokenizer, max_batch_size
        eos: Any = model.generation_config.eos_token_id if model.generation_config else None
        self.eos = set([tokenizer.eos_token_id] + (eos if isinstance(eos, list) else [eos]))
        self.special = set(tokenizer.all_special_ids)
        self.inbox: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self.waiting: deque[Request] = deque()
        self.rows: list[tuple[Request, Prompt]] = []
        self.cache = RowsCache()
        self.prompts: OrderedDict[tuple[int, ...], Prompt] = OrderedDict()
        self.thread = threading.Thread(target=self.run, name="engine", daemon=True)
        model.set_attn_implementation("shared_prompt")

    def submit(self, request: Request) -> None:
        self.inbox.put(request)

    def start(self) -> None:
        self.thread.start()

    def stop(self) -> None:
        """Ends the thread, and with an error all requests, after the step at hand."""
        self.inbox.put(None)

    @torch.inference_mode()
    def run(self) -> None:
        while self.receive():
            try:
                self.admit()
                if self.rows:
                    self.step()
            except Exception as error:  # out of memory, a model that fails: these requests end, the next may work
                for request, _ in self.rows:
                    request.emit(error)
                self.rows = []
        for request in (*self.waiting, *(request for request, _ in self.rows)):
            request.emit(RuntimeError("the server is stopping"))

    def receive(self) -> bool:
        """Takes in what came meanwhile, and waits if there is nothing else to do. False: the end."""
        idle = not self.rows and not self.waiting
        while idle or not self.inbox.empty():
            request = self.inbox.get()
            if request is None:
                return False
            self.waiting.append(request)
            idle = False
        return True

    def admit(self) -> None:
        """Drops rows whose client is gone, and fills the batch from the waiting requests, first come first served."""
        for row in reversed(range(len(self.rows))):
            if self.rows[row][0].cancelled:
                self.leave(row)
        while self.waiting and len(self.rows) < self.max_batch_size:
            request = self.waiting.popleft()
            if request.cancelled:
                continue
            try:
                prompt = self.prompt(tuple(request.inputs))
                if not self.advance(request, prompt.scores):
                    self.rows.append((request, prompt))
            except Exception as error:
                request.emit(error)

    def leave(self, row: int) -> None:
        """The last row takes the place of this one, so that rows stay dense."""
        self.cache.move(len(self.rows) - 1, row)
        self.rows[row] = self.rows[-1]
        self.rows.pop()

    def step(self) -> None:
        """One more token for every row."""
        members: dict[Prompt, list[int]] = {}
        for row, (_, prompt) in enumerate(self.rows):
            members.setdefault(prompt, []).append(row)
        device = self.model.device
        self.cache.prepare(self.rows[0][1].kv, [len(request.tokens) - 1 for request, _ in self.rows])
        groups = [(torch.tensor(rows, device=device), prompt.kv) for prompt, rows in members.items()]
        scores = self.model(
            input_ids=torch.tensor([[request.tokens[-1]] for request, _ in self.rows], device=device),
            position_ids=torch.tensor([[len(p.ids) + len(r.tokens) - 1] for r, p in self.rows], device=device),
            past_key_values=self.cache,
            shared=Shared(groups, self.cache.mask(self.model.dtype)),
        ).logits[:, -1]
        ended = [row for row, (request, _) in enumerate(self.rows) if self.advance(request, scores[row])]
        for row in reversed(ended):
            self.leave(row)

    def advance(self, request: Request, scores: Tensor) -> bool:
        """Gives a request its next token; True if that was its last."""
        token, logprob = choose(request, scores)
        request.tokens.append(token)
        text = request.stream.step(self.tokenizer.backend_tokenizer, token) or ""
        request.text += text
        tails = {stop: request.text[-len(stop) - len(text) :] for stop in request.stop}
        finish_reason = None
        if len(request.tokens) >= request.max_new_tokens:  # TGI, too, asks this first
            finish_reason = "length"
        elif token in self.eos:
            finish_reason = "eos_token"
        elif any(stop in tail for stop, tail in tails.items()):
            finish_reason = "stop_sequence"
        request.emit(Token(token, text, logprob, token in self.special, finish_reason))
        return finish_reason is not None

    # Prompts

    def prompt(self, ids: tuple[int, ...]) -> Prompt:
        """The computed prompt: kept from before, or computed from where it parts from those that are kept."""
        known = self.prompts.get(ids)
        if known is None:
            nearest = max(self.prompts.values(), key=lambda other: common(other.ids, ids), default=None)
            reused = min(common(nearest.ids, ids), len(ids) - 1) if nearest else 0
            kept = nearest.kv[..., :reused, :] if nearest and reused >= WORTH_REUSING else None
            known = self.prompts[ids] = self.prefill(ids, kept)
        self.prompts.move_to_end(ids)
        while sum(map(len, self.prompts)) > PROMPTS_KEPT and len(self.prompts) > 1:
            self.prompts.popitem(last=False)
        return known

    def prefill(self, ids: tuple[int, ...], kept: Tensor | None) -> Prompt:
        start, device = 0 if kept is None else kept.shape[-2], self.model.device
        cache = PromptCache()
        scores = self.model(
            input_ids=torch.tensor([ids[start:]], device=device),
            position_ids=torch.arange(start, len(ids), device=device)[None],
            past_key_values=cache,
            shared=Shared([] if kept is None else [(torch.zeros(1, dtype=torch.long, device=device), kept)]),
            logits_to_keep=1,
        ).logits[0, -1]
        kv = torch.stack(cache.layers)
        return Prompt(ids, kv if kept is None else torch.cat([kept, kv], -2), scores)

    @torch.inference_mode()
    def input_logprobs(self, ids: list[int]) -> list[float | None]:
        """The log-probability of each input token after those before it (the first has none)."""
        inputs = torch.tensor([ids], device=self.model.device)
        scores = self.model(input_ids=inputs, use_cache=False, shared=Shared([])).logits[0, :-1].float()
        chosen = scores.log_softmax(-1).gather(1, inputs[0, 1:, None]).squeeze(1)
        return [None, *chosen.tolist()]


def common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """How many tokens two prompts share at their beginning."""
    for count, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return count
    return min(len(one), len(other))
