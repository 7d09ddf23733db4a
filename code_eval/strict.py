"""Strict mode: code and tests in two processes, with a socket between them on which plain data passes.

The code's process defines functions and answers calls to them. The tests' process has proxies in their place, and
writes the verdict. What the code's process sends is never trusted: it is decoded to Python's own types, and can report
nothing but failures.
"""

import builtins
import collections
import contextlib
import gc
import importlib
import io
import json
import os
import sys
import types
from collections.abc import Callable
from typing import Any

from .arguments import use_of
from .assertions import loaded_names
from .messages import COUNTS, DETAIL_LIMIT, LENGTH, REMARK_BITS, REMARKS, Job, framed, texts_in
from .plain_data import decode, encode, nans_seen
from .program import compiled, main_module, run_code, run_tests
from .verdict import FAILURES, TEXTS, Claim, classify, conclude, describe

CHANNEL = 5  # the descriptor of the socket between code and tests
MESSAGE_LIMIT = 64 << 20  # bytes of a message
ALIASES = {"np": "numpy", "pd": "pandas", "plt": "matplotlib.pyplot", "tf": "tensorflow"}  # names of modules

# Taken when this module is loaded, before any program can replace them.
_write, _leave, _read, _input = os.write, os._exit, os.read, input


# ---- the code's process ----


def serve_code(job: Job, channel: int = CHANNEL) -> None:
    """Runs the code, then answers calls to its functions until the tests' process is gone. Does not return."""
    (text,) = texts_in(TEXTS, [job.code])
    os.close(TEXTS)
    module = main_module(job, text)
    try:
        gc.enable()
        run_code(compiled(text, "code"), module.__dict__)
        send(channel, {"loaded": True})
    except BaseException as error:
        send(channel, {"claim": classify(error)})
        _leave(0)
    while True:
        try:
            request = receive(channel)
        except EOFError:
            _leave(0)
        answer: dict = {}
        with streams_of_tests(request, answer, channel):
            try:
                answer |= answer_call(request, module.__dict__)
            except BaseException as error:
                answer["raised"] = [*nearest(error), describe(error), classify(error)[0]]
        send(channel, answer)


@contextlib.contextmanager
def streams_of_tests(request: dict, answer: dict, channel: int):
    """Lets the code read and print where the tests have replaced stdin, stdout or `input`; the answer gets the rest."""
    stdin, stdout, ask = sys.stdin, sys.stdout, builtins.input

    def ask_tests(prompt: object = "") -> str:
        send(channel, {"asks": str(prompt)})
        return str(receive(channel)["told"])

    if "stdin" in request:
        sys.stdin = io.StringIO(request["stdin"])
    if "prints" in request:
        sys.stdout = io.StringIO()
    if "asks" in request:
        builtins.input = ask_tests
    given, taken = sys.stdin, sys.stdout
    try:
        yield
    finally:
        if "stdin" in request:
            answer["read"] = given.tell()
        if isinstance(taken, io.StringIO):
            answer["printed"] = taken.getvalue()
        sys.stdin, sys.stdout, builtins.input = stdin, stdout, ask


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
            module.__dict__.update(fetch(channel, free_names(tests), history))
            return module.__dict__

        history = History(text)
        try:
            return run_tests(tests, text, job, names_from_code)
        finally:
            os.pwrite(TEXTS, REMARK_BITS.pack(history.remarks()), COUNTS.size)

    conclude(body, job.secret)


def free_names(code: types.CodeType) -> list[str]:
    """The names that the tests use without defining them.

    The code is only asked for these, and never for one of Python's own names or for an assertion, so it cannot replace
    what judges it.
    """
    names = loaded_names(code) - set(dir(builtins))
    return sorted(name for name in names if not name.startswith(("__", "assert")))


