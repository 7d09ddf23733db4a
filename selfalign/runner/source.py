"""Where datasets come from: Hub repos, local folders and fsspec URLs, which every script reads in one way.

An input is a memory-mapped `datasets.Dataset`, pinned when the run starts: to a commit on the Hub, or elsewhere to a
fingerprint of its files. How outputs are written is in `selfalign.runner.output`.
"""

from __future__ import annotations

import contextlib
import glob
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfalign.errors import UserError, check_secret, first_line, warn, without_secrets
from selfalign.options import StepOptions
from selfalign.reach import LOCAL
from selfalign.runner.columns import missing_columns, with_columns
from selfalign.runner.data_files import (
    BUILDERS,
    builder_of,
    default_configuration,
    fingerprint,
    is_data,
    training_files,
)
from selfalign.runner.hub import file_system, hub_name, is_hub_id, with_retries

if TYPE_CHECKING:
    import datasets
    import numpy as np

MAIN_TABLE = "default"  # of a dataset with several, as the Hub calls the configuration that is read when none is named
BAR_DELAY = 2.0  # seconds that work takes before it gets a progress bar
QUIET_BYTES = 64 << 20  # of files that are read without one
READ_ROWS, READ_BYTES = 1000, 32 << 20  # read at a time


@dataclass(frozen=True)
class Source:
    """An input.

    Attributes:
        name: as the user gave it, without passwords.
        pin: what it is pinned to: `dataset` and `revision`, or `fingerprint`.
        run: the run.json of the step that made it, {} if no step did.
        needs: columns that may not be null, unless the row has an `error`.
    """

    name: str
    pin: dict[str, str]
    rows: datasets.Dataset
    run: dict[str, Any]
    needs: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def read(
        self, positions: Sequence[int] | np.ndarray | None = None, columns: Sequence[str] | None = None, title: str = ""
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """The rows at `positions` (all if None), with their positions. Only some of them are in memory at a time.

        Args:
            positions: ascending.
            columns: all if None.
            title: of a progress bar; none is shown if it is empty.
        """
        from tqdm import tqdm

        where = range(len(self)) if positions is None else positions
        rows = self.rows if columns is None else self.rows.select_columns(list(dict.fromkeys(columns)))
        table: Any = rows.with_format("arrow")
        bytes_a_row = max(1, rows.data.nbytes // max(1, len(rows.data)))
        step = max(1, min(READ_ROWS, READ_BYTES // bytes_a_row))
        interval = 0.2 if sys.stderr.isatty() else 15.0  # a log file gets a line now and then
        how: dict[str, Any] = {"delay": BAR_DELAY, "mininterval": interval, "leave": False}
        bar = tqdm(total=len(where), desc=title, unit=" rows", disable=not title, **how)
        with bar:
            for start in range(0, len(where), step):
                some = [int(position) for position in where[start : start + step]]
                together = some[-1] - some[0] == len(some) - 1
                batch = table[some[0] : some[-1] + 1] if together else table[some]
                try:
                    values = batch.to_pylist()
                except (
                    ValueError,
                    OverflowError,
                ) as error:  # not UTF-8, or a date that Python cannot represent
                    raise UserError(
                        f"{self.name} can't be read in rows {some[0]} to {some[-1]}: {first_line(error)}"
                    ) from error
                yield from zip(some, values, strict=True)
                bar.update(len(some))


def part_prefix(table: str) -> str:
    """How the paths of those parts of `table` begin, within a step's output, that have rows."""
    return "data/train-" if table == MAIN_TABLE else f"{table}/rows-"


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

    check_secret("--hf-token", token)
    if datasets.utils.logging.get_verbosity() > datasets.utils.logging.INFO:
        datasets.utils.logging.set_verbosity(datasets.utils.logging.CRITICAL)  # its errors are raised as well
    try:
        rows, pin, run = (_open_hub if is_hub_id(name) else _open_files)(name, config, split, token)
    except UserError:
        raise
    except Exception as error:  # datasets has a dozen types of error for what a user calls "it can't be read"
        cause = _root_cause(error)
        # How datasets 5.2 says that a JSON or CSV file, or a Parquet file, is empty.
        if type(cause).__name__ in ("SchemaInferenceError", "StopIteration") or "BatchSize must be" in str(cause):
            raise UserError(f"{name} has no rows in split {split}") from error
        if isinstance(cause, UnicodeDecodeError) or "Invalid UTF8" in str(cause):
            raise UserError(
                f"{name} is not UTF-8 text: convert it, for example by `iconv -f latin1 -t utf-8 FILE > NEW`"
            ) from error
        raise UserError(f"dataset {name} can't be read (split {split}): {first_line(cause)}") from error
    if missing := [c for c in columns if c not in rows.column_names]:
        raise missing_columns(with_step(name, run), missing, rows)
    if not len(rows):
        raise UserError(f"{name} has no rows in split {split}")
    return Source(without_secrets(name), pin, rows, run)


def open_recorded_input(output: str, run: Mapping[str, Any], token: str | None = None) -> Source | None:
    """The dataset from which a step wrote `output`, whose run.json is `run`: where the step found it, or else beside
    `output`. None if it is not there, or has changed since."""
    recorded = run.get("input", {})
    names = [f"{recorded['dataset']}@{recorded['revision']}"] if "dataset" in recorded else [recorded.get("name", "")]
    if not is_hub_id(output) and "://" not in output:  # the run may have been moved, or started in another folder
        names.append(str(Path(output).expanduser().parent / Path(names[0]).name))
    for name, (config, split) in product(filter(None, names), recorded_selections(run)):
        with contextlib.suppress(UserError):
            found = open_source(name, config=config, split=split, token=token)
            if found.pin.items() <= recorded.items():
                return found
    return None


def recorded_selections(run: Mapping[str, Any]) -> list[tuple[str | None, str]]:
    """The configurations and splits from which a step with this run.json may have read its input: those that it was
    given, or the usual ones, since what a script's later steps read is the output of the one before."""
    given, usual = run.get("identity", {}).get("options", {}), (None, "train")
    return list(dict.fromkeys([(given.get("config"), given.get("split", "train")), usual]))


def read_input(options: StepOptions, *columns: str) -> Source:
    """The input of a step with `columns` as `with_columns` makes them; its rows with a null in one of them are counted
    and left out."""
    source = open_source(options.input, config=options.config, split=options.split, token=options.hf_token)
    if source.run and not source.run.get("complete"):
        warn(f"{options.input} is not complete: some rows of the step that writes it are still open")
    rows = with_columns(source.rows, with_step(source.name, source.run), columns, options.column)
    pin = source.pin | ({"columns": " ".join(options.column)} if options.column else {})
    return replace(source, rows=rows, pin=pin, needs=columns)


def with_step(name: str, run: Mapping[str, Any]) -> str:
    """The name of a dataset with the step that wrote it, by its run.json: it may be another one than is needed."""
    return f"{name}, which {run['step']} wrote," if run.get("step") else name


def usable_rows(source: Source, most: int) -> list[dict[str, Any]]:
    """The first `most` rows without an `error` that have all the step needs, to try a prompt with.

    Raises:
        UserError: there is none.
    """
    rows = (row for _, row in source.read())
    usable = (row for row in rows if not row.get("error") and all(row[name] is not None for name in source.needs))
    if found := list(islice(usable, most)):
        return found
    needs = " and ".join(name for name in source.needs if name != "id")
    raise UserError(f"no row of {source.name} can be used: each has an error, or nothing in {needs}")


def _open_hub(name: str, config: str | None, split: str, token: str | None):
    import datasets.config
    from huggingface_hub import HfApi, HfFileSystem
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    repo, _, revision = hub_name(name).partition("@")
    api = HfApi(token=token)
    try:
        sha = with_retries(lambda: api.dataset_info(repo, revision=revision or None)).sha
        # After any failure, load_dataset takes another revision of the repo if its cache has one: so each has its own.
        cached = f"{datasets.config.HF_DATASETS_CACHE}/{sha}"
        options = {"split": split, "revision": sha, "token": token, "cache_dir": cached}
        rows = with_retries(lambda: datasets.load_dataset(repo, config, **options))
    except GatedRepoError:
        raise UserError(
            f"dataset {repo} is gated: request access on its page, and use a token that has been granted it"
        ) from None
    except RevisionNotFoundError:
        raise UserError(f"dataset {repo} has no revision {revision}") from None
    except RepositoryNotFoundError:
        raise UserError(
            f"there is no dataset {repo}: neither a local path nor a Hub repo that this token can see. {LOCAL}"
        ) from None
    run = {}
    if "run.json" in with_retries(lambda: api.list_repo_files(repo, repo_type="dataset", revision=sha)):
        files = HfFileSystem(token=token)
        run = json.loads(with_retries(lambda: files.cat_file(f"datasets/{repo}@{sha}/run.json")))
    return rows, {"dataset": repo, "revision": sha}, run


def is_single_file(name: str, token: str | None = None) -> bool:
    """Whether the dataset is one file, which has no configurations."""
    with contextlib.suppress(Exception):  # what is no dataset at all is said when it is opened
        if not is_hub_id(name):
            fs, root = file_system(name, token)
            return fs.isfile(root)
    return False


def _open_files(name: str, config: str | None, split: str, token: str | None):
    import datasets
    from datasets.config import DOWNLOADED_DATASETS_PATH, HF_DATASETS_CACHE
    from datasets.utils import are_progress_bars_disabled

    fs, root = file_system(name, token)
    if not fs.exists(root):
        raise UserError(f"there is no dataset {name}: it is not a local path and does not have the form of a Hub id")
    if fs.isfile(root):
        if config:
            raise UserError(f"{name} is a single file, which has no configuration {config}: leave out --config")
        files, run = [root], {}
    else:
        # Parts that are being written begin with a dot, and so do the folders in which editors keep copies.
        found = [f for f in fs.find(root) if "/." not in f"/{f.removeprefix(root)}"]
        # What a step has written below belongs to another dataset: it may be the output of this very run.
        runs = [f for f in found if f.endswith("/run.json") and f != f"{root}/run.json" and _is_run(fs.cat_file(f))]
        found = [f for f in found if not f.startswith(tuple(run.removesuffix("run.json") for run in runs))]
        run = json.loads(fs.cat_file(f"{root}/run.json")) if f"{root}/run.json" in found else {}
        if not (run or config) and f"{root}/README.md" in found:
            config = default_configuration(name, fs.cat_file(f"{root}/README.md").decode(errors="replace"))
        table = config or MAIN_TABLE
        ours = f"{root}/{part_prefix(table)}" if run else root
        files = sorted(f for f in found if f.startswith(ours) and is_data(f))
        if split == "train" and not (run or config):
            files = training_files(name, files, root)
        if run and table not in (tables := [MAIN_TABLE, *run.get("tables", {})]):
            raise UserError(f"{name} has no configuration {table}; it has {', '.join(tables)}")
        if run and not files:
            if f"{root}/config.json" in found:
                raise UserError(f"{name} is a model that {run['step']} has trained, and has no rows")
            where = f" in {table}" if config else ""
            raise UserError(f"{name} has no rows{where}: {run['step']} dropped them all, or has not written any yet")
    builder, *others = list(dict.fromkeys(map(builder_of, files))) or [None]
    if not builder:
        raise UserError(f"{name} contains no file that ends in {', '.join('.' + e for e in BUILDERS)}")
    content = fingerprint(fs, root, files)
    if (config or split != "train") and not run and fs.isdir(root):
        # A cache of its own, as below: this one takes an older state of the folder, or another folder of its name.
        there = root if "file" in fs.protocol else name
        rows = datasets.load_dataset(there, config, split=split, cache_dir=f"{HF_DATASETS_CACHE}/{content}")
    elif others:
        raise UserError(f"{name} holds files of {builder} and of {others[0]}: name a file, or a folder with one kind")
    else:
        # The files by name: load_dataset(folder) takes another folder of the same name from its cache, or an older
        # state of this one, if the folder's card has `configs` (datasets 5.2).
        # load_dataset takes them for patterns, which the names of local files are not.
        urls = [fs.unstrip_protocol(glob.escape(f) if "file" in fs.protocol else f) for f in files]
        # The cache knows a file by path and time, and a download by its URL alone, which another content may have as
        # well. The fingerprint tells them apart: as the name of a configuration, and of a folder of downloads.
        downloads = f"{DOWNLOADED_DATASETS_PATH}/{content}"
        access = {"storage_options": dict(fs.storage_options), "token": token}
        fetching = datasets.DownloadConfig(downloads, use_etag=False, **access)
        options = {"data_files": urls, "split": split, "download_config": fetching, **access}
        with contextlib.ExitStack() as stack:
            if not are_progress_bars_disabled() and sum(fs.size(f) or 0 for f in files) < QUIET_BYTES:
                datasets.disable_progress_bars()
                stack.callback(datasets.enable_progress_bars)
            rows = datasets.load_dataset(builder, content, **options)
        if builder == "json":  # whose reader does not look
            for column in rows.data.columns:
                column.validate(full=True)
    return rows, {"fingerprint": content}, run


def _is_run(text: bytes) -> bool:
    """Whether this is the run.json of a step, and not a file of somebody else's that has its name."""
    with contextlib.suppress(ValueError, RecursionError):
        run = json.loads(text)
        return isinstance(run, dict) and {"step", "identity"} <= run.keys()
    return False


def _root_cause(error: BaseException) -> BaseException:
    """The innermost error: the outermost one of datasets often says only that something went wrong. But that its cache
    lacks the dataset, too, is no cause; and what pyarrow says of a JSON file names the row, and comes before what
    pandas says of it."""
    inner = error
    while deeper := inner.__cause__ or inner.__context__:
        inner = deeper
        if str(inner).startswith("JSON parse error: ") and type(inner).__name__ == "ArrowInvalid":
            break
    return error if "is not cached in" in str(inner) else inner
