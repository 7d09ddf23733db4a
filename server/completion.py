"""One completion: what a client asked for, and the tokens that it has so far."""

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal

import torch
from tokenizers.decoders import DecodeStream

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
