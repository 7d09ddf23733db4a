"""The figures of a report: what each shows, and how it is drawn.

A figure is data: bars, or a histogram. The page shows these as HTML, which follows the reader's colors and the width of
the screen, and whose numbers can be read aloud; matplotlib makes a PNG of the same for the card.
"""

from __future__ import annotations

import io
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from selfalign.statistics import interval_over_counts, wilson_interval

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from matplotlib.figure import Figure

# The columns that figures are made of, with patterns of their Arrow types. Those that a dataset lacks, or that have
# another type, such as tests in a list, cost only their figures.
TEXT, NUMBER = "(large_)?string", r"float|double|u?int\d+"
TEXTS = rf"(large_)?list<\w+: {TEXT}>"
EXAMPLE_COLUMNS = {"instruction": TEXT, "response": TEXT, "tests": TEXT, "concepts": TEXTS, "pass_rate": NUMBER}
SAMPLE_COLUMNS = {"outcome": TEXT, "passed": "bool", "category": TEXT, "difficulty": f"{TEXT}|{NUMBER}"}
SAMPLE_COLUMNS |= {"concepts": TEXTS, "vacuous": "bool", "mutation_score": NUMBER, "task_id": TEXT}
MOST_FREQUENT = 20  # concepts
QUANTILE = 0.99  # histograms end here: one response of 100,000 words would hide the others

WIDTH, BAR_HEIGHT, MARGIN_HEIGHT, PLOT_HEIGHT = 5.2, 0.25, 0.75, 2.6  # inches
LABEL_LIMIT = 34  # characters
INK, PALE, ACCENT = "#2f6690", "#c9dbe8", "#d98032"
COLORS = {"ink": INK, "pale": PALE, "accent": ACCENT}  # on the page, classes of style.css
THEME = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,  # a concept may contain dollar signs
    "savefig.dpi": 200,
}


class Bars(NamedTuple):
    """Horizontal bars from top to bottom, labelled with their `numbers`, with paler bars `behind` them and `whiskers`
    from low to high. `colors` are names in COLORS."""

    title: str
    labels: Sequence[str]
    values: Sequence[float]
    numbers: Sequence[str]
    behind: Sequence[float] | None = None
    colors: Sequence[str] | None = None
    whiskers: Sequence[tuple[float, float]] | None = None

    @property
    def longest(self) -> float:
        """The value at the end of the longest bar or whisker."""
        ends = [*self.values, *(self.behind or ()), *(high for _, high in self.whiskers or ())]
        return max([*ends, 1e-9])


class Histogram(NamedTuple):
    """How many values lie between each two of `edges`, and their median."""

    title: str
    counts: Sequence[int]
    edges: Sequence[float]
    median: float
    x: str
    y: str


class Chart(NamedTuple):
    """A figure, the `name` of its file, and a sentence on what it shows, for readers who can't see it.

    No name may contain a word that `load_dataset` takes for a split: train, test, dev, valid, eval.
    """

    name: str
    caption: str
    plot: Bars | Histogram


def draw_charts(run: dict[str, Any], rows: pa.Table, samples: pa.Table | None) -> list[Chart]:
    """All figures that can be drawn from `rows`, those of the dataset with what they have of EXAMPLE_COLUMNS, and from
    `samples`, all samples with what they have of SAMPLE_COLUMNS."""
    charts = [funnel_chart(run["funnel"])] if run.get("funnel") else []
    if samples is not None:
        charts += sample_charts(samples)
    rules = run.get("dropped") or (run["counts"].items() if run.get("step") == "select" else ())
    if dropped := [(rule, n) for rule, n in rules if n]:
        charts.append(dropped_chart(dropped))
    texts = {"content": "seeds", "instruction": "instructions", "response": "responses", "tests": "tests"}
    lengths = {column: words_of(rows[column]) for column in texts if column in rows.column_names}
    charts += [length_chart(words, texts[column]) for column, words in lengths.items() if len(words)]
    if "pass_rate" in rows.column_names and rows["pass_rate"].null_count < len(rows):
        charts.append(difficulty_chart(rows["pass_rate"]))
    if "concepts" in rows.column_names and rows["concepts"].null_count < len(rows):
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
    plot = Bars("The funnel: rows in → rows out", steps, rows_out, numbers, behind=rows_in)
    return Chart("funnel", "Rows into and out of each step of the pipeline.", plot)


