"""Where datasets are written: parts that appear whole or not at all, in local folders, fsspec URLs and Hub repos.

An output is a folder or a repo of

    data/train-<first row>-<digest>.parquet   parts
    data/empty-<first row>-<digest>.parquet   the same, for input rows that yielded no rows
    <table>/rows-<first row>-<digest>.parquet, <table>/empty-...   parts of a further table (a configuration on the Hub)
    run.json                                  the run, for programs to read: identity, counts, the funnel so far
    README.md                                 the card, for people

The names avoid `-of-`, since `load_dataset` silently drops parts where both forms stand together; and only parts of the
main table are called `train`, since `load_dataset(folder)` would otherwise combine the parts of all tables.
"""

from __future__ import annotations

from selfalign.errors import check_secret
from selfalign.options import Shard
from selfalign.runner.folder_output import FolderOutput
from selfalign.runner.hub import is_hub_id
from selfalign.runner.hub_output import HubOutput


def open_output(
    name: str,
    *,
    shard: Shard | None = None,
    limit: int | None = None,
    run: str = "",
    public: bool = False,
    token: str | None = None,
) -> FolderOutput:
    """The dataset `name`, to be written; enter it to take it, or `shard` of it, for this process alone.

    `limit` is how many rows are divided into shards, if not all of the input: shards of so many rows and of others
    overlap. `run` is a hash of the run's identity: what is staged for the Hub is kept apart by it.
    """
    check_secret("--hf-token", token)
    shard = shard or Shard(0, 1)
    if is_hub_id(name):
        return HubOutput(name, shard, run or "files", limit, public=public, token=token)
    return FolderOutput(name, shard, limit, token)
