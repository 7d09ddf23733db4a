"""Several rounds of the method, each with the model that the round before has trained, and a brake.

    bash runs/rounds.sh smollm2 --rounds 2 --max-seeds 64
    bash runs/rounds.sh your-org/model --seeds your-org/seeds --rounds 4 --out ./runs/out/rounds

Seeds and concepts are made once, by the model that the first round begins with. A round then draws concepts
(runs/draw.py), writes tasks from them, samples and runs responses, selects, fine-tunes the model of the round before on
what was selected, and measures the new one. runs/brake.py decides whether the next round begins.

In FOLDER: seeds, concepts, before/humaneval, and for each round round-N/concepts, tasks, responses, executions,
instructions, model and humaneval, all of them as the steps write them.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from runs.brake import PULLED, Limits, brake_table, read_rounds, reasons_to_stop, sentence
from runs.running import Step, begin, is_complete, run_step, say, write_state
from runs.servers import NO_SERVER, Server, gpu_count, launcher, serving
from runs.settings import SETTINGS, STDLIB_SEEDS, Settings, check_texts, names_of_hub, words_for
from selfalign.errors import UserError
from selfalign.options import PROMPTS, Count, run_script
from selfalign.runner.source import open_source
from selfalign.training.loading import BaseModel

STATE = "rounds.json"  # in the folder: which rounds it holds
# The steps of a round, after each of which the brake is asked: up to the executions, the selection, and the training
# with HumanEval. Nothing is selected by tests that accept everything, and no model is trained on what is no good.
SPANS = (slice(4), slice(4, 5), slice(5, None))
DRAWN = 0.5  # share of the concepts that a round begins with, if --draw does not say how many


@dataclass(frozen=True, kw_only=True)
class Options(Limits):
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """The model: a Hub id, a folder, a .gguf file, or `smollm2` for that of the quickstart."""

    rounds: Count = 3
    """Number of rounds. A later run with a larger number continues after them."""

    seeds: str | None = None
    """Dataset of seed functions. By default, functions of Python's standard library are collected."""

    out: str | None = None
    """Folder for everything. By default, ./runs/out/ and the model's name, followed by -rounds."""

    max_seeds: Count | None = None
    """How many seeds to use. By default, 64 with `small` settings, else all of --seeds, or 200 of the library's."""

    draw: Count | None = None
    """How many concepts to draw for each round. By default, half of the seeds that are used."""

    settings: Literal["small", "plain", "paper"] = "paper"
    """What the steps are given, as in runs/self_align.sh."""

    benchmark_data: str | None = None
    """File of HumanEval's problems to measure with, such as some of them. By default, all of them."""


def folder_of(options: Options) -> str:
    """The folder of the run, beginning with ./ or /, so that no script takes it for a Hub id."""
    name = options.model.rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf")
    out = os.path.expanduser(options.out or f"./runs/out/{name}-rounds")
    return out if out.startswith((".", "/")) else f"./{out}"


def max_seeds_of(options: Options) -> int | None:
    """How many seeds are used; None for all of --seeds."""
    settings = SETTINGS[options.settings]
    return options.max_seeds or settings.max_seeds or (None if options.seeds else STDLIB_SEEDS)


def is_offline(options: Options) -> bool:
    """Whether nothing of this run is on the Hub, so that the libraries need not ask it."""
    return not names_of_hub(options.seeds, options.model)


def benchmark_of(options: Options, settings: Settings, model: str, output: str) -> Step:
    """HumanEval with a model: the same call for all of them."""
    data = ("--data", options.benchmark_data) if options.benchmark_data else ()
    return Step(f"HumanEval: {model}", ("benchmark.py", model, output, *settings.benchmark, *data))


def first_steps(options: Options, server: Server) -> list[Step]:
    """What all rounds share: seeds, concepts, and HumanEval before."""
    settings, out = SETTINGS[options.settings], folder_of(options)
    seeds, most = options.seeds or f"{out}/seeds", max_seeds_of(options)
    first = ("--max-samples", str(most)) if most else ()
    asks = (*server.words, *words_for(settings.examples))
    steps = [
        Step(
            "Concepts: what the seeds are about",
            ("generate_concepts.py", seeds, f"{out}/concepts", *asks, *settings.concepts, *first),
            asks=True,
        ),
        benchmark_of(options, settings, options.model, f"{out}/before/humaneval"),
    ]
    if options.seeds:
        return steps
    collect = ("collect_seeds.py", "stdlib", seeds, *settings.seeds, *kept_out(options))
    return [Step("Seeds: functions of the standard library", collect), *steps]


def kept_out(options: Options) -> tuple[str, ...]:
    """Which benchmarks are kept out of the data: HumanEval alone if nothing else can be read."""
    return ("--decontaminate", "humaneval") if is_offline(options) else ()


