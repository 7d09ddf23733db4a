"""What a recipe would do, take and need, before it does anything: `--dry-run` of every recipe ends here.

    bash experiments/table8.sh --dry-run
    bash experiments/table8.sh --dry-run --tokens-per-second 9000 --price 2.5

The recipe writes the commands that it would run, one per line, their words separated by the character 31 (unit
separator). A command `model NAME GPUS COPIES` stands for serving a model.

Hours follow from the speed of the servers: --tokens-per-second, or else the mean of the runs that are already in the
recipe's folder. Where there is neither, the hours are those that the paper published for its own machines (Table 12, 4
A100), scaled by the number of seeds or examples, and the hours of benchmarks are left out.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro

from runs import self_align
from runs.servers import NO_SERVER, Server
from selfalign.benchmarks import load_benchmark
from selfalign.errors import UserError, first_line
from selfalign.options import CountOrZero, Positive, run_script
from selfalign.reach import need_hub
from selfalign.report.paper import load_table
from selfalign.runner.hub import is_hub_id

# Tokens that a row of each step generates, where no run has been measured: about those of the worked examples.
TOKENS_A_ROW = {"generate_concepts": 25.0, "generate_tasks": 110.0, "sample_responses": 400.0, "benchmark": 250.0}
STEP_FOLDERS = {"generate_concepts": "concepts", "generate_tasks": "tasks", "sample_responses": "responses"}
ALL_SEEDS, ALL_EXAMPLES = 250_000, 74_000  # paper, sections 2.1 and 3
EXAMPLES_A_SEED = 16 / 37  # Table 12, CodeQwen1.5-7B
TASKS_A_SEED = 27.7 / 37  # Table 9: a random response for each task
OCTOPACK_EXAMPLES = 5_000 + 8_587  # commits and conversations
PROBLEMS = {
    **{"humaneval": 164, "humanevalplus": 164, "mbppplus": 378, "mbppplus-base": 378, "mbpp-sanitized": 257},
    **{"livecodebench": 400, "livecodebench-execution": 479, "livecodebench-test-output": 442},
    **{"bigcodebench": 1140, "bigcodebench-hard-complete": 148, "bigcodebench-hard-instruct": 148},
    **{"evalperf": 118, "ds1000": 1000, "canitedit": 210, "evoeval": 100},
    **{"classeval-holistic": 100, "classeval-incremental": 410, "classeval-compositional": 410},
}
PUBLISHED_GPUS = 4  # Table 12
TRAINING_GPUS = {"starcoder2-15b": 1, "deepseek-coder-33b": 8}  # section C.4; 4 for the others
GB = 1e9


@dataclass(frozen=True, kw_only=True)
class Options:
    commands: Annotated[Path, tyro.conf.Positional]
    """File with the commands."""
    out: Path
    """The recipe's folder."""
    gpus: CountOrZero
    """How many GPUs the recipe may use."""
    tokens_per_second: Positive | None = None
    """Tokens that all servers together generate per second."""
    price: Positive | None = None
    """Price of a GPU for an hour."""


class Step(NamedTuple):
    """A command of ours: the script (`generate_concepts`, `experiments.baselines.distill`) and its arguments."""

    script: str
    arguments: list[str]

    def value(self, option: str, default: str = "") -> str:
        after = dict(zip(self.arguments, self.arguments[1:], strict=False))
        return after.get(option, default)


class Hours(NamedTuple):
    """What a step takes: hours on `gpus` GPUs, and where the number comes from."""

    what: str
    hours: float
    gpus: int
    basis: str


def read_commands(file: Path) -> list[list[str]]:
    """The commands as lists of words, without repetitions of the same one, and with those of the chain one by one."""
    lines = [line.split("\x1f") for line in file.read_text().splitlines() if line]
    return [list(words) for words in dict.fromkeys(tuple(w) for line in lines for w in expanded(line))]


