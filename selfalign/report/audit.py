"""What people look at of an audit: the figures of each rule as audit.json, and a table and a figure on the card."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from selfalign.data.audit import Audit, Figures
from selfalign.report.charts import ACCENT, INK, THEME, picture_of
from selfalign.runner import card as cards
from selfalign.runner.output import open_output

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BEGIN, END = "<!-- selfalign audit: begin -->", "<!-- selfalign audit: end -->"
FIGURE = "figures/precision.png"
NEIGHBOURS = 3.0  # points of yield and precision between rules that are named in the figure


def write_audit(output: str, figures: Figures, pins: Mapping[str, Any], *, token: str | None = None) -> None:
    """Add audit.json, the figure, and a section of the card to the dataset `output` that audit.py wrote."""
    import matplotlib

    with matplotlib.rc_context(THEME):
        picture = picture_of(precision_figure(figures.rules))
    section = (
        "\n## Which samples are right\n\n"
        f"{figures.tasks} tasks. In percent, with 95 % intervals by bootstrap over tasks. Precision: of the tasks with "
        "a kept sample, the share where it is right. Recall: of the tasks that some sample solves, the share where the "
        "kept one does. Yield: the share of tasks with a kept sample.\n\n"
        f"{figures.as_markdown()}\n\n![Precision and yield of each rule]({FIGURE})\n"
    )
    with open_output(output, token=token) as written:
        written.commit(
            lambda read, parts: {
                FIGURE: picture,
                "audit.json": json.dumps(record_of(figures, pins), indent=2, allow_nan=False),
                "README.md": cards.marked(read("README.md") or "", BEGIN, END, section),
            },
            final=True,
        )


def record_of(figures: Figures, pins: Mapping[str, Any]) -> dict[str, Any]:
    """What audit.json holds; null where there is no figure, because a rule keeps nothing, for example."""
    record = {
        "tasks": figures.tasks,
        "problems": pins,
        "rules": {name: dataclasses.asdict(each) for name, each in figures.rules.items()},
        "shares": figures.shares,
        **({"halves": [dataclasses.asdict(half) for half in figures.halves]} if figures.halves else {}),
        "outcomes": [
            {"own": own, "hidden": hidden, "samples": samples} for (own, hidden), samples in figures.outcomes.items()
        ],
    }
    return json.loads(json.dumps(record), parse_constant=lambda _: None)  # JSON has no NaN


def precision_figure(audits: Mapping[str, Audit]) -> Figure:
    """Precision of each rule over its yield, in percent, with the 95 % interval of the precision.

    Rules of consensus have a color of their own, and are rings where assertions count. Where rules lie so close
    together that their names would cover each other, some have none; the table has them all.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    points = {}
    for name, each in audits.items():
        precision, coverage = each.precision, 100 * each.coverage.value
        if precision.value != precision.value:
            continue
        color = ACCENT if "consensus" in name else INK
        axes.plot([coverage] * 2, [100 * precision.low, 100 * precision.high], color=color, linewidth=1, alpha=0.5)
        inside = "white" if "with assertions" in name else color
        axes.plot(coverage, 100 * precision.value, "o", color=color, markerfacecolor=inside, markersize=5)
        points[name] = coverage, 100 * precision.value
    axes.set(xlabel="yield: tasks with a kept sample (%)", ylabel="precision: of these, the kept one is right (%)")
    axes.set_title("What each way to select keeps")
    axes.margins(x=0.12)
    figure.draw_without_rendering()  # from here on, what covers what is known
    # The paper's rule and chance first, then what says something else than its neighbours: the shortest names.
    taken: list[Any] = []
    named: list[tuple[float, float]] = []
    for name in sorted(points, key=lambda name: (name not in ("passes", "random"), len(name))):
        if any(math.dist(points[name], other) < NEIGHBOURS for other in named):
            continue
        for x, y in ((5, 3), (-5, 3), (5, -8), (-5, -8)):
            side = "left" if x > 0 else "right"
            label = axes.annotate(name, points[name], (x, y), textcoords="offset points", fontsize=7, ha=side)
            box = label.get_window_extent()
            is_inside = axes.bbox.containsx(box.x0) and figure.bbox.containsx(box.x1)
            if is_inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                named.append(points[name])
                break
            label.remove()
    return figure
