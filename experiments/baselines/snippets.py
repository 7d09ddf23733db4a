"""Files -> seeds that are random snippets instead of filtered functions.

Paper: Table 10, "random snippets from different Stack V1 documents" (64.0 HumanEval+, against 65.2 with functions).
From each file one snippet of 1 to 15 consecutive lines is drawn, as in OSS-Instruct (arXiv:2312.02120); the paper does
not say how long its snippets are.

    python -m experiments.baselines.snippets bigcode/the-stack-dedup ./snippets --max-samples 37000

Columns in:  the text of the file, and where it comes from

Columns out:

    id          hash of the file: its text and where it comes from
    content     the snippet, without its common indentation
    repository, path, license    where it comes from, null if unknown
"""

from __future__ import annotations

import random
import textwrap
from dataclasses import dataclass
from typing import Any

from selfalign.ids import content_id, draws_of
from selfalign.options import Count, StepOptions, run_script
from selfalign.runner.source import read_input
from selfalign.runner.step import run_step
from selfalign.runner.table import Done, Table

COLUMNS = {name: str for name in ("id", "content", "repository", "path", "license")}


@dataclass(frozen=True, kw_only=True)
class Options(StepOptions):
    """Options of this step."""

    text_column: str = "content"
    """Column with the text of the files."""

    repository_column: str = "max_stars_repo_name"
    """Column with the repository's name, if there is one (the default is The Stack's)."""

    path_column: str = "max_stars_repo_path"
    """Column with the file's path, if there is one."""

    license_column: str = "max_stars_repo_licenses"
    """Column with the file's licence or licences, if there is one."""

    max_lines: Count = 15
    """Maximum length of a snippet, in lines (OSS-Instruct: 15)."""


def draw_snippet(text: str, draws: random.Random, max_lines: int) -> str:
    """Some consecutive lines of a text, "" if all of its lines are blank."""
    lines = text.replace("\r\n", "\n").split("\n")
    filled = [i for i, line in enumerate(lines) if line.strip()]
    if not filled:
        return ""
    first = draws.choice(filled)
    return textwrap.dedent("\n".join(lines[first : first + draws.randint(1, max_lines)])).strip("\n")


def snippet_of(file: dict[str, Any], options: Options) -> Done:
    """One snippet of a file; the draws depend on the hash of its text."""
    text = file[options.text_column]
    snippet = draw_snippet(text, draws_of(options.seed, content_id(text)), options.max_lines)
    if not snippet:
        return Done([], {"empty_files": 1})
    license = file.get(options.license_column)
    origin = {
        "repository": file.get(options.repository_column),
        "path": file.get(options.path_column),
        "license": ", ".join(license) if isinstance(license, list) else license,
    }
    # The id is that of the file, since files that have nothing else in common may share a snippet such as "import os".
    return Done([{"id": content_id(text, *origin.values()), "content": snippet, **origin}], {"ok": 1})


def main(options: Options) -> None:
    """Draw a snippet from each file."""
    files = read_input(options, options.text_column)
    run_step(options, Table(files, lambda file: snippet_of(file, options), COLUMNS, carry=False))


if __name__ == "__main__":
    run_script(main, Options, __doc__)
