"""The whole method with any model: seeds, instructions, a fine-tuned model, and HumanEval before and after.

    bash runs/self_align.sh Qwen/Qwen2.5-Coder-0.5B-Instruct            # a Hub id, a model folder or a .gguf file
    bash runs/self_align.sh ./model.gguf --seeds your-org/seeds --out ./runs/out/mine
    bash runs/self_align.sh your-org/model --hub your-org/aligned       # your-org/aligned-seeds, ..., -instructions
    bash runs/self_align.sh your-org/model --endpoint http://gpu:8000 --api completions --price-per-hour 3.50

The model is served by vLLM on this machine's GPUs if both are there, else by serve.py, or it is asked where --endpoint
says. Then the server is measured for some seconds, what will be done is printed (rows, requests, tokens, hours, disk,
cost), and the steps run one after the other. If anything ends in between, the same command goes on where it stopped.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from runs import summary
from runs.plan import make_plan
from runs.servers import NO_SERVER, Server, gpu_count, launcher, serving, uses_serve_py
from selfalign.errors import UserError
from selfalign.options import PROMPTS, ROOT, Count, PositiveOrZero, run_script
from selfalign.processes import die_with_parent
from selfalign.runner.hub import is_hub_id
from selfalign.training.loading import BaseModel

STATE = "self_align.json"  # in the folder: which run it holds, and which of its steps are done


@dataclass(frozen=True, kw_only=True)
class Options:
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """The model: a Hub id, a folder, a .gguf file, or `smollm2` for that of the quickstart."""
    seeds: str | None = None
    """Dataset of seed functions. By default, functions of Python's standard library are collected."""
    out: str | None = None
    """Folder for everything. By default, ./runs/out/ and the model's name."""
    hub: str | None = None
    """org/name: the datasets go to the Hub as org/name-seeds and so on, and the model as org/name; the folder keeps the
    results."""
    endpoint: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """URL of a server of the model; repeat the option for several. By default, one is started here."""
    api: Literal["tgi", "completions", "chat"] = "tgi"
    """Interface of --endpoint, as in the steps."""
    max_seeds: Count | None = None
    """How many seeds to use. By default, 64 with `small` settings, else all of --seeds, or 200 of the library's."""
    settings: Literal["auto", "small", "plain", "paper"] = "auto"
    """`paper` is the defaults of the steps, for models from 3B parameters on. `plain` is for code models from 0.5B on:
    short worked examples of functions, classes and programs, and what most samples compute decides, not their own
    tests. `small` has similar worked examples, easy functions only, and a low temperature. `auto` is `small` where
    serve.py serves the model."""
    price_per_hour: PositiveOrZero | None = None
    """Price of the servers for an hour, to print the cost."""
    price_per_million_tokens: PositiveOrZero | None = None
    """Price of a million tokens, of prompts and of answers, to print the cost."""
    plan_only: bool = False
    """Print what would be done, and end."""


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
    # For the plan: worked examples, limits in tokens of the three steps and the benchmark, and samples per task.
    examples: str = "prompts/examples.yaml"
    shots: int = 1
    limits: tuple[int, int, int, int] = (128, 512, 1024, 512)
    samples: int = 10
    temperature: float = 0.7


PLAIN = ("--examples", "prompts/examples_plain.yaml")
EASY = ("--examples", "prompts/examples_small.yaml")
SETTINGS = {
    "paper": Settings(),
    # A code model of 0.5B follows plain examples, and computes more often than it tells what it would compute: of the
    # tests that it writes for right code, most state a wrong output. docs/results.md has the figures.
    "plain": Settings(
        seeds=("--max-lines", "25"),
        concepts=(*PLAIN, "--shots", "6", "--max-new-tokens", "60", "--temperature", "0.5"),
        tasks=(*PLAIN, "--shots", "6", "--max-new-tokens", "160", "--temperature", "0.5"),
        responses=(
            *(*PLAIN, "--similar-shots", "--shots", "2", "--samples", "8"),
            *("--max-new-tokens", "320", "--temperature", "0.5"),
        ),
        executions=("--timeout", "3"),
        selection=("--strategy", "consensus"),
        training=("--batch-size", "16", "--epochs", "2", "--max-length", "1024"),
        examples="prompts/examples_plain.yaml",
        shots=2,
        limits=(60, 160, 320, 512),
        samples=8,
        temperature=0.5,
    ),
    # They differ from the paper's, whose models have 3B to 33B parameters, because the quickstart's model has 135M:
    #   examples    8 worked examples that are short, easy and similar: a small model copies form before content
    #   function    only easy functions as tasks: classes and programs hardly ever pass
    #   0.3         temperature: at the paper's 0.7, one sample in fifty passes its tests
    #   64 x 6      seeds and samples per task: some 30 % of the tasks get a passing sample, and at least ten are needed
    #   140 tokens  per response, enough for a short function with its tests; longer ones repeat themselves
    #   4           examples per batch instead of 64: there are a few dozen examples, not 74,000
    #   160 tokens  for HumanEval instead of 512: what such a model can solve has short solutions
    "small": Settings(
        seeds=("--max-lines", "20"),
        concepts=(*EASY, "--shots", "4", "--max-new-tokens", "40", "--temperature", "0.5"),
        tasks=(
            *(*EASY, "--shots", "6", "--max-new-tokens", "80", "--temperature", "0.3"),
            *("--categories", "function", "--difficulties", "easy"),
        ),
        responses=(*EASY, "--samples", "6", "--shots", "4", "--max-new-tokens", "140", "--temperature", "0.3"),
        executions=("--timeout", "3"),
        training=("--batch-size", "4", "--epochs", "2", "--max-length", "512"),
        benchmark=("--max-new-tokens", "160"),
        max_seeds=64,
        examples="prompts/examples_small.yaml",
        shots=4,
        limits=(40, 80, 140, 160),
        samples=6,
        temperature=0.3,
    ),
}
STDLIB_SEEDS = 200  # functions of the standard library that are good seeds, about


