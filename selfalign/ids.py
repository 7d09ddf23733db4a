"""Stable ids and random draws: the same on any machine, in any order, at any number of shards."""

from __future__ import annotations

import hashlib
import random


def content_id(*parts: object) -> str:
    """A stable id: 16 hexadecimal digits of a hash of content and lineage."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def draws_of(seed: int, row_id: str) -> random.Random:
    """The random draws of the row `row_id`, from the step's `--seed`."""
    return random.Random(f"{seed}:{row_id}")


def derived_seed(seed: int, number: int) -> int:
    """The sampling seed of sample `number`; above 0, as TGI's contract requires."""
    return max(1, random.Random(f"{seed}:{number}").getrandbits(31))
