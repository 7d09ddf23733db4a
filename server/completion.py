"""One completion: what a client asked for, the tokens that it has so far, and how the next one is chosen."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal

import torch
from tokenizers import Tokenizer
from torch import Tensor

BLOCK = 128  # of the vocabulary, in which a drawn number is looked up
ROWS_AT_ONCE = 16  # on a busy machine, 64 rows of 151,936 tokens take 22 ms by 16, and 87 ms all at once
CONTEXT_TOKENS = 4  # of the prompt, decoded with what follows it, as a tokenizer may drop a leading space

FinishReason = Literal["length", "eos_token", "stop_sequence"]  # TGI's


@dataclass(frozen=True)
class Token:
    """A generated token; its log-probability is that after temperature, top-k and top-p, as with TGI."""

    id: int
    text: str
    logprob: float
    special: bool


class Decoder:
    """The text, with special tokens, of tokens that come one by one, decoded behind those before them, as TGI does.

    tokenizers' own DecodeStream fails on a byte token that spoils the one before it: "\\n" and half a character.
    """

    def __init__(self, before: list[int]):
        self.ids, self.known = list(before), len(before)

    def step(self, tokenizer: Tokenizer, id: int) -> str:
        """What the token adds to the text: nothing as long as the last character is not complete."""
        self.ids.append(id)
        known = tokenizer.decode(self.ids[: self.known], skip_special_tokens=False)
        text = tokenizer.decode(self.ids, skip_special_tokens=False)
        if len(text) <= len(known) or text.endswith("\ufffd"):
            return ""
        self.ids, self.known = self.ids[self.known :], len(self.ids) - self.known
        return text[len(known) :]


@dataclass(eq=False)
class Completion:
    """A completion in progress. Its `future` becomes done with `finish_reason`, or with the exception that ended it;
    whoever cancels it takes the completion out of the batch."""

    prompt: list[int]
    max_new_tokens: int
    seed: int | None = None  # None: greedy decoding
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    future: Future[FinishReason] = field(default_factory=Future)

    def __post_init__(self):
        # A generator of its own: what is drawn here does not depend on the rest of the batch.
        self.generator = torch.Generator()
        if self.seed is not None:
            self.generator.manual_seed(self.seed)
        self.tokens: list[Token] = []
        self.text = ""  # with special tokens
        self.decoder = Decoder(self.context)

    @property
    def context(self) -> list[int]:
        """The end of the prompt, with which the tokens are decoded."""
        return self.prompt[-CONTEXT_TOKENS:]


def choose(completions: Sequence[Completion], scores: Tensor) -> list[tuple[int, float]]:
    """The next token of each completion and its log-probability, from scores [completions, vocabulary]."""
    rows = range(0, len(completions), ROWS_AT_ONCE)
    return [each for i in rows for each in drawn(completions[i : i + ROWS_AT_ONCE], scores[i : i + ROWS_AT_ONCE])]


def drawn(completions: Sequence[Completion], scores: Tensor) -> list[tuple[int, float]]:
    """What `choose` does, for rows that fit into the processor's cache together.

    In TGI's order: temperature, top-k, top-p. Each draw is one uniform number, looked up in the cumulated
    probabilities.
    """
    greedy = torch.tensor([completion.seed is None for completion in completions], device=scores.device)
    temperatures = [1.0 if completion.seed is None else completion.temperature for completion in completions]
    # In float32 from here on, also where all temperatures are whole numbers.
    scores = scores / torch.tensor(temperatures, dtype=torch.float32, device=scores.device)[:, None]
    for row, completion in enumerate(completions):
        if completion.seed is not None and (completion.top_k is not None or completion.top_p is not None):
            scores[row] = narrowed(scores[row], completion.top_k, completion.top_p)
    probabilities = scores.softmax(-1)
    uniform = [0.0 if c.seed is None else float(torch.rand(1, generator=c.generator)) for c in completions]
    found = look_up(probabilities, torch.tensor(uniform, device=scores.device))
    tokens = (torch.where(greedy, scores.argmax(-1), found) if greedy.any() else found)[:, None]
    logprobs = probabilities.gather(1, tokens).log()
    return list(zip(tokens[:, 0].tolist(), logprobs[:, 0].tolist(), strict=True))


def look_up(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """For each row of probabilities [rows, vocabulary], where its number from [0, 1) falls in their cumulated sum.

    Sums of blocks are cumulated first, then the one block in which the number falls: cumulating the whole vocabulary
    of 151,936 tokens for 64 rows took 9 ms a step more on a busy machine.
    """
    missing = -probabilities.shape[-1] % BLOCK
    padded = torch.nn.functional.pad(probabilities, (0, missing)) if missing else probabilities  # it always copies
    blocks = padded.unflatten(-1, (-1, BLOCK))
    upto = blocks.sum(-1).cumsum(-1)
    target = uniform[:, None] * upto[:, -1:]
    block = first_above(upto, target)
    before = torch.where(block > 0, upto.gather(1, (block - 1).clamp(min=0)), 0)
    inside = blocks.gather(1, block[..., None].expand(-1, -1, BLOCK))[:, 0].cumsum(-1)
    return (block * BLOCK + first_above(inside, target - before))[:, 0]


def first_above(cumulated: Tensor, target: Tensor) -> Tensor:
    """In each row, the first place above `target` [rows, 1]: one of positive probability, also if rounding has put
    the target at the end or beyond it."""
    target = torch.minimum(target, torch.nextafter(cumulated[:, -1:], torch.zeros_like(target)))
    return torch.searchsorted(cumulated, target, right=True)


def narrowed(scores: Tensor, top_k: int | None, top_p: float | None) -> Tensor:
    """Scores [vocabulary] with -inf for all but the tokens that top-k, then top-p, keep."""
    if top_k is not None and top_k < len(scores):
        scores = scores.masked_fill(scores < scores.topk(top_k).values[-1], -torch.inf)
    return scores if top_p is None else keep_top_p(scores, top_p)


def keep_top_p(scores: Tensor, top_p: float) -> Tensor:
    """Nucleus sampling (arXiv 1904.09751): -inf for all but the likeliest tokens that together reach `top_p`."""
    probabilities = scores.softmax(-1)
    # Tokens below this bound add up to less than 1 - top_p, so none of them is in the nucleus: sorting the few others
    # takes 0.2 ms a row, sorting the whole vocabulary 4 ms. The likeliest token is always in it.
    bound = min((1 - top_p) / len(scores), float(probabilities.max()))
    likely = (probabilities >= bound).nonzero().squeeze(1)
    ordered, order = probabilities[likely].sort(descending=True)
    nucleus = likely[order[ordered.cumsum(0) - ordered < top_p]]
    return torch.full_like(scores, -torch.inf).index_copy_(0, nucleus, scores[nucleus])
