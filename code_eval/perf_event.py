"""A counter of the kernel or the processor for a program: what its processes and threads do, as `perf stat` counts it.

Programs may not open such counters. Where the sandbox was made with `perf_event`, each program's process opens one on
itself before it gives up its rights, and the program finds it under the descriptor DESCRIPTOR: 8 bytes are the count so
far. It can read it and nothing else: a counter that new processes and threads inherit cannot be mapped into memory, and
the filter of system calls refuses every `ioctl` on it, such as setting it back.

On a processor with two kinds of cores, "instructions" are those on one of the kinds: the kernel gives each a counter of
its own, and a program has one.

Source: perf_event_open(2), linux/perf_event.h, tools/perf/Documentation/intel-hybrid.txt of Linux.
"""

import ctypes
import errno
import os
import platform
import struct

DESCRIPTOR = 5  # behind those of every program: see verdict.py
# As `perf list` calls them: (type, config). Only user mode is counted.
EVENTS = {
    "instructions": (0, 1),  # PERF_TYPE_HARDWARE: instructions that the processor has completed
    "page-faults": (1, 2),  # PERF_TYPE_SOFTWARE
}
SYS_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}
ATTR_SIZE = 64  # PERF_ATTR_SIZE_VER0
# It counts at all times or not at all, and never takes turns with other counters of the processor (pinned).
INHERIT, PINNED, EXCLUDE_KERNEL, EXCLUDE_HV = 1 << 1, 1 << 2, 1 << 5, 1 << 6
FD_CLOEXEC = 1 << 3

NOT_COUNTED = "can't be counted: "  # by these words the host knows what is at fault
NONE_THERE = "this processor or virtual machine has no counter of them"
FORBIDDEN = (
    "the kernel does not allow it (see `sysctl kernel.perf_event_paranoid`, and in a container its seccomp profile)"
)
REASONS = {
    **dict.fromkeys((errno.ENOENT, errno.EOPNOTSUPP, errno.ENODEV), NONE_THERE),
    **dict.fromkeys((errno.EACCES, errno.EPERM), FORBIDDEN),
    errno.ENOSYS: "this kernel has no counters",
}


class NotCounted(Exception):
    """The kernel refuses a counter; the message says which, and why."""


def open_counter(name: str, kind: int, config: int) -> int:
    """The descriptor of a counter of this process and all that it will start. Raises NotCounted."""
    flags = INHERIT | PINNED | EXCLUDE_KERNEL | EXCLUDE_HV
    attributes = struct.pack("<IIQQQQQ", kind, ATTR_SIZE, config, 0, 0, 0, flags).ljust(ATTR_SIZE, b"\0")
    call = ctypes.CDLL(None, use_errno=True).syscall
    number, itself, any_cpu, no_group = SYS_PERF_EVENT_OPEN[platform.machine()], 0, -1, -1
    descriptor = call(number, attributes, itself, any_cpu, no_group, FD_CLOEXEC)
    if descriptor < 0:
        raise NotCounted(why_not(name, ctypes.get_errno()))
    return descriptor


def why_not(name: str, number: int) -> str:
    """What an error of perf_event_open means."""
    error = f"perf_event_open: {os.strerror(number)}"
    return f"{name} {NOT_COUNTED}{REASONS[number]} ({error})" if number in REASONS else f"{name} {NOT_COUNTED}{error}"


def probe_of(name: str) -> str:
    """A program that passes where its counter counts: that of some virtual machines can be opened, but stands still."""
    return f"""
import os
before = os.read({DESCRIPTOR}, 8)
work = b"x" * (1 << 22)
assert len(before) == 8 and os.read({DESCRIPTOR}, 8) != before, {f"{name} {NOT_COUNTED}the counter stands still"!r}
"""
