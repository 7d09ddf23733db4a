"""How a step runs over the rows of a dataset: what is left to do, a sliding window, parts, progress, a clean stop.

    run_step(options, source, row_function, columns)

calls `row_function` for each row of `source` and writes what it returns. Kill the process anywhere: the same command
does what is missing, and the rows in the end are those of an undisturbed run.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfalign.errors import RowOpen, UserError, warn, without_secrets
from selfalign.ids import content_id
from selfalign.options import Shard, StepOptions, command_of, identity_of
from selfalign.runner import card as cards
from selfalign.runner.output import Describe, Output, Part, covered_rows, open_output
from selfalign.runner.source import MAIN_TABLE, Source, open_source

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

Row = dict[str, Any]
PART_ROWS = 10_000  # output rows a part: some ten MB of text
PART_BYTES = 64 << 20
PART_SECONDS = 60  # what a kill can lose at most, beside the rows in flight
GRACE_SECONDS = 5  # after SIGTERM: preempted machines go away soon
RESPONSIVE_SECONDS = 0.2  # a synchronous row function lets signals in this often
MAX_OPEN_IN_A_ROW = 200  # so many rows failing one after another is not bad luck: stop
BLOCK_ROWS = 100_000  # whose positions are held at a time
PACKED_ROWS = 500  # rows that become columns at a time
LINEAGE = ("license", "repository")  # columns whose values are counted for the card
EXIT_OPEN = 3  # exit status when rows stay open


@dataclass(frozen=True)
class Done:
    """What became of an input row: the rows it gives, and what to count (reasons of what was dropped, say)."""

    rows: list[Row]
    counts: dict[str, int] = field(default_factory=dict)


RowFunction = Callable[[Row], "Done | Row | Awaitable[Done | Row]"]


@dataclass(frozen=True)
class Table:
    """A table of a step's output (a configuration on the Hub): what its rows are made from, by which function, which
    columns that adds, whether those of the source are kept, and how many rows of the source count."""

    source: Source
    row_function: RowFunction
    columns: dict[str, Any]
    carry: bool = True
    limit: int | None = None

    def __len__(self) -> int:
        return min(len(self.source), self.limit or len(self.source))


def read_input(options: StepOptions, *columns: str) -> Source:
    """The input of a step, which must have `columns`; rows with a null in one of them are counted and left out."""
    source = open_source(
        options.input, columns=columns, config=options.config, split=options.split, token=options.hf_token
    )
    if source.run and not source.run.get("complete"):
        warn(f"{options.input} is not complete: the step that writes it has rows open")
    return replace(source, needs=columns)


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
    tables: dict[str, Table] | None = None,
    decontamination: dict[str, Any] | None = None,
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
        dropped: counts of what the script left out of `source` by itself, in the order in which it did, for the funnel.
        tables: further tables of the output by name, done after the main one; `--max-samples` does not limit them.
        decontamination: what was removed because it is of a benchmark (`decontamination.record_of`), for the card.
        title: what the step is called in the funnel; the script's name otherwise.

    Raises:
        UserError: another run's data is there, or nothing can be written.
        SystemExit: status 3 if rows stayed open, 130 or 143 after a signal; what was done is written. Status 0 if the
            rows of `--shard` are done and those of others are not, or if Slurm has them.
    """
    if not options.executor and not options.shard and (options.shards, options.workers) != (1, None):
        raise UserError("--shards and --workers belong to --executor: name one of local, slurm, ray, jobs")
    step = title or Path(sys.argv[0]).stem
    identity = {"step": step, "options": identity_of(options), "input": source.pin, "prompts": prompts}
    if endpoint:
        identity |= endpoint.identity
        around, window = [endpoint, *around], endpoint.window
    identity = json.loads(json.dumps(identity))
    all_tables = {MAIN_TABLE: Table(source, row_function, columns, carry, options.max_samples), **(tables or {})}
    shard = Shard.parse(options.shard)
    output = open_output(
        options.output, shard=shard, run=content_id(identity), public=options.public, token=options.hf_token
    )

    def describe(read: Callable[[str], str | None], parts: list[Part]) -> dict[str, str]:
        refuse_other_run(output.name, read("run.json"), identity)
        run = _run_json(options, all_tables, identity, step, parts, dropped or {})
        if decontamination:
            run["decontamination"] = decontamination
        if endpoint:
            run["generation"] = endpoint.report([part.used for part in parts if part.used])
        card = cards.dataset_card(run, read("README.md"), on_hub=output.on_hub)
        return {"README.md": card, "run.json": json.dumps(run, indent=2)}  # which says last that all is complete

    flows: list[_Flow] = []
    if options.executor and not options.shard:
        from selfalign.runner.shards import run_shards

        with output:
            refuse_other_run(output.name, output.read("run.json"), identity, output.foreign_files)
            todo = _todo(output, all_tables)
        if any(rows.any() for rows in todo.values()):
            run_shards(options, content_id(identity), _open_shards(todo, all_tables, options.shards))
    with output:
        there = output.read("run.json")
        refuse_other_run(output.name, there, identity, output.foreign_files)
        todo = {name: rows for name, rows in _todo(output, all_tables).items() if rows.any()}
        stopped = None
        if options.shard or not options.executor:
            if todo and (not there or json.loads(there).get("complete")):
                output.begin(describe)
            for name, rows in todo.items():
                table, main = all_tables[name], name == MAIN_TABLE
                writer = _Writer(output, describe, name, _schema(table), count_by if main else None, endpoint)
                title = step if main else f"{step}: {name}"
                with _progress(title, total=len(rows[shard.span(len(table))]), todo=int(rows.sum())) as progress:
                    flow = _Flow(table.row_function, writer, progress, window, table.source.needs, endpoint)
                    asyncio.run(flow.run(_rows(table.source, rows), around if main else ()))
                    writer.flush()
                flows.append(flow)
                if stopped := flow.signal:
                    break
        if flows or todo or not json.loads(there or "{}").get("complete"):
            output.commit(describe, final=True, stopping=stopped is not None)
        run = json.loads(output.read("run.json") or "{}")
        open_rows = sum(int(rows.sum()) for rows in _todo(output, all_tables).values())
    _report(run, options, sum((flow.failures for flow in flows), Counter()), open_rows)
    if open_rows:
        raise SystemExit(128 + stopped if stopped else EXIT_OPEN)
    if not run["complete"]:  # a script of two steps: the second one needs all of the first
        print(f"{step}: shard {options.shard} is done; others have rows to do", file=sys.stderr)
        raise SystemExit(0)
    return run