def expanded(words: list[str]) -> list[list[str]]:
    """What a call of the whole chain calls in turn; any other command as it is.

    Where it names no endpoint, an earlier call has asked the model all that there is to ask.
    """
    if words[:3] != ["python", "-m", "runs.self_align"]:
        return [words]
    options = tyro.cli(self_align.Options, args=words[3:])
    server = Server(options.endpoint, options.api) if options.endpoint else NO_SERVER
    steps = self_align.steps_of(options, server)
    return [["python", *step.words] for step in steps if options.endpoint or not step.asks]


def steps_of(commands: list[list[str]]) -> Iterator[Step]:
    """Those commands that run a script or a module of ours, by python or accelerate."""
    for words in commands:
        for position, word in enumerate(words[1:], 1):
            if word.endswith(".py") or (words[position - 1] == "-m" and word.startswith("experiments.")):
                yield Step(word.removesuffix(".py"), words[position + 1 :])
                break


# Hours ----------------------------------------------------------------------------------------------------------------


def measured_speed(out: Path) -> float | None:
    """Tokens per second over all runs in `out` that asked a model; None if there is none."""
    tokens = seconds = 0.0
    for file in out.glob("**/run.json"):
        try:
            generation = json.loads(file.read_text()).get("generation") or {}
        except (OSError, ValueError):
            continue
        tokens, seconds = tokens + generation.get("tokens", 0), seconds + generation.get("seconds", 0)
    return tokens / seconds if tokens and seconds else None


def rows_of(dataset: str) -> int | None:
    """How many rows a step has left in a folder; None if it has not run."""
    try:
        return int(json.loads((Path(dataset) / "run.json").read_text())["rows_out"])
    except (OSError, ValueError, KeyError):
        return None


def hours_of_generation(step: Step, expected: dict[str, int], speed: float | None, gpus: int) -> Hours | None:
    """What one of the three generating steps takes; `expected` is filled with the rows that its output will have."""
    source, output = step.arguments[:2]
    rows = expected.get(str(Path(source))) or rows_of(source) or ALL_SEEDS
    rows = min(rows, int(step.value("--max-samples", str(rows))))
    expected[str(Path(output))] = rows
    samples = int(step.value("--samples", "1"))
    what = f"{step.script}: {rows:,} rows x {samples} x {TOKENS_A_ROW[step.script]:.0f} tokens"
    if speed is None:
        return None
    return Hours(what, rows * samples * TOKENS_A_ROW[step.script] / speed / 3600, gpus, f"{speed:,.0f} tokens/s")


def replicas_of(commands: list[list[str]]) -> int:
    """How many servers generate at the same time, and have the speed together, started here or given."""
    counts = (int(words[3]) if words[0] == "model" else words.count("--endpoint") for words in commands)
    return max(counts, default=0) or 1


def hours_of_benchmark(step: Step, speed: float | None) -> Hours | None:
    """What asking a model takes, which one replica serves with this speed."""
    name = step.value("--benchmark", "humaneval")
    if speed is None or "--samples" in step.arguments:
        return None
    problems, samples = PROBLEMS.get(name, PROBLEMS.get(name.partition("-")[0], 100)), load_benchmark(name).samples
    tokens = problems * samples * TOKENS_A_ROW["benchmark"]
    what = f"benchmark {name}: {problems:,} problems x {samples} samples"
    return Hours(what, tokens / speed / 3600, 1, f"{speed:,.0f} tokens/s")


@cache
def published(column: str) -> dict[str, float]:
    """A column of Table 12, in minutes or rows, by the model's name in lower case."""
    return {row[column].row.lower(): row[column].published or 0.0 for row in load_table("12").cells}


def in_table_12(name: str) -> str | None:
    """The base model of Table 12 that a name contains."""
    return next((model for model in published("Seeds") if model in name.lower()), None)


def examples_of(step: Step, rows: dict[str, int]) -> int | None:
    """How many rows a step will write that prepares data without a model of ours; None if it is no such step."""
    source = rows.get(str(Path(step.arguments[0]))) if step.arguments else None
    if step.script == "select":
        random = step.value("--strategy") == "random"
        seeds = source or ALL_SEEDS
        expected = int(seeds * (TASKS_A_SEED if random else EXAMPLES_A_SEED))
        return expected if random else min(ALL_EXAMPLES, expected)  # duplicates grow with the seeds
    if step.script == "experiments.baselines.octopack":
        return OCTOPACK_EXAMPLES
    if step.script.startswith("experiments.baselines."):
        given = step.value("--size") or step.value("--max-samples")
        return int(given) if given else source
    return source if step.script == "execute" else None


