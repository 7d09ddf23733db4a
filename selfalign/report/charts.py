"""The figures of a report: what each shows, and how it is drawn.

matplotlib makes the same figure as a PNG for the card and as an SVG for the page, without a browser or a server. A page
holds pictures of some 10 kB each instead of a plotting library of several MB.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from matplotlib.figure import Figure

# The columns that figures are made of; those that a dataset lacks cost only their figures.
EXAMPLE_COLUMNS = ("instruction", "response", "tests", "concepts")
SAMPLE_COLUMNS = ("outcome", "passed", "category", "difficulty", "concepts", "vacuous", "mutation_score")
MOST_FREQUENT = 20  # concepts
QUANTILE = 0.99  # histograms end here: one response of 100,000 words would hide the others
CONFIDENCE = 1.96  # standard deviations: 95 %

WIDTH, BAR_HEIGHT, MARGIN_HEIGHT, PLOT_HEIGHT = 5.2, 0.25, 0.75, 2.6  # inches
LABEL_LIMIT = 34  # characters
INK, PALE, ACCENT = "#2f6690", "#c9dbe8", "#d98032"
THEME = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # a concept may contain dollar signs
    "svg.hashsalt": "selfalign",  # the same figure gives the same file
    "savefig.dpi": 200,
}


class Chart(NamedTuple):
    """A figure, the `name` of its file, and a sentence on what it shows, for readers who can't see it.

    No name may contain a word that `load_dataset` takes for a split: train, test, dev, valid, eval.
    """

    name: str
    caption: str
    figure: Figure


def draw_charts(run: dict[str, Any], rows: pa.Table, samples: pa.Table | None) -> list[Chart]:
    """All figures that can be drawn from `rows`, the accepted examples with those of EXAMPLE_COLUMNS that they have,
    and from `samples`, all samples with those of SAMPLE_COLUMNS."""
    charts = [funnel_chart(run["funnel"])]
    if samples is not None:
        charts += sample_charts(samples)
    if dropped := [(rule, n) for rule, n in run.get("dropped") or run["counts"].items() if n]:
        charts.append(dropped_chart(dropped))
    texts = {"instruction": "instructions", "response": "responses", "tests": "tests"}
    charts += [length_chart(rows, column, label) for column, label in texts.items() if column in rows.column_names]
    if "concepts" in rows.column_names:
        charts.append(concepts_chart(rows))
    return charts


def sample_charts(samples: pa.Table) -> Iterable[Chart]:
    """The figures of all samples, whether they passed or not."""
    there = set(samples.column_names)
    if "outcome" in there:
        yield outcomes_chart(samples)
    if "concepts" in there:
        lengths = _compute().list_value_length(samples["concepts"])
        samples = samples.set_column(samples.column_names.index("concepts"), "concepts", lengths)
    labels = {"category": "category", "difficulty": "difficulty", "concepts": "number of concepts"}
    for column, label in labels.items():
        if {column, "passed"} <= there and samples[column].null_count < len(samples):
            yield pass_rate_chart(samples, column, label)
    if {"vacuous", "mutation_score"} <= there and samples["mutation_score"].null_count < len(samples):
        yield strength_chart(samples)


def funnel_chart(funnel: list[dict[str, Any]]) -> Chart:
    steps, rows_in, rows_out = ([entry[name] for entry in funnel] for name in ("step", "rows_in", "rows_out"))
    numbers = [f"{before:,} → {after:,}" for before, after in zip(rows_in, rows_out, strict=True)]
    figure = bars("The funnel: rows in → rows out", steps, rows_out, numbers, behind=rows_in)
    return Chart("funnel", "Rows into and out of each step of the pipeline.", figure)


def outcomes_chart(executions: pa.Table) -> Chart:
    outcomes, counts = value_counts(executions["outcome"])
    colors = [INK if outcome == "passed" else PALE for outcome in outcomes]
    names = [outcome.replace("_", " ") for outcome in outcomes]
    figure = bars(f"How {sum(counts):,} samples ended", names, counts, colors=colors)
    return Chart("outcomes", "How many samples passed their own tests, and how the others ended.", figure)


def pass_rate_chart(executions: pa.Table, column: str, label: str) -> Chart:
    """The share of samples that passed, for each value of `column`, with its 95 % interval."""
    table = executions.select([column, "passed"]).drop_null()
    groups = table.group_by(column).aggregate([("passed", "sum"), ("passed", "count")]).to_pylist()
    groups.sort(key=lambda group: group[column] if column == "concepts" else -group["passed_count"])
    passed, total = ([group[f"passed_{what}"] for group in groups] for what in ("sum", "count"))
    rates = [100 * p / n for p, n in zip(passed, total, strict=True)]
    names = [str(group[column]) for group in groups]
    numbers = [f"{rate:.0f} % of {n:,}" for rate, n in zip(rates, total, strict=True)]
    intervals = [wilson_interval(p, n) for p, n in zip(passed, total, strict=True)]
    figure = bars(f"Pass rate by {label}", names, rates, numbers, whiskers=intervals)
    overall = _compute().mean(table["passed"]).as_py() or 0
    caption = f"Share of samples that passed their own tests, by {label}, with 95 % intervals; {overall:.1%} of all."
    return Chart(f"passed_by_{column}", caption, figure)


def dropped_chart(dropped: list[tuple[str, int]]) -> Chart:
    """How many samples each rule of the selection left out, duplicates in another color."""
    names = [rule.replace("_", " ") for rule, _ in dropped]
    counts = [rows for _, rows in dropped]
    duplicates = ["duplicate" in name or name.startswith(("same ", "near ")) for name in names]
    title = f"Left out by rule (duplicates: {sum(n for n, d in zip(counts, duplicates, strict=True) if d):,})"
    figure = bars(title, names, counts, colors=[ACCENT if duplicate else INK for duplicate in duplicates])
    return Chart("left_out", "How many samples each rule of the selection left out; duplicates in orange.", figure)


def length_chart(rows: pa.Table, column: str, label: str) -> Chart:
    words = _compute().count_substring_regex(rows[column].drop_null(), r"\S+").to_numpy()
    figure = histogram(f"Words in {label}", words, "words", "examples")
    return Chart(f"words_of_{label}", f"How many words the {label} of the accepted examples have.", figure)


def concepts_chart(rows: pa.Table) -> Chart:
    """The most frequent concepts, regardless of case."""
    concepts = _compute().utf8_trim_whitespace(_compute().list_flatten(rows["concepts"]))
    names, counts = value_counts(_compute().utf8_lower(concepts))
    title = f"Most frequent of {len(names):,} distinct concepts"
    caption = f"The most frequent concepts of {len(rows):,} examples, which have {len(names):,} distinct ones."
    return Chart("concepts", caption, bars(title, names[:MOST_FREQUENT], counts[:MOST_FREQUENT]))


def strength_chart(executions: pa.Table) -> Chart:
    """Mutation scores: the share of small changes to a response that its tests notice."""
    scores = executions["mutation_score"].drop_null().to_numpy()
    vacuous = sum(executions["vacuous"].drop_null().to_pylist())
    title = f"Mutation scores ({vacuous:,} vacuous)"
    caption = (
        f"Mutation scores of {len(scores):,} passing samples, on average {scores.mean():.2f}; "
        f"the tests of {vacuous:,} pass whatever the response does."
    )
    figure = histogram(title, scores, "mutation score", "passing samples", bins=[i / 20 for i in range(21)])
    return Chart("mutation_scores", caption, figure)


def bars(
    title: str,
    labels: Sequence[str],
    values: Sequence[float],
    numbers: Sequence[str] | None = None,
    *,
    behind: Sequence[float] | None = None,
    colors: Sequence[str] | str = INK,
    whiskers: Sequence[tuple[float, float]] | None = None,
) -> Figure:
    """Horizontal bars from top to bottom, labelled with their `numbers`, with paler bars `behind` them and `whiskers`
    from low to high."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, MARGIN_HEIGHT + BAR_HEIGHT * len(labels)), layout="constrained")
    axes = figure.add_subplot(title=title)
    places = range(len(labels))
    if behind:
        axes.barh(places, behind, color=PALE, height=0.75)
    axes.barh(places, values, color=colors, height=0.75)
    ends = [max(ends) for ends in zip(values, behind or values, strict=True)]
    if whiskers:
        low, high = zip(*whiskers, strict=True)
        axes.hlines(places, low, high, color=ACCENT, linewidth=1.5)
        ends = [max(ends) for ends in zip(ends, high, strict=True)]
    for place, end, number in zip(places, ends, numbers or [f"{value:,}" for value in values], strict=True):
        axes.annotate(number, (end, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    short = [label if len(label) <= LABEL_LIMIT else label[: LABEL_LIMIT - 1] + "…" for label in labels]
    axes.set_yticks(places, short)
    axes.tick_params(left=False)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlim(0, 1.35 * max([*ends, 1e-9]))  # leaves room for the numbers
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    return figure


def histogram(title: str, values: np.ndarray, x: str, y: str, bins: int | Sequence[float] = 30) -> Figure:
    """How often values occur, up to the quantile `QUANTILE` unless `bins` gives the edges."""
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(WIDTH, PLOT_HEIGHT), layout="constrained")
    middle = float(np.median(values))
    axes = figure.add_subplot(title=f"{title}: median {middle:.3g}", xlabel=x, ylabel=y)
    if isinstance(bins, int):
        end = max(1, int(np.quantile(values, QUANTILE)))
        bins = np.linspace(0, end, min(bins, end) + 1).tolist()
    axes.hist(values, bins=bins, color=INK, edgecolor="white", linewidth=0.5)
    axes.axvline(middle, color=ACCENT)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def wilson_interval(passed: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a rate, in percent, by Wilson's formula (1927), which also holds for few samples."""
    z2 = CONFIDENCE**2
    middle = (passed + z2 / 2) / (total + z2)
    spread = CONFIDENCE / (total + z2) * (passed * (total - passed) / total + z2 / 4) ** 0.5
    return 100 * (middle - spread), 100 * (middle + spread)


def value_counts(column: pa.ChunkedArray) -> tuple[list[str], list[int]]:
    """The values of a column and how often each occurs, the most frequent first."""
    pairs = [(pair["values"], pair["counts"]) for pair in column.drop_null().value_counts().to_pylist()]
    pairs.sort(key=lambda pair: (-pair[1], pair[0]))
    return [name for name, _ in pairs], [count for _, count in pairs]


def _compute() -> Any:
    """pyarrow.compute, which makes its functions when it is imported, so that type checkers don't know them."""
    import pyarrow.compute

    return pyarrow.compute


def picture_of(figure: Figure, form: str) -> bytes:
    """The figure as a file of the format `form`, png or svg, without a date in it."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # matplotlib's own font has no Chinese: such characters become boxes
        figure.savefig(file, format=form, metadata={"Date": None} if form == "svg" else {"Software": None})
    return file.getvalue()
