"""Runs untrusted Python programs, many, fast, and without letting them touch anything.

    with Sandbox(workers=2) as sandbox:
        for result in sandbox.run(["assert 1 + 1 == 2", "assert 1 + 1 == 3"]):
            print(result.index, result.outcome, result.detail)

Each worker is one process in namespaces that bubblewrap made (see worker.py); this file is the host's side: it starts
workers, hands them programs over sockets, replaces those that die, and gives results back as they come. One thread
does all of that; everything public may be called from any thread.

SECURITY.md says what is defended and how each claim is tested.
"""

import base64
import contextlib
import itertools
import json
import math
import os
import queue
import selectors
import signal
import socket
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, replace

from .isolation import (
    ENVIRONMENT,
    WORKER_FOLDER,
    WORKER_SOURCES,
    Interpreter,
    SandboxUnavailable,
    bubblewrap_arguments,
    diagnose,
    find_bubblewrap,
    hidden_paths,
    is_inside,
    system_call_filter,
)
from .program import DETAIL_LIMIT
from .worker import MOST_PATIENCE

# What most programs of the benchmarks import; a module that is not installed is left out. hashlib is none of them: with
# OpenSSL it would take 1.7 MB in each worker.
PRELOAD = (
    "bisect", "collections", "copy", "datetime", "decimal", "functools", "heapq", "itertools", "json",
    "math", "operator", "random", "re", "statistics", "string", "typing", "unittest", "numpy",
)  # fmt: skip

# Ordinary programs start 100 threads, or a multiprocessing.Pool of a process for each CPU. Not more than these need:
# the worker that ends a fork bomb shares the CPUs with all of it, and each process more makes that take longer.
PROCESSES = max(128, 32 + (os.cpu_count() or 1))
WALL_FACTOR = 3.0  # wall time allowed, in multiples of the CPU time: a loaded machine must not make timeouts
SHARE = 0.1  # seconds that a program waits behind another while a worker is idle
GRACE = 10.0  # seconds beyond a program's wall time after which its worker is given up
IDLE = 60.0  # seconds after which the thread looks around without being woken
LAST_WORDS = 0.5  # seconds to wait for a dying worker's message
START_LIMIT = 30.0  # seconds that a worker may take to start
STOP_LIMIT = 2.0  # seconds that a worker may take to end by itself
QUEUE = 2  # programs that a worker holds: the one that runs, and the next, so that it never waits for the host
RETRIES = 1  # how often a program is run again, elsewhere, after the sandbox failed it
PROGRAM_LIMIT = 16 << 20  # bytes of a program's text
MODES = ("isolated", "strict", "unsafe")

START_FAILURES = 3  # workers in a row that do not start, before the sandbox gives up
FRAME = struct.Struct("<I")  # the length before each message
NOTHING = FRAME.pack(2) + b"{}"  # a message that carries a descriptor

UNSAFE_WARNING = (
    "The mode 'unsafe' runs programs that a model wrote as yours, with nothing between them and your files, network "
    'and accounts. If that is what you want, say so: os.environ["HF_ALLOW_CODE_EVAL"] = "1".'
)


@dataclass(frozen=True)
class Program:
    """Code to be judged and the tests that judge it, compiled apart; `tests=None`: both are in `code`.

    `timeout`: seconds of CPU time; None: the sandbox's.
    """

    code: str
    tests: str | None = None
    timeout: float | None = None


@dataclass(frozen=True)
class Result:
    """How one program ended.

    index: its place in what was given to `run`, or the count of `submit`s before it
    passed: the last statement of the tests ran, and nothing went wrong
    outcome: passed, failed (an assertion), error, timeout (wall), cpu_limit, out_of_memory, output_limit,
        too_many_processes, syntax_error, no_tests, killed (by a signal), sandbox_error (not the program's fault)
    detail: the last line of the error, at most 300 characters
    cpu_seconds, wall_seconds: of the program and all that it started and waited for
    peak_memory: bytes, of the largest process or, if higher, of all together as seen every 50 ms
    """

    index: int
    passed: bool
    outcome: str
    detail: str = ""
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    peak_memory: int = 0