def refuse_other_run(
    name: str, run_json: str | None, identity: dict[str, Any], foreign_files: Callable[[], list[str]] = list
) -> None:
    """UserError if the output `name`, with this run.json or none, holds something else than this very run."""
    if run_json is None:
        if foreign := foreign_files():
            raise UserError(
                f"{name} already holds {', '.join(foreign[:3])}, which this step did not write: choose another output"
            )
        return
    try:
        there = dict(json.loads(run_json)["identity"])
    except (ValueError, LookupError, TypeError, RecursionError):
        raise UserError(
            f"{name} already holds a run.json that no step wrote, or that is damaged: choose another output"
        ) from None
    if there == identity:
        return
    flat_there, flat_here = _flat(there), _flat(identity)
    differing = [
        f"{name} was {flat_there.get(name)}, is {flat_here.get(name)}"
        for name in sorted(flat_there.keys() | flat_here.keys())
        if flat_there.get(name) != flat_here.get(name)
    ]
    raise UserError(f"{name} holds a run that differs ({'; '.join(differing)}): choose another output")


def _flat(nested: dict[str, Any]) -> dict[str, Any]:
    flat = {}
    for name, value in nested.items():
        if isinstance(value, dict):
            flat |= {f"{name} {k}" if name == "input" else k: v for k, v in value.items()}
        else:
            flat[name] = value
    return flat


