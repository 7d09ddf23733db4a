"""How a worker confines its programs: what it gives up once, and what each program's process gives up in addition.

Inside bubblewrap's namespaces, a worker gives up every privilege except a CAP_SYS_ADMIN that counts only in a user
namespace of its own. With it, each program's process gets a pid namespace, mounts and a /proc of its own, and then
gives up this capability, too. Kernel interfaces for which Python 3.10 has no function are called through ctypes.
"""

import base64
import contextlib
import ctypes
import fcntl
import os
import platform
import resource
import socket
import struct
import sys
from collections.abc import Iterator, Sequence

from .accounting import PAGE, read
from .messages import Settings

# linux/sched.h, linux/mount.h, linux/prctl.h, linux/capability.h
CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = (
    1,
    2,
    4,
    8,
    32,
    4096,
    16384,
    1 << 18,
)
MNT_DETACH = 2
PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 4, 22, 24, 38
SECCOMP_MODE_FILTER = 2
CAPABILITY_VERSION_3 = 0x20080522
CAP_SYS_ADMIN = 21
SYS_CAPSET = {"x86_64": 126, "aarch64": 91}
O_PATH = 0o10000000
TCP_BUFFERS = "4096 131072 131072"  # bytes of a connection in each direction: at least, at first, at most
SIOCSIFFLAGS, IFF_UP = 0x8914, 1  # linux/sockios.h, linux/if.h

PRIVATE_UID = 1_879_048_192  # 0x70000000: no system hands out user ids this high; each worker adds its number
INSIDE_UID = 1000  # what programs see
STACK = 8 << 20  # bytes of stack of the main thread
# Bytes that a program may have mapped beside what it can write to: `import torch` maps 3.1 GB if torch is built for
# CUDA, of which 0.8 GB can be written and 0.5 GB are ever read.
LIBRARIES = 4 << 30
NODE_DATA = 64 << 20  # bytes that an idle node has mapped to write to: 48 MB were seen with node 20 (VmData)


class Libc:
    """The C library's functions that Python 3.10 lacks; each raises OSError when it fails."""

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


