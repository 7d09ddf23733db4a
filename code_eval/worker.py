"""What runs inside: a worker that executes one program after the other, each in a fork of its own.

Started by sandbox.py, in bubblewrap's namespaces (or bare, in the mode "unsafe"), with a socket to the host and a pidfd
of the host's process:
    python -s -B worker.py SOCKET PIDFD
It gives up every privilege but a CAP_SYS_ADMIN that counts only in its own user namespace, and imports what programs
commonly need. Then, for each program, it makes a process that is pid 1 of a fresh pid namespace - whatever the program
starts dies with it - with its own mounts, limits, no capabilities and a seccomp filter; program.py says what happens
there. The worker watches it from outside: wall time, CPU time, memory, output.

Only the standard library is imported; interfaces of the kernel for which Python 3.10 has no function are called through
ctypes.
"""

import base64
import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import platform
import resource
import select
import signal
import socket
import struct
import sys
import time

if __name__ == "__main__":
    import program as programs  # pyright: ignore[reportMissingImports]

    del sys.path[0]  # this file's folder: programs have no business there
else:
    from . import program as programs

# linux/sched.h, linux/mount.h, linux/prctl.h, linux/capability.h
CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 4096, 16384, 1 << 18
PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 4, 22, 24, 38
SECCOMP_MODE_FILTER = 2
CAPABILITY_VERSION_3 = 0x20080522
CAP_SYS_ADMIN = 21
SYS_CAPSET = {"x86_64": 126, "aarch64": 91}

PRIVATE_UID = 1_879_048_192  # 0x70000000: no system hands out user ids this high; each worker adds its number
INSIDE_UID = 1000  # what programs see
VERDICT_LIMIT = 4096  # bytes of a verdict that are read
TICK = 0.05  # seconds between two looks at a program's CPU time and memory
MOST_PATIENCE = 5  # wall times more that a program gets at most where it has to wait for a CPU
MAPS_LIMIT = 8 << 20  # bytes of a process's maps that are read
STACK = 8 << 20  # bytes of stack of the main thread
LOWEST = 10  # descriptors below are for the programs
PAGE, TICKS_PER_SECOND = resource.getpagesize(), os.sysconf("SC_CLK_TCK")
O_PATH = 0o10000000
FRAME = struct.Struct("<I")  # the length before each message

LIMITS = {
    "timeout": "longer than {wall:g} s",
    "cpu_limit": "more than {timeout:g} s of CPU time",
    "out_of_memory": "more than {memory} bytes",
    "output_limit": "more than {output} bytes of output",
}


class Libc:
    """The C library's functions that Python 3.10 lacks; each raises OSError."""

    def __init__(self):
        self._library = ctypes.CDLL(None, use_errno=True)
        self._library.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4

    def __getattr__(self, name):
        function = getattr(self._library, name)

        def call(*arguments):
            if function(*arguments) < 0:
                number = ctypes.get_errno()
                raise OSError(number, f"{name}: {os.strerror(number)}")

        setattr(self, name, call)
        return call


libc = Libc()


