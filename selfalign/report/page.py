"""A report to look at: where the examples came from, what was dropped and why, and the examples themselves.

    python -m selfalign.report ./instructions [./executions]

select.py writes it at its end. Into the dataset go

    report.html       one file without anything from outside: figures, tables, and a browser of examples
    figures/*.png     the figures, which the card shows

Figures are matplotlib's: it draws the same figure as PNG for the card and as SVG for the page without a browser or a
server, and a page holds pictures of some ten kB each instead of a plotting library of some MB.

What a model wrote is not trusted: the page is a Jinja template that escapes all of it, and its Content-Security-Policy
lets the browser run our script alone and fetch nothing.
"""

from __future__ import annotations

import base64
import hashlib
import io
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import tyro

from selfalign.errors import UserError, warn
from selfalign.ids import content_id
from selfalign.runner import card as cards
from selfalign.runner.output import open_output
from selfalign.runner.source import Source, open_source

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure

BEGIN, END = "<!-- selfalign report: begin -->", "<!-- selfalign report: end -->"
EXAMPLES = 200  # in the browser, of those accepted and of those rejected
TEXT_LIMIT = 6000  # characters of a text in the browser; what is longer is cut, and says so
MOST_FREQUENT = 20  # concepts
QUANTILE = 0.99  # histograms end here: one response of 100,000 words would hide the others
SHOWN = (
    *("id", "instruction", "response", "tests", "category", "difficulty", "concepts"),
    *("outcome", "detail", "mutation_score", "kept_id", "contamination"),
)
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
    "text.parse_math": False,  # a concept may hold dollar signs
    "svg.hashsalt": "selfalign",  # the same figure gives the same file
    "savefig.dpi": 200,
}


# ---- figures ----


class Chart(NamedTuple):
    """A figure, the `name` of its file, and what it shows in a sentence, for who can't see it.

    No name may hold a word that `load_dataset` takes for a split: train, test, dev, valid, eval.
    """

    name: str
    caption: str
    figure: Figure


def funnel_chart(funnel: list[dict[str, Any]]) -> Chart:
    """Rows in and out of each step."""
    steps = [entry["step"] for entry in funnel]
    numbers = [f"{entry['rows_in']:,} → {entry['rows_out']:,}" for entry in funnel]
    figure = bars(
        "The funnel: rows in → rows out",
        steps,
        [entry["rows_out"] for entry in funnel],
        numbers,
        behind=[entry["rows_in"] for entry in funnel],
    )
    return Chart("funnel", "Rows in and out of each step of the pipeline.", figure)


def outcomes_chart(executions: pa.Table) -> Chart:
    """How the samples' programs ended."""
    names, counts = counted(executions["outcome"])
    colors = [INK if name == "passed" else PALE for name in names]
    figure = bars(
        f"How {sum(counts):,} samples ended", [name.replace("_", " ") for name in names], counts, colors=colors
    )
    return Chart("outcomes", "How many samples passed their own tests, and how the others ended.", figure)


def pass_rate_chart(executions: pa.Table, column: str, label: str) -> Chart:
    """The share of samples that passed, for each value of `column`, with the interval in which 95 % of such lie."""
    table = executions.select([column, "passed"]).drop_null()
    groups = table.group_by(column).aggregate([("passed", "sum"), ("passed", "count")]).to_pylist()
    groups.sort(key=lambda group: group[column] if column == "concepts" else -group["passed_count"])
    passed, total = ([group[f"passed_{what}"] for group in groups] for what in ("sum", "count"))
    rates = [100 * p / n for p, n in zip(passed, total, strict=True)]
    figure = bars(
        f"Pass rate by {label}",
        [str(group[column]) for group in groups],
        rates,
        [f"{rate:.0f} % of {n:,}" for rate, n in zip(rates, total, strict=True)],
        whiskers=[wilson_interval(p, n) for p, n in zip(passed, total, strict=True)],
    )
    overall = compute().mean(table["passed"]).as_py() or 0
    caption = f"Share of samples that passed their own tests, by {label}; {overall:.1%} of all. Whiskers: 95 %."
    return Chart(f"passed_by_{column}", caption, figure)


