"""Reading problems from Hub datasets and files, and what a run records about them."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from selfalign.benchmarks.harness.benchmark import Problem, Row
from selfalign.errors import UserError, first_line
from selfalign.runner.hub import hub_name, is_hub_id, with_retries
from selfalign.runner.source import open_source

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
FIELDS = ("task_id", "prompt", "entry_point", "canonical_solution")  # of a row whose problem is a function


def problem_of(row: Row, test: str, timeout: float = 0.0) -> Problem:
    """The problem of a row that has FIELDS. Its solution begins on a line of its own, also where the prompt does not
    end its last line, as in half of EvoEval."""
    fields = {name: row[name] for name in FIELDS}
    if fields["prompt"] and not fields["prompt"].endswith("\n"):
        fields["canonical_solution"] = f"\n{fields['canonical_solution']}"
    return Problem(**fields, test=test, timeout=timeout)


def iso_date(value: datetime | str | int) -> str:
    """A date as "2023-05-13T00:00:00", from what JSON (text or milliseconds since 1970) or a parquet file has of it."""
    if isinstance(value, int):
        value = datetime.fromtimestamp(value / 1000, timezone.utc).replace(tzinfo=None)
    return value.isoformat() if isinstance(value, datetime) else str(value).replace(" ", "T")


def files_by_name(pairs: Iterable[str]) -> dict[str, str]:
    """What --benchmark-data says, as {benchmark: file to read instead of what is published}."""
    files = {}
    for pair in pairs:
        name, equals, file = pair.partition("=")
        if not (name and equals and file):
            raise UserError(f"--benchmark-data {pair} does not have the form NAME=FILE")
        files[name] = file
    return files


def pin_of(data: str, token: str | None = None) -> tuple[str, dict[str, str]]:
    """The sources in `data`, separated by commas, with revisions resolved to commits, and what each is pinned to.

    "org/name@main" becomes ("org/name@<commit>", {"org/name": "<commit>"}). A file keeps its path, and is pinned to a
    hash of its content. "" stands for problems that come with a package, which nothing pins.

    Raises:
        UserError: there is no such file or dataset, or the Hub does not answer.
    """
    resolved, pins = [], {}
    for source in data.split(",") if data else ():
        if is_hub_id(source):
            repo, _, revision = hub_name(source).partition("@")
            pins[repo] = _commit_of(repo, revision or None, token)
            resolved.append(f"{repo}@{pins[repo]}")
        elif Path(source).is_file():
            pins[source] = file_hash(source)
            resolved.append(source)
        else:
            raise UserError(f"--data {source} is neither a file that exists nor a Hub id")
    return ",".join(resolved), pins


def file_hash(path: str) -> str:
    """16 hexadecimal digits of a hash of a file's content."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def _commit_of(repo: str, revision: str | None, token: str | None) -> str:
    from huggingface_hub import HfApi

    try:
        return str(with_retries(lambda: HfApi(token=token).dataset_info(repo, revision=revision)).sha)
    except Exception as error:  # of the Hub or of the connection, for which httpx2 has types of its own
        raise UserError(
            f"the problems in {repo} can't be read: {first_line(error)}; a file can be read instead, by --data FILE of "
            "benchmark.py or --benchmark-data NAME=FILE of the other commands"
        ) from None


def records(
    data: str, *, config: str | None = None, split: str = "test", needs: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """The rows of a Hub dataset ("org/name@revision") or of a file, which has neither configuration nor split.

    A file is .jsonl, .json (a list of rows, or an object whose values are rows), either of them with .gz, or .parquet.

    Raises:
        UserError: there is no such source, it can't be read, or rows lack one of the columns `needs`.
    """
    if is_hub_id(data):
        return open_source(data, columns=needs, config=config, split=split).rows.to_list()
    check_is_no_pointer(data)
    if data.endswith(".parquet"):
        return open_source(data, columns=needs).rows.to_list()
    rows = _json_rows(data)
    check_fields(rows, needs, data)
    return rows


def check_fields(rows: list[Row], needs: Iterable[str], data: str) -> None:
    """UserError if rows of `data` lack one of the fields `needs`."""
    for name in needs:
        if lacking := sum(name not in row for row in rows):
            raise UserError(f"{lacking} of {len(rows)} rows of {data} have no {name}")


def check_is_not_of(prefix: str, rows: list[Row], data: str) -> None:
    """UserError if the rows of `data` are problems of another benchmark, whose task ids begin with `prefix`."""
    if rows and all(str(row["task_id"]).startswith(prefix) for row in rows):
        raise UserError(f"{data} has problems of another benchmark: {rows[0]['task_id']} and others")


def check_is_no_pointer(file: str) -> None:
    """UserError if `file` is what Git has in place of a large file."""
    try:
        with open(file, "rb") as opened:
            is_pointer = opened.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError:
        return  # whoever reads it says so
    if is_pointer:
        raise UserError(f"{file} is a pointer of Git LFS and not the file itself, which `git lfs pull` fetches")


def _json_rows(data: str) -> list[Row]:
    """The rows of a file of JSON or JSON lines, compressed or not."""
    # Not through `datasets`, whose columns have one type: the inputs of EvalPlus are numbers here and lists there.
    try:
        raw = Path(data).read_bytes()
        text = (gzip.decompress(raw) if data.endswith(".gz") else raw).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UserError(f"{data} can't be read: {error}") from None
    if data.removesuffix(".gz").endswith(".json"):
        try:
            rows = json.loads(text)
        except ValueError as error:
            raise UserError(f"{data} is not JSON: {error}") from None
        if isinstance(rows, dict) and "eval" in rows:
            raise UserError(f"{data} has EvalPlus' results; give the samples that it was made from")
        rows = list(rows.values()) if isinstance(rows, dict) else rows
        if not isinstance(rows, list):
            raise UserError(f"{data} holds {json.dumps(rows)[:40]} and no list of rows")
    else:
        rows = []
        for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: JSON strings may hold U+2028
            if not line.strip():
                continue
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise UserError(f"{data}: line {number} is not JSON ({error})") from None
    if not rows:
        raise UserError(f"{data} has no rows")
    if not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{data}: a row is not a JSON object")
    return rows
