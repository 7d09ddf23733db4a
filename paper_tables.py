"""Step 9: results -> tables. Each table of the paper, with our results below the published numbers.

Paper: Tables 1 to 12, and the figures of StarCoder2-15B-Instruct. The published numbers are data, in
`experiments/paper/`.

    python paper_tables.py                                  # all tables, with what is in ./runs/out
    python paper_tables.py ./runs/out --tables 1 8 --format latex
    python paper_tables.py ./runs/out octopack-cq-7b=./elsewhere/results.json --figures ./figures

RESULTS is a folder as the scripts of runs/ fill it: RESULTS/SYSTEM/BENCHMARK holds what benchmark.py wrote, and
RESULTS/SYSTEM/instructions and model what select.py and finetune.py wrote; systems.yaml in `experiments/paper/` names
the systems.

Below each row is ours, where there is one: the score with its 95 % interval, and the difference to the published one.
Below each table are the systems that the paper compares, tested by a paired bootstrap over the problems where the
samples of both are there, and the commands of the runs that are missing. `--format csv` gives one line for each cell.
"""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import tyro

from selfalign.errors import UserError, warn
from selfalign.options import run_script

PAPER = Path(__file__).resolve().parent / "experiments" / "paper"
NOT_PUBLISHED, NOT_STATED, NOT_RUN = "", "-", "not run"  # in the CSV files
NUMBER = re.compile(r"(\d+(?:\.\d+)?)(k|%|h|min)?")
FACTORS = {"k": 1000.0, "h": 60.0}  # thousands, and hours in minutes
CSV_COLUMNS = ("table", "row", "column", "system", "published", "ours", "low", "high", "difference", "command")
GENERATION_STEPS = ("concepts", "tasks", "responses", "executions")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to print and to draw."""

    results: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RESULTS")] = ("./runs/out",)
    """Folders with results, and single ones as SYSTEM=results.json or SYSTEM=FOLDER, its folder; of two results the
    first counts."""

    tables: tuple[str, ...] = ()
    """Which tables: 1 to 12, starcoder2_instruct, small, quickstart; all of them otherwise."""

    format: Literal["markdown", "latex", "csv"] = "markdown"
    """How they are printed."""

    figures: Path | None = None
    """Folder to draw a PNG of each table into."""

    seed: int = 0
    """Of the bootstrap."""


# The published numbers ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """A number of a table: as `text` in the paper, as `published` (percent, rows or minutes; None: not published or
    not run), and whose it is. `score` or `fact` says what a result must have for it, `of` names the columns that it is
    the mean of."""

    table: str
    row: str
    column: str
    system: str
    text: str
    published: float | None
    benchmarks: tuple[str, ...] = ()
    score: str = "pass@1"
    fact: str | None = None
    of: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table of the paper: its header, its rows as text, and its numbers by row and column."""

    name: str
    title: str
    header: list[str]
    rows: list[list[str]]
    cells: list[dict[str, Cell]]
    compare: list[tuple[str, str]]


def parse_number(text: str) -> float | None:
    """ "27.7k" -> 27700, "24.1%" -> 24.1, "2.5h" -> 150 (minutes), "" and "not run" -> None.

    Raises:
        ValueError: it is neither a number nor one of the words for none.
    """
    if text in (NOT_PUBLISHED, NOT_STATED, NOT_RUN):
        return None
    match = NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(f"not a number: {text!r}")
    return float(match[1]) * FACTORS.get(match[2], 1.0)


def table_names() -> list[str]:
    """The tables in the order of the paper, then the others."""
    import yaml

    return list(yaml.safe_load((PAPER / "tables.yaml").read_text()))


