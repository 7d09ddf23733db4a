"""Step 9: results -> tables. Every table of the paper, with our results below the published numbers.

Paper: Tables 1 to 13, and the scores of StarCoder2-15B-Instruct. The published numbers are data, in
`experiments/paper/`.

    python paper_tables.py                                  # all tables, with the results in ./runs/out
    python paper_tables.py ./runs/out --tables 1 8 --format csv
    python paper_tables.py ./runs/out octopack-cq-7b=./elsewhere/results.json --figures ./figures

RESULTS is a folder that the recipes in experiments/ have filled. RESULTS/SYSTEM/BENCHMARK holds the output of
benchmark.py, RESULTS/SYSTEM/instructions that of select.py, and RESULTS/SYSTEM/model that of finetune.py. The systems
are named in experiments/paper/systems.yaml.

Below each row, our results are shown if there are any: each score with its 95 % interval and its difference from the
published score; of a system that was trained several times (in RESULTS/SYSTEM/seed-0 and so on), the mean and each
score. Below each table, the systems that the paper compares are tested by a paired bootstrap over the problems, if both
have results, and the commands for missing runs follow. `--format csv` prints one line per number.
"""

from __future__ import annotations

import csv
import os
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

from selfalign.errors import UserError
from selfalign.options import Positional, argument, run_script
from selfalign.report.paper import NOT_STATED, Cell, PaperTable, format_number, load_table, system_of, table_names
from selfalign.report.results import OurValue, Results, our_values
from selfalign.statistics import paired_bootstrap

DEFAULT_RESULTS = "./runs/out"
COMPARISON_HEADER = ["ours", "against", "column", "published difference", "ours [95 %]", "p", "problems"]
CSV_COLUMNS = ("table", "row", "column", "system", "published", "ours", "low", "high", "difference", "command")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to print and draw."""

    results: Annotated[tuple[str, ...], Positional, argument(metavar="RESULTS")] = ()
    """Folders with results, or the results of one system as SYSTEM=results.json or SYSTEM=FOLDER. If a result is found
    twice, the first one counts. By default, ./runs/out if it is there."""

    tables: tuple[str, ...] = ()
    """Tables to print: 1 to 13, starcoder2_instruct, small, quickstart, self_align. By default, all of them."""

    format: Literal["markdown", "csv"] = "markdown"
    """Output format."""

    figures: Path | None = None
    """Folder in which to save a PNG chart of each table."""

    seed: int = 0
    """Seed of the bootstrap."""


# What is compared -----------------------------------------------------------------------------------------------------


def comparison_lines(table: PaperTable, found: list[dict[str, OurValue]], seed: int) -> list[list[str]]:
    """Lines below COMPARISON_HEADER: a paired bootstrap for each pair that the paper compares, on each column of pass@1
    for which we have problems that both were tested on."""
    of_system: dict[str, list[tuple[Cell, OurValue]]] = {}
    for row, ours in zip(table.cells, found, strict=True):
        for column, cell in row.items():
            if cell.benchmarks and cell.score == "pass@1" and column in ours:
                of_system.setdefault(cell.system, []).append((cell, ours[column]))
    lines = []
    for one, other in table.compare:
        for (cell, ours), (other_cell, theirs) in product(of_system.get(one, []), of_system.get(other, [])):
            rates = [value.result.get("by_problem") or {} for value in (ours, theirs)]
            if cell.benchmarks != other_cell.benchmarks or not rates[0].keys() & rates[1].keys():
                continue
            test = paired_bootstrap(*rates, seed=seed)
            published = difference(cell.published, other_cell.published)
            published_text = "?" if published is None else f"{published:+.1f}"
            our_test = "{:+.1f} [{:.1f}, {:.1f}]".format(*(100 * test[name] for name in ("difference", "low", "high")))
            lines.append(
                [one, other, cell.column, published_text, our_test, f"{test['p']:.2g}", f"{test['problems']:.0f}"]
            )
    return lines


def difference(one: float | None, other: float | None) -> float | None:
    """`one` less `other`, None if either is missing."""
    return None if one is None or other is None else one - other


def missing_runs(table: PaperTable, found: list[dict[str, OurValue]]) -> list[str]:
    """The commands of the runs that the table lacks, in the order of its rows."""
    missing = [
        cell
        for row, ours in zip(table.cells, found, strict=True)
        for column, cell in row.items()
        if column not in ours and not cell.mean_of and cell.text != NOT_STATED
    ]
    commands = dict.fromkeys(system_of(cell.system).command for cell in missing)
    return [command for command in commands if command]


# How it is printed ----------------------------------------------------------------------------------------------------


def our_text(cell: Cell, ours: OurValue | None) -> str:
    """Our value as the text of a cell: the value, its interval, and its difference from the published one."""
    if ours is None:
        return ""
    like = cell.text or {"rows": "1k", "pass_rate": "1%"}.get(cell.fact or "", "")
    text = format_number(ours.value, like)
    if ours.interval:
        text += " [{:.1f}, {:.1f}]".format(*ours.interval)
    if (trainings := ours.result.get("trainings", ())) and len(trainings) > 1:
        text += f" ({', '.join(f'{100 * score:.1f}' for score in trainings)})"
    if cell.published is not None and not cell.fact:
        text += f" ({ours.value - cell.published:+.1f})"
    return text


def table_lines(table: PaperTable, found: list[dict[str, OurValue]]) -> list[list[str]]:
    """The rows of the table as text, each followed by a row of ours if we have any value for it."""
    lines = []
    unknown = "?" if any(cell.published is not None for row in table.cells for cell in row.values()) else ""
    for texts, cells, ours in zip(table.rows, table.cells, found, strict=True):
        lines.append([text or unknown for text in texts])
        if ours:
            first, *rest = (our_text(cells[c], ours.get(c)) if c in cells else None for c in table.header)
            lines.append(["— ours" if first is None else first, *(text or "" for text in rest)])
    return lines


def markdown_table(header: list[str], lines: list[list[str]]) -> str:
    """A header and lines as a Markdown table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, ["---"] * len(header), *lines])


