"""The thread that keeps the workers: it starts them, gives them programs, and replaces those that die."""

import contextlib
import math
import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from .isolation import SandboxUnavailable, unavailable
from .messages import DETAIL_LIMIT, QUEUE
from .tasks import Program, Result, Task
from .worker_process import WorkerProcess

SHARE = 0.1  # seconds that a program waits behind another while a worker is idle
IDLE = 60.0  # seconds after which the thread looks around without being woken
STOP_LIMIT = 2.0  # seconds that a worker may take to end by itself
RETRIES = 2  # how often a program is run again, elsewhere, after the sandbox failed it
PROBE = Program("x = 1", "assert x == 1")
START_FAILURES = 3  # workers in a row that do not start, before the sandbox gives up


class Pool:
    """Workers and the programs that wait for them. `put` and `close` may be called from any thread.

    Args:
        make_worker: starts the worker of a given number, counted from 0. Raises OSError when that is not possible.
        count: workers at a time.
        probe: a harmless program: where it fails, the machine is at fault and not the program before.

    Raises:
        SandboxUnavailable: a worker does not start; the message names the cause and the remedy.
    """

    def __init__(self, make_worker: Callable[[int], WorkerProcess], count: int, probe: Program = PROBE):
        self.alive: list[WorkerProcess] = []
        self.left_out: dict[str, str] = {}  # modules that a worker could not import ahead, and why
        self._make_worker, self._count, self._probe_program = make_worker, count, probe
        self._made = self._failures = 0  # workers so far; those of late that did not start
        self._lock = threading.Lock()
        self._waiting: deque[Task] = deque()
        self._pid = os.getpid()
        self.closing = False
        self._broken: BaseException | None = None  # why the pool ended by itself
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._started: Future[None] = Future()
        self._thread = threading.Thread(target=self._manage, name="sandbox", daemon=True)
        self._thread.start()
        try:
            self._started.result()
        except BaseException:
            self.close()
            raise

    def put(self, task: Task) -> None:
        """Adds a program to those that wait. Raises RuntimeError after the end, and in a fork: nobody runs it there."""
        if os.getpid() != self._pid:
            raise RuntimeError("The sandbox belongs to the process that made it: make another one in this fork of it.")
        with self._lock:
            if self.closing:
                raise RuntimeError("The sandbox is closed.") from self._broken
            self._waiting.append(task)
        task.future.add_done_callback(self._hear_of_end)
        self._wake()

    def _hear_of_end(self, future: "Future[Result]") -> None:
        if future.cancelled():
            self._wake()

    def _wake(self) -> None:
        """Makes the thread look around at once."""
        with contextlib.suppress(OSError):  # full: it is awake already; closed: there is nothing to wake
            self._wake_out.send(b"w")

    def close(self) -> None:
        """Ends all workers and all that runs in them, and cancels what waits."""
        if os.getpid() != self._pid:
            return  # a fork of the process that owns the workers
        with self._lock:
            self.closing = True
        self._wake()
        self._thread.join()

    # ---- the thread ----

    def _manage(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_in, selectors.EVENT_READ, None)
        try:
            for _ in range(self._count):
                self._start_worker()
            while not self.closing:
                self._turn()
                if not self._started.done() and all(worker.ready for worker in self.alive):
                    self._started.set_result(None)
        except BaseException as error:
            self._broken = error
        finally:
            self._stop()
            if not self._started.done():
                self._started.set_exception(self._broken or SandboxUnavailable("The sandbox was closed."))

    def _start_worker(self) -> None:
        try:
            worker = self._make_worker(self._made)
        except OSError as error:
            raise unavailable(str(error)) from error
        self._made += 1
        self.alive.append(worker)
        self._selector.register(worker.socket, selectors.EVENT_READ, worker)

    def _turn(self) -> None:
        """One round: reads what the workers say, then gives work to those that have room."""
        now = time.monotonic()
        wait = min([SHARE if self._can_share() else IDLE, *(worker.deadline - now for worker in self.alive)])
        for key, _ in self._selector.select(max(0.0, wait)):
            if key.data is not None:
                self._serve(key.data)
                continue
            with contextlib.suppress(BlockingIOError):
                while self._wake_in.recv(4096):
                    pass
            for worker in self.alive:
                worker.tell_cancelled()
        now = time.monotonic()
        for worker in list(self.alive):
            if now > worker.deadline:
                self._lose(worker, "It did not answer in time.")
        self._hand_out()
        self._share(now)
        for worker in self.alive:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.to_send else 0)
            if self._selector.get_key(worker.socket).events != events:
                self._selector.modify(worker.socket, events, worker)

    def _serve(self, worker: WorkerProcess) -> None:
        if worker not in self.alive:
            return  # lost in this same round
        try:
            for message in worker.exchange():
                if "ready" in message:
                    worker.ready, worker.deadline, self._failures = True, math.inf, 0
                    self.left_out |= message["left_out"]
                elif "failed" in message:
                    raise OSError(message["failed"])
                else:
                    self._finish(worker, message)
        except (OSError, ValueError, LookupError, TypeError) as error:  # it died, or it sends nonsense
            self._lose(worker, worker.last_words() or str(error))

    def _finish(self, worker: WorkerProcess, message: dict) -> None:
        task = worker.take(message.pop("id"))
        if task is None:
            return  # withdrawn, and run elsewhere
        result = Result(task.index, message["outcome"] == "passed", **message)
        if result.outcome == "sandbox_error":
            self._retry(task, worker, result.detail)
        else:
            task.finish(result)

    def _retry(self, task: Task, worker: WorkerProcess, reason: str) -> None:
        """Lets a program run once more, elsewhere; after the last try, a harmless one shows whose fault it was."""
        if task.retries >= RETRIES:
            if task.program is self._probe_program:
                task.finish(Result(task.index, False, "sandbox_error", reason[:DETAIL_LIMIT]))
            else:
                self._probe(task, reason)
            return
        task.retries += 1
        task.avoid = worker
        with self._lock:
            self._waiting.appendleft(task)

    def _probe(self, task: Task, reason: str) -> None:
        """Ends a task on which the sandbox failed each time, once it is known whether it fails on others, too.

        A program alone must not be able to produce "sandbox_error", which would let it run again for ever.
        """

        def judge(future: "Future[Result]") -> None:
            if future.cancelled() or future.exception():
                task.cancel()
            elif future.result().passed:
                detail = f"The sandbox failed {RETRIES + 1} times on this program, and not on another: {reason}"
                task.finish(Result(task.index, False, "error", detail))
            else:
                task.finish(Result(task.index, False, "sandbox_error", reason[:DETAIL_LIMIT]))

        probe = Task(self._probe_program, -1, task.timeout, task.wall, task.main, task.strict, retries=RETRIES)
        probe.future.add_done_callback(judge)
        with self._lock:
            self._waiting.appendleft(probe)

    def _lose(self, worker: WorkerProcess, failure: str) -> None:
        """Replaces a worker that died; what it ran, and what waited there, goes to others."""
        self._selector.unregister(worker.socket)
        self.alive.remove(worker)
        worker.kill()
        tasks = list(worker.tasks.values())  # the first one ran, the others waited
        with self._lock:
            self._waiting.extendleft(reversed(tasks[1:]))
        if tasks:
            self._retry(tasks[0], worker, failure)
        if not worker.ready:
            self._failures += 1
            if not self._started.done() or self._failures >= START_FAILURES:
                raise unavailable(failure)
        self._start_worker()

    def _hand_out(self) -> None:
        """Gives programs to the workers, first to those without work."""
        for depth in range(QUEUE):
            for worker in self.alive:
                if not worker.ready or len(worker.tasks) != depth:
                    continue
                with self._lock:
                    while self._waiting and self._waiting[0].future.cancelled():
                        self._waiting.popleft()
                    if not self._waiting:
                        return
                    if self._waiting[0].avoid is worker and len(self.alive) > 1:
                        continue
                    task = self._waiting.popleft()
                worker.give(task)

    def _can_share(self) -> bool:
        counts = [len(worker.tasks) for worker in self.alive if worker.ready]
        return 0 in counts and QUEUE in counts

    def _share(self, now: float) -> None:
        """Gives what waits behind a long program to a worker that has none."""
        for worker in self.alive:
            if not self._can_share():
                return
            if len(worker.tasks) == QUEUE and now - worker.busy_since > SHARE:
                task = worker.withdraw()
                idle = next(other for other in self.alive if other.ready and not other.tasks)
                idle.give(task)

    def _stop(self) -> None:
        """Ends everything, and the futures of those who still wait."""
        with self._lock:
            self.closing = True
            tasks = list(self._waiting)
            self._waiting.clear()
        for worker in self.alive:
            tasks += worker.tasks.values()
            worker.socket.close()
        for task in tasks:
            if self._broken:
                task.fail(self._broken)
            else:
                task.cancel()
        deadline = time.monotonic() + STOP_LIMIT
        for worker in self.alive:
            worker.end(deadline)
        self._selector.close()
        self._wake_in.close()
        self._wake_out.close()