class Worker:
    """One program at a time, until the host closes its end of the socket."""

    def __init__(self, control: socket.socket, host: int, settings: dict):
        self.control, self.host, self.settings = control, host, settings
        self.isolated = settings["isolated"]
        self.received = bytearray()
        self.queue: list[dict] = []  # programs that wait here
        self.tests: list[int] = []  # strict mode: the descriptor of the tests, which comes before its program
        self.current = -1  # the number of the one that runs
        self.printed = 0  # bytes that it has printed
        self.proc: int | None = None  # this namespace's /proc, which no program sees
        self.cancelled = False

    # ---- the start ----

    def prepare(self) -> None:
        """Privileges away, limits, imports. Raises what goes wrong; the host tells it."""
        self.null = os.open("/dev/null", os.O_RDWR)
        while os.dup(self.null) < LOWEST:
            pass
        if self.isolated:
            self.leave_privileges()
        sys.path += [folder for folder in self.settings["path"] if folder not in sys.path]
        for name in self.settings["preload"]:
            try:
                importlib.import_module(name)
            except ImportError:
                if name not in self.settings["optional"]:
                    raise
        programs.let_unittest_fail()
        sys.stdout = sys.__stdout__ = printer(1, -1, "surrogateescape")
        sys.stderr = sys.__stderr__ = printer(2, 1, "backslashreplace")
        compile("assert (lambda x: [x])(1) == [1]", "<warm>", "exec")  # the first compilation costs 1.3 ms
        self.limit()
        gc.collect()
        gc.freeze()  # the collector would otherwise touch every page, and so copy it, in every fork
        gc.disable()

    def leave_privileges(self) -> None:
        libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # else the files in /proc/self are root's
        if os.getuid() == 0:
            leave_root(PRIVATE_UID + self.settings["number"])
        for folder in sys.path:
            if os.path.exists(folder) and not os.access(folder, os.R_OK):
                raise PermissionError(f"{folder} cannot be read by other users: chmod -R go+rX {folder}")
        uid, gid = os.getuid(), os.getgid()
        libc.unshare(CLONE_NEWUSER)
        write("/proc/self/setgroups", "deny")
        write("/proc/self/uid_map", f"{INSIDE_UID} {uid} 1")
        write("/proc/self/gid_map", f"{INSIDE_UID} {gid} 1")
        libc.unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)
        # A pid namespace starts with the next fork. This user namespace owns it, and so may nest others in it.
        if child := os.fork():
            self.control.close()
            os.close(self.host)
            os.waitpid(child, 0)
            os._exit(0)
        libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None)
        mount_proc()
        self.proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        self.pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY)
        self.tmpfs = f"size={self.settings['disk']},nr_inodes={self.settings['files']},mode=1777".encode()
        for capability in range(64):
            with contextlib.suppress(OSError):  # beyond the last one that this kernel knows
                libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        libc.syscall(SYS_CAPSET[platform.machine()], *capabilities(1 << CAP_SYS_ADMIN))
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        # Built here, once: what each program's process passes to the kernel.
        self.capset = (SYS_CAPSET[platform.machine()], *capabilities(0))
        self.filter_code = ctypes.create_string_buffer(base64.b64decode(self.settings["filter"]))
        instructions = (len(self.filter_code) - 1) // 8
        self.filter = ctypes.create_string_buffer(struct.pack("HP", instructions, ctypes.addressof(self.filter_code)))

    def limit(self) -> None:
        """Limits that every program inherits."""
        settings = self.settings
        self.addresses = int(read("/proc/self/statm").split()[0]) * PAGE
        limits = {
            # The interpreter and what it has imported is not the program's.
            resource.RLIMIT_AS: settings["memory"] + self.addresses,
            resource.RLIMIT_NPROC: settings["processes"] + 1,  # this worker is one
            resource.RLIMIT_FSIZE: settings["disk"],
            resource.RLIMIT_NOFILE: settings["open_files"],
            resource.RLIMIT_CORE: 1,  # 0 would not stop a core_pattern that is a pipe
            resource.RLIMIT_MEMLOCK: 0,
            resource.RLIMIT_MSGQUEUE: 0,
            resource.RLIMIT_SIGPENDING: 1024,
            resource.RLIMIT_STACK: STACK,
        }
        if not self.isolated:
            del limits[resource.RLIMIT_NPROC]  # counts all processes of the user, wherever they come from
        for kind, value in limits.items():
            hard = resource.getrlimit(kind)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (value, value))

    def test_itself(self) -> None:
        """Runs a program that looks for holes. Raises RuntimeError when it finds one."""
        if self.isolated:
            hidden = self.settings["hidden"]
            check = {"id": -1, "mode": "isolated", "code": f"HIDDEN = {hidden!r}\n{SELF_TEST}", "tests": None}
            result = self.execute({**check, "timeout": 10.0, "wall": 20.0, "main": True})
            if result["outcome"] != "passed":
                raise RuntimeError(f"the self-test says: {result['outcome']}, {result['detail']}")

    # ---- the conversation with the host ----

    def serve(self) -> None:
        while True:
            poll = select.poll()
            poll.register(self.control, select.POLLIN)
            poll.register(self.host, select.POLLIN)
            while not self.queue:
                if self.host in dict(poll.poll()):
                    os._exit(0)
                self.receive()
            program = self.queue.pop(0)
            self.current, self.cancelled = program["id"], program["cancelled"]
            try:
                answer = self.execute(program)
            except OSError as error:  # no process, no descriptor, no memory: the machine's fault
                answer = {"id": program["id"], "outcome": "sandbox_error", "detail": programs.describe(error)}
            self.send(answer)

    def receive(self) -> None:
        """Waits for something from the host, at most a megabyte of it."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self.control, 1 << 20, 1)
        except ConnectionError:
            data, descriptors = b"", []
        if not data:
            os._exit(0)  # the host is gone; the kernel ends all that is in this namespace
        self.tests += descriptors
        self.received += data
        while len(self.received) >= FRAME.size:
            (size,) = FRAME.unpack_from(self.received)
            if len(self.received) < FRAME.size + size:
                return
            message = json.loads(self.received[FRAME.size : FRAME.size + size])
            del self.received[: FRAME.size + size]
            if "code" in message:
                message["cancelled"] = False
                if message["mode"] == "strict":
                    message["text"] = self.tests.pop()
                self.queue.append(message)
            elif "cancel" in message:
                for program in self.queue:
                    program["cancelled"] |= program["id"] == message["cancel"]
                self.cancelled |= message["cancel"] == self.current

    def send(self, message: dict) -> None:
        body = json.dumps(message).encode()
        self.control.sendall(FRAME.pack(len(body)) + body)

    # ---- one program ----

    def execute(self, program: dict) -> dict:
        """Runs one program to its end, and the end of all that it started; how it ended, for the host."""
        started = time.monotonic()
        pids: list[int] = []
        verdict, verdict_end = os.pipe()
        output, output_end = os.pipe()
        ends = [verdict_end, output_end, *([program["text"]] if program["mode"] == "strict" else [])]
        try:
            printing = (self.null, output_end, output_end)
            if program["mode"] == "strict":
                ends += (end.detach() for end in socket.socketpair())
                text, theirs, ours = ends[2:]
                silent = [self.null] * 3  # what tests print could tell later code what is expected
                pids.append(self.start(programs.run_tests, program, [*silent, verdict_end, ours, text], verdict_end))
                pids.append(self.start(programs.serve_code, program, [*printing, self.null, theirs], verdict_end))
            else:
                pids.append(self.start(programs.run, program, [*printing, verdict_end], verdict_end))
            close(ends)
            reason, peak = self.watch(pids, program, started, output)
        finally:
            close(ends)
            for pid in pids:
                self.kill(pid)
            endings = [os.wait4(pid, 0) for pid in pids]
            said = read_all(verdict, VERDICT_LIMIT)
            printed = len(read_all(output, self.settings["output"] + 1))
            close([verdict, output])
        cpu = sum(usage.ru_utime + usage.ru_stime for _, _, usage in endings)
        peak = max(peak, *(usage.ru_maxrss * 1024 for _, _, usage in endings), 0)
        if not reason and self.printed + printed > self.settings["output"]:
            reason = "output_limit"
        outcome, detail = self.judge(said, reason, [status for _, status, _ in endings], cpu, program)
        return {
            "id": program["id"],
            "outcome": outcome,
            "detail": detail[: programs.DETAIL_LIMIT],
            "cpu_seconds": cpu,
            "wall_seconds": time.monotonic() - started,
            "peak_memory": peak,
        }

    def watch(self, pids: list[int], program: dict, started: float, output: int) -> tuple[str, int]:
        """Waits until the first process ends, or goes too far; (why it must end, the highest memory seen)."""
        ended = os.pidfd_open(pids[0])
        try:
            poll = select.poll()
            for fd in (ended, output, self.control.fileno(), self.host):
                poll.register(fd, select.POLLIN)
            self.printed = peak = 0
            deadline, look = started + program["wall"], started + TICK
            while True:
                now = time.monotonic()
                if self.cancelled:
                    return "cancelled", peak
                if now >= deadline:
                    # Time in which it waited for a CPU does not count: the machine is loaded.
                    waited = min(self.waited(pids), MOST_PATIENCE * program["wall"])
                    deadline = started + program["wall"] + waited
                    if now >= deadline:
                        return "timeout", peak
                if now >= look:
                    look = now + TICK
                    cpu, memory = self.usage(pids)
                    peak = max(peak, memory)
                    if cpu > program["timeout"]:
                        return "cpu_limit", peak
                    if memory > self.settings["memory"]:
                        return "out_of_memory", peak
                for fd, _ in poll.poll((min(deadline, look) - now) * 1000 + 1):
                    if fd == ended:
                        return "", peak
                    if fd == self.host:
                        os._exit(0)
                    if fd == self.control.fileno():
                        self.receive()
                    elif not (data := os.read(output, 1 << 16)):
                        poll.unregister(output)
                    else:
                        self.printed += len(data)
                        if self.printed > self.settings["output"]:
                            return "output_limit", peak
        finally:
            os.close(ended)

    def processes(self, pids: list[int]) -> list[str]:
        """The folders, in this worker's /proc, of a program's processes and of all that they started."""
        if self.isolated:  # whatever this pid namespace holds beside this worker
            return [name for name in os.listdir(self.proc) if name.isdigit() and name != "1"]
        return [f"/proc/{pid}" for pid in pids]

    def waited(self, pids: list[int]) -> float:
        """Seconds in which a program's processes could have run but had no CPU, as far as the kernel counts them."""
        nanoseconds = 0
        for folder in self.processes(pids):
            with contextlib.suppress(OSError, IndexError):
                nanoseconds += int(read(f"{folder}/schedstat", self.proc).split()[1])
        return nanoseconds / 1e9

    def usage(self, pids: list[int]) -> tuple[float, int]:
        """CPU seconds and bytes of memory of a program's processes and of all that they started."""
        limit, cpu = self.settings["memory"], 0
        resident: dict[str, int] = {}  # bytes, for each folder
        own: dict[str, int] = {}  # bytes of addresses beyond this worker's
        for folder in self.processes(pids):
            with contextlib.suppress(OSError):
                fields = self.status(folder)
                cpu += sum(map(int, fields[11:15]))  # utime, stime, and those of children that were waited for
                if fields[0] == "Z":  # its first thread ended; others may live on, and hold its memory
                    folder, fields = self.living_thread(folder, fields)
                own[folder], resident[folder] = max(0, int(fields[20]) - self.addresses), int(fields[21]) * PAGE
        if sum(resident.values()) > limit:  # forks share pages, which this sum counts often: look closer
            for folder in resident:
                with contextlib.suppress(PermissionError):  # it hides its pages (PR_SET_DUMPABLE): all count as its own
                    resident[folder] = self.proportional(folder)
        memory = sum(resident.values())
        if sum(own.values()) > limit:  # never true of a single process, which RLIMIT_AS binds
            memory = max(memory, self.shared(own))
        return cpu / TICKS_PER_SECOND, memory

    def status(self, folder: str) -> list[str]:
        """The fields of a process's or a thread's `stat`, from its state on."""
        return read(f"{folder}/stat", self.proc).rpartition(")")[2].split()

    def living_thread(self, folder: str, fields: list[str]) -> tuple[str, list[str]]:
        """The folder and the fields of a thread that runs, of a process whose first one has ended; else as they are."""
        tasks = os.open(f"{folder}/task", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.proc)
        try:
            threads = os.listdir(tasks)
        finally:
            os.close(tasks)
        for thread in threads:
            with contextlib.suppress(OSError):
                found = self.status(f"{folder}/task/{thread}")
                if found[0] != "Z":
                    return f"{folder}/task/{thread}", found
        return folder, fields

    def proportional(self, folder: str) -> int:
        """Bytes of a process's memory, of shared pages its share. Raises PermissionError when it may not be seen."""
        try:
            return int(read(f"{folder}/smaps_rollup", self.proc).partition("Pss:")[2].split()[0]) * 1024
        except (FileNotFoundError, ProcessLookupError, IndexError):
            return 0  # it has ended

    def shared(self, own: dict[str, int]) -> int:
        """Bytes of anonymous memory that processes map as shared: it can be there without being resident anywhere."""
        sizes: dict[str, int] = {}
        for folder, addresses in own.items():
            try:
                maps = read(f"{folder}/maps", self.proc, MAPS_LIMIT)
            except PermissionError:
                sizes[folder] = addresses
                continue
            except OSError:
                continue  # it has ended
            for line in maps.splitlines():
                if line.endswith(" /dev/zero (deleted)"):
                    place, _, offset, _, inode = line.split()[:5]
                    start, _, end = place.partition("-")
                    size = int(offset, 16) + int(end, 16) - int(start, 16)
                    sizes[inode] = max(sizes.get(inode, 0), size)
        return sum(sizes.values())

    def kill(self, pid: int) -> None:
        """Ends a process; where it is pid 1 of its namespace, the kernel ends all others in there."""
        with contextlib.suppress(ProcessLookupError):
            if not self.isolated:
                os.killpg(pid, signal.SIGKILL)
            os.kill(pid, signal.SIGKILL)

    def judge(self, said: bytes, reason: str, statuses: list[int], cpu: float, program: dict) -> tuple[str, str]:
        """(outcome, detail) from what the worker saw, what the program's process wrote, and how it ended."""
        ready, _, verdict = said.decode("utf-8", "replace").partition("\n")
        outcome, _, detail = verdict.partition("\n")
        if reason:
            return reason, LIMITS.get(reason, "").format(**self.settings | program)
        if ready != "ready":
            return "sandbox_error", detail or f"It did not start: status {statuses}."
        signals = [os.WTERMSIG(status) for status in statuses if os.WIFSIGNALED(status)]
        if len(statuses) > 1:  # strict: the code's process is always killed in the end
            signals = [number for number in signals if number != signal.SIGKILL]
        if signals and outcome != "passed":
            if signal.SIGKILL in signals and cpu >= program["timeout"]:
                return "cpu_limit", LIMITS["cpu_limit"].format(**program)
            return "killed", signal.Signals(signals[0]).name
        if outcome in programs.OUTCOMES:
            return outcome, detail
        return "error", f"It ended before its tests had: exit status {os.waitstatus_to_exitcode(statuses[0])}."

    # ---- in the program's own process ----

    def start(self, action, program: dict, descriptors: list[int], verdict: int) -> int:
        """Forks a process without privileges in which `action(program, ...)` runs; its pid.

        It sees `descriptors`, numbered from 0, and nothing else of what is open here.
        """
        if self.isolated:
            libc.setns(self.pid_namespace, CLONE_NEWPID)
            libc.unshare(CLONE_NEWPID)
        if pid := os.fork():
            return pid
        try:
            os.setpgid(0, 0)  # signals to its own group must not reach others, in whatever namespace
            if self.isolated:
                self.enter()
            seconds = int(program["timeout"]) + 2  # the worker looks more closely; this is for the case that it cannot
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
            for number, descriptor in enumerate(descriptors):
                os.dup2(descriptor, number)
        except BaseException as error:
            os.write(verdict, f"failed\n\n{programs.describe(error)}".encode())
            os._exit(1)
        try:
            os.closerange(len(descriptors), 1 << 20)
            action(program)
        finally:
            os._exit(1)  # whatever happened: this process must not go on as a worker

    def enter(self) -> None:
        """The rest of the isolation, from inside: mounts, no capabilities, the filter."""
        libc.unshare(CLONE_NEWNS)
        # What lies in /tmp, an interpreter perhaps, would be hidden by the program's own /tmp.
        hidden = [(os.open(path, O_PATH), path) for path in self.settings["under_tmp"]]
        libc.mount(b"tmpfs", b"/tmp", b"tmpfs", MS_NOSUID | MS_NODEV, self.tmpfs)
        for descriptor, path in hidden:
            if os.path.isdir(f"/proc/self/fd/{descriptor}"):
                os.makedirs(path)
            else:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                os.close(os.open(path, os.O_CREAT, 0o644))
            libc.mount(b"/proc/self/fd/%d" % descriptor, path.encode(), None, MS_BIND | MS_REC, None)
        mount_proc()
        os.chdir("/tmp")
        libc.syscall(*self.capset)
        libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(self.filter), 0, 0)


