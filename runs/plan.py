"""What a run of the whole chain will do, said before it begins, from short measurements."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from runs.measure import TOGETHER, Speed, measure_programs, measure_server, measure_start
from runs.servers import gpu_count, uses_serve_py
from runs.timing import Training, measure_training
from selfalign.models import resolve_model
from selfalign.runner.source import open_source

if TYPE_CHECKING:
    from runs.self_align import Options
    from runs.servers import Server
    from runs.settings import Settings

CHARACTERS_PER_TOKEN = 3.3  # of code and English
HUMANEVAL = 164  # problems
BYTES_PER_ANSWER = 6000  # of a row of responses, and of what the later steps make of it
GUESSED_YIELD = 1 / 3  # examples of a task, while there is none
GUESSED_PASSES = 1 / 4  # of the samples, each of which is then run again with MUTANTS and as a stub
MUTANTS = 10  # the default of execute.py
TOKENS_OF_EXAMPLE = 300  # question and answer, about
IN_16_BITS = 1.7  # times as long as in 8 bits: benchmarks, where the server that was measured has 8 (docs/servers.md)


def make_plan(options: Options, settings: Settings, max_seeds: int | None, server: Server, folder: Path) -> str:
    """The plan as text: rows, requests, tokens, time by step, disk and cost; a step may leave rows out."""
    seeds = max_seeds or 0
    if options.seeds:
        there = len(open_source(options.seeds).rows)
        seeds = min(there, max_seeds or there)
    speed = measure_server(server, settings, options.examples or settings.examples)
    counts = counts_of(options, settings, seeds)
    tokens = sum(count * speed.tokens[kind] for kind, count in counts.items())
    prompts = sum(count * speed.characters[kind] for kind, count in counts.items()) / CHARACTERS_PER_TOKEN
    times = times_of(options, settings, counts, speed, seeds)
    generating = sum(seconds for name, seconds in times.items() if name.partition(",")[0] in speed.tokens) / 3600
    together = min(speed.window, max(counts.values()))
    on_top = "" if options.seeds else ", and collecting the seeds on top"
    measured = counts.get("HumanEval")
    benchmarks = f", {measured} of them for HumanEval before and after" if measured else ""
    lines = [
        ("model", f"{options.model}, {options.settings} settings"),
        ("rows", f"{seeds:,} seeds, as many tasks, and {seeds * settings.samples:,} responses at most"),
        ("requests", f"{sum(counts.values()):,}{benchmarks}"),
        ("tokens", f"some {_short(tokens)} of answers, and {_short(prompts)} of prompts"),
        ("server", f"{speed.tokens_per_second(together):,.0f} tokens/s with {together} requests at a time, as measured "
                   f"with {TOGETHER}"),
        ("time", f"some {_duration(sum(times.values()) / 3600)} in all if nothing else keeps the machine busy"
                   f"{on_top}"),
        *(("", f"{_duration(seconds / 3600):>10}  {name}") for name, seconds in times.items()),
        ("disk", _disk(options.model, seeds * settings.samples, folder)),
    ]  # fmt: skip
    cost = (options.price_per_hour or 0) * generating + (options.price_per_million_tokens or 0) * (
        tokens + prompts
    ) / 1e6
    if options.price_per_hour is not None or options.price_per_million_tokens is not None:
        lines.append(("cost", f"some {cost:,.2f} for generating, at the price that was given"))
    return "\n".join(f"  {name:<9} {text}" for name, text in lines)


def counts_of(options: Options, settings: Settings, seeds: int) -> dict[str, int]:
    """The requests of each kind, as far as the run goes."""
    counts = {"concepts": seeds, "tasks": seeds, "responses": seeds * settings.samples, "HumanEval": 2 * HUMANEVAL}
    if options.without_concepts:
        del counts["concepts"]
    order = ["seeds", "concepts", "tasks", "responses"]
    if options.until:
        reached = order[: order.index(options.until) + 1] if options.until in order else order
        counts = {kind: count for kind, count in counts.items() if kind in reached}
    return counts


def times_of(
    options: Options, settings: Settings, counts: dict[str, int], speed: Speed, seeds: int
) -> dict[str, float]:
    """Seconds by what they are for, measured or reckoned from what was measured."""
    times = {kind: speed.seconds(kind, count) for kind, count in counts.items() if kind in ("concepts", "tasks")}
    if "responses" in counts:  # the samples of a task have their prompt in common
        times["responses"] = speed.seconds("responses", counts["responses"], prompts=seeds)
    scripts = len(times) + (0 if options.seeds else 1)
    if options.until not in ("seeds", "concepts", "tasks", "responses"):
        programs = counts["responses"] * (1 + GUESSED_PASSES * (MUTANTS + 1))
        times["executions, in the sandbox"] = programs * measure_programs(settings.examples, os.cpu_count() or 1)
        scripts += 1 if options.until == "executions" else 2
    if not options.until:
        longer = IN_16_BITS if options.quantize else 1
        times["HumanEval, before and after"] = 2 * longer * speed.seconds("HumanEval", HUMANEVAL)
        scripts += 3
        if training := training_of(options):
            examples = max(1, round(GUESSED_YIELD * seeds))
            words = dict(pairwise(settings.training))
            epochs, batch = float(words.get("--epochs", 4)), int(words.get("--batch-size", 64))
            seconds = training.seconds(examples, TOKENS_OF_EXAMPLE, epochs, batch)
            times[f"fine-tuning, if there are {examples:,} examples"] = seconds
    times[f"starting {scripts} scripts"] = scripts * measure_start()
    return times


def training_of(options: Options) -> Training | None:
    """How fast the model is trained here; None where vLLM has the memory of the GPUs, where the model would have to be
    downloaded for that, or where it can't be measured."""
    gpus = gpu_count()
    if options.endpoint and not os.path.exists(resolve_model(options.model)):
        return None
    if gpus and not options.endpoint and not uses_serve_py(gpus):
        return None
    return measure_training(options.model)


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
    return (
        f"{hours:.1f} hours" if hours >= 1.5 else f"{60 * hours:.0f} min" if hours > 1 / 6 else f"{60 * hours:.1f} min"
    )