def outcomes_chart(executions: pa.Table) -> Chart:
    outcomes, counts = value_counts(executions["outcome"])
    colors = ["ink" if outcome == "passed" else "pale" for outcome in outcomes]
    names = [outcome.replace("_", " ") for outcome in outcomes]
    plot = Bars(f"How {sum(counts):,} samples ended", names, counts, _numbers(counts), colors=colors)
    return Chart("outcomes", "How many samples passed their tests, and how the others ended.", plot)


def pass_rate_chart(executions: pa.Table, column: str, label: str) -> Chart:
    """The share of samples that passed, for each value of `column`, with its 95 % interval over tasks if their ids are
    there, and otherwise over samples."""
    with_tasks = "task_id" in executions.column_names and not executions["task_id"].null_count
    table = executions.select([column, "passed", *(["task_id"] if with_tasks else [])]).drop_null()
    of_value: dict[Any, list[tuple[int, int]]] = defaultdict(list)
    for value, passed, total in _passed_by(table, [column, "task_id"] if with_tasks else [column]):
        of_value[value].append((passed, total))
    values = sorted(of_value, key=lambda value: value if column == "concepts" else -sum(n for _, n in of_value[value]))
    passed, total = ([sum(pair[i] for pair in of_value[value]) for value in values] for i in (0, 1))
    bounds = [interval_over_counts(*zip(*of_value[value], strict=True)) for value in values] if with_tasks else None
    overall = _compute().mean(table["passed"]).as_py() or 0
    caption = f"Share of samples that passed their own tests, by {label}, with 95 % intervals; {overall:.1%} of all."
    plot = rates_of(f"Pass rate by {label}", [str(value) for value in values], passed, total, bounds)
    return Chart(f"passed_by_{column}", caption, plot)


def _passed_by(table: pa.Table, columns: list[str]) -> Iterable[tuple[Any, int, int]]:
    """For each combination of values of `columns`: that of the first, how many samples passed, and of how many."""
    groups = table.group_by(columns).aggregate([("passed", "sum"), ("passed", "count")])
    return zip(*(groups[name].to_pylist() for name in (columns[0], "passed_sum", "passed_count")), strict=True)


def rates_of(
    title: str,
    labels: Sequence[str],
    passed: Sequence[int],
    total: Sequence[int],
    bounds: Sequence[Sequence[float] | None] | None = None,
) -> Bars:
    """Bars of rates in percent, with their 95 % intervals: `bounds`, or where there are none Wilson's, of samples."""
    rates = [100 * p / n for p, n in zip(passed, total, strict=True)]
    numbers = [f"{rate:.0f} % of {n:,}" for rate, n in zip(rates, total, strict=True)]
    found = [
        known or wilson_interval(p, n)
        for known, p, n in zip(bounds or [None] * len(labels), passed, total, strict=True)
    ]
    return Bars(title, labels, rates, numbers, whiskers=[(100 * low, 100 * high) for low, high in found])


def dropped_chart(dropped: list[tuple[str, int]]) -> Chart:
    """How many samples each rule of the selection left out, duplicates in another color."""
    names = [rule.replace("_", " ") for rule, _ in dropped]
    counts = [rows for _, rows in dropped]
    duplicates = ["duplicate" in name or name.startswith(("same ", "near ")) for name in names]
    title = f"Left out by rule (duplicates: {sum(n for n, d in zip(counts, duplicates, strict=True) if d):,})"
    colors = ["accent" if duplicate else "ink" for duplicate in duplicates]
    plot = Bars(title, names, counts, _numbers(counts), colors=colors)
    return Chart("left_out", "How many samples each rule of the step left out; duplicates in orange.", plot)


def words_of(texts: pa.ChunkedArray) -> np.ndarray:
    """How many words each text has."""
    return _compute().count_substring_regex(texts.drop_null(), r"\S+").to_numpy()


def length_chart(words: np.ndarray, label: str) -> Chart:
    plot = histogram(f"Words in {label}", words, "words", "rows")
    return Chart(f"words_of_{label}", f"How many words the {label} of the dataset have.", plot)


def concepts_chart(rows: pa.Table) -> Chart:
    """The most frequent concepts, regardless of case."""
    concepts = _compute().utf8_trim_whitespace(_compute().list_flatten(rows["concepts"]))
    names, counts = value_counts(_compute().utf8_lower(concepts))
    title = f"Most frequent of {len(names):,} distinct concepts"
    caption = f"The most frequent concepts of {len(rows):,} rows, which have {len(names):,} distinct ones."
    names, counts = names[:MOST_FREQUENT], counts[:MOST_FREQUENT]
    return Chart("concepts", caption, Bars(title, names, counts, _numbers(counts)))


