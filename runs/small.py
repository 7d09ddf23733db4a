"""What self-validation buys: a model's own data, selected in several ways, in arms of equal size, before and after.

    bash runs/small.sh                                                          # SmolLM2-135M-Instruct
    bash runs/small.sh Qwen/Qwen2.5-Coder-0.5B-Instruct --settings plain --max-seeds 1000
    bash runs/small.sh MODEL --executions ./mine/executions                     # from data that is there already
    bash runs/small.sh MODEL --benchmark-data humanevalplus=HumanEvalPlus.jsonl mbppplus=MbppPlus.jsonl

Paper: Table 9, with a model that runs here. The data is that of runs/self_align.sh up to the executions. Each arm is a
way to select one sample of a task (runs/arms.py), and all arms get as many examples as the smallest one has, from tasks
in an order that all share; failures are of the tasks of the passes where these have both. Every arm is trained once
for each seed and measured like the base model, by the same server and with the same prompts.

OUT/data                    what the model wrote: seeds, concepts, tasks, responses, executions
OUT/ARM/selected            what select.py chose, and OUT/ARM/instructions, which of it the arm was trained on
OUT/ARM/seed-0/model        a trained model, and beside it its results on each benchmark
OUT/base/NAME               the base model's results

The table at the end has the mean of the trainings, with 95 % intervals by bootstrap over problems, and paired tests.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from runs.arms import ARMS
from runs.effect import conclusions
from runs.plan import GUESSED_YIELD, TOKENS_OF_EXAMPLE
from runs.running import Step, begin, is_complete, run_step, say, write_state
from runs.servers import gpu_count, launcher, settings_for
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
)
from runs.timing import measure_training
from selfalign.benchmarks.harness.problems import files_by_name
from selfalign.data.decontamination import read_set
from selfalign.errors import UserError, first_line
from selfalign.options import ROOT, Count, CountOrZero, Positional, Positive, argument, run_script
from selfalign.runner.source import open_source

STATE = "small.json"  # in the folder: which run it holds
# What is measured. The second of a pair has the problems of the first with fewer tests, and judges the same answers.
PAIRS = {"humanevalplus": "humaneval", "mbppplus": "mbppplus-base"}
STEPS = 40  # of the optimizer, about, in a training: with fewer, hardly anything is learned at the paper's rate
LARGEST_BATCH = 64  # paper, C.3

MEASURED = 16  # problems of each benchmark, before it begins
UNMEASURED = "; the trainings come on top, which can't be measured on this machine"

Arm = Literal["random", "failures", "passes", "agreed", "supported", "consensus"]


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    """Options of the experiment."""

    model: Annotated[str, Positional, argument(metavar="MODEL")] = "smollm2"
    """The model: a Hub id, a folder, a .gguf file, or `smollm2` for that of the quickstart."""
    executions: str | None = None
    """Dataset of executions that is there already, to begin from. By default, the model writes the data first."""
    arms: tuple[Arm, ...] = ("random", "failures", "passes", "agreed")
    """Ways to select: see runs/arms.py."""
    size: Count | None = None
    """Examples of each arm. By default, as many as the smallest arm has; an arm with fewer is trained on what it has,
    which is said."""
    training_seeds: Count = 2
    """How often each arm is trained, each time with another seed."""
    first_seed: CountOrZero = 0
    """The seed of the first training."""
    epochs: Positive | None = None
    """Passes over the examples. By default, those of --settings."""
    learning_rate: Positive | None = None
    """Peak learning rate. By default, the paper's 1e-5."""
    batch_size: Count | None = None
    """Examples per optimizer step. By default, such that a training has some 40 steps, and 64 at most."""
    benchmarks: tuple[Literal["humanevalplus", "mbppplus", "humaneval", "mbpp-sanitized"], ...] = ()
    """What to measure; the first two with the fewer tests of HumanEval and MBPP, too. By default, these two if their
    problems can be read, else HumanEval."""
    prompt_style: Literal["completion", "chat"] = "completion"
    """How all models are asked, before and after: the prompt is continued, or asked through the chat template."""


