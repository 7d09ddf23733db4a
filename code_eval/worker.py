"""What runs inside: a worker that runs one program after another, each in a fork of its own.

The host starts it in bubblewrap's namespaces (or without them, in the mode "unsafe"), with a socket to the host and a
pidfd of the host's process: see isolation.START. The worker gives up its privileges (confinement.py) and imports what
programs commonly need. Then it makes a process for each program - pid 1 of a fresh pid namespace, so that whatever the
program starts dies with it - and watches it from outside: wall time, CPU time, memory, output. program.py and strict.py
are what runs in that process.

This file and all that it imports use only the standard library.
"""

import contextlib
import functools
import gc
import importlib
import io
import json
import os
import resource
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence

from . import javascript, program, served, strict
from .accounting import Accounting
from .assertions import let_unittest_fail
from .confinement import SELF_TEST, Confinement, limit_resources
from .mappings import share_in_files
from .messages import (
    DETAIL_LIMIT,
    JAVASCRIPT_PROBE,
    LENGTH,
    MOST_PATIENCE,
    QUEUE,
    REPORT_SIZE,
    Answer,
    Inbox,
    Job,
    Settings,
    detail_in,
    file_of,
    framed,
)
from .perf_event import open_counter, probe_of
from .verdict import OUTCOMES, describe

VERDICT_LIMIT = 4096  # bytes of a verdict that are read
BUFFER = 1 << 16  # bytes that are read at a time
TICK = 0.05  # seconds between two looks at a program's CPU time and memory
SHORTEST_TICK = 0.01  # that long at least: the kernel tells CPU time in hundredths of a second
LOWEST = 10  # descriptors below are for the programs

REASONS = {
    "timeout": "longer than {wall:g} s",
    "cpu_limit": "more than {timeout:g} s of CPU time",
    "out_of_memory": "more than {memory} bytes",
    "output_limit": "more than {output} bytes of output",
}


