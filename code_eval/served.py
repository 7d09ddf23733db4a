"""Strict mode, the code's process: it runs the code, and then answers the tests' calls to its functions."""

import builtins
import contextlib
import gc
import importlib
import io
import os
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

from .channel import CHANNEL, classes_of, described, is_plain_function, receive, send
from .messages import Job, texts_in
from .plain_data import decode, encode
from .program import compiled, main_module, run_code
from .sharing import MUTABLE, repeated
from .verdict import TEXTS, classify, end_fork

SURROUNDINGS = {"seeds", "environment", "stdin", "captured", "replaced"}  # of a request: what tests have replaced

nothing = contextlib.nullcontext()
_leave, _getpid = os._exit, os.getpid  # taken before any program can replace them


def serve_code(job: Job, channel: int = CHANNEL) -> None:
    """Runs the code, then answers calls to its functions until the tests' process is gone. Does not return."""
    (text,) = texts_in(TEXTS, [job.code])
    os.close(TEXTS)
    module = main_module(job, text)
    own = _getpid()
    try:
        gc.enable()
        run_code(compiled(text, "code"), module.__dict__)
        if _getpid() != own:
            end_fork(None)
        send(channel, {"loaded": True})
    except BaseException as error:
        if _getpid() != own:
            end_fork(error)
        send(channel, {"claim": classify(error)})
        _leave(0)
    served = Served(module.__dict__, channel)
    while True:
        try:
            request = receive(channel)
        except EOFError:
            _leave(0)
        served.answer(request)


class Served:
    """The names of the code, and what its functions have returned that stays here: functions and iterators."""

    def __init__(self, names: dict, channel: int):
        self.names, self.channel, self.process = names, channel, _getpid()
        self.turn = threading.RLock()  # the code may call the tests' functions from several threads
        self.kept: list[Any] = []
        self.yielded: dict[int, Any] = {}  # the last value of each iterator in `kept`
        self.inputs: dict[int, tuple[list, list]] = {}  # of iterators in `kept`: the arguments, and as they were sent

    def answer(self, request: dict) -> None:
        """Does what the tests ask for, and tells them what came of it."""
        answer: dict = {}
        # Nearly all requests have none, and a context manager costs more than most calls.
        with nothing if SURROUNDINGS.isdisjoint(request) else self.surroundings(request, answer):
            try:
                answer |= self.result_of(request)
            except BaseException as error:
                answer["raised"] = self.failure(error)
        if _getpid() != self.process:
            end_fork(None)  # its parent answers
        send(self.channel, answer)

    def failure(self, error: BaseException) -> list:
        if _getpid() != self.process:
            end_fork(error)
        return described(error)

    def result_of(self, request: dict) -> dict:
        if "names" in request:
            return {"names": {name: present(name, self.names[name]) for name in request["names"] if name in self.names}}
        if "next" in request:
            return self.next_of(request["next"], decode(request["sent"]))
        arguments = [self.argument(argument) for argument in request["arguments"]]
        keywords = {name: self.argument(argument) for name, argument in request["keywords"].items()}
        function = self.names[request["name"]] if "name" in request else self.kept[request["function"]]
        before = [*request["arguments"], *request["keywords"].values()]
        values = [*arguments, *keywords.values()]
        try:
            value = function(*arguments, **keywords)
            answer = self.returned(value)
        except BaseException as error:
            answer = {"raised": self.failure(error)}
        else:
            if "iterator" in answer:
                self.inputs[answer["iterator"]] = values, before
            elif isinstance(value, MUTABLE):
                answer |= told_of(value, values)
        return answer | changes(values, before, answer)

    def argument(self, sent: Any) -> Any:
        if not is_special(sent):
            return decode(sent)
        return getattr(builtins, sent["builtin"]) if "builtin" in sent else self.relay(sent["callback"])

    def returned(self, value: Any) -> dict:
        """What is said of a value: plain data, or that it stays here."""
        if isinstance(value, types.CoroutineType):
            import asyncio

            try:
                return {"awaitable": True, **self.returned(asyncio.run(value))}
            except Exception as error:
                return {"awaitable": True, "raised": self.failure(error)}
        iterates = is_iterator(value)
        if is_plain_function(value) or (iterates and not isinstance(value, io.IOBase)):
            self.kept.append(value)
            return {"iterator" if iterates else "function": len(self.kept) - 1}
        return {"value": encode(value)}

    def next_of(self, number: int, sent: object) -> dict:
        """What an iterator gives. At its end, also what it did to the arguments of the function that made it: to look
        for that each time would make a long loop over a long list slow."""
        iterator = self.kept[number]
        try:
            value = next(iterator) if sent is None else iterator.send(sent)
            again = isinstance(value, MUTABLE) and value is self.yielded.get(number)
            self.yielded[number] = value
            return {"value": encode(value), **({"again": True} if again else {})}
        except StopIteration as end:
            answer = {"done": encode(end.value)}
        except Exception as error:
            answer = {"raised": self.failure(error)}
        return answer | changes(*self.inputs.pop(number, ([], [])), answer)

    def relay(self, what: int | str) -> Callable[..., object]:
        """A function that calls one of the tests'."""

        def call(*arguments, **keywords):
            sent = {"relay": what, "arguments": encode(list(arguments)), "keywords": encode(keywords)}
            with self.turn:
                send(self.channel, sent)
                while True:
                    message = receive(self.channel)
                    if "told" in message:
                        return decode(message["told"])
                    if "refused" in message:
                        raise exception_of(*message["refused"])
                    self.answer(message)  # the tests' function calls the code in turn

        return call

    @contextlib.contextmanager
    def surroundings(self, request: dict, answer: dict):
        """Lets the code find what the tests have replaced: streams, `input`, `print`, the environment, a seed.

        The answer gets what it has read and printed.
        """
        before = sys.stdin, sys.stdout, sys.stderr, builtins.input, builtins.print
        variables = dict(os.environ) if "environment" in request else {}
        for name, arguments in request.get("seeds", {}).items():
            importlib.import_module(name).seed(*map(decode, arguments))
        if "environment" in request:
            change_environment(request["environment"])
        if "stdin" in request:
            sys.stdin = io.StringIO(request["stdin"])
        taken = {name: io.StringIO() for name in request.get("captured", ())}
        for name, stream in taken.items():
            setattr(sys, name, stream)
        for name in request.get("replaced", ()):
            setattr(builtins, name, self.relay(name))
        given = sys.stdin
        try:
            yield
        finally:
            if "stdin" in request:
                answer["read"] = given.tell()
            if taken:
                answer["printed"] = {name: stream.getvalue() for name, stream in taken.items()}
            sys.stdin, sys.stdout, sys.stderr, builtins.input, builtins.print = before
            if "environment" in request:
                change_environment(variables)


