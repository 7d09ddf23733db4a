"""Runs untrusted Python programs: many of them, fast, and without letting them touch anything.

    with Sandbox(workers=2) as sandbox:
        for result in sandbox.run(["assert 1 + 1 == 2", "assert 1 + 1 == 3"]):
            print(result.outcome, result.detail)

Each worker is a process in namespaces that bubblewrap makes (see worker.py). One thread of the host starts the workers,
sends them programs over sockets, replaces those that die, and returns results as they come (see pool.py). Everything
here may be called from any thread. SECURITY.md says what is defended and how each claim is tested.
"""

import asyncio
import base64
import contextlib
import itertools
import os
import queue
import threading
import warnings
from collections import deque
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from .checks import check_counts, check_lists, check_names, check_seconds, check_texts
from .isolation import (
    ENVIRONMENT,
    PYTHON_FOLDER,
    START,
    SYSTEM_FOLDERS,
    WORKER_FOLDER,
    WORKER_SOURCES,
    CounterUnavailable,
    Interpreter,
    SandboxUnavailable,
    bubblewrap_arguments,
    find_bubblewrap,
    hidden_paths,
    is_inside,
    obstacle_to_overlay,
    system_call_filter,
)
from .messages import JAVASCRIPT_PROBE, QUEUE, Settings
from .node import find_node
from .perf_event import EVENTS
from .pool import PROBE, Pool
from .tasks import Program, Result, Task
from .worker_process import WorkerProcess

__all__ = ["CounterUnavailable", "Limits", "Program", "Result", "Sandbox", "SandboxUnavailable"]

# What most programs of the benchmarks import; a module that is not installed is left out. hashlib is not among them: it
# brings OpenSSL, which would take 1.7 MB in each worker.
PRELOAD = (
    "bisect", "collections", "copy", "datetime", "decimal", "functools", "heapq", "itertools", "json",
    "math", "operator", "random", "re", "statistics", "string", "typing", "unittest", "numpy",
)  # fmt: skip

# Ordinary programs start up to 100 threads, or a multiprocessing.Pool with a process for each CPU. The limit is not
# much higher, because the worker that ends a fork bomb shares the CPUs with all of its processes.
PROCESSES = max(128, 32 + (os.cpu_count() or 1))
WALL_FACTOR = 3.0  # wall time allowed, in multiples of the CPU time: a loaded machine must not make timeouts
PROGRAM_LIMIT = 16 << 20  # bytes of a program's text
MODES = ("isolated", "strict", "unsafe")
LANGUAGES = ("python", "javascript")

UNSAFE_WARNING = (
    "The mode 'unsafe' runs programs that a model wrote with all of your rights: nothing stands between them and your "
    'files, network and accounts. If that is what you want, say so: os.environ["HF_ALLOW_CODE_EVAL"] = "1".'
)


def check_language(language: str, mode: str) -> None:
    """Raises ValueError for an unknown language, or one that the mode does not have."""
    if language not in LANGUAGES:
        raise ValueError(f"Unknown language {language!r}: one of {', '.join(LANGUAGES)}.")
    if mode == "strict" and language != "python":
        raise ValueError(f"The mode 'strict' is for Python only: use 'isolated' for {language}.")


@dataclass(frozen=True)
class Limits:
    """What a program may use, beside time.

    memory: bytes that a program may add to the interpreter's, for each process and for all together
    processes: processes and threads at a time; the default has room for a multiprocessing.Pool() or 100 threads
    output: bytes on stdout and stderr together
    disk: bytes in /tmp, which is all that a program can write to, and which is in memory
    files: files in /tmp
    open_files: file descriptors
    """

    memory: int = 1 << 30
    processes: int = PROCESSES
    output: int = 1 << 20
    disk: int = 64 << 20
    files: int = 4096
    open_files: int = 256


