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


def test_python_blocks_become_one_program():
    assert python_code("```python\na = 1\n```\nand\n```py\nb = a\n```") == "a = 1\n\nb = a\n"


def test_blocks_of_other_languages_are_left_out():
    assert python_code("```bash\nls\n```\n```python\nx\n```\n```\noutput\n```") == "x\n"


def test_a_block_without_label_counts_if_no_other_does():
    assert python_code("```\nx = 1\n```") == "x = 1\n"


def test_an_unclosed_block_is_no_program():
    assert python_code("```python\nx = 1\n") is None


def test_text_is_split_at_a_heading():
    assert split_at_heading("a\n\n### Tests\nb", "### Tests") == ("a\n", "b")


def test_a_heading_may_have_other_marks():
    assert split_at_heading("a\n## tests:\nb", "### Tests") == ("a", "b")


def test_a_comment_in_code_is_no_heading():
    text = "```python\n# Tests\n```"
    assert split_at_heading(text, "### Tests") == (text, None)