def dropped_chart(dropped: list[tuple[str, int]]) -> Chart:
    """What each rule of the selection left out; duplicates stand out."""
    names = [rule.replace("_", " ") for rule, _ in dropped]
    counts = [rows for _, rows in dropped]
    duplicates = ["duplicate" in name or name.startswith(("same ", "near ")) for name in names]
    figure = bars(
        f"Left out by rule (duplicates: {sum(n for n, d in zip(counts, duplicates, strict=True) if d):,})",
        names,
        counts,
        colors=[ACCENT if duplicate else INK for duplicate in duplicates],
    )
    return Chart("left_out", "Samples that each rule of the selection left out; duplicates in orange.", figure)


def length_chart(rows: pa.Table, column: str, label: str) -> Chart:
    """How many words there are in the texts of `column`."""
    words = compute().count_substring_regex(rows[column].drop_null(), r"\S+").to_numpy()
    return Chart(
        f"words_of_{label}",
        f"Words in the {label} of the accepted examples.",
        histogram(f"Words in {label}", words, "words", "examples"),
    )


def concepts_chart(rows: pa.Table) -> Chart:
    """The concepts that most examples have, without regard to case."""
    names, counts = counted(
        compute().utf8_lower(compute().utf8_trim_whitespace(compute().list_flatten(rows["concepts"])))
    )
    title = f"Most frequent of {len(names):,} distinct concepts"
    caption = f"The most frequent concepts of {len(rows):,} examples, which have {len(names):,} distinct ones."
    return Chart("concepts", caption, bars(title, names[:MOST_FREQUENT], counts[:MOST_FREQUENT]))


def strength_chart(executions: pa.Table) -> Chart:
    """Of small changes to a response, the share that its tests notice."""
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
    """Horizontal bars from top to bottom with their `numbers`; paler ones `behind`; `whiskers` from low to high."""
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
    axes.set_yticks(
        places, [label if len(label) <= LABEL_LIMIT else label[: LABEL_LIMIT - 1] + "…" for label in labels]
    )
    axes.tick_params(left=False)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlim(0, 1.35 * max([*ends, 1e-9]))  # room for the numbers
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    return figure


