"""Keeping benchmarks out of the data: reads their problems, so that `selfalign.code.contamination` can find them.

The problems are read for this alone. None of them becomes training data, which the licence of CanItEdit forbids.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from selfalign.benchmarks import benchmark_names, benchmarks_by_family, load_benchmark
from selfalign.benchmarks.harness.benchmark import Problem
from selfalign.benchmarks.harness.problems import files_by_name, records
from selfalign.code.contamination import Decontaminator, Item, Match
from selfalign.errors import UserError, did_you_mean, first_line, warn
from selfalign.options import ALL_BENCHMARKS, DecontaminationOptions

GSM8K = "openai/gsm8k@e53f048856ff4f594e959d75785d2c2d37b678ee"
# Why a benchmark is read only if it is named.
ONLY_BY_NAME = {
    "livecodebench": "a download of 1.3 GB",
    "evalperf": "its problems are those of HumanEval+ and MBPP+",
}

# Whose problems are those of others, and read with these: of livecodebench; of humaneval and mbpp, in JavaScript.
REPEATED = ("livecodebench-repair", "multipl-e")

Options = TypeVar("Options", bound=DecontaminationOptions)


def gsm8k(data: str | None = None) -> list[Problem]:
    """GSM8K's 1,319 test questions. Nothing here measures them, but the reference implementation removes them."""
    rows = records(data or GSM8K, config="main", needs=("question", "answer"))
    return [
        Problem(task_id=str(number), prompt=row["question"], canonical_solution="", test="")
        for number, row in enumerate(rows)
    ]


def read_set(name: str, file: str | None) -> list[Problem]:
    """The problems of the set `name`, from a file or else from what is published."""
    return gsm8k(file) if name == "gsm8k" else load_benchmark(name).problems(file)


def sets_by_family() -> dict[str, list[str]]:
    """What `--decontaminate` can name -> its sets: {"evoeval": ["evoeval-difficult", ...], ...}."""
    families = {family: sets for family, sets in benchmarks_by_family().items() if family not in REPEATED}
    return families | {"gsm8k": ["gsm8k"]}


def family_of(name: str) -> str:
    """The family of a set; a name that is no set's is its own."""
    return next((family for family, sets in sets_by_family().items() if name in sets), name)


def decontaminator_of(options: Options) -> tuple[Options, Decontaminator | None]:
    """The options with the names of the benchmarks that are kept out, and what finds these, None if there are none.

    The benchmarks are announced on standard error. For `all`, this also says which of them could not be read and why;
    the names in the options are then those that could, since a run that keeps other benchmarks out is another run.

    Raises:
        UserError: a benchmark that is named does not exist or can't be read: none of these is left out silently.
    """
    names = tuple(dict.fromkeys(options.decontaminate))
    if not names:
        warn("no decontamination, because --decontaminate names no benchmark")
        return options, None
    files = files_by_name(options.benchmark_data)
    every = ALL_BENCHMARKS in names
    if unknown := [known for known in files if not every and not {known, family_of(known)} & {*names}]:
        raise UserError(f"--benchmark-data has {', '.join(unknown)}, which --decontaminate does not name")
    items, unread = read_all(names, files) if every else ({name: read_items(name, files) for name in names}, {})
    decontaminator = Decontaminator([item for some in items.values() for item in some])
    print(f"decontamination against {decontaminator}", file=sys.stderr)
    for reason, missing in unread.items():
        warn(f"no decontamination against {', '.join(missing)}: {reason}")
    return dataclasses.replace(options, decontaminate=tuple(items)), decontaminator


def read_all(names: Iterable[str], files: Mapping[str, str]) -> tuple[dict[str, list[Item]], dict[str, list[str]]]:
    """The items of each benchmark that can be read, and the names of the others by the reason why they can't be.

    Those in `names`, and those with a file, are read or a UserError says why not.
    """
    items, unread = {}, {}
    named = {*names, *files, *map(family_of, files)}
    for family in sets_by_family():
        if family in named:
            items[family] = read_items(family, files)
        elif family in ONLY_BY_NAME:
            unread.setdefault(f"{ONLY_BY_NAME[family]}; it has to be named", []).append(family)
        else:
            try:
                items[family] = read_items(family, files)
            except UserError as error:
                unread.setdefault(_reason(error), []).append(family)
    return items, unread


def _reason(error: BaseException) -> str:
    """Why a benchmark can't be read; the same words for all benchmarks that can't be read for want of the Hub."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    while cause := error.__cause__ or error.__context__:
        error = cause
    return "HF_HUB_OFFLINE is set" if isinstance(error, OfflineModeIsEnabled) else first_line(error)


def read_items(name: str, files: Mapping[str, str]) -> list[Item]:
    """The problems of the benchmark `name`, or of all its sets ("evoeval"); those that several sets have come once."""
    families = sets_by_family()
    sets = families.get(name) or [known for known in benchmark_names() if known == name]
    if not sets:
        raise UserError(f"there is no benchmark {name}{did_you_mean(name, [*families, *benchmark_names()])}")
    items: dict[tuple[str, str, str], Item] = {}
    for known in sets:
        file = files.get(known) or files.get(name)
        try:
            problems = read_set(known, file)
        except UserError as error:
            hint = "" if file else f"; --benchmark-data {known}=FILE reads them from a file"
            raise UserError(f"decontamination needs the problems of {known}: {error}{hint}") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            source = f" from {file}" if file else ""
            raise UserError(f"the problems of {known} can't be read{source}: {error!r}") from error
        for problem in problems:
            items.setdefault(
                (problem.task_id, problem.prompt, problem.canonical_solution),
                Item(
                    family=name,
                    benchmark=known,
                    task_id=problem.task_id,
                    task=problem.extra.get("task") or problem.entry_point or problem.task_id,
                    prompt=problem.prompt,
                    solution=problem.canonical_solution,
                    given=problem.extra.get("before") or "",
                ),
            )
    return list(items.values())


def record_of(decontaminator: Decontaminator | None, removed: Iterable[Match | str]) -> dict[str, Any]:
    """For run.json and the card: how many problems each benchmark has, and how many rows matched which item.

    `removed` holds the match of each row that was removed, as it is or as a string.
    """
    counts = Counter(map(str, removed))
    return {
        "benchmarks": decontaminator.counts if decontaminator else {},
        "removed": dict(sorted(counts.items(), key=lambda count: (-count[1], count[0]))),
    }
