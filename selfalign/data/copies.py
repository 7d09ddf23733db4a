"""Copies of worked examples: what small models often write when they are asked for something of their own."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher
from functools import lru_cache

from selfalign.code.contamination import MIN_SIMILAR_TOKENS, SIMILAR_SOLUTION, token_shingles
from selfalign.code.syntax_tokens import tokens_in_text

ALIKE = 0.9  # share of an original's words, in their order, that a copy has
LONGEST = 2  # a text with more than so many times the words of an original is not its copy, whatever is in it


def copies(text: str, originals: Iterable[str]) -> bool:
    """Whether a text is one of the originals, but for spaces, one word in ten, and what was added to it."""
    words = text.split()
    for original in map(str.split, originals):
        if len(words) <= LONGEST * len(original):
            blocks = SequenceMatcher(None, words, original, autojunk=False).get_matching_blocks()
            if sum(block.size for block in blocks) > ALIKE * len(original):
                return True
    return False


def copies_code(response: str, originals: Iterable[str]) -> bool:
    """Whether a function or class of a response in Python is like one of the originals, which are responses, too, with
    other names. It is as like as what decontamination calls a similar solution, and short ones do not count either."""
    own = _shingles(response)
    theirs = [each for original in originals for each in _shingles(original)]
    return any(len(a & b) >= SIMILAR_SOLUTION * len(a | b) for a in own for b in theirs)


@lru_cache(maxsize=1024)
def _shingles(response: str) -> tuple[set[tuple[str, ...]], ...]:
    return tuple(token_shingles(each) for each in tokens_in_text(response) if len(each) >= MIN_SIMILAR_TOKENS)