class Sandbox:
    """Workers that run programs until `close`.

    Args:
        mode: "isolated"; "strict": tests and code in separate processes; "unsafe": no isolation.
        workers: processes that run programs, each one program at a time.
        timeout: seconds of CPU time for a program, all its processes together.
        wall_timeout: seconds on the clock, not counting those in which a program waits for a CPU; None: three times
            `timeout`.
        memory: bytes that a program may add to the interpreter's, for each process and for all together.
        processes: processes and threads at a time; the default has room for a multiprocessing.Pool() or 100 threads.
        output: bytes on stdout and stderr together.
        disk: bytes in /tmp, which is all that a program can write to, and which is in memory.
        files: files in /tmp.
        open_files: file descriptors.
        preload: modules that workers import once; None: those of PRELOAD that are installed.
        read_only: extra paths that programs may read, each at its own place.
        python: the interpreter that runs the programs, with its packages; None: this one.
        environment: variables that programs see beside the sandbox's own.
        main: whether `if __name__ == "__main__":` blocks run.

    Raises:
        SandboxUnavailable: programs cannot be isolated here.
        ValueError: an unknown mode, or "unsafe" without HF_ALLOW_CODE_EVAL=1 in the environment.
    """

    def __init__(
        self,
        mode: str = "isolated",
        workers: int = 2,
        timeout: float = 3.0,
        *,
        wall_timeout: float | None = None,
        memory: int = 1 << 30,
        processes: int = PROCESSES,
        output: int = 1 << 20,
        disk: int = 64 << 20,
        files: int = 4096,
        open_files: int = 256,
        preload: Sequence[str] | None = None,
        read_only: Sequence[str] = (),
        python: str | None = None,
        environment: Mapping[str, str] | None = None,
        main: bool = True,
    ):
        if mode not in MODES:
            raise ValueError(f"Unknown mode {mode!r}: one of {', '.join(MODES)}.")
        if mode == "unsafe" and os.environ.get("HF_ALLOW_CODE_EVAL") != "1":
            raise ValueError(UNSAFE_WARNING)
        self.mode, self.workers, self.timeout, self.wall_timeout, self.main = mode, workers, timeout, wall_timeout, main
        self._interpreter = Interpreter(python)
        self._read_only = [os.path.abspath(path) for path in read_only]
        for path in self._read_only:
            if not os.path.exists(path):
                raise FileNotFoundError(f"read_only: {path} does not exist.")
        self._environment = {**ENVIRONMENT, **(environment or {})}
        if "LD_LIBRARY_PATH" in os.environ and self._interpreter.libraries:  # an interpreter that was moved
            self._environment.setdefault("LD_LIBRARY_PATH", os.path.dirname(self._interpreter.libraries[0]))
        if self._interpreter.extra:  # for a Python that a program starts
            self._environment.setdefault("PYTHONPATH", os.pathsep.join(self._interpreter.extra))
        self._settings = {
            "isolated": mode != "unsafe",
            "path": self._interpreter.extra,
            "preload": list(PRELOAD if preload is None else preload),
            "optional": list(PRELOAD if preload is None else ()),
            "memory": memory,
            "processes": processes,
            "output": output,
            "disk": disk,
            "files": files,
            "open_files": open_files,
            "under_tmp": [p for p in [*self._interpreter.folders, *self._read_only] if is_inside(p, "/tmp")],
            "hidden": hidden_paths(self._interpreter, self._read_only),
            "filter": base64.b64encode(system_call_filter()).decode() if mode != "unsafe" else "",
        }
        if mode != "unsafe":
            self._bubblewrap = find_bubblewrap()
        self._lock = threading.Lock()
        self._waiting: deque[_Task] = deque()
        self._count = 0
        self._pid = os.getpid()
        self._closing = False
        self._broken: BaseException | None = None  # why the sandbox ended by itself
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

    # ---- what callers use ----

    def run(self, programs: Iterable[str | Program]) -> Iterator[Result]:
        """Results as they finish, in no order; `programs` is read only as far ahead as keeps the workers busy."""
        done: queue.SimpleQueue[Future[Result]] = queue.SimpleQueue()
        running: set[Future[Result]] = set()
        numbered = enumerate(programs)
        ahead = 2 * QUEUE * self.workers
        try:
            exhausted = False
            while True:
                while not exhausted and len(running) < ahead:
                    following = next(numbered, None)
                    if following is None:
                        exhausted = True
                        break
                    future = self._submit(following[1], following[0])
                    running.add(future)
                    future.add_done_callback(done.put)
                if not running:
                    return
                future = done.get()
                running.remove(future)
                yield future.result()
        finally:
            for future in running:
                future.cancel()

    def submit(self, program: str | Program) -> "Future[Result]":
        """One program, from any thread; cancelling the future ends the program if it runs already.

        For asyncio: `await asyncio.wrap_future(sandbox.submit(program))`.
        """
        with self._lock:
            index, self._count = self._count, self._count + 1
        return self._submit(program, index)

    def close(self) -> None:
        """Ends all workers and all that runs in them; futures that wait are cancelled."""
        if os.getpid() != self._pid:
            return  # a fork of the process that owns the workers
        with self._lock:
            self._closing = True
        self._wake()
        self._thread.join()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    # ---- between the callers and the thread ----

    def _submit(self, program: str | Program, index: int) -> "Future[Result]":
        if isinstance(program, str):
            program = Program(program)
        if self.mode == "strict" and program.tests is None:
            raise ValueError("The mode 'strict' needs code and tests apart: Program(code=..., tests=...).")
        task = _Task(program, index, self._wake)
        size = len(program.code) + len(program.tests or "")
        if size > PROGRAM_LIMIT:
            task.finish(Result(index, False, "error", f"A program of {size} characters; {PROGRAM_LIMIT} are allowed."))
            return task.future
        with self._lock:
            if self._closing:
                raise RuntimeError("The sandbox is closed.") from self._broken
            self._waiting.append(task)
        self._wake()
        return task.future

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it is awake already; closed: there is nothing to wake
            self._wake_out.send(b"w")

    # ---- the thread ----

    def _manage(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_in, selectors.EVENT_READ, None)
        self._alive: list[_Worker] = []
        self._started_workers = self._failures = 0
        try:
            for _ in range(self.workers):
                self._start_worker()
            while not self._closing:
                self._turn()
                if not self._started.done() and all(worker.ready for worker in self._alive):
                    self._started.set_result(None)
        except BaseException as error:
            self._broken = error
        finally:
            self._stop()
            if not self._started.done():
                self._started.set_exception(self._broken or SandboxUnavailable("The sandbox was closed."))

    def _start_worker(self) -> None:
        settings = {**self._settings, "number": self._started_workers}
        self._started_workers += 1
        try:
            worker = _Worker(self._command, self._environment, settings)
        except OSError as error:
            raise SandboxUnavailable(diagnose(str(error))) from error
        self._alive.append(worker)
        self._selector.register(worker.socket, selectors.EVENT_READ, worker)

    def _command(self, descriptors: Sequence[int]) -> list[str]:
        control, host, info = map(str, descriptors)
        sources = [os.path.join(os.path.dirname(os.path.realpath(__file__)), name) for name in WORKER_SOURCES]
        if self.mode == "unsafe":
            return [self._interpreter.executable, "-s", "-B", sources[0], control, host]
        bubblewrap = [self._bubblewrap, *bubblewrap_arguments(self._interpreter, self._read_only, sources)]
        inside = [self._interpreter.executable, "-s", "-B", f"{WORKER_FOLDER}/{WORKER_SOURCES[0]}", control, host]
        return [*bubblewrap, "--info-fd", info, "--", *inside]

    def _turn(self) -> None:
        """One round: what the workers say, then work for those that have room."""
        now = time.monotonic()
        wait = min([SHARE if self._can_share() else IDLE, *(worker.deadline - now for worker in self._alive)])
        for key, _ in self._selector.select(max(0.0, wait)):
            if key.data is not None:
                self._serve(key.data)
                continue
            with contextlib.suppress(BlockingIOError):
                while self._wake_in.recv(4096):
                    pass
            for worker in self._alive:
                worker.tell_cancelled()
        now = time.monotonic()
        for worker in list(self._alive):
            if now > worker.deadline:
                worker.failure = "It did not answer in time."
                self._lose(worker)
        self._hand_out()
        self._share(now)
        for worker in self._alive:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.to_send else 0)
            if self._selector.get_key(worker.socket).events != events:
                self._selector.modify(worker.socket, events, worker)

    def _serve(self, worker: "_Worker") -> None:
        if worker not in self._alive:
            return  # lost in this same round
        try:
            for message in worker.exchange():
                if "ready" in message:
                    worker.ready, worker.deadline, self._failures = True, math.inf, 0
                elif "failed" in message:
                    raise OSError(message["failed"])
                else:
                    self._finish(worker, message)
        except (OSError, ValueError, LookupError, TypeError) as error:  # it died, or it does not talk sense
            worker.failure = worker.last_words() or str(error)
            self._lose(worker)

    def _finish(self, worker: "_Worker", message: dict) -> None:
        task = worker.take(message.pop("id"))
        if task is None:
            return  # withdrawn, and run elsewhere
        result = Result(task.index, message["outcome"] == "passed", **message)
        if result.outcome == "sandbox_error":
            self._retry(task, worker, result.detail)
        else:
            task.finish(result)

    def _retry(self, task: "_Task", worker: "_Worker", reason: str) -> None:
        """Once more, elsewhere: the sandbox failed, not the program."""
        if task.retries >= RETRIES:
            task.finish(Result(task.index, False, "sandbox_error", reason[:DETAIL_LIMIT]))
            return
        task.retries += 1
        task.avoid = worker
        with self._lock:
            self._waiting.appendleft(task)

    def _lose(self, worker: "_Worker") -> None:
        """A worker died: what it ran goes to another one, and so does what waited there; a new one takes its place."""
        self._selector.unregister(worker.socket)
        self._alive.remove(worker)
        worker.kill()
        tasks = list(worker.tasks.values())  # the first one ran, the others waited
        with self._lock:
            self._waiting.extendleft(reversed(tasks[1:]))
        if tasks:
            self._retry(tasks[0], worker, worker.failure)
        if not worker.ready:
            self._failures += 1
            if not self._started.done() or self._failures >= START_FAILURES:
                raise SandboxUnavailable(diagnose(worker.failure))
        self._start_worker()

    def _hand_out(self) -> None:
        """Programs to the workers, to those without work first."""
        for depth in range(1 if self.mode == "strict" else QUEUE):
            for worker in self._alive:
                if not worker.ready or len(worker.tasks) != depth:
                    continue
                with self._lock:
                    while self._waiting and self._waiting[0].future.cancelled():
                        self._waiting.popleft()
                    if not self._waiting:
                        return
                    if self._waiting[0].avoid is worker and len(self._alive) > 1:
                        continue
                    task = self._waiting.popleft()
                worker.give(task, self._message(task))

    def _message(self, task: "_Task") -> dict:
        """What a worker is told about a program, beside its text."""
        timeout = self.timeout if task.program.timeout is None else task.program.timeout
        wall = WALL_FACTOR * timeout if self.wall_timeout is None else self.wall_timeout
        mode = "strict" if self.mode == "strict" else "isolated"
        return {"timeout": timeout, "wall": wall, "main": self.main, "mode": mode}

    def _can_share(self) -> bool:
        counts = [len(worker.tasks) for worker in self._alive if worker.ready]
        return 0 in counts and QUEUE in counts

    def _share(self, now: float) -> None:
        """What waits behind a long program goes to a worker that has none."""
        for worker in self._alive:
            if not self._can_share():
                return
            if len(worker.tasks) == QUEUE and now - worker.busy_since > SHARE:
                task = worker.withdraw()
                idle = next(other for other in self._alive if other.ready and not other.tasks)
                idle.give(task, self._message(task))

    def _stop(self) -> None:
        """Ends everything; who still waits hears of it."""
        with self._lock:
            self._closing = True
            tasks = list(self._waiting)
            self._waiting.clear()
        for worker in self._alive:
            tasks += worker.tasks.values()
            worker.socket.close()
        for task in tasks:
            if self._broken:
                task.fail(self._broken)
            else:
                task.close_tests()
                task.future.cancel()
        deadline = time.monotonic() + STOP_LIMIT
        for worker in self._alive:
            worker.end(deadline)
        self._selector.close()
        self._wake_in.close()
        self._wake_out.close()


