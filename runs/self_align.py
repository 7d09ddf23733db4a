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
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from runs import summary
from runs.plan import make_plan
from runs.running import Step, begin, run_step, say, write_state
from runs.servers import NO_SERVER, Server, gpu_count, launcher, serving, settings_for
from runs.settings import (
    SETTINGS,
    STDLIB_SEEDS,
    ModelOptions,
    check_server,
    check_texts,
    folder_of,
    kept_out_of,
    max_seeds_of,
    names_of_hub,
    words_for,
)
from selfalign.benchmarks.harness.problems import files_by_name
from selfalign.data.decontamination import decontaminator_of, family_of, read_items
from selfalign.errors import UserError
from selfalign.options import PROMPTS, ROOT, DecontaminationOptions, PositiveOrZero, run_script
from selfalign.runner.hub import is_hub_id
from selfalign.runner.source import open_source
from selfalign.training.loading import BaseModel

STATE = "self_align.json"  # in the folder: which run it holds, and which of its steps are done
SEEDS = "Seeds: "  # how the title of the step begins that collects them
Dataset = Literal["seeds", "concepts", "tasks", "responses", "executions", "instructions"]


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    """Options of the whole chain."""

    hub: str | None = None
    """org/name: the datasets go to the Hub as org/name-seeds and so on, and the model as org/name; the folder keeps the
    results."""
    until: Dataset | None = None
    """End after the step that makes these, which is then in the folder itself. By default, the model is trained and
    measured, too."""
    examples: str | None = None
    """Worked examples: YAML, or the text format of the reference implementation. By default, those of --settings."""
    without_concepts: bool = False
    """Have the tasks written from the seeds themselves (the paper's ablation, Table 10)."""
    price_per_hour: PositiveOrZero | None = None
    """Price of the servers for an hour, to print the cost."""
    price_per_million_tokens: PositiveOrZero | None = None
    """Price of a million tokens, of prompts and of answers, to print the cost."""


def is_offline(options: Options) -> bool:
    """Whether nothing of this run is on the Hub, so that the libraries need not ask it."""
    return not options.hub and not names_of_hub(options.seeds, options.model)


def prompt_of(options: Options, template: str) -> tuple[str, ...]:
    """The options with which a step gets its worked examples, and the template for them."""
    given = words_for(options.examples or SETTINGS[options.settings].examples)
    layout = "prompts/reference" if options.examples and options.settings == "reference" else "prompts"
    is_default = layout == "prompts" and template != "tasks_from_seed"
    return given if is_default else (*given, "--template", f"{layout}/{template}.jinja")


def steps_of(options: Options, server: Server, launch: Sequence[str] = ()) -> list[Step]:
    """The chain. `launch` is what comes before finetune.py, such as accelerate's launcher."""
    settings, out, hub, asks = SETTINGS[options.settings], folder_of(options), options.hub, server.words
    kept_out, max_seeds = kept_out_of(options, is_offline(options)), max_seeds_of(options)

    def at(name: str) -> str:
        folder = f"{out}/after/{name}" if name == "instructions" and not options.until else f"{out}/{name}"
        return f"{hub}-{name}" if hub else folder

    def ask(script: str, source: str, output: str, template: str, words: Sequence[str]) -> tuple[str, ...]:
        first = ("--max-samples", str(max_seeds)) if max_seeds and source == seeds else ()
        return (script, source, at(output), *asks, *prompt_of(options, template), *words, *first)

    seeds, model = options.seeds or at("seeds"), f"{out}/after/model"
    sources, tasks_template = (seeds, "tasks_from_seed") if options.without_concepts else (at("concepts"), "tasks")
    # Before and after are asked alike, and neither in 8 bits.
    measuring = (*settings.benchmark, *(("--prompt-style", "chat") if options.api == "chat" else ()))
    before, api = (options.model, ()) if options.quantize else (server.urls[0], ("--api", server.api))
    push = ("--push-to-hub", hub) if hub else ()
    steps = [
        Step(
            "Concepts: what the seeds are about",
            ask("generate_concepts.py", seeds, "concepts", "concepts", settings.concepts),
            makes="concepts",
            asks=True,
        ),
        Step(
            "Tasks: written from the seeds" if options.without_concepts else "Tasks: written from the concepts",
            ask("generate_tasks.py", sources, "tasks", tasks_template, settings.tasks),
            makes="tasks",
            asks=True,
        ),
        Step(
            f"Responses: {settings.samples} samples per task, each with tests",
            ask("sample_responses.py", at("tasks"), "responses", "responses", settings.responses),
            makes="responses",
            asks=True,
        ),
        Step(
            "Executions: every sample is run against its own tests, in a sandbox",
            ("execute.py", at("responses"), at("executions"), *settings.executions),
            makes="executions",
        ),
        Step(
            "Instructions: one passing response for each task",
            ("select.py", at("executions"), at("instructions"), *kept_out, *settings.selection),
            makes="instructions",
        ),
        Step(
            "HumanEval before",
            ("benchmark.py", before, f"{out}/before/humaneval", *api, *measuring),
            asks=not options.quantize,
        ),
        Step(
            "Fine-tuning on the model's own instructions",
            (*launch, "finetune.py", at("instructions"), model, "--model", options.model, *settings.training, *push),
        ),
        Step("HumanEval after", ("benchmark.py", model, f"{out}/after/humaneval", *measuring)),
    ]
    if not options.seeds:
        files, whose = ("stdlib", "the standard library")
        if (max_seeds or 0) > STDLIB_SEEDS:
            files, whose = ("installed", "the standard library and the installed packages")
        title = f"{SEEDS}functions of {whose} with docstring, argument and return value"
        collect = ("collect_seeds.py", files, at("seeds"), *settings.seeds, *kept_out)
        steps.insert(0, Step(title, collect, makes="seeds"))
    if options.without_concepts:
        steps = [step for step in steps if step.makes != "concepts"]
    if options.until:
        last = next(number for number, step in enumerate(steps) if step.makes == options.until)
        steps = steps[: last + 1]
    return steps