def load_table(name: str) -> Table:
    """The table `name`: "3" or "table03"."""
    import csv

    import yaml

    known = yaml.safe_load((PAPER / "tables.yaml").read_text())
    said, name = name, f"table{int(name):02d}" if name.isdecimal() else name
    if name not in known:
        raise UserError(f"no table {said}: there are 1 to 12, and {', '.join(n for n in known if n[-1].isalpha())}")
    columns = known[name]["columns"]
    header, *lines = csv.reader((PAPER / f"{name}.csv").open(newline="", encoding="utf-8"))
    cells = []
    for system, *texts in lines:
        values = dict(zip(header[1:], texts, strict=True))
        label = ", ".join(values[column] for column in known[name].get("row", header[1:2]))
        row = {}
        for column, spec in columns.items():
            benchmarks = spec.get("benchmark", ())
            row[column] = Cell(
                table=name,
                row=label,
                column=column,
                system=spec.get("system", "{system}").format(system=system),
                text=values[column],
                published=parse_number(values[column]),
                benchmarks=(benchmarks,) if isinstance(benchmarks, str) else tuple(benchmarks),
                score=spec.get("score", "pass@1"),
                fact=spec.get("fact"),
                of=tuple(spec.get("mean", ())),
            )
        cells.append(row)
    compare = [(ours, theirs) for ours, theirs in known[name].get("compare", [])]
    return Table(name, known[name]["title"], header[1:], [texts for _, *texts in lines], cells, compare)


def recipe_of(system: str) -> dict[str, Any]:
    """The entry of experiments/paper/systems.yaml that fits `system`, its names in braces filled in."""
    for pattern, recipe in _recipes().items():
        names = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.+)", re.escape(pattern))
        if match := re.fullmatch(names, system):
            return {key: value and value.format(**match.groupdict()) for key, value in recipe.items()}
    raise KeyError(system)


@functools.cache
def _recipes() -> dict[str, dict[str, str | None]]:
    import yaml

    return yaml.safe_load((PAPER / "systems.yaml").read_text())


# Ours -----------------------------------------------------------------------------------------------------------------


class Ours(NamedTuple):
    """A number of ours, in the unit of the table, its 95 % interval if there is one, and its results.json."""

    value: float
    low: float | None = None
    high: float | None = None
    result: Mapping[str, Any] = {}


class Results:
    """The results below the folders and in the files that the user names."""

    def __init__(self, places: Iterable[str]) -> None:
        self.folders: list[Path] = []
        self.systems: dict[str, Path] = {}
        self.named: dict[tuple[str, str], Path] = {}
        for place in places:
            system, equals, path = place.partition("=")
            if not equals:
                self.folders.append(Path(place).expanduser())
                continue
            recipe_of_or_error(system)
            file = Path(path).expanduser()
            if any(file.glob("*/results.json")):
                self.systems.setdefault(system, file)
                continue
            file = file / "results.json" if file.is_dir() else file
            self.named.setdefault((system, _read_result(file, required=True).get("benchmark", "")), file)
        missing = [str(folder) for folder in self.folders if not folder.is_dir()]
        if missing:
            warn(f"no results are in {', '.join(missing)}: no such folder")

    def file(self, system: str, path: str) -> Path | None:
        """The file `path` of a system, in the first folder that has it."""
        folders = [self.systems[system]] if system in self.systems else []
        folders += [folder / system for folder in self.folders]
        return next((file for folder in folders if (file := folder / path).is_file()), None)

    def of(self, cell: Cell) -> Ours | None:
        """What we have for a cell, or None; of several benchmarks the best."""
        if cell.fact:
            value = FACTS[cell.fact](self, cell.system)
            return None if value is None else Ours(value)
        found = [ours for name in cell.benchmarks if (ours := self._score(cell, name))]
        return max(found, key=lambda ours: ours.value, default=None)

    def result(self, system: str, benchmark: str) -> dict[str, Any]:
        """results.json of a system on a benchmark, {} where there is none."""
        file = self.named.get((system, benchmark)) or self.file(system, f"{benchmark}/results.json")
        return _read_result(file) if file else {}

    def _score(self, cell: Cell, benchmark: str) -> Ours | None:
        result = self.result(cell.system, benchmark)
        score = result.get("scores", {}).get(cell.score)
        if score is None:
            return None
        low, high = result.get("intervals", {}).get(cell.score) or (None, None)
        percent = [None if value is None else 100 * value for value in (low, high)]
        return Ours(100 * score, percent[0], percent[1], result)

    def run(self, system: str, step: str) -> dict[str, Any] | None:
        """run.json of a step of the system, or of the data that it was trained on."""
        folders = (system, recipe_of(system).get("data"))
        file = next((file for folder in folders if folder and (file := self.file(folder, f"{step}/run.json"))), None)
        return json.loads(file.read_text()) | {"folder": file.parent} if file else None


