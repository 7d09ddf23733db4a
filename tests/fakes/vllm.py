"""Stands in for the command `vllm` where there is no GPU: serve.py behind OpenAI's interface.

    python -m tests.fakes.vllm serve MODEL --port 8100 [options of vLLM, which are ignored]

MODEL is loaded and asked as by serve.py. A tiny model can't do what the recipes want of a good one, so that questions
of theirs are answered from the tables below: it names concepts, turns them into one of TASKS, answers every second
sample with a solution that passes its own tests, and solves the problems of the walk's benchmarks in every second
sample. What a base model continues, and all else, is what the model writes, but no more than MOST_TOKENS.
"""

import asyncio
import json
import re
import sys
from typing import Any

from aiohttp import ClientSession, web

from selfalign.llm.local_server import served
from tests.fakes.server import Options, Simulation

MOST_TOKENS, MOST_LETTERS = 24, 1500  # of an answer, and of the end of a prompt: the model has a short memory
SECONDS = 0.5  # that an answer takes, so that a step lasts long enough to be killed in its middle

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
# Words of a benchmark's problem -> its solution.
SOLUTIONS = {
    "Twice x": "def double(x):\n    return 2 * x\n",
    "square the numbers": "def square(xs):\n    return [x**2 for x in xs]\n",
    "def same(a)": "def same(a):\n    return a\n",
    "add up the numbers": "input()\nprint(sum(map(int, input().split())))\n",
    "prices in a column": "df['twice'] = 2 * df['price']\n",
    "rounds its result down": "def mean(values):\n    return sum(values) / len(values)\n",
    "Fix mean": "def mean(values):\n    return sum(values) / len(values)\n",
}


def task_of(name: str) -> str:
    return f"Write a function `{name}(words)` that {TASKS[name][0]}." if name in TASKS else "Write something."


def answer_to(prompt: str, number: int) -> str | None:
    """The text of sample `number`; None if the model has to answer."""
    if prompt.endswith("### Concepts\n"):
        seed = (re.findall(r"def (\w+)\(", prompt) or [""])[-1]
        return f"{seed}, small functions"
    if prompt.endswith("### Task\n"):
        end = prompt.rpartition("### ")[0].rpartition("## ")[2]  # concepts, or a seed that is shown instead
        return task_of(next((name for name in TASKS if name in end), ""))
    if prompt.endswith("### Response\n") and "### Task" in prompt:
        name = (re.findall(r"`(\w+)\(words\)`", prompt) or [""])[-1]
        if name not in TASKS:  # a trial of the server's speed asks for other things
            return None
        what, code, assertion = TASKS[name]
        body = code if number % 2 == 0 else "return None"
        return (
            f"This function {what}.\n\n```python\ndef {name}(words):\n    {body}\n```\n\n"
            f"### Tests\n```python\nassert {assertion}\n```"
        )
    if prompt.endswith("### Verdict\n"):
        return "Yes. It says what is returned."
    code = next((code for words, code in SOLUTIONS.items() if words in prompt), None)
    if code is None or number % 2:
        return None
    if prompt.endswith(("```python", "# Solution\n")):  # the reference begins the answer
        return f"\n{code}```"
    # Whether it is asked through a chat template: base models continue the problem itself.
    asked = "one code block" in prompt
    return f"{code}```" if asked and prompt.endswith("```python\n") else f"```python\n{code}```" if asked else None


async def written(url: str, body: dict[str, Any], number: int) -> str:
    """What the model writes as sample `number`."""
    parameters: dict[str, Any] = {"max_new_tokens": min(MOST_TOKENS, body["max_tokens"]), "seed": number + 1}
    if body.get("temperature"):
        parameters |= {"do_sample": True, "temperature": body["temperature"]}
    asked = {"inputs": "".join(body["prompt"])[-MOST_LETTERS:], "parameters": parameters}
    async with ClientSession() as session, session.post(f"{url}/generate", json=asked) as answer:
        answer.raise_for_status()
        return (await answer.json())["generated_text"]


def hook_for(url: str) -> Any:
    async def hook(_: web.Request, body: dict[str, Any], __: int) -> web.Response:
        prompt, number = "".join(body["prompt"]), body.get("n", 1)
        known = [answer_to(prompt, n) for n in range(number)]
        own = await asyncio.gather(*(written(url, body, n) for n, text in enumerate(known) if text is None))
        rest = iter(own)
        texts = [next(rest) if text is None else text for text in known]
        choices = [{"index": n, "finish_reason": "stop", "text": text} for n, text in enumerate(texts)]
        tokens = sum(len(text.split()) for text in texts)
        usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1}
        answer = {"id": "x", "object": "text_completion", "created": 0, "choices": choices, "usage": usage}
        await asyncio.sleep(SECONDS)
        return web.Response(text=json.dumps(answer | {"model": body.get("model", "")}), content_type="application/json")

    return hook


async def main(model: str, port: int, url: str) -> None:
    """Serve until killed."""
    await Simulation(Options(port=port, model=model), hook_for(url)).serve()
    await asyncio.Event().wait()


if __name__ == "__main__":
    name = sys.argv[2]
    with served(name, "--dtype", "float32", "--threads", "1") as address:
        asyncio.run(main(name, int(sys.argv[sys.argv.index("--port") + 1]), address))