def _todo(output: Output, tables: dict[str, Table]) -> dict[str, np.ndarray]:
    """Of each table, which rows of its input are this shard's and not covered by a part."""
    parts, todo = output.parts(), {}
    for name, table in tables.items():
        todo[name] = ~covered_rows(parts, len(table.source), name)
        span = output.shard.span(len(table))
        todo[name][: span.start] = todo[name][span.stop :] = False
    return todo


def _open_shards(todo: dict[str, np.ndarray], tables: dict[str, Table], shards: int) -> np.ndarray:
    """Which of the shards have rows to do."""
    import numpy as np

    def is_open(shard: Shard) -> bool:
        return any(rows[shard.span(len(tables[name]))].any() for name, rows in todo.items())

    return np.array([is_open(Shard(number, shards)) for number in range(shards)])


def _run_json(
    options: StepOptions,
    tables: dict[str, Table],
    identity: Row,
    step: str,
    parts: list[Part],
    dropped: dict[str, int],
) -> dict[str, Any]:
    """What there is to say about `parts`. Nothing else goes into it (no clock, no counter of this process), so that it
    is the same whichever shard says it, and a commit that is tried again changes nothing."""

    def progress_of(name: str, table: Table) -> dict[str, int]:
        done = int(covered_rows(parts, len(table.source), name)[: len(table)].sum())
        rows_out = sum(part.rows for part in parts if part.table == name)
        return {"rows_in": len(table), "rows_done": done, "rows_out": rows_out}

    source = tables[MAIN_TABLE].source
    progress = {name: progress_of(name, table) for name, table in tables.items()}
    main = [part for part in parts if part.table == MAIN_TABLE]
    counts = sum((Counter(part.counts) for part in main), Counter(dropped))
    entry: Row = {"step": step, **progress[MAIN_TABLE], "counts": dict(sorted(counts.items()))}
    entry["rows_in"] += sum(dropped.values())
    run = {
        "step": step,
        "identity": identity,
        "command": command_of(options),
        "input": {"name": source.name, **source.pin},
        **entry,
        "complete": all(table["rows_done"] == table["rows_in"] for table in progress.values()),
        "seconds": round(sum(part.seconds for part in parts), 1),
        "lineage": {
            column: dict(sum((Counter(part.lineage.get(column, {})) for part in main), Counter()).most_common())
            for column in LINEAGE
        },
        "funnel": [*source.run.get("funnel", []), entry],
        "versions": cards.versions(),
    }
    if dropped:
        run["dropped"] = list(dropped.items())  # in the order of the rules, which `counts` does not keep
    if len(tables) > 1:
        run["tables"] = {name: progress[name] for name in tables if name != MAIN_TABLE}
    return run


def _schema(table: Table) -> pa.Schema:
    """The columns of the input (if carried) and those that the step adds or replaces."""
    import pyarrow as pa

    fields = {f.name: f.type for f in table.source.rows.features.arrow_schema} if table.carry else {}
    fields |= {name: _arrow_type(kind) for name, kind in table.columns.items()}
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
    """The rows to do with their positions, which are made of `todo` some at a time: they take eight times its room."""
    import numpy as np

    for start in range(0, len(todo), BLOCK_ROWS):
        yield from source.read(start + np.flatnonzero(todo[start : start + BLOCK_ROWS]))