# Running --------------------------------------------------------------------------------------------------------------


def is_more(now: int | None, before: int | None) -> bool:
    """Whether a number of seeds is larger than before; None are all."""
    return before is not None and (now is None or now > before)


class State:
    """Which run the folder holds, and which of its steps are done, in a file of the folder."""

    def __init__(self, folder: Path, options: Options) -> None:
        self.path = folder / STATE
        now = {"model": options.model, "settings": options.settings, "seeds": options.seeds, "hub": options.hub}
        now |= {name: getattr(options, name) for name in ("examples", "without_concepts", "quantize")}
        there = json.loads(self.path.read_text()) if self.path.exists() else now | {"max_seeds": None, "done": []}
        # What a folder of an earlier version does not name had its default then.
        if differing := [name for name, value in now.items() if there.get(name) != value and (name in there or value)]:
            was = ", ".join(f"{name} was {there.get(name)}" for name in differing)
            raise UserError(f"{folder} holds another run ({was}): name another folder with --out")
        self.done: list[str] = there["done"]
        self.max_seeds = max_seeds_of(options)
        if any(not title.startswith(SEEDS) for title in self.done):  # the model has been asked about the seeds
            if is_more(self.max_seeds, there["max_seeds"]):
                where = "other names with --out and --hub" if options.hub else "another folder with --out"
                raise UserError(
                    f"{folder} holds a run from {there['max_seeds']} seeds, whose steps read what was made of these "
                    f"and can't go on with more: choose {where}"
                )
            self.max_seeds = there["max_seeds"]
        self.now = now
        self.save()

    def save(self) -> None:
        write_state(self.path.parent, STATE, {**self.now, "max_seeds": self.max_seeds, "done": self.done})

    def is_done(self, step: Step) -> bool:
        """Whether a step is done. A run that ended with the instructions has them in another place than one that goes
        on to train on them."""
        output = step.words[2]
        return step.title in self.done and (
            step.makes != "instructions" or is_hub_id(output) or (Path(output) / "run.json").exists()
        )

    def note(self, step: Step) -> None:
        self.done.append(step.title)
        self.save()


def check(options: Options) -> None:
    """UserError now, and not after hours, if the model can't be fine-tuned, --hub is no Hub id, or options contradict
    each other."""
    if options.hub and not is_hub_id(options.hub):
        raise UserError(f"--hub {options.hub} must have the form org/name")
    check_server(options)
    if (options.until == "seeds" and options.seeds) or (options.until == "concepts" and options.without_concepts):
        raise UserError(f"--until {options.until} names a step that this run does not have")
    if options.endpoint and not options.until:  # otherwise the server that is started here finds out
        BaseModel(options.model, "auto", "auto").load_tokenizer(PROMPTS / "chat.jinja")


def check_kept_out(options: Options) -> None:
    """UserError now, and not after the model has written everything, if a benchmark that is named can't be read."""
    files = files_by_name(options.benchmark_data)
    if options.decontaminate:
        decontaminator_of(
            DecontaminationOptions(decontaminate=options.decontaminate, benchmark_data=options.benchmark_data)
        )
    else:  # the others are kept out if they can be read
        for family in dict.fromkeys(map(family_of, files)):
            read_items(family, files)


def check_instructions(folder: Path) -> None:
    """UserError if there is nothing to train on."""
    run = json.loads((folder / "after" / "instructions" / "run.json").read_text())
    if not run["funnel"][-1]["rows_out"]:
        raise UserError(
            "no response passed its tests, so there is nothing to train on: use more seeds (--max-seeds) in another "
            "folder (--out)"
        )


def main(options: Options) -> None:
    """Make a plan, print it, and run the steps that are not done."""
    started = time.monotonic()
    check_texts(options)
    gpus = gpu_count()
    options = replace(options, settings=settings_for(options, gpus))
    folder = Path(folder_of(options))
    environment = begin(is_offline(options))
    check(options)
    state = State(folder, options)
    launch = launcher(gpus, SETTINGS[options.settings].training)
    todo = [step for step in steps_of(options, NO_SERVER, launch) if not state.is_done(step)]
    with contextlib.ExitStack() as stack:
        server = NO_SERVER
        if any(step.asks for step in todo):
            if options.seeds:  # else collect_seeds.py, which comes first, reads the benchmarks
                open_source(options.seeds)  # an error now, and not once the model is loaded
                check_kept_out(options)
            say("The server of the model")
            server = stack.enter_context(
                serving(
                    options.model, options.endpoint, options.api, gpus, folder, environment, quantize=options.quantize
                )
            )
            print(" ".join(server.urls))
            say("What will be done")
            print(make_plan(options, SETTINGS[options.settings], max_seeds_of(options), server, folder), flush=True)
        elif todo:
            say("What will be done")
            print("\n".join(step.title for step in todo))
        if options.plan_only:
            return
        steps = [step for step in steps_of(options, server, launch) if not state.is_done(step)]
        for number, step in enumerate(steps):
            say(step.title)
            run_step(step, environment)
            state.note(step)
            if step.words[0] == "select.py" and not options.hub and not options.until:
                check_instructions(folder)
            if server is not NO_SERVER and not any(later.asks for later in steps[number + 1 :]):
                stack.close()  # the memory is needed for the training
                server = NO_SERVER
    minutes, seconds = divmod(int(time.monotonic() - started), 60)
    say(f"Done in {minutes} min {seconds} s")
    if not options.until:
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
