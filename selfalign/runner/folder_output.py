"""A dataset that is being written to a local folder or an fsspec URL."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from selfalign.errors import UserError, first_line
from selfalign.options import Shard
from selfalign.runner.hub import file_system
from selfalign.runner.part import METADATA_KEY, PART, Part, read_part
from selfalign.runner.source import MAIN_TABLE, part_prefix

if TYPE_CHECKING:
    import pyarrow as pa

LOCK_SECONDS = 3  # longer than a shard holds the lock of another to see whether it runs, on a busy machine, too

# What `commit` is given: it makes the files that describe an output (run.json and the card, by name) from a function
# that reads the files which are there, and from the parts.
Describe = Callable[[Callable[[str], "str | None"], list[Part]], Mapping[str, "str | bytes"]]


class FolderOutput:
    """A dataset that is being written to a local folder or an fsspec URL, or one shard of it.

    Entering it locks the shard for this process. Only local file systems have locks: elsewhere, two processes with the
    same shard do its rows twice, and the next run reports that. `limit` is how many rows are divided into shards, if
    not all of the input.
    """

    on_hub = False

    def __init__(self, name: str, shard: Shard, limit: int | None = None, token: str | None = None) -> None:
        self.name, self.shard, self.limit = name, shard, limit
        self.fs, self.root = file_system(name, token)
        self.local = "file" in (self.fs.protocol if isinstance(self.fs.protocol, tuple) else (self.fs.protocol,))
        self._known: dict[str, Part] = {}  # a part does not change: its footer is read once
        self._lock: Any = None

    def __enter__(self) -> FolderOutput:
        """UserError if another run is writing these rows, or the output is not writable."""
        if self.local:
            try:
                os.makedirs(f"{self.root}/data", exist_ok=True)
                os.makedirs(f"{self.root}/.locks", exist_ok=True)
                self._take()
                for stale in self._find():
                    # We were killed while we wrote these.
                    if os.path.basename(stale).startswith(".") and stale.endswith(self._suffix):
                        self.fs.rm_file(f"{self.root}/{stale}")
            except OSError as error:
                self.__exit__()
                raise UserError(f"{self.root} can't be written: {error.strerror or error}") from error
            except UserError:  # of `_find`
                self.__exit__()
                raise
        return self

    def __exit__(self, *exc: object) -> None:
        if self._lock:
            self._lock.release()
            self._lock = None

    def _take(self) -> None:
        """Take our shard's lock; nobody may hold one of another division into shards, whose rows overlap ours."""
        import filelock

        division = f"of-{self.shard.of}" + (f"-of-first-{self.limit}" if self.limit is not None else "")
        self._lock = filelock.FileLock(f"{self.root}/.locks/{self.shard.number}-{division}", timeout=LOCK_SECONDS)
        try:
            self._lock.acquire()
            for other in os.listdir(f"{self.root}/.locks"):
                if "-of-" in other and other.partition("-")[2] != division:
                    with filelock.FileLock(f"{self.root}/.locks/{other}", timeout=LOCK_SECONDS):
                        pass
        except filelock.Timeout:
            self.__exit__()
            raise UserError(f"another run is writing {self.name} right now") from None

    @property
    def _suffix(self) -> str:
        return f".{self.shard.number}-of-{self.shard.of}.part"

    def foreign_files(self) -> list[str]:
        """The files that no step wrote, if there is no run.json; a card that a person began is not one of them."""
        return [name for name in self._find(deepest=sys.maxsize) if not name.startswith(".") and name != "README.md"]

    def begun_by(self) -> tuple[str | None, list[str]]:
        """The run.json, and if there is none, the files that no step wrote.

        The files are listed before run.json is looked for the last time: a shard beside us may begin at any moment, and
        it writes run.json before its parts. So parts that were listed are never taken for somebody else's.
        """
        if (run_json := self.read("run.json")) is not None:
            return run_json, []
        foreign = self.foreign_files()
        run_json = self.read("run.json")
        return run_json, foreign if run_json is None else []

    def read(self, file: str) -> str | None:
        """The text of `file`, or None if it is not there."""
        try:
            return text_of(self.fs.cat_file(f"{self.root}/{file}"))
        except FileNotFoundError:
            return None

    def write(self, file: str, content: str | bytes) -> None:
        """Write `file` atomically: readers see either the old or the new content, even after a crash."""
        content = content.encode() if isinstance(content, str) else content
        path = f"{self.root}/{file}"
        if not self.local:
            try:
                self.fs.pipe_file(path, content)  # object stores show a file only when it is whole
            except Exception as error:  # each store raises its own types
                raise UserError(f"{path} can't be written: {first_line(error)}") from error
            return
        folder, base = os.path.split(path)
        temporary = f"{folder}/.{base}{self._suffix}"
        try:
            os.makedirs(folder, exist_ok=True)
            with open(temporary, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise UserError(
                f"{path} can't be written: {error.strerror or error}. Everything written before is kept"
            ) from error

    def write_part(self, rows: pa.Table, note: dict[str, Any], table: str = MAIN_TABLE) -> None:
        """Write `rows` as one part of `table`; `note` holds all of `Part` but name and number of rows."""
        import pyarrow.parquet as pq

        rows = rows.replace_schema_metadata({METADATA_KEY: json.dumps(note).encode()})
        buffer = io.BytesIO()
        pq.write_table(rows, buffer, compression="zstd")
        content = buffer.getvalue()
        prefix = part_prefix(table)
        if not rows.num_rows:  # datasets 5.2 can't read such a file; under another name, load_dataset ignores it
            prefix = prefix.split("/")[0] + "/empty-"
        first = note["covered"][0][0] if note["covered"] else 0
        self.write(f"{prefix}{first:010d}-{hashlib.sha256(content).hexdigest()[:12]}.parquet", content)

    def parts(self) -> list[Part]:
        """The parts that are there, sorted by name; UserError if one can't be read, or if two hold the same rows."""
        parts = [part for file in self._files() if (part := self._part(file))]
        ranges = sorted((part.table, first, last, part.name) for part in parts for first, last in part.covered)
        for (table, _, last, one), (same, first, _, other) in pairwise(ranges):
            if table == same and first <= last:  # of two processes where there are no locks, or a copy
                raise UserError(f"parts {one} and {other} of {self.name} hold the same rows: move one of them away")
        return parts

    def _files(self) -> list[str]:
        return [name for name in self._find() if PART.match(name)]

    def _find(self, deepest: int = 2) -> list[str]:
        """The files in the output and its folders, sorted; no pattern, as the output's own name may hold `[` or `*`.

        Raises:
            UserError: a folder can't be listed. fsspec's `find` would leave it out, and its rows would be done again.
        """
        self.fs.invalidate_cache()
        try:
            return sorted(name.removeprefix(self.root).lstrip("/") for name in self._below(self.root, deepest))
        except OSError as error:
            raise UserError(f"{self.root} can't be listed: {error.strerror or first_line(error)}") from error

    def _below(self, folder: str, deepest: int) -> Iterator[str]:
        """The files in `folder` and those below it, `deepest` folders deep; none if it is not there."""
        try:
            entries = self.fs.ls(folder, detail=True)
        except FileNotFoundError:
            return
        for entry in entries:
            name = entry["name"].rstrip("/")
            if entry["type"] != "directory":
                yield name
            elif deepest > 1 and name != folder.rstrip("/"):  # some stores list a folder in itself
                yield from self._below(name, deepest - 1)

    def _part(self, file: str) -> Part | None:
        """None if it has just disappeared because another shard sent it to the Hub."""
        if file not in self._known:
            with contextlib.suppress(FileNotFoundError), self.fs.open(f"{self.root}/{file}", "rb") as stream:
                self._known[file] = read_part(stream, file, f"{self.root}/{file}")
        return self._known.get(file)

    def begin(self, describe: Describe) -> None:
        """Mark the output as this run's before anything is written."""
        self.commit(describe, final=True)

    def commit(self, describe: Describe, final: bool = False, stopping: bool = False) -> None:
        """Called after each part and, with `final`, at the end, to bring run.json and the card up to date.

        Shards that end at the same time do this one after the other, so the last one describes the parts of all.
        `stopping` means that little time is left.
        """
        if final:
            with self._alone():
                for file, text in describe(self.read, self.parts()).items():
                    self.write(file, text)

    def _alone(self) -> AbstractContextManager[Any]:
        import filelock

        return filelock.FileLock(f"{self.root}/.locks/all") if self.local else contextlib.nullcontext()


def text_of(content: bytes) -> str:
    """The text of a file that a person may have written: UTF-8, or else Latin-1, in which no byte is lost."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")
