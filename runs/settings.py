"""What the runs share: the options that name a model and its data, and the settings with which they call the steps."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from selfalign.errors import UserError
from selfalign.options import Count
from selfalign.runner.hub import is_hub_id

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Options of every run: which model, from which seeds, and how it is asked."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """The model: a Hub id, a folder, a .gguf file, or `smollm2` for that of the quickstart."""
    seeds: str | None = None
    """Dataset of seed functions. By default, functions of Python's standard library are collected, and of the installed
    packages if --max-seeds is above 200."""
    out: str | None = None
    """Folder for everything. By default, ./runs/out/ and the model's name."""
    endpoint: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """URL of a server of the model; repeat the option for several. By default, one is started here."""
    api: Literal["tgi", "completions", "chat"] = "tgi"
    """Interface of --endpoint, as in the steps."""
    quantize: Literal["int8"] | None = None
    """Have serve.py compute in 8 bits what the model writes as data, which is faster on some processors: see `python
    serve.py --help`. Benchmarks measure the model as it is."""
    max_seeds: Count | None = None
    """How many seeds to use. By default, 64 with `small` settings, else all of --seeds, or 200 of the library's."""
    settings: Literal["auto", "small", "plain", "paper", "reference"] = "auto"
    """`paper` is the defaults of the steps, for models from 3B parameters on. `reference` also has what the paper's
    reference implementation does differently (docs/fidelity.md), as the recipes in experiments/ do. `plain` is for code
    models from 0.5B on: short worked examples of functions, classes and programs, and what most samples compute
    decides, not their own tests. `small` has similar worked examples, easy functions only, and a low temperature.
    `auto` is `small` where serve.py serves the model."""
    decontaminate: tuple[str, ...] = ()
    """Benchmarks to keep out of the data, as in the steps. By default, all that can be read; HumanEval and those of
    --benchmark-data if nothing of the run is on the Hub."""
    benchmark_data: tuple[str, ...] = ()
    """Files to read benchmarks from instead of the Hub, such as mbppplus=MbppPlus.jsonl."""
    plan_only: bool = False
    """Print what would be done, and end."""


def folder_of(options: ModelOptions, parent: str = "./runs/out") -> str:
    """The folder of the run, beginning with ./ or /, so that no script takes it for a Hub id."""
    name = options.model.rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf")
    out = os.path.expanduser(options.out or f"{parent}/{name}")
    return out if out.startswith((".", "/")) else f"./{out}"


def check_server(options: ModelOptions) -> None:
    """UserError if an interface is named without the servers that have it, as one that is started here has its own; or
    if 8 bits are asked of servers that are running already."""
    if options.api != "tgi" and not options.endpoint:
        raise UserError(f"--api {options.api} is the interface of servers that --endpoint names, and none is named")
    if options.quantize and options.endpoint:
        raise UserError(f"--quantize {options.quantize} is for a serve.py that is started here, and not for --endpoint")


def check_texts(options: DataclassInstance) -> None:
    """UserError if the model or the text of an option is empty, as where a shell's variable is not set: a default in
    its place would be another run."""
    for field in fields(options):
        value = getattr(options, field.name)
        if any(
            isinstance(text, str) and not text.strip() for text in (value if isinstance(value, tuple) else (value,))
        ):
            name = "MODEL" if field.name == "model" else f"--{field.name.replace('_', '-')}"
            raise UserError(f"{name} is empty: give it a value, or leave it out")


def names_of_hub(*names: str | None) -> bool:
    """Whether one of these models or datasets is on the Hub, so that the libraries have to ask it."""
    given = [name for name in names if name and name != "smollm2"]
    return any(is_hub_id(name) or not os.path.exists(name) for name in given)


def kept_out_of(options: ModelOptions, offline: bool) -> tuple[str, ...]:
    """The options with which the steps keep benchmarks out of the data."""
    names = options.decontaminate
    if offline and not names:
        names = ("humaneval", *(file.partition("=")[0] for file in options.benchmark_data))
    words = ("--decontaminate", *dict.fromkeys(names)) if names else ()
    return (*words, *(("--benchmark-data", *options.benchmark_data) if options.benchmark_data else ()))


def max_seeds_of(options: ModelOptions) -> int | None:
    """How many seeds are used; None for all of --seeds."""
    settings = SETTINGS[options.settings]
    return options.max_seeds or settings.max_seeds or (None if options.seeds else STDLIB_SEEDS)


PAPER_SHOTS = {"concepts": 8, "tasks": 8, "responses": 1}  # paper, C.1


