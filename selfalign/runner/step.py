"""How a step runs over the rows of a dataset.

    run_step(options, Table(source, row_function, columns))

calls `row_function` for each row of `source` and writes what it returns. If the process is killed at any point, the
same command does what is missing, and in the end the rows are those of an undisturbed run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfalign.errors import Forgiving, UserError, tell, warn, without_secrets
from selfalign.options import Shard, StepOptions
from selfalign.runner.flow import LOG_SECONDS, Flow
from selfalign.runner.folder_output import FolderOutput
from selfalign.runner.output import open_output
from selfalign.runner.part import covered_rows
from selfalign.runner.record import Run, refuse_other_step
from selfalign.runner.shards import run_shards
from selfalign.runner.source import BAR_DELAY, MAIN_TABLE, Source
from selfalign.runner.table import Removed, Row, Table
from selfalign.runner.writer import PartWriter

if TYPE_CHECKING:
    import numpy as np
    from tqdm import tqdm

    from selfalign.llm.endpoint import Endpoint

BLOCK_ROWS = 100_000  # whose positions are held at a time
REASONS_SHOWN = 3  # why rows stayed open
EXIT_OPEN = 3  # exit status when rows stay open


def run_step(
    options: StepOptions,
    table: Table,
    *,
    prompts: str | None = None,
    endpoint: Endpoint | None = None,
    window: int = 1,
    tables: dict[str, Table] | None = None,
    removed: Removed | None = None,
    title: str | None = None,
) -> dict[str, Any]:
    """Make `table` from its source, row by row, and write it; return run.json.

    Args:
        options: say where to write, and identify the run: all that is not `OPERATIONAL` must be the same as before.
        table: the main table of the output; `--max-samples` limits its rows.
        prompts: hash of the templates and examples, part of the run's identity.
        endpoint: its `identity` becomes part of the run's. It is held while the rows of the main table run, and its
            `window` is the window.
        window: rows in flight.
        tables: further tables of the output by name, which are made after the main one.
        removed: what the script itself left out of the source.
        title: name of the step in the funnel; by default, the script's name.

    Raises:
        UserError: another run's data is there, or nothing can be written.
        SystemExit: status 3 if rows stayed open, 130 or 143 after a signal; what was done is written. Status 0 if the
            rows of `--shard` are done and those of others are not, or if Slurm has them.
    """
    if not options.executor and not options.shard and (options.shards, options.workers) != (1, None):
        raise UserError("--shards and --workers need --executor: choose local, slurm, ray or jobs")
    all_tables = {MAIN_TABLE: replace(table, limit=options.max_samples), **(tables or {})}
    for each in all_tables.values():
        each.check()
    run = Run(title or Path(sys.argv[0]).stem, options, all_tables, prompts, endpoint, removed or Removed())
    shard, by_others = Shard.parse(options.shard), bool(options.executor and not options.shard)
    main = all_tables[MAIN_TABLE]
    limit = len(main) if len(main) < len(main.source) else None
    output = open_output(
        options.output, shard=shard, limit=limit, run=run.id, public=options.public, token=options.hf_token
    )
    if by_others:
        _run_by_executor(run, output)
    with output:
        recorded = run.recorded_in(output)
        todo = _rows_to_do(run, output)
        if todo and not by_others and recorded.get("complete", True):
            output.begin(partial(run.describe, output))
        flows = [] if by_others else _do(run, output, todo, endpoint.window if endpoint else window)
        stopped = next((flow.signal for flow in flows if flow.signal), None)
        if todo or not recorded.get("complete"):
            output.commit(partial(run.describe, output), final=True, stopping=stopped is not None)
        record = json.loads(output.read("run.json") or "{}")
        open_rows = sum(int(rows.sum()) for rows in _rows_to_do(run, output).values())
    failures = sum((flow.failures for flow in flows), Counter())
    _report(record, options.output, failures, open_rows, nothing_to_do=not (todo or by_others))
    if open_rows:
        raise SystemExit(128 + stopped if stopped else EXIT_OPEN)
    if not record["complete"]:  # a script of two steps: the second one needs all of the first
        tell(f"{run.step}: shard {options.shard} is done; other shards still have rows to do")
        raise SystemExit(0)
    return record


def check_output(options: StepOptions) -> None:
    """UserError if the output holds something that the script did not write: for one whose output comes last."""
    output = open_output(options.output, public=options.public, token=options.hf_token)
    step = Path(sys.argv[0]).stem
    if not output.on_hub:  # there, the first commit of the stage before finds out whether anything can be written
        run_json, foreign = output.begun_by()
        refuse_other_step(options.output, run_json, step, foreign)


def check_growth(options: StepOptions, rows: int, first: str, later: Sequence[str]) -> None:
    """UserError if an output of `later`, which the stages after `first` write, was made when that had fewer than `rows`
    rows to do: with more of them, its output would no longer be what those were made from."""
    from huggingface_hub.errors import HfHubHTTPError

    for name in later:
        with contextlib.suppress(HfHubHTTPError, ValueError, LookupError, TypeError):  # not begun by a step
            output = open_output(name, public=options.public, token=options.hf_token)
            funnel = json.loads(output.read("run.json") or "{}")["funnel"]
            before = {entry["step"]: entry["rows_in"] for entry in funnel}[first]
            if before < rows:
                raise UserError(
                    f"{without_secrets(name)} was made from {before:,} rows of the input, and can't be extended to "
                    f"{rows:,}: choose another output"
                )


def _rows_to_do(run: Run, output: FolderOutput) -> dict[str, np.ndarray]:
    """Of each table that has rows to do: which rows of its input are this shard's and not covered by a part."""
    parts, todo = output.parts(), {}
    for name, table in run.tables.items():
        rows = ~covered_rows(parts, len(table.source), name)
        span = output.shard.span(len(table))
        rows[: span.start] = rows[span.stop :] = False
        if rows.any():
            todo[name] = rows
    return todo


