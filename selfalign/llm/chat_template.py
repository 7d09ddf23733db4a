"""A question as the text that a chat model sees, for servers that take a prompt and not messages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from selfalign.errors import UserError, first_line
from selfalign.reach import use_cache_if_unreachable


def chat_template_of(name: str, template: Path | None = None) -> Callable[[str], str]:
    """The function that turns a user's question into the text that a model sees, by the tokenizer `name` and a file
    with a chat template, or by the tokenizer's own.

    Raises:
        UserError: the tokenizer can't be loaded, the file can't be read, or there is no chat template.
    """
    from transformers import AutoTokenizer

    use_cache_if_unreachable(name)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"the tokenizer of {name} can't be loaded: {first_line(error)}") from None
    if template:
        tokenizer.chat_template = template_text(template)
    if not tokenizer.chat_template:
        raise UserError(
            f"the tokenizer of {name} has no chat template: use --prompt-style completion, or --chat-template FILE"
        )
    # If the tokenizer begins every prompt with this token, the server adds it, and the one in the template must go.
    adds_bos = tokenizer.bos_token and tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]

    def prompt_of(question: str) -> str:
        turns = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return prompt.removeprefix(tokenizer.bos_token) if adds_bos else prompt

    return prompt_of


def template_text(template: Path) -> str:
    """The text of a file with a chat template; UserError if it can't be read."""
    try:
        return template.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--chat-template {template} can't be read: {first_line(error)}") from None
