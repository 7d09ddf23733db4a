"""Options that several scripts share, and the command line that tyro makes from them.

Each script has one dataclass of options, derived from those here; the docstring of a field is its help text. A field
marked `OPERATIONAL` says how or where a step runs, not what comes out. Two runs that differ only in such fields count
as the same run, and the second resumes the first.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import math
import os
import re
import selectors
import shlex
import shutil
import signal
import stat
import sys
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NamedTuple,
    TypeVar,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

import tyro

from selfalign.errors import SECRET_NAME, UserError, without_secrets
from selfalign.installed import MISMATCH, explained

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

OPERATIONAL = {"operational": True}
LATER = {"later": True}  # an option that came after runs had been begun: not in a run's identity while at its default
API_KEY_VARIABLE = "SELFALIGN_API_KEY"  # the key of the endpoints, where it must travel to other processes
ROOT = Path(__file__).resolve().parent.parent  # of the project
ALL_BENCHMARKS = "all"  # in --decontaminate: all that can be read
PROMPTS = ROOT / "prompts"

# For scripts, which must not import tyro themselves: `selfalign` says in one sentence if it is not installed.
Positional, Hidden, argument = tyro.conf.Positional, tyro.conf.Suppress, tyro.conf.arg

T = TypeVar("T", bound="DataclassInstance")


class Shard(NamedTuple):
    """A share of the rows of an input: number `number`, from 0, of `of` shares of equal size."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str | None) -> Shard:
        """The shard that "0/4" names; None means all rows. UserError if it is neither."""
        number, _, of = (text or "0/1").partition("/")
        if not (number.isdecimal() and of.isdecimal() and int(number) < int(of)):
            raise UserError(f"--shard {text} is not a shard: the first of four shards is 0/4, and the last is 3/4")
        return cls(int(number), int(of))

    def span(self, rows: int) -> slice:
        """The positions of the shard's rows among `rows`."""
        return slice(rows * self.number // self.of, rows * (self.number + 1) // self.of)


@dataclass(frozen=True)
class Range:
    """The values that a numeric option may have: from `least` (exclusive if `above`) to `most`."""

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
Language = Literal["python", "javascript"]
DatasetName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATASET")]
Seed = Annotated[int, Range(0, 2**32 - 1)]  # what NumPy and torch take


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """Options of every step that reads one dataset and writes another."""

    input: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="INPUT")] = field(metadata=OPERATIONAL)
    """Dataset to read: a Hub id (org/name or org/name@revision), a local folder or file, or an fsspec URL."""

    output: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUTPUT")] = field(metadata=OPERATIONAL)
    """Dataset to write: a Hub id, a local folder, or an fsspec URL. Run the same command again to
    continue a run that was stopped."""

    config: str | None = None
    """Configuration of the input dataset."""

    split: str = "train"
    """Split of the input dataset."""

    max_samples: Count | None = field(default=None, metadata=OPERATIONAL)
    """Do only this many rows: the first ones of the input, or of those that the step chooses from it. A later run with
    a larger number continues after them."""

    # Not part of the identity by itself, but of what the input is pinned to, if there are any (`read_input`).
    column: tuple[str, ...] = field(default=(), metadata=OPERATIONAL)
    """Columns of the input that have other names there, such as content=func_source id=uuid."""

    seed: Seed = 0
    """Every random draw for a row depends only on this number and the row's id."""

    executor: Literal["local", "slurm", "ray", "jobs"] | None = field(default=None, metadata=OPERATIONAL)
    """Hand shards of the step to other processes: on this machine, through Slurm, on a Ray cluster, or as Hugging Face
    Jobs. By default, everything runs in this process."""

    shards: Count = field(default=1, metadata=OPERATIONAL)
    """Number of shards into which --executor divides the rows. The resulting rows do not depend on it."""

    workers: Count | None = field(default=None, metadata=OPERATIONAL)
    """Number of shards that --executor runs at a time. By default, all of them."""

    executor_options: tuple[str, ...] = field(default=(), metadata=OPERATIONAL)
    """Arguments for datatrove's executor, such as partition=gpu time=20:00:00 cpus_per_task=8."""

    shard: str | None = field(default=None, metadata=OPERATIONAL)
    """Process only this share of the rows, such as 0/4 for the first quarter, when you start the step on several
    machines by hand."""

    public: bool = field(default=False, metadata=OPERATIONAL)
    """Make the Hub repo public if it has to be created. By default, it is private."""

    hf_token: str | None = field(default=None, metadata=OPERATIONAL)
    """Hugging Face token. By default, the one from `hf auth login` or HF_TOKEN."""


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """Options of every step that asks a model."""

    endpoint: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = field(default=(), metadata=OPERATIONAL)
    """URL of a server; repeat the option for several servers of the same model. By default, http://127.0.0.1:8080."""

    api: Literal["tgi", "completions", "chat"] = "tgi"
    """Interface of the servers: text-generation-inference's own (also that of serve.py), or OpenAI's completions or
    chat (vLLM, SGLang, llama.cpp, https://router.huggingface.co). Instruction-tuned models can continue the prompts as
    well, and small ones do that better than they chat (docs/prompts.md)."""

    model: str | None = field(default=None, metadata=OPERATIONAL)
    """Name of the model that the endpoint must serve, as the endpoint reports it. The run is refused if it serves
    another."""

    concurrency: Count | None = field(default=None, metadata=OPERATIONAL)
    """Maximum number of samples in flight at each server. By default, what its /info allows (256 for OpenAI's
    interfaces)."""

    api_key: str | None = field(default=None, metadata=OPERATIONAL)
    """API key of the servers. By default, the environment variable SELFALIGN_API_KEY; without either, Hugging Face's
    own servers get the Hugging Face token."""

    send_seeds: bool = field(default=True, metadata=OPERATIONAL)
    """Send a sampling seed with each request. Use --no-send-seeds for servers that crash on seeds (vLLM on a CPU)."""

    patience: PositiveOrZero = field(default=600.0, metadata=OPERATIONAL)
    """Seconds to wait while no server answers, before the remaining rows are left to the next run."""

    temperature: PositiveOrZero = 0.7
    """Sampling temperature (paper, C.1: 0.7 for all stages); 0 is greedy decoding."""

    top_p: ShareAboveZero | None = None
    """Nucleus sampling: keep the most likely tokens up to this total probability."""

    reasoning: Literal["strip", "keep"] = field(default="strip", metadata=LATER)
    """What becomes of the reasoning of a model that thinks before it answers: it is left out, or kept in a column of
    its own. An answer that ends while the model still thinks counts as unfinished."""

    chat_template_kwargs: tuple[str, ...] = field(default=(), metadata=LATER)
    """Arguments that a server of --api chat gives to the model's chat template, such as enable_thinking=false, which
    turns the reasoning of Qwen3 and others off."""

    # A run is identified by the hash of its template and examples, wherever these files are.
    examples: Path = field(default=PROMPTS / "examples.yaml", metadata=OPERATIONAL)
    """Worked examples: YAML, or the text format of the reference implementation."""


