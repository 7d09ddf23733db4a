"""Write the report of an existing dataset of instructions into that dataset, as select.py did at its end.

    python -m selfalign.report ./instructions [./executions]

See selfalign/report/page.py for what it holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from selfalign.errors import UserError, warn
from selfalign.options import run_script
from selfalign.report.page import write_report
from selfalign.runner.source import open_source


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to report on."""

    instructions: Annotated[str, tyro.conf.Positional]
    """Dataset that select.py wrote: a Hub id, a local folder, or an fsspec URL. The report is written into it."""

    executions: Annotated[str | None, tyro.conf.Positional] = None
    """Dataset that the instructions were selected from. By default, the one named in their run.json."""

    hf_token: str | None = None
    """Hugging Face token. By default, the one from `hf auth login` or HF_TOKEN."""


def main(options: Options) -> None:
    """Write the report, with the figures of all samples if the executions can still be read."""
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
        warn(f"the report has no figures of the executions: {error}")
    write_report(options.instructions, executions, token=options.hf_token)
    print(f"{options.instructions}: wrote report.html and figures/")


if __name__ == "__main__":
    run_script(main, Options, __doc__)
