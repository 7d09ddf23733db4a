"""The chat template of a model: what a user asks, as the text that the model is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from selfalign.errors import UserError, first_line


def chat_template_of(name: str) -> Callable[[str], str]:
    """The function from a question to the prompt, by the tokenizer of the model folder or Hub id `name`.

    Raises:
        UserError: the tokenizer can't be loaded, or has no chat template.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"the tokenizer of {name} can't be loaded: {first_line(error)}") from None
    if not tokenizer.chat_template:
        raise UserError(f"the tokenizer of {name} has no chat template: use --prompt-style completion")
    # Where the tokenizer begins every prompt with this token, the server adds it: the template's own would be a second.
    adds_bos = tokenizer.bos_token and tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]

    def prompt_of(question: str) -> str:
        turns = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return prompt.removeprefix(tokenizer.bos_token) if adds_bos else prompt

    return prompt_of