@dataclass(frozen=True)
class Settings:
    """What the steps are given beside input, output and endpoint; `max_seeds` is the default of the option."""

    seeds: tuple[str, ...] = ()
    concepts: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    responses: tuple[str, ...] = ("--samples", "10")
    executions: tuple[str, ...] = ()
    selection: tuple[str, ...] = ()
    training: tuple[str, ...] = ()
    benchmark: tuple[str, ...] = ()
    max_seeds: int | None = None
    # Worked examples; and for the plan, limits in tokens of the three steps and the benchmark, and samples per task.
    examples: str = "prompts/examples.yaml"
    limits: tuple[int, int, int, int] = (128, 512, 1024, 512)
    samples: int = 10
    temperature: float = 0.7

    def shots_of(self, kind: str) -> int:
        """How many worked examples the prompts of a step have: concepts, tasks or responses."""
        words = {"concepts": self.concepts, "tasks": self.tasks, "responses": self.responses}[kind]
        return int(dict(pairwise(words)).get("--shots", PAPER_SHOTS[kind]))


def words_for(examples: str) -> tuple[str, ...]:
    """The option with which a step that asks the model gets these worked examples; none for those it has anyway."""
    return () if examples == Settings.examples else ("--examples", examples)


# What the reference implementation does, and the defaults of the steps do not (docs/fidelity.md): the longest answer of
# each step in tokens, the memory of a program in MiB, no rules of ours, random assertions in its words in instructions;
# its chat template, and the loss of the transformers of 2024.
LONGEST = ("--max-new-tokens", "1536")
SETTINGS = {
    "paper": Settings(),
    "reference": Settings(
        concepts=LONGEST,
        tasks=LONGEST,
        responses=("--samples", "10", *LONGEST),
        executions=("--memory", "4096"),
        selection=("--skip", "vacuous", "stub", "tests_do_not_call", "--shown-tests", "reference"),
        training=("--chat-template", "prompts/reference/chat.jinja", "--average-loss-over", "sequences"),
        limits=(1536, 1536, 1536, 512),
    ),
    # A code model of 0.5B follows plain examples, and computes more often than it tells what it would compute: of the
    # tests that it writes for right code, most state a wrong output. docs/results.md has the figures.
    "plain": Settings(
        seeds=("--max-lines", "25"),
        concepts=("--shots", "6", "--max-new-tokens", "60", "--temperature", "0.5"),
        tasks=("--shots", "6", "--max-new-tokens", "160", "--temperature", "0.5"),
        responses=(
            *("--similar-shots", "--shots", "2", "--samples", "8"),
            *("--max-new-tokens", "320", "--temperature", "0.5", "--trim-tests"),
        ),
        executions=("--timeout", "3"),
        selection=("--strategy", "consensus", "--support", "outputs-and-assertions", "--min-support", "0.5"),
        training=("--batch-size", "16", "--device-batch-size", "4", "--epochs", "2", "--max-length", "1024"),
        examples="prompts/examples_plain.yaml",
        limits=(60, 160, 320, 512),
        samples=8,
        temperature=0.5,
    ),
    # They differ from the paper's, whose models have 3B to 33B parameters, because the quickstart's model has 135M:
    #   examples    8 worked examples that are short, easy and similar: a small model copies form before content
    #   function    only easy functions as tasks: classes and programs hardly ever pass
    #   0.3         temperature: at the paper's 0.7, one sample in fifty passes its tests
    #   64 x 6      seeds and samples per task: one task in ten gets an example, which takes some ten minutes
    #   140 tokens  per response, enough for a short function with its tests; longer ones repeat themselves, and keep
    #               the tests before the one in which they are cut off
    #   4           examples per batch instead of 64: there are a few dozen examples, not 74,000
    #   160 tokens  for HumanEval instead of 512: what such a model can solve has short solutions
    "small": Settings(
        seeds=("--max-lines", "20"),
        concepts=("--shots", "4", "--max-new-tokens", "40", "--temperature", "0.5"),
        tasks=(
            *("--shots", "6", "--max-new-tokens", "80", "--temperature", "0.3"),
            *("--categories", "function", "--difficulties", "easy"),
        ),
        responses=("--samples", "6", "--shots", "4", "--max-new-tokens", "140", "--temperature", "0.3", "--trim-tests"),
        executions=("--timeout", "3"),
        training=("--batch-size", "4", "--epochs", "2", "--max-length", "512"),
        benchmark=("--max-new-tokens", "160"),
        max_seeds=64,
        examples="prompts/examples_small.yaml",
        limits=(40, 80, 140, 160),
        samples=6,
        temperature=0.3,
    ),
}
STDLIB_SEEDS = 200  # functions of the standard library that are good seeds, about