def examples_in(dataset: str, rows: dict[str, int]) -> int:
    """How many examples a dataset has: counted, expected, or as a name such as exec-filter-50k says."""
    named = re.search(r"-(\d+)k$", dataset) if is_hub_id(dataset) else None
    return rows_of(dataset) or rows.get(str(Path(dataset))) or (int(named[1]) * 1000 if named else ALL_EXAMPLES)


def hours_of_training(step: Step, rows: dict[str, int]) -> Hours | None:
    """What training takes, by Table 12: minutes for the examples that the paper trained this model on."""
    model = in_table_12(step.value("--model"))
    if not model:
        return None
    examples = examples_in(step.arguments[0], rows)
    minutes = published("Fine-tuning")[model] * examples / published("Produced data")[model]
    gpus = TRAINING_GPUS.get(model, PUBLISHED_GPUS)
    card = "H100" if gpus == 8 else "A100"
    return Hours(f"finetune: {examples:,} examples", minutes / 60, gpus, f"Table 12, {gpus} {card}")


def hours_of(steps: list[Step], speed: float | None, gpus: int, replicas: int = 1) -> list[Hours]:
    """What each step takes, as far as it can be told; `replicas` have the speed together."""
    expected: dict[str, int] = {}  # rows of each dataset that will be made
    generated: set[str] = set()
    hours: list[Hours | None] = []
    for number, step in enumerate(steps):
        if step.script in STEP_FOLDERS:
            source, output = (str(Path(name)) for name in step.arguments[:2])
            hours.append(hours_of_generation(step, expected, speed, max(1, gpus)))
            # A recipe whose folders do not name the generating model trains that model.
            trained = next((later.value("--model") for later in steps[number:] if later.script == "finetune"), "")
            model = in_table_12(output) or in_table_12(trained)
            if speed is None and model and source not in generated:
                rows = expected[output]
                minutes = published("Generation")[model] * rows / published("Seeds")[model]
                hours.append(Hours(f"data from {rows:,} seeds", minutes / 60, PUBLISHED_GPUS, "Table 12, 4 A100"))
            generated.add(output)
        elif step.script == "benchmark":
            hours.append(hours_of_benchmark(step, speed and speed / replicas))
        elif step.script == "finetune":
            hours.append(hours_of_training(step, expected))
        elif rows := examples_of(step, expected):
            expected[str(Path(step.arguments[1]))] = rows
    return [each for each in hours if each]


# What is needed -------------------------------------------------------------------------------------------------------


