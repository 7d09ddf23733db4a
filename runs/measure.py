"""How fast things go here: short measurements from which the plan of a run reckons its time.

A server writes the next token of all requests in flight at once. How long this takes is taken for a sum of a part that
is always the same (reading the weights) and one for each request, and reading prompts comes on top.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from code_eval import Sandbox
from selfalign.benchmarks import load_benchmark
from selfalign.code.markdown import python_code
from selfalign.llm.completion import Completion
from selfalign.llm.endpoint import Endpoint
from selfalign.llm.prompts import Examples, draw_examples, load_examples, load_prompt
from selfalign.options import PROMPTS, ROOT, GenerationOptions

if TYPE_CHECKING:
    from runs.servers import Server
    from runs.settings import Settings

KINDS = ("concepts", "tasks", "responses", "HumanEval")
EACH = 4  # requests of each kind that are asked together
LONGEST, SHORTEST = 256, 16  # tokens of an answer that are waited for, on a fast and on a slow server
MOST_SECONDS = 15.0  # that one request alone would take for them
ALONE_TOKENS = 12  # of the request that is asked alone, and then TOGETHER times at once
TOGETHER = 16
STOPS = {"concepts": ["\n", "## Example"], "tasks": ["## Example", "\n###"], "responses": ["\n## Example", "</tests>"]}


@dataclass(frozen=True)
class Speed:
    """What a server does.

    Attributes:
        always, each: seconds until all requests in flight have one token more: `always` + `each` for every request.
        character: seconds to read a character of a prompt.
        tokens: of an average answer, by kind of request.
        characters: of an average prompt, by kind of request.
        window: requests that are kept in flight.
    """

    always: float
    each: float
    character: float
    tokens: dict[str, float]
    characters: dict[str, float]
    window: int

    def seconds(self, kind: str, requests: int, prompts: int | None = None) -> float:
        """How long `requests` of a kind take, if they have `prompts` different prompts."""
        if not requests:
            return 0.0
        together = min(requests, self.window)
        token = (self.always + self.each * together) / together
        reading = (requests if prompts is None else prompts) * self.characters[kind] * self.character
        return reading + requests * self.tokens[kind] * token

    def tokens_per_second(self, requests: int) -> float:
        """Of all requests, with so many in flight."""
        return requests / (self.always + self.each * requests)


def requests_of(settings: Settings, examples: Examples) -> dict[str, list[tuple[str, int, list[str]]]]:
    """Some requests of each kind as the steps make them: prompt, limit in tokens, and what ends the answer."""
    asked: dict[str, list[tuple[str, int, list[str]]]] = {kind: [] for kind in KINDS}
    for number in range(EACH):
        draws = Random(number)
        one = draws.choice(examples.pool)
        row = {"content": one.seed, "concepts": one.concepts, "instruction": one.instruction}
        properties = {name: getattr(one, name) for name in ("category", "language", "difficulty")}
        for kind, limit in zip(KINDS[:3], settings.limits, strict=False):
            shots = draw_examples(draws, examples, settings.shots_of(kind))
            prompt = load_prompt(PROMPTS / f"{kind}.jinja", examples)
            text = prompt.render(row=row | properties, shots=shots, **(properties if kind == "tasks" else {}))
            asked[kind].append((text, limit, STOPS[kind]))
    benchmark = load_benchmark("humaneval")
    problems = Random(0).sample(benchmark.problems(), EACH)
    stop = list(benchmark.completion_stop)
    asked["HumanEval"] = [(problem.prompt, settings.limits[3], stop) for problem in problems]
    return asked


def measure_server(server: Server, settings: Settings, examples: str) -> Speed:
    """The speed of a server with requests as the steps make them: one alone, prompts without answers, the first one
    many times at once, and some of each kind, which say how long answers are."""
    options = GenerationOptions(endpoint=server.urls, api=server.api, temperature=settings.temperature)  # type: ignore
    asked = requests_of(settings, load_examples(examples))
    endpoint = Endpoint(options)

    async def ask(requests: Sequence[tuple[str, int, list[str]]]) -> tuple[float, list[Completion]]:
        started = time.monotonic()
        answers = (
            endpoint.generate(text, max_new_tokens=limit, seed=number, stop=stop)
            for number, (text, limit, stop) in enumerate(requests)
        )
        answers = await asyncio.gather(*answers)
        return time.monotonic() - started, answers

    async def series() -> list[tuple[float, list[Completion]]]:
        short = [(text, 1, stop) for text, _, stop in asked["responses"]]
        text, _, _ = asked["HumanEval"][0]
        async with endpoint:
            await ask([(text, 1, []), *short[:1]])  # which loads what is loaded late, and reads the prompt of the next
            alone, prompts = await ask([(text, ALONE_TOKENS, [])]), await ask(short[1:])
            # Of one prompt, which has been read: a server may read those of the steps much faster or slower.
            together = await ask([(text, ALONE_TOKENS, [])] * TOGETHER)
            longest = min(LONGEST, max(SHORTEST, round(MOST_SECONDS * ALONE_TOKENS / max(alone[0], 1e-3))))
            mixed = [(text, min(limit, longest), stop) for kind in KINDS for text, limit, stop in asked[kind]]
            return [alone, prompts, together, await ask(mixed)]

    alone, prompts, together, (_, mixed) = asyncio.run(series())
    read = sum(len(text) for text, _, _ in asked["responses"][1:])
    characters = {kind: sum(len(text) for text, _, _ in asked[kind]) / EACH for kind in KINDS}
    answers = {kind: mixed[EACH * place : EACH * (place + 1)] for place, kind in enumerate(KINDS)}
    tokens = {kind: _mean_length(answers[kind], asked[kind][0][1]) for kind in KINDS}
    character = prompts[0] / read
    always, each = per_token(
        (alone[0], [a.generated_tokens for a in alone[1]]),
        (together[0], [a.generated_tokens for a in together[1]]),
    )
    return Speed(always, each, character, tokens, characters, endpoint.window)


def _mean_length(answers: Sequence[Completion], limit: int) -> float:
    """The tokens of an average answer: those that were cut off before their limit are taken to be as long again, or as
    the limit."""
    lengths = [
        min(limit, 2 * answer.generated_tokens) if answer.is_cut_off else answer.generated_tokens for answer in answers
    ]
    return sum(lengths) / len(lengths)


def per_token(alone: tuple[float, list[int]], together: tuple[float, list[int]]) -> tuple[float, float]:
    """`always` and `each` of `Speed` from two measurements: seconds without the reading of prompts, and the tokens of
    each request."""
    one = max(alone[0], 1e-6) / max(1, *alone[1], 1)
    steps = max(1, *together[1], 1)
    many, requests = max(together[0], 1e-6) / steps, sum(together[1]) / steps
    each = max(0.0, (many - one) / (requests - 1)) if requests > 1 else 0.0
    each = min(each, one)
    return max(one - each, 0.0), each


def measure_programs(examples: str, sandboxes: int) -> float:
    """Seconds for each program that runs in the sandbox, while `sandboxes` run at the same time: those of the worked
    examples."""
    pool: list[Any] = load_examples(examples).pool
    programs = ["\n\n".join(filter(None, (python_code(one.response), python_code(one.tests)))) for one in pool]
    with Sandbox(workers=sandboxes) as sandbox:
        list(sandbox.run(programs[:1]))  # starts the workers
        started = time.monotonic()
        list(sandbox.run(programs))
        return (time.monotonic() - started) / len(programs)


def measure_start() -> float:
    """Seconds that a step takes before it does anything."""
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", "import datasets, jinja2, selfalign.runner.step"], cwd=ROOT, check=True)
    return time.monotonic() - started
