"""What of a row is trained on: its texts, and the conversation that a repair becomes (LeDex, arXiv 2405.18649)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

# The columns of a repair that its conversation is made of, beside `instruction` and `response`.
CONVERSATION = ("attempt", "feedback", "explanation")

Message = dict[str, str]


def is_repair(row: dict[str, Any]) -> bool:
    """Whether a row is a repair, as repair.py writes them."""
    return all(row.get(name) and isinstance(row[name], str) for name in CONVERSATION)


def conversation_of(row: dict[str, Any], question: str) -> list[Message]:
    """A repair as a chat: the question, the wrong attempt, what its tests say, the explanation and the mended code."""
    said = f"This fails:\n\n{row['feedback']}\n\nSay what is wrong with it, and write the whole code again."
    turns = (question, row["attempt"], said, f"{row['explanation']}\n\n{row['response']}")
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]


def texts_of(row: dict[str, Any], columns: Iterable[str]) -> list[str]:
    """The texts of a row in these columns, and in those of its conversation if it is a repair; empty ones left out."""
    return [row[name] for name in (*columns, *(CONVERSATION if is_repair(row) else ())) if row.get(name)]