class _Task:
    """A program on its way, with the future that its result is set on."""

    def __init__(self, program: Program, index: int, wake: Callable[[], None]):
        self.program, self.index = program, index
        self.future = _Future(wake)
        self.retries = 0
        self.avoid: _Worker | None = None  # the worker on which it failed
        self.wall = 0.0  # seconds that it may take, set when it is handed out
        self.tests, self.size = -1, 0  # strict mode: a descriptor, and the bytes of the tests in it

    def open_tests(self) -> int:
        """Strict mode: a file in memory with the tests, which the worker hands on unread."""
        if self.tests < 0:
            text = (self.program.tests or "").encode("utf-8", "surrogatepass")
            self.tests, self.size = os.memfd_create("tests"), len(text)
            with open(self.tests, "wb", closefd=False) as file:
                file.write(text)
        return self.tests

    def close_tests(self) -> str:
        """The detail that the tests' process has written behind the tests, if there is such a file."""
        if self.tests < 0:
            return ""
        detail = os.pread(self.tests, 4 * DETAIL_LIMIT, self.size)
        os.close(self.tests)
        self.tests = -1
        return detail.decode("utf-8", "replace")[:DETAIL_LIMIT]

    def finish(self, result: Result) -> None:
        if detail := self.close_tests():
            result = replace(result, detail=result.detail or detail)
        with contextlib.suppress(InvalidStateError):  # cancelled in the meantime
            self.future.set_result(result)

    def fail(self, error: BaseException) -> None:
        self.close_tests()
        with contextlib.suppress(InvalidStateError):
            self.future.set_exception(error)


