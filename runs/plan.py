"""What a run of the whole chain will do, said before it begins, from a short measurement of the server."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfalign.llm.endpoint import Endpoint
from selfalign.llm.prompts import load_examples, load_prompt
from selfalign.models import resolve_model
from selfalign.options import PROMPTS, GenerationOptions
from selfalign.runner.source import open_source

if TYPE_CHECKING:
    from runs.self_align import Options
    from runs.servers import Server
    from runs.settings import Settings

MEASURED_TOKENS = 32  # of an answer
FIRST_REQUESTS = 8  # at the same time; doubled while that takes less than ENOUGH_SECONDS
ENOUGH_SECONDS = 5.0
CHARACTERS_PER_TOKEN = 3.3  # of code and English
HUMANEVAL = 164  # problems, and the characters of an average prompt
HUMANEVAL_CHARACTERS = 450
BYTES_PER_ANSWER = 6000  # of a row of responses, and of what the later steps make of it
HALF = 0.5  # share of its limit that an answer takes if the measurement cut it off before its end


@dataclass(frozen=True)
class Speed:
    """What a server did with real prompts: tokens/s, requests at the same time, and the length of an answer as a share
    of its limit."""

    tokens_per_second: float
    requests: int
    share: float
    prompt_characters: int


def measure(server: Server, settings: Settings) -> Speed:
    """Ask the server as sample_responses.py will, for some seconds. The first answers only load what is loaded late."""
    options = GenerationOptions(endpoint=server.urls, api=server.api, temperature=settings.temperature)  # type: ignore
    examples = load_examples(settings.examples)
    *_, task = examples.pool
    shots = examples.pool[: settings.shots]
    text = load_prompt(PROMPTS / "responses.jinja", examples).render(row=task, shots=shots)
    endpoint, limit = Endpoint(options), settings.limits[2]
    asked = min(limit, MEASURED_TOKENS)

    async def ask(requests: int, tokens: int = asked) -> tuple[float, list[Any]]:
        started = time.monotonic()
        wanted = (
            endpoint.generate(text, max_new_tokens=tokens, seed=number, stop=["\n## Example"])
            for number in range(requests)
        )
        answers = await asyncio.gather(*wanted)
        return time.monotonic() - started, answers

    async def series() -> Speed:
        async with endpoint:
            await ask(1, tokens=2)
            requests = min(FIRST_REQUESTS, endpoint.window)
            seconds, answers = await ask(requests)
            while seconds < ENOUGH_SECONDS and 2 * requests <= endpoint.window:
                requests *= 2
                seconds, answers = await ask(requests)
        tokens = [answer.generated_tokens for answer in answers]
        whole = asked == limit
        lengths = [HALF if answer.is_cut_off and not whole else answer.generated_tokens / limit for answer in answers]
        return Speed(sum(tokens) / seconds, requests, sum(lengths) / len(lengths), len(text))

    return asyncio.run(series())


def make_plan(options: Options, settings: Settings, max_seeds: int | None, server: Server, folder: Path) -> str:
    """The plan as text: rows, requests, tokens, hours, disk and cost; upper bounds where a step may leave rows out."""
    seeds = max_seeds or 0
    if options.seeds:
        there = len(open_source(options.seeds).rows)
        seeds = min(there, max_seeds or there)
    speed = measure(server, settings)
    counts = (seeds, seeds, seeds * settings.samples, 2 * HUMANEVAL)
    answers = [count * limit * speed.share for count, limit in zip(counts, settings.limits, strict=True)]
    asked = sum(counts[:3]) * speed.prompt_characters + counts[3] * HUMANEVAL_CHARACTERS
    prompts, tokens = asked / CHARACTERS_PER_TOKEN, sum(answers)
    hours = tokens / max(speed.tokens_per_second, 0.01) / 3600
    lines = [
        ("model", f"{options.model}, {options.settings} settings"),
        ("rows", f"{seeds:,} seeds, as many tasks, and {counts[2]:,} responses at most"),
        ("requests", f"{sum(counts[:3]):,}, and {counts[3]} for HumanEval before and after"),
        ("tokens", f"some {_short(tokens)} of answers, {_short(sum(map(_times, counts, settings.limits)))} at most; "
                   f"some {_short(prompts)} of prompts"),
        ("server", f"{speed.tokens_per_second:,.0f} tokens/s, measured with {speed.requests} requests at a time"),
        ("time", f"some {_duration(hours)} of generating; running the programs and fine-tuning come on top"),
        ("disk", _disk(options.model, counts[2], folder)),
    ]  # fmt: skip
    cost = (options.price_per_hour or 0) * hours + (options.price_per_million_tokens or 0) * (tokens + prompts) / 1e6
    if options.price_per_hour is not None or options.price_per_million_tokens is not None:
        lines.append(("cost", f"some {cost:,.2f} for generating, at the price that was given"))
    return "\n".join(f"  {name:<9} {text}" for name, text in lines)


def _times(count: int, limit: int) -> int:
    return count * limit


def _disk(model: str, responses: int, folder: Path) -> str:
    data = responses * BYTES_PER_ANSWER
    here = Path(resolve_model(model))
    weights = sum(file.stat().st_size for file in here.glob("*.safetensors")) if here.is_dir() else 0
    if not weights:
        return f"some {data / 1e9:.1f} GB of data in {folder}, and three times the model's size while it is trained"
    # A checkpoint and the model, in float32 where the folder may have 16 bits; and a second checkpoint for a moment.
    return f"up to {(data + 6 * weights) / 1e9:.1f} GB in {folder} while the model is trained"


def _short(number: float) -> str:
    for size, name in ((1e9, " billion"), (1e6, " million"), (1e3, ",000")):
        if number >= size:
            return (
                f"{number / size:.0f}{name}" if number >= 10 * size or name == ",000" else f"{number / size:.1f}{name}"
            )
    return f"{number:.0f}"


def _duration(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1.5 else f"{max(1, round(60 * hours))} minutes"
