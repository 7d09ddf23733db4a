"""What a model is asked for, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass

PROMPT_TOO_LONG = "prompt_too_long"


@dataclass(frozen=True)
class Completion:
    """What the model wrote, without the stop sequence that ended it.

    `finish_reason` is "stop_sequence", "eos_token", "stop" (one of the former two: OpenAI's interface does not say
    which), "length", "content_filter", or "prompt_too_long", in which case there is no text.
    """

    text: str
    finish_reason: str
    generated_tokens: int
    logprob: float | None = None
    """The sum of the tokens' log-probabilities, where the server tells them (TGI does)."""

    @property
    def is_cut_off(self) -> bool:
        """Whether the model had more to say: it reached the token limit, or a provider's moderation stepped in."""
        return self.finish_reason in ("length", "content_filter")

    def failure(self, otherwise: str) -> str:
        """Why a row cannot be used: "prompt_too_long" if the prompt was too long, else the caller's own reason."""
        return self.finish_reason if self.finish_reason == PROMPT_TOO_LONG else otherwise


@dataclass(frozen=True)
class CompletionRequest:
    """A request for `n` completions of `prompt`; a temperature of 0 means greedy decoding."""

    prompt: str
    max_new_tokens: int
    seed: int
    n: int = 1
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float | None = None