class Worker:
    """Runs one program at a time, until the host closes its end of the socket."""

    def __init__(self, control: socket.socket, host: int, settings: Settings):
        self.control, self.host, self.settings = control, host, settings
        self.confinement = Confinement(settings) if settings.isolated else None
        self.inbox = Inbox()
        self.queue: list[Job] = []  # programs that wait here
        self.files: list[int] = []  # descriptors of texts whose jobs have not come yet
        self.current: Job | None = None
        self.printed = 0  # bytes that the current program has printed
        self.seen_cpu = 0.0  # seconds that it had used at the last look
        self.left_out: dict[str, str] = {}  # modules that could not be imported ahead, and why
        self.buffer = bytearray(BUFFER)  # wiped after each program: the next one must not find what this one printed
        self.used = 0  # bytes of it that are not zero
        self.selector = selectors.PollSelector()
        self.run: Callable[[Job], None] = program.run  # what happens in a program's process, if it has only one

    # ---- the start ----

    def prepare(self) -> None:
        """Gives up privileges, sets limits, imports modules. Raises whatever goes wrong, so that the host learns it."""
        self.null = os.open("/dev/null", os.O_RDWR)
        while os.dup(self.null) < LOWEST:
            pass
        if self.confinement:
            self.confinement.leave_privileges([self.control.fileno(), self.host])
        sys.path += [folder for folder in self.settings.path if folder not in sys.path]
        self.preload()
        let_unittest_fail()
        if self.confinement:
            share_in_files()
        sys.stdout = sys.__stdout__ = printer(1, -1, "surrogateescape")
        sys.stderr = sys.__stderr__ = printer(2, 1, "backslashreplace")
        compile("assert (lambda x: [x])(1) == [1]", "<warm>", "exec")  # the first compilation costs 1.3 ms
        limit_resources(self.settings)
        self.accounting = Accounting(self.settings.isolated, self.settings.memory)
        self.selector.register(self.control, selectors.EVENT_READ)
        self.selector.register(self.host, selectors.EVENT_READ)
        gc.collect()
        gc.freeze()  # the collector would otherwise touch every page, and so copy it, in every fork
        gc.disable()

    def preload(self) -> None:
        """Imports modules. One that can't be imported ahead is left out, and programs import it themselves."""
        # Some modules write files when they are imported.
        with self.confinement.writable_tmp() if self.confinement else contextlib.nullcontext():
            for name in self.settings.preload:
                try:
                    importlib.import_module(name)
                except (Exception, SystemExit) as error:
                    if name not in self.settings.optional or not isinstance(error, ModuleNotFoundError):
                        self.left_out[name] = describe(error)

    def test_itself(self) -> None:
        """Runs programs that look for holes in the isolation, and for their counter. RuntimeError if they fail."""
        if self.settings.perf_event and (problem := self.problem_with(probe_of(self.settings.perf_event[0]))):
            raise RuntimeError(problem)
        if self.confinement:
            code = f"HIDDEN = {self.settings.hidden!r}\n{SELF_TEST}"
            if problem := self.problem_with(code):
                raise RuntimeError(f"the self-test says: {problem}")

    def problem_with(self, code: str) -> str:
        """How a program without tests of its own ends that should pass; "" if it does."""
        file, (size,) = file_of(code)
        job = Job(-1, size, None, timeout=10.0, wall=20.0, main=True, strict=False, count=False, files=[file])
        answer = self.execute(job)
        detail = detail_in(os.pread(file, REPORT_SIZE, 0))
        os.close(file)
        return "" if answer.outcome == "passed" else f"{answer.outcome}, {detail or answer.detail}"

    def turn_to_node(self) -> None:
        """From now on, programs are in JavaScript. Raises RuntimeError if node does not run in here."""
        self.run = functools.partial(javascript.run, settings=self.settings)
        if problem := self.problem_with(JAVASCRIPT_PROBE):
            raise RuntimeError(f"node ({self.settings.node}) does not run in the sandbox: {problem}")

    # ---- the conversation with the host ----

    def serve(self) -> None:
        """Runs what the host sends. Does not return: the process ends with the host."""
        while True:
            while not self.queue:
                for key, _ in self.selector.select():
                    self.hear(key.fd)
            job = self.queue.pop(0)
            try:
                answer = Answer(job.id, "cancelled") if job.cancelled else self.execute(job)
            except OSError as error:  # no process, no descriptor, no memory: the machine's fault
                answer = Answer(job.id, "sandbox_error", describe(error))
            close(job.files)
            self.send(vars(answer))

    def hear(self, descriptor: int) -> None:
        """Reads what the host says, or ends with the host."""
        if descriptor == self.host:
            os._exit(0)
        try:
            data, descriptors, _, _ = socket.recv_fds(self.control, BUFFER, 2 * QUEUE)
        except ConnectionError:
            data, descriptors = b"", []
        if not data:
            os._exit(0)  # the host is gone; the kernel ends all that is in this namespace
        self.files += descriptors
        for message in self.inbox.add(data):
            if "code" in message:
                job = Job(**message)
                count = 2 if job.strict else 1
                job.files, self.files = self.files[:count], self.files[count:]
                self.queue.append(job)
            elif "cancel" in message:
                for job in [*self.queue, *filter(None, [self.current])]:
                    job.cancelled |= job.id == message["cancel"]

    def send(self, message: dict) -> None:
        self.control.sendall(framed(message))

    # ---- one program ----

    def execute(self, job: Job) -> Answer:
        """Runs one program until it and all that it started have ended."""
        self.current, self.printed, self.seen_cpu = job, 0, 0.0
        started = time.monotonic()
        pids: list[int] = []
        # A socket, because a program could open a pipe in /proc/self/fd again, and read from it what was written.
        verdict, verdict_end = (end.detach() for end in socket.socketpair())
        output, output_end = (
            (self.confinement.output, self.confinement.open_output()) if self.confinement else os.pipe()
        )
        ends = [verdict_end, output_end]
        try:
            printing = (self.null, output_end, output_end)
            if job.strict:
                ends += (end.detach() for end in socket.socketpair())
                theirs, ours = ends[2:]
                code, tests = job.files
                silent = [self.null] * 3  # what tests print could tell later code what is expected
                pids.append(self.start(strict.judge_code, job, [*silent, verdict_end, tests, ours], verdict_end))
                pids.append(self.start(served.serve_code, job, [*printing, self.null, code, theirs], verdict_end))
            else:
                pids.append(self.start(self.run, job, [*printing, verdict_end, *job.files], verdict_end))
            close(ends)
            reason, peak = self.watch(pids, job, started, output)
        finally:
            close(ends)
            for pid in pids:
                self.kill(pid)
            endings = [os.wait4(pid, 0) for pid in pids]
            # All that is there: the same FIFO serves the next program. Without isolation, others may go on writing.
            self.printed += self.read(output, sys.maxsize if self.confinement else self.settings.output + 1)
            self.wipe()
            said = self.read(verdict, VERDICT_LIMIT)
            close([verdict] if self.confinement else [verdict, output])
            self.current = None
        cpu = sum(usage.ru_utime + usage.ru_stime for _, _, usage in endings)
        if self.settings.node:  # nobody has waited for a node that was ended
            cpu = max(cpu, self.seen_cpu)
        peak = max(peak, *(usage.ru_maxrss * 1024 for _, _, usage in endings), 0)
        if not reason and self.printed > self.settings.output:
            reason = "output_limit"
        outcome, detail = self.judge(said, reason, [status for _, status, _ in endings], cpu, job)
        self.wipe()
        return Answer(job.id, outcome, detail[:DETAIL_LIMIT], cpu, time.monotonic() - started, peak)

    def read(self, descriptor: int, limit: int) -> int:
        """The bytes that lie in a pipe or socket, at most about `limit`; does not wait for those who may still write.

        The first of them, as many as there is room for, stay in the buffer.
        """
        os.set_blocking(descriptor, False)
        size = 0
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while size < limit:
                start = min(size, BUFFER // 2)
                if not (part := os.readv(descriptor, [memoryview(self.buffer)[start:]])):
                    break
                size, self.used = size + part, max(self.used, start + part)
        return size

    def wipe(self) -> None:
        self.buffer[: self.used] = bytes(self.used)
        self.used = 0

    def watch(self, pids: list[int], job: Job, started: float, output: int) -> tuple[str, int]:
        """Waits until the first process ends or a limit is broken; (why it must end, the peak of memory in bytes)."""
        ended = os.pidfd_open(pids[0])
        watched = [ended, output]
        for descriptor in watched:
            self.selector.register(descriptor, selectors.EVENT_READ)
        try:
            peak = 0
            self.accounting.begin()
            deadline, look = started + job.wall, started + TICK
            while True:
                now = time.monotonic()
                if job.cancelled:
                    return "cancelled", peak
                if now >= deadline:
                    if not job.patient:
                        return "timeout", peak
                    # The time for which it waited for a CPU does not count: the machine is loaded.
                    waited = min(self.accounting.wait(pids), MOST_PATIENCE * job.wall)
                    deadline = started + job.wall + waited
                    if now >= deadline:
                        return "timeout", peak
                if now >= look:
                    cpu, memory = self.accounting.look(pids)
                    peak, self.seen_cpu = max(peak, memory), cpu
                    if cpu >= job.timeout:
                        return "cpu_limit", peak
                    look = now + min(TICK, max(SHORTEST_TICK, job.timeout - cpu))
                    if memory > self.settings.memory:
                        return "out_of_memory", peak
                for key, _ in self.selector.select(min(deadline, look) - now + 0.001):
                    if key.fd == ended:
                        return "", peak
                    if key.fd != output:
                        self.hear(key.fd)
                    elif printed := os.readv(output, [self.buffer]):
                        self.printed += printed
                        self.used = max(self.used, printed)
                        if self.printed > self.settings.output:
                            return "output_limit", peak
                    else:
                        watched.remove(output)
                        self.selector.unregister(output)
        finally:
            for descriptor in watched:
                self.selector.unregister(descriptor)
            os.close(ended)

    def kill(self, pid: int) -> None:
        """Ends a process; where it is pid 1 of its namespace, the kernel ends all others in there."""
        with contextlib.suppress(ProcessLookupError):
            if not self.confinement:
                os.killpg(pid, signal.SIGKILL)
            os.kill(pid, signal.SIGKILL)

    def judge(self, said: int, reason: str, statuses: list[int], cpu: float, job: Job) -> tuple[str, str]:
        """(outcome, detail), from what the worker saw, what was said to it (bytes in the buffer), and how it ended.

        Only a line that begins with the job's secret counts. A process that fails before anything runs that nobody
        trusts has told the detail as well.
        """
        secret = f"\n{job.secret} ".encode()
        place = self.buffer.find(secret, 0, said) + len(secret)
        verdict = self.buffer[place:said].decode("utf-8", "replace") if place >= len(secret) else ""
        outcome, _, detail = verdict.partition("\n")
        if reason:
            return reason, self.explain(reason, job)
        if outcome == "sandbox_error":
            return outcome, detail
        if not self.buffer.startswith(b"ready\n"):
            return "sandbox_error", f"It did not start: status {statuses}."
        signals = [os.WTERMSIG(status) for status in statuses if os.WIFSIGNALED(status)]
        if job.strict:  # the code's process is always killed in the end
            signals = [number for number in signals if number != signal.SIGKILL]
        if signals and outcome != "passed":
            if signal.SIGKILL in signals and cpu >= job.timeout:
                return "cpu_limit", self.explain("cpu_limit", job)
            return "killed", signal.Signals(signals[0]).name
        if outcome in OUTCOMES:
            return outcome, ""
        return "error", f"It ended before its tests had: exit status {os.waitstatus_to_exitcode(statuses[0])}."

    def explain(self, reason: str, job: Job) -> str:
        """The limit that was broken, as a detail."""
        return REASONS.get(reason, "").format(**vars(self.settings) | vars(job))

    # ---- in the program's own process ----

    def start(self, action: Callable[[Job], None], job: Job, descriptors: Sequence[int], verdict: int) -> int:
        """Forks a process without privileges in which `action(job)` runs; its pid.

        It sees `descriptors`, numbered from 0, then its counter if it has one, and nothing else of what is open here.
        """
        if self.confinement:
            self.confinement.before_fork()
        if pid := os.fork():
            return pid
        try:
            os.setpgid(0, 0)  # signals to its own group must not reach others, in whatever namespace
            if self.settings.perf_event:
                descriptors = [*descriptors, open_counter(*self.settings.perf_event)]
            if self.confinement:
                self.confinement.enter()
            # In case the worker, which looks more closely, cannot look. The kernel counts whole ticks of the clock for
            # this limit, with those that a host took from its virtual machine: 4 s were used up after 3.3 s.
            seconds = 2 * int(job.timeout) + 2
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
            for number, descriptor in enumerate(descriptors):
                os.dup2(descriptor, number)
        except BaseException as error:
            os.write(verdict, f"\n{job.secret} sandbox_error\n{describe(error)}".encode())
            os._exit(1)
        try:
            os.closerange(len(descriptors), 1 << 20)
            action(job)
        finally:
            os._exit(1)  # whatever happened: this process must not go on as a worker


def printer(descriptor: int, buffering: int, errors: str) -> io.TextIOWrapper:
    """A stream for the pipe that a program will find at `descriptor`; Python's own, made for a file, would seek."""
    file, (reader, writer) = os.dup(descriptor), os.pipe()
    os.dup2(writer, descriptor)
    stream = open(descriptor, "w", buffering, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
    os.dup2(file, descriptor)
    close([file, reader, writer])
    return stream


def close(descriptors: list[int]) -> None:
    """Closes descriptors and empties their list."""
    while descriptors:
        os.close(descriptors.pop())


def main() -> None:
    """The worker's process: `sys.argv` ends with the descriptors of the socket and of the host's pidfd."""
    control = socket.socket(fileno=int(sys.argv[-2]))
    (size,) = LENGTH.unpack(control.recv(LENGTH.size, socket.MSG_WAITALL))
    settings = Settings(**json.loads(control.recv(size, socket.MSG_WAITALL)))
    worker = Worker(control, int(sys.argv[-1]), settings)
    try:
        worker.prepare()
        worker.test_itself()
        if settings.node:
            worker.turn_to_node()
    except Exception as error:
        worker.send({"failed": describe(error)})
        return
    worker.send({"ready": True, "left_out": worker.left_out})
    worker.serve()