class Confinement:
    """The isolation of one worker's programs. Every method raises OSError if the kernel refuses something."""

    def __init__(self, settings: Settings):
        self._settings = settings
        # Built once: what each program's process passes to the kernel.
        self._tmpfs = f"size={settings.disk},nr_inodes={settings.files},mode=1777".encode()
        self._capset = (SYS_CAPSET[platform.machine()], *capabilities(0))
        self._instructions = ctypes.create_string_buffer(base64.b64decode(settings.filter))
        count = (len(self._instructions) - 1) // 8
        self._filter = ctypes.create_string_buffer(struct.pack("HP", count, ctypes.addressof(self._instructions)))

    def leave_privileges(self, descriptors: Sequence[int]) -> None:
        """Leaves root, takes namespaces of its own, keeps one capability; returns in a child of this process.

        `descriptors` are closed in the parent, which ends with its child. Raises PermissionError where the user id that
        a worker of root takes cannot read the interpreter.
        """
        libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)  # else the files in /proc/self are root's
        if os.getuid() == 0:
            leave_root(PRIVATE_UID + self._settings.number)
        for folder in sys.path:
            if os.path.exists(folder) and not os.access(folder, os.R_OK):
                raise PermissionError(f"{folder} cannot be read by other users: chmod -R go+rX {folder}")
        uid, gid = os.getuid(), os.getgid()
        libc.unshare(CLONE_NEWUSER)
        mapping = {"setgroups": "deny", "uid_map": f"{INSIDE_UID} {uid} 1", "gid_map": f"{INSIDE_UID} {gid} 1"}
        for name, text in mapping.items():
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
        libc.unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)
        raise_loopback()
        # A pid namespace starts with the next fork. This user namespace owns it, and so may nest others in it.
        if child := os.fork():
            for descriptor in descriptors:
                os.close(descriptor)
            os.waitpid(child, 0)
            os._exit(0)
        libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None)
        self._output_file, self.output = make_special_files()
        self._output_size = fcntl.fcntl(self.output, fcntl.F_GETPIPE_SZ)
        mount_proc()
        self._pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY)
        for capability in range(64):
            with contextlib.suppress(OSError):  # beyond the last one that this kernel knows
                libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        libc.syscall(SYS_CAPSET[platform.machine()], *capabilities(1 << CAP_SYS_ADMIN))
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)

    def open_output(self) -> int:
        """The end of the output to which the next program writes; the one before it has ended.

        `output` is the end at which it arrives.
        """
        if fcntl.fcntl(self.output, fcntl.F_GETPIPE_SZ) != self._output_size:
            fcntl.fcntl(self.output, fcntl.F_SETPIPE_SZ, self._output_size)
        return os.open(f"/proc/self/fd/{self._output_file}", os.O_WRONLY)

    def before_fork(self) -> None:
        """The next fork will be the first process of a new pid namespace."""
        libc.setns(self._pid_namespace, CLONE_NEWPID)
        libc.unshare(CLONE_NEWPID)

    def enter(self) -> None:
        """The rest of the isolation, in the program's process: its mounts, no capabilities, the filter."""
        libc.unshare(CLONE_NEWNS)
        self._mount_tmp()
        mount_proc()
        os.chdir("/tmp")
        libc.syscall(*self._capset)
        libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(self._filter), 0, 0)

    @contextlib.contextmanager
    def writable_tmp(self) -> Iterator[None]:
        """A /tmp in which the worker itself can write, and which is gone afterwards; programs get one of their own."""
        self._mount_tmp()
        try:
            yield
        finally:
            libc.umount2(b"/tmp", MNT_DETACH)

    def _mount_tmp(self) -> None:
        """Mounts an empty /tmp over the one that is there, in which an interpreter may lie: it stays visible."""
        visible = [(os.open(path, O_PATH), path) for path in self._settings.under_tmp]
        libc.mount(b"tmpfs", b"/tmp", b"tmpfs", MS_NOSUID | MS_NODEV, self._tmpfs)
        for descriptor, path in visible:
            if os.path.isdir(f"/proc/self/fd/{descriptor}"):
                os.makedirs(path)
            else:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                os.close(os.open(path, os.O_CREAT, 0o644))
            libc.mount(b"/proc/self/fd/%d" % descriptor, path.encode(), None, MS_BIND | MS_REC, None)
            os.close(descriptor)


def limit_resources(settings: Settings) -> None:
    """Sets the limits that every program inherits."""
    pages = read("/proc/self/statm").split()
    addresses, data = int(pages[0]) * PAGE, int(pages[5]) * PAGE
    limits = {  # beside what the interpreter and its imports have, which are not the program's
        resource.RLIMIT_DATA: settings.memory + data,
        resource.RLIMIT_AS: settings.memory + addresses + LIBRARIES,
        resource.RLIMIT_NPROC: settings.processes + 1,  # this worker is one
        resource.RLIMIT_FSIZE: settings.disk,
        resource.RLIMIT_NOFILE: settings.open_files,
        resource.RLIMIT_CORE: 1,  # 0 would not stop a core_pattern that is a pipe
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_SIGPENDING: 1024,
        resource.RLIMIT_STACK: STACK,
    }
    if settings.node:  # V8 reserves gigabytes of addresses that it never uses
        del limits[resource.RLIMIT_AS]
        limits[resource.RLIMIT_DATA] = settings.memory + NODE_DATA
    if not settings.isolated:
        del limits[resource.RLIMIT_NPROC]  # it would count all processes of the user
    for kind, value in limits.items():
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def leave_root(uid: int) -> None:
    """Becomes `uid`: the kernel does not limit the processes of uid 0, and opens files in /proc/sys for it."""
    first, _, count = map(int, read("/proc/self/uid_map").splitlines()[0].split())
    if uid >= first + count:  # in a rootless container, for example: take the last id that its user namespace has
        uid = first + count - 1
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)