def recipe_of_or_error(system: str) -> dict[str, Any]:
    """`recipe_of`; UserError if there is no such system."""
    try:
        return recipe_of(system)
    except KeyError:
        raise UserError(f"no system {system}: experiments/paper/systems.yaml names them") from None


def _read_result(file: Path, required: bool = False) -> dict[str, Any]:
    """results.json as benchmark.py writes it; {} where it can't be read, UserError if it is `required`."""
    try:
        result = json.loads(file.read_text())
        return result if isinstance(result["scores"], dict) else {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        if required:
            raise UserError(f"{file} is no results.json of benchmark.py: {error!r}") from None
        warn(f"{file} is left out: it is no results.json of benchmark.py")
        return {}


def seeds_of(results: Results, system: str) -> float | None:
    """Seeds that the data was generated from."""
    run = results.run(system, "concepts")
    return float(run["rows_in"]) if run else None


def rows_of(results: Results, system: str) -> float | None:
    """Examples in the data."""
    run = results.run(system, "instructions")
    return float(run["rows_out"]) if run else None


def pass_rate_of(results: Results, system: str) -> float | None:
    """Share of the examples whose response passed its tests, in percent."""
    run = results.run(system, "instructions")
    if not run:
        return None
    from selfalign.runner.source import open_source

    passed = open_source(str(run["folder"]), columns=("passed",)).rows["passed"]
    return 100 * sum(passed) / len(passed)


def generation_minutes_of(results: Results, system: str) -> float | None:
    """Minutes from seeds to executed responses."""
    runs = [results.run(system, step) for step in GENERATION_STEPS]
    return sum(run["seconds"] for run in runs if run) / 60 if all(runs) else None


def training_minutes_of(results: Results, system: str) -> float | None:
    """Minutes of fine-tuning, as experiments/recipe.sh notes them."""
    file = results.file(system, "training_seconds")
    return float(file.read_text()) / 60 if file else None


FACTS: dict[str, Callable[[Results, str], float | None]] = {
    "seeds": seeds_of,
    "rows": rows_of,
    "pass_rate": pass_rate_of,
    "generation_minutes": generation_minutes_of,
    "training_minutes": training_minutes_of,
}


def ours_of(table: Table, results: Results) -> list[dict[str, Ours]]:
    """What we have of each row, by column."""
    found = []
    for row in table.cells:
        ours = {column: value for column, cell in row.items() if not cell.of and (value := results.of(cell))}
        for column, cell in row.items():
            if cell.of and all(part in ours for part in cell.of):
                ours[column] = Ours(sum(ours[part].value for part in cell.of) / len(cell.of))
        found.append(ours)
    for column, rates in win_rates_of(table, results).items():
        for row, ours in zip(table.cells, found, strict=True):
            if (rate := rates.get(row[column].system)) is not None:
                ours[column] = Ours(100 * rate)
    return found


def win_rates_of(table: Table, results: Results) -> dict[str, dict[str, float]]:
    """Of each column of win rates: by system, how often it beats the others of the table that we have results of."""
    rates = {}
    for column, cell in table.cells[0].items():
        if cell.score == "win_rate":
            from selfalign.benchmarks.evalperf import win_rates

            found = {row[column].system: results.result(row[column].system, cell.benchmarks[0]) for row in table.cells}
            rates[column] = win_rates({system: result for system, result in found.items() if result})
    return rates


# Significance ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """Two systems on one column: the published difference, and ours with its 95 % interval and p-value (paired
    bootstrap over `problems`), in percent; None where something is missing."""

    ours: str
    theirs: str
    column: str
    published: float | None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    problems: int = 0


def comparisons(table: Table, found: list[dict[str, Ours]], seed: int) -> list[Comparison]:
    """Each pair that the paper compares, on each column that says which share of samples passed."""
    from selfalign.report.statistics import paired_bootstrap

    of_system: dict[str, list[tuple[Cell, Ours | None]]] = {}
    for row, ours in zip(table.cells, found, strict=True):
        for column, cell in row.items():
            of_system.setdefault(cell.system, []).append((cell, ours.get(column)))
    pairs = []
    for one, other in table.compare:
        for cell, ours in of_system[one]:
            for other_cell, theirs in of_system[other]:
                same = (cell.benchmarks, cell.score) == (other_cell.benchmarks, other_cell.score)
                if not same or not cell.benchmarks or cell.score != "pass@1":
                    continue
                published = _difference(cell.published, other_cell.published)
                pair = Comparison(one, other, cell.column, published)
                rates = [o.result.get("by_problem") or {} if o else {} for o in (ours, theirs)]
                if rates[0].keys() & rates[1].keys():
                    test = paired_bootstrap(*rates, seed=seed)
                    difference, low, high = (100 * test[name] for name in ("difference", "low", "high"))
                    problems = int(test["problems"])
                    pair = replace(pair, difference=difference, low=low, high=high, p=test["p"], problems=problems)
                pairs.append(pair)
    return pairs


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


# Printing -------------------------------------------------------------------------------------------------------------


def number(value: float, like: str = "") -> str:
    """`value` as the paper prints the cell `like`: 27700 as 27.7k, 24.1 as 24.1%, 150 as 2.5h."""
    unit = (match := NUMBER.fullmatch(like)) and match[2]
    if unit == "k":
        return f"{value / 1000:.1f}k" if value >= 1000 else f"{value:.0f}"
    if unit in ("h", "min"):
        return f"{value / 60:.1f}h" if value >= 60 else f"{value:.1f}min"
    return f"{value:.1f}{unit or ''}"


def our_text(cell: Cell, ours: Ours | None) -> str:
    """Our number as a cell of the table: score, interval, difference to the published one."""
    if ours is None:
        return ""
    like = cell.text or {"rows": "1k", "pass_rate": "1%"}.get(cell.fact or "", "")
    text = number(ours.value, like)
    if ours.low is not None and ours.high is not None:
        text += f" [{ours.low:.1f}, {ours.high:.1f}]"
    if cell.published is not None and not cell.fact:
        text += f" ({ours.value - cell.published:+.1f})"
    return text


def lines_of(table: Table, found: list[dict[str, Ours]]) -> list[list[str]]:
    """The table's rows as text, each with a row of ours below it if we have something of it."""
    lines = []
    unknown = "?" if any(cell.published is not None for row in table.cells for cell in row.values()) else ""
    for texts, cells, ours in zip(table.rows, table.cells, found, strict=True):
        lines.append([text or unknown for text in texts])
        if ours:
            first, *rest = table.header
            values = [our_text(cells[c], ours.get(c)) if c in cells else "" for c in rest]
            lines.append([our_text(cells[first], ours.get(first)) if first in cells else "— ours", *values])
    return lines


