"""Where datasets are written: parts that appear whole or not at all, in local folders, fsspec URLs and Hub repos.

An output is a folder or repo of

    data/train-<first row>-<digest>.parquet   parts
    data/empty-<first row>-<digest>.parquet   the same for input rows that gave no row
    <table>/rows-<first row>-<digest>.parquet, <table>/empty-...   parts of a further table (a configuration on the Hub)
    run.json                                  the run for machines: identity, counts, the funnel so far
    README.md                                 the card, for people

Each part says in its Parquet metadata which rows of the input it covers and what is to be counted of them. There is no
other state: what is there tells what is left to do, and run.json and the card are made from it. The names avoid `-of-`,
since `load_dataset` drops parts silently where both forms stand together; and only parts of the main table are called
`train`, since `load_dataset(folder)` would else take the parts of all tables for one.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfalign.errors import UserError, check_secret, first_line, warn
from selfalign.options import Shard
from selfalign.runner.source import HUB_TRIES, MAIN_TABLE, hub_name, is_hub_id, part_prefix, with_retries

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

PART = re.compile(r"(data/train|data/empty|\w+/rows|\w+/empty)-\d{10}-[0-9a-f]{12}\.parquet$")
METADATA_KEY = b"selfalign"  # in a part's Parquet metadata: what `Part` has beside the name and the number of rows
LOCK_SECONDS = 1  # another shard holds our lock this long when it looks whether we run
COMMIT_SECONDS = 300  # the Hub limits commits per hour: parts gather into one commit every five minutes
JOIN_SECONDS = 5  # of waiting for a commit under way after SIGTERM
TRIES_WHEN_STOPPED = 2  # of a commit after SIGTERM: the machine goes away soon, and what is staged stays
FOOTERS_AT_A_TIME = 16


@dataclass(frozen=True)
class Part:
    """A part that is there.

    `name` is its path in the output, `covered` the ranges of input rows it was made from (first and last of each),
    `rows` how many rows it holds, `counts` what was counted of them, `lineage` how many came from each licence and
    repository, `seconds` how long they took, `used` what was asked of endpoints meanwhile (`Endpoint.used`).
    """

    name: str
    covered: list[tuple[int, int]]
    rows: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    lineage: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: float = 0.0
    used: dict[str, Any] = field(default_factory=dict)

    @property
    def table(self) -> str:
        """The table that it is a part of."""
        folder = self.name.split("/")[0]
        return MAIN_TABLE if folder == "data" else folder


# What `Output.commit` is given: from a reader of files that are there and the parts to the files that describe them.
Describe = Callable[[Callable[[str], "str | None"], list[Part]], Mapping[str, "str | bytes"]]


class Output:
    """A dataset being written to a local folder or an fsspec URL, or the share of it that is `shard`'s.

    Enter it to take the shard for this process alone. Locks exist on local file systems only: elsewhere, two processes
    that are given the same shard do its rows twice, and the next run says so.
    """

    on_hub = False

    def __init__(self, name: str, shard: Shard) -> None:
        from fsspec.core import url_to_fs

        self.name, self.shard = name, shard
        self.fs, self.root = url_to_fs(os.path.expanduser(name))
        self.local = "file" in (self.fs.protocol if isinstance(self.fs.protocol, tuple) else (self.fs.protocol,))
        self._known: dict[str, Part] = {}  # a part does not change: its footer is read once
        self._lock: Any = None

    def __enter__(self) -> Output:
        """UserError if another run is writing these rows, or nobody may."""
        if self.local:
            try:
                os.makedirs(f"{self.root}/data", exist_ok=True)
                os.makedirs(f"{self.root}/.locks", exist_ok=True)
                self._take()
                for stale in self._find():
                    if "/." in stale and stale.endswith(self._suffix):  # we were killed while we wrote these
                        self.fs.rm_file(f"{self.root}/{stale}")
            except OSError as error:
                self.__exit__()
                raise UserError(f"{self.root} can't be written: {error.strerror or error}") from error
        return self

    def __exit__(self, *exc: object) -> None:
        if self._lock:
            self._lock.release()
            self._lock = None

    def _take(self) -> None:
        """Take our shard's lock; nobody may hold a lock of another division into shards, whose rows overlap ours."""
        import filelock

        mine = f"{self.shard.number}-of-{self.shard.of}"
        self._lock = filelock.FileLock(f"{self.root}/.locks/{mine}", timeout=LOCK_SECONDS)
        try:
            self._lock.acquire()
            for other in os.listdir(f"{self.root}/.locks"):
                if "-of-" in other and not other.endswith(f"-of-{self.shard.of}"):
                    with filelock.FileLock(f"{self.root}/.locks/{other}", timeout=0):
                        pass
        except filelock.Timeout:
            self.__exit__()
            raise UserError(f"another run is writing {self.name} right now") from None

    @property
    def _suffix(self) -> str:
        return f".{self.shard.number}-of-{self.shard.of}.part"

    def foreign_files(self) -> list[str]:
        """What lies there that no step wrote (where there is no run.json); a card that a person began is kept."""
        if not self.fs.exists(self.root):
            return []
        names = [f.removeprefix(self.root).lstrip("/") for f in self.fs.find(self.root)]
        return [name for name in names if not name.startswith(".") and name != "README.md"]

    def read(self, file: str) -> str | None:
        """The text of `file`, or None if it is not there."""
        try:
            return text_of(self.fs.cat_file(f"{self.root}/{file}"))
        except FileNotFoundError:
            return None

    def write(self, file: str, content: str | bytes) -> None:
        """Write `file` in one piece: readers see the old content or the new one, also after a crash."""
        content = content.encode() if isinstance(content, str) else content
        path = f"{self.root}/{file}"
        if not self.local:
            try:
                self.fs.pipe_file(path, content)  # object stores show a file when it is whole
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
                f"{path} can't be written: {error.strerror or error}; what was written before stays"
            ) from error

    def write_part(self, rows: pa.Table, note: dict[str, Any], table: str = MAIN_TABLE) -> None:
        """Write `rows` as one part of `table`; `note` has what `Part` has beside the name and the number of rows."""
        import pyarrow.parquet as pq

        rows = rows.replace_schema_metadata({METADATA_KEY: json.dumps(note).encode()})
        buffer = io.BytesIO()
        pq.write_table(rows, buffer, compression="zstd")
        content = buffer.getvalue()
        prefix = part_prefix(table)
        if not rows.num_rows:  # datasets 5.2 can't read such a file: under another name, load_dataset passes it over
            prefix = prefix.split("/")[0] + "/empty-"
        first = note["covered"][0][0] if note["covered"] else 0
        self.write(f"{prefix}{first:010d}-{hashlib.sha256(content).hexdigest()[:12]}.parquet", content)

    def parts(self) -> list[Part]:
        """The parts that are there, by name; UserError if one can't be read, or two hold the same rows."""
        parts = [part for file in self._files() if (part := self._part(file))]
        ranges = sorted((part.table, first, last, part.name) for part in parts for first, last in part.covered)
        for (table, _, last, one), (same, first, _, other) in pairwise(ranges):
            if table == same and first <= last:  # two processes at once where there are no locks, or a copy
                raise UserError(f"parts {one} and {other} of {self.name} hold the same rows: move one of them away")
        return parts

    def _files(self) -> list[str]:
        self.fs.invalidate_cache()
        return sorted(name for name in self._find() if PART.match(name))

    def _find(self) -> list[str]:
        """The files in the folders of the output; no pattern, as the output's own name may hold `[` or `*`."""
        return ["/".join(f.rsplit("/", 2)[-2:]) for f in self.fs.find(self.root, maxdepth=2)]

    def _part(self, file: str) -> Part | None:
        """None if it was there a moment ago: another shard has sent it to the Hub."""
        if file not in self._known:
            with contextlib.suppress(FileNotFoundError), self.fs.open(f"{self.root}/{file}", "rb") as stream:
                self._known[file] = read_part(stream, file, f"{self.root}/{file}")
        return self._known.get(file)

    def begin(self, describe: Describe) -> None:
        """Say whose output this is, before anything is in it."""
        self.commit(describe, final=True)

    def commit(self, describe: Describe, final: bool = False, stopping: bool = False) -> None:
        """Called after each part and, with `final`, at the end: bring run.json and the card up to date.

        Shards that end at the same time do this one after the other, so the last one describes the parts of all.
        With `stopping` there is little time left.
        """
        if final:
            with self._alone():
                for file, text in describe(self.read, self.parts()).items():
                    self.write(file, text)

    def _alone(self) -> Any:
        import filelock

        return filelock.FileLock(f"{self.root}/.locks/all") if self.local else contextlib.nullcontext()