def markdown(table: PaperTable, found: list[dict[str, OurValue]], seed: int) -> str:
    """The table, the comparisons, and the commands of missing runs, in Markdown."""
    parts = [f"## {table.heading}", markdown_table(table.header, table_lines(table, found))]
    if compared := comparison_lines(table, found, seed):
        parts.append(markdown_table(COMPARISON_HEADER, compared))
    if missing := missing_runs(table, found):
        parts.append("Not run yet:\n\n```bash\n" + "\n".join(missing) + "\n```")
    return "\n\n".join(parts) + "\n"


def csv_lines(table: PaperTable, found: list[dict[str, OurValue]]) -> list[list[str | float | None]]:
    """A line of CSV_COLUMNS for each number of the table; `command` is empty where we have a value."""
    lines = []
    for row, ours in zip(table.cells, found, strict=True):
        for column, cell in row.items():
            value, interval, _ = ours.get(column) or (None, None, None)
            low, high = interval or (None, None)
            values = [cell.published, value, low, high, difference(value, cell.published)]
            rounded = [None if number is None else round(number, 4) for number in values]
            command = None if column in ours else system_of(cell.system).command
            lines.append([table.name, cell.row, column, cell.system, *rounded, command])
    return lines


def draw_table(table: PaperTable, found: list[dict[str, OurValue]], file: Path) -> None:
    """Draw a panel for each column of numbers into `file`: a ring for the published number, a dot for ours."""
    from matplotlib.figure import Figure

    columns = list(table.cells[0])
    labels = [next(iter(row.values())).row for row in table.cells]
    figure = Figure(figsize=(2.5 + 2.2 * len(columns), 1.2 + 0.28 * len(labels)), layout="constrained")
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for column, panel in zip(columns, panels, strict=True):
        for height, (row, ours) in enumerate(zip(table.cells, found, strict=True)):
            published = row[column].published
            if published is not None:
                panel.plot(published, height, "o", color="tab:gray", fillstyle="none")
            if column in ours:
                if interval := ours[column].interval:
                    panel.plot(interval, [height, height], "-", color="tab:blue", linewidth=1)
                panel.plot(ours[column].value, height, "o", color="tab:blue", markersize=4)
        panel.set_title(column, fontsize="medium")
        panel.set_yticks(range(len(labels)), labels)
        panel.grid(axis="x", alpha=0.3)
        panel.margins(x=0.1)
    panels[0].invert_yaxis()
    figure.suptitle(f"{table.heading}\nring: published, dot: ours with its 95 % interval", fontsize="medium")
    figure.savefig(file, dpi=120)


def main(options: Options) -> None:
    """Print each table with what we have for it, and draw it."""
    results = Results(options.results or filter(os.path.isdir, [DEFAULT_RESULTS]))
    tables = [load_table(name) for name in options.tables or table_names()]
    if options.figures:
        try:
            options.figures.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--figures {options.figures} can't be made: {error.strerror or error}") from error
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if options.format == "csv":
        writer.writerow(CSV_COLUMNS)
    for table in tables:
        found = our_values(table, results)
        if options.format == "csv":
            writer.writerows(csv_lines(table, found))
        else:
            print(markdown(table, found, options.seed))
        if options.figures and table.cells[0]:  # a table of words has nothing to draw
            draw_table(table, found, options.figures / f"{table.name}.png")


if __name__ == "__main__":
    run_script(main, Options, __doc__)
