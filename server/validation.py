"""What a request to serve.py may ask for: checked and refused as TGI does (router/src/validation.rs)."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

MAX_STOP_SEQUENCES = 4  # TGI's default


class TgiError(Exception):
    """An error in TGI's form: an HTTP status, an `error_type` and a message."""

    def __init__(self, status: int, error_type: str, message: str):
        super().__init__(message)
        self.status, self.error_type = status, error_type


def invalid(message: str) -> TgiError:
    """The answer to a request that can't be taken: status 422."""
    return TgiError(422, "validation", f"Input validation error: {message}")


@dataclass(frozen=True)
class Parameters:
    """The parameters of a request, as TGI names them; None leaves the choice to the server."""

    max_new_tokens: int | None = None
    do_sample: bool = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    truncate: int | None = None  # the last tokens of the prompt, as many as this, are kept
    details: bool = False
    return_full_text: bool | None = None

    def is_sampling(self) -> bool:
        """Whether tokens are drawn. A parameter of sampling is enough, as with TGI; a seed alone is not."""
        return self.do_sample or (self.temperature, self.top_k, self.top_p) != (None, None, None)


class Rule(NamedTuple):
    """What a parameter has to be, and TGI's words for anything else, after its name."""

    type: type | tuple[type, ...]
    accepts: Callable[[Any], bool] = lambda _: True
    message: str = ""


NUMBER = (int, float)
POSITIVE = (lambda v: v > 0, "must be strictly positive")
RULES = {
    "max_new_tokens": Rule(int, *POSITIVE),
    "do_sample": Rule(bool),
    "temperature": Rule(NUMBER, *POSITIVE),
    "top_k": Rule(int, *POSITIVE),
    "top_p": Rule(NUMBER, lambda v: 0 < v < 1, "must be > 0.0 and < 1.0"),
    "seed": Rule(int, lambda v: 0 <= v < 2**64, "must be an unsigned 64-bit integer"),
    "stop": Rule(list, lambda v: len(v) <= MAX_STOP_SEQUENCES, f"supports up to {MAX_STOP_SEQUENCES} sequences"),
    "truncate": Rule(int, *POSITIVE),
    "details": Rule(bool),
    "return_full_text": Rule(bool),
}
# What TGI does and serve.py does not, with the values that ask for nothing; null always does.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "adapter_id": ("",),
    "best_of": (1,),
    "decoder_input_details": (False,),
    "frequency_penalty": (0,),
    "grammar": (),
    "repetition_penalty": (1,),
    "stream": (False,),
    "top_n_tokens": (0,),
    "typical_p": (),
    "watermark": (False,),
}


def check(body: Any) -> tuple[str, Parameters]:
    """The prompt and the parameters in the JSON body of a request; raises a TgiError that says what is wrong.

    Fields that TGI does not have either are ignored, as it ignores them.
    """
    if not isinstance(body, dict) or not isinstance(inputs := body.get("inputs"), str):
        raise invalid("`inputs` must be a string")
    if not inputs:
        raise invalid("`inputs` cannot be empty")
    refuse_half_characters("inputs", inputs)
    asked = body.get("parameters") or {}
    if not isinstance(asked, dict):
        raise invalid("`parameters` must be an object")
    asked = asked | {"stream": body.get("stream")}
    refuse_unsupported(asked, UNSUPPORTED)
    return inputs, check_parameters(asked)


def refuse_half_characters(name: str, text: str) -> None:
    """Raises a TgiError if `text` has a lone surrogate, which no tokenizer takes."""
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise invalid(f"`{name}` holds half a character")


def refuse_unsupported(asked: dict[str, Any], unsupported: dict[str, tuple[Any, ...]]) -> None:
    """Raises a TgiError if a field of `asked` asks for something that serve.py does not do."""
    for name, off in unsupported.items():
        if asked.get(name) is not None and asked[name] not in off:
            raise invalid(f"serve.py does not support `{name}`. Given: {json.dumps(asked[name])}")


def check_parameters(asked: dict[str, Any]) -> Parameters:
    """The parameters among the fields that a request has, by TGI's names; raises a TgiError that says what is wrong."""
    given: dict[str, Any] = {name: asked[name] for name in RULES if asked.get(name) is not None}
    for name, value in given.items():
        rule = RULES[name]
        if not isinstance(value, rule.type) or (isinstance(value, bool) and rule.type is not bool):
            raise invalid(f"`{name}` has the wrong type: {json.dumps(value)}")
        if not rule.accepts(value):
            raise invalid(f"`{name}` {rule.message}. Given: {json.dumps(value)}")
    if not all(isinstance(stop, str) and stop for stop in given.get("stop", ())):
        raise invalid("`stop` must hold strings that are not empty")
    return Parameters(**{**given, "stop": tuple(given.get("stop", ()))})
