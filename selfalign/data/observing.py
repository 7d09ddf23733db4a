"""What Python gives for inputs: programs that tell it, and tests that state it."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from selfalign.code.mutation import echoing, stubbed
from selfalign.data.inputs import Input

MAX_OUTPUT = 200  # characters of an output that a test states
SECONDS_EACH = 0.05  # of processor time for an input where all of them together took too long
MOST_ITEMS = 10_000  # of an array
RAISE = "raise "  # before the name of an exception
SEEN = "seen "  # begins the message by which a program tells what it saw

# What runs after a sample's code, in a namespace of its own: the code may define the same names, or those of built-in
# functions. `shown` writes equal outputs equally: sets in order, floats to nine digits. What compares equal to a plain
# value is taken for it: a Counter for a dictionary, a number of numpy's for Python's. An array, a tensor or a table of
# pandas is compared by what `.tolist()` or `.to_dict('split')` makes of it. A text with an address in memory (`<Point
# object at 0x7f...>`) is no plain value, though many samples may have the same one. An exception is an output if a
# statement of the code raises it: one that comes out of a library may just as well be a mistake.
OBSERVE = """
import signal

def plain(value):
    kind = type(value)
    if kind in (list, tuple):
        return kind(map(plain, value))
    if kind is dict or (kind.__module__ == "collections" and issubclass(kind, dict)):
        return {plain(key): plain(item) for key, item in value.items()}
    if kind.__module__ == "torch" and kind.__name__ == "Size":
        return tuple(value)
    if kind.__module__ in ("numpy", "torch") and getattr(value, "ndim", None) == 0:
        return value.item()
    return value

def converted(value):
    kind = type(value)
    is_array = kind.__module__.partition(".")[0] in ("numpy", "torch", "pandas") and getattr(value, "ndim", 0)
    if not is_array or (value.size if isinstance(value.size, int) else value.numel()) > MOST_ITEMS:
        return "", plain(value)
    method = ".tolist()"
    if hasattr(kind, "to_dict"):  # in order, and with equal labels
        method = ".to_dict('split')" if value.ndim > 1 else ".to_frame().to_dict('split')"
    return method + " ", plain(eval("value" + method))

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

def raised(error):
    import builtins
    import dis
    trace, kind = error.__traceback__, type(error)
    while trace.tb_next:
        trace = trace.tb_next
    by_statement = trace.tb_frame.f_code.co_code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    known = kind in (getattr(builtins, kind.__name__, None), program.get(kind.__name__))
    says_something = not issubclass(kind, (AssertionError, NotImplementedError))
    if trace.tb_frame.f_globals is program and by_statement and known and says_something:
        return "raise " + kind.__name__

def prepared(setup):
    space = dict(program)
    exec(setup, space)
    return space

class Interrupted(BaseException):  # which code that catches exceptions does not take for one of its own
    pass

def interrupt(*_):
    raise Interrupted

def mark(setup, call, expected, seconds):
    import hashlib
    if seconds:
        signal.signal(signal.SIGVTALRM, interrupt)
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds, seconds)
    seen = space = None
    try:
        space = prepared(setup)
        value = eval(call, space)
        if expected:
            seen = "raise " + (value if isinstance(value, type) else type(value)).__name__
        else:
            method, value = converted(value)
            seen = method + shown(value)
    except (SystemExit, KeyboardInterrupt, Interrupted):
        pass
    except Exception as error:
        seen = space and raised(error)
    finally:
        if seconds:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return hashlib.sha256(seen.encode("utf-8", "replace")).hexdigest()[:8] if seen else "-"

def marks(parts, seconds):
    return " ".join([mark(*part, seconds) for part in parts])

def source(setup, call, longest):
    import ast
    space = prepared(setup)
    try:
        method, output = converted(eval(call, space))
    except Exception as error:
        return raised(error)
    text = repr(output)
    return method + text if len(text) <= longest and ast.literal_eval(text) == output else None
""".replace("MOST_ITEMS", str(MOST_ITEMS))
OBSERVER = (
    "import builtins as _builtins\n_observer = {'program': _builtins.globals()}\n"
    f"_builtins.exec({OBSERVE!r}, _observer)\n"
)


def observing(inputs: Sequence[Input], seconds: float | None = None) -> str:
    """Tests that tell the mark of the output of each input: "-" where it fails, gives no plain value, or takes more
    than `seconds` of processor time."""
    parts = [(each.setup, each.call, each.raised) for each in inputs]
    return f"{OBSERVER}raise AssertionError({SEEN!r} + _observer['marks']({parts!r}, {seconds!r}))\n"


def observing_briefly(inputs: Sequence[Input]) -> str:
    """The same for a program that does not end on some of the inputs: these are left, and those after them count."""
    return observing(inputs, SECONDS_EACH)


def showing(each: Input) -> str:
    """Tests that tell the output of one input, as `stating` takes it; nothing where it is long, or reads back as
    something else."""
    return (
        f"{OBSERVER}_text = _observer['source']({each.setup!r}, {each.call!r}, {MAX_OUTPUT})\n"
        f"assert _text is not None, 'no literal'\nraise AssertionError({SEEN!r} + _text)\n"
    )


def can_be_stated(output: str) -> bool:
    """Whether an output that a program has told is what it should be: the name of an exception, or a plain value."""
    if output.startswith(RAISE):
        return output.removeprefix(RAISE).isidentifier()
    try:
        ast.literal_eval(_parts_of(output)[1])
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return False
    return True


def stating(each: Input, output: str) -> str:
    """A test that an input gives an output: a plain value as source, `.tolist()` and what this gives, or `raise` and
    the name of an exception."""
    if output.startswith(RAISE):
        name = output.removeprefix(RAISE)
        test = f"try:\n    {each.call}\nexcept {name}:\n    pass\nelse:\n    assert False"
    else:
        method, literal = _parts_of(output)
        call, value = (ast.parse(source, mode="eval").body for source in (f"({each.call}){method}", literal))
        equals = ast.Is() if literal == "None" else ast.Eq()
        test = ast.unparse(ast.Assert(ast.Compare(call, [equals], [value])))  # a call that compares is in brackets
    return f"{each.setup}\n{test}".strip()


def _parts_of(output: str) -> tuple[str, str]:
    """The method that makes a plain value of an output, "" if it is one, and this value."""
    method, _, literal = output.partition(" ")
    return (method, literal) if method.endswith(")") and method.startswith(".") else ("", output)


def joined(tests: Sequence[str]) -> str:
    """Tests as one program."""
    return "\n".join(tests)


def stubs_of(code: str) -> list[str]:
    """Programs that do nothing, or next to nothing, which tests that test something do not accept."""
    return [stubbed(code), echoing(code)]
