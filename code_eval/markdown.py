"""Code in what models write: Markdown with blocks, or code alone."""

import re
from textwrap import dedent

# A block of Markdown, to the end of the text if it is not closed: its indentation, as in an item of a list, its fence,
# its language, its text, its end.
BLOCK = re.compile(
    r"^( {0,3})(`{3,}|~{3,})[ \t]*([\w+-]*)[^\n]*\n(.*?)(^ {0,3}\2[`~]*[ \t]*$|\Z)", re.MULTILINE | re.DOTALL
)
LABELS = {"python": ("python", "python3", "py"), "javascript": ("javascript", "js", "node", "nodejs", "mjs", "cjs")}


def code_in(text: str, wanted: str = "python") -> tuple[str, bool]:
    """(the code of a text, whether it stands in a closed block): of all blocks in the language `wanted`, or of all
    without a language."""
    text = text.rpartition("</think>")[2].replace("\r\n", "\n")
    blocks = [
        (language.lower(), dedent(code) if indent else code, bool(end))
        for indent, _, language, code, end in BLOCK.findall(text)
    ]
    chosen = [block for block in blocks if block[0] in LABELS[wanted]] or [block for block in blocks if not block[0]]
    if not chosen:
        return ("" if blocks else text), False
    return "\n\n".join(code for _, code, _ in chosen), all(end for *_, end in chosen)
