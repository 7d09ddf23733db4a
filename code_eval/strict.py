"""Strict mode: code and tests in two processes, with a socket between them on which plain data passes.

The code's process defines functions and answers calls to them (served.py). The tests' process, here, has proxies in
their place, and writes the verdict. What the code's process sends is never trusted: it is decoded to Python's own
types, and can report nothing but failures.
"""

import builtins
import collections
import importlib
import io
import os
import sys
import threading
from collections.abc import Callable, Generator
from typing import Any

from .arguments import use_of
from .assertions import loaded_names
from .channel import CHANNEL, described, is_plain_function, receive, send
from .messages import COUNTS, DETAIL_LIMIT, REMARK_BITS, REMARKS, Job, texts_in
from .plain_data import decode, encode, nans_seen
from .program import compiled, main_module, run_tests
from .sharing import MUTABLE, with_repeated
from .standard import (
    expects_exit,
    gives_items,
    instance_of,
    standard_class,
    standard_exception,
    text_of,
    with_attributes,
)
from .verdict import FAILURES, TEXTS, Claim, classify, conclude

ALIASES = {"np": "numpy", "pd": "pandas", "plt": "matplotlib.pyplot", "tf": "tensorflow"}  # names of modules
STREAMS = ("stdout", "stderr")
# Functions of Python's own that the code calls in the tests' process if they replace them.
REPLACEABLE = ("input", "print")
SEEDED = ("random", "numpy.random")  # modules whose `seed` holds for the code as well

# Taken when this module is loaded: before any program can replace them, and once for all programs, because each of them
# would pay for copies of the pages that it touches.
_own = {name: getattr(builtins, name) for name in REPLACEABLE}
_builtin_names = frozenset(dir(builtins))


def judge_code(job: Job, channel: int = CHANNEL) -> None:
    """Runs the tests, with proxies for what the code defined. Does not return."""

    def body() -> str:
        (text,) = texts_in(TEXTS, [job.tests or 0])
        tests = compiled(text, "tests")
        code = Code(text, channel)

        def names_from_code() -> dict:
            first = receive(channel)
            if "claim" in first:
                raise failure(*first["claim"])
            module = main_module(job, "", text)
            module.__dict__.update(code.fetch(free_names(tests)))
            return module.__dict__

        try:
            return run_tests(tests, text, job, names_from_code)
        finally:
            os.pwrite(TEXTS, REMARK_BITS.pack(code.remarks()), COUNTS.size)

    conclude(body, job.secret)


def free_names(code) -> list[str]:
    """The names that the tests, a compiled module, use without defining them.

    The code is only asked for these, and never for one of Python's own names or for an assertion, so it cannot replace
    what judges it.
    """
    names = loaded_names(code) - _builtin_names
    return sorted(name for name in names if not name.startswith(("__", "assert")))


