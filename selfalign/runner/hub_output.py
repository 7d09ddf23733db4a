"""A dataset that is being written to a Hub repo."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from selfalign.errors import UserError, first_line, warn
from selfalign.options import Shard
from selfalign.reach import LOCAL
from selfalign.runner.folder_output import Describe, FolderOutput, text_of
from selfalign.runner.hub import HUB_TRIES, hub_name, with_retries
from selfalign.runner.part import PART, Part, covered_rows, read_part

COMMIT_SECONDS = 300  # the Hub limits commits per hour: parts gather into one commit every five minutes
JOIN_SECONDS = 5  # of waiting for a commit under way after SIGTERM
TRIES_WHEN_STOPPED = 2  # of a commit after SIGTERM: the machine goes away soon, and what is staged stays
FOOTERS_AT_A_TIME = 16


class HubOutput(FolderOutput):
    """A dataset that is being written to a Hub repo: parts are staged in a local folder and sent in few commits.

    The staging folder belongs to the repo and the run, and the shards on a machine share it: whichever process sends
    takes everything that is staged, so a killed process loses nothing that was written. Each commit names its parent,
    and brings run.json and card up to date with its parts. If several machines write at once, the Hub rejects one of
    them (412); it then looks again and leaves out what the others have done in the meantime.
    """

    on_hub = True

    def __init__(
        self, name: str, shard: Shard, run: str, limit: int | None = None, *, public: bool, token: str | None
    ) -> None:
        from huggingface_hub import HfApi, HfFileSystem, constants

        self.repo, _, revision = hub_name(name).partition("@")
        if revision:
            raise UserError(f"an output cannot have a revision: write to {self.repo} instead of {name}")
        super().__init__(f"{constants.HF_HOME}/selfalign/{self.repo.replace('/', '--')}/{run}", shard, limit)
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
            raise UserError(
                f"Hub repo {self.repo} can't be created or written to: {first_line(error)}. {LOCAL}"
            ) from error
        return self

    def foreign_files(self) -> list[str]:
        return [file for file in self._there()[1] if file not in (".gitattributes", "README.md")]

    def read(self, file: str) -> str | None:
        return self._read(file, *self._there())

    def begin(self, describe: Describe) -> None:
        """Does nothing: the first commit marks the output, and fails if another run's commit came first."""

    def _there(self) -> tuple[str, list[str]]:
        """The head of the repo and the files in it. Everything is read at that commit: if a request for a branch fails,
        the libraries answer with an older state out of their cache."""
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
        """The parts in the repo; the footers of those not known yet are read, some kilobytes each."""

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
        """Send what is staged: every `COMMIT_SECONDS` from a thread of its own, and at once when `final`."""
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
                raise UserError(f"{self._complaint(error)}; run the same command again to send them") from error
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
        """Commit what is staged and not in the repo yet. The names of parts hold digests, so they tell what an attempt
        whose answer was lost has brought there."""
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
            content: dict[str, Path | bytes] = {part.name: Path(f"{self.root}/{part.name}") for part in new}
            for file, text in describe(lambda file: self._read(file, head, files), there + new).items():
                described = text.encode() if isinstance(text, str) else text
                if described != self._content(file, head, files):
                    content[file] = described
            if content:
                self.api.create_commit(
                    self.repo,
                    [CommitOperationAdd(file, source) for file, source in content.items()],
                    commit_message=f"{len(new)} parts" if new else f"{', '.join(content)}",
                    repo_type="dataset",
                    parent_commit=head,
                )
            for part in staged:
                self.fs.rm_file(f"{self.root}/{part.name}")