def histogram(title: str, values: Any, x: str, y: str, bins: Any = 30) -> Figure:
    """How often which values occur, up to the quantile `QUANTILE` unless the edges of `bins` are given."""
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(WIDTH, PLOT_HEIGHT), layout="constrained")
    middle = float(np.median(values))
    axes = figure.add_subplot(title=f"{title}: median {middle:.3g}", xlabel=x, ylabel=y)
    if isinstance(bins, int):
        end = max(1, int(np.quantile(values, QUANTILE)))
        bins = np.linspace(0, end, min(bins, end) + 1)
    axes.hist(values, bins=bins, color=INK, edgecolor="white", linewidth=0.5)
    axes.axvline(middle, color=ACCENT)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def wilson_interval(passed: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a rate, in per cent (E. B. Wilson, 1927), which also holds for few samples."""
    z2 = CONFIDENCE**2
    middle = (passed + z2 / 2) / (total + z2)
    spread = CONFIDENCE / (total + z2) * (passed * (total - passed) / total + z2 / 4) ** 0.5
    return 100 * (middle - spread), 100 * (middle + spread)


def counted(column: Any) -> tuple[list[str], list[int]]:
    """The values of an Arrow column and how often each occurs, the most frequent first."""
    pairs = [(pair["values"], pair["counts"]) for pair in column.drop_null().value_counts().to_pylist()]
    pairs.sort(key=lambda pair: (-pair[1], pair[0]))
    return [name for name, _ in pairs], [count for _, count in pairs]


def charts(run: dict[str, Any], instructions: Source, executions: Source | None) -> list[Chart]:
    """All figures that the columns which are there allow."""
    rows = columns_of(instructions, "instruction", "response", "tests", "concepts")
    found = [funnel_chart(run["funnel"])]
    if executions:
        samples = columns_of(
            executions, "outcome", "passed", "category", "difficulty", "concepts", "vacuous", "mutation_score"
        )
        found += execution_charts(samples)
    if dropped := [(rule, n) for rule, n in run.get("dropped") or run["counts"].items() if n]:
        found.append(dropped_chart(dropped))
    texts = (("instruction", "instructions"), ("response", "responses"), ("tests", "tests"))
    found += [length_chart(rows, column, label) for column, label in texts if column in rows.column_names]
    if "concepts" in rows.column_names:
        found.append(concepts_chart(rows))
    return found


def execution_charts(samples: pa.Table) -> Iterable[Chart]:
    """Those of all samples, whether they passed or not."""
    there = set(samples.column_names)
    if "outcome" in there:
        yield outcomes_chart(samples)
    if "concepts" in there:
        lengths = compute().list_value_length(samples["concepts"])
        samples = samples.set_column(samples.column_names.index("concepts"), "concepts", lengths)
    labels = {"category": "category", "difficulty": "difficulty", "concepts": "number of concepts"}
    for column, label in labels.items():
        if {column, "passed"} <= there and samples[column].null_count < len(samples):
            yield pass_rate_chart(samples, column, label)
    if {"vacuous", "mutation_score"} <= there and samples["mutation_score"].null_count < len(samples):
        yield strength_chart(samples)


def columns_of(source: Source, *names: str) -> pa.Table:
    """Those of the columns that are there, as an Arrow table; what is on disk stays there until it is looked at."""
    return source.rows.select_columns([n for n in names if n in source.rows.column_names]).with_format("arrow")[:]


def compute() -> Any:
    """pyarrow.compute, which makes its functions when it is imported: no type checker sees them."""
    import pyarrow.compute

    return pyarrow.compute


def drawn(figure: Figure, form: str) -> bytes:
    """The figure as a file, without the date in it."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # matplotlib's own font has no Chinese: such letters are boxes
        figure.savefig(file, format=form, metadata={"Date": None} if form == "svg" else {"Software": None})
    return file.getvalue()


# ---- examples ----


def examples_of(instructions: Source, rejected: Source | None, executions: Source | None) -> list[dict[str, Any]]:
    """Rows for the browser with `reason`: some that were accepted, and as many that were not, evenly from the reasons.

    Which ones depends on their ids alone.
    """
    groups: dict[str, tuple[Source, list[int]]] = {}
    for source, column in ((rejected, "reason"), (executions, "outcome")):
        if source and column in source.rows.column_names:
            for position, reason in enumerate(columns_of(source, column)[column].to_pylist()):
                found, positions = groups.setdefault(str(reason), (source, []))
                if found is source and reason != "passed":  # what a rule dropped says more than how its program ended
                    positions.append(position)
    accepted = {"accepted": (instructions, list(range(len(instructions))))}
    return drawn_evenly(accepted) + drawn_evenly({reason: group for reason, group in groups.items() if group[1]})


def drawn_evenly(groups: dict[str, tuple[Source, list[int]]]) -> list[dict[str, Any]]:
    """`EXAMPLES` rows at most, those positions of each group whose ids have the lowest hashes."""
    found = []
    sizes = sorted(groups.items(), key=lambda group: len(group[1][1]))
    for i, (reason, (source, positions)) in enumerate(sizes):
        share = (EXAMPLES - len(found)) // (len(sizes) - i)  # what small groups leave is for the larger ones
        ids = columns_of(source, "id")["id"].to_pylist()
        lots = sorted((content_id("report", ids[position]), position) for position in positions)[:share]
        there = [name for name in SHOWN if name in source.rows.column_names]
        rows = source.rows.select_columns(there).select([position for _, position in lots])
        found += [dict.fromkeys(SHOWN) | {"reason": reason} | row for row in rows.to_list()]
    return found


def shortened(text: Any) -> str:
    """`text`, with an end that says so if it was cut."""
    text = "" if text is None else str(text)
    return text if len(text) <= TEXT_LIMIT else f"{text[:TEXT_LIMIT]}\n[… {len(text) - TEXT_LIMIT:,} characters more]"


# ---- the page and the card ----


def page_of(run: dict[str, Any], title: str, pictures: list[Chart], examples: list[dict[str, Any]]) -> str:
    """report.html."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shortened"] = shortened
    script = (folder / "page.js").read_text()
    return environment.get_template("page.html.jinja").render(
        run=run,
        title=title,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        figures=[(chart, base64.b64encode(drawn(chart.figure, "svg")).decode()) for chart in pictures],
        examples=examples,
        reasons=list(dict.fromkeys(example["reason"] for example in examples)),
        categories=sorted({example.get("category") or "" for example in examples} - {""}),
    )


def card_section(pictures: list[Chart]) -> str:
    """The figures in two columns."""
    cells = [f"![{chart.caption}](figures/{chart.name}.png)" for chart in pictures]
    pairs = zip_longest(cells[::2], cells[1::2], fillvalue="")
    table = "\n".join(["| | |", "|---|---|", *(f"| {left} | {right} |" for left, right in pairs)])
    return f"## Report\n\n`report.html`, among the files, shows these figures and examples.\n\n{table}"


def write_report(output: str, executions: Source | None = None, *, token: str | None = None) -> None:
    """Write the report of the dataset `output`, which select.py made of `executions`, into it.

    Without `executions` it has no figures of all samples. UserError if a dataset can't be read or written.
    """
    import matplotlib

    instructions = open_source(output, token=token)
    run = instructions.run
    if not run:
        raise UserError(f"{output} has no run.json: a report tells what a step wrote")
    filled = run.get("tables", {}).get("rejected", {}).get("rows_out")
    rejected = open_source(output, config="rejected", token=token) if filled else None
    with matplotlib.rc_context(THEME):
        pictures = charts(run, instructions, executions)
        files: dict[str, str | bytes] = {f"figures/{c.name}.png": drawn(c.figure, "png") for c in pictures}
        files["report.html"] = page_of(
            run, output.rstrip("/").rsplit("/", 1)[-1], pictures, examples_of(instructions, rejected, executions)
        )
    section = card_section(pictures)
    with open_output(output, token=token) as written:
        written.commit(
            lambda read, parts: files | {"README.md": cards.marked(read("README.md") or "", BEGIN, END, section)},
            final=True,
        )


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to report on."""

    instructions: Annotated[str, tyro.conf.Positional]
    """Dataset that select.py wrote: a Hub id, a local folder, or an fsspec URL. The report goes into it."""

    executions: Annotated[str | None, tyro.conf.Positional] = None
    """Dataset that it was made from; where run.json says that it lay otherwise."""

    hf_token: str | None = None
    """Hugging Face token; the one of `hf auth login` or HF_TOKEN otherwise."""


def main(options: Options) -> None:
    """Write the report of a dataset that is there."""
    name = options.executions
    if not name:
        source = open_source(options.instructions, token=options.hf_token).run.get("input", {})
        name = f"{source['dataset']}@{source['revision']}" if "dataset" in source else source.get("name")
    executions = None
    try:
        executions = open_source(name, columns=("id", "passed"), token=options.hf_token) if name else None
    except UserError as error:
        if options.executions:
            raise
        warn(f"no figures of the executions: {error}")
    write_report(options.instructions, executions, token=options.hf_token)
    print(f"{options.instructions}: report.html and figures/ are written")