def strength_chart(executions: pa.Table) -> Chart:
    """Mutation scores: the share of small changes to a response that its tests notice."""
    scores = executions["mutation_score"].drop_null().to_numpy()
    vacuous = sum(executions["vacuous"].drop_null().to_pylist())
    title = f"Mutation scores ({vacuous:,} vacuous)"
    caption = (
        f"Mutation scores of {len(scores):,} passing samples, on average {scores.mean():.2f}; "
        f"the tests of {vacuous:,} pass whatever the response does."
    )
    plot = histogram(title, scores, "mutation score", "passing samples", bins=[i / 20 for i in range(21)])
    return Chart("mutation_scores", caption, plot)


def difficulty_chart(rates: pa.ChunkedArray) -> Chart:
    """Pass rates of the tasks that the examples come from: how difficult these were for the model."""
    values = rates.drop_null().cast("float64").to_numpy()
    always = int((values == 1).sum())
    caption = (
        f"Pass rates of the tasks of {len(values):,} examples, on average {values.mean():.2f}; "
        f"{always:,} of these tasks were always solved."
    )
    bins = [i / 10 for i in range(11)]
    plot = histogram("Pass rates of the examples' tasks", values, "pass rate", "examples", bins=bins)
    return Chart("pass_rates_of_tasks", caption, plot)


def histogram(title: str, values: np.ndarray, x: str, y: str, bins: int | Sequence[float] = 30) -> Histogram:
    """How often values occur, up to the quantile `QUANTILE` unless `bins` gives the edges."""
    import numpy as np

    median = float(np.median(values))
    if isinstance(bins, int):
        end = max(1, int(np.quantile(values, QUANTILE)))
        bins = np.linspace(0, end, min(bins, end) + 1).tolist()
    counts, edges = np.histogram(values, bins)
    return Histogram(f"{title}: median {median:.3g}", counts.tolist(), edges.tolist(), median, x, y)


def figure_of(plot: Bars | Histogram) -> Figure:
    """The figure by matplotlib."""
    return _draw_bars(plot) if isinstance(plot, Bars) else _draw_histogram(plot)


def _draw_bars(plot: Bars) -> Figure:
    from matplotlib.figure import Figure

    count, colors = len(plot.labels), [COLORS[name] for name in plot.colors or ["ink"] * len(plot.labels)]
    figure = Figure(figsize=(WIDTH, MARGIN_HEIGHT + BAR_HEIGHT * count), layout="constrained")
    axes = figure.add_subplot(title=plot.title)
    places = range(count)
    if plot.behind:
        axes.barh(places, plot.behind, color=PALE, height=0.75)
    axes.barh(places, plot.values, color=colors, height=0.75)
    ends = [max(ends) for ends in zip(plot.values, plot.behind or plot.values, strict=True)]
    if plot.whiskers:
        low, high = zip(*plot.whiskers, strict=True)
        axes.hlines(places, low, high, color=ACCENT, linewidth=1.5)
        ends = [max(ends) for ends in zip(ends, high, strict=True)]
    for place, end, number in zip(places, ends, plot.numbers, strict=True):
        axes.annotate(number, (end, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    short = [label if len(label) <= LABEL_LIMIT else label[: LABEL_LIMIT - 1] + "…" for label in plot.labels]
    axes.set_yticks(places, short)
    axes.tick_params(left=False)
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_xlim(0, 1.35 * plot.longest)  # leaves room for the numbers
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    return figure


def _draw_histogram(plot: Histogram) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(WIDTH, PLOT_HEIGHT), layout="constrained")
    axes = figure.add_subplot(title=plot.title, xlabel=plot.x, ylabel=plot.y)
    axes.stairs(plot.counts, plot.edges, fill=True, color=INK)
    axes.axvline(plot.median, color=ACCENT)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _numbers(values: Iterable[float]) -> list[str]:
    return [f"{value:,}" for value in values]


def value_counts(column: pa.ChunkedArray) -> tuple[list[str], list[int]]:
    """The values of a column and how often each occurs, the most frequent first."""
    pairs = [(pair["values"], pair["counts"]) for pair in column.drop_null().value_counts().to_pylist()]
    pairs.sort(key=lambda pair: (-pair[1], pair[0]))
    return [name for name, _ in pairs], [count for _, count in pairs]


def _compute() -> Any:
    """pyarrow.compute, which makes its functions when it is imported, so that type checkers don't know them."""
    import pyarrow.compute

    return pyarrow.compute


def picture_of(figure: Figure) -> bytes:
    """The figure as a PNG file, without a date in it."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # matplotlib's own font has no Chinese: such characters become boxes
        figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