@dataclass(frozen=True, kw_only=True)
class LanguageOptions:
    """Options of every step whose prompts show code."""

    language: Language = field(default="python", metadata=LATER)
    """Programming language of what the model reads and writes. For javascript, the template and the worked examples are
    by default those in prompts/javascript/."""


@dataclass(frozen=True, kw_only=True)
class DecontaminationOptions:
    """Options of every step that keeps benchmarks out of the data."""

    decontaminate: tuple[str, ...] = (ALL_BENCHMARKS,)
    """Benchmarks whose problems and solutions must not be among the data, such as humaneval mbpp humanevalplus mbppplus
    evoeval ds1000 livecodebench classeval canitedit gsm8k; each that is named must be readable. HumanEval comes with a
    package; the others are read from the Hub. `all` stands for those of them that can be read, but not for
    livecodebench, which is a download of 1.3 GB. If no name is given, there may be any."""

    benchmark_data: tuple[str, ...] = field(default=(), metadata=OPERATIONAL)
    """Files to read benchmarks from instead of the Hub, such as mbpp=mbpp.jsonl."""


@dataclass(frozen=True, kw_only=True)
class SandboxOptions:
    """Options of every step that runs programs in a sandbox.

    Their limits are not here: the order of the options that decide what comes out is part of a run's hash, and each
    script declares the limits at a place of its own.
    """

    sandboxes: Count = field(default_factory=lambda: os.cpu_count() or 1, metadata=OPERATIONAL)
    """Number of programs that run at the same time."""


@dataclass(frozen=True, kw_only=True)
class TeacherOptions(GenerationOptions):
    """Options of a step that asks a model other than the one to be trained."""

    api: Literal["tgi", "completions", "chat"] = "chat"
    """Interface of the teacher's servers."""

    license: str | None = None
    """Licence of the teacher's output, for the column `license` and the card."""


def check_ranges(options: object) -> None:
    """UserError if the value of a field lies outside the `Range` of its type."""
    for name, kind in get_type_hints(type(options), include_extras=True).items():
        ranges = [r for part in (kind, *get_args(kind)) for r in getattr(part, "__metadata__", ()) if type(r) is Range]
        value = getattr(options, name)
        if ranges and value is not None and value not in ranges[0]:
            raise UserError(f"--{name.replace('_', '-')} {value} is out of range: it must be {ranges[0]}")


