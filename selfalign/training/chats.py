"""Chats as a chat template writes them: the prompt, and the answer with its end token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from selfalign.errors import UserError, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]  # `role` and `content`


def check_chat(column: str, messages: Any) -> None:
    """UserError if what a column holds is no chat."""
    texts = isinstance(messages, list) and all(
        isinstance(message, dict)
        and isinstance(message.get("role"), str)
        and isinstance(message.get("content"), str | None)
        for message in messages
    )
    if not texts:
        raise UserError(
            f"the column {column} must hold lists of messages whose role and content are texts, "
            f"and not {messages!s:.80}"
        )


def end_token_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """The token that ends an answer in the chat template: another one than base models end a text with, in most of
    the templates that chat models come with. UserError if there is none."""
    question, answer = {"role": "user", "content": "Question"}, {"role": "assistant", "content": "Answer"}
    end = prompt_and_response([question], [answer], tokenizer)[1].rpartition(answer["content"])[2]
    if str(tokenizer.eos_token) in end:
        return str(tokenizer.eos_token)
    known: dict[int, Any] = tokenizer.added_tokens_decoder
    ids = tokenizer(end, add_special_tokens=False).input_ids
    tokens = [known[i].content for i in ids if i in known and known[i].special]
    if not tokens:
        raise UserError(
            f"the chat template ends an answer with no end token, so the model could not learn to stop: {end!r}"
        )
    return tokens[0]


def prompt_and_response(
    question: list[Message], answer: list[Message], tokenizer: PreTrainedTokenizerBase
) -> tuple[str, str]:
    """A chat as the model reads it, in two parts: everything before the answer, and the answer with its end token."""
    try:
        prompt = str(tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True))
        chat = str(tokenizer.apply_chat_template([*question, *answer], tokenize=False))
    except Exception as error:  # a template can raise anything
        roles = ", ".join(message["role"] for message in [*question, *answer])
        raise UserError(f"the chat template does not take a chat of {roles}: {first_line(error)}") from None
    if not chat.startswith(prompt):
        raise UserError(
            "the chat template writes a question differently once it is answered, so the prompt cannot be masked"
        )
    response = chat[len(prompt) :]
    before, end, after = response.rpartition(str(tokenizer.eos_token))
    return prompt, before + end if end and not after.strip() else response  # nothing is generated after the end


def begin_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """The token that the tokenizer puts before every prompt; empty if there is none."""
    begins = tokenizer.bos_token and tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]
    return str(tokenizer.bos_token) if begins else ""


def tokens_of(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The token ids of a text, preceded by the token that the tokenizer puts before every prompt, if it does."""
    begin = begin_of(tokenizer)
    begins = begin and not text.startswith(begin)
    return ([tokenizer.bos_token_id] if begins else []) + tokenizer(text, add_special_tokens=False).input_ids
