"""Stands in for the command `vllm` where there is no GPU: an OpenAI server that writes what a good model would.

    python -m tests.fakes.vllm serve MODEL --port 8100 [options of vLLM, which are ignored]

It names concepts, turns them into one of TASKS, answers it half of the time with a solution that passes its own tests,
and solves the one problem of the benchmark that the test measures. Whatever else is asked, as by our probe, it answers
at random.
"""

import asyncio
import json
import random
import re
import sys
from typing import Any

from aiohttp import web

from tests.fakes.server import Options, Simulation

# Name of the function -> the task, the code, and an assertion: as different from each other as the filters want them.
TASKS = {
    "join_words": ("joins words by a dash", "return '-'.join(words)", "join_words(['a', 'b']) == 'a-b'"),
    "largest_gap": (
        "finds the largest difference between neighbours in a list of numbers",
        "return max((abs(x - y) for x, y in zip(words, words[1:])), default=0)",
        "largest_gap([1, 5, 2]) == 4",
    ),
    "vowel_count": ("counts vowels", "return sum(c in 'aeiou' for c in words)", "vowel_count('radio') == 3"),
    "rotate_left": (
        "moves the first element behind the last one",
        "return words[1:] + words[:1]",
        "rotate_left([1, 2]) == [2, 1]",
    ),
    "invert_map": (
        "swaps keys and values of a dictionary",
        "return {v: k for k, v in words.items()}",
        "invert_map({1: 2}) == {2: 1}",
    ),
    "is_sorted": (
        "tells whether numbers ascend",
        "return list(words) == sorted(words)",
        "is_sorted([1, 3, 2]) is False",
    ),
}


def answer_to(prompt: str, number: int) -> str | None:
    """The text of sample `number`; None if the prompt is none of a recipe's."""
    if prompt.endswith("### Concepts\n"):
        seed = re.findall(r"def (\w+)\(", prompt)[-1]
        return f"{seed}, small functions"
    if prompt.endswith("### Task\n"):
        name = prompt.rstrip().splitlines()[-3].partition("concepts: ")[2].partition(",")[0]
        return f"Write a function `{name}(words)` that {TASKS[name][0]}." if name in TASKS else "Write something."
    if prompt.endswith("### Response\n") and "### Task" in prompt:
        name = re.findall(r"`(\w+)\(words\)`", prompt)[-1]
        what, code, assertion = TASKS[name]
        body = code if number % 2 == 0 else "return None"
        return (
            f"This function {what}.\n\n```python\ndef {name}(words):\n    {body}\n```\n\n"
            f"### Tests\n```python\nassert {assertion}\n```"
        )
    if "Write a Python function to solve the following task" in prompt:
        return "\ndef double(x):\n    return 2 * x\n"
    return None


async def hook(_: web.Request, body: dict[str, Any], __: int) -> web.Response | None:
    """The answer of the server, None where the simulation may answer."""
    prompt = "".join(body["prompt"])
    texts = [answer_to(prompt, number) for number in range(body.get("n", 1))]
    if None in texts:
        return None
    choices = [{"index": n, "finish_reason": "stop", "text": text} for n, text in enumerate(texts)]
    tokens = sum(len(str(text).split()) for text in texts)
    usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
    answer = {"id": "x", "object": "text_completion", "created": 0, "model": body.get("model", ""), "choices": choices}
    await asyncio.sleep(0.02 * random.random())
    return web.Response(text=json.dumps(answer | {"usage": usage}), content_type="application/json")


async def main(model: str, port: int) -> None:
    """Serve until killed."""
    await Simulation(Options(port=port, model=model), hook).serve()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[2], int(sys.argv[sys.argv.index("--port") + 1])))
