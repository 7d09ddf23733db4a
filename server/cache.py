"""Keys and values of the rows of a batch, and of a prompt while the model computes it.

Rows of about the same length lie in one block, so that attention is not computed up to the longest row of the batch.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

LEAST_CAPACITY = 128  # tokens; a power of two
# With at most one row for so many that it has room for, a block is halved: in simulated runs, blocks took 1.5 to 1.9
# times what their rows need, in place of 2.0 to 2.2, and a joining row had half a row copied, in place of 0.1 to 0.2.
SPARSE = 3


class PromptCache:
    """Records the keys and values of a prompt as the model computes them."""

    def __init__(self):
        self.layers: list[Tensor] = []

    def update(self, key: Tensor, value: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.layers.append(torch.stack([key, value]))
        return key, value

    def get_seq_length(self, *_: Any) -> int:
        return 0  # transformers would count positions from here, and is given them


class OwnTokens(NamedTuple):
    """What the rows of one block attend to in one layer."""

    keys: Tensor  # [rows, heads, tokens, dim]
    values: Tensor
    mask: Tensor  # [rows, 1, 1, tokens], added to the scores: -inf behind the end of a row


class Block:
    """Rows of up to `capacity` tokens: `kv` is [layers, 2, rows, heads, tokens, dim], without gaps between rows.

    It grows by doubling, and is halved when it is sparse. On a processor, room that no row has had yet takes no memory:
    the system gives it when it is first written to.
    """

    def __init__(self, like: Tensor, capacity: int):
        layers, _, heads, _, dim = like.shape
        self.kv = like.new_empty(layers, 2, 1, heads, capacity, dim)
        self.rows: list[Any] = []
        self.lengths: list[int] = []

    def add(self, row: Any, kv: Tensor) -> None:
        """A row with the tokens [layers, 2, heads, tokens, dim]."""
        count, tokens = len(self.rows), kv.shape[3]
        if count == self.kv.shape[2]:
            self.make_room(2 * count)
        self.kv[:, :, count, :, :tokens] = kv
        self.kv[:, :, count, :, tokens:] = 0  # what is hidden must still be numbers
        self.rows.append(row)
        self.lengths.append(tokens)

    def remove(self, row: Any) -> None:
        """The last row takes its place."""
        place, last = self.rows.index(row), len(self.rows) - 1
        if place < last:
            self.kv[:, :, place] = self.kv[:, :, last]
        for things in (self.rows, self.lengths):
            things[place] = things[last]
            things.pop()
        if 0 < SPARSE * last <= self.kv.shape[2]:
            self.make_room(self.kv.shape[2] // 2)

    def make_room(self, rows: int) -> None:
        """Have room for so many rows."""
        layers, _, _, *rest = self.kv.shape
        count, room = len(self.rows), self.kv.new_empty(layers, 2, rows, *rest)
        room[:, :, :count] = self.kv[:, :, :count]
        self.kv = room

    def tokens_of(self, row: Any) -> Tensor:
        place = self.rows.index(row)
        return self.kv[:, :, place, :, : self.lengths[place]]

    def prepare(self) -> None:
        """One more token in each row, whose keys and values are still to come."""
        device = self.kv.device
        self.each_row = torch.arange(len(self.rows), device=device)
        self.new_place = torch.tensor(self.lengths, device=device)
        self.lengths = [length + 1 for length in self.lengths]
        unused = torch.arange(max(self.lengths), device=device) > self.new_place[:, None]
        mask = torch.zeros(unused.shape, dtype=self.kv.dtype, device=device).masked_fill(unused, -torch.inf)
        self.mask = mask[:, None, None]

    def update(self, layer: int, key: Tensor, value: Tensor) -> None:
        """The new token of each row [rows, heads, 1, dim]."""
        keys, values = self.kv[layer]
        keys[self.each_row, :, self.new_place] = key[:, :, 0]
        values[self.each_row, :, self.new_place] = value[:, :, 0]

    def own_tokens(self, layer: int) -> OwnTokens:
        keys, values = self.kv[layer, :, : len(self.rows), :, : self.mask.shape[-1]]
        return OwnTokens(keys, values, self.mask)


class RowsCache:
    """What the rows of a batch attend to alone: the tokens that each has generated, and the prompt of a row that shares
    it with no other.

    The batch has the order of `prepare`.
    """

    def __init__(self):
        self.blocks: dict[int, Block] = {}  # by capacity
        self.block_of: dict[Any, Block] = {}

    def join(self, row: Any, kv: Tensor) -> None:
        """A row that has the tokens [layers, 2, heads, tokens, dim], of which there may be none."""
        capacity = capacity_for(kv.shape[3] + 1)
        block = self.blocks.get(capacity) or Block(kv, capacity)
        block.add(row, kv)  # which may lack memory: a block without rows must not stay
        self.blocks[capacity] = self.block_of[row] = block

    def leave(self, row: Any) -> None:
        block = self.block_of.pop(row)
        block.remove(row)
        if not block.rows:
            del self.blocks[block.kv.shape[4]]

    def tokens_of(self, row: Any) -> Tensor:
        """Keys and values [layers, 2, heads, tokens, dim], where they lie until the next change."""
        return self.block_of[row].tokens_of(row)

    def prepare(self) -> list[Any]:
        """Make room for one more token in each row, and return the rows in their order in the batch."""
        full = [
            row
            for block in self.blocks.values()
            for row, length in zip(block.rows, block.lengths, strict=True)
            if length == block.kv.shape[4]
        ]
        for row in full:
            tokens = self.tokens_of(row).clone()
            self.leave(row)
            self.join(row, tokens)
        for block in self.blocks.values():
            block.prepare()
        return [row for block in self.blocks.values() for row in block.rows]

    @property
    def sizes(self) -> list[int]:
        """How many rows of the batch each block has."""
        return [len(block.rows) for block in self.blocks.values()]

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        for block, keys, values in zip(
            self.blocks.values(), key.split(self.sizes), value.split(self.sizes), strict=True
        ):
            block.update(layer, keys, values)
        return key, value

    def own_tokens(self, layer: int) -> list[OwnTokens]:
        return [block.own_tokens(layer) for block in self.blocks.values()]

    def get_seq_length(self, *_: Any) -> int:
        return 0  # transformers would count positions from here, and is given them


def capacity_for(tokens: int) -> int:
    """Of the block for rows of so many tokens: 128, 192, 256, 384, 512, and so on."""
    power = LEAST_CAPACITY
    while power < tokens:
        power *= 2
    smaller = power // 4 * 3
    return smaller if LEAST_CAPACITY < tokens <= smaller else power
