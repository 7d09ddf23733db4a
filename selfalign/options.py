"""Options that several scripts have, and the command line that tyro makes of them.

Each script has one dataclass of options, derived from those here; the docstring of a field is its help. A field that is
marked `OPERATIONAL` says how or where a step runs and not what comes out: two runs that differ only in such fields are
the same run, and the second one continues the first.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import select
import shlex
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import tyro

from selfalign.errors import SECRET_NAME, UserError, without_secrets

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

OPERATIONAL = {"operational": True}
API_KEY_VARIABLE = "SELFALIGN_API_KEY"  # the key of the endpoints, where it must travel to other processes
ROOT = Path(__file__).resolve().parent.parent  # of the project
PROMPTS = ROOT / "prompts"

T = TypeVar("T", bound="DataclassInstance")


class Shard(NamedTuple):
    """A share of the rows of an input: number `number`, from 0, of `of` shares of equal size."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str | None) -> Shard:
        """The shard that `text` ("0/4") names, all rows if it is None; UserError if it names none."""
        number, _, of = (text or "0/1").partition("/")
        if not (number.isdecimal() and of.isdecimal() and int(number) < int(of)):
            raise UserError(f"--shard {text} is no shard: of four shards the first is 0/4 and the last is 3/4")
        return cls(int(number), int(of))

    def span(self, rows: int) -> slice:
        """The positions of the shard's rows among `rows`."""
        return slice(rows * self.number // self.of, rows * (self.number + 1) // self.of)


@dataclass(frozen=True)
class Range:
    """The numbers that an option may take: from `least` (itself excluded if `above`) to `most`."""

    least: float
    most: float = math.inf
    above: bool = False

    def __contains__(self, number: float) -> bool:
        return math.isfinite(number) and self.least <= number <= self.most and not (self.above and number == self.least)

    def __str__(self) -> str:
        lower = f"above {self.least}" if self.above else f"at least {self.least}"
        return lower if self.most == math.inf else f"{lower} and at most {self.most}"


# `check_ranges` holds options of these types to their ranges.
Count = Annotated[int, Range(1)]
CountOrZero = Annotated[int, Range(0)]
Positive = Annotated[float, Range(0, above=True)]
PositiveOrZero = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
ShareAboveZero = Annotated[float, Range(0, 1, above=True)]
Port = Annotated[int, Range(0, 65535)]
Seed = Annotated[int, Range(0, 2**32 - 1)]  # what NumPy and torch take


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """The options of every step that turns one dataset into another."""

    input: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="INPUT")] = field(metadata=OPERATIONAL)
    """Dataset to read: a Hub id (org/name or org/name@revision), a local folder or file, or an fsspec URL."""

    output: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUTPUT")] = field(metadata=OPERATIONAL)
    """Dataset to write: a Hub id, a local folder, or an fsspec URL. The same command continues a run that stopped."""

    config: str | None = None
    """Configuration of the input dataset."""

    split: str = "train"
    """Split of the input dataset."""

    max_samples: Count | None = field(default=None, metadata=OPERATIONAL)
    """Read only so many rows of the input, the first ones; a later run with a larger number continues after them."""

    seed: Seed = 0
    """Every random draw for a row depends on this number and the row's id alone."""

    executor: Literal["local", "slurm", "ray", "jobs"] | None = field(default=None, metadata=OPERATIONAL)
    """Divide the step into shards, which run as processes on this machine, under Slurm, on a Ray cluster or as Hugging
    Face Jobs. Without it, the step runs in this process."""

    shards: Count = field(default=1, metadata=OPERATIONAL)
    """How many shards --executor divides the rows into. The rows that come out are the same for any number."""

    workers: Count | None = field(default=None, metadata=OPERATIONAL)
    """How many shards --executor runs at a time; by default all of them."""

    executor_options: tuple[str, ...] = field(default=(), metadata=OPERATIONAL)
    """Arguments for datatrove's executor, such as partition=gpu time=20:00:00 cpus_per_task=8."""

    shard: str | None = field(default=None, metadata=OPERATIONAL)
    """Do only this share of the rows, such as 0/4 for the first quarter: for machines that are started by hand."""

    public: bool = field(default=False, metadata=OPERATIONAL)
    """Make the Hub repo public if it has to be created; it is private otherwise."""

    hf_token: str | None = field(default=None, metadata=OPERATIONAL)
    """Hugging Face token; by default that of HF_TOKEN or of `hf auth login`."""


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """The options of every step that asks a model."""

    endpoint: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = field(default=(), metadata=OPERATIONAL)
    """URL of a server; repeat it for several that serve the same model (by default http://127.0.0.1:8080)."""

    api: Literal["tgi", "completions", "chat"] = "tgi"
    """The interface of the servers: text-generation-inference's own (serve.py has it, too), or OpenAI's completions or
    chat (vLLM, SGLang, llama.cpp, https://router.huggingface.co); chat is for instruction-tuned models."""

    model: str | None = field(default=None, metadata=OPERATIONAL)
    """The model that the endpoint must serve, by the name it gives it; the run is refused if it serves another."""

    concurrency: Count | None = field(default=None, metadata=OPERATIONAL)
    """Samples in flight at each server; by default, and at most, as many as its /info allows (OpenAI: 256)."""

    api_key: str | None = field(default=None, metadata=OPERATIONAL)
    """Key of the servers; by default that of the environment variable SELFALIGN_API_KEY. With neither, servers of
    Hugging Face get the Hugging Face token."""

    send_seeds: bool = field(default=True, metadata=OPERATIONAL)
    """Send a sampling seed with each request; --no-send-seeds for servers that crash on it (vLLM on a CPU)."""

    patience: PositiveOrZero = field(default=600.0, metadata=OPERATIONAL)
    """Seconds to wait while no server answers, before rows are left open for the next run."""

    temperature: PositiveOrZero = 0.7
    """Sampling temperature (paper, C.1: 0.7 for all stages); 0 is greedy decoding."""

    top_p: ShareAboveZero | None = None
    """Nucleus sampling: keep the likeliest tokens up to this probability."""

    # A run is known by the hash of its template and examples, wherever these files lie.
    examples: Path = field(default=PROMPTS / "examples.yaml", metadata=OPERATIONAL)
    """Worked examples: YAML, or the text format of the reference implementation."""