def read_part(stream: Any, file: str, path: str) -> Part:
    """The part in `stream`; UserError if it is damaged or was not written by a step."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(stream)
        note = json.loads((metadata.metadata or {})[METADATA_KEY])
        return Part(file, rows=metadata.num_rows, **note | {"covered": [(a, b) for a, b in note["covered"]]})
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"part {path} is damaged or was not written by this step ({first_line(error)}): "
            "move it away, and its rows will be done again"
        ) from error


class HubOutput(Output):
    """A dataset being written to a Hub repo: parts are staged in a local folder and sent in few commits.

    The staging folder belongs to the repo and the run, and shards on one machine share it: who sends takes what is
    there, so a killed process loses nothing that was written. Each commit names its parent and holds the run.json and
    the card of exactly the parts in it: where several machines write, one of them is refused (412), looks again, and
    leaves out what the others have done meanwhile.
    """

    on_hub = True

    def __init__(self, name: str, shard: Shard, run: str, *, public: bool, token: str | None) -> None:
        from huggingface_hub import HfApi, HfFileSystem, constants

        self.repo, _, revision = hub_name(name).partition("@")
        if revision:
            raise UserError(f"an output has no revision: write to {self.repo}, not to {name}")
        super().__init__(f"{constants.HF_HOME}/selfalign/{self.repo.replace('/', '--')}/{run}", shard)
        self.name, self.public = self.repo, public
        self.api = HfApi(token=token)
        self.hub = HfFileSystem(token=token)
        self._sent = time.monotonic()
        self._sender: threading.Thread | None = None
        self._failure: BaseException | None = None

    def __enter__(self) -> HubOutput:
        super().__enter__()
        try:
            with_retries(
                lambda: self.api.create_repo(self.repo, repo_type="dataset", private=not self.public, exist_ok=True)
            )
        except Exception as error:  # of the Hub or of the connection, for which httpx2 has types of its own
            self.__exit__()
            raise UserError(f"Hub repo {self.repo} can't be created or written: {first_line(error)}") from error
        return self

    def foreign_files(self) -> list[str]:
        return [file for file in self._there()[1] if file not in (".gitattributes", "README.md")]

    def read(self, file: str) -> str | None:
        return self._read(file, *self._there())

    def begin(self, describe: Describe) -> None:
        """Nothing: the first commit says it, and refuses if another run's came before."""

    def _there(self) -> tuple[str, list[str]]:
        """The head of the repo and the files in it. All that is read is read at that commit: the libraries answer a
        failing request for a branch with an older state out of their cache."""
        head = str(with_retries(lambda: self.api.dataset_info(self.repo)).sha)
        return head, with_retries(lambda: self.api.list_repo_files(self.repo, repo_type="dataset", revision=head))

    def _read(self, file: str, head: str, files: list[str]) -> str | None:
        content = self._content(file, head, files)
        return content if content is None else text_of(content)

    def _content(self, file: str, head: str, files: list[str]) -> bytes | None:
        if file not in files:
            return None
        content: Any = with_retries(lambda: self.hub.cat_file(f"datasets/{self.repo}@{head}/{file}"))
        return content

    def parts(self) -> list[Part]:
        staged = super().parts()  # before the others: a part that is sent meanwhile is seen at least once
        there = self._parts_there(*self._there())
        return sorted({part.name: part for part in staged + there}.values(), key=lambda part: part.name)

    def _parts_there(self, head: str, files: list[str]) -> list[Part]:
        """The parts in the repo; of those not known yet the footers are read, some kilobytes each."""
        from concurrent.futures import ThreadPoolExecutor

        def footer(file: str) -> Part:
            path = f"datasets/{self.repo}@{head}/{file}"
            with self.hub.open(path, "rb", block_size=1 << 16) as stream:
                return read_part(stream, file, path)

        names = [file for file in files if PART.match(file)]
        with ThreadPoolExecutor(FOOTERS_AT_A_TIME) as threads:
            unknown = [file for file in names if file not in self._known]
            footers = threads.map(lambda file: with_retries(lambda: footer(file)), unknown)
            self._known |= dict(zip(unknown, footers, strict=True))
        return [self._known[file] for file in names]

    def commit(self, describe: Describe, final: bool = False, stopping: bool = False) -> None:
        """Send what is staged every `COMMIT_SECONDS` from a thread of its own, and all of it when `final`."""
        if self._sender and not self._sender.is_alive():
            self._sender, failure, self._failure = None, self._failure, None
            self._sent = time.monotonic()
            if isinstance(failure, UserError):
                raise failure
            if failure:
                warn(f"{self._complaint(failure)}; trying again in {COMMIT_SECONDS} s")
        if final:
            if self._sender:
                self._sender.join(JOIN_SECONDS if stopping else None)
            try:
                with_retries(lambda: self._send(describe), TRIES_WHEN_STOPPED if stopping else HUB_TRIES)
            except UserError:
                raise
            except Exception as error:
                raise UserError(f"{self._complaint(error)}; the same command sends them") from error
        elif not self._sender and time.monotonic() - self._sent > COMMIT_SECONDS:
            self._sender = threading.Thread(target=self._send_aside, args=(describe,), daemon=True)
            self._sender.start()

    def _send_aside(self, describe: Describe) -> None:
        try:
            with_retries(lambda: self._send(describe))
        except Exception as error:
            self._failure = error

    def _complaint(self, error: BaseException) -> str:
        n = len(self._files())
        return f"{n} parts could not be sent to {self.repo} ({first_line(error)}) and stay in {self.root}"

    def _send(self, describe: Describe) -> None:
        """One commit of what is staged and not there. Digests in the names of parts tell what an attempt brought there
        whose answer was lost."""
        from huggingface_hub import CommitOperationAdd

        with self._alone():
            staged = super().parts()
            head, files = self._there()
            there = self._parts_there(head, files)
            # Rows that another machine did meanwhile, since it was given the same shard, stay as it did them.
            rows = 1 + max((last for part in staged for _, last in part.covered), default=0)
            done = {part.table: covered_rows(there, rows, part.table) for part in staged}
            new = [
                part
                for part in staged
                if part.name not in files
                and not any(done[part.table][first : last + 1].any() for first, last in part.covered)
            ]
            told = describe(lambda file: self._read(file, head, files), there + new)
            described = {file: what.encode() if isinstance(what, str) else what for file, what in told.items()}
            content: dict[str, Path | bytes] = {part.name: Path(f"{self.root}/{part.name}") for part in new}
            content |= {f: what for f, what in described.items() if what != self._content(f, head, files)}
            if content:
                self.api.create_commit(
                    self.repo,
                    [CommitOperationAdd(file, what) for file, what in content.items()],
                    commit_message=f"{len(new)} parts" if new else f"{', '.join(content)}",
                    repo_type="dataset",
                    parent_commit=head,
                )
            for part in staged:
                self.fs.rm_file(f"{self.root}/{part.name}")


def text_of(content: bytes) -> str:
    """A file that a person may have written: UTF-8, else Latin-1, in which no byte is lost."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def covered_rows(parts: list[Part], rows: int, table: str = MAIN_TABLE) -> np.ndarray:
    """Which of the first `rows` rows of a table's input its parts cover, as booleans."""
    import numpy as np

    covered = np.zeros(rows, dtype=bool)
    for part in parts:
        for first, last in part.covered if part.table == table else ():
            covered[first : last + 1] = True
    return covered


def open_output(
    name: str, *, shard: Shard | None = None, run: str = "", public: bool = False, token: str | None = None
) -> Output:
    """The dataset `name`, to be written; enter it to take it, or `shard` of it, for this process alone.

    `run` is a hash of the run's identity: what is staged for the Hub is kept apart by it.
    """
    check_secret("--hf-token", token)
    shard = shard or Shard(0, 1)
    if is_hub_id(name):
        return HubOutput(name, shard, run or "files", public=public, token=token)
    return Output(name, shard)
