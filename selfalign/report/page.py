"""The report of a dataset of instructions: where they came from, what was dropped and why, and examples to browse.

select.py writes it at its end, and `python -m selfalign.report` writes it again. It adds to the dataset

    report.html       one self-contained file: figures, tables, and a browser of examples
    figures/*.png     the figures, which the card shows

Text that a model wrote is not trusted: the page is a Jinja template that escapes all of it, and its
Content-Security-Policy lets the browser run our script alone and fetch nothing.
"""

from __future__ import annotations

import base64
import hashlib
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfalign.errors import UserError
from selfalign.ids import content_id
from selfalign.report.charts import EXAMPLE_COLUMNS, SAMPLE_COLUMNS, THEME, Chart, draw_charts, picture_of
from selfalign.runner import card as cards
from selfalign.runner.output import open_output
from selfalign.runner.source import Source, open_source

if TYPE_CHECKING:
    import pyarrow as pa

BEGIN, END = "<!-- selfalign report: begin -->", "<!-- selfalign report: end -->"
EXAMPLES = 200  # on the page, of the accepted and of the rejected ones each
SHOWN = (
    *("id", "instruction", "response", "tests", "category", "difficulty", "concepts"),
    *("outcome", "detail", "mutation_score", "kept_id", "contamination"),
)
TEXT_LIMIT = 6000  # characters of a text on the page; a longer one is cut, and says so


def write_report(output: str, executions: Source | None = None, *, token: str | None = None) -> None:
    """Write the report of the dataset `output`, which select.py made from `executions`, into that dataset.

    Without `executions`, the figures of all samples are left out. UserError if a dataset can't be read or written.
    """
    import matplotlib

    instructions = open_source(output, token=token)
    run = instructions.run
    if not run:
        raise UserError(f"{output} has no run.json: a report can only be made of the output of a step")
    has_rejected = run.get("tables", {}).get("rejected", {}).get("rows_out")
    rejected = open_source(output, config="rejected", token=token) if has_rejected else None
    examples = choose_examples(instructions, rejected, executions)
    with matplotlib.rc_context(THEME):
        rows = arrow_columns(instructions, *EXAMPLE_COLUMNS)
        charts = draw_charts(run, rows, arrow_columns(executions, *SAMPLE_COLUMNS) if executions else None)
        files: dict[str, str | bytes] = {f"figures/{c.name}.png": picture_of(c.figure, "png") for c in charts}
        files["report.html"] = page_of(run, output.rstrip("/").rsplit("/", 1)[-1], charts, examples)
    section = card_section(charts)
    with open_output(output, token=token) as written:
        written.commit(
            lambda read, parts: files | {"README.md": cards.marked(read("README.md") or "", BEGIN, END, section)},
            final=True,
        )


def choose_examples(instructions: Source, rejected: Source | None, executions: Source | None) -> list[dict[str, Any]]:
    """Rows of the columns SHOWN with a `reason`: accepted ones, and as many rejected ones, spread evenly over the
    reasons. The choice depends on nothing but the ids."""
    groups: dict[str, tuple[Source, list[int]]] = {}
    for source, column in ((rejected, "reason"), (executions, "outcome")):
        if source and column in source.rows.column_names:
            for position, reason in enumerate(arrow_columns(source, column)[column].to_pylist()):
                found, positions = groups.setdefault(str(reason), (source, []))
                if found is source and reason != "passed":  # the rule that rejected a row says more than its outcome
                    positions.append(position)
    accepted = {"accepted": (instructions, list(range(len(instructions))))}
    return _spread(accepted) + _spread({reason: group for reason, group in groups.items() if group[1]})


def _spread(groups: dict[str, tuple[Source, list[int]]]) -> list[dict[str, Any]]:
    """At most `EXAMPLES` rows from the positions of the groups: in each, those whose ids have the lowest hashes."""
    found = []
    sizes = sorted(groups.items(), key=lambda group: len(group[1][1]))
    for i, (reason, (source, positions)) in enumerate(sizes):
        share = (EXAMPLES - len(found)) // (len(sizes) - i)  # what small groups leave goes to the larger ones
        ids = arrow_columns(source, "id")["id"].to_pylist()
        lots = sorted((content_id("report", ids[position]), position) for position in positions)[:share]
        there = [name for name in SHOWN if name in source.rows.column_names]
        rows = source.rows.select_columns(there).select([position for _, position in lots])
        found += [dict.fromkeys(SHOWN) | {"reason": reason} | row for row in rows.to_list()]
    return found


def arrow_columns(source: Source, *names: str) -> pa.Table:
    """Those of the columns that the dataset has, as an Arrow table; data on disk is read only when it is used."""
    return source.rows.select_columns([n for n in names if n in source.rows.column_names]).with_format("arrow")[:]


def page_of(run: dict[str, Any], title: str, charts: list[Chart], examples: list[dict[str, Any]]) -> str:
    """The text of report.html."""
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
        figures=[(chart, base64.b64encode(picture_of(chart.figure, "svg")).decode()) for chart in charts],
        examples=examples,
        reasons=list(dict.fromkeys(example["reason"] for example in examples)),
        categories=sorted({example.get("category") or "" for example in examples} - {""}),
    )


def shortened(text: object) -> str:
    """`text`, cut at TEXT_LIMIT with a note of how much is missing."""
    text = "" if text is None else str(text)
    return text if len(text) <= TEXT_LIMIT else f"{text[:TEXT_LIMIT]}\n[… {len(text) - TEXT_LIMIT:,} more characters]"


def card_section(charts: list[Chart]) -> str:
    """The section of the dataset's card: the figures in two columns."""
    cells = [f"![{chart.caption}](figures/{chart.name}.png)" for chart in charts]
    pairs = zip_longest(cells[::2], cells[1::2], fillvalue="")
    table = "\n".join(["| | |", "|---|---|", *(f"| {left} | {right} |" for left, right in pairs)])
    return f"## Report\n\n`report.html`, beside this card, shows these figures, and examples to browse.\n\n{table}"