def printer(descriptor: int, buffering: int, errors: str) -> io.TextIOWrapper:
    """A stream for the pipe that a program will find at `descriptor`; Python's own was made for a file, and seeks."""
    file, (reader, writer) = os.dup(descriptor), os.pipe()
    os.dup2(writer, descriptor)
    stream = open(descriptor, "w", buffering, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115
    os.dup2(file, descriptor)
    close([file, reader, writer])
    return stream


def leave_root(uid: int) -> None:
    """Kernel uid 0 is above limits on processes, and files in /proc/sys open for it."""
    first, _, count = map(int, read("/proc/self/uid_map").splitlines()[0].split())
    if uid >= first + count:  # somebody's user namespace, a rootless container: the last id that it has
        uid = first + count - 1
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)


def mount_proc() -> None:
    libc.mount(b"proc", b"/proc", b"proc", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, None)


def capabilities(mask: int) -> tuple[bytes, bytes]:
    """The two arguments of capset(2) for `mask` as the effective and permitted set."""
    low, high = mask & 0xFFFFFFFF, mask >> 32
    return struct.pack("<Ii", CAPABILITY_VERSION_3, 0), struct.pack("<6I", low, low, 0, high, high, 0)


def close(descriptors: list[int]) -> None:
    """Closes and forgets them."""
    while descriptors:
        os.close(descriptors.pop())


