"""Keeping benchmarks out of the data: reads their problems, so that `selfalign.code.contamination` can find them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from selfalign.benchmarks import benchmark_names, load_benchmark
from selfalign.code.contamination import Decontaminator, Item, Match
from selfalign.errors import UserError, warn
from selfalign.options import DecontaminationOptions


def decontaminator_of(options: DecontaminationOptions) -> Decontaminator | None:
    """What `--decontaminate` asks for, announced on standard error; None if it names no benchmark.

    Raises:
        UserError: as `load_decontaminator` does.
    """
    if not options.decontaminate:
        warn("no decontamination: --decontaminate names no benchmark")
        return None
    decontaminator = load_decontaminator(options.decontaminate, data_by_name(options.benchmark_data))
    print(f"decontamination against {decontaminator}", file=sys.stderr)
    return decontaminator


def load_decontaminator(names: Sequence[str], data: Mapping[str, str] | None = None) -> Decontaminator:
    """A decontaminator for benchmarks.

    Args:
        names: of benchmarks, see `selfalign.benchmarks`; "evoeval" stands for all of its sets.
        data: name -> a file or Hub dataset to read instead of the published one.

    Raises:
        UserError: there is no such benchmark, or its problems can't be read: no benchmark is left out silently.
    """
    data = data or {}
    if unknown := [known for known in data if known not in names and known.rpartition("-")[0] not in names]:
        raise UserError(f"--benchmark-data has {', '.join(unknown)}, which --decontaminate does not name")
    return Decontaminator([item for name in dict.fromkeys(names) for item in read_items(name, data)])


def read_items(name: str, data: Mapping[str, str]) -> list[Item]:
    """The problems of the benchmark `name`, or of all its sets ("evoeval").

    A problem that several sets have (MBPP's) comes once. UserError if they can't be read.
    """
    sets = [known for known in benchmark_names() if known == name or known.startswith(f"{name}-")]
    if not sets:
        raise UserError(f"no benchmark {name}; there are {', '.join(benchmark_names())}")
    items: dict[tuple[str, str, str], Item] = {}
    for known in sets:
        file = data.get(known) or data.get(name)
        try:
            problems = load_benchmark(known).problems(file)
        except UserError as error:
            hint = "" if file else f"; --benchmark-data {known}=FILE reads them from a file"
            raise UserError(f"decontamination needs the problems of {known}: {error}{hint}") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            source = f" from {file}" if file else ""
            raise UserError(f"the problems of {known} can't be read{source}: {error!r}") from None
        for problem in problems:
            items.setdefault(
                (problem.task_id, problem.prompt, problem.canonical_solution),
                Item(
                    family=name,
                    benchmark=known,
                    task_id=problem.task_id,
                    task=problem.entry_point or problem.task_id,
                    prompt=problem.prompt,
                    solution=problem.canonical_solution,
                    given=problem.extra.get("before") or "",
                ),
            )
    return list(items.values())


def data_by_name(pairs: Iterable[str]) -> dict[str, str]:
    """What --benchmark-data says: "mbpp=mbpp.jsonl" -> {"mbpp": "mbpp.jsonl"}; UserError if it has another form."""
    data = {}
    for pair in pairs:
        name, equals, file = pair.partition("=")
        if not (name and equals and file):
            raise UserError(f"--benchmark-data {pair} does not have the form NAME=FILE")
        data[name] = file
    return data


def record_of(decontaminator: Decontaminator | None, removed: Iterable[Match | str]) -> dict[str, Any]:
    """For run.json and the card: how many problems each benchmark has, and how many rows matched which item.

    `removed` holds the match of each row that was removed, as it is or as a string.
    """
    counts = Counter(map(str, removed))
    return {
        "benchmarks": decontaminator.counts if decontaminator else {},
        "removed": dict(sorted(counts.items(), key=lambda count: (-count[1], count[0]))),
    }