@dataclass(frozen=True)
class Experiment:
    """The experiment in a folder: its commands."""

    options: Options
    folder: str
    benchmarks: dict[str, str | None]  # that are asked -> the file of their problems, None for what is published

    @property
    def executions(self) -> str:
        return self.options.executions or f"{self.folder}/data/executions"

    @property
    def seeds(self) -> range:
        return range(self.options.first_seed, self.options.first_seed + self.options.training_seeds)

    def data(self) -> Step:
        """The chain up to the executions."""
        options = self.options
        words = ["--settings", options.settings, "--api", options.api, "--out", f"{self.folder}/data"]
        words += ["--seeds", options.seeds] if options.seeds else []
        words += ["--max-seeds", str(options.max_seeds)] if options.max_seeds else []
        words += [word for url in options.endpoint for word in ("--endpoint", url)]
        words += ["--quantize", options.quantize] if options.quantize else []
        words += [*kept_out_of(options, self.is_offline), "--until", "executions"]
        words += ["--plan-only"] if options.plan_only else []
        return Step("Data: what the model writes", ("-m", "runs.self_align", options.model, *words))

    @property
    def is_offline(self) -> bool:
        return not names_of_hub(self.options.seeds, self.options.model, self.options.executions)

    def select(self, arm: str) -> Step:
        """What the arm could be trained on."""
        rule, title = ARMS[arm]
        kept_out, output = kept_out_of(self.options, self.is_offline), f"{self.folder}/{arm}/selected"
        return Step(f"{arm}: {title}", ("select.py", self.executions, output, *kept_out, *rule))

    def draw(self, arm: str, size: int) -> Step:
        """What it is trained on."""
        folder = f"{self.folder}/{arm}"
        words = ("-m", "runs.arms", f"{folder}/selected", f"{folder}/instructions", "--size", str(size))
        pairs = arm == "failures" and "passes" in self.options.arms
        paired = ("--tasks-of", f"{self.folder}/passes/instructions") if pairs else ()
        return Step(f"{arm}: {size} examples", (*words, *paired))

    def train(self, arm: str, seed: int, size: int, gpus: int) -> Step:
        """A training of the arm."""
        options, output = self.options, f"{self.folder}/{arm}/seed-{seed}/model"
        training = [*SETTINGS[options.settings].training, "--batch-size", str(self.batch_size(size))]
        words = [*launcher(gpus, training), "finetune.py", f"{self.folder}/{arm}/instructions", output]
        words += ["--model", options.model, *training, "--seed", str(seed)]
        words += ["--epochs", str(options.epochs)] if options.epochs else []
        words += ["--learning-rate", str(options.learning_rate)] if options.learning_rate else []
        return Step(f"{arm}, training with seed {seed}", tuple(words))

    def epochs(self) -> float:
        """Passes over the examples."""
        words = dict(pairwise(SETTINGS[self.options.settings].training))
        return self.options.epochs or float(words.get("--epochs", 4))

    def batch_size(self, size: int) -> int:
        """A power of two with which `size` examples give some STEPS steps."""
        if self.options.batch_size:
            return self.options.batch_size
        wanted = size * self.epochs() / STEPS
        return max(4, min(LARGEST_BATCH, 1 << max(0, round(wanted) - 1).bit_length()))

    def measure(self, model: str, where: str, name: str) -> Step:
        """The answers to a benchmark, judged by all its tests."""
        data = ("--data", str(self.benchmarks[name])) if self.benchmarks[name] else ()
        style = ("--prompt-style", "chat") if self.options.prompt_style == "chat" else ()
        words = ("benchmark.py", model, f"{where}/{name}", "--benchmark", name, *data, *style)
        return Step(f"{name} of {where}", (*words, *SETTINGS[self.options.settings].benchmark))

    def judge_by_fewer_tests(self, where: str, name: str) -> Step:
        """The same answers, judged by the fewer tests of the benchmark that this one extends."""
        fewer = PAIRS[name]
        samples = write_solutions(Path(where) / name, Path(where) / f"{name}.jsonl")
        data = ("--data", str(self.benchmarks[name])) if self.benchmarks[name] and fewer.startswith(name) else ()
        words = ("benchmark.py", f"{where}/{name}", f"{where}/{fewer}", "--benchmark", fewer, "--samples", samples)
        return Step(f"{fewer} of {where}, the same answers", (*words, *data))