@dataclass(frozen=True, kw_only=True)
class DecontaminationOptions:
    """The options of every step that keeps benchmarks out of the data."""

    decontaminate: tuple[str, ...] = ("humaneval",)
    """Benchmarks whose problems and solutions are removed, such as humaneval mbpp humanevalplus mbppplus evoeval ds1000
    livecodebench classeval canitedit. HumanEval comes with a package, the others are read from the Hub; with no name,
    nothing is removed."""

    benchmark_data: tuple[str, ...] = field(default=(), metadata=OPERATIONAL)
    """Files to read benchmarks from instead, such as mbpp=mbpp.jsonl."""


@dataclass(frozen=True, kw_only=True)
class SandboxOptions:
    """What every step has that runs programs in a sandbox.

    Their limits are not here: the order of the options that decide what comes out is part of a run's hash, and each
    script declares the limits at a place of its own.
    """

    sandboxes: Count = field(default_factory=lambda: os.cpu_count() or 1, metadata=OPERATIONAL)
    """Programs that run at a time."""


@dataclass(frozen=True, kw_only=True)
class TeacherOptions(GenerationOptions):
    """The options of a step that asks another model than the one to be trained."""

    api: Literal["tgi", "completions", "chat"] = "chat"
    """The interface of the teacher's servers."""

    license: str | None = None
    """Licence of the text that the teacher writes, for the column `license` and the card."""


def check_ranges(options: object) -> None:
    """UserError if the number in a field is outside the `Range` that its type gives."""
    for name, kind in get_type_hints(type(options), include_extras=True).items():
        ranges = [r for part in (kind, *get_args(kind)) for r in getattr(part, "__metadata__", ()) if type(r) is Range]
        value = getattr(options, name)
        if ranges and value is not None and value not in ranges[0]:
            raise UserError(f"--{name.replace('_', '-')} {value} makes no sense: it has to be {ranges[0]}")