class History:
    """What happened between tests, of this text, and code."""

    def __init__(self, text: str):
        self.text = text
        self.called: set[str] = set()  # functions of the code
        self.changed = False  # whether an argument of the tests was changed by a call that returned something as well

    def remarks(self) -> int:
        """A bit for each of REMARKS."""
        found = {"helpers": len(self.called) > 1, "nan": bool(nans_seen), "arguments": self.changed}
        return sum(found[name] << number for number, name in enumerate(REMARKS))

    def change(self, arguments: tuple, theirs: list, returned: object) -> None:
        """Does to the tests' arguments what the code did to its copies, as far as the tests do not keep theirs."""
        for mine, after in zip(arguments, theirs, strict=False):
            same = mine == after if isinstance(mine, (set, frozenset)) else encode(mine) == encode(after)
            use = "kept" if same else use_of(self.text, sys._getframe(2), mine, after)
            if use != "kept":
                replace_contents(mine, after)
                self.changed |= use == "named" and returned is not None


def fetch(channel: int, names: list[str], history: History) -> dict:
    """The code's `names`: proxies for functions, copies of plain data, our own imports of the same modules."""
    send(channel, {"names": names})
    found = {}
    for name, answer in receive(channel)["names"].items():
        if name not in names:
            raise Claim("error", f"An answer that was not asked for: {name[:DETAIL_LIMIT]}")
        if answer.get("callable"):
            found[name] = proxy(channel, name, history)
        elif "value" in answer:
            found[name] = decode(answer["value"])
        elif answer.get("module") in (name, ALIASES.get(name)):
            found[name] = importlib.import_module(answer["module"])
    return found


def proxy(channel: int, name: str, history: History) -> Callable[..., object]:
    """A function that calls the code's function `name`."""

    def call(*arguments, **keywords):
        history.called.add(name)
        sent = encode(list(arguments))
        request = {"name": name, "arguments": sent, "keywords": encode(keywords)}
        stdin, place = sys.stdin, 0
        if isinstance(stdin, io.StringIO):
            place = stdin.tell()
            request["stdin"] = stdin.read()
        if sys.stdout is not sys.__stdout__:
            request["prints"] = True
        if builtins.input is not _input:
            request["asks"] = True
        send(channel, request)
        while "asks" in (answer := receive(channel)) and "asks" in request:
            send(channel, {"told": builtins.input(str(answer["asks"]))})
        if isinstance(stdin, io.StringIO):
            stdin.seek(place + int(answer.get("read", 0)))
        if "prints" in request:
            sys.stdout.write(str(answer.get("printed", "")))
        if "raised" in answer:
            raise same_error(*answer["raised"])
        value, after = decode(answer["value"]), decode(answer.get("arguments", []))
        if isinstance(after, list):
            history.change(arguments, after, value)
        return value

    call.__name__ = call.__qualname__ = name
    return call


def same_error(name: str, nearest: str, arguments, description: str, outcome: str) -> Exception:
    """What the code raised, as a built-in exception or a subclass of one, so that tests of errors work.

    Never one that ends an iteration: `all(map(check, cases))` would hold for the cases before it, or for none. An
    IndexError ends one where it comes out of a `__getitem__` of the tests.
    """
    kind = getattr(builtins, str(nearest), None)
    ends_iteration = (StopIteration, StopAsyncIteration, *([IndexError] if is_called_by("__getitem__") else []))
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, ends_iteration):
        try:
            return (kind if name == nearest else type(name, (kind,), {}))(*[decode(argument) for argument in arguments])
        except Exception:  # some take arguments other than those they keep
            pass
    return failure(outcome, description)


def is_called_by(name: str) -> bool:
    """Whether a function of this name is among those that wait for the present one."""
    frame = sys._getframe(1)
    while frame:
        if frame.f_code.co_name == name:
            return True
        frame = frame.f_back
    return False


def failure(outcome: object, detail: object) -> Claim:
    """What the code says about itself, which can be any failure and nothing else."""
    return Claim(outcome if outcome in FAILURES else "error", str(detail))


def replace_contents(mine: Any, theirs: Any) -> None:
    """Does to our argument what the code did to its copy, where both are of the same mutable type."""
    if type(mine) is not type(theirs):
        return
    if isinstance(mine, (list, bytearray)):
        mine[:] = theirs
    elif isinstance(mine, (dict, set)):
        mine.clear()
        mine.update(theirs)
    elif isinstance(mine, collections.deque):
        mine.clear()
        mine.extend(theirs)
    elif type(mine).__name__ == "ndarray" and mine.shape == theirs.shape:
        mine[...] = theirs


# ---- messages between the two ----


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