@dataclass(frozen=True)
class Step:
    """One call of a script."""

    title: str
    words: tuple[str, ...]
    asks: bool = False  # whether it needs the server


def folder_of(options: Options) -> str:
    """The folder of the run, beginning with ./ or /, so that no script takes it for a Hub id."""
    name = options.model.rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf")
    out = os.path.expanduser(options.out or f"./runs/out/{name}")
    return out if out.startswith((".", "/")) else f"./{out}"


def is_offline(options: Options) -> bool:
    """Whether nothing of this run is on the Hub, so that the libraries need not ask it."""
    names = [options.seeds] if options.seeds else []
    names += [] if options.model == "smollm2" else [options.model]
    return not options.hub and not any(is_hub_id(name) or not os.path.exists(name) for name in names)


def max_seeds_of(options: Options) -> int | None:
    """How many seeds are used; None for all of --seeds."""
    settings = SETTINGS[options.settings]
    return options.max_seeds or settings.max_seeds or (None if options.seeds else STDLIB_SEEDS)


def steps_of(options: Options, server: Server, launch: Sequence[str] = ()) -> list[Step]:
    """The chain. `launch` is what comes before finetune.py, such as accelerate's launcher."""
    settings, out, hub = SETTINGS[options.settings], folder_of(options), options.hub

    def at(name: str) -> str:
        return f"{hub}-{name}" if hub else f"{out}/after/{name}" if name == "instructions" else f"{out}/{name}"

    seeds, model, asks = options.seeds or at("seeds"), f"{out}/after/model", server.words
    max_seeds = max_seeds_of(options)
    first = ("--max-samples", str(max_seeds)) if max_seeds else ()
    kept_out = ("--decontaminate", "humaneval") if is_offline(options) else ()
    style = ("--prompt-style", "chat") if options.api == "chat" else ()  # before and after are asked alike
    before = (
        "benchmark.py",
        server.urls[0],
        f"{out}/before/humaneval",
        "--api",
        server.api,
        *settings.benchmark,
        *style,
    )
    train = ("finetune.py", at("instructions"), model, "--model", options.model, *settings.training)
    push = ("--push-to-hub", hub) if hub else ()
    samples = f"{settings.samples} samples per task, each with tests"
    steps = {
        "Concepts: what the seeds are about": (
            *("generate_concepts.py", seeds, at("concepts"), *asks, *settings.concepts, *first),
        ),
        "Tasks: written from the concepts": (
            *("generate_tasks.py", at("concepts"), at("tasks"), *asks, *settings.tasks),
        ),
        f"Responses: {samples}": (*("sample_responses.py", at("tasks"), at("responses"), *asks, *settings.responses),),
        "Executions: every sample is run against its own tests, in a sandbox": (
            *("execute.py", at("responses"), at("executions"), *settings.executions),
        ),
        "Instructions: one passing response for each task": (
            *("select.py", at("executions"), at("instructions"), *kept_out, *settings.selection),
        ),
        "HumanEval before": before,
        "Fine-tuning on the model's own instructions": (*launch, *train, *push),
        "HumanEval after": ("benchmark.py", model, f"{out}/after/humaneval", *settings.benchmark, *style),
    }
    if not options.seeds:
        collect = ("collect_seeds.py", "stdlib", at("seeds"), *settings.seeds, *kept_out)
        title = "Seeds: functions of the standard library with docstring, argument and return value"
        steps = {title: collect, **steps}
    asking = {"generate_concepts.py", "generate_tasks.py", "sample_responses.py"}
    return [Step(title, words, words[0] in asking or words is before) for title, words in steps.items()]


# Running --------------------------------------------------------------------------------------------------------------