class _Future(Future):
    """A future that can be cancelled while its program runs: it stays pending until the result is there."""

    def __init__(self, wake: Callable[[], None]):
        super().__init__()
        self._wake = wake

    def cancel(self) -> bool:
        cancelled = super().cancel()
        if cancelled:
            self._wake()
        return cancelled


class _Worker:
    """The host's end of one worker process."""

    _numbers = itertools.count()  # of programs, as they are handed out

    def __init__(self, command: Callable[[Sequence[int]], list[str]], environment: dict[str, str], settings: dict):
        self.tasks: dict[int, _Task] = {}  # in the order in which it runs them
        self.told: set[int] = set()  # which of them it knows to be cancelled
        self.withdrawn: set[int] = set()  # programs that it was told to forget
        self.busy_since = 0.0
        self.ready, self.failure = False, ""
        self.received, self.to_send = bytearray(), bytearray()
        self.deadline = time.monotonic() + START_LIMIT
        with contextlib.ExitStack() as stack:
            self.socket, theirs = socket.socketpair()
            stack.callback(theirs.close)
            self.socket.setblocking(False)
            self.errors = os.memfd_create("errors")  # what bubblewrap or a dying interpreter has to say
            # So that the worker sees the end of this process even where a fork of it keeps the socket open.
            host = os.pidfd_open(os.getpid())
            stack.callback(os.close, host)
            self.info, info = os.pipe()
            stack.callback(os.close, info)
            descriptors = (theirs.fileno(), host, info)
            self.process = subprocess.Popen(
                command(descriptors),
                env=environment,
                cwd="/",
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self.errors,
                start_new_session=True,  # Ctrl-C in a terminal is for the host
            )
        self._queue(settings)

    def exchange(self) -> list[dict]:
        """Sends and receives what is possible now. Raises OSError when the worker is gone."""
        self._send()
        try:
            data = self.socket.recv(1 << 16)
        except BlockingIOError:
            return []
        if not data:
            raise OSError("The worker died.")
        self.received += data
        messages = []
        while len(self.received) >= FRAME.size:
            (size,) = FRAME.unpack_from(self.received)
            if len(self.received) < FRAME.size + size:
                break
            messages.append(json.loads(self.received[FRAME.size : FRAME.size + size]))
            del self.received[: FRAME.size + size]
        return messages

    def give(self, task: _Task, settings: dict) -> None:
        number = next(self._numbers)
        self.tasks[number] = task
        task.wall = settings["wall"]
        if len(self.tasks) == 1:
            self._expect()
        tests = task.program.tests
        if settings["mode"] == "strict":
            tests = None
            with contextlib.suppress(OSError):  # a dead worker is noticed when its answer is read
                socket.send_fds(self.socket, [NOTHING], [task.open_tests()])
        self._queue({"id": number, "code": task.program.code, "tests": tests, **settings})

    def take(self, number: int) -> _Task | None:
        """The program that an answer is for; None: withdrawn. Raises KeyError for an answer to no question."""
        if number in self.withdrawn:
            self.withdrawn.remove(number)
            return None
        task = self.tasks.pop(number)
        self.told.discard(number)
        self._expect()
        return task

    def withdraw(self) -> _Task:
        """Takes back what was given last."""
        number, task = self.tasks.popitem()
        self.withdrawn.add(number)
        self._queue({"cancel": number})
        return task

    def tell_cancelled(self) -> None:
        for number, task in self.tasks.items():
            if number not in self.told and task.future.cancelled():
                self.told.add(number)
                self._queue({"cancel": number})

    def _expect(self) -> None:
        self.busy_since = time.monotonic()
        running = next(iter(self.tasks.values()), None)
        self.deadline = time.monotonic() + (1 + MOST_PATIENCE) * running.wall + GRACE if running else math.inf

    def _queue(self, message: dict) -> None:
        body = json.dumps(message).encode()
        self.to_send += FRAME.pack(len(body)) + body
        with contextlib.suppress(OSError):  # a dead worker is noticed when its answer is read
            self._send()

    def _send(self) -> None:
        if self.to_send:
            with contextlib.suppress(BlockingIOError):
                del self.to_send[: self.socket.send(self.to_send)]

    def last_words(self) -> str:
        """The last line of what a worker wrote to stderr, once it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(LAST_WORDS)
        lines = os.pread(self.errors, 1 << 16, 0).decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""

    def end(self, deadline: float) -> None:
        """Waits for a worker whose socket was closed, and then does not wait any longer."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(max(0.0, deadline - time.monotonic()))
        self.kill()

    def kill(self) -> None:
        self.socket.close()
        if self.process.poll() is None:
            os.set_blocking(self.info, False)
            with contextlib.suppress(OSError, ValueError, KeyError):
                # The first process in the namespaces: with it, all in there ends.
                os.kill(json.loads(os.read(self.info, 4096))["child-pid"], signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self.info)
        os.close(self.errors)
