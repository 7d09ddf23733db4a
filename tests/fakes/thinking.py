"""A chat server whose model thinks before it answers, as a hook of the simulated server.

    with simulated(thinking("reasoning")) as server: ...

The model writes `<think>`, its reasoning, `</think>` and its answer, a word a token. As real servers do, this one stops
at stop sequences and at the limit of tokens wherever they come, and only then gives the parts apart, as its `way` is:

    reasoning, reasoning_content    vLLM's parser since 0.11, and the name before that, which others still have: without
                                    `</think>`, everything is reasoning, and `content` is null
    inline                          no parser: the text as it is
    opened                          no parser, and a template that ends the prompt with `<think>`: the text has no
                                    beginning; /tokenize tells, as vLLM's does
    silently opened                 the same on a server without such a route
"""

import json
import random
import re
from collections.abc import Callable
from typing import Any

from aiohttp import web

from tests.fakes.server import Hook

WAYS = ("reasoning", "reasoning_content", "inline", "opened", "silently opened")


def thoughts_on(prompt: str, seed: int) -> str:
    """What the model thinks: 12 words on two lines, and code that no one may take for the answer."""
    words = random.Random(f"{seed} {prompt}").choices([f"t{n}" for n in range(50)], k=12)
    return " ".join(words[:6]) + " so:\n```python\nassert 0\n```\n" + " ".join(words[6:])


def thinking(way: str, answer: Callable[[str], str] = lambda prompt: f"the answer to {prompt}") -> Hook:
    """The hook; with `enable_thinking` false in the template's arguments, the model answers at once."""

    async def hook(request: web.Request, body: dict[str, Any], number: int) -> web.Response | None:
        if "messages" not in body:
            return None
        prompt = body["messages"][-1]["content"]
        thinks = body.get("chat_template_kwargs", {}).get("enable_thinking", True)
        seeds = [(body.get("seed") or random.getrandbits(31)) + n for n in range(body.get("n") or 1)]
        seeds = [0] * len(seeds) if not body["temperature"] else seeds
        choices, total = [], 0
        for index, seed in enumerate(seeds):
            text = f"<think>\n{thoughts_on(prompt, seed)}\n</think>\n\n" if thinks else ""
            words = re.findall(r"\s*\S+\s*", text + answer(prompt))
            tokens = min(len(words), body["max_tokens"])
            text, total = "".join(words[:tokens]), total + tokens
            choice: dict[str, Any] = {"finish_reason": "length" if tokens < len(words) else "stop", "stop_reason": None}
            begun = text.removeprefix("<think>") if "opened" in way else text
            if ends := [(begun.find(s), s) for s in body.get("stop") or () if s in begun]:
                cut, stop = min(ends)
                begun, choice = begun[:cut], {"finish_reason": "stop", "stop_reason": stop}
            choices.append({"index": index, **choice, "message": message_of(begun, way, thinks)})
        usage = {"prompt_tokens": 1, "completion_tokens": total, "total_tokens": total + 1}
        who = {"id": "x", "object": "chat.completion", "created": 0, "model": body["model"]}
        return web.Response(
            text=json.dumps(who | {"choices": choices, "usage": usage}), content_type="application/json"
        )

    return hook


def message_of(text: str, way: str, thinks: bool) -> dict[str, Any]:
    """The message of a choice."""
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if way.startswith("reasoning"):
        thought, _, answer = text.removeprefix("<think>").partition("</think>")
        parts = (thought, answer or None) if thinks else (None, text)
        message |= {way: parts[0], "content": parts[1]}
    return message


# The end of a prompt whose template begins the reasoning, as vLLM's /tokenize lists its tokens.
OPENED_TOKENS = ("<|im_start|>", "assistant", "Ċ", "<think>", "Ċ")
