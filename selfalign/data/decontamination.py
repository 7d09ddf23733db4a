"""Keeping benchmarks out of the data: reads their problems, so that `selfalign.code.contamination` can find them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from selfalign.benchmarks import benchmark_names, load_benchmark
from selfalign.benchmarks.harness.problems import files_by_name
from selfalign.code.contamination import Decontaminator, Item, Match
from selfalign.errors import UserError, warn
from selfalign.options import DecontaminationOptions


def decontaminator_of(options: DecontaminationOptions) -> Decontaminator | None:
    """A decontaminator for the benchmarks of `--decontaminate`, announced on standard error; None if it names none.

    Raises:
        UserError: there is no such benchmark, or its problems can't be read: no benchmark is left out silently.
    """
    names = options.decontaminate
    if not names:
        warn("no decontamination, because --decontaminate names no benchmark")
        return None
    files = files_by_name(options.benchmark_data)
    if unknown := [known for known in files if known not in names and known.rpartition("-")[0] not in names]:
        raise UserError(f"--benchmark-data has {', '.join(unknown)}, which --decontaminate does not name")
    decontaminator = Decontaminator([item for name in dict.fromkeys(names) for item in read_items(name, files)])
    print(f"decontamination against {decontaminator}", file=sys.stderr)
    return decontaminator


def read_items(name: str, files: Mapping[str, str]) -> list[Item]:
    """The problems of the benchmark `name`, or of all its sets ("evoeval"); those that several sets have come once."""
    sets = [known for known in benchmark_names() if known == name or known.startswith(f"{name}-")]
    if not sets:
        raise UserError(f"there is no benchmark {name}; choose from {', '.join(benchmark_names())}")
    items: dict[tuple[str, str, str], Item] = {}
    for known in sets:
        file = files.get(known) or files.get(name)
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


def record_of(decontaminator: Decontaminator | None, removed: Iterable[Match | str]) -> dict[str, Any]:
    """For run.json and the card: how many problems each benchmark has, and how many rows matched which item.

    `removed` holds the match of each row that was removed, as it is or as a string.
    """
    counts = Counter(map(str, removed))
    return {
        "benchmarks": decontaminator.counts if decontaminator else {},
        "removed": dict(sorted(counts.items(), key=lambda count: (-count[1], count[0]))),
    }