def read_all(descriptor: int, limit: int) -> bytes:
    """What lies in a pipe, at most `limit` bytes; does not wait for those who may still hold its other end."""
    os.set_blocking(descriptor, False)
    data = b""
    with contextlib.suppress(BlockingIOError):
        while len(data) < limit and (part := os.read(descriptor, limit - len(data))):
            data += part
    return data


def read(path: str, folder: int | None = None, limit: int = 4096) -> str:
    """The first `limit` bytes of a file; 4 kB are all that matters of most of the kernel's."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        parts = []
        while limit > 0 and (part := os.read(descriptor, limit)):
            parts.append(part)
            limit -= len(part)
        return b"".join(parts).decode("utf-8", "replace")
    finally:
        os.close(descriptor)


def write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


# The first program of each worker. It knows HIDDEN, paths of the host that nobody may see in here.
SELF_TEST = """
import ctypes, os, resource, socket, errno

def fails(action, *arguments):
    try:
        action(*arguments)
    except OSError:
        return True
    return False

status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
    assert int(status[name], 16) == 0, f"it has capabilities ({name})"
assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2", "no system call filter"
assert os.getpid() == 1 and [p for p in os.listdir("/proc") if p.isdigit()] == ["1"], "it sees other processes"
for path in HIDDEN:
    assert not os.path.exists(path), f"it sees {path}"