def raise_loopback() -> None:
    """Lets programs talk to themselves at 127.0.0.1, in a network of one interface that leads nowhere else."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connection, contextlib.suppress(OSError):
        fcntl.ioctl(connection, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
    # A port is free again for the next program at once, and what nobody reads, which no process is charged for, has
    # little room.
    for name, value in {"tcp_max_tw_buckets": "0", "tcp_wmem": TCP_BUFFERS, "tcp_rmem": TCP_BUFFERS}.items():
        with contextlib.suppress(OSError), open(f"/proc/sys/net/ipv4/{name}", "w") as file:
            file.write(value)


def make_special_files() -> tuple[int, int]:
    """Makes two files that programs cannot change, in a file system that is read-only and has no place of its own.

    An endless file of zeros takes the place of /dev/zero, which, mapped, would be shared memory that nobody limits. A
    FIFO takes the output of programs: they own it, as they would own a pipe, but can neither open it for reading nor
    change that, and so cannot take back what they have printed before it is counted.

    Returns (a descriptor of the FIFO that only serves to open it, its end for reading).
    """
    libc.mount(b"tmpfs", b"/proc", b"tmpfs", MS_NOSUID | MS_NODEV, b"size=64k,mode=755")  # /proc comes anew after this
    with open("/proc/zero", "wb") as file:
        os.fchmod(file.fileno(), 0o444)
        file.truncate(1 << 42)  # without a block of its own
    libc.mount(b"/proc/zero", b"/dev/zero", None, MS_BIND, None)
    os.mkfifo("/proc/output", 0o600)
    reader = os.open("/proc/output", os.O_RDONLY | os.O_NONBLOCK)
    os.chmod("/proc/output", 0o200)
    libc.mount(None, b"/proc", None, MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV, None)
    output = os.open("/proc/output", O_PATH)
    libc.umount2(b"/proc", MNT_DETACH)
    return output, reader


def mount_proc() -> None:
    libc.mount(b"proc", b"/proc", b"proc", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, None)


def capabilities(mask: int) -> tuple[bytes, bytes]:
    """The two arguments of capset(2) that make `mask` the effective and the permitted set."""
    low, high = mask & 0xFFFFFFFF, mask >> 32
    return struct.pack("<Ii", CAPABILITY_VERSION_3, 0), struct.pack("<6I", low, low, 0, high, high, 0)


# The first program of each worker looks for holes in the isolation, and passes if there are none. It runs behind a line
# that defines HIDDEN, the paths of the host that must not be visible inside.
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
for address, answers in (("127.0.0.1", (errno.ECONNREFUSED, errno.ENETUNREACH)), ("192.0.2.1", (errno.ENETUNREACH,))):
    connection = socket.socket()
    connection.settimeout(1)
    assert connection.connect_ex((address, 9)) in answers, f"it has a network: {address}"
assert [line.split(":")[0].strip() for line in open("/proc/self/net/dev").readlines()[2:]] in ([], ["lo"]), "interfaces"
for family in (16, 17, 38, 40):  # NETLINK, PACKET, ALG, VSOCK
    assert fails(socket.socket, family, 3), f"it opens sockets of family {family}"
libc = ctypes.CDLL(None)
assert libc.unshare(0x10000000) == -1, "it makes namespaces"
assert libc.mount(b"/usr", b"/tmp", None, 4096, None) == -1, "it mounts"
assert libc.ptrace(0, 0, 0, 0) == -1, "it traces"
libc.mmap.restype, anonymous = ctypes.c_void_p, (None, ctypes.c_size_t(4096), 3, 0x21, -1, ctypes.c_long(0))
assert libc.mmap(*anonymous) == ctypes.c_void_p(-1).value, "it has shared memory without limits"
assert fails(open, "/dev/zero", "r+b"), "it has a device that is shared memory without limits"
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
assert fails(os.fork), "limits on processes do not hold"
"""