def write_solutions(results: Path, file: Path) -> str:
    """The code of each answer in `results`, as a file that benchmark.py takes as --samples; its path."""
    rows = open_source(str(results)).rows.select_columns(["task_id", "code"]).to_list()
    lines = [json.dumps({"task_id": row["task_id"], "solution": row["code"] or ""}) for row in rows]
    file.write_text("".join(f"{line}\n" for line in lines))
    return str(file) if file.is_absolute() else f"./{file}"


# What can be measured -------------------------------------------------------------------------------------------------


def readable(options: Options) -> dict[str, str | None]:
    """The benchmarks that are asked, with the files of their problems. Says which are left out, and why.

    UserError if one that --benchmarks names can't be read.
    """
    files, found = files_by_name(options.benchmark_data), {}
    for name in options.benchmarks or PAIRS:
        try:
            read_set(name, files.get(name))
            found[name] = files.get(name)
        except UserError as error:
            if options.benchmarks or name in files:
                raise
            print(f"not measured: {name}, whose problems can't be read ({first_line(error)})")
    if not options.benchmarks and "humanevalplus" not in found:
        found = {"humaneval": files.get("humaneval"), **found}
    return found


# Running --------------------------------------------------------------------------------------------------------------


def check_arms(options: Options) -> None:
    """UserError if --arms names none."""
    if not options.arms:
        raise UserError(f"--arms names no way to select: choose from {', '.join(ARMS)}")


def check_folder(options: Options, folder: Path, size: int | None = None) -> int | None:
    """Note which experiment the folder holds, and the size of its arms once it is known; that size.

    UserError if it holds another one, or arms of another size than --size.
    """
    file = folder / STATE
    now = {name: getattr(options, name) for name in ("model", "settings", "executions", "prompt_style", "quantize")}
    now |= {name: getattr(options, name) for name in ("seeds", "max_seeds", "epochs", "learning_rate", "batch_size")}
    there = json.loads(file.read_text()) if file.exists() else now
    if differing := [name for name, value in now.items() if there.get(name) != value]:
        was = ", ".join(f"{name} was {there.get(name)}" for name in differing)
        raise UserError(f"{folder} holds another experiment ({was}): name another folder with --out")
    if options.size and there.get("size") not in (None, options.size):
        raise UserError(
            f"{folder} holds arms of {there['size']} examples, not of --size {options.size}: name another folder with "
            "--out"
        )
    size = size or there.get("size")
    write_state(folder, STATE, now | ({"size": size} if size else {}))
    return size


def rows_out(folder: str) -> int:
    """How many rows a complete step has left in a folder."""
    return int(json.loads((Path(folder) / "run.json").read_text())["rows_out"])


def do(step: Step, output: str, environment: dict[str, str]) -> None:
    """Run a step whose output is not complete."""
    if not is_complete(Path(output)):
        say(step.title)
        run_step(step, environment)


def plan_of(experiment: Experiment, folder: Path, sizes: dict[str, int], environment: dict[str, str]) -> str:
    """What trainings and benchmarks take, from short measurements of both with the base model."""
    options = experiment.options
    trainings, lines = len(options.arms) * options.training_seeds, []
    for name in experiment.benchmarks:
        rows, where = len(read_set(name, experiment.benchmarks[name])), folder / "base" / name
        if not (where / "results.json").exists():
            where = folder / "measured" / name
        if not (where / "results.json").exists():
            step = experiment.measure(options.model, f"{experiment.folder}/measured", name)
            say(f"{MEASURED} problems of {name}, to see how long they take")
            run_step(replace(step, words=(*step.words, "--max-samples", str(min(rows, MEASURED)))), environment)
        run = json.loads((where / "run.json").read_text())
        minutes = run["seconds"] / run["rows_out"] * rows * (1 + trainings) / 60
        lines.append((minutes, f"{name}: {1 + trainings} models x {rows} problems"))
    if training := measure_training(options.model, folder / "measured" / "training.json"):
        examples = min(sizes.values()) if sizes else round(GUESSED_YIELD * (max_seeds_of(options) or STDLIB_SEEDS))
        batch = experiment.batch_size(examples)
        seconds = trainings * training.seconds(examples, TOKENS_OF_EXAMPLE, experiment.epochs(), batch)
        about = "" if sizes else "if one task in three gives an example, "
        what = (
            f"{about}{trainings} trainings on {examples} examples, {experiment.epochs():g} epochs, batches of {batch}"
        )
        lines.append((seconds / 60, what))
    texts = [f"  {minutes:8.0f} min  {text}" for minutes, text in lines]
    texts.append(f"  {sum(minutes for minutes, _ in lines):8.0f} min  in all" + ("" if training else UNMEASURED))
    return "\n".join(texts)


