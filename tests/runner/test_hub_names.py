"""Which names mean a repo of the Hub as a whole, and which mean files."""

import pytest

from selfalign.runner.hub import is_hub_id

SHA = "fc56fe33c030c6daa414c2b112c932b8eed085e6"


@pytest.mark.parametrize(
    ("name", "whole"),
    {
        "org/name": True,
        f"org/name@{SHA}": True,
        "org/name@refs/pr/1": True,
        "hf://datasets/org/name": True,
        f"hf://datasets/org/name@{SHA}/": True,
        "hf://datasets/org/name@refs/convert/parquet": True,
        "hf://datasets/org/name/data/python": False,
        f"hf://datasets/org/name@{SHA}/data/python/data.jsonl": False,
        "hf://datasets/org/name@refs/pr/1/data": False,
        "./org/name": False,
    }.items(),
)
def test_a_path_behind_a_revision_is_not_part_of_it(name, whole):
    assert is_hub_id(name) is whole
