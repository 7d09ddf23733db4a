"""What Python gives for inputs: programs that tell it, and tests that state it."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from selfalign.code.mutation import echoing, stubbed
from selfalign.data.inputs import Input

MAX_OUTPUT = 200  # characters of an output that a test states
SEEN = "seen "  # begins the message by which a program tells what it saw

# What runs after a sample's code. `_shown` writes equal outputs equally: sets in order, floats to nine digits. A text
# with an address in memory (`<Point object at 0x7f...>`) is no plain value, though many samples may have the same one.
OBSERVE = """
def _shown(value):
    kind = type(value)
    if kind is float:
        return format(value, ".9g")
    if kind in (list, tuple):
        return kind.__name__ + "(" + ",".join(map(_shown, value)) + ")"
    if kind in (set, frozenset):
        return "set(" + ",".join(sorted(map(_shown, value))) + ")"
    if kind is dict:
        return "dict(" + ",".join(sorted(_shown(k) + ":" + _shown(v) for k, v in value.items())) + ")"
    if kind in (int, bool, str, bytes, type(None), complex) and not (kind is str and " at 0x" in value):
        return repr(value)
    raise TypeError("no plain value")

def _evaluated(setup, call):
    space = dict(globals())
    exec(setup, space)
    return eval(call, space)

def _mark(setup, call):
    import hashlib
    try:
        return hashlib.sha256(_shown(_evaluated(setup, call)).encode("utf-8", "replace")).hexdigest()[:8]
    except Exception:
        return "-"
"""


def observing(inputs: Sequence[Input]) -> str:
    """Tests that tell the mark of the output of each input: "-" where it raises, or gives no plain value."""
    pairs = [(each.setup, each.call) for each in inputs]
    return f"{OBSERVE}\nraise AssertionError({SEEN!r} + ' '.join(_mark(*pair) for pair in {pairs!r}))\n"


def showing(each: Input) -> str:
    """Tests that tell the output of one input as source; nothing where it is long, or reads back as something else."""
    return (
        f"{OBSERVE}\nimport ast as _ast\n_output = _evaluated({each.setup!r}, {each.call!r})\n_text = repr(_output)\n"
        f"assert len(_text) <= {MAX_OUTPUT} and _ast.literal_eval(_text) == _output, 'no literal'\n"
        f"raise AssertionError({SEEN!r} + _text)\n"
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
