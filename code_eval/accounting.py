"""What a program uses: CPU time, memory, and the time for which it waits for a CPU.

Each figure is a sum over all processes of a program, and is read from /proc while they run.
"""

import contextlib
import os
import resource

# Sockets that are free, and bytes that count for each further one: what waits in them to be read, the kernel charges to
# nobody. In 125 pairs of Unix sockets there was room for 58 MB, which took 98 MB.
FREE_SOCKETS, SOCKET = 256, 400_000
PAGE, TICKS_PER_SECOND = resource.getpagesize(), os.sysconf("SC_CLK_TCK")


class Accounting:
    """The accounts of a worker's programs.

    Args:
        alone: whether /proc shows a pid namespace that contains only the worker and its program; otherwise only the
            processes that the worker started itself are seen.
        memory: bytes that the processes of a program may use together.
    """

    def __init__(self, alone: bool, memory: int):
        self._alone, self._memory = alone, memory
        self.begin()

    def begin(self) -> None:
        """A new program: nothing is known of it yet."""
        self.waited = 0.0  # seconds for which it could have run, but others had the CPUs, as far as was seen
        self._clocks: dict[str, tuple[int, int]] = {}

    def look(self, pids: list[int]) -> tuple[float, int]:
        """(seconds of CPU time, bytes of memory); adds to `waited`, too.

        One list of the processes serves both: a worker looks 20 times a second, in its program's time.
        """
        folders = self._folders(pids)
        self._add_waiting(folders)
        return self._usage(folders)

    def wait(self, pids: list[int]) -> float:
        """Looks at the program's processes, adds to `waited`, and returns it.

        What counts is the process that waited longest since the last look, less the time in which others of the same
        program ran: a program cannot stretch its time by making its processes wait for each other.
        """
        self._add_waiting(self._folders(pids))
        return self.waited

    def _add_waiting(self, folders: list[str]) -> None:
        clocks = {}
        for folder in folders:
            with contextlib.suppress(OSError, ValueError):
                ran, waited, *_ = map(int, read(f"{folder}/schedstat").split())  # in nanoseconds
                clocks[folder] = ran, waited
        news = []
        for folder, (ran, waited) in clocks.items():
            before = self._clocks.get(folder, (0, 0))
            news.append((max(0, ran - before[0]), max(0, waited - before[1])))
        total = sum(ran for ran, _ in news)
        self.waited += max([0, *(waited - (total - ran) for ran, waited in news)]) / 1e9
        self._clocks = clocks

    def _usage(self, folders: list[str]) -> tuple[float, int]:
        cpu = 0
        resident: dict[str, int] = {}  # bytes, by folder
        for folder in folders:
            with contextlib.suppress(OSError):
                fields = self._status(folder)
                cpu += sum(map(int, fields[11:15]))  # utime, stime, and those of children that were waited for
                if fields[0] == "Z":  # its first thread has ended; others may live on, and hold its memory
                    folder, fields = self._living_thread(folder, fields)
                resident[folder] = int(fields[21]) * PAGE
        if sum(resident.values()) > self._memory:  # it counts pages that forks share several times: look closer
            for folder in resident:
                with contextlib.suppress(PermissionError):  # it hides them (PR_SET_DUMPABLE): all of its pages count
                    resident[folder] = self._proportional(folder)
        return cpu / TICKS_PER_SECOND, sum(resident.values()) + self._buffers()

    def _buffers(self) -> int:
        """Bytes that may lie in the sockets of this network namespace, which is the worker's own."""
        if not self._alone:
            return 0
        with contextlib.suppress(OSError, ValueError, IndexError):
            sockets = int(read("/proc/net/sockstat").split()[2])  # "sockets: used 3"
            return SOCKET * max(0, sockets - FREE_SOCKETS)
        return 0

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

    def _folders(self, pids: list[int]) -> list[str]:
        """The folders in /proc of a program's processes; in a pid namespace, also of all that they started."""
        if self._alone:
            pids = [int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1"]
        return [f"/proc/{pid}" for pid in pids]


def read(path: str, limit: int = 4096) -> str:
    """The first `limit` bytes of a file; of most of the kernel's files, 4 kB contain all that matters."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, limit).decode("utf-8", "replace")
    finally:
        os.close(file)
