"""Code blocks and sections of what models write."""

import pytest

from selfalign.code.markdown import CodeBlock, code_blocks, python_code, split_at_heading


@pytest.mark.parametrize(
    ("text", "block"),
    {
        "plain": ("```python\nx = 1\n```", CodeBlock("python", "x = 1\n", True)),
        "no label": ("```\nx = 1\n```", CodeBlock("", "x = 1\n", True)),
        "label and more": ("``` Python title=a\nx\n```", CodeBlock("python", "x\n", True)),
        "tildes": ("~~~py\nx\n~~~", CodeBlock("py", "x\n", True)),
        "a fence inside": ("````python\n```\n````", CodeBlock("python", "```\n", True)),
        "in a list": ("- a\n  ```python\n  x\n  ```", CodeBlock("python", "x\n", True)),
        "in a quotation": ("> ```python\n> x\n> ```", CodeBlock("python", "x\n", True)),
        "empty": ("```python\n```", CodeBlock("python", "", True)),
        "in a tag": ("<answer>\n```python\nx\n\ny\n```\n</answer>", CodeBlock("python", "x\n\ny\n", True)),
        "never closed": ("```python\nx", CodeBlock("python", "x", False)),
        "closed by other marks": ("```python\nx\n~~~", CodeBlock("python", "x\n~~~", False)),
        "CRLF": ("```python\r\nx\r\n```\r\n", CodeBlock("python", "x\n", True)),
        "form feed before": ("a\x0cb\n```python\nx\n```", CodeBlock("python", "x\n", True)),
    }.values(),
)
def test_a_code_block_is_found(text, block):
    assert code_blocks(text) == [block]


@pytest.mark.parametrize("text", ["", "no code", "`x`", "\x00", "\ud800", "``` a ``` b"])
def test_text_without_code_has_no_blocks(text):
    assert code_blocks(text) == []


@pytest.mark.parametrize(
    ("text", "program"),
    {
        "several blocks": ("```python\na = 1\n```\nand\n```py\nb = a\n```", "a = 1\n\nb = a\n"),
        "other languages": ("```bash\nls\n```\n```python\nx\n```\n```\noutput\n```", "x\n"),
        "no label at all": ("```\nx = 1\n```", "x = 1\n"),
        "never closed": ("```python\nx = 1\n", None),
    }.values(),
)
def test_the_python_blocks_are_one_program(text, program):
    assert python_code(text) == program


@pytest.mark.parametrize(
    ("text", "parts"),
    {
        "a heading": ("a\n\n### Tests\nb", ("a\n", "b")),
        "other marks": ("a\n## tests:\nb", ("a", "b")),
        "a comment in code": ("```python\n# Tests\n```", ("```python\n# Tests\n```", None)),
    }.values(),
)
def test_text_is_split_at_a_heading(text, parts):
    assert split_at_heading(text, "### Tests") == parts
