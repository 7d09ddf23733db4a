"""What the local Hub of the tests stores: repos, their commits and their files."""

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import yaml  # a dependency of huggingface_hub

from tests.fakes.hub_server import Refusal

LFS_SUFFIXES = (".arrow", ".bin", ".gz", ".npy", ".parquet", ".pt", ".safetensors", ".tar", ".zip", ".zst")
LFS_BYTES = 10 * 1024**2  # the Hub takes larger files through LFS only


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def wants_lfs(path: str, size: int, sample: bytes) -> bool:
    return path.endswith(LFS_SUFFIXES) or size > LFS_BYTES or b"\0" in sample


def card_data(readme: bytes) -> dict[str, Any]:
    """The YAML block that opens a card. Raises yaml.YAMLError, as the Hub refuses such cards."""
    block = re.match(rb"\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|$)", readme, re.DOTALL)
    data = yaml.safe_load(block[1]) if block else {}
    if not isinstance(data, dict | None):
        raise yaml.YAMLError("the metadata of a card must be a mapping")
    return data or {}


@dataclass(frozen=True)
class File:
    content: bytes = field(repr=False)
    lfs: bool

    @cached_property
    def etag(self) -> str:
        """What the Hub tells about the content: sha256 of an LFS file, git's blob sha1 of any other."""
        return sha256(self.content) if self.lfs else git_sha1(self.content)

    def info(self, path: str) -> dict[str, Any]:
        size = len(self.content)
        if not self.lfs:
            return {"type": "file", "path": path, "size": size, "oid": self.etag}
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.etag}\nsize {size}\n".encode()
        lfs = {"oid": self.etag, "size": size, "pointerSize": len(pointer)}
        return {"type": "file", "path": path, "size": size, "oid": git_sha1(pointer), "lfs": lfs}


@dataclass(frozen=True)
class Commit:
    oid: str
    files: dict[str, File] = field(repr=False)  # the whole tree, by path


@dataclass
class Repo:
    type: str
    id: str
    private: bool
    commits: list[Commit] = field(default_factory=list)  # oldest first
    lfs: dict[str, bytes] = field(default_factory=dict)  # by sha256
    announced: set[str] = field(default_factory=set)  # sha256 of the LFS uploads that may come

    def at(self, revision: str) -> Commit:
        """The last commit for `main`, else the one whose sha begins so (7 digits or more)."""
        if revision.removeprefix("refs/heads/") == "main":
            return self.commits[-1]
        if re.fullmatch("[0-9a-f]{7,40}", revision):
            for commit in self.commits:
                if commit.oid.startswith(revision):
                    return commit
        raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def advance(self, files: dict[str, File]) -> Commit:
        self.commits.append(Commit(secrets.token_hex(20), dict(sorted(files.items()))))
        return self.commits[-1]