class Sandbox:
    """Workers that run programs until `close`.

    Args:
        mode: "isolated"; "strict": tests and code in separate processes; "unsafe": no isolation.
        workers: processes that run programs, each one program at a time.
        timeout: seconds of CPU time for a program, all its processes together.
        wall_timeout: seconds of wall-clock time, not counting those for which a program waits for a CPU; None: three
            times `timeout`.
        on_the_clock: whether `timeout` holds on the clock as well, whoever has the CPUs, as a pool of subprocesses
            counts it. Endless programs end sooner where other work shares the CPUs, and right ones may end as too slow.
        main: whether `if __name__ == "__main__":` blocks run.
        preload: modules that workers import once; None: those of PRELOAD that are installed. One that can't be
            imported ahead is left out with a warning, and programs import it themselves.
        read_only: further folders and files that programs may read, each under its own path.
        python: the interpreter that runs the programs, with its packages; None: this one.
        environment: variables that programs see in addition to the sandbox's own.
        language: of the programs: "python", or "javascript", which the `node` on the PATH runs (see javascript.py).
        perf_event: what is counted for each program and all that it starts, in user mode: "instructions" of the
            processor, or "page-faults". A program reads the count, 8 bytes, from the descriptor 5
            (perf_event.DESCRIPTOR). None: there is no such descriptor.
        **limits: the fields of Limits: memory, processes, output, disk, files, open_files.

    Raises:
        SandboxUnavailable: programs cannot be isolated here, or there is no node of the version 18 or newer.
        CounterUnavailable: the same error, where only `perf_event` is at fault.
        ValueError: an unknown mode, language or `perf_event`; "strict" or `perf_event` for JavaScript, `perf_event` for
            "strict", or "unsafe" without HF_ALLOW_CODE_EVAL=1 in the environment; a number that is too small, or no
            number at all.
        FileNotFoundError: a path of `read_only` does not exist.
    """

    def __init__(
        self,
        mode: str = "isolated",
        workers: int = 2,
        timeout: float = 3.0,
        *,
        wall_timeout: float | None = None,
        on_the_clock: bool = False,
        main: bool = True,
        preload: Sequence[str] | None = None,
        read_only: Sequence[str] = (),
        python: str | None = None,
        environment: Mapping[str, str] | None = None,
        language: str = "python",
        perf_event: str | None = None,
        **limits: int,
    ):
        if mode not in MODES:
            raise ValueError(f"Unknown mode {mode!r}: one of {', '.join(MODES)}.")
        if mode == "unsafe" and os.environ.get("HF_ALLOW_CODE_EVAL") != "1":
            raise ValueError(UNSAFE_WARNING)
        check_language(language, mode)
        if perf_event is not None and perf_event not in EVENTS:
            raise ValueError(f"Unknown perf_event {perf_event!r}: one of {', '.join(EVENTS)}.")
        if perf_event and (mode == "strict" or language != "python"):
            raise ValueError("perf_event is for programs in Python, and not for the mode 'strict'.")
        check_names(limits, Limits)
        self._limits = Limits(**limits)
        check_counts(workers=workers, **vars(self._limits))
        check_seconds(timeout=timeout, wall_timeout=1 if wall_timeout is None else wall_timeout)
        if on_the_clock and wall_timeout is not None:
            raise ValueError("on_the_clock=True makes `timeout` the limit on the clock: there is no wall_timeout then.")
        check_lists(preload=() if preload is None else preload, read_only=read_only)
        self.mode, self.workers, self.timeout, self.wall_timeout, self.main = mode, workers, timeout, wall_timeout, main
        self.on_the_clock, self.perf_event = on_the_clock, perf_event
        self.language, self._interpreter = language, Interpreter(python)
        self._node = find_node() if language == "javascript" else ""
        self._read_only = [os.path.abspath(path) for path in read_only]
        if self._node and not any(is_inside(self._node, folder) for folder in [*SYSTEM_FOLDERS, *self._read_only]):
            self._read_only.append(self._node)
        for path in self._read_only:
            if not os.path.exists(path):
                raise FileNotFoundError(f"read_only: {path} does not exist.")
            if not os.path.isdir(path) and not os.path.isfile(path):
                raise ValueError(f"read_only: {path} is neither a folder nor a file with data.")
        folders = [os.path.dirname(self._interpreter.executable), PYTHON_FOLDER, ENVIRONMENT["PATH"]]
        path = ":".join(folders)  # `python` is this interpreter
        own = self._interpreter.environment() | ENVIRONMENT | {"PATH": path}
        self._environment = own | dict(environment or {})
        self._settings = self._worker_settings(preload)
        if mode != "unsafe":
            self._bubblewrap = find_bubblewrap()
            self._shown = self._ways_to_show()
        self._submitted, self._lock = 0, threading.Lock()
        self._pool = Pool(self._make_worker, workers, Program(JAVASCRIPT_PROBE) if self._node else PROBE)
        for module, why in self._pool.left_out.items():
            warnings.warn(f"{module} can't be imported ahead of the programs ({why}).", RuntimeWarning, stacklevel=2)

    def _worker_settings(self, preload: Sequence[str] | None) -> Settings:
        """The settings of worker 0."""
        isolated = self.mode != "unsafe"
        ahead = () if self._node else PRELOAD
        return Settings(
            number=0,
            isolated=isolated,
            path=self._interpreter.extra,
            preload=list(ahead if preload is None else preload),
            optional=list(ahead if preload is None else ()),
            **vars(self._limits),
            under_tmp=[path for path in [*self._interpreter.folders, *self._read_only] if is_inside(path, "/tmp")],
            hidden=hidden_paths(self._interpreter, self._read_only),
            filter=base64.b64encode(system_call_filter()).decode() if isolated else "",
            perf_event=[self.perf_event, *EVENTS[self.perf_event]] if self.perf_event else [],
            node=self._node,
        )

    def _ways_to_show(self) -> dict[str, bool]:
        """The paths of `read_only`, each with whether an overlay shows it."""
        shown = dict.fromkeys(self._read_only, False)
        for path in filter(os.path.isdir, shown):
            if obstacle := obstacle_to_overlay(self._bubblewrap, path):
                message = f"Programs can reach sockets and FIFOs in {path}, and lock files there ({obstacle})."
                warnings.warn(message, RuntimeWarning, stacklevel=3)
            shown[path] = not obstacle
        return shown

    def _make_worker(self, number: int) -> WorkerProcess:
        return WorkerProcess(self._command, self._environment, replace(self._settings, number=number))

    def _command(self, descriptors: Sequence[int]) -> list[str]:
        control, host, info, hosts = map(str, descriptors)
        folder = os.path.dirname(os.path.realpath(__file__))
        python = [self._interpreter.executable, "-s", "-B", "-c", START]
        if self.mode == "unsafe":
            return [*python, folder, control, host]
        sources = [os.path.join(folder, name) for name in WORKER_SOURCES]
        bubblewrap = [self._bubblewrap, *bubblewrap_arguments(self._interpreter, self._shown, sources, hosts)]
        return [*bubblewrap, "--info-fd", info, "--", *python, WORKER_FOLDER, control, host]

    def run(self, programs: Iterable[str | Program]) -> Iterator[Result]:
        """The result of each program, in their order.

        `programs` is read only as far ahead as keeps the workers busy. A program that takes long holds back the results
        of those after it, which run on meanwhile.
        """
        finished: dict[int, Result] = {}
        wanted = 0
        with contextlib.closing(self.run_unordered(programs)) as results:
            for result in results:
                finished[result.index] = result
                while wanted in finished:
                    yield finished.pop(wanted)
                    wanted += 1

    def run_unordered(self, programs: Iterable[str | Program]) -> Generator[Result, None, None]:
        """Results as programs finish, in no order: `result.index` says which program it was."""
        done: queue.SimpleQueue[Future[Result]] = queue.SimpleQueue()
        running: set[Future[Result]] = set()
        numbered = enumerate(programs)
        ahead = 2 * QUEUE * self.workers
        try:
            while True:
                for index, program in itertools.islice(numbered, ahead - len(running)):
                    future = self._submit(program, index)
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
        """Runs one program; may be called from any thread. Cancelling the future ends a program that already runs.

        For asyncio: `await asyncio.wrap_future(sandbox.submit(program))`.
        """
        with self._lock:
            index, self._submitted = self._submitted, self._submitted + 1
        return self._submit(program, index)

    def _submit(self, program: str | Program, index: int) -> "Future[Result]":
        if isinstance(program, str):
            program = Program(program)
        if not isinstance(program, Program):
            raise TypeError(f"A program must be a string or Program(code, tests), and not {program!r}.")
        strict = self.mode == "strict"
        if strict and program.tests is None:
            raise ValueError("The mode 'strict' needs code and tests apart: Program(code=..., tests=...).")
        if self._node and program.count:
            raise ValueError("The tests of JavaScript programs cannot be counted: count=True is for Python.")
        timeout = self.timeout if program.timeout is None else program.timeout
        check_seconds(timeout=timeout)
        check_texts(code=program.code, tests=program.tests or "")
        wall = WALL_FACTOR * timeout if self.wall_timeout is None else self.wall_timeout
        wall = timeout if self.on_the_clock else wall
        task = Task(program, index, timeout, wall, self.main, strict, patient=not self.on_the_clock)
        size = len(program.code) + len(program.tests or "")
        if size > PROGRAM_LIMIT:
            task.finish(Result(index, False, "error", f"A program of {size} characters; {PROGRAM_LIMIT} are allowed."))
        else:
            self._pool.put(task)
        return task.future

    async def run_async(self, programs: Iterable[str | Program]) -> AsyncIterator[Result]:
        """What `run` does, for asyncio: `async for result in sandbox.run_async(programs)`."""
        waiting: deque[asyncio.Future[Result]] = deque()
        try:
            for index, program in enumerate(programs):
                waiting.append(asyncio.wrap_future(self._submit(program, index)))
                if len(waiting) >= 2 * QUEUE * self.workers:
                    yield await waiting.popleft()
            while waiting:
                yield await waiting.popleft()
        finally:
            for future in waiting:
                future.cancel()

    @property
    def closed(self) -> bool:
        """Whether it runs nothing any more: it was closed, or its workers could not be replaced."""
        return self._pool.closing

    def close(self) -> None:
        """Ends all workers and all that runs in them, and cancels the futures that wait."""
        self._pool.close()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_) -> None:
        self.close()
