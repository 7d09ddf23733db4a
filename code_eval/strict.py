"""Strict mode: code and tests in two processes, with a socket between them on which plain data passes.

The code's process defines functions and answers calls to them. The tests' process has proxies in their place, and
writes the verdict. What the code's process sends is never trusted: it is decoded to Python's own types, and can report
nothing but failures.
"""

import base64
import builtins
import gc
import importlib
import json
import math
import os
import types
from collections.abc import Callable
from typing import Any

from .assertions import loaded_names
from .messages import DETAIL_LIMIT, LENGTH, Job, framed, texts_in
from .program import compiled, main_module, run_tests
from .verdict import FAILURES, TEXTS, Claim, classify, conclude, describe

CHANNEL = 5  # the descriptor of the socket between code and tests
MESSAGE_LIMIT = 64 << 20  # bytes of a message
LARGE_INTEGER = 4000  # digits beyond which json would refuse an integer (sys.int_info.default_max_str_digits)
ALIASES = {"np": "numpy", "pd": "pandas", "plt": "matplotlib.pyplot", "tf": "tensorflow"}  # names of modules

# Taken when this module is loaded, before any program can replace them.
_write, _leave, _read = os.write, os._exit, os.read


# ---- the code's process ----


def serve_code(job: Job, channel: int = CHANNEL) -> None:
    """Runs the code, then answers calls to its functions until the tests' process is gone. Does not return."""
    (text,) = texts_in(TEXTS, [job.code])
    os.close(TEXTS)
    module = main_module(job, text)
    try:
        gc.enable()
        exec(compiled(text, "code"), module.__dict__)
        send(channel, {"loaded": True})
    except BaseException as error:
        send(channel, {"claim": classify(error)})
        _leave(0)
    while True:
        try:
            answer = answer_call(receive(channel), module.__dict__)
        except EOFError:
            _leave(0)
        except BaseException as error:
            answer = {"raised": [*nearest(error), describe(error), classify(error)[0]]}
        send(channel, answer)


def answer_call(request: dict, names: dict) -> dict:
    """The answer to a question about names, or to a call to one of them."""
    if "names" in request:
        return {"names": {name: present(names[name]) for name in request["names"] if name in names}}
    arguments: Any = decode(request["arguments"])
    keywords: Any = decode(request["keywords"])
    value = names[request["name"]](*arguments, **keywords)
    answer = {"value": encode(value)}
    after = encode(arguments)
    if after != request["arguments"]:
        answer["arguments"] = after  # the function works in place
    return answer


def nearest(error: BaseException) -> tuple[str, str, object]:
    """The names of an exception's class and of its nearest built-in base, and its arguments if they are plain data."""
    kind = next(kind for kind in type(error).__mro__ if kind.__module__ == "builtins")
    try:
        return type(error).__name__, kind.__name__, encode(list(error.args))
    except Exception:  # `args` can be anything
        return type(error).__name__, kind.__name__, [describe(error).partition(": ")[2]]


def present(value: object) -> dict:
    """What the tests' process is told about a name."""
    if isinstance(value, types.ModuleType):
        return {"module": value.__name__}
    if callable(value):
        return {"callable": True}
    try:
        return {"value": encode(value)}
    except TypeError:
        return {}


# ---- the tests' process ----


def judge_code(job: Job, channel: int = CHANNEL) -> None:
    """Runs the tests, with proxies for what the code defined. Does not return."""

    def body() -> str:
        (text,) = texts_in(TEXTS, [job.tests or 0])
        tests = compiled(text, "tests")

        def names_from_code() -> dict:
            first = receive(channel)
            if "claim" in first:
                raise failure(*first["claim"])
            module = main_module(job, text)
            module.__dict__.update(fetch(channel, free_names(tests)))
            return module.__dict__

        return run_tests(tests, text, job, names_from_code)

    conclude(body, job.secret)


def free_names(code: types.CodeType) -> list[str]:
    """The names that the tests use without defining them.

    The code is only asked for these, and never for one of Python's own names or for an assertion, so it cannot replace
    what judges it.
    """
    names = loaded_names(code) - set(dir(builtins))
    return sorted(name for name in names if not name.startswith(("__", "assert")))


def fetch(channel: int, names: list[str]) -> dict:
    """The code's `names`: proxies for functions, copies of plain data, our own imports of the same modules."""
    send(channel, {"names": names})
    found = {}
    for name, answer in receive(channel)["names"].items():
        if name not in names:
            raise Claim("error", f"An answer that was not asked for: {name[:DETAIL_LIMIT]}")
        if answer.get("callable"):
            found[name] = proxy(channel, name)
        elif "value" in answer:
            found[name] = decode(answer["value"])
        elif answer.get("module") in (name, ALIASES.get(name)):
            found[name] = importlib.import_module(answer["module"])
    return found


