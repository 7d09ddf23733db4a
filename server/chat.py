"""TGI's chat: messages become a prompt by the model's own chat template, and its completion is the next message.

TGI ignores `n` and `logit_bias`, and so does this; what it does and serve.py does not (streaming, tools, a grammar,
log-probabilities) is refused. `chat_template_kwargs` is vLLM's, and TGI does not have it.
"""

import time
from typing import Any

from server.completion import Completion, FinishReason
from server.validation import (
    Parameters,
    TgiError,
    check_parameters,
    invalid,
    refuse_half_characters,
    refuse_unsupported,
)

# What TGI does and serve.py does not, with the values that ask for nothing; null always does.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "logprobs": (False,),
    "presence_penalty": (0,),
    "response_format": (),
    "stream": (False,),
    "tool_choice": ("auto", "none"),
    "tools": ([],),
    "top_logprobs": (0,),
}


def check_chat(body: Any) -> tuple[list[dict[str, str]], dict[str, Any], Parameters]:
    """The messages, the arguments of the chat template, and the parameters in the JSON body of a request; raises a
    TgiError that says what is wrong."""
    if not isinstance(body, dict) or not isinstance(messages := body.get("messages"), list) or not messages:
        raise invalid("`messages` must be a list of messages")
    refuse_unsupported(body, UNSUPPORTED)
    arguments = body.get("chat_template_kwargs") or {}
    if not isinstance(arguments, dict) or "chat_template" in arguments:
        raise invalid("`chat_template_kwargs` must be an object, without another template")
    asked = {name: body.get(name) for name in ("temperature", "top_p", "seed", "stop")}
    # As in TGI: a chat is sampled from, unless the temperature is 0 and there is no top_p.
    is_greedy = isinstance(asked["temperature"], int | float) and asked["temperature"] == 0
    sampling = {"do_sample": not is_greedy, "temperature": None if is_greedy else asked["temperature"]}
    parameters = check_parameters({**asked, "max_new_tokens": body.get("max_tokens"), **sampling})
    return [_message(each) for each in messages], arguments, parameters


def _message(given: Any) -> dict[str, str]:
    """A message with its content as one text; TGI also takes a list of parts, of which serve.py knows the texts."""
    if not isinstance(given, dict) or not isinstance(given.get("role"), str):
        raise invalid("a message must be an object with `role` and `content`")
    parts = content if isinstance(content := given.get("content"), list) else [{"type": "text", "text": content}]
    texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise invalid("serve.py takes messages whose `content` is text")
    message = {"role": given["role"], "content": "".join(str(text) for text in texts)}
    refuse_half_characters("messages", "".join(message.values()))
    return message


def prompt_of(tokenizer: Any, messages: list[dict[str, str]], arguments: dict[str, Any]) -> str:
    """The messages by the chat template of a transformers tokenizer, up to where the model's answer begins."""
    if not tokenizer.chat_template:
        raise TgiError(422, "template_error", "Template error: template not found")
    try:
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **arguments)
    except Exception as error:  # whatever a template of somebody's raises: most refuse an order of the roles
        raise TgiError(422, "template_error", f"Template error: {error}") from None
    refuse_half_characters("messages", prompt)  # `arguments` may have some
    return prompt


def chat_answer(model: str, version: str, completion: Completion, text: str, reason: FinishReason) -> dict[str, Any]:
    """A completion as the answer to a request for a chat."""
    lengths = {"prompt_tokens": len(completion.prompt), "completion_tokens": len(completion.tokens)}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "logprobs": None,
        "finish_reason": "stop" if reason == "eos_token" else reason,
    }
    return {
        "object": "chat.completion",
        "id": "",
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": f"{version}-native",
        "choices": [choice],
        "usage": lengths | {"total_tokens": sum(lengths.values())},
    }
