"""A question as the text that a chat model sees, for servers that take a prompt and not messages."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfalign.errors import UserError, first_line
from selfalign.llm.reasoning import CLOSED, END, opens_reasoning
from selfalign.reach import use_cache_if_unreachable

PYTHON_CONSTANTS = {"True": True, "False": False, "None": None}


@dataclass(frozen=True)
class ChatTemplate:
    """A tokenizer with its chat template, and the arguments that the template gets.

    Called with a user's question, it gives the text that the model sees.
    """

    tokenizer: Any
    arguments: Mapping[str, Any]
    adds_bos: bool

    def __call__(self, question: str) -> str:
        turns = [{"role": "user", "content": question}]
        prompt = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **self.arguments)
        return prompt.removeprefix(self.tokenizer.bos_token) if self.adds_bos else prompt

    @property
    def thinks(self) -> bool:
        """Whether the model begins its answers with reasoning: the prompt has begun it, or the template knows of
        reasoning and the prompt has not ended it."""
        prompt = self("x")
        return opens_reasoning(prompt) or (END in str(self.tokenizer.chat_template) and not CLOSED.search(prompt))


def chat_template_of(
    name: str, template: Path | None = None, arguments: Mapping[str, Any] | None = None
) -> ChatTemplate:
    """What turns a user's question into the text that a model sees: the tokenizer `name` with the chat template of a
    file, or with its own, which gets these `arguments`.

    Raises:
        UserError: the tokenizer can't be loaded, the file can't be read, or there is no chat template, or none that
            knows these arguments.
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
    for argument in arguments or {}:
        if not re.search(rf"\b{re.escape(argument)}\b", str(tokenizer.chat_template)):
            raise UserError(
                f"--chat-template-kwargs {argument} has no effect: the chat template of {template or name} does not "
                "mention it"
            )
    # If the tokenizer begins every prompt with this token, the server adds it, and the one in the template must go.
    adds_bos = bool(tokenizer.bos_token) and tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]
    return ChatTemplate(tokenizer, arguments or {}, adds_bos)


def template_arguments(words: Sequence[str]) -> dict[str, Any]:
    """The arguments for a chat template that `--chat-template-kwargs` gives, as name=value or as one JSON object.

    Values are JSON or Python's constants; anything else is text. UserError if a word is neither.
    """
    arguments: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        whole = _from_json(word)
        if isinstance(whole, dict):
            arguments |= whole
        elif equals and name.isidentifier():
            arguments[name] = PYTHON_CONSTANTS[value] if value in PYTHON_CONSTANTS else _from_json(value)
        else:
            raise UserError(f"--chat-template-kwargs {word} is not of the form name=value, as in enable_thinking=false")
    return arguments


def _from_json(text: str) -> Any:
    """What `text` is as JSON; the text itself if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def template_text(template: Path) -> str:
    """The text of a file with a chat template; UserError if it can't be read."""
    try:
        return template.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--chat-template {template} can't be read: {first_line(error)}") from None
