"""The reasoning of models that think before they answer: where it begins, where it ends, and what is the answer.

Such a model writes `<think>`, its reasoning, `</think>` and then its answer. Some chat templates write the `<think>`
themselves, at the end of the prompt, so that only `</think>` comes back. Servers with a parser for reasoning (vLLM,
SGLang, llama.cpp, DeepSeek's own) give the two parts apart, and no answer at all if the tokens ran out before it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

BEGIN, END = "<think>", "</think>"
# What a chat model's text has without a `<think>` before it; quoted, it belongs to a program that handles such texts.
LONE_END = re.compile(r"""(?<!["'`])</think>(?!["'`\\])""")
OPENED = re.compile(r"<think>\s*\Z")
CLOSED = re.compile(r"</think>\s*\Z")
LINE_BEGIN = re.compile(r"^[ \t]*<think>", re.MULTILINE)
FENCE = re.compile(r"^ {0,3}(?:```|~~~)", re.MULTILINE)
BLANK_LINES = re.compile(r"\A(?:[ \t]*\r?\n)+")


class Parts(NamedTuple):
    """A text without its reasoning: `answer` is "" if the text is `unfinished`, that is, if it ends in the reasoning.

    `reasoning` is None if the model did not think.
    """

    answer: str
    reasoning: str | None = None
    unfinished: bool = False


def opens_reasoning(prompt: str) -> bool:
    """Whether a prompt ends with `<think>`, so that what follows is reasoning."""
    return prompt.endswith((">", "\n")) and bool(OPENED.search(prompt))


def ends_unopened(text: str) -> bool:
    """Whether a text ends reasoning that it did not begin: the `<think>` was in the prompt."""
    end = LONE_END.search(text) if END in text else None
    return bool(end) and BEGIN not in text[: end.start()]


def split_reasoning(text: str, *, opened: bool = False) -> Parts:
    """The answer in `text` without the reasoning before it, and without what the model thinks between its paragraphs.

    `opened` says that the prompt has begun the reasoning. Without that, a `</think>` with no `<think>` before it says
    the same. A `<think>` in a line or in a code block is part of the answer.
    """
    if not opened and BEGIN not in text and END not in text:
        return Parts(text)
    opened = opened or ends_unopened(text)
    thoughts: list[str] = []
    while opened or text.lstrip().startswith(BEGIN):
        thought, end, text = text.lstrip().removeprefix(BEGIN).partition(END)
        thoughts.append(thought.strip())
        if not end:
            return Parts("", _joined(thoughts) or "", unfinished=True)
        text, opened = BLANK_LINES.sub("", text), False
    while begin := _begin_between_paragraphs(text):
        thought, end, after = text[begin.end() :].partition(END)
        thoughts.append(thought.strip())
        if not end:
            return Parts("", _joined(thoughts) or "", unfinished=True)
        text = text[: begin.start()] + BLANK_LINES.sub("", after)
    return Parts(text, _joined(thoughts))


def _joined(thoughts: list[str]) -> str | None:
    return "\n\n".join(filter(None, thoughts)) or None


def _begin_between_paragraphs(text: str) -> re.Match[str] | None:
    """The first `<think>` that begins a line outside of code blocks."""
    return next((m for m in LINE_BEGIN.finditer(text) if len(FENCE.findall(text, 0, m.start())) % 2 == 0), None)