def steps_of_round(number: int, options: Options, server: Server, launch: tuple[str, ...] = ()) -> list[Step]:
    """The steps of a round, from 1. Its number is the seed of all draws, or each round would ask the same again."""
    settings, out = SETTINGS[options.settings], folder_of(options)
    at, seed = f"{out}/round-{number}", ("--seed", str(number))
    asks = (*server.words, *words_for(settings.examples))
    earlier = [f"{out}/round-{n}/executions" for n in range(1, number)]
    after = ("--after", *earlier) if earlier else ()
    drawn = drawn_of(options)
    train = (*launch, "finetune.py", f"{at}/instructions", f"{at}/model", "--model", model_before(number, options))
    steps = {
        "concepts, rather of tasks that are solved sometimes": (
            *("-m", "runs.draw", f"{out}/concepts", f"{at}/concepts", "--draw", str(drawn), *seed, *after),
        ),
        "tasks": ("generate_tasks.py", f"{at}/concepts", f"{at}/tasks", *asks, *settings.tasks, *seed),
        "responses": ("sample_responses.py", f"{at}/tasks", f"{at}/responses", *asks, *settings.responses, *seed),
        "executions": ("execute.py", f"{at}/responses", f"{at}/executions", *settings.executions, *seed),
        "instructions": (
            *("select.py", f"{at}/executions", f"{at}/instructions", *kept_out(options), *settings.selection, *seed),
        ),
        "fine-tuning": (*train, *settings.training, *seed),
    }
    asking = ("tasks", "responses")
    found = [Step(f"Round {number}: {title}", words, title in asking) for title, words in steps.items()]
    return [*found, benchmark_of(options, settings, f"{at}/model", f"{at}/humaneval")]


def drawn_of(options: Options) -> int:
    """How many concepts are drawn for each round."""
    if options.draw:
        return options.draw
    most = max_seeds_of(options)
    there = len(open_source(options.seeds).rows) if options.seeds else most or STDLIB_SEEDS
    return max(1, round(DRAWN * min(there, most or there)))


def model_before(number: int, options: Options) -> str:
    """The model that a round asks and trains on."""
    return f"{folder_of(options)}/round-{number - 1}/model" if number > 1 else options.model


# Running --------------------------------------------------------------------------------------------------------------


def output_of(step: Step) -> str:
    """Where a step writes: what follows its script and its input."""
    words = step.words
    script = next(i for i, word in enumerate(words) if word.endswith(".py") or word == "runs.draw")
    return words[script + 2]


def is_done(step: Step) -> bool:
    """Whether all that a step writes is there; benchmark.py writes its results after the rows."""
    output = Path(output_of(step))
    return is_complete(output) and (step.words[0] != "benchmark.py" or (output / "results.json").exists())


def check_folder(folder: Path, options: Options) -> None:
    """Note which rounds the folder holds; UserError if it holds others."""
    now = {name: getattr(options, name) for name in ("model", "settings", "seeds", "benchmark_data")}
    now |= {"max_seeds": max_seeds_of(options), "draw": drawn_of(options)}
    path = folder / STATE
    there = json.loads(path.read_text()) if path.exists() else now
    if differing := [f"{name} was {there.get(name)}" for name, value in now.items() if there.get(name) != value]:
        raise UserError(f"{folder} holds other rounds ({', '.join(differing)}): name another folder with --out")
    write_state(folder, STATE, now)


class Runner:
    """Runs the steps that are not done, with a server of a model for those that ask it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment, self.gpus = folder, environment, gpu_count()

    def run(self, model: str, steps_with: Callable[[Server], list[Step]]) -> None:
        """Run the steps, which depend on the server that they ask."""
        todo = [number for number, step in enumerate(steps_with(NO_SERVER)) if not is_done(step)]
        with contextlib.ExitStack() as stack:
            server = NO_SERVER
            for number in todo:
                step = steps_with(server)[number]
                say(step.title)
                if step.asks and server is NO_SERVER:
                    server = stack.enter_context(serving(model, (), "tgi", self.gpus, self.folder, self.environment))
                if not step.asks:
                    stack.close()  # the memory is needed, and no later step asks this model
                run_step(steps_with(server)[number], self.environment)


def check_brake(number: int, folder: Path, options: Options) -> str:
    """The table of the rounds up to this one; SystemExit with PULLED and a sentence if they are to end here."""
    rounds = read_rounds(folder, number)
    table = brake_table(rounds, options)
    if reasons := reasons_to_stop(rounds, options):
        print(f"\n{table}\n", flush=True)
        print(f"rounds.py: {sentence(number, reasons)}", file=sys.stderr)
        raise SystemExit(PULLED)
    return table


def main(options: Options) -> None:
    """Run the rounds until they are done or the brake is pulled."""
    check_texts(options)
    environment = begin(is_offline(options))
    BaseModel(options.model, "auto", "auto").load_tokenizer(PROMPTS / "chat.jinja")  # it can be trained: known now
    folder = Path(folder_of(options))
    check_folder(folder, options)
    runner = Runner(folder, environment)
    launch = launcher(runner.gpus, SETTINGS[options.settings].training)
    runner.run(options.model, lambda server: first_steps(options, server))
    for number in range(1, options.rounds + 1):

        def steps(server: Server, number: int = number) -> list[Step]:
            return steps_of_round(number, options, server, launch)

        table = ""
        for span in SPANS:
            runner.run(model_before(number, options), lambda server, span=span, steps=steps: steps(server)[span])
            table = check_brake(number, folder, options)
        say(f"After round {number}")
        print(table, flush=True)
    print(f"\nThe model of the last round is in {model_before(options.rounds + 1, options)}")


if __name__ == "__main__":
    run_script(main, Options, __doc__)