def identity_of(options: DataclassInstance) -> dict[str, Any]:
    """The options that determine the output, by name: all but those marked `OPERATIONAL`, and those marked `LATER` only
    where they are not at their defaults."""
    values = {f: getattr(options, f.name) for f in dataclasses.fields(options) if not f.metadata.get("operational")}
    return {f.name: value for f, value in values.items() if not (f.metadata.get("later") and value == f.default)}


def program_of(script: Path) -> list[str]:
    """What follows `python` in the command that runs `script`: a file name in the root, -m and a module below it."""
    script = script.resolve()
    if script.parent == ROOT or not script.is_relative_to(ROOT):
        return [script.name]
    return ["-m", ".".join(script.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")]


def command_of(options: DataclassInstance) -> str:
    """The command that repeats this run: the script, its positional arguments, and the options that differ from their
    defaults. It contains no secret, because cards show it."""
    script = Path(sys.argv[0])
    words = ["python", *program_of(script)]
    words += [str(getattr(options, name)) for name in ("input", "output") if getattr(options, name, None)]
    a_secret = re.compile(SECRET_NAME, re.IGNORECASE)
    for f in dataclasses.fields(options):
        value = getattr(options, f.name)
        default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        if f.name in ("input", "output", "shard", "hf_token", "api_key") or value == default:
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
    wants_help = bool({"-h", "--help"} & set(sys.argv[1:]))
    if wants_help:  # tyro would join the lines of each paragraph into one
        print(filled((description or "").strip(), shutil.get_terminal_size().columns), end="\n\n")
    plain = _with_plain_help(options_class, _help_of(options_class) if wants_help else {})
    parsed: Any = tyro.cli(plain, prog=" ".join(["python", *program_of(Path(sys.argv[0]))]))
    return options_class(**{f.name: getattr(parsed, f.name) for f in dataclasses.fields(parsed)})


def filled(text: str, width: int) -> str:
    """A docstring whose prose is broken into lines of at most `width` characters; what is indented stays as it is."""
    paragraphs = text.split("\n\n")
    return "\n\n".join(p if "\n " in f"\n{p}" else textwrap.fill(p, width, break_on_hyphens=False) for p in paragraphs)


def _help_of(options_class: type[DataclassInstance]) -> dict[str, str]:
    """The docstrings of the fields, each as one line: tyro would break them where the source does."""
    texts: dict[str, str] = {}
    for kind in reversed(options_class.__mro__[:-1]):
        body = cast(ast.ClassDef, ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]).body
        for entry, text in itertools.pairwise(body):
            if isinstance(entry, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                texts[cast(ast.Name, entry.target).id] = " ".join(str(text.value.value).split())
    return texts


def _with_plain_help(options_class: type[DataclassInstance], texts: Mapping[str, str]) -> type:
    """The same options with these help texts, which do not name a default of None or of nothing, nor the folder of the
    project."""
    annotations = {}
    hints = get_type_hints(options_class, include_extras=True)
    for f in dataclasses.fields(options_class):
        kinds = [kind for kind in get_args(hints[f.name]) if kind is not type(None)]
        settings: dict[str, Any] = {"help": texts[f.name]} if f.name in texts else {}
        if f.default is None and len(kinds) == 1:
            settings |= {"metavar": _metavar(kinds[0]), "help_behavior_hint": ""}
        elif f.default == ():
            settings |= {"help_behavior_hint": ""}
        elif isinstance(f.default, Path):
            settings |= {"help_behavior_hint": lambda default: f"(default: {default.replace(f'{ROOT}/', '')})"}
        if settings:
            annotations[f.name] = Annotated[hints[f.name], tyro.conf.arg(**settings)]
    return type(options_class.__name__, (options_class,), {"__annotations__": annotations, "__doc__": ""})


def _metavar(kind: Any) -> str:
    """What stands for the value of an option in the help: STR, INT, or {one,of,these}."""
    kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    return "{" + ",".join(get_args(kind)) + "}" if get_origin(kind) is Literal else kind.__name__.upper()


def run_script(main: Callable[[T], object], options_class: type[T], description: str | None) -> None:
    """Parse the command line into `options_class` and call `main` with it; a UserError is one sentence, status 2.

    So is an error that comes from packages in other versions than those of requirements.txt.
    """
    try:
        options = parse_command_line(options_class, description)
        check_ranges(options)
        main(options)
        sys.stdout.flush()
    except (UserError, *MISMATCH) as error:
        sentence = str(error) if isinstance(error, UserError) else explained(error)
        if sentence is None:
            raise
        script = Path(sys.argv[0])
        name = " ".join(["python", *program_of(script)]) if script.name == "__main__.py" else script.name
        print(f"{name}: {sentence}", file=sys.stderr)
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
    """Whether the reader of standard output has gone, as in `--help | head`."""
    output = sys.stdout.fileno()
    if not stat.S_ISFIFO(os.fstat(output).st_mode):
        return False
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)  # there is never anything to read at this end but an error
        return bool(selector.select(0))
