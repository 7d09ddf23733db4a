"""The rows of a table in flight: a sliding window, and a clean stop."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from selfalign.errors import RowOpen, UserError, tell, warn
from selfalign.runner.table import Done, Row, Table
from selfalign.runner.writer import PartWriter

if TYPE_CHECKING:
    from tqdm import tqdm

    from selfalign.llm.endpoint import Endpoint

GRACE_SECONDS = 5  # after SIGTERM: preempted machines go away soon
RESPONSIVE_SECONDS = 0.2  # a synchronous row function lets signals in this often
LOG_SECONDS = 15.0  # between two lines about the progress, where nobody watches
WRITING_SECONDS = 5.0  # between two looks at whether a part has to be written
MAX_OPEN_IN_A_ROW = 200  # this many failures in a row are not bad luck: stop


class Flow:
    """Rows in flight: `window` of them at any time, without a barrier between batches.

    Attributes:
        failures: how many rows stayed open, by the reason why.
        signal: the signal that stopped the flow, if one did.
    """

    def __init__(
        self, table: Table, writer: PartWriter, progress: tqdm[Any], window: int, endpoint: Endpoint | None
    ) -> None:
        self.table, self.writer, self.progress, self.window = table, writer, progress, window
        self.endpoint = endpoint
        self.failures: Counter[str] = Counter()
        self.signal: signal.Signals | None = None
        self._open_in_a_row = 0
        self._error: BaseException | None = None
        self._stop = asyncio.Event()
        self._yielded = time.monotonic()

    async def run(self, rows: Iterator[tuple[int, Row]], around: Iterable[AbstractAsyncContextManager[Any]]) -> None:
        """Do the rows, given with their positions, while the context managers `around` are held.

        Raises what ended the flow: that nothing can be read or written any more, or a UserError of the row function.
        """
        async with contextlib.AsyncExitStack() as stack:
            for manager in around:
                await stack.enter_async_context(manager)
            rows = self._readable(rows)
            workers = [asyncio.create_task(self._work(rows)) for _ in range(self.window)]
            self._listen_to_signals(workers)
            stopping = asyncio.create_task(self._stop.wait())
            showing = asyncio.create_task(self._keep_showing())
            writing = asyncio.create_task(self._keep_writing())
            finished = asyncio.gather(*workers, return_exceptions=True)
            await asyncio.wait({stopping, finished}, return_when=asyncio.FIRST_COMPLETED)
            if self._stop.is_set() and not finished.done():
                if self.signal:
                    self.progress.delay = 0  # `tell` draws the bar, however early, and it has to be ended
                    tell(f"{self.signal.name}: finishing what is in flight ...")
                await asyncio.wait({finished}, timeout=GRACE_SECONDS)
                for worker in workers:
                    worker.cancel()
            for outcome in await finished:
                if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
                    self._fail(outcome)  # as a panic of a library in Rust, which is no Exception
            stopping.cancel()
            showing.cancel()
            writing.cancel()
            self._show()
        if self._error:
            with contextlib.suppress(Exception):
                self.failures.update(self.writer.flush())  # what was done before stays done
            for reason, n in self.failures.items():
                warn(f"{n} rows are still open: {reason}")
            raise self._error

    def _listen_to_signals(self, workers: list[asyncio.Task[None]]) -> None:
        def on_signal(number: signal.Signals) -> None:
            if self.signal:  # the second one means now
                for worker in workers:
                    worker.cancel()
            self.signal = number
            self._stop.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # not the main thread
                asyncio.get_running_loop().add_signal_handler(number, on_signal, number)

    def _readable(self, rows: Iterator[tuple[int, Row]]) -> Iterator[tuple[int, Row]]:
        try:
            yield from rows
        except Exception as error:  # no later row can be read either
            self._fail(error)

    async def _work(self, rows: Iterator[tuple[int, Row]]) -> None:
        for position, row in rows:
            try:
                result = await self._result(row)
                if isinstance(result, str):
                    self._leave_open(result)
                else:
                    faults = self.writer.add(position, result)
                    self.failures.update(faults)
                    if self.progress.update(1 - faults.total()):  # it was time to show something
                        self._show()
            except Exception as error:
                self._fail(error)
                return
            if self._stop.is_set():
                return

    async def _result(self, row: Row) -> Done | str:
        """What became of a row, or the reason why it stays open.

        Raises:
            UserError, OSError, MemoryError: of the row function; no other row will fare better.
        """
        try:
            if (null := self._null_column(row)) is not None:
                result = Done([], {f"null_{null}": 1})
            else:
                result = self.table.row_function(row)
                if inspect.isawaitable(result):
                    result = await result
                elif time.monotonic() - self._yielded > RESPONSIVE_SECONDS:
                    await asyncio.sleep(0)
                    self._yielded = time.monotonic()
        except RowOpen as error:
            return str(error)
        except (UserError, OSError, MemoryError):
            raise
        except Exception as error:  # a fault of ours with one row must not lose the others
            return f"{type(error).__name__}: {error}"[:200]
        self._open_in_a_row = 0
        return result if isinstance(result, Done) else Done([result])

    def _null_column(self, row: Row) -> str | None:
        """The first column that the step needs and this row lacks, unless the row says why."""
        if row.get("error"):
            return None
        return next((name for name in self.table.source.needs if row[name] is None), None)

    async def _keep_writing(self) -> None:
        """What is done must not lie in memory for as long as no other row is."""
        while not self._error:
            await asyncio.sleep(WRITING_SECONDS)
            if self.writer.is_due():
                try:
                    faults = self.writer.flush()
                except Exception as error:
                    self._fail(error)
                else:
                    self.failures.update(faults)
                    self.progress.update(-faults.total())

    async def _keep_showing(self) -> None:
        """While a model writes, minutes may pass without a row: say what is in flight."""
        await asyncio.sleep(self.progress.delay)
        while self.endpoint:
            await asyncio.sleep(1.0 if sys.stderr.isatty() else LOG_SECONDS)
            self._show()
            self.progress.delay = 0  # it is there now, and has to be cleared or ended with the last row
            self.progress.refresh()

    def _show(self) -> None:
        """The line beside the progress bar: counts, open rows, and what the endpoint was asked."""
        left_open = [f"{sum(self.failures.values())} open"] if self.failures else []
        used = [self.endpoint.summary()] if self.endpoint else []
        self.progress.set_postfix_str(
            ", ".join(filter(None, [self.writer.summary(), *left_open, *used])), refresh=False
        )

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self._stop.set()

    def _leave_open(self, reason: str) -> None:
        self.failures[reason] += 1
        self._open_in_a_row += 1
        if self._open_in_a_row >= MAX_OPEN_IN_A_ROW:
            self._stop.set()
