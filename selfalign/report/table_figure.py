"""A table of the paper as a figure: the published numbers, and ours with their intervals."""

from __future__ import annotations

from pathlib import Path

from selfalign.report.paper import PaperTable
from selfalign.report.results import OurValue


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
