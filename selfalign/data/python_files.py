"""Step 1's input where it is no dataset: the Python files of this machine."""

from __future__ import annotations

import hashlib
import re
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfalign.errors import UserError, warn
from selfalign.runner.source import Source

if TYPE_CHECKING:
    from importlib.metadata import Distribution

NO_UTF8 = re.compile("[\ud800-\udfff]")  # what Python makes of other bytes in the names of files
STDLIB, INSTALLED = "stdlib", "installed"
SKIPPED_FOLDERS = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "node_modules"}


def open_python_files(name: str) -> Source | None:
    """The Python files that `name` stands for, as rows with `file`, `path`, `repository` and `license`.

    Names are "stdlib" (the standard library of the running Python), "installed" (that, and the packages installed for
    it), and folders that contain Python files; None if `name` is none of these.

    Raises:
        UserError: all files are in folders that are skipped.
    """
    stdlib = Path(sysconfig.get_path("stdlib"))
    version = f"python/cpython@{sys.version_info.major}.{sys.version_info.minor}"
    if name == STDLIB:
        return _source(name, _listing(stdlib, version, "PSF-2.0"))
    if name == INSTALLED:
        packages = [
            row for kind in ("purelib", "platlib") for row in _listing(Path(sysconfig.get_path(kind)), None, None)
        ]
        unique = {row["file"]: row | origin_of(row["path"].split("/")[0].removesuffix(".py")) for row in packages}
        return _source(name, [*_listing(stdlib, version, "PSF-2.0"), *unique.values()])
    folder = Path(name).expanduser()
    if not folder.is_dir() or not next(folder.rglob("*.py"), None):
        return None
    folder = folder.resolve()
    rows = _listing(folder, folder.name, None)
    for row in rows:
        row["repository"] = _repository_of(Path(row["file"]).parent, folder)
    return _source(str(folder), rows)


@cache
def _repository_of(place: Path, folder: Path) -> str:
    """The name of the Git repository that `place` is in; that of `folder`, which holds it, if it is in none."""
    if place == folder or (place / ".git").exists():
        return place.name
    return _repository_of(place.parent, folder)


def _listing(folder: Path, repository: str | None, license: str | None) -> list[dict[str, Any]]:
    """The Python files below `folder` as rows, except those in SKIPPED_FOLDERS below it."""
    return [
        {"file": str(path), "path": path.relative_to(folder).as_posix(), "repository": repository, "license": license}
        for path in named_in_utf8(sorted(folder.rglob("*.py")))
        if not SKIPPED_FOLDERS & set(path.relative_to(folder).parts[:-1]) and path.is_file()
    ]


def named_in_utf8(paths: Sequence[Path]) -> list[Path]:
    """The paths without those whose names are not UTF-8, as of old archives: no dataset can hold them, and a warning
    says how many there are."""
    named = [path for path in paths if not NO_UTF8.search(str(path))]
    if left_out := len(paths) - len(named):
        warn(f"files left out because their names are not UTF-8: {left_out:,}")
    return named


def _source(name: str, rows: list[dict[str, Any]]) -> Source:
    import datasets

    if not rows:
        raise UserError(f"{name} contains no Python files")
    listing = [(row["path"], Path(row["file"]).stat().st_size) for row in rows]
    pin = {"fingerprint": hashlib.sha256(repr(listing).encode()).hexdigest()[:16]}
    return Source(name, pin, datasets.Dataset.from_list(rows), {})


@cache
def _distributions() -> Mapping[str, Distribution]:
    """Top-level module -> the distribution that it is part of, the first one if there are several.

    packages_distributions of Python 3.10 knows only those that have a top_level.txt.
    """
    from importlib.metadata import distributions

    found: dict[str, Distribution] = {}
    for distribution in distributions():
        named = (distribution.read_text("top_level.txt") or "").split()
        for module in named or [file.parts[0] for file in distribution.files or ()]:
            found.setdefault(module.split(".")[0], distribution)
    return found


@cache
def origin_of(module: str) -> dict[str, str | None]:
    """The distribution, with its version, that a top-level module belongs to, and its licence if it names one."""
    if module not in _distributions():
        return {"repository": None, "license": None}
    about = _distributions()[module].metadata
    licenses = about.get_all("License-Expression") or [None]
    return {"repository": f"{about['Name']}@{about['Version']}", "license": licenses[0]}