def comparison_lines(pairs: list[Comparison]) -> list[list[str]]:
    """The comparisons for which both samples are there, as text."""
    return [
        [
            pair.ours,
            pair.theirs,
            pair.column,
            "?" if pair.published is None else f"{pair.published:+.1f}",
            f"{pair.difference:+.1f} [{pair.low:.1f}, {pair.high:.1f}]",
            f"{pair.p:.2g}",
            str(pair.problems),
        ]
        for pair in pairs
        if pair.difference is not None and pair.p is not None
    ]


COMPARISON_HEADER = ["ours", "against", "column", "published difference", "ours [95 %]", "p", "problems"]


def missing_runs(table: Table, found: list[dict[str, Ours]]) -> list[str]:
    """The commands of the runs that the table lacks, in the order of its rows."""
    cells = [
        cell
        for row, ours in zip(table.cells, found, strict=True)
        for column, cell in row.items()
        if column not in ours and not cell.of and cell.text != NOT_STATED
    ]
    commands = dict.fromkeys(recipe_of(cell.system)["command"] for cell in cells)
    return [command for command in commands if command]


def markdown_table(header: list[str], lines: list[list[str]]) -> str:
    """Header and lines as a Markdown table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, ["---"] * len(header), *lines])


def markdown(table: Table, found: list[dict[str, Ours]], pairs: list[Comparison]) -> str:
    """The table, the comparisons and the commands that are missing, in Markdown."""
    parts = [f"## {heading(table)}", markdown_table(table.header, lines_of(table, found))]
    if tested := comparison_lines(pairs):
        parts.append(markdown_table(COMPARISON_HEADER, tested))
    if missing := missing_runs(table, found):
        parts.append("Not run yet:\n\n```bash\n" + "\n".join(missing) + "\n```")
    return "\n\n".join(parts) + "\n"


def latex(table: Table, found: list[dict[str, Ours]], pairs: list[Comparison]) -> str:
    """The same in LaTeX (it needs booktabs); commands stand in comments."""
    import pandas as pd

    def tabular(header: list[str], lines: list[list[str]], caption: str) -> str:
        frame = pd.DataFrame([[text.replace("—", "--") for text in line] for line in lines], columns=pd.Index(header))
        return frame.to_latex(index=False, escape=True, caption=caption.replace("%", r"\%"))

    parts = [tabular(table.header, lines_of(table, found), heading(table))]
    if tested := comparison_lines(pairs):
        parts.append(tabular(COMPARISON_HEADER, tested, f"{heading(table)}: paired bootstrap"))
    return "\n".join(parts + [f"% not run yet: {command}" for command in missing_runs(table, found)]) + "\n"


def csv_lines(table: Table, found: list[dict[str, Ours]]) -> list[list[Any]]:
    """A line for each number of the table, see CSV_COLUMNS; the command where we have none."""
    lines = []
    for row, ours in zip(table.cells, found, strict=True):
        for column, cell in row.items():
            value, low, high, _ = ours.get(column) or (None, None, None, {})
            command = None if column in ours else recipe_of(cell.system)["command"]
            difference = _difference(value, cell.published)
            values = [cell.published, value, low, high, difference]
            rounded = [None if v is None else round(v, 4) for v in values]
            lines.append([table.name, cell.row, column, cell.system, *rounded, command])
    return lines


def heading(table: Table) -> str:
    """ "Table 3: ..." """
    named = re.fullmatch(r"table(\d+)", table.name)
    return f"Table {int(named[1])}: {table.title}" if named else table.title


# Drawing --------------------------------------------------------------------------------------------------------------


def draw(table: Table, found: list[dict[str, Ours]], file: Path) -> None:
    """A panel for each column of numbers: the published number as a ring, ours as a dot with its interval."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    columns = list(table.cells[0])
    labels = [next(iter(row.values())).row for row in table.cells]
    size = (2.5 + 2.2 * len(columns), 1.2 + 0.28 * len(labels))
    figure, panels = plt.subplots(1, len(columns), sharey=True, squeeze=False, figsize=size, layout="constrained")
    for column, panel in zip(columns, panels[0], strict=True):
        for height, (row, ours) in enumerate(zip(table.cells, found, strict=True)):
            published = row[column].published
            if published is not None:
                panel.plot(published, height, "o", color="tab:gray", fillstyle="none")
            if column in ours:
                value, low, high, _ = ours[column]
                if low is not None and high is not None:
                    panel.plot([low, high], [height, height], "-", color="tab:blue", linewidth=1)
                panel.plot(value, height, "o", color="tab:blue", markersize=4)
        panel.set_title(column, fontsize="medium")
        panel.set_yticks(range(len(labels)), labels)
        panel.grid(axis="x", alpha=0.3)
        panel.margins(x=0.1)
    panels[0][0].invert_yaxis()
    figure.suptitle(f"{heading(table)}\nring: published, dot: ours with its 95 % interval", fontsize="medium")
    figure.savefig(file, dpi=120)
    plt.close(figure)


def main(options: Options) -> None:
    """Print each table with what there is of ours, and draw it."""
    import csv

    results = Results(options.results)
    tables = [load_table(name) for name in options.tables or table_names()]
    if options.figures:
        options.figures.mkdir(parents=True, exist_ok=True)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if options.format == "csv":
        writer.writerow(CSV_COLUMNS)
    for table in tables:
        found = ours_of(table, results)
        if options.format == "csv":
            writer.writerows(csv_lines(table, found))
        else:
            pairs = comparisons(table, found, options.seed)
            print({"markdown": markdown, "latex": latex}[options.format](table, found, pairs))
        if options.figures:
            draw(table, found, options.figures / f"{table.name}.png")


if __name__ == "__main__":
    run_script(main, Options, __doc__)
