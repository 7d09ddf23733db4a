"""The report: figures, the funnel, and a browser of all rows, of one dataset or of several runs side by side.

select.py writes it into the instructions at its end; `python -m selfalign.report` does so for the output of any step,
or writes a page about several runs. Into a dataset go

    report.html       one self-contained file
    figures/*.png     the figures, which the card shows beside three examples

Text that a model wrote is not trusted: the template escapes all of it, the rows are unpacked by a script that never
reads them as HTML, and the page's Content-Security-Policy lets the browser run that script alone and fetch nothing.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from selfalign.errors import UserError
from selfalign.report.charts import (
    EXAMPLE_COLUMNS,
    SAMPLE_COLUMNS,
    THEME,
    Bars,
    Chart,
    draw_charts,
    figure_of,
    picture_of,
    rates_of,
)
from selfalign.report.rows import ROWS, body_of, counts_of_tasks, first_rows, pack_rows, packed
from selfalign.report.runs import Run, open_run
from selfalign.runner import card as cards
from selfalign.runner.output import open_output
from selfalign.runner.provenance import without_local_paths
from selfalign.runner.source import Source
from selfalign.statistics import interval_over_counts

BEGIN, END = "<!-- selfalign report: begin -->", "<!-- selfalign report: end -->"
MARK = '<meta name="generator" content="selfalign.report">'  # by which our own pages are known
EXAMPLES, EXAMPLE_LIMIT = 3, 1500  # on the card: how many rows, and characters of each of their texts
FENCE = re.compile(r"^\s*([~`]{3,})", re.MULTILINE)


def write_report(output: str, executions: Source | None = None, *, rows: int = ROWS, token: str | None = None) -> None:
    """Write the report of the dataset `output`, which a step made, into that dataset.

    Instructions were chosen from `executions`; by default, those that their run.json names. UserError if a dataset
    can't be read or written.
    """
    run = open_run(output, token=token) if executions is None else _with_samples(output, executions, token)
    if not run.record:
        raise UserError(
            f"{output} has no run.json, so no step wrote it: name a file for its report with --output report.html"
        )
    charts = charts_of(run)
    files: dict[str, str | bytes] = {f"figures/{chart.name}.png": drawn(chart) for chart in charts}
    files["report.html"] = page_of([run], rows)
    section = card_section(charts, [body_of(row) for row in first_rows(run, EXAMPLES)])
    with open_output(output, token=token) as written:
        written.commit(
            lambda read, parts: files | {"README.md": with_section(read("README.md") or "", section)}, final=True
        )


def _with_samples(output: str, executions: Source, token: str | None) -> Run:
    run = open_run(output, token=token, look_for_samples=False)
    run.samples = executions
    return run


def charts_of(run: Run) -> list[Chart]:
    """The figures of a run."""
    if run.rows is None:
        return []
    samples = arrow_columns(run.samples, SAMPLE_COLUMNS) if run.samples else None
    return draw_charts(run.record, arrow_columns(run.rows, EXAMPLE_COLUMNS), samples)


def drawn(chart: Chart) -> bytes:
    """The picture of a chart for the card."""
    import matplotlib

    with matplotlib.rc_context(THEME):
        return picture_of(figure_of(chart.plot))


def arrow_columns(source: Source, types: Mapping[str, str]) -> Any:
    """Those of the columns that the dataset has in these types, as an Arrow table; data on disk is read only when it is
    used."""
    there = source.rows.features.arrow_schema
    names = [name for name in types if name in there.names and re.fullmatch(types[name], str(there.field(name).type))]
    return source.rows.select_columns(names).with_format("arrow")[:]


# The page -------------------------------------------------------------------------------------------------------------


def page_of(runs: Sequence[Run], rows: int = ROWS) -> str:
    """The text of report.html: of one run, or of several beside each other, with at most so many rows."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (folder / "page.js").read_text()
    page, audited = pack_rows(runs, rows), [run for run in runs if run.audit]
    charts = charts_of(runs[0]) if len(runs) == 1 else comparison_charts(runs)
    return environment.get_template("page.html.jinja").render(
        title=", ".join(run.label for run in runs),
        mark=MARK,
        runs=runs,
        shown_path=without_local_paths,
        charts=[(chart, isinstance(chart.plot, Bars)) for chart in charts],
        steps=funnel_of(runs),
        scores=scores_of(runs),
        audited=audited,
        rules=rules_of(audited),
        page=page,
        index=packed(page.index),
        style=(folder / "page.css").read_text(),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def funnel_of(runs: Sequence[Run]) -> list[tuple[str, list[dict[str, Any] | None]]]:
    """Each step of the pipeline with its entry in the funnel of every run, None where a run lacks it.

    A step that was taken again, such as execute.py after repair.py, is another one.
    """
    entries: list[dict[tuple[str, int], dict[str, Any]]] = []
    for run in runs:
        times, funnel = Counter[str](), {}
        for entry in run.record.get("funnel", ()):
            times[entry["step"]] += 1
            funnel[entry["step"], times[entry["step"]]] = entry
        entries.append(funnel)
    steps = dict.fromkeys(step for funnel in entries for step in funnel)
    return [(step[0], [funnel.get(step) for funnel in entries]) for step in steps]


def scores_of(runs: Sequence[Run]) -> dict[str, list[str]]:
    """What the runs can be compared by, as text for each run: examples, pass rates, and scores of benchmarks."""
    table = {"rows": [f"{len(run.rows):,}" if run.rows is not None else "" for run in runs]}
    if any(run.pass_rate for run in runs):
        table["samples that passed their own tests"] = [_with_interval(pass_rates_of([run])) for run in runs]
    names = dict.fromkeys(
        (benchmark, score) for run in runs for benchmark, r in run.results.items() for score in r["scores"]
    )
    for benchmark, score in names:
        table[f"{benchmark} {score}"] = [_score(run.results.get(benchmark, {}), score) for run in runs]
    return table


def pass_rates_of(runs: Sequence[Run]) -> Bars | None:
    """The share of samples that passed, of each run that has one, with intervals over tasks where the samples are
    there; None if no run has one."""
    tried = [(run.label, run.pass_rate, _interval_of_samples(run)) for run in runs if run.pass_rate]
    if not tried:
        return None
    labels, rates, bounds = zip(*tried, strict=True)
    passed, total = zip(*rates, strict=True)
    return rates_of("Samples that passed their own tests", labels, passed, total, bounds)


def _interval_of_samples(run: Run) -> list[float] | None:
    """Over tasks; None where it is not known of each sample which task it is of."""
    counts = counts_of_tasks(run.samples)
    return interval_over_counts(*zip(*counts.values(), strict=True)) if counts and "" not in counts else None


def _with_interval(rate: Bars | None) -> str:
    if not rate or not rate.whiskers:
        return ""
    low, high = rate.whiskers[0]
    return f"{rate.values[0]:.1f} % [{low:.1f}, {high:.1f}]"


def _score(result: Mapping[str, Any], score: str) -> str:
    value = result.get("scores", {}).get(score)
    if value is None:
        return ""
    interval = result.get("intervals", {}).get(score)
    return f"{100 * value:.1f} %" + (
        " [{:.1f}, {:.1f}]".format(*(100 * bound for bound in interval)) if interval else ""
    )


def rules_of(runs: Sequence[Run]) -> dict[str, list[dict[str, str] | None]]:
    """Each rule of the audits with its precision, recall and yield (`coverage`) in every run, as text in percent."""
    rules = dict.fromkeys(rule for run in runs for rule in run.audit)
    return {rule: [_measured(run.audit.get(rule)) for run in runs] for rule in rules}


def _measured(rule: Mapping[str, Any] | None) -> dict[str, str] | None:
    if not rule:
        return None
    found = {}
    for name in ("precision", "recall", "coverage"):
        value, low, high = (math.nan if number is None else number for number in rule.get(name) or (None,) * 3)
        found[name] = "" if math.isnan(value) else f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
    return found


def comparison_charts(runs: Sequence[Run]) -> list[Chart]:
    """The pass rates and the scores of several runs as figures."""
    charts = []
    if plot := pass_rates_of(runs):
        charts.append(Chart("pass_rates", "Share of samples that passed, by run, with 95 % intervals.", plot))
    for benchmark in dict.fromkeys(name for run in runs for name in run.results):
        with_it = [run for run in runs if "pass@1" in run.results.get(benchmark, {}).get("scores", {})]
        values: list[float] = [100 * run.results[benchmark]["scores"]["pass@1"] for run in with_it]
        bounds = [run.results[benchmark].get("intervals", {}).get("pass@1") for run in with_it]
        whiskers = [(100 * low, 100 * high) for low, high in bounds] if values and all(bounds) else None
        labels, numbers = [run.label for run in with_it], [f"{value:.1f} %" for value in values]
        plot = Bars(f"{benchmark}: pass@1", labels, values, numbers, whiskers=whiskers)
        if values:
            charts.append(Chart(benchmark, f"pass@1 on {benchmark}, by run, with 95 % intervals.", plot))
    return charts


# The card -------------------------------------------------------------------------------------------------------------


def card_section(charts: Sequence[Chart], examples: Sequence[Mapping[str, Any]]) -> str:
    """The section of the dataset's card: examples, the funnel, and the other figures in two columns."""
    text = "".join(f"## Example {number}\n\n{example_text(body)}\n\n" for number, body in enumerate(examples, 1))
    funnel = [chart for chart in charts if chart.name == "funnel"]
    text += "".join(
        f"## The funnel as a picture\n\n![{chart.caption}](figures/{chart.name}.png)\n\n" for chart in funnel
    )
    text += "## Report\n\n`report.html`, among the files, shows all rows to browse, the figures and the funnel."
    cells = [f"![{chart.caption}](figures/{chart.name}.png)" for chart in charts if chart not in funnel]
    pairs = zip_longest(cells[::2], cells[1::2], fillvalue="")
    rows = [f"| {left} | {right} |" for left, right in pairs]
    return text + ("\n\n" + "\n".join(["| | |", "|---|---|", *rows]) if rows else "")


def example_text(body: Mapping[str, Any]) -> str:
    """A row's texts in Markdown; each stands in a fence that it cannot end itself."""
    blocks = []
    parts = body["parts"]
    for heading, kind, text in parts:
        if heading == "Seed" and len(parts) > 1:  # the example is what was made from it
            continue
        cut = text if len(text) <= EXAMPLE_LIMIT else f"{text[:EXAMPLE_LIMIT]}\n[…]"
        longest = max((len(fence) for fence in FENCE.findall(cut)), default=2)
        fence = "~" * max(3, longest + 1)
        blocks.append(f"**{heading}**\n\n{fence}{'python' if kind == 'code' else 'markdown'}\n{cut}\n{fence}")
    return "\n\n".join(blocks)


def with_section(card: str, section: str) -> str:
    """The card with our section: in place of an earlier one, or else above what the step says of itself."""
    if BEGIN not in card and cards.BEGIN in card:
        head, mark, rest = card.rpartition(cards.BEGIN)
        card = f"{head}{BEGIN}\n{END}\n\n{mark}{rest}"
    return cards.marked(card, BEGIN, END, section)
