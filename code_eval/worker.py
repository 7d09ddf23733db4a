"""What runs inside: a worker that executes one program after the other, each in a fork of its own.

Started by sandbox.py, in bubblewrap's namespaces (or bare, in the mode "unsafe"), with a socket to the host:
    python -s -B worker.py SOCKET HOST_PIDFD
It imports what programs commonly need, gives up every privilege but a CAP_SYS_ADMIN that counts only in its own user
namespace, and then for each program makes a process that is pid 1 of a fresh pid namespace - whatever the program
starts dies with it - with its own mounts, limits, no capabilities and a seccomp filter. The worker watches it from
outside: wall time, CPU time, memory, output.

Nothing of the host's project is imported here, only the standard library. Interfaces of the kernel that Python 3.10
has no function for are called through ctypes.
"""

import sys

del sys.path[0]  # this file's folder, before anything is imported from it

import base64  # noqa: E402
import contextlib  # noqa: E402
import ctypes  # noqa: E402
import gc  # noqa: E402
import importlib  # noqa: E402
import json  # noqa: E402
import opcode  # noqa: E402
import os  # noqa: E402
import platform  # noqa: E402
import resource  # noqa: E402
import select  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
import struct  # noqa: E402
import time  # noqa: E402
import types  # noqa: E402

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
DETAIL_LIMIT = 300  # characters of a detail
TICK = 0.05  # seconds between two looks at a program's CPU time and memory
FRAME = struct.Struct("<I")
RUN, CANCEL = b"R", b"C"


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
        self.queue: list[dict] = []
        self.page = resource.getpagesize()
        self.ticks = os.sysconf("SC_CLK_TCK")
        self.proc = -1

    # ---- start ----

    def prepare(self) -> None:
        """Imports, then privileges away. What fails here ends the worker, and the host says why."""
        sys.path[:] = self.settings["path"] or sys.path
        for name in self.settings["preload"]:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        compile("assert (lambda x: [x])(1) == [1]", "<warm>", "exec")  # the first compilation costs 1.3 ms
        if self.isolated:
            self.leave_privileges()
        self.limits()
        gc.collect()
        gc.freeze()  # the collector of a fork would otherwise touch, and so copy, every page
        gc.disable()

    def leave_privileges(self) -> None:
        libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
        if os.getuid() == 0:
            leave_root(PRIVATE_UID + self.settings["number"])
        uid, gid = os.getuid(), os.getgid()
        libc.unshare(CLONE_NEWUSER)
        write("/proc/self/setgroups", "deny")
        write("/proc/self/uid_map", f"{INSIDE_UID} {uid} 1")
        write("/proc/self/gid_map", f"{INSIDE_UID} {gid} 1")
        libc.unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)
        # A pid namespace starts with the next fork. Its owner is this user namespace, and so may nest others in it.
        child = os.fork()
        if child:
            self.control.close()
            os.close(self.host)
            os.waitpid(child, 0)
            os._exit(0)
        libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None)
        mount_proc()
        self.proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
        self.pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY)
        for capability in range(64):
            with contextlib.suppress(OSError):  # beyond the last one this kernel knows
                libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        set_capabilities(1 << CAP_SYS_ADMIN)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        code = ctypes.create_string_buffer(base64.b64decode(self.settings["filter"]))
        self.filter_code = code  # referenced from the structure below
        self.filter = ctypes.create_string_buffer(struct.pack("HP", (len(code) - 1) // 8, ctypes.addressof(code)))
        self.no_capabilities = capability_data(0)
        self.capset = SYS_CAPSET[platform.machine()]
        self.rebind = [(os.open(p, os.O_PATH), p) for p in self.settings["under_tmp"]]
        self.tmpfs = f"size={self.settings['disk']},nr_inodes={self.settings['files']},mode=1777".encode()
        self.null = os.open("/dev/null", os.O_RDWR)

    def limits(self) -> None:
        """Limits that every program inherits; what is counted per program is set in its own process."""
        s = self.settings
        self.null = os.open("/dev/null", os.O_RDWR)
        pages = int(read("/proc/self/statm").split()[0]) if os.path.exists("/proc/self/statm") else 0
        for what, value in (
            # The interpreter and its libraries are not the program's; two arenas, see MALLOC_ARENA_MAX.
            (resource.RLIMIT_AS, s["memory"] + pages * self.page),
            (resource.RLIMIT_NPROC, s["processes"] + 2),
            (resource.RLIMIT_FSIZE, s["disk"]),
            (resource.RLIMIT_NOFILE, s["open_files"]),
            (resource.RLIMIT_CORE, 1),  # 0 would not stop a core_pattern that is a pipe
            (resource.RLIMIT_MEMLOCK, 0),
            (resource.RLIMIT_SIGPENDING, 1024),
            (resource.RLIMIT_MSGQUEUE, 0),
            (resource.RLIMIT_STACK, 8 << 20),
        ):
            if what == resource.RLIMIT_NPROC and not self.isolated:
                continue  # counts every process of the user
            hard = resource.getrlimit(what)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(what, (value, value))

    # ---- the loop ----

    def serve(self) -> None:
        while True:
            while not self.queue:
                self.receive()
            program = self.queue.pop(0)
            self.current = program["id"]
            self.send(self.execute(program))

    def receive(self) -> None:
        data = self.control.recv(1 << 20)
        if not data:
            os._exit(0)  # the host is gone, and with this process everything in here
        self.received += data
        while len(self.received) >= 4:
            (size,) = FRAME.unpack_from(self.received)
            if len(self.received) < 4 + size:
                return
            kind, body = self.received[4:5], bytes(self.received[5 : 4 + size])
            del self.received[: 4 + size]
            if kind == RUN:
                self.queue.append(json.loads(body))
            else:
                number = int(body)
                if number == self.current:
                    self.cancelled = True
                self.queue = [p for p in self.queue if p["id"] != number]

    def send(self, message: dict) -> None:
        body = json.dumps(message).encode()
        self.control.sendall(FRAME.pack(len(body)) + body)

    def execute(self, program: dict) -> dict:
        """Runs one program and says how it ended."""
        started = time.monotonic()
        self.cancelled = False
        verdict_in, verdict_out = os.pipe()
        output_in, output_out = os.pipe()
        if self.isolated:
            libc.setns(self.pid_namespace, CLONE_NEWPID)
            libc.unshare(CLONE_NEWPID)
        pid = os.fork()
        if not pid:
            self.become(program, verdict_out, output_out)
        os.close(verdict_out)
        os.close(output_out)
        reason, peak = self.watch(pid, program, started, output_in, verdict_in)
        _, status, usage = os.wait4(pid, 0)
        wall = time.monotonic() - started
        verdict = os.read(verdict_in, VERDICT_LIMIT).decode("utf-8", "replace")
        os.close(verdict_in)
        os.close(output_in)
        outcome, detail = judge(verdict, status, reason, usage, program)
        return {
            "id": program["id"],
            "outcome": outcome,
            "detail": detail[:DETAIL_LIMIT],
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "wall_seconds": wall,
            "peak_memory": max(peak, usage.ru_maxrss * 1024),
        }

    def watch(self, pid: int, program: dict, started: float, output: int, verdict: int) -> tuple[str, int]:
        """Waits for the end of a program, and ends it when it goes too far; (why it was ended, highest memory)."""
        ended = os.pidfd_open(pid)
        poll = select.poll()
        for fd in (ended, output, self.control.fileno(), self.host):
            poll.register(fd, select.POLLIN)
        printed, peak, reason = 0, 0, ""
        deadline = started + program["wall"]
        next_look = started + TICK
        try:
            while True:
                now = time.monotonic()
                if now >= deadline:
                    reason = "timeout"
                elif now >= next_look:
                    next_look = now + TICK
                    cpu, memory = self.usage(pid)
                    peak = max(peak, memory)
                    if cpu > program["timeout"]:
                        reason = "cpu_limit"
                    elif memory > self.settings["memory"]:
                        reason = "out_of_memory"
                if reason or self.cancelled:
                    break
                for fd, _ in poll.poll(max(0.0, min(deadline, next_look) - now) * 1000 + 1):
                    if fd == ended:
                        return self.drained(output, printed), peak
                    if fd == output:
                        data = os.read(output, 1 << 16)
                        printed += len(data)
                        if not data:
                            poll.unregister(output)
                        elif printed > self.settings["output"]:
                            reason = "output_limit"
                    elif fd == self.host:
                        os._exit(0)
                    else:
                        self.receive()
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                if not self.isolated:
                    os.killpg(pid, signal.SIGKILL)
            return reason or "cancelled", peak
        finally:
            os.close(ended)

    def drained(self, output: int, printed: int) -> str:
        """A program may end with more in the pipe than it was allowed to print."""
        os.set_blocking(output, False)
        with contextlib.suppress(BlockingIOError):
            while data := os.read(output, 1 << 16):
                printed += len(data)
        return "output_limit" if printed > self.settings["output"] else ""

    def usage(self, pid: int) -> tuple[float, int]:
        """CPU seconds and bytes of memory of the program and all that it started."""
        cpu = memory = 0
        pids = [p for p in os.listdir(self.proc) if p.isdigit() and p != "1"] if self.isolated else [str(pid)]
        for p in pids:
            with contextlib.suppress(OSError):
                fields = read(f"{p}/stat" if self.isolated else f"/proc/{p}/stat", self.proc).rpartition(")")[2].split()
                cpu += sum(map(int, fields[11:15]))  # utime, stime, and those of children that were waited for
                memory += int(fields[21]) * self.page
        return cpu / self.ticks, memory

    # ---- in the program's own process ----

    def become(self, program: dict, verdict: int, output: int):
        """From a fork of the worker to a process without privileges that runs the program. Does not return."""
        try:
            if self.isolated:
                libc.unshare(CLONE_NEWNS)
                libc.mount(b"tmpfs", b"/tmp", b"tmpfs", MS_NOSUID | MS_NODEV, self.tmpfs)
                for fd, path in self.rebind:
                    os.makedirs(path)
                    libc.mount(f"/proc/self/fd/{fd}".encode(), path.encode(), None, MS_BIND | MS_REC, None)
                mount_proc()
                os.chdir("/tmp")
            else:
                os.setsid()
            seconds = int(program["timeout"]) + 2
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
            os.dup2(self.null, 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.dup2(verdict, 3)
            os.closerange(4, 1 << 20)
            if self.isolated:
                libc.syscall(self.capset, self.no_capabilities[0], self.no_capabilities[1])
                libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(self.filter), 0, 0)
        except BaseException as error:
            os.write(3, f"sandbox_error\n{error}".encode())
            os._exit(1)
        run_program(program, 3)


def leave_root(uid: int) -> None:
    """Limits on processes do not bind the kernel's uid 0, and files in /proc/sys open for it."""
    first, _, count = map(int, read("/proc/self/uid_map").split("\n")[0].split())
    if uid >= first + count:  # inside somebody's user namespace: the last id it has
        uid = first + count - 1
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)


def mount_proc() -> None:
    libc.mount(b"proc", b"/proc", b"proc", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, None)


def capability_data(mask: int) -> tuple[bytes, bytes]:
    low, high = mask & 0xFFFFFFFF, mask >> 32
    return struct.pack("<Ii", CAPABILITY_VERSION_3, 0), struct.pack("<6I", low, low, 0, high, high, 0)


def set_capabilities(mask: int) -> None:
    header, data = capability_data(mask)
    libc.syscall(SYS_CAPSET[platform.machine()], header, data)


def judge(verdict: str, status: int, reason: str, usage, program: dict) -> tuple[str, str]:
    """(outcome, detail) from what the program's process wrote and how it ended."""
    ready, _, verdict = verdict.partition("\n")
    outcome, _, detail = verdict.partition("\n")
    if ready != "ready":
        return "sandbox_error", detail or verdict or f"no start, status {status}"
    if reason:
        return reason, ""
    if outcome:
        return outcome, detail
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        cpu = usage.ru_utime + usage.ru_stime
        if number == signal.SIGXCPU or (number == signal.SIGKILL and cpu >= program["timeout"]):
            return "cpu_limit", ""
        return "killed", signal.Signals(number).name
    return "error", f"exited with status {os.WEXITSTATUS(status)} before its tests had ended"


def run_program(program: dict, verdict: int, write=os.write, leave=os._exit) -> None:
    """Compiles and runs; the verdict "passed" is written after the last statement of the tests, and nowhere else."""
    write(verdict, b"ready\n")
    outcome, detail = "error", ""
    try:
        gc.enable()
        parts = []
        try:
            for name in ("code", "tests"):
                if program[name] is not None:
                    parts.append(compile(program[name], f"<{name}>", "exec", dont_inherit=True))
        except (SyntaxError, ValueError, OverflowError) as error:
            outcome, detail = "syntax_error", describe(error)
        else:
            if not has_assertion(parts[-1]):
                outcome = "no_tests"
            else:
                module = types.ModuleType("__main__" if program["main"] else "__program__")
                sys.modules[module.__name__] = module
                for part in parts:
                    exec(part, module.__dict__)
                outcome = "passed"
    except AssertionError as error:
        outcome, detail = "failed", describe(error)
    except MemoryError as error:
        outcome, detail = "out_of_memory", describe(error)
    except BaseException as error:
        detail = describe(error)
        if isinstance(error, BlockingIOError) or detail.startswith("RuntimeError: can't start new thread"):
            outcome = "too_many_processes"
    finally:
        write(verdict, f"{outcome}\n{detail[:DETAIL_LIMIT]}".encode("utf-8", "replace"))
        leave(0)


def describe(error: BaseException) -> str:
    """The last line of a traceback."""
    name = type(error).__name__
    try:
        lines = str(error).strip().splitlines()
    except BaseException:
        return name
    return f"{name}: {lines[-1]}" if lines else name


def has_assertion(code) -> bool:
    operations = code.co_code[::2]
    if ASSERT in operations or RAISE in operations or any(n.startswith("assert") for n in code.co_names):
        return True
    return any(has_assertion(c) for c in code.co_consts if isinstance(c, types.CodeType))


ASSERT = opcode.opmap["LOAD_ASSERTION_ERROR"]
RAISE = opcode.opmap["RAISE_VARARGS"]


def read(path: str, folder: int | None = None) -> str:
    fd = os.open(path, os.O_RDONLY, dir_fd=folder if folder is not None and folder >= 0 else None)
    try:
        return os.read(fd, 4096).decode()
    finally:
        os.close(fd)


def write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    host = int(sys.argv[2])
    size = FRAME.unpack(control.recv(4, socket.MSG_WAITALL))[0]
    settings = json.loads(control.recv(size, socket.MSG_WAITALL))
    worker = Worker(control, host, settings)
    try:
        worker.prepare()
    except Exception as error:
        worker.send({"failed": describe(error)})
        return
    worker.send({"ready": True})
    worker.serve()


if __name__ == "__main__":
    main()