class State:
    """Which run the folder holds, and which of its steps are done, in a file of the folder."""

    def __init__(self, folder: Path, options: Options) -> None:
        self.path = folder / STATE
        now = {"model": options.model, "settings": options.settings, "seeds": options.seeds, "hub": options.hub}
        there = json.loads(self.path.read_text()) if self.path.exists() else now | {"max_seeds": None, "done": []}
        if differing := [name for name, value in now.items() if there[name] != value]:
            was = ", ".join(f"{name} was {there[name]}" for name in differing)
            raise UserError(f"{folder} holds another run ({was}): name another folder with --out")
        self.max_seeds = max_seeds_of(options)
        # With more seeds, every step has something to do again.
        self.done: list[str] = there["done"] if there["max_seeds"] == self.max_seeds else []
        self.now = now
        self.save()

    def save(self) -> None:
        folder = self.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        new = folder / f".{STATE}.new"
        new.write_text(json.dumps({**self.now, "max_seeds": self.max_seeds, "done": self.done}, indent=2))
        os.replace(new, self.path)

    def note(self, step: Step) -> None:
        self.done.append(step.title)
        self.save()


def run_step(step: Step, environment: dict[str, str]) -> None:
    """Run one script, which ends with this process; SystemExit with its status if that is not 0."""
    process = subprocess.Popen([sys.executable, *step.words], cwd=ROOT, env=environment, preexec_fn=die_with_parent)
    try:
        status = process.wait()
    except BaseException:  # Ctrl-C goes to both; SIGTERM only to this process
        process.terminate()
        process.wait()
        raise
    if status:
        print(f"\nStopped at: {step.title}. The same command goes on from there.", file=sys.stderr)
        raise SystemExit(status if status > 0 else 128 - status)


def check(options: Options) -> None:
    """UserError now, and not after hours, if the model can't be fine-tuned or --hub is no Hub id."""
    if options.hub and not is_hub_id(options.hub):
        raise UserError(f"--hub {options.hub} must have the form org/name")
    if options.endpoint:  # otherwise the server that is started here finds out
        BaseModel(options.model, "auto", "auto").load_tokenizer(PROMPTS / "chat.jinja")


def check_instructions(folder: Path) -> None:
    """UserError if there is nothing to train on."""
    run = json.loads((folder / "after" / "instructions" / "run.json").read_text())
    if not run["funnel"][-1]["rows_out"]:
        raise UserError("no response passed its tests, so there is nothing to train on: use more seeds (--max-seeds)")


def ended_by_signal(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def say(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def main(options: Options) -> None:
    """Make a plan, print it, and run the steps that are not done."""
    signal.signal(signal.SIGTERM, ended_by_signal)
    started = time.monotonic()
    gpus = gpu_count()
    if options.settings == "auto":
        options = replace(options, settings="small" if not options.endpoint and uses_serve_py(gpus) else "paper")
    folder = Path(folder_of(options))
    os.chdir(ROOT)
    environment = os.environ | {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    if is_offline(options):  # otherwise the libraries would wait for an answer from the Hub
        environment["HF_HUB_OFFLINE"] = os.environ["HF_HUB_OFFLINE"] = "1"
    check(options)
    state = State(folder, options)
    launch = launcher(gpus)
    todo = [step for step in steps_of(options, NO_SERVER, launch) if step.title not in state.done]
    asking = [step for step in todo if step.asks]
    with contextlib.ExitStack() as stack:
        server = NO_SERVER
        if asking:
            say("The server of the model")
            server = stack.enter_context(
                serving(options.model, options.endpoint, options.api, gpus, folder, environment)
            )
            print(" ".join(server.urls))
            say("What will be done")
            print(make_plan(options, SETTINGS[options.settings], max_seeds_of(options), server, folder), flush=True)
        elif todo:
            say("What will be done")
            print("\n".join(step.title for step in todo))
        if options.plan_only:
            return
        steps = [step for step in steps_of(options, server, launch) if step.title not in state.done]
        for number, step in enumerate(steps):
            say(step.title)
            run_step(step, environment)
            state.note(step)
            if step.words[0] == "select.py" and not options.hub:
                check_instructions(folder)
            if server is not NO_SERVER and not any(later.asks for later in steps[number + 1 :]):
                stack.close()  # the memory is needed for the training
                server = NO_SERVER
    minutes, seconds = divmod(int(time.monotonic() - started), 60)
    say(f"Done in {minutes} min {seconds} s")
    summary.main(folder, options.hub)
    print_table(folder, options.model)


def print_table(folder: Path, model: str) -> None:
    """The table of before and after, with paired intervals, as paper_tables.py prints it."""
    name = "quickstart" if model == "smollm2" else "self_align"
    results = (f"{name}/{when}={folder}/{when}" for when in ("before", "after"))
    print(flush=True)
    subprocess.run([sys.executable, "paper_tables.py", *results, "--tables", name], cwd=ROOT, check=True)


if __name__ == "__main__":
    run_script(main, Options, __doc__)
