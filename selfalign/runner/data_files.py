"""The files of a folder: which of them are data, of which split, and a fingerprint that tells their states apart.

Data and splits are found as `datasets` finds them, so that a clone of a repository of the Hub gives the rows that
`load_dataset` gives.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import yaml

from selfalign.errors import UserError

BUILDERS = {"parquet": "parquet", "json": "json", "jsonl": "json", "csv": "csv", "arrow": "arrow"}
# How `datasets` finds the split of a file in a folder: in the name of a shard, or by words in the names of files, or
# else of folders. Below, {} is such a word, and a path begins below the folder.
SHARD_OF_SPLIT = re.compile(r"data/(.+)-[0-9]{5}-of-[0-9]{5}[^/]*$")
SPLIT_IN_FILE, SPLIT_IN_FOLDER = r"(^|[-._ 0-9/])({})[-._ 0-9][^/]*$", r"(^|[-._ 0-9/])({})([-._ 0-9][^/]*)?/"
SPLITS = {"train": "train|training", "validation": "validation|valid|dev|val", "test": "test|testing|eval|evaluation"}
# What stands beside the data, above all in what `save_to_disk` writes and in clones of repositories of the Hub.
ABOUT_DATA = {"config.json", "dataset_dict.json", "dataset_info.json", "dataset_infos.json", "state.json"}
CACHE = re.compile(r"cache-[^/]*\.arrow$")  # what map and filter leave beside what they were given
FINGERPRINT_BYTES = 1 << 16  # of each end of a file; Parquet keeps its footer at the end


def is_data(file: str) -> bool:
    """Whether a file holds rows, and does not stand beside those that do."""
    name = file.rsplit("/", 1)[-1]
    return builder_of(file) is not None and name not in ABOUT_DATA and not CACHE.match(name)


def builder_of(file: str) -> str | None:
    """Which builder of `datasets` reads a file; None if none does."""
    return BUILDERS.get(file.removesuffix(".gz").rsplit(".", 1)[-1])


def training_files(name: str, files: list[str], root: str) -> list[str]:
    """Those of a folder's files that are of the split "train"; all if they are of one split, or of none that is known.

    Raises:
        UserError: they are of several others.
    """
    below = {file: file.removeprefix(root).lstrip("/") for file in files}
    splits: dict[str, list[str]] = {}
    for file in files:
        if match := SHARD_OF_SPLIT.match(below[file]):
            splits.setdefault(match[1], []).append(file)
    for pattern in (SPLIT_IN_FILE, SPLIT_IN_FOLDER):
        found = {s: [f for f in files if re.search(pattern.format(words), below[f])] for s, words in SPLITS.items()}
        splits = splits or {split: some for split, some in found.items() if some}
    if len(splits) < 2:
        return files
    if "train" not in splits:
        raise UserError(f"{name} has no split train; it has {', '.join(splits)}: name one by --split")
    return splits["train"]


def default_configuration(name: str, card: str) -> str | None:
    """The configuration that `datasets` reads from a folder with this README.md where none is named; None if the card
    does not tell several apart.

    Raises:
        UserError: it has several, and does not say which of them is the default.
    """
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard, DatasetCardData

    if not card.startswith("---"):
        return None
    try:
        metadata = DatasetCardData(**DatasetCard(card).data.to_dict())
        configurations = MetadataConfigs.from_dataset_card_data(metadata)
    except (yaml.YAMLError, ValueError, TypeError):  # a card for people, with a line where metadata would begin
        return None
    if len(configurations) < 2:
        return None
    default = configurations.get_default_config_name()
    if not default:
        raise UserError(f"{name} has several configurations, {', '.join(configurations)}: name one by --config")
    return default


def fingerprint(fs: Any, root: str, files: list[str]) -> str:
    """A hash of the names (below `root`) and sizes of `files`, and of the first and last 64 KiB of each."""
    digest = hashlib.sha256()
    for file in files:
        size = fs.size(file)
        if size is None:  # a web server that does not say
            size = len(fs.cat_file(file))
        digest.update(f"{file.removeprefix(root)} {size} ".encode())
        digest.update(fs.cat_file(file, start=0, end=FINGERPRINT_BYTES))
        digest.update(fs.cat_file(file, start=max(0, size - FINGERPRINT_BYTES)))
    return digest.hexdigest()[:16]


def model_fingerprint(model: str) -> str | None:
    """A hash of a model folder's files, so that another model at the same path is noticed; None for a Hub id."""
    from fsspec.implementations.local import LocalFileSystem

    kinds = ("*.json", "*.safetensors", "*model*.bin", "*.jinja")  # not training_args.bin
    files = sorted({str(path) for kind in kinds for path in Path(model).glob(kind)})
    return fingerprint(LocalFileSystem(), str(Path(model)), files) if files else None
