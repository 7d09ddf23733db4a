"""Where datasets live: Hub repos, local folders and fsspec URLs, read and written in one way by every script.

An input is a memory-mapped `datasets.Dataset`, pinned when the run starts: to a commit on the Hub, to a fingerprint of
its files elsewhere. An output is a folder or repo of

    data/train-<first row>-<digest>.parquet   parts, each written in one piece or not at all
    data/empty-<first row>-<digest>.parquet   the same for input rows that gave no row
    run.json                                  the run for machines: identity, counts, the funnel so far
    README.md                                 the card, for people

Each part says in its Parquet metadata which rows of the input it covers. There is no other state: what is there tells
what is left to do. The names avoid `-of-`, since `load_dataset` drops parts silently where both forms stand together.
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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfalign.options import UserError

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
PART = re.compile(r"data/(train|empty)-\d{10}-[0-9a-f]{12}\.parquet$")
BUILDERS = {"parquet": "parquet", "json": "json", "jsonl": "json", "csv": "csv", "arrow": "arrow"}
METADATA_KEY = b"selfalign"  # in a part's Parquet metadata: {"rows": [[first, last], ...], "counts": {...}}
FINGERPRINT_BYTES = 1 << 16  # of each end of a file; Parquet keeps its footer at the end
COMMIT_SECONDS = 300  # the Hub limits commits per hour: parts gather into one commit every five minutes
COMMIT_TRIES = 8  # with waits of 1, 2, 4 ... 60 s between them: about three minutes
RETRIED_STATUS = {409, 412, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Source:
    """An input: its `name` as given, what it is pinned to, its rows, and the run.json of the step that made it."""

    name: str
    pin: dict[str, str]
    rows: datasets.Dataset
    run: dict[str, Any]

    def __len__(self) -> int:
        return len(self.rows)


def is_hub_id(name: str) -> bool:
    """Whether `name` means a Hub repo; an existing local path of that name goes before."""
    return (
        not name.startswith((".", "/", "~"))
        and not os.path.exists(name)
        and HUB_ID.fullmatch(_hub_name(name)) is not None
    )


def _hub_name(name: str) -> str:
    return name.removeprefix("hf://datasets/").rstrip("/")


def open_source(
    name: str,
    *,
    columns: tuple[str, ...] = (),
    config: str | None = None,
    split: str = "train",
    token: str | None = None,
) -> Source:
    """The dataset `name`, pinned; UserError if it is not there, is empty, or lacks one of `columns`."""
    import datasets

    quiet = (
        datasets.utils.logging.ERROR if datasets.utils.logging.get_verbosity() > datasets.utils.logging.INFO else None
    )
    if quiet:
        datasets.utils.logging.set_verbosity(quiet)
    try:
        rows, pin, run = (_open_hub if is_hub_id(name) else _open_files)(name, config, split, token)
    except UserError:
        raise
    except Exception as error:  # datasets raises a dozen types for what is, to a user, "it can't be read"
        cause = _root_cause(error)
        # How datasets 5.2 says that a JSON or CSV file, or a Parquet file, is empty.
        if type(cause).__name__ == "SchemaInferenceError" or "BatchSize must be" in str(cause):
            raise UserError(f"{name} has no rows in split {split}") from error
        raise UserError(f"dataset {name} can't be read (split {split}): {_first_line(cause)}") from error
    if missing := [c for c in columns if c not in rows.column_names]:
        raise UserError(f"{name} has no column {', '.join(missing)}; its columns are {', '.join(rows.column_names)}")
    if not len(rows):
        raise UserError(f"{name} has no rows in split {split}")
    return Source(name, pin, rows, run)


def _open_hub(name: str, config: str | None, split: str, token: str | None):
    import datasets
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repo, _, revision = _hub_name(name).partition("@")
    api = HfApi(token=token)
    try:
        sha = api.dataset_info(repo, revision=revision or None).sha
    except GatedRepoError:
        raise UserError(f"dataset {repo} is gated: ask for access on its page, then use a token that has it") from None
    except RevisionNotFoundError:
        raise UserError(f"dataset {repo} has no revision {revision}") from None
    except RepositoryNotFoundError:
        raise UserError(
            f"no dataset {repo}: no such local path, and no such Hub repo that this token can see"
        ) from None
    rows = datasets.load_dataset(repo, config, split=split, revision=sha, token=token)
    run = {}
    with contextlib.suppress(RemoteEntryNotFoundError):
        run = json.loads(Path(api.hf_hub_download(repo, "run.json", repo_type="dataset", revision=sha)).read_bytes())
    return rows, {"dataset": repo, "revision": sha}, run


def _open_files(name: str, config: str | None, split: str, token: str | None):
    import datasets
    from fsspec.core import url_to_fs

    fs, root = url_to_fs(os.path.expanduser(name))
    if not fs.exists(root):
        raise UserError(f"no dataset {name}: no such local path, and not the form of a Hub id")
    if fs.isfile(root):
        files, run = [root], {}
    else:
        found = [f for f in fs.find(root) if not f.rsplit("/", 1)[-1].startswith(".")]  # parts in the making do
        run = json.loads(fs.cat_file(f"{root}/run.json")) if f"{root}/run.json" in found else {}
        ours = f"{root}/data/train-" if run else root
        files = sorted(f for f in found if _builder_of(f) and f.startswith(ours))
        if run and not files:
            raise UserError(f"{name} has no rows: {run['step']} dropped them all, or has not got so far")
    builder = _builder_of(files[0]) if files else None
    if not builder:
        raise UserError(f"{name} holds no file that ends in {', '.join('.' + e for e in BUILDERS)}")
    if (config or split != "train") and not run and fs.isdir(root):
        rows = datasets.load_dataset(name, config, split=split)
    else:
        # The files by name: load_dataset(folder) takes another folder of the same name from its cache, or an older
        # state of this one, if the folder's card has `configs` (datasets 5.2).
        urls = [fs.unstrip_protocol(f) for f in files]
        rows = datasets.load_dataset(
            builder, data_files=urls, split="train", storage_options=fs.storage_options or None
        )
    return rows, {"fingerprint": fingerprint(fs, root, files)}, run


def fingerprint(fs: Any, root: str, files: list[str]) -> str:
    """A hash that changes with the names below `root`, the sizes, or the beginning or end of any of `files`."""
    digest = hashlib.sha256()
    for file in files:
        size = fs.size(file)
        digest.update(f"{file.removeprefix(root)} {size} ".encode())
        digest.update(fs.cat_file(file, start=0, end=FINGERPRINT_BYTES))
        digest.update(fs.cat_file(file, start=max(0, size - FINGERPRINT_BYTES)))
    return digest.hexdigest()[:16]


def _builder_of(file: str) -> str | None:
    return BUILDERS.get(file.removesuffix(".gz").rsplit(".", 1)[-1])


def _root_cause(error: BaseException) -> BaseException:
    """The innermost error: the outermost of datasets says only that something went wrong."""
    while deeper := error.__cause__ or error.__context__:
        error = deeper
    return error


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


@dataclass(frozen=True)
class Part:
    """A part that is there: its file name, the ranges of input rows that it covers, its counts, its own rows."""

    name: str
    covered: list[tuple[int, int]]
    counts: dict[str, int]
    rows: int


class Output:
    """A dataset being written to a local folder or an fsspec URL.

    `parts`, `read` and `write` are all that a step needs; `commit` is for outputs that gather parts before they send
    them, such as `HubOutput`.
    """

    def __init__(self, name: str) -> None:
        from fsspec.core import url_to_fs

        self.name = name
        self.fs, self.root = url_to_fs(os.path.expanduser(name))
        self.local = "file" in (self.fs.protocol if isinstance(self.fs.protocol, tuple) else (self.fs.protocol,))
        self._lock = None

    def __enter__(self) -> Output:
        """Take the output for this process alone; UserError if another run is writing it, or nobody may."""
        if self.local:
            import filelock

            try:
                os.makedirs(f"{self.root}/data", exist_ok=True)
                self._lock = filelock.FileLock(f"{self.root}/.lock", timeout=0)
                self._lock.acquire()
            except filelock.Timeout:
                raise UserError(f"another run is writing {self.name} right now") from None
            except OSError as error:
                raise UserError(f"{self.name} can't be written: {error.strerror or error}") from error
            for stale in self.fs.glob(f"{self.root}/data/.*.part"):  # a run was killed while it wrote these
                self.fs.rm_file(stale)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._lock:
            self._lock.release()

    on_hub = False

    def foreign_files(self) -> list[str]:
        """What lies there that no step wrote (where there is no run.json)."""
        if not self.fs.exists(self.root):
            return []
        names = [f.removeprefix(self.root).lstrip("/") for f in self.fs.find(self.root)]
        return [name for name in names if name != ".lock"]

    def read(self, file: str) -> str | None:
        """The text of `file`, or None if it is not there."""
        try:
            return self.fs.cat_file(f"{self.root}/{file}").decode()
        except FileNotFoundError:
            return None

    def write(self, file: str, content: str | bytes) -> None:
        """Write `file` in one piece: readers see the old content or the new one, also after a crash."""
        content = content.encode() if isinstance(content, str) else content
        path = f"{self.root}/{file}"
        if not self.local:
            self.fs.pipe_file(path, content)  # object stores show a file when it is whole
            return
        folder, base = os.path.split(path)
        temporary = f"{folder}/.{base}.part"
        try:
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

    def parts(self) -> Iterator[Part]:
        """The parts that are there; UserError if one can't be read."""
        for file in self._part_files():
            with self.fs.open(f"{self.root}/{file}", "rb") as stream:
                yield read_part(stream, f"{self.root}/{file}")

    def _part_files(self) -> list[str]:
        found = (f.rsplit("/", 1)[-1] for f in self.fs.glob(f"{self.root}/data/*.parquet"))
        return sorted(f"data/{name}" for name in found if PART.match(f"data/{name}"))

    def write_part(self, table: pa.Table, covered: list[tuple[int, int]], counts: dict[str, int]) -> None:
        """Write `table`, which came from the input rows in the ranges `covered`, as one part."""
        import pyarrow.parquet as pq

        note = json.dumps({"rows": covered, "counts": counts})
        table = table.replace_schema_metadata({METADATA_KEY: note.encode()})
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        content = buffer.getvalue()
        # datasets 5.2 can't read a Parquet file without rows: under another name, load_dataset passes it over.
        kind = "train" if table.num_rows else "empty"
        self.write(f"data/{kind}-{covered[0][0]:010d}-{hashlib.sha256(content).hexdigest()[:12]}.parquet", content)

    def commit(self, final: bool = False) -> None:
        """Send what was gathered, if it is time to; a folder has nothing to send."""

    def finish(self) -> None:
        """Called when everything is written and committed."""


