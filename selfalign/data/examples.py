"""How a sample becomes an example to train on: a chat, whose instruction may show some of the tests (paper, C.1)."""

from __future__ import annotations

import ast
import re
from random import Random

from selfalign.code.parsing import compiles, parsed

CHAT = [{"role": str, "content": str}]  # the type of a column
# The form that tests must have to be shown (paper, C.1; the numbers are those of the reference implementation): either
# assertions alone, of which the first few are shown, or a program that is short as a whole. An instruction that already
# mentions tests or gives an example shows none.
MAX_SHOWN_ASSERTIONS = MAX_SHOWN_LINES = 5
SHOWS_ALREADY = re.compile(r"\bassert|\btests?\b|\bfor example\b", re.IGNORECASE)


def chat(role: str, content: str) -> list[dict[str, str]]:
    """A chat of one turn."""
    return [{"role": role, "content": content}]


def tests_to_show(instruction: str, tests: str, probability: float, draws: Random) -> str | None:
    """The tests that an instruction shows, or None: the draw says no, or it or they do not have the form for it."""
    shown, assertions = draws.random() < probability, draws.randint(1, MAX_SHOWN_ASSERTIONS)
    tree = parsed(tests)
    if not shown or tree is None or not compiles(tree) or SHOWS_ALREADY.search(instruction):
        return None
    text = tests.strip()
    if all(isinstance(node, ast.Assert) for node in tree.body):
        lines = tests.split("\n")
        sources = dict.fromkeys("\n".join(lines[node.lineno - 1 : node.end_lineno]) for node in tree.body)  # each once
        text = "\n".join(list(sources)[:assertions])
    return text if text and len(text.splitlines()) <= MAX_SHOWN_LINES and "```" not in text else None


def instruction_with(instruction: str, tests: str | None) -> str:
    """The instruction with the tests that it shows, if any."""
    return f"{instruction}\n\nThe code has to pass these tests:\n\n```python\n{tests}\n```" if tests else instruction
