"""What a program uses: CPU time, memory, and the time for which it waits for a CPU.

Each figure is a sum over all processes of a program, and is read from /proc while they run.
"""

import contextlib
import os
import resource

MAPS_LIMIT = 8 << 20  # bytes of a process's maps that are read
PAGE, TICKS_PER_SECOND = resource.getpagesize(), os.sysconf("SC_CLK_TCK")


class Accounting:
    """The accounts of a worker's programs.

    Args:
        alone: whether /proc shows a pid namespace that contains only the worker and its program; otherwise only the
            processes that the worker started itself are seen.
        memory: bytes that the processes of a program may use together.
        addresses: bytes of address space that the worker itself occupies, and so does every fork of it.
    """

    def __init__(self, alone: bool, memory: int, addresses: int):
        self._alone, self._memory, self._addresses = alone, memory, addresses

    def waited(self, pids: list[int]) -> float:
        """Seconds for which a program's processes could have run but had no CPU, as far as the kernel counts them."""
        nanoseconds = 0
        for folder in self._folders(pids):
            with contextlib.suppress(OSError, IndexError):
                nanoseconds += int(read(f"{folder}/schedstat").split()[1])
        return nanoseconds / 1e9

    def usage(self, pids: list[int]) -> tuple[float, int]:
        """(seconds of CPU time, bytes of memory)"""
        cpu = 0
        resident: dict[str, int] = {}  # bytes, by folder
        own: dict[str, int] = {}  # bytes of addresses beyond this worker's
        for folder in self._folders(pids):
            with contextlib.suppress(OSError):
                fields = self._status(folder)
                cpu += sum(map(int, fields[11:15]))  # utime, stime, and those of children that were waited for
                if fields[0] == "Z":  # its first thread has ended; others may live on, and hold its memory
                    folder, fields = self._living_thread(folder, fields)
                own[folder], resident[folder] = max(0, int(fields[20]) - self._addresses), int(fields[21]) * PAGE
        if sum(resident.values()) > self._memory:  # it counts pages that forks share several times: look closer
            for folder in resident:
                with contextlib.suppress(PermissionError):  # it hides them (PR_SET_DUMPABLE): all of its pages count
                    resident[folder] = self._proportional(folder)
        memory = sum(resident.values())
        if sum(own.values()) > self._memory:  # never true of a single process, which RLIMIT_AS binds
            memory = max(memory, self._shared(own))
        return cpu / TICKS_PER_SECOND, memory

    def _status(self, folder: str) -> list[str]:
        """The fields of a process's or a thread's `stat`, from its state on."""
        return read(f"{folder}/stat").rpartition(")")[2].split()

    def _living_thread(self, folder: str, fields: list[str]) -> tuple[str, list[str]]:
        """The folder and the fields of a thread that is alive, if there is one; otherwise those given."""
        for thread in os.listdir(f"{folder}/task"):
            with contextlib.suppress(OSError):
                found = self._status(f"{folder}/task/{thread}")
                if found[0] != "Z":
                    return f"{folder}/task/{thread}", found
        return folder, fields

    def _proportional(self, folder: str) -> int:
        """Bytes of a process's memory, its share of shared pages included. Raises PermissionError if it hides them."""
        try:
            return int(read(f"{folder}/smaps_rollup").partition("Pss:")[2].split()[0]) * 1024
        except (FileNotFoundError, ProcessLookupError, IndexError):
            return 0  # it has ended

    def _shared(self, own: dict[str, int]) -> int:
        """Bytes of shared anonymous mappings, which can hold memory that is not resident in any of the processes."""
        sizes: dict[str, int] = {}
        for folder, addresses in own.items():
            try:
                maps = read(f"{folder}/maps", MAPS_LIMIT)
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

    def _folders(self, pids: list[int]) -> list[str]:
        """The folders in /proc of a program's processes; in a pid namespace, also of all that they started."""
        if self._alone:
            pids = [int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1"]
        return [f"/proc/{pid}" for pid in pids]


def read(path: str, limit: int = 4096) -> str:
    """The first `limit` bytes of a file; of most of the kernel's files, 4 kB contain all that matters."""
    with open(path, "rb") as file:
        return file.read(limit).decode("utf-8", "replace")
