"""Markdown as models write it: code blocks and headed sections, by the CommonMark rules of markdown-it-py without HTML.

A model's text is untrusted: fences may be nested, indented, made of tildes or never closed. No text makes anything here
raise an exception.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

PYTHON_LABELS = {"python", "python3", "py"}
JAVASCRIPT_LABELS = {"javascript", "js", "node", "nodejs", "mjs", "cjs"}


@dataclass(frozen=True)
class CodeBlock:
    """A fenced block: `label` is the first word after the fence in lower case; `closed`, whether a fence ends it."""

    label: str
    code: str
    closed: bool


@lru_cache(maxsize=1)
def _parser():
    from markdown_it import MarkdownIt

    # Only the structure of blocks is needed, and parsing the text inside of them would take most of the time. Behind a
    # tag such as <answer>, which begins a block of HTML, a code block is still meant as one.
    return MarkdownIt("commonmark").disable(["inline", "html_block"])


def code_blocks(text: str) -> list[CodeBlock]:
    """All fenced code blocks of `text`, in order; one that is never closed reaches to the end."""
    lines = _lines(text)
    blocks = []
    for token in _parser().parse(text):
        if token.type == "fence" and token.map:
            first, end = token.map
            words = token.info.split()
            last = lines[end - 1].strip("> \t") if end - first > 1 else ""
            closed = last.startswith(token.markup) and not last.strip(token.markup[0])
            blocks.append(CodeBlock(words[0].lower() if words else "", token.content, closed))
    return blocks


def python_code(text: str, *, open_too: bool = False) -> str | None:
    """The closed Python blocks of `text` as one program, or None if there is none; with `open_too`, also one that is
    never closed.

    Blocks without a label count as Python if no block has that label: small models often leave it out.
    """
    return _code_with(PYTHON_LABELS, text, open_too)


def javascript_code(text: str, *, open_too: bool = False) -> str | None:
    """What `python_code` does, for JavaScript."""
    return _code_with(JAVASCRIPT_LABELS, text, open_too)


def _code_with(labels: set[str], text: str, open_too: bool) -> str | None:
    blocks = [block for block in code_blocks(text) if block.closed or open_too]
    chosen = [b for b in blocks if b.label in labels] or [b for b in blocks if not b.label]
    return "\n".join(b.code for b in chosen) if chosen else None


def split_at_heading(text: str, heading: str) -> tuple[str, str | None]:
    """`text` before and after its first heading line `heading` (such as "### Tests") outside of code blocks.

    The second part is None if there is no such heading. Headings are compared without their marks and colon, in lower
    case.
    """
    wanted = _plain(heading)
    lines = _lines(text)
    for token in _parser().parse(text):
        if token.type == "heading_open" and token.map and _plain(lines[token.map[0]]) == wanted:
            return "\n".join(lines[: token.map[0]]), "\n".join(lines[token.map[1] :])
    return text, None


def _lines(text: str) -> list[str]:
    """Lines as CommonMark counts them: str.splitlines also breaks at form feeds and Unicode separators."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _plain(heading: str) -> str:
    return heading.strip().strip("#* \t").rstrip(":").strip().lower()