def changes(values: list, before: list, answer: dict) -> dict:
    """What the tests are told of arguments that the code has changed in place, whether it gives an answer or fails."""
    try:
        after = [sent if is_special(sent) else encode(value) for value, sent in zip(values, before, strict=True)]
    except TypeError:  # it has put something in there that is no plain data
        if "raised" in answer:
            return {}
        raise
    return {"arguments": after} if after != before else {}


def told_of(value: object, arguments: list) -> dict:
    """What the tests are told of a value beside its contents: which argument it is, and where it holds one object
    twice."""
    same = [number for number, argument in enumerate(arguments) if argument is value]
    pairs = repeated(value)
    return ({"same": same[0]} if same else {}) | ({"repeated": pairs} if pairs else {})


def is_iterator(value: object) -> bool:
    """What `isinstance(value, collections.abc.Iterator)` says, which takes 0.2 ms in a process that has just begun."""
    return hasattr(type(value), "__next__") and hasattr(type(value), "__iter__")


def is_special(sent: Any) -> bool:
    return isinstance(sent, dict) and not {"callback", "builtin"}.isdisjoint(sent)


def change_environment(variables: dict[str, str]) -> None:
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    for name, value in variables.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def exception_of(classes: list[str], arguments: list, *_: object) -> Exception:
    """What a function of the tests has raised, as Python's own exception."""
    kind = getattr(builtins, classes[-1])
    try:
        return kind(*map(decode, arguments))
    except Exception:  # some take arguments other than those they keep
        return RuntimeError(classes[0])


def present(name: str, value: object) -> dict:
    """What the tests' process is told about a name."""
    if isinstance(value, types.ModuleType):
        return {"module": value.__name__}
    if isinstance(value, type) and issubclass(value, Exception):
        return {"exception": classes_of(value)}
    if isinstance(value, type) and is_imported(name, value):
        return {"class_of": value.__module__}
    if callable(value):
        return {"callable": True}
    try:
        return {"value": encode(value)}
    except TypeError:
        return {}


def is_imported(name: str, kind: type) -> bool:
    """Whether a class is one of the standard library's, under its own name."""
    standard = kind.__module__.partition(".")[0] in sys.stdlib_module_names
    return standard and getattr(sys.modules.get(kind.__module__), name, None) is kind