def read_part(stream: Any, name: str) -> Part:
    """The part in `stream`; UserError if it is damaged or was not written by a step."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(stream)
        note = json.loads((metadata.metadata or {})[METADATA_KEY])
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise UserError(
            f"part {name} is damaged or was not written by this step ({_first_line(error)}): "
            "move it away, and its rows will be done again"
        ) from error
    return Part(name, [(a, b) for a, b in note["rows"]], note["counts"], metadata.num_rows)


class HubOutput(Output):
    """A dataset being written to a Hub repo: parts are staged in a local folder and sent in few commits.

    A staged part stays until the whole run is in the repo, so a killed process loses nothing that was written. The
    libraries do not retry a commit: this does, and looks first at what the repo has, since an answer can be lost
    after its commit landed.
    """

    on_hub = True

    def __init__(self, name: str, *, public: bool, token: str | None) -> None:
        from huggingface_hub import HfApi, constants

        self.repo, _, revision = _hub_name(name).partition("@")
        if revision:
            raise UserError(f"an output has no revision: write to {self.repo}, not to {name}")
        super().__init__(f"{constants.HF_HOME}/selfalign/{self.repo.replace('/', '--')}")
        self.name, self.public = self.repo, public
        self.api = HfApi(token=token)
        self._last_commit = time.monotonic()
        self._sender: threading.Thread | None = None
        self._failure: BaseException | None = None

    def __enter__(self) -> HubOutput:
        from huggingface_hub.errors import HfHubHTTPError

        super().__enter__()
        try:
            self._retry(
                lambda: self.api.create_repo(self.repo, repo_type="dataset", private=not self.public, exist_ok=True)
            )
        except (HfHubHTTPError, OSError) as error:
            raise UserError(f"Hub repo {self.repo} can't be created or written: {_first_line(error)}") from error
        return self

    def foreign_files(self) -> list[str]:
        there = self._retry(lambda: self.api.list_repo_files(self.repo, repo_type="dataset"))
        return [f for f in there if f != ".gitattributes"]

    def read(self, file: str) -> str | None:
        from huggingface_hub.errors import RemoteEntryNotFoundError

        try:
            path = self._retry(lambda: self._download(file))
        except RemoteEntryNotFoundError:  # its base class also means "could not be reached"
            return super().read(file)
        return Path(path).read_text()

    def _download(self, file: str) -> str:
        # Pinned to the head: with a warm cache and a failing HEAD the library would return an old version silently.
        head = self.api.dataset_info(self.repo).sha
        return self.api.hf_hub_download(self.repo, file, repo_type="dataset", revision=head)

    def parts(self) -> Iterator[Part]:
        staged = {f"data/{part.name.rsplit('/', 1)[-1]}": part for part in super().parts()}
        there = self._retry(lambda: self.api.list_repo_files(self.repo, repo_type="dataset"))
        for file in sorted(f for f in there if PART.match(f)):
            if file not in staged:
                with open(self._retry(lambda file=file: self._download(file)), "rb") as stream:
                    yield read_part(stream, file)
        yield from staged.values()

    def commit(self, final: bool = False) -> None:
        """Send what is staged every `COMMIT_SECONDS` from a thread of its own, and all of it when `final`."""
        if self._sender and not self._sender.is_alive():
            self._sender = None
            if self._failure:
                error, self._failure = self._failure, None
                raise UserError(
                    f"parts could not be sent to {self.repo} and stay staged: {_first_line(error)}"
                ) from error
        if final:
            if self._sender:
                self._sender.join()
                self._sender = None
            self._failure = None
            try:
                self._send()
            except Exception as error:
                raise UserError(
                    f"parts could not be sent to {self.repo} and stay staged: {_first_line(error)}"
                ) from error
        elif not self._sender and time.monotonic() - self._last_commit > COMMIT_SECONDS:
            self._sender = threading.Thread(target=self._send_and_tell, daemon=True)
            self._sender.start()

    def _send_and_tell(self) -> None:
        try:
            self._send()
        except Exception as error:
            self._failure = error

    def _send(self) -> None:
        from huggingface_hub import CommitOperationAdd

        def send() -> None:
            # Parts bear a digest of their content: one that is there was sent by an attempt whose answer was lost.
            there = set(self.api.list_repo_files(self.repo, repo_type="dataset"))
            new = [f for f in staged if f not in there]
            files = new + [f for f in ("run.json", "README.md") if os.path.exists(f"{self.root}/{f}")]
            self.api.create_commit(
                self.repo,
                [CommitOperationAdd(file, f"{self.root}/{file}") for file in files],
                commit_message=f"{len(new)} parts",
                repo_type="dataset",
            )

        staged = self._part_files()
        self._retry(send)
        self._last_commit = time.monotonic()

    def finish(self) -> None:
        """Forget what was staged: the repo has it all."""
        for file in self._part_files():
            self.fs.rm_file(f"{self.root}/{file}")

    def _retry(self, call: Any) -> Any:
        import random

        import httpx2
        from huggingface_hub.errors import HfHubHTTPError

        for attempt in range(COMMIT_TRIES):
            try:
                return call()
            except (HfHubHTTPError, httpx2.TransportError) as error:
                response = getattr(error, "response", None)
                status = response.status_code if response is not None else None
                if attempt == COMMIT_TRIES - 1 or (status is not None and status not in RETRIED_STATUS):
                    raise
                wait = min(60.0, 2.0**attempt) * random.uniform(0.5, 1.0)
                with contextlib.suppress(TypeError, ValueError, AttributeError):
                    wait = max(wait, float(response.headers["Retry-After"]))  # type: ignore[union-attr]
                time.sleep(wait)
        raise AssertionError("unreachable")


def open_output(name: str, *, public: bool = False, token: str | None = None) -> Output:
    """The dataset `name`, to be written; enter it to take it for this process alone."""
    if is_hub_id(name):
        return HubOutput(name, public=public, token=token)
    return Output(name)