class _Writer:
    """Gathers rows and writes them as parts: when enough are there, and every minute."""

    def __init__(
        self,
        output: Output,
        describe: Describe,
        table: str,
        schema: pa.Schema,
        count_by: str | None,
        endpoint: Any = None,
    ) -> None:
        self.output, self.describe, self.table = output, describe, table
        self.schema, self.count_by, self.endpoint = schema, count_by, endpoint
        self.counts: Counter[str] = Counter()
        self._columns = set(schema.names)
        self._start_part()

    def _start_part(self) -> None:
        self._unpacked: list[tuple[int, Done]] = []
        self._batches: list[pa.RecordBatch] = []
        self._positions: list[int] = []
        self._part_counts: Counter[str] = Counter()
        self._part_rows = self._part_bytes = 0
        self._since = time.monotonic()

    def add(self, position: int, done: Done) -> dict[str, int]:
        """Take what became of the row at `position`. Gives the faults of rows (this one or earlier ones) that can't be
        stored, and so stay open."""
        self._unpacked.append((position, done))
        self._part_rows += len(done.rows)
        faults = self._pack() if len(self._unpacked) >= PACKED_ROWS or len(done.rows) >= PACKED_ROWS else {}
        if (
            self._part_rows >= PART_ROWS
            or len(self._positions) >= PART_ROWS
            or self._part_bytes >= PART_BYTES
            or time.monotonic() - self._since >= PART_SECONDS
        ):
            return {**faults, **self.flush()}
        return faults

    def summary(self) -> str:
        """The most frequent counts so far, for the progress line."""
        return ", ".join(f"{n} {name}" for name, n in (self.counts + self._part_counts).most_common(3))

    def _pack(self) -> dict[str, int]:
        """Make columns of the rows that came since the last time."""
        import pyarrow as pa

        unpacked, self._unpacked, faults = self._unpacked, [], Counter()
        try:
            packed = [self._batch(unpacked)]
        except (pa.ArrowException, ValueError, TypeError, OverflowError):  # of some row: one by one, to lose no other
            packed, good = [], []
            for each in unpacked:
                try:
                    packed.append(self._batch([each]))
                    good.append(each)
                except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
                    faults[f"its result can't be stored: {error}"[:200]] += 1
                    self._part_rows -= len(each[1].rows)
            unpacked = good
        for position, done in unpacked:
            self._positions.append(position)
            self._part_counts.update(done.counts)
            if self.count_by:
                self._part_counts.update(row[self.count_by] or "ok" for row in done.rows)
        self._batches += packed
        self._part_bytes += sum(batch.nbytes for batch in packed)
        return faults

    def _batch(self, some: list[tuple[int, Done]]) -> pa.RecordBatch:
        import pyarrow as pa

        rows = [row for _, done in some for row in done.rows]
        for row in rows:
            if row.keys() != self._columns:
                raise ValueError(f"columns of row and step differ: {', '.join(sorted(row.keys() ^ self._columns))}")
        return pa.RecordBatch.from_pylist(rows, schema=self.schema)

    def flush(self) -> dict[str, int]:
        """Write what is gathered as one part; gives faults as `add` does. A part of no rows has what was asked of the
        endpoint for rows that stayed open."""
        import pyarrow as pa

        faults = self._pack()
        used = self.endpoint.used() if self.endpoint else {}
        if written := bool(self._positions or used):
            table = pa.Table.from_batches(self._batches, schema=self.schema)
            strings = {f.name for f in self.schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)}
            note = {
                "covered": _ranges(sorted(self._positions)),
                "counts": dict(self._part_counts),
                "lineage": {column: _counted(table[column]) for column in LINEAGE if column in strings},
                "seconds": round(time.monotonic() - self._since, 3),
                "used": used,
            }
            self.output.write_part(table, note, self.table)
            self.counts.update(self._part_counts)
        self._start_part()  # before the commit: what it raises must not make us write the part again
        if written:
            self.output.commit(self.describe)
        return faults