class Code:
    """The code as the tests, of this text, see it: proxies for its functions, and what happened between the two."""

    def __init__(self, text: str, channel: int):
        self.text, self.channel = text, channel
        self.turn = threading.RLock()  # the tests may call from several threads, and the code answers one at a time
        self.called: set[str] = set()  # functions of the code
        self.changed = False  # whether an argument of the tests was changed, and may be the measure of an answer
        self.callbacks: list[Callable[..., object]] = []  # functions of the tests that the code was given
        self.raising = False  # whether an exception of the code's is being made
        self.exceptions: dict[tuple[str, ...], type[Exception]] = {}
        self.modules: list[str] = []  # of the code's imports, those that the tests use
        self.environment = dict(variables()) if "env" in text else None  # None: nothing in the tests can change it
        self.seeds: dict[str, object] = {}  # that the tests have set since the last call
        if ".seed(" in text:
            self.listen_to_seeds()

    # ---- names ----

    def fetch(self, names: list[str]) -> dict:
        """The code's `names`: proxies for functions, copies of plain data, our own imports of the same modules and of
        classes of the standard library. Whatever else they stand for stays undefined."""
        send(self.channel, {"names": names})
        found = {}
        for name, answer in receive(self.channel)["names"].items():
            if name not in names:
                raise Claim("error", f"An answer that was not asked for: {name[:DETAIL_LIMIT]}")
            if "exception" in answer:
                found[name] = self.heard(name, self.exception_class(answer["exception"]))
            elif answer.get("callable"):
                found[name] = self.proxy(name, {"name": name})
            elif "value" in answer:
                found[name] = received(answer["value"])
            elif "module" in answer and answer["module"] in (name, ALIASES.get(name)):
                found[name] = importlib.import_module(answer["module"])
                self.modules.append(answer["module"])
            elif kind := standard_class(answer.get("class_of"), name):
                found[name] = kind
        return found

    def remarks(self) -> int:
        """A bit for each of REMARKS."""
        found = {"helpers": len(self.called) > 1, "nan": bool(nans_seen), "arguments": self.changed}
        return sum(found[name] << number for number, name in enumerate(REMARKS))

    # ---- calls ----

    def proxy(self, name: str, target: dict[str, Any]) -> Callable[..., object]:
        """A function that calls the code's function `target`."""

        def call(*arguments, **keywords):
            with self.turn:
                self.called.add(name)
                sent = {
                    "arguments": [*map(self.sent, arguments)],
                    "keywords": {k: self.sent(v) for k, v in keywords.items()},
                }
                answer = self.ask({**target, **sent})
                given = [*arguments, *keywords.values()]
                kept = self.change(given, answer)
                if answer.get("awaitable"):
                    return self.awaitable(name, answer, given)
                same = answer.get("same")
                if (
                    isinstance(same, int)
                    and 0 <= same < len(given)
                    and same not in kept
                    and is_told(given[same], answer)
                ):
                    return given[same]
                return self.returned(name, answer, given)

        call.__name__ = call.__qualname__ = name
        return call

    def sent(self, argument: Any) -> object:
        """An argument as it is sent: plain data, or a function that the code can call."""
        if isinstance(argument, (type, type(len))) and getattr(builtins, argument.__name__, None) is argument:
            return {"builtin": argument.__name__}
        if is_plain_function(argument):
            self.callbacks.append(argument)  # pyright: ignore[reportArgumentType]
            return {"callback": len(self.callbacks) - 1}
        return encode(argument)

    def ask(self, request: dict[str, Any]) -> dict:
        """The code's answer; what it reads and prints on the way goes where the tests want it."""
        stdin, place = sys.stdin, 0
        if isinstance(stdin, io.StringIO):
            place = stdin.tell()
            request["stdin"] = stdin.read()
        if captured := [name for name in STREAMS if getattr(sys, name) is not getattr(sys, f"__{name}__")]:
            request["captured"] = captured
        if replaced := [name for name in REPLACEABLE if getattr(builtins, name) is not _own[name]]:
            request["replaced"] = replaced
        if self.environment is not None and variables() != self.environment:
            request["environment"] = dict(os.environ)
        if self.seeds:
            request["seeds"], self.seeds = self.seeds, {}
        swallowed: list[BaseException] = []
        send(self.channel, request)
        while "relay" in (answer := receive(self.channel)):
            send(self.channel, self.relayed(answer, replaced, swallowed))
        if isinstance(stdin, io.StringIO):
            stdin.seek(place + int(answer.get("read", 0)))
        for name in captured:
            getattr(sys, name).write(str(answer.get("printed", {}).get(name, "")))
        if swallowed:
            raise swallowed[0]
        return answer

    def relayed(self, call: dict, replaced: list[str], failures: list[BaseException]) -> dict:
        """What a function of the tests returns that the code calls. An assertion that fails in there counts."""
        what = call["relay"]
        if what in replaced:
            function = getattr(builtins, what)
        elif isinstance(what, int) and 0 <= what < len(self.callbacks):
            function = self.callbacks[what]
        else:
            raise Claim("error", f"A call that nobody allowed: {str(what)[:DETAIL_LIMIT]}")
        arguments: Any = received(call["arguments"])
        keywords: Any = received(call["keywords"])
        try:
            value = function(*arguments, **keywords)
            # What print returns, which may be a mock's, is of no use to anybody.
            return {"told": None if what == "print" else str(value) if what == "input" else encode(value)}
        except Exception as error:
            if isinstance(error, (AssertionError, Claim)):
                failures.append(error)
            return {"refused": described(error)}

    def returned(self, name: str, answer: dict, given: list) -> Any:
        """What the tests get of an answer to a call with the arguments `given`. Raises what the code has raised."""
        if "raised" in answer:
            raise self.same_error(*answer["raised"])
        if "iterator" in answer:
            return self.items(answer["iterator"], given)
        if "function" in answer:
            return self.proxy(name, {"function": answer["function"]})
        return received(answer["value"], answer.get("repeated"))

    def items(self, number: object, given: list) -> Generator[Any, Any, Any]:
        """What an iterator gives that stays in the code's process, made by a call with the arguments `given`."""
        sent = last = None
        while True:
            with self.turn:
                answer = self.ask({"next": number, "sent": encode(sent)})
            self.change(given, answer)
            if "raised" in answer:
                raise self.same_error(*answer["raised"])
            if "done" in answer:
                return received(answer["done"])
            value = received(answer["value"])
            if answer.get("again") and type(value) is type(last):  # one object, with other contents
                replace_contents(last, value)
            else:
                last = value
            sent = yield last

    async def awaitable(self, name: str, answer: dict, given: list) -> object:
        """What an async function of the code has come to: it has run to its end when it was called."""
        return self.returned(name, answer, given)

    def change(self, arguments: list, answer: dict) -> set[int]:
        """Does to the tests' arguments what the code did to its copies, and returns the numbers of those that the tests
        keep."""
        kept: set[int] = set()
        after = answer.get("arguments")
        answered = "raised" not in answer and answer.get("value", answer) is not None
        for number, (mine, sent) in enumerate(zip(arguments, after if isinstance(after, list) else (), strict=False)):
            if is_plain_function(mine) or isinstance(mine, type):
                continue
            theirs = received(sent)
            if mine == theirs if isinstance(mine, (set, frozenset)) else encode(mine) == encode(theirs):
                continue
            use = use_of(self.text, sys._getframe(2), mine, theirs, answered)
            if use == "kept":
                kept.add(number)
            else:
                replace_contents(mine, theirs)
            self.changed |= use == "kept" or (use == "named" and answered)
        return kept

    def listen_to_seeds(self) -> None:
        """Lets the code draw what it would draw in one process, after the tests have called `random.seed`."""

        def listen(name: str, module: Any) -> None:
            own = module.seed

            def seed(*arguments):
                own(*arguments)
                self.seeds[name] = encode(list(arguments))

            module.seed = seed

        for name in SEEDED:
            if name.partition(".")[0] in self.text:
                listen(name, importlib.import_module(name))

    # ---- exceptions ----

    def heard(self, name: str, kind: type[Exception]) -> type[Exception]:
        """The class, which takes note when the tests call it: a helper of the code's might be one."""

        def begin(error: Exception, *arguments: object, **_: object) -> None:
            if not self.raising:
                self.called.add(name)
            Exception.__init__(error, *arguments)

        if kind.__module__ == "__main__":
            setattr(kind, "__init__", begin)  # noqa: B010 - the type checker knows only the class's own
        elif kind.__name__ != name:  # one of Python's own, which cannot be changed
            self.called.add(name)
        return kind

    def exception_class(self, names: list[str]) -> type[Exception]:
        """The class of the code's that has these bases, the last of which is Python's own; or a class of the standard
        library that the tests name.

        None of them ends an iteration: `all(map(check, cases))` would hold for the cases before it, or for none.
        """
        key = tuple(map(str, names))
        if key not in self.exceptions:
            base = getattr(builtins, key[-1], None) if len(key) == 1 else self.exception_class(list(key[1:]))
            if not isinstance(base, type) or not issubclass(base, Exception):
                raise Claim("error", f"It raised what is no exception: {key[0][:DETAIL_LIMIT]}")
            if issubclass(base, (StopIteration, StopAsyncIteration)):
                raise Claim("error", f"It raised {key[0][:DETAIL_LIMIT]}")
            made = base if len(key) == 1 else standard_exception(self.text, self.modules, key)
            self.exceptions[key] = made or type(key[0], (base,), {"__module__": "__main__", "__str__": text_of})
        return self.exceptions[key]

    def same_error(
        self,
        names: list[str],
        arguments: list,
        description: str,
        outcome: str,
        attributes: object = None,
        text: object = None,
    ) -> BaseException:
        """What the code raised, as an exception of the same name, bases, attributes and text, so that tests of errors
        work.

        An IndexError ends an iteration where it comes out of a `__getitem__` of the tests, and `SystemExit` ends the
        tests where they do not expect it: there, they are errors of the code.
        """
        if names == ["SystemExit"] and expects_exit(self.text):
            return SystemExit(*map(received, arguments))
        self.raising = True
        try:
            kind = self.exception_class(names)
            if not (issubclass(kind, IndexError) and gives_items()):
                return with_attributes(instance_of(kind, [*map(received, arguments)]), attributes, text)
        except Exception:
            pass
        finally:
            self.raising = False
        return failure(outcome, description)


def variables() -> dict:
    """The environment as Python keeps it. To compare `os.environ` would cost as much as a call to the code."""
    return getattr(os.environ, "_data", None) or dict(os.environ)


def is_told(argument: object, answer: dict) -> bool:
    """Whether an argument of the tests can be what the code has returned, as it says."""
    return isinstance(argument, MUTABLE) and encode(argument) == answer.get("value")


def received(value: object, pairs: object = None) -> Any:
    """The plain data that the code has sent, with the same object in both places of each of the `pairs`.

    What cannot be decoded is an error of the code's, whatever it raises: an IndexError might end an iteration.
    """
    try:
        return decode(value) if pairs is None else with_repeated(decode(value), pairs)
    except Exception as error:
        raise Claim(*classify(error)) from None


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