def about_model(name: str) -> tuple[float | None, str]:
    """The bytes of a model's weights on the Hub, None if unknown, and whether this machine's token may read them."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

    named = re.search(r"(?<![x\d.])(\d+(?:\.\d+)?)b\b", name.lower())
    guess = 2e9 * float(named[1]) if named else None  # 2 bytes per parameter
    by_name = "by its name, and " if named else ""
    api = HfApi()
    try:
        need_hub()
        info = api.model_info(name, files_metadata=True)
        if info.gated:
            api.auth_check(name)
    except GatedRepoError:
        return None, "GATED: this token may not read it; accept its licence on the Hub, and set HF_TOKEN"
    except RepositoryNotFoundError:
        return None, "NOT THERE, or this token may not see it"
    except OfflineModeIsEnabled:
        return guess, f"{by_name}not checked: HF_HUB_OFFLINE is set"
    except Exception as error:  # of the connection, for which httpx2 has types of its own
        return guess, f"{by_name}not checked: {first_line(error)}"
    files = [file for file in info.siblings or [] if file.rfilename.endswith(".safetensors")]
    files = files or [file for file in info.siblings or [] if file.rfilename.endswith(".bin")]
    return float(sum(file.size or 0 for file in files)), "can be read"


def packages_needed(commands: list[list[str]]) -> list[str]:
    """The packages beyond requirements.txt that the commands need."""
    words = {word for command in commands for word in command}
    needed = ["vllm"] if any(command[0] == "model" for command in commands) else []
    return needed + (["deepspeed"] if any(word.endswith("zero3.yaml") for word in words) else [])


def gpu_memory() -> list[float]:
    """The memory of each GPU of this machine, in bytes."""
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True).stdout.splitlines()
    except OSError:
        return []
    return [float(line) * 2**20 for line in lines if line.strip().isdecimal()]


def free_bytes(folder: Path) -> float:
    """The free space where a folder is, or will be."""
    while not folder.exists():
        folder = folder.parent
    return float(shutil.disk_usage(folder).free)


def print_needs(options: Options, commands: list[list[str]], steps: list[Step]) -> None:
    """GPUs, models with their sizes and whether they can be read, disk space, and packages."""
    served = {words[1]: int(words[2]) for words in commands if words[0] == "model"}
    memory, most = gpu_memory(), max(served.values(), default=0)
    here = f"{len(memory)} GPUs with {min(memory) / GB:.0f} GB each" if memory else "no GPU that nvidia-smi can see"
    short = "" if min(len(memory), options.gpus) >= most else ": NOT ENOUGH"
    print(f"GPUs       up to {most} of 80 GB for one model; this machine has {here}{short}")
    trained = {step.value("--model") for step in steps if step.script == "finetune"} - {"smollm2", ""}
    total, unknown = 0.0, False
    for name in dict.fromkeys([*served, *sorted(trained)]):
        if not is_hub_id(name):
            continue
        size, said = about_model(name)
        total, unknown = total + (size or 0.0), unknown or size is None
        print(f"model      {name}: {f'{size / GB:.0f} GB, ' if size else ''}{said}")
    # A trained model and its newest checkpoint, with the optimizer's state, are about three times the base's weights.
    models = len([step for step in steps if step.script == "finetune"])
    per_model = 3 * total / max(1, len(served))
    known = (
        f"{'more than' if unknown else 'about'} {(total + models * per_model) / GB:.0f} GB for"
        if total
        else "unknown for"
    )
    print(f"disk       {known} weights and {models} trained models; {free_bytes(options.out) / GB:.0f} GB are free")
    for name in packages_needed(commands):
        there = importlib.util.find_spec(name) is not None
        print(f"package    {name}: {'installed' if there else f'MISSING: pip install {name}'}")


def print_hours(options: Options, steps: list[Step], replicas: int) -> None:
    """Hours and money, step by step and in all."""
    speed = options.tokens_per_second or measured_speed(options.out)
    hours = hours_of(steps, speed, options.gpus, replicas)
    for what, count, gpus, basis in hours:
        print(f"hours      {count:8.2f} on {gpus} GPUs   {what} ({basis})")
    gpu_hours = sum(each.hours * each.gpus for each in hours)
    money = f", {gpu_hours * options.price:,.0f} at {options.price:g} an hour" if options.price else ""
    known = f"{sum(each.hours for each in hours):.1f} hours, {gpu_hours:.0f} GPU hours{money}" if hours else "not known"
    print(f"in all     {known}")
    if any(step.script == "collect_seeds" for step in steps):
        print("           Without collecting seeds and judging docstrings, whose time was not published.")
    if speed is None:
        print(
            "           No speed has been measured yet. Hours are the paper's, without those of benchmarks.\n"
            "           --tokens-per-second N gives the speed of your servers; a run in the same folder measures it."
        )


def main(options: Options) -> None:
    """Print the commands, what they need, and what they take."""
    try:
        commands = read_commands(options.commands)
    except OSError as error:
        raise UserError(f"{options.commands} can't be read: {error.strerror}") from None
    steps = list(steps_of(commands))
    for words in commands:
        shown: Any = ["serve", *words[1:2], f"({words[2]} GPUs x {words[3]})"] if words[0] == "model" else words
        print(" ".join(shown) if words[0] == "model" else shlex.join(shown))
    print()
    print_needs(options, commands, steps)
    print_hours(options, steps, replicas_of(commands))


if __name__ == "__main__":
    run_script(main, Options, __doc__)
