"""One completion: what a client asked for, the tokens that it has so far, and how the next one is chosen."""

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal

import torch
from tokenizers.decoders import DecodeStream
from torch import Tensor

CONTEXT_TOKENS = 4  # of the prompt, decoded with what follows it, as a tokenizer may drop a leading space

FinishReason = Literal["length", "eos_token", "stop_sequence"]  # TGI's


@dataclass(frozen=True)
class Token:
    """A generated token; its log-probability is that after temperature, top-k and top-p, as with TGI."""

    id: int
    text: str
    logprob: float
    special: bool


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
        self.decoder = DecodeStream(ids=self.context, skip_special_tokens=False)

    @property
    def context(self) -> list[int]:
        """The end of the prompt, with which the tokens are decoded."""
        return self.prompt[-CONTEXT_TOKENS:]


def choose(completion: Completion, scores: Tensor) -> tuple[int, float]:
    """The next token and its log-probability, from scores [vocabulary]; in TGI's order: temperature, top-k, top-p."""
    scores = scores.float()
    if completion.seed is None:
        token = int(scores.argmax())
        return token, float(scores[token] - scores.logsumexp(-1))
    scores = scores / completion.temperature
    if completion.top_k is not None and completion.top_k < len(scores):
        scores = scores.masked_fill(scores < scores.topk(completion.top_k).values[-1], -torch.inf)
    if completion.top_p is not None:
        scores = keep_top_p(scores, completion.top_p)
    logprobs = scores.log_softmax(-1)
    cumulated = logprobs.exp().cumsum(0)  # one uniform number for each token, looked up in the cumulated probabilities
    drawn = torch.rand(1, generator=completion.generator).to(scores.device) * cumulated[-1]
    token = int(torch.searchsorted(cumulated, drawn, right=True).clamp(max=len(scores) - 1))
    return token, float(logprobs[token])


def keep_top_p(scores: Tensor, top_p: float) -> Tensor:
    """Nucleus sampling (arXiv 1904.09751): -inf for all but the likeliest tokens that together reach `top_p`."""
    probabilities = scores.softmax(-1)
    # Tokens below this bound add up to less than 1 - top_p, so none of them is in the nucleus: sorting the few others
    # takes 0.2 ms a row, sorting the whole vocabulary 4 ms.
    likely = (probabilities > (1 - top_p) / len(scores)).nonzero().squeeze(1)
    ordered, order = probabilities[likely].sort(descending=True)
    nucleus = likely[order[ordered.cumsum(0) - ordered < top_p]]
    return torch.full_like(scores, -torch.inf).index_copy_(0, nucleus, scores[nucleus])