def _counted(column: pa.ChunkedArray) -> dict[str, int]:
    """How often each value occurs; null is "unknown"."""
    counts = ((pair["values"].as_py(), pair["counts"].as_py()) for pair in column.value_counts())
    return {str(value) if value is not None else "unknown": n for value, n in counts}


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

    def __init__(
        self,
        function: RowFunction,
        writer: _Writer,
        progress: Any,
        window: int,
        needs: tuple[str, ...],
        endpoint: Any,
    ) -> None:
        self.function, self.writer, self.progress, self.window = function, writer, progress, window
        self.needs, self.endpoint = needs, endpoint
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
            rows = self._readable(rows, stop)
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
            with contextlib.suppress(Exception):
                self.writer.flush()  # what was done before stays done
            raise self.error

    def _readable(self, rows: Iterator[tuple[int, Row]], stop: asyncio.Event) -> Iterator[tuple[int, Row]]:
        try:
            yield from rows
        except Exception as error:  # no later row can be read either
            self._fail(error, stop)

    async def _work(self, rows: Iterator[tuple[int, Row]], stop: asyncio.Event) -> None:
        yielded = time.monotonic()
        for position, row in rows:
            try:
                if (null := self._null_column(row)) is not None:
                    result = Done([], {f"null_{null}": 1})
                else:
                    result = self.function(row)
                    if inspect.isawaitable(result):
                        result = await result
                    elif time.monotonic() - yielded > RESPONSIVE_SECONDS:
                        await asyncio.sleep(0)
                        yielded = time.monotonic()
                self.open_in_a_row = 0
            except RowOpen as error:
                result = str(error)
            except (UserError, OSError, MemoryError) as error:
                self._fail(error, stop)
                return
            except Exception as error:  # a fault of ours with one row must not lose the others
                result = f"{type(error).__name__}: {error}"[:200]
            try:
                if isinstance(result, str):
                    self._leave_open(result, stop)
                else:
                    faults = self.writer.add(position, result if isinstance(result, Done) else Done([result]))
                    self.failures.update(faults)
            except Exception as error:  # nothing can be written any more
                self._fail(error, stop)
                return
            if self.progress.update():  # it was time to show something
                left_open = [f"{sum(self.failures.values())} open"] if self.failures else []
                used = [self.endpoint.summary()] if self.endpoint else []
                line = ", ".join(filter(None, [self.writer.summary(), *left_open, *used]))
                self.progress.set_postfix_str(line, refresh=False)
            if stop.is_set():
                return

    def _null_column(self, row: Row) -> str | None:
        """The first column that the step needs and this row lacks, unless the row says why."""
        return None if row.get("error") else next((name for name in self.needs if row[name] is None), None)

    def _fail(self, error: BaseException, stop: asyncio.Event) -> None:
        self.error = self.error or error
        stop.set()

    def _leave_open(self, reason: str, stop: asyncio.Event) -> None:
        self.failures[reason] += 1
        self.open_in_a_row += 1
        if self.open_in_a_row >= MAX_OPEN_IN_A_ROW:
            stop.set()


def _progress(step: str, total: int, todo: int) -> Any:
    from tqdm import tqdm

    return tqdm(
        total=total,
        initial=total - todo,
        desc=step,
        unit=" rows",
        dynamic_ncols=True,
        mininterval=0.2 if sys.stderr.isatty() else 15.0,  # a log file gets a line now and then
        maxinterval=1.0 if sys.stderr.isatty() else 15.0,
    )


def _report(run: dict[str, Any], options: StepOptions, failures: Counter[str], open_rows: int) -> None:
    counts = ", ".join(f"{n} {name}" for name, n in sorted(run["counts"].items(), key=lambda c: -c[1]))
    further = "".join(f", {table['rows_out']} {name}" for name, table in run.get("tables", {}).items())
    out = f"{run['rows_out']} rows out{further} ({counts})"
    print(f"{run['step']}: {run['rows_in']} rows in, {out} -> {without_secrets(options.output)}")
    for reason, n in failures.most_common(3):
        warn(f"{n} rows open: {reason}")
    if open_rows:
        warn(f"{open_rows} of {run['rows_in']} rows are still to do: run the same command again")
