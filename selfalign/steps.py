"""How a step runs over the rows of a dataset: what is left to do, a sliding window, parts, progress, a clean stop.

    run_step(options, source, row_function, columns)

calls `row_function` for each row of `source` and writes what it returns. Kill the process anywhere: the same command
does what is missing, and the rows in the end are those of an undisturbed run.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import inspect
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfalign import cards
from selfalign.datasets_io import Output, Source, open_output, open_source
from selfalign.options import StepOptions, UserError, command_of, identity_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

Row = dict[str, Any]
PART_ROWS = 10_000  # output rows a part: some ten MB of text
PART_BYTES = 64 << 20
PART_SECONDS = 60  # what a kill can lose at most, beside the rows in flight
READ_ROWS, READ_BYTES = 1000, 32 << 20  # input rows read at a time
GRACE_SECONDS = 5  # after SIGTERM: preempted machines go away soon
RESPONSIVE_SECONDS = 0.2  # a synchronous row function lets signals in this often
MAX_OPEN_IN_A_ROW = 200  # so many rows failing one after another is not bad luck: stop
EXIT_OPEN = 3  # exit status when rows stay open


class RowOpen(Exception):
    """Raised by a row function that can't do a row now (an endpoint that fails): it stays open for the next run."""


@dataclass(frozen=True)
class Done:
    """What became of an input row: the rows it gives, and what to count (reasons of what was dropped, say)."""

    rows: list[Row]
    counts: dict[str, int] = field(default_factory=dict)


RowFunction = Callable[[Row], "Done | Row | Awaitable[Done | Row]"]


def draws_of(seed: int, row_id: str) -> random.Random:
    """The random draws of a row: the same on any machine, in any order, at any number of shards."""
    return random.Random(f"{seed}:{row_id}")


