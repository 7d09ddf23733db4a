"""Answers that were cut off within their tests: what is whole of these."""

from __future__ import annotations

from selfalign.code.markdown import code_blocks
from selfalign.data.languages import are_tests, code_in, parses

MOST_TRIED = 20  # places at which the tests could end: one in a long text or bracket is none


def tests_before_cut(response: str | None, tests: str | None, language: str) -> str | None:
    """The tests of an answer that was cut off in them, as a block of their own, without the statement in which it ends.

    None if the code of the response is not whole either, or if what is left tests nothing. The last statement goes even
    if it looks whole: `assert f(2) == 1` may be the beginning of `assert f(2) == 15`.

    Args:
        response: Markdown with the code.
        tests: Markdown whose last block is not closed.
        language: of both.
    """
    if not response or code_in(response, language) is None or not all(block.closed for block in code_blocks(response)):
        return None
    lines = (code_in(tests or "", language, open_too=True) or "").rstrip().split("\n")
    starts = [number for number, line in enumerate(lines) if line and not line[0].isspace()]
    for start in starts[: -MOST_TRIED - 1 : -1]:
        code = "\n".join(lines[:start]).rstrip()
        if parses(code, language):
            block = f"```{language}\n{code}\n```"
            return block if are_tests(block, language) else None
    return None
