"""What the host and a worker say to each other: JSON objects, each preceded by its length.

The host sends `Settings` first, then a `Job` for each program, and {"cancel": id} for one that is no longer wanted. The
worker answers the settings with {"ready": true, "left_out": {module: why}} or {"failed": why}, and each job with an
`Answer`.

The texts of a program come in files in memory, whose descriptors are attached to its job. The worker hands them on
unread, and its processes leave their report in them: what a worker has never read cannot be found in its memory by a
program that runs later, in a fork of it.
"""

import fcntl
import json
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

LENGTH = struct.Struct("<I")  # of the JSON that follows, in bytes
DETAIL_LIMIT = 300  # characters of a detail
# The report in a file of texts, in front of them: tests that passed and tests, a bit for each of REMARKS, and then the
# detail in UTF-8.
COUNTS, REMARK_BITS = struct.Struct("<II"), struct.Struct("<I")
DETAIL_AT = COUNTS.size + REMARK_BITS.size
REPORT_SIZE = DETAIL_AT + 4 * DETAIL_LIMIT  # bytes
REMARKS = ("helpers", "nan", "arguments")  # what tests did that holds for some wrong answers: see tasks.Result
JAVASCRIPT_PROBE = "assert.strictEqual([1, 2].length, 2)"  # passes where node runs
QUEUE = 2  # programs that a worker holds: the one that runs, and the next, so that it never waits for the host
MOST_PATIENCE = 5  # a program that waits for a CPU gets at most this many times its wall time in addition


@dataclass(frozen=True)
class Settings:
    """What holds for every program of a worker; sizes are in bytes."""

    number: int  # of the worker; as root, its user id depends on it
    isolated: bool
    path: list[str]  # folders that the interpreter would not find by itself
    preload: list[str]  # modules to import
    optional: list[str]  # those of them that may be missing without a word
    memory: int
    processes: int
    output: int
    disk: int
    files: int
    open_files: int
    under_tmp: list[str]  # paths below the host's /tmp that programs must see below their own
    hidden: list[str]  # paths of the host that programs must not see
    filter: str  # the system call filter, in base64
    perf_event: Sequence[Any] = ()  # name, type and config of what is counted for programs: see perf_event.py
    node: str = ""  # the path of the node that runs programs in JavaScript; "": they are in Python


@dataclass
class Job:
    """A program to run, with its limits in seconds of CPU time and of wall time.

    `files` are the worker's descriptors of the texts: code and tests in one file, or in strict mode in two.
    """

    id: int
    code: int  # bytes of its text
    tests: int | None  # None: they are in the code
    timeout: float
    wall: float
    main: bool  # whether `if __name__ == "__main__":` blocks run
    strict: bool
    count: bool  # whether tests go on after one that failed
    patient: bool = True  # whether the time for which it waits for a CPU is not counted as wall time
    files: list[int] = field(default_factory=list)
    secret: str = field(default_factory=lambda: os.urandom(8).hex())  # without which a verdict does not count
    cancelled: bool = False


@dataclass(frozen=True)
class Answer:
    """How a program ended; the fields after `id` are those of sandbox.Result."""

    id: int
    outcome: str
    detail: str = ""
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    peak_memory: int = 0


class Inbox:
    """Puts messages together from the pieces in which they arrive."""

    def __init__(self):
        self._received = bytearray()

    def add(self, data: bytes) -> list[dict]:
        """The messages that are complete now. Raises ValueError for what is not JSON."""
        self._received += data
        messages = []
        while len(self._received) >= LENGTH.size:
            (size,) = LENGTH.unpack_from(self._received)
            if len(self._received) < LENGTH.size + size:
                break
            messages.append(json.loads(self._received[LENGTH.size : LENGTH.size + size]))
            del self._received[: LENGTH.size + size]
        return messages


def file_of(*texts: str) -> tuple[int, list[int]]:
    """(descriptor of a file in memory with room for a report and then the texts, the bytes of each text).

    It can neither grow nor shrink: it is not charged to the programs that write to it.
    """
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    file = os.memfd_create("program", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    with open(file, "wb", closefd=False) as stream:
        stream.write(b"".join([bytes(REPORT_SIZE), *encoded]))
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    return file, [len(text) for text in encoded]


def texts_in(file: int, sizes: Sequence[int]) -> list[str]:
    """The texts of a file, of so many bytes each."""
    texts, place = [], REPORT_SIZE
    for size in sizes:
        texts.append(os.pread(file, size, place).decode("utf-8", "surrogatepass"))
        place += size
    return texts


def detail_in(report: bytes) -> str:
    return report[DETAIL_AT:].rstrip(b"\0").decode("utf-8", "replace")


def framed(message: dict) -> bytes:
    """A message as it is sent."""
    body = json.dumps(message).encode()
    return LENGTH.pack(len(body)) + body
