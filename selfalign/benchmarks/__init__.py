"""Benchmarks, one file each: their problems, how a model is prompted, and the program that judges an answer.

A benchmark is a module here. `python benchmark.py --benchmark NAME` finds it by its file's name; one with several sets
has `VARIANTS`, and each is a benchmark of its own: `evoeval-difficult` is the variant "difficult" of `evoeval`. It has

    problems(data=None, variant=None) -> list[Problem]
        `data`: a Hub dataset or a file (see `records`); None: the published one
    completion_prompt(problem), COMPLETION_STOP
        for a base model: the answer continues the prompt, and ends before any of these strings
    chat_prompt(problem)
        for an instruction-tuned model: what the user asks
    program(problem, answer, style) -> (code, tests)
        style "completion": `answer` continues `completion_prompt`; "chat": it answers `chat_prompt`, in Markdown;
        "solution": it is the whole code, as it stands

and, where they are needed,

    DATASET             "org/name@revision" on the Hub, `{variant}` standing for the variant; None: in a package;
                        several with commas between, if it takes several
    VARIANTS            names of the sets; None among them is the benchmark without a suffix. Default: (None,)
    SAMPLES, TEMPERATURE, TOP_P, MAX_NEW_TOKENS
                        the paper's decoding; default: 1 sample, greedy, 512 tokens
    CHAT_PREFIX, CHAT_STOP
                        how a chat model's answer begins (given to it, not part of `completion`; `program` gets
                        it before the answer), and the strings before which it ends; default: nothing
    TIMEOUT, MEMORY, PRELOAD, ENVIRONMENT
                        of the sandbox: seconds of CPU time (a problem's `extra["timeout"]` may be more), bytes,
                        modules, variables
    NOTE                what a reader of the results must know
    checks(problem, answer, style) -> {name: (code, tests)}
        several programs for one answer, which passes when all do; instead of `program`
    async answer(problem, ask, style) -> text
        for more than one request an answer: `await ask(prompt) -> completion`, where `prompt` is what a base model
        continues, or what the user of a chat model says; `ask(prompt, stop)` ends before other strings
    read_only(problems) -> [path]
        files that the programs may read
    scores(rows, problems) -> {name: value}
        further figures, in [0, 1]; `rows` as benchmark.py writes them (`checks`: {name: outcome})
        and `problems` by task id. Called for every resample of the bootstrap with the rows of the problems drawn,
        those of one that is drawn twice twice: it should be quick
    measure(rows, problems, run) -> {row id: {name: value}}
        what is measured of rows once all are judged; `run(programs)` gives their results in order, one at a time on an
        otherwise idle sandbox; `row["code"]` is the code. `scores` finds what was measured in `row["measured"]`
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

from selfalign.errors import UserError
from selfalign.report.statistics import pass_at_k

__all__ = ["Problem", "benchmark_names", "load_benchmark", "pass_at_k", "pin_of", "records"]

DEFAULTS = {
    "DATASET": None,
    "COMPLETION_STOP": (),
    "SAMPLES": 1,
    "TEMPERATURE": 0.0,  # paper, section 3: greedy
    "TOP_P": None,
    "MAX_NEW_TOKENS": 512,  # EvalPlus
    "TIMEOUT": 10.0,
    "MEMORY": 1 << 30,
    "PRELOAD": None,
    "ENVIRONMENT": {},
    "NOTE": None,
    "CHAT_PREFIX": "",
    "CHAT_STOP": (),
    "checks": None,
    "answer": None,
    "read_only": None,
    "scores": None,
    "measure": None,
}


@dataclass(frozen=True)
class Problem:
    """A problem: what is asked, a solution that passes, and the tests.

    Of a function-level benchmark, `prompt` is the function's head with its docstring, `canonical_solution` its body.
    `extra` holds what a benchmark has besides.
    """

    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    test: str
    extra: dict[str, Any] = field(default_factory=dict)


def _variants() -> dict[str, tuple[str, str | None]]:
    """Module and variant of each benchmark, by its name."""
    variants = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")):
        for variant in getattr(_module(module), "VARIANTS", (None,)):
            variants[f"{module}-{variant}" if variant else module] = module, variant
    return variants


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"selfalign.benchmarks.{name}")


def benchmark_names() -> list[str]:
    """The names that `load_benchmark` knows."""
    return list(_variants())


def load_benchmark(name: str) -> SimpleNamespace:
    """What the module of the benchmark `name` has, and DEFAULTS for the rest; `problems` are those of the variant."""
    variants = _variants()
    if name not in variants:
        raise UserError(f"no benchmark {name}; there are {', '.join(variants)}")
    module, variant = variants[name]
    members: dict[str, Any] = {n: value for n, value in vars(_module(module)).items() if not n.startswith("__")}
    members = DEFAULTS | members
    if variant and members["DATASET"]:
        members["DATASET"] = members["DATASET"].format(variant=variant)
    return SimpleNamespace(**members | {"name": name, "problems": partial(members["problems"], variant=variant)})


def pin_of(data: str, token: str | None = None) -> tuple[str, dict[str, str]]:
    """The problems' sources (with commas between) with revisions resolved to commits, and what each is pinned to.

    "org/name@main" -> ("org/name@<commit>", {"org/name": "<commit>"}); of a file, the same path and a hash of its
    content. UserError if there is no such thing, or the Hub does not answer.
    """
    import hashlib
    from pathlib import Path

    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    from selfalign.errors import first_line
    from selfalign.runner.hub import hub_name, is_hub_id, with_retries

    resolved, pins = [], {}
    for source in data.split(","):
        if is_hub_id(source):
            repo, _, revision = hub_name(source).partition("@")
            try:
                api = HfApi(token=token)
                pins[repo] = str(with_retries(lambda: api.dataset_info(repo, revision=revision or None)).sha)  # noqa: B023
            except (HfHubHTTPError, OSError) as error:
                raise UserError(
                    f"the problems are in {repo} on the Hub, which does not give them ({first_line(error)}); --data "
                    "FILE reads them from a file"
                ) from None
            resolved.append(f"{repo}@{pins[repo]}")
        elif Path(source).is_file():
            pins[source] = hashlib.sha256(Path(source).read_bytes()).hexdigest()[:16]
            resolved.append(source)
        else:
            raise UserError(f"--data {source}: no such file, and not the form of a Hub id")
    return ",".join(resolved), pins


def records(
    data: str, *, config: str | None = None, split: str = "test", needs: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """The rows of a Hub dataset ("org/name@revision"), or of a file: .json (a list, or an object of rows), .jsonl, both
    also with .gz, or .parquet. A file has neither configuration nor split.

    Raises:
        UserError: it is not there, its line so-and-so is no JSON, or rows lack one of the columns `needs`.
    """
    from selfalign.runner.hub import is_hub_id
    from selfalign.runner.source import open_source

    if is_hub_id(data):
        return open_source(data, columns=needs, config=config, split=split).rows.to_list()
    if data.endswith(".parquet"):
        return open_source(data, columns=needs).rows.to_list()
    rows = _json_rows(data)
    for name in needs:
        if lacking := sum(name not in row for row in rows):
            raise UserError(f"{lacking} of {len(rows)} rows of {data} have no {name}")
    return rows


def _json_rows(data: str) -> list[dict[str, Any]]:
    """The rows of a file of JSON or JSON lines, gzipped or not."""
    import gzip
    import json
    from pathlib import Path

    # Not through `datasets`, whose columns have one type: the inputs of EvalPlus are numbers here and lists there.
    try:
        raw = Path(data).read_bytes()
        text = (gzip.decompress(raw) if data.endswith(".gz") else raw).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"{data} can't be read: {error}") from None
    if data.removesuffix(".gz").endswith(".json"):
        try:
            rows = json.loads(text)
        except ValueError as error:
            raise UserError(f"{data} is no JSON: {error}") from None
        rows = list(rows.values()) if isinstance(rows, dict) else rows
    else:
        rows = []
        for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: JSON strings may hold U+2028
            if not line.strip():
                continue
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise UserError(f"{data}: line {number} is no JSON ({error})") from None
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{data} holds no rows" if not rows else f"{data}: a row is no JSON object")
    return rows
