"""Shared memory of programs: a file in their /tmp, on whose size there is a limit.

The kernel charges shared anonymous memory to nobody once it is unmapped but for one page, so the filter refuses it (see
seccomp.py). `mmap.mmap(-1, size)`, which asks for it, gets a file without a name instead: the same to a program, its
forks included.
"""

import mmap
import os


class Mapping(mmap.mmap):
    """`mmap.mmap`, whose shared anonymous memory is a file. Raises OSError where /tmp has no room for it."""

    def __new__(cls, fileno, length, *arguments, **keywords):
        flags = keywords.get("flags", arguments[0] if arguments else mmap.MAP_SHARED)
        if fileno != -1 or not flags & mmap.MAP_SHARED or keywords.get("access") == mmap.ACCESS_COPY or length <= 0:
            return super().__new__(cls, fileno, length, *arguments, **keywords)
        if arguments:
            arguments = (flags & ~mmap.MAP_ANONYMOUS, *arguments[1:])
        elif "flags" in keywords:
            keywords["flags"] = flags & ~mmap.MAP_ANONYMOUS
        file = os.open("/tmp", os.O_TMPFILE | os.O_RDWR, 0o600)
        try:
            os.posix_fallocate(file, 0, length)  # an error now, and no SIGBUS later
            return super().__new__(cls, file, length, *arguments, **keywords)
        finally:
            os.close(file)


def share_in_files() -> None:
    """From now on, `mmap.mmap` is the class above."""
    Mapping.__name__ = Mapping.__qualname__ = "mmap"
    Mapping.__module__ = "mmap"
    mmap.mmap = Mapping