def make_arms(experiment: Experiment, folder: Path, environment: dict[str, str]) -> dict[str, int]:
    """Select and draw the examples of every arm; how many each has."""
    options = experiment.options
    for arm in options.arms:
        do(experiment.select(arm), f"{folder}/{arm}/selected", environment)
    there = {arm: rows_out(f"{folder}/{arm}/selected") for arm in options.arms}
    if empty := next((arm for arm, rows in there.items() if not rows), None):
        raise UserError(
            f"no sample can be an example of the arm {empty}, so there is nothing to train on: name the others with "
            "--arms, or use more seeds (--max-seeds) in another folder (--out)"
        )
    size = check_folder(options, folder) or options.size or min(there.values())
    check_folder(options, folder, size)
    for arm in sorted(options.arms, key=lambda arm: arm != "passes"):  # failures are paired with passes
        do(experiment.draw(arm, size), f"{folder}/{arm}/instructions", environment)
    say(f"Arms of {size} examples")
    tasks = {arm: tasks_of(f"{folder}/{arm}/instructions") for arm in options.arms}
    for arm in options.arms:
        fewer = "" if len(tasks[arm]) >= size else f": FEWER than the {size} of the others"
        shared = f", {len(tasks[arm] & tasks['passes'])} tasks as in passes" if "passes" in tasks else ""
        print(f"  {arm:<10} {len(tasks[arm]):>5} of {there[arm]} that were selected{shared}{fewer}")
    return {arm: len(tasks[arm]) for arm in options.arms}


def tasks_of(folder: str) -> set[str]:
    """The tasks of the examples in a folder."""
    return set(open_source(folder).rows["task_id"][:])


def measure(experiment: Experiment, model: str, where: str, environment: dict[str, str]) -> None:
    """Measure a model on every benchmark."""
    for name in experiment.benchmarks:
        if not (Path(where) / name / "results.json").exists():
            step = experiment.measure(model, where, name)
            say(step.title)
            run_step(step, environment)
        if (fewer := PAIRS.get(name)) and not (Path(where) / fewer / "results.json").exists():
            run_step(experiment.judge_by_fewer_tests(where, name), environment)


def main(options: Options) -> None:
    """Make the data, the arms, and for each seed a model of every arm; measure all; print what came out."""
    check_texts(options)
    check_server(options)
    check_arms(options)
    gpus = gpu_count()
    options = replace(options, settings=settings_for(options, gpus))
    folder = Path(folder_of(options, "./runs/out/small"))
    experiment = Experiment(options, f"./{folder}" if not folder.is_absolute() else str(folder), {})
    environment = begin(experiment.is_offline)
    experiment = replace(experiment, benchmarks=readable(options))
    check_folder(options, folder)
    has_data = bool(options.executions) or is_complete(folder / "data" / "executions")
    sizes = make_arms(experiment, folder, environment) if has_data else {}
    say("What the arms will take")
    print(plan_of(experiment, folder, sizes, environment), flush=True)
    if not has_data:
        run_step(experiment.data(), environment)
        if options.plan_only:
            return
        sizes = make_arms(experiment, folder, environment)
    if options.plan_only:
        return
    measure(experiment, options.model, f"{experiment.folder}/base", environment)
    for seed in experiment.seeds:
        for arm, size in sizes.items():
            where = f"{experiment.folder}/{arm}/seed-{seed}"
            do(experiment.train(arm, seed, size, gpus), f"{where}/model", environment)
            measure(experiment, f"{where}/model", where, environment)
    print_results(experiment, sizes)


def print_results(experiment: Experiment, sizes: dict[str, int]) -> None:
    """The table of all arms with its paired tests, and which effect this size could have shown."""
    systems = [f"small/{arm}={experiment.folder}/{arm}" for arm in ("base", *sizes)]
    say("Results")
    subprocess.run([sys.executable, "paper_tables.py", *systems, "--tables", "small"], cwd=ROOT, check=True)
    print(conclusions(Path(experiment.folder), sizes, list(experiment.benchmarks), experiment.executions))


if __name__ == "__main__":
    run_script(main, Options, __doc__)
