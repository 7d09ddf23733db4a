"""Write the report of a dataset that any step wrote, or of several runs side by side, as one page for the browser.

    python -m selfalign.report ./instructions                    # into the dataset: report.html, figures, its card
    python -m selfalign.report ./runs/out/quickstart --output report.html
    python -m selfalign.report base=./a passes=./b consensus=./c --output report.html --space your-org/report

A RUN is a dataset, or a folder with the datasets of a run, whose results of benchmarks and audits are shown as well.
select.py has written the report of its output already. See selfalign/report/page.py for what a report holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from selfalign.errors import UserError
from selfalign.options import Count, run_script
from selfalign.report.page import MARK, page_of, write_report
from selfalign.report.rows import ROWS
from selfalign.report.runs import open_run
from selfalign.report.space import write_space
from selfalign.runner.source import open_source


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to report on."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN", help_behavior_hint="")]
    """Datasets (Hub ids, folders, URLs) or folders of runs, each as PLACE or LABEL=PLACE."""

    executions: str | None = None
    """Dataset that the instructions were selected from. By default, the one named in their run.json."""

    output: Path | None = None
    """File to write, such as report.html. By default, the report of a single dataset goes into the dataset."""

    space: str | None = None
    """Hub id of a static Space that shows the report; it is created if it is not there."""

    public: bool = False
    """Make the Space public if it has to be created. By default, it is private."""

    rows: Count = ROWS
    """Maximum number of rows on the page."""

    hf_token: str | None = None
    """Hugging Face token. By default, the one from `hf auth login` or HF_TOKEN."""


def main(options: Options) -> None:
    """Write the page, into the dataset if there is no other place for it."""
    if not options.runs:
        raise UserError("name at least one dataset or folder of a run: python -m selfalign.report ./instructions")
    if options.executions and len(options.runs) > 1:
        raise UserError("--executions belongs to a single dataset: give the folders of the runs, which hold theirs")
    if options.output or options.space:
        write_page(options)
    elif len(options.runs) == 1:
        (name,) = options.runs
        executions = None
        if options.executions:
            executions = open_source(options.executions, columns=("id", "passed"), token=options.hf_token)
        write_report(name, executions, rows=options.rows, token=options.hf_token)
        print(f"{name}: wrote report.html and figures/")
    else:
        raise UserError("name a file for the report of several runs: --output report.html")


def write_page(options: Options) -> None:
    """Write the report to --output, and to the Space."""
    if options.output:
        check_file(options.output)
    runs = [open_run(name, options.executions, token=options.hf_token) for name in options.runs]
    labels = [run.label for run in runs]
    if repeated := [label for label in labels if labels.count(label) > 1]:
        raise UserError(f"two runs are called {repeated[0]}: write LABEL=PLACE to tell them apart")
    page = page_of(runs, options.rows)
    if options.output:
        try:
            options.output.write_text(page, encoding="utf-8")
        except OSError as error:
            raise UserError(f"{options.output} can't be written: {error.strerror or error}") from error
        print(f"wrote {options.output}: open it in a browser")
    if options.space:
        url = write_space(options.space, page, ", ".join(labels), public=options.public, token=options.hf_token)
        print(f"wrote the Space {url}")


def check_file(file: Path) -> None:
    """UserError if `file` can't be written, or is there and is none of our reports."""
    if file.is_dir():
        raise UserError(f"--output {file} is a folder: name a file in it, such as {file / 'report.html'}")
    if not file.parent.is_dir():
        raise UserError(f"--output {file}: there is no folder {file.parent}")
    if file.exists():
        with file.open(encoding="utf-8", errors="replace") as stream:
            if MARK not in stream.read(1000):
                raise UserError(f"--output {file} is there already, and is no report: it is not overwritten")


if __name__ == "__main__":
    run_script(main, Options, __doc__)
