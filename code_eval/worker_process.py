"""The host's end of a worker: its process, the conversation with it, and the programs that it was given."""

import contextlib
import itertools
import json
import math
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

from .isolation import HOSTS
from .messages import MOST_PATIENCE, Inbox, Settings, framed
from .tasks import Result, Task

GRACE = 10.0  # seconds beyond a program's wall time after which its worker is given up
LAST_WORDS = 0.5  # seconds to wait for a dying worker's message
START_LIMIT = 120.0  # seconds that a worker may take to start; scipy and scikit-learn from a slow disk take a minute


class WorkerProcess:
    """A worker, and the tasks that it has; `command` is its command line, given the descriptors that it inherits."""

    _numbers = itertools.count()  # of programs, as they are handed out

    def __init__(
        self, command: Callable[[Sequence[int]], list[str]], environment: Mapping[str, str], settings: Settings
    ):
        self.tasks: dict[int, Task] = {}  # in the order in which it runs them
        self.told: set[int] = set()  # which of them it knows to be cancelled
        self.withdrawn: set[int] = set()  # programs that it was told to forget
        self.busy_since = 0.0
        self.ready = False
        self.to_send = bytearray()
        self._inbox = Inbox()
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
            hosts = os.memfd_create("hosts")
            stack.callback(os.close, hosts)
            os.pwrite(hosts, HOSTS, 0)
            descriptors = (theirs.fileno(), host, info, hosts)
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
        self._queue(vars(settings))

    def exchange(self) -> list[dict]:
        """Sends and receives what is possible now. Raises OSError when the worker is gone."""
        self._send()
        try:
            data = self.socket.recv(1 << 16)
        except BlockingIOError:
            return []
        if not data:
            raise OSError("The worker died.")
        return self._inbox.add(data)

    def give(self, task: Task) -> None:
        """Sends a program to the worker."""
        number = next(self._numbers)
        self.tasks[number] = task
        if len(self.tasks) == 1:
            self._expect()
        try:
            job, files = task.job(number)
        except OSError as error:  # no descriptor, no memory
            del self.tasks[number]
            task.finish(Result(task.index, False, "sandbox_error", str(error)))
            return
        with contextlib.suppress(OSError):  # a dead worker is noticed when its answer is read, or does not come
            self._send()
            socket.send_fds(self.socket, [framed(vars(job))], files)

    def take(self, number: int) -> Task | None:
        """The task that an answer is for; None: withdrawn. Raises KeyError for an answer that nobody asked for."""
        if number in self.withdrawn:
            self.withdrawn.remove(number)
            return None
        task = self.tasks.pop(number)
        self.told.discard(number)
        self._expect()
        return task

    def withdraw(self) -> Task:
        """Takes back what was given last."""
        number, task = self.tasks.popitem()
        self.withdrawn.add(number)
        self._queue({"cancel": number})
        return task

    def tell_cancelled(self) -> None:
        """Tells the worker which of its programs nobody waits for any more."""
        for number, task in self.tasks.items():
            if number not in self.told and task.future.cancelled():
                self.told.add(number)
                self._queue({"cancel": number})

    def _expect(self) -> None:
        self.busy_since = time.monotonic()
        running = next(iter(self.tasks.values()), None)
        self.deadline = time.monotonic() + (1 + MOST_PATIENCE) * running.wall + GRACE if running else math.inf

    def _queue(self, message: dict) -> None:
        self.to_send += framed(message)
        with contextlib.suppress(OSError):  # a dead worker is noticed when its answer is read
            self._send()

    def _send(self) -> None:
        if self.to_send:
            with contextlib.suppress(BlockingIOError):
                del self.to_send[: self.socket.send(self.to_send)]

    def last_words(self) -> str:
        """The last line that a worker wrote to stderr, once it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(LAST_WORDS)
        lines = os.pread(self.errors, 1 << 16, 0).decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""

    def end(self, deadline: float) -> None:
        """Waits until `deadline` for a worker whose socket was closed, and then kills it."""
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
