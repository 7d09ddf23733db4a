"""What Python gives for inputs: programs that tell it, and tests that state it."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from selfalign.code.mutation import echoing, stubbed
from selfalign.data.inputs import Input

MAX_OUTPUT = 200  # characters of an output that a test states
SECONDS_EACH = 0.05  # of processor time for an input where all of them together took too long
SEEN = "seen "  # begins the message by which a program tells what it saw

# What runs after a sample's code, in a namespace of its own: the code may define the same names, or those of built-in
# functions. `shown` writes equal outputs equally: sets in order, floats to nine digits. What compares equal to a plain
# value is taken for it: a Counter for a dictionary, a number of numpy's for Python's. A text with an address in memory
# (`<Point object at 0x7f...>`) is no plain value, though many samples may have the same one.
OBSERVE = """
import signal

def plain(value):
    kind = type(value)
    if kind in (list, tuple):
        return kind(map(plain, value))
    if kind is dict or (kind.__module__ == "collections" and issubclass(kind, dict)):
        return {plain(key): plain(item) for key, item in value.items()}
    if kind.__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        return value.item()
    return value

def shown(value):
    kind = type(value)
    if kind is float:
        return format(value, ".9g")
    if kind in (list, tuple):
        return kind.__name__ + "(" + ",".join(map(shown, value)) + ")"
    if kind in (set, frozenset):
        return "set(" + ",".join(sorted(map(shown, value))) + ")"
    if kind is dict:
        return "dict(" + ",".join(sorted(shown(k) + ":" + shown(v) for k, v in value.items())) + ")"
    if kind in (int, bool, str, bytes, type(None), complex) and not (kind is str and " at 0x" in value):
        return repr(value)
    raise TypeError("no plain value")

def evaluated(setup, call):
    space = dict(program)
    exec(setup, space)
    return eval(call, space)

def interrupt(*_):
    raise TimeoutError

def mark(setup, call, seconds):
    import hashlib
    if seconds:
        signal.signal(signal.SIGVTALRM, interrupt)
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds, seconds)
    try:
        return hashlib.sha256(shown(plain(evaluated(setup, call))).encode("utf-8", "replace")).hexdigest()[:8]
    except (Exception, SystemExit):
        return "-"
    finally:
        if seconds:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)

def marks(pairs, seconds):
    return " ".join([mark(*pair, seconds) for pair in pairs])

def source(setup, call, longest):
    import ast
    output = plain(evaluated(setup, call))
    text = repr(output)
    return text if len(text) <= longest and ast.literal_eval(text) == output else None
"""
OBSERVER = (
    "import builtins as _builtins\n_observer = {'program': _builtins.globals()}\n"
    f"_builtins.exec({OBSERVE!r}, _observer)\n"
)


def observing(inputs: Sequence[Input], seconds: float | None = None) -> str:
    """Tests that tell the mark of the output of each input: "-" where it raises, gives no plain value, or takes more
    than `seconds` of processor time."""
    pairs = [(each.setup, each.call) for each in inputs]
    return f"{OBSERVER}raise AssertionError({SEEN!r} + _observer['marks']({pairs!r}, {seconds!r}))\n"


def observing_briefly(inputs: Sequence[Input]) -> str:
    """The same for a program that does not end on some of the inputs: these are left, and those after them count."""
    return observing(inputs, SECONDS_EACH)


def showing(each: Input) -> str:
    """Tests that tell the output of one input as source; nothing where it is long, or reads back as something else."""
    return (
        f"{OBSERVER}_text = _observer['source']({each.setup!r}, {each.call!r}, {MAX_OUTPUT})\n"
        f"assert _text is not None, 'no literal'\nraise AssertionError({SEEN!r} + _text)\n"
    )


def is_literal(text: str) -> bool:
    """Whether a text is the source of a plain value."""
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False
    return True


def stating(each: Input, output: str) -> str:
    """A test that an input gives an output."""
    call, value = (ast.parse(source, mode="eval").body for source in (each.call, output))
    test = ast.unparse(ast.Compare(call, [ast.Eq()], [value]))  # in brackets where the call is a comparison itself
    return f"{each.setup}\nassert {test}".strip()


def joined(tests: Sequence[str]) -> str:
    """Tests as one program."""
    return "\n".join(tests)


def stubs_of(code: str) -> list[str]:
    """Programs that do nothing, or next to nothing, which tests that test something do not accept."""
    return [stubbed(code), echoing(code)]