def identity_of(options: DataclassInstance) -> dict[str, Any]:
    """The options that decide what comes out, by name: all but the `OPERATIONAL` ones."""
    return {f.name: getattr(options, f.name) for f in dataclasses.fields(options) if not f.metadata.get("operational")}


def program_of(script: Path) -> list[str]:
    """What follows `python` in the command that runs `script`: a name in the root, -m and a module below it."""
    script = script.resolve()
    if script.parent == ROOT or not script.is_relative_to(ROOT):
        return [script.name]
    return ["-m", ".".join(script.relative_to(ROOT).with_suffix("").parts)]


def command_of(options: DataclassInstance) -> str:
    """The command that repeats this run: the script, its positional arguments, and the options that differ from their
    defaults. It holds no secret, as cards show it."""
    script = Path(sys.argv[0])
    words = ["python", *program_of(script)]
    words += [str(getattr(options, name)) for name in ("input", "output") if getattr(options, name, None)]
    a_secret = re.compile(SECRET_NAME, re.IGNORECASE)
    for f in dataclasses.fields(options):
        value = getattr(options, f.name)
        if f.name in ("input", "output", "shard", "hf_token", "api_key") or value == f.default:
            continue
        flag = "--" + f.name.replace("_", "-")
        if isinstance(value, bool):
            words += [flag] if value else ["--no-" + flag[2:]]
        elif f.name == "endpoint":
            words += [word for url in value for word in (flag, url)]
        elif f.name == "executor_options":
            words += [flag, *(pair.partition("=")[0] + "=***" if a_secret.match(pair) else pair for pair in value)]
        else:
            words += [flag, *map(str, value if isinstance(value, (list, tuple)) else [value])]
    return shlex.join(map(without_secrets, words))


def parse_command_line(options_class: type[T], description: str | None) -> T:
    """The options that the command line gives; what is wrong with it, or its help, ends the process."""
    parsed: Any = tyro.cli(_with_plain_help(options_class), description=(description or "").strip())
    return options_class(**{f.name: getattr(parsed, f.name) for f in dataclasses.fields(parsed)})


def _with_plain_help(options_class: type[DataclassInstance]) -> type:
    """The same options, whose help does not name a default of None or of nothing, nor the folder of the project."""
    annotations = {}
    hints = get_type_hints(options_class, include_extras=True)
    for f in dataclasses.fields(options_class):
        kinds = [kind for kind in get_args(hints[f.name]) if kind is not type(None)]
        if f.default is None and len(kinds) == 1:
            plain = tyro.conf.arg(metavar=_metavar(kinds[0]), help_behavior_hint="")
        elif f.default == ():
            plain = tyro.conf.arg(help_behavior_hint="")
        elif isinstance(f.default, Path):
            plain = tyro.conf.arg(help_behavior_hint=lambda default: f"(default: {default.replace(f'{ROOT}/', '')})")
        else:
            continue
        annotations[f.name] = Annotated[hints[f.name], plain]
    return type(options_class.__name__, (options_class,), {"__annotations__": annotations, "__doc__": ""})


def _metavar(kind: Any) -> str:
    """What stands for the value of an option in the help: STR, INT, or {one,of,these}."""
    kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    return "{" + ",".join(get_args(kind)) + "}" if get_origin(kind) is Literal else kind.__name__.upper()


def run_script(main: Callable[[T], object], options_class: type[T], description: str | None) -> None:
    """Parse the command line into `options_class` and call `main` with it; a UserError is one sentence, status 2."""
    try:
        options = parse_command_line(options_class, description)
        check_ranges(options)
        main(options)
        sys.stdout.flush()
    except UserError as error:
        print(f"{sys.argv[0].rsplit('/', 1)[-1]}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("\nStopped by Ctrl-C.", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        if not output_is_closed():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor does the exit write anything more there
        raise SystemExit(128 + signal.SIGPIPE) from None


def output_is_closed() -> bool:
    """Whether whoever reads our standard output has stopped reading, as in `--help | head`."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return bool(poll.poll(0))
