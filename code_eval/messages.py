"""What the host and a worker say to each other: JSON objects, each preceded by its length.

The host sends `Settings` first, then a `Job` for each program, and {"cancel": id} for one that is no longer wanted. The
worker answers the settings with {"ready": true, "left_out": {module: why}} or {"failed": why}, and each job with an
`Answer`. In strict mode the tests come as a descriptor, attached to an empty message just before their job.
"""

import json
import struct
from dataclasses import dataclass

LENGTH = struct.Struct("<I")  # of the JSON that follows, in bytes
DETAIL_LIMIT = 300  # characters of a detail
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


@dataclass
class Job:
    """A program to run, with its limits in seconds of CPU time and of wall time."""

    id: int
    code: str
    tests: str | None  # None: in `code`, or in strict mode in a file
    timeout: float
    wall: float
    main: bool  # whether `if __name__ == "__main__":` blocks run
    strict: bool
    tests_file: int = -1  # strict mode: the worker's descriptor of the tests
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


def framed(message: dict) -> bytes:
    """A message as it is sent."""
    body = json.dumps(message).encode()
    return LENGTH.pack(len(body)) + body
