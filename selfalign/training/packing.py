"""Several examples in one sequence, so that nothing is computed for padding."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Dataset


def pack(examples: Dataset, length: int, seed: int) -> Dataset:
    """Examples (`input_ids`, `labels`) put together into sequences of at most `length` tokens, none of them divided.

    A third column, `seq_lengths`, says how long each example is. From it, TRL's collator makes positions that begin at
    0 for each example, and from these the model knows which tokens may attend to which.
    """
    from trl.data_utils import pack_dataset

    return pack_dataset(examples.shuffle(seed=seed), length, "bfd")
