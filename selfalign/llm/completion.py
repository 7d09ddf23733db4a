"""What a model is asked for, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass

PROMPT_TOO_LONG = "prompt_too_long"
UNFINISHED = "unfinished"


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
    reasoning: str | None = None
    """What a thinking model wrote before its answer, which is `text`; None if it did not think."""
    in_reasoning: bool = False
    """Whether the reasoning was not ended, so that there is no answer."""

    @property
    def is_cut_off(self) -> bool:
        """Whether the model had more to say: it reached the token limit, or a provider's moderation stepped in."""
        return self.in_reasoning or self.finish_reason in ("length", "content_filter")

    @property
    def whole(self) -> str:
        """Reasoning and answer, to compare samples by."""
        return (self.reasoning or "") + self.text

    def failure(self, otherwise: str) -> str:
        """Why a row cannot be used: "prompt_too_long" if the prompt was too long, "unfinished" if the answer ended in
        the reasoning, else the caller's own reason."""
        if self.finish_reason == PROMPT_TOO_LONG:
            return PROMPT_TOO_LONG
        return UNFINISHED if self.in_reasoning else otherwise


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
    send_stop: bool = True
    """Whether the server may stop at `stop`, or only the client cuts there: the reasoning before an answer may well
    have a line break in it."""