def proxy(channel: int, name: str) -> Callable[..., object]:
    """A function that calls the code's function `name`."""

    def call(*arguments, **keywords):
        sent = encode(list(arguments))
        send(channel, {"name": name, "arguments": sent, "keywords": encode(keywords)})
        answer = receive(channel)
        if "raised" in answer:
            raise same_error(*answer["raised"])
        after = decode(answer.get("arguments", []))
        if isinstance(after, list):
            for mine, theirs in zip(arguments, after, strict=False):
                replace_contents(mine, theirs)
        return decode(answer["value"])

    call.__name__ = call.__qualname__ = name
    return call


def same_error(name: str, nearest: str, arguments, description: str, outcome: str) -> Exception:
    """What the code raised, as a built-in exception or a subclass of one, so that tests of errors work.

    Never one that ends an iteration: `all(map(check, cases))` would hold for the cases before it, or for none.
    """
    kind = getattr(builtins, str(nearest), None)
    ends_iteration = (StopIteration, StopAsyncIteration)
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, ends_iteration):
        try:
            return (kind if name == nearest else type(name, (kind,), {}))(*[decode(argument) for argument in arguments])
        except Exception:  # some take arguments other than those they keep
            pass
    return failure(outcome, description)


def failure(outcome: object, detail: object) -> Claim:
    """What the code says about itself, which can be any failure and nothing else."""
    return Claim(outcome if outcome in FAILURES else "error", str(detail))


def replace_contents(mine: Any, theirs: Any) -> None:
    """Does to our argument what the code did to its copy, where both are of the same mutable type."""
    if type(mine) is not type(theirs):
        return
    if type(mine) is list:
        mine[:] = theirs
    elif type(mine) in (dict, set):
        mine.clear()
        mine.update(theirs)


# ---- messages between the two ----


def encode(value):
    """Plain data as JSON that keeps the types: exactly None, bool, int, float, complex, str, bytes, bytearray, list,
    tuple, dict, set and frozenset, nested; numpy's numbers become Python's. Raises TypeError for everything else.
    """
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if kind is int:
        return value if value.bit_length() < LARGE_INTEGER * 3 else {"integer": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if kind is list:
        return [encode(item) for item in value]
    if kind in (tuple, set, frozenset):
        return {kind.__name__: [encode(item) for item in value]}
    if kind is dict:
        return {"dict": [[encode(k), encode(v)] for k, v in value.items()]}
    if kind in (bytes, bytearray):
        return {kind.__name__: base64.b64encode(value).decode()}
    if kind is complex:
        return {"complex": [repr(value.real), repr(value.imag)]}
    if kind.__module__ == "numpy" and hasattr(kind, "item"):
        return encode(value.item() if value.ndim == 0 else value.tolist())
    raise TypeError(f"strict mode passes plain data between code and tests, not {kind.__name__!r}")


DECODERS = {
    "tuple": lambda items: tuple(map(decode, items)),
    "set": lambda items: set(map(decode, items)),
    "frozenset": lambda items: frozenset(map(decode, items)),
    "dict": lambda pairs: {decode(key): decode(value) for key, value in pairs},
    "integer": lambda text: int(text, 16),
    "float": lambda text: NotANumber() if text == "nan" else float(text),
    "bytes": base64.b64decode,
    "bytearray": lambda text: bytearray(base64.b64decode(text)),
    "complex": lambda parts: complex(*map(float, parts)),
}


class NotANumber(float):
    """A NaN that the code returned. It can be asked what it is, but not whether it is larger or smaller.

    That is false in either case, so `assert not abs(f(2) - 4) > 1e-6` would hold for it.
    """

    def __new__(cls, *_):
        return super().__new__(cls, "nan")

    def _compare(self, _):
        raise Claim("failed", "the tests ask whether a NaN, which the code returned, is larger or smaller")

    __lt__ = __le__ = __gt__ = __ge__ = _compare

    def __round__(self, digits=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().__round__() if digits is None else self


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(NotANumber, f"__{_name}__", NotANumber)
    setattr(NotANumber, f"__r{_name}__", NotANumber)
for _name in ("neg", "pos", "abs"):
    setattr(NotANumber, f"__{_name}__", NotANumber)


def decode(value):
    """The inverse of `encode`. The result consists of Python's own types, whatever the other side sent."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind not in DECODERS:
        raise ValueError(f"not plain data: {kind!r}")
    return DECODERS[kind](content)


def send(channel: int, message: dict) -> None:
    data = memoryview(framed(message))
    while data:
        data = data[_write(channel, data) :]


def receive(channel: int) -> dict:
    (size,) = LENGTH.unpack(_receive_exactly(channel, LENGTH.size))
    if size > MESSAGE_LIMIT:
        raise Claim("error", f"A message of {size} bytes; {MESSAGE_LIMIT} are allowed.")
    message = json.loads(_receive_exactly(channel, size))
    if not isinstance(message, dict):
        raise Claim("error", "A message that is not an object.")
    return message


def _receive_exactly(channel: int, size: int) -> bytes:
    parts = []
    while size:
        part = _read(channel, min(size, 1 << 20))
        if not part:
            raise EOFError("The other process ended.")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