def _run_by_executor(run: Run, output: FolderOutput) -> None:
    """Hand the shards that have rows to do to `--executor`, and wait until they have ended."""
    with output:
        run.recorded_in(output)
        todo = _rows_to_do(run, output)

    def is_open(shard: Shard) -> bool:
        return any(rows[shard.span(len(run.tables[name]))].any() for name, rows in todo.items())

    if todo:
        shards = run.options.shards
        run_shards(run.options, run.id, [is_open(Shard(number, shards)) for number in range(shards)])


def _do(run: Run, output: FolderOutput, todo: dict[str, np.ndarray], window: int) -> list[Flow]:
    """Do the rows `todo` of one table after the other, until a signal comes."""
    flows = []
    for name, rows in todo.items():
        table, endpoint = run.tables[name], run.endpoint
        around, title = table.around, run.step if name == MAIN_TABLE else f"{run.step}: {name}"
        if endpoint and name == MAIN_TABLE:
            around = (endpoint, *around)
        writer = PartWriter(output, partial(run.describe, output), name, table, endpoint)
        with _progress_bar(title, total=len(rows[output.shard.span(len(table))]), todo=int(rows.sum())) as progress:
            flow = Flow(table, writer, progress, window, endpoint)
            asyncio.run(flow.run(_read(table.source, rows), around))
            flow.failures.update(writer.flush())
        flows.append(flow)
        if flow.signal:
            break
    return flows


def _read(source: Source, todo: np.ndarray) -> Iterator[tuple[int, Row]]:
    """The rows to do with their positions, which are made some at a time: they take eight times the room of `todo`."""
    import numpy as np

    for start in range(0, len(todo), BLOCK_ROWS):
        yield from source.read(start + np.flatnonzero(todo[start : start + BLOCK_ROWS]))


def _progress_bar(title: str, total: int, todo: int) -> tqdm[Any]:
    from tqdm import tqdm

    watched = sys.stderr.isatty()
    return tqdm(
        total=total,
        initial=total - todo,
        desc=title,
        unit=" rows",
        file=Forgiving(sys.stderr),
        dynamic_ncols=True,
        delay=BAR_DELAY,
        leave=not watched,
        mininterval=0.2 if watched else LOG_SECONDS,  # a log file gets a line now and then
        maxinterval=1.0 if watched else LOG_SECONDS,
    )


def _report(record: dict[str, Any], output: str, failures: Counter[str], open_rows: int, nothing_to_do: bool) -> None:
    """Say how many rows came out, and why others are still to do."""
    counts = ", ".join(f"{n} {name}" for name, n in sorted(record["counts"].items(), key=lambda c: -c[1]))
    further = "".join(f", {table['rows_out']} {name}" for name, table in record.get("tables", {}).items())
    out = f"{record['rows_out']} rows out{further}" + (f" ({counts})" if counts else "")
    begin = f"{record['step']}: nothing was left to do: " if nothing_to_do else f"{record['step']}: "
    print(f"{begin}{record['rows_in']} rows in, {out} -> {without_secrets(output)}", flush=True)
    shown = failures.most_common(REASONS_SHOWN)
    for reason, n in shown:
        warn(f"{n} rows are still open: {reason}")
    if others := failures.total() - sum(n for _, n in shown):
        warn(f"{others} rows are still open for {len(failures) - len(shown)} other reasons")
    if open_rows:
        warn(f"{open_rows} of {record['rows_in']} rows are still to do: run the same command again")
