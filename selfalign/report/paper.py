"""The paper's tables as data: the published numbers in `experiments/paper/`, and which run of ours belongs to each."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from selfalign.errors import UserError
from selfalign.options import ROOT

PAPER = ROOT / "experiments" / "paper"
NOT_PUBLISHED, NOT_STATED, NOT_RUN = "", "-", "not run"  # in the CSV files
NUMBER = re.compile(r"(\d+(?:\.\d+)?)(k|%|h|min)?")
FACTORS = {"k": 1000.0, "h": 60.0}  # thousands, and hours in minutes


@dataclass(frozen=True)
class Cell:
    """One number of a table, and what to compare it with.

    `text` is the number as printed and `published` its value in percent, rows or minutes, None if there is none. Our
    value is the `score` of `system` on the best of `benchmarks`, or a `fact` about its datasets, or the mean of the
    columns `mean_of`.
    """

    row: str
    column: str
    system: str
    text: str
    published: float | None
    benchmarks: tuple[str, ...] = ()
    score: str = "pass@1"
    fact: str | None = None
    mean_of: tuple[str, ...] = ()


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper: its header, its rows as printed, its numbers by row and column, and the pairs of systems
    that the paper compares."""

    name: str
    title: str
    header: list[str]
    rows: list[list[str]]
    cells: list[dict[str, Cell]]
    compare: list[tuple[str, str]]

    @property
    def heading(self) -> str:
        """The title, after "Table 3: " if the table has a number."""
        numbered = re.fullmatch(r"table(\d+)", self.name)
        return f"Table {int(numbered[1])}: {self.title}" if numbered else self.title


class System(NamedTuple):
    """How a system of the tables is made: the command (None if that is impossible), and the folder of the data that it
    was trained on if that is not its own."""

    command: str | None
    data: str | None = None


@cache
def _read_yaml(name: str) -> dict[str, dict[str, Any]]:
    import yaml

    return yaml.safe_load((PAPER / name).read_text())


def table_names() -> list[str]:
    """The paper's tables in their order, then the others."""
    return list(_read_yaml("tables.yaml"))


def load_table(number_or_name: str) -> PaperTable:
    """The table called `number_or_name`, such as "3" or "small". UserError if there is none."""
    tables = _read_yaml("tables.yaml")
    name = f"table{int(number_or_name):02d}" if number_or_name.isdecimal() else number_or_name
    if name not in tables:
        others = ", ".join(other for other in tables if other[-1].isalpha())
        raise UserError(f"there is no table {number_or_name}: choose from 1 to 13, {others}")
    spec = tables[name]
    with (PAPER / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        (_, *header), *lines = csv.reader(file)
    cells = []
    for system, *texts in lines:
        values = dict(zip(header, texts, strict=True))
        label = ", ".join(values[column] for column in spec.get("row", header[:1]))
        cells.append(
            {
                column: cell_of(column_spec, label, column, system, values[column])
                for column, column_spec in spec["columns"].items()
            }
        )
    compare = [(ours, theirs) for ours, theirs in spec.get("compare", [])]
    return PaperTable(name, spec["title"], header, [texts for _, *texts in lines], cells, compare)


def cell_of(spec: dict[str, Any], row: str, column: str, system: str, text: str) -> Cell:
    """The cell with this text, in a column that tables.yaml describes by `spec`."""
    benchmarks = spec.get("benchmark", ())
    return Cell(
        row=row,
        column=column,
        system=spec.get("system", "{system}").format(system=system),
        text=text,
        published=parse_number(text),
        benchmarks=(benchmarks,) if isinstance(benchmarks, str) else tuple(benchmarks),
        score=spec.get("score", "pass@1"),
        fact=spec.get("fact"),
        mean_of=tuple(spec.get("mean", ())),
    )


def system_of(name: str) -> System:
    """The entry of systems.yaml that matches `name`, with its placeholders filled in. UserError if none does."""
    for pattern, entry in _read_yaml("systems.yaml").items():
        placeholders = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.+)", re.escape(pattern))
        if match := re.fullmatch(placeholders, name):
            return System(**{key: value and value.format(**match.groupdict()) for key, value in entry.items()})
    raise UserError(f"there is no system {name}: experiments/paper/systems.yaml lists them")


def parse_number(text: str) -> float | None:
    """The value of a printed number: "27.7k" -> 27700, "24.1%" -> 24.1, "2.5h" -> 150 (minutes), "not run" -> None.

    Raises:
        ValueError: `text` is neither a number nor one of the marks for a missing one.
    """
    if text in (NOT_PUBLISHED, NOT_STATED, NOT_RUN):
        return None
    match = NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(f"not a number: {text!r}")
    return float(match[1]) * FACTORS.get(match[2], 1.0)


def format_number(value: float, like: str = "") -> str:
    """`value` in the style of the printed number `like`: 27700 as 27.7k, 24.1 as 24.1%, 150 (minutes) as 2.5h."""
    unit = (match := NUMBER.fullmatch(like)) and match[2]
    if unit == "k":
        return f"{value / 1000:.1f}k" if value >= 1000 else f"{value:.0f}"
    if unit in ("h", "min"):
        return f"{value / 60:.1f}h" if value >= 60 else f"{value:.1f}min"
    return f"{value:.1f}{unit or ''}"