for folder in ("/", "/usr", "/dev", "/etc", "/run", "/var", "/proc", "/proc/sys/kernel"):
    assert fails(open, folder + "/written", "w"), f"it writes to {folder}"
for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/1/oom_score_adj"):
    assert fails(open, path, "r+"), f"it writes to {path}"
connection = socket.socket()
connection.settimeout(1)
assert connection.connect_ex(("127.0.0.1", 9)) == errno.ENETUNREACH, "it has a network"
assert [line.split(":")[0].strip() for line in open("/proc/self/net/dev").readlines()[2:]] in ([], ["lo"]), "interfaces"
for family in (16, 17, 38, 40):  # NETLINK, PACKET, ALG, VSOCK
    assert fails(socket.socket, family, 3), f"it opens sockets of family {family}"
libc = ctypes.CDLL(None)
assert libc.unshare(0x10000000) == -1, "it makes namespaces"
assert libc.mount(b"/usr", b"/tmp", None, 4096, None) == -1, "it mounts"
assert libc.ptrace(0, 0, 0, 0) == -1, "it traces"
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
assert fails(os.fork), "limits on processes do not hold"
"""


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    size = FRAME.unpack(control.recv(FRAME.size, socket.MSG_WAITALL))[0]
    worker = Worker(control, int(sys.argv[2]), json.loads(control.recv(size, socket.MSG_WAITALL)))
    try:
        worker.prepare()
        worker.test_itself()
    except Exception as error:
        worker.send({"failed": programs.describe(error)})
        return
    worker.send({"ready": True})
    worker.serve()


if __name__ == "__main__":
    main()