def content_id(*parts: object) -> str:
    """A stable id: 16 hexadecimal digits of a hash of content and lineage."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def read_input(options: StepOptions, *columns: str) -> Source:
    """The input of a step, which must have `columns`."""
    source = open_source(
        options.input, columns=columns, config=options.config, split=options.split, token=options.hf_token
    )
    if source.run and not source.run.get("complete"):
        warn(f"{options.input} is not complete: the step that writes it has rows open")
    return source


def first_usable(source: Source) -> Row:
    """The first row without an `error`, to try a prompt with; UserError if there is none."""
    for row in source.rows:
        if isinstance(row, dict) and not row.get("error"):
            return row
    raise UserError(f"no row of {source.name} can be used: every one has an error")


def run_step(
    options: StepOptions,
    source: Source,
    row_function: RowFunction,
    columns: dict[str, Any],
    *,
    carry: bool = True,
    count_by: str | None = None,
    prompts: str | None = None,
    endpoint: Any = None,
    around: Iterable[AbstractAsyncContextManager[Any]] = (),
    window: int = 1,
    dropped: dict[str, int] | None = None,
    title: str | None = None,
) -> dict[str, Any]:
    """Call `row_function` for every row of `source` that is not done yet, and write what it gives; return run.json.

    Args:
        options: says where to write, and who the run is: all that is not `OPERATIONAL` must be as it was before.
        source: the rows.
        row_function: row -> row, `Done`, or an awaitable of one; it may raise `RowOpen`.
        columns: name -> Python type (str, int, float, bool, list[...], dict of types) of the columns that are added.
        carry: keep the columns of the input.
        count_by: a column whose values are counted in each row that is written ("ok" where it is null).
        prompts: hash of the templates and examples, part of the run's identity.
        endpoint: its `identity` becomes part of the run's; it is closed at the end, and its `window` is the window.
        around: async context managers to hold while rows run.
        window: rows in flight.
        dropped: counts of what the script left out of `source` by itself, for the funnel.
        title: what the step is called in the funnel; the script's name otherwise.

    Raises:
        UserError: another run's data is there, or nothing can be written.
        SystemExit: status 3 if rows stayed open, 130 or 143 after a signal; what was done is written.
    """
    step = title or Path(sys.argv[0]).stem
    identity = {"step": step, "options": identity_of(options), "input": source.pin, "prompts": prompts}
    if endpoint:
        identity |= endpoint.identity
        around, window = [endpoint, *around], endpoint.window
    identity = json.loads(json.dumps(identity))
    limit = min(len(source), options.max_samples or len(source))

    with open_output(options.output, public=options.public, token=options.hf_token) as output:
        refuse_other_run(output, identity)
        covered, written, counts = _what_is_done(output, len(source))
        todo = ~covered[:limit]
        before = json.loads(output.read("run.json") or "{}")
        run = _new_run(options, source, identity, step, limit)
        writer = _Writer(output, _schema(source, columns, carry), count_by)
        progress = _progress(step, total=limit, done=limit - int(todo.sum()))
        if todo.any():
            output.write("run.json", json.dumps(run, indent=2))
        flow = _Flow(row_function, writer, progress, window, endpoint)
        try:
            if todo.any():
                asyncio.run(flow.run(_rows(source, todo), around))
            writer.flush()
        finally:
            progress.close()

        open_rows = int(todo.sum()) - writer.done
        counts.update(writer.counts)
        entry = {
            "step": step,
            "rows_in": limit + sum((dropped or {}).values()),
            "rows_done": limit - open_rows,
            "rows_out": written + writer.rows,
            "counts": dict(sorted((counts + Counter(dropped or {})).items())),
        }
        if endpoint:
            run["generation"] = endpoint.report(before.get("generation"))
        run |= entry | {"complete": open_rows == 0, "funnel": [*source.run.get("funnel", []), entry]}
        if writer.done or not (output.read("run.json") or "").count('"complete": true'):
            run["seconds"] = round(time.time() - run.pop("started"), 1)
            output.write("run.json", json.dumps(run, indent=2))
            output.write("README.md", cards.dataset_card(run, output.read("README.md"), on_hub=output.on_hub))
        output.commit(final=True)
        output.finish()
    _report(run, options, flow, open_rows)
    return run


def refuse_other_run(output: Output, identity: dict[str, Any]) -> None:
    """UserError if the output holds something else than an earlier part of this very run."""
    text = output.read("run.json")
    if text is None:
        if foreign := output.foreign_files():
            raise UserError(
                f"{output.name} already holds {', '.join(foreign[:3])}, which this step did not write: "
                "choose another output"
            )
        return
    there = json.loads(text)["identity"]
    if there == identity:
        return
    flat_there, flat_here = _flat(there), _flat(identity)
    differing = [
        f"{name} was {flat_there.get(name)}, is {flat_here.get(name)}"
        for name in sorted(flat_there.keys() | flat_here.keys())
        if flat_there.get(name) != flat_here.get(name)
    ]
    raise UserError(f"{output.name} holds a run that differs ({'; '.join(differing)}): choose another output")


def _flat(nested: dict[str, Any]) -> dict[str, Any]:
    flat = {}
    for name, value in nested.items():
        if isinstance(value, dict):
            flat |= {f"{name} {k}" if name == "input" else k: v for k, v in value.items()}
        else:
            flat[name] = value
    return flat


def _what_is_done(output: Output, rows: int) -> tuple[np.ndarray, int, Counter[str]]:
    """Which input rows the parts cover, how many rows they hold, and their counts."""
    import numpy as np

    covered, written, counts = np.zeros(rows, dtype=bool), 0, Counter()
    for part in output.parts():
        for first, last in part.covered:
            covered[first : last + 1] = True
        written += part.rows
        counts.update(part.counts)
    return covered, written, counts


def _new_run(options: StepOptions, source: Source, identity: Row, step: str, rows_in: int) -> dict[str, Any]:
    return {
        "step": step,
        "identity": identity,
        "command": command_of(options),
        "input": {"name": source.name, **source.pin},
        "rows_in": rows_in,
        "complete": False,
        "funnel": source.run.get("funnel", []),
        "versions": cards.versions(),
        "started": time.time(),
    }


def _schema(source: Source, columns: dict[str, Any], carry: bool) -> pa.Schema:
    """The columns of the input (if carried) and those that the step adds or replaces."""
    import pyarrow as pa

    fields = {f.name: f.type for f in source.rows.features.arrow_schema} if carry else {}
    fields |= {name: _arrow_type(kind) for name, kind in columns.items()}
    return pa.schema(list(fields.items()))


def _arrow_type(kind: Any) -> pa.DataType:
    import pyarrow as pa

    if isinstance(kind, dict):
        return pa.struct([(name, _arrow_type(k)) for name, k in kind.items()])
    if getattr(kind, "__origin__", None) is list:
        return pa.list_(_arrow_type(kind.__args__[0]))
    if isinstance(kind, list):
        return pa.list_(_arrow_type(kind[0]))
    return {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}[kind]


def _rows(source: Source, todo: np.ndarray) -> Iterator[tuple[int, Row]]:
    """The rows to do with their positions, read some at a time."""
    import numpy as np

    positions = np.flatnonzero(todo)
    table = source.rows.with_format("arrow")
    bytes_a_row = max(1, source.rows.data.nbytes // max(1, len(source.rows.data)))
    step = max(1, min(READ_ROWS, READ_BYTES // bytes_a_row))
    for start in range(0, len(positions), step):
        some = positions[start : start + step]
        together = some[-1] - some[0] == len(some) - 1
        batch: Any = table[int(some[0]) : int(some[-1]) + 1] if together else table[some.tolist()]
        yield from zip(some.tolist(), batch.to_pylist(), strict=True)


class _Writer:
    """Gathers rows and writes them as parts: when enough are there, and every minute."""

    def __init__(self, output: Output, schema: pa.Schema, count_by: str | None) -> None:
        self.output, self.schema, self.count_by = output, schema, count_by
        self.done = self.rows = 0  # input rows done, output rows written, in this process
        self.counts: Counter[str] = Counter()
        self._columns = set(schema.names)
        self._start_part()

    def _start_part(self) -> None:
        self._pending: list[Row] = []
        self._batches: list[pa.RecordBatch] = []
        self._positions: list[int] = []
        self._part_counts: Counter[str] = Counter()
        self._part_rows = self._part_bytes = 0
        self._since = time.monotonic()

    def add(self, position: int, done: Done) -> None:
        for row in done.rows:
            if row.keys() != self._columns:
                raise ValueError(f"columns of row and step differ: {', '.join(sorted(row.keys() ^ self._columns))}")
        self._pending += done.rows
        self._positions.append(position)
        self._part_counts.update(done.counts)
        if self.count_by:
            self._part_counts.update(row[self.count_by] or "ok" for row in done.rows)
        self._part_rows += len(done.rows)
        if len(self._pending) >= 500:
            self._pack()
        if (
            self._part_rows >= PART_ROWS
            or len(self._positions) >= PART_ROWS
            or self._part_bytes >= PART_BYTES
            or time.monotonic() - self._since >= PART_SECONDS
        ):
            self.flush()

    def summary(self) -> str:
        """The most frequent counts so far, for the progress line."""
        return ", ".join(f"{n} {name}" for name, n in (self.counts + self._part_counts).most_common(3))

    def _pack(self) -> None:
        import pyarrow as pa

        if self._pending:
            batch = pa.RecordBatch.from_pylist(self._pending, schema=self.schema)
            self._part_bytes += batch.nbytes
            self._batches.append(batch)
            self._pending = []

    def flush(self) -> None:
        """Write what is gathered as one part."""
        import pyarrow as pa

        if self._positions:
            self._pack()
            table = pa.Table.from_batches(self._batches, schema=self.schema)
            self.output.write_part(table, _ranges(sorted(self._positions)), dict(self._part_counts))
            self.done += len(self._positions)
            self.rows += self._part_rows
            self.counts.update(self._part_counts)
            self.output.commit()
        self._start_part()


def _ranges(positions: list[int]) -> list[tuple[int, int]]:
    """Sorted positions as first-to-last ranges."""
    ranges: list[tuple[int, int]] = []
    for position in positions:
        if ranges and ranges[-1][1] == position - 1:
            ranges[-1] = (ranges[-1][0], position)
        else:
            ranges.append((position, position))
    return ranges


class _Flow:
    """Rows in flight: `window` of them at any time, with no barrier between one and the next."""

    def __init__(self, function: RowFunction, writer: _Writer, progress: Any, window: int, endpoint: Any) -> None:
        self.function, self.writer, self.progress, self.window = function, writer, progress, window
        self.endpoint = endpoint
        self.failures: Counter[str] = Counter()
        self.open_in_a_row = 0
        self.signal: signal.Signals | None = None
        self.error: BaseException | None = None

    async def run(self, rows: Iterator[tuple[int, Row]], around: Iterable[AbstractAsyncContextManager[Any]]) -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()

        def on_signal(number: signal.Signals) -> None:
            if self.signal:  # the second one means now
                for worker in workers:
                    worker.cancel()
            self.signal = number
            stop.set()

        async with contextlib.AsyncExitStack() as stack:
            for manager in around:
                await stack.enter_async_context(manager)
            workers = [asyncio.create_task(self._work(rows, stop)) for _ in range(self.window)]
            for number in (signal.SIGINT, signal.SIGTERM):
                with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # not the main thread
                    loop.add_signal_handler(number, on_signal, number)
            stopping = asyncio.create_task(stop.wait())
            finished = asyncio.gather(*workers, return_exceptions=True)
            await asyncio.wait({stopping, finished}, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set() and not finished.done():
                if self.signal:
                    self.progress.write(f"{self.signal.name}: finishing what is in flight ...", file=sys.stderr)
                await asyncio.wait({finished}, timeout=GRACE_SECONDS)
                for worker in workers:
                    worker.cancel()
            await asyncio.wait({finished})
            stopping.cancel()
        if self.error:
            self.writer.flush()  # what was done before stays done
            raise self.error

    async def _work(self, rows: Iterator[tuple[int, Row]], stop: asyncio.Event) -> None:
        yielded = time.monotonic()
        for position, row in rows:
            try:
                result = self.function(row)
                if inspect.isawaitable(result):
                    result = await result
                elif time.monotonic() - yielded > RESPONSIVE_SECONDS:
                    await asyncio.sleep(0)
                    yielded = time.monotonic()
                self.writer.add(position, result if isinstance(result, Done) else Done([result]))
                self.open_in_a_row = 0
            except RowOpen as error:
                self._leave_open(str(error), stop)
            except (UserError, OSError, MemoryError) as error:
                self.error = self.error or error
                stop.set()
            except Exception as error:  # a fault of ours with one row must not lose the others
                self._leave_open(f"{type(error).__name__}: {error}"[:200], stop)
            if self.progress.update():  # it was time to show something
                used = [self.endpoint.summary()] if self.endpoint else []
                self.progress.set_postfix_str(", ".join([self.writer.summary(), *used]), refresh=False)
            if stop.is_set():
                return

    def _leave_open(self, reason: str, stop: asyncio.Event) -> None:
        self.failures[reason] += 1
        self.open_in_a_row += 1
        if self.open_in_a_row >= MAX_OPEN_IN_A_ROW:
            stop.set()


def _progress(step: str, total: int, done: int) -> Any:
    from tqdm import tqdm

    return tqdm(
        total=total,
        initial=done,
        desc=step,
        unit=" rows",
        dynamic_ncols=True,
        mininterval=0.2 if sys.stderr.isatty() else 15.0,  # a log file gets a line now and then
        maxinterval=1.0 if sys.stderr.isatty() else 15.0,
    )


def _report(run: dict[str, Any], options: StepOptions, flow: _Flow, open_rows: int) -> None:
    counts = ", ".join(f"{n} {name}" for name, n in sorted(run["counts"].items(), key=lambda c: -c[1]))
    print(f"{run['step']}: {run['rows_in']} rows in, {run['rows_out']} rows out ({counts}) -> {options.output}")
    if not open_rows:
        return
    for reason, n in flow.failures.most_common(3):
        warn(f"{n} rows open: {reason}")
    warn(f"{open_rows} of {run['rows_in']} rows are still to do: run the same command again")
    raise SystemExit(128 + flow.signal if flow.signal else EXIT_OPEN)


def warn(sentence: str) -> None:
    """Say `sentence` on standard error."""
    print(f"warning: {sentence}", file=sys.stderr)
