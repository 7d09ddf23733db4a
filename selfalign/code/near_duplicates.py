"""Duplicates among texts: equal ones, and near-duplicates by MinHash, each pair verified.

Paper: appendix B keeps one seed of each group of near-duplicates, at a Jaccard similarity of 0.5; the reference
implementation does the same with instructions and responses at 0.7. A text is the set of its shingles, which are 5
successive words each. Its MinHash signature (Broder 1997) is cut into bands. Texts that agree in a band are candidates,
and the Jaccard similarity of each candidate pair is then computed from the shingles themselves, so that no text is
dropped because of an accident of hashing. A group is a connected component of similar pairs.

    near_duplicates(texts, keys, 0.7)      needs 200 bytes per text, besides the texts

The groups do not depend on the order of the texts. `selfalign.data.duplicates` finds the same groups in datasets that
do not fit into memory, with `band_hashes` and `grouped`.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

WORD = re.compile(r"\w+")
ASCII_WORDS = "".join(chr(i) if WORD.fullmatch(chr(i)) else " " for i in range(128))  # for str.translate
SHINGLE_WORDS = 5  # as in the reference implementation
PERMUTATIONS = 128  # at most: those that no band uses are not computed
RECALL = 0.98  # at least, of pairs exactly at the threshold; pairs that are more similar are found more surely
BATCH_TEXTS = 10_000  # whose signatures are computed at a time
KNOWN_WORDS = 1_000_000  # whose hashes are kept: some 100 MB
CACHED_TEXTS = 50_000  # whose shingles are kept while candidates are compared: 8 bytes a shingle
# A text is compared with at most this many texts of its bucket in a band, which limits the cost of boilerplate that
# thousands share. Two similar texts in such a bucket are still found by the other bands.
MAX_COMPARED = 200


def exact_key(text: str) -> bytes:
    """16 bytes that are equal for texts that differ only in white space, and (but for 1 in 2^128) for no others."""
    return hashlib.blake2b(" ".join(text.split()).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def bands_of(threshold: float) -> tuple[int, int]:
    """How many bands, of how many permutations each, find pairs of at least this Jaccard similarity.

    At a similarity of s, a band of r values agrees with probability s^r, and at least one of b bands with probability
    1 - (1 - s^r)^b. More values a band mean fewer futile candidates: as many are taken as RECALL allows.

        0.7: 25 x 5 = 125 permutations, 1 - (1 - 0.7^5)^25 = .990; 0.75 gives .999, 0.8 .99995, and 0.3 gives .06
        0.5: 42 x 3 = 126 permutations, 1 - (1 - 0.5^3)^42 = .996; 0.6 gives .99996, and 0.1 gives .04
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"a Jaccard threshold must be above 0 and at most 1, not {threshold}")
    values = max(r for r in range(1, 17) if r == 1 or 1 - (1 - threshold**r) ** (PERMUTATIONS // r) >= RECALL)
    return PERMUTATIONS // values, values


# Odd pseudo-random numbers of 64 bits: multiplied by these, hashes can be added up so that their order counts.
FACTORS = tuple(int.from_bytes(hashlib.blake2b(bytes([i]), digest_size=8).digest(), "little") | 1 for i in range(16))


class _WordHashes(dict[str, int]):
    """word -> 64 bits that are the same on every machine."""

    def __missing__(self, word: str) -> int:
        if len(self) >= KNOWN_WORDS:
            self.clear()
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        self[word] = int.from_bytes(digest, "little")
        return self[word]


_word_hashes = _WordHashes()


def split_words(text: str) -> list[str]:
    r"""The words of a text: what `\w+` finds, five times as fast where all is ASCII."""
    return text.translate(ASCII_WORDS).split() if text.isascii() else WORD.findall(text)


def shingle_hashes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The shingles of `texts` as 64-bit hashes, including repeats, one text after the other, and where each begins.

    Returns:
        uint64 (shingles,) and uint64 (texts + 1,). A text of fewer than SHINGLE_WORDS words is one shingle. A text
        without words (such as punctuation) is one shingle of its characters.
    """
    import numpy as np

    words = [split_words(text) or [text] for text in texts]
    counts = np.fromiter(map(len, words), np.int64, len(words))
    hashes = np.fromiter(map(_word_hashes.__getitem__, chain.from_iterable(words)), np.uint64, counts.sum())
    hashes = np.append(hashes, np.zeros(SHINGLE_WORDS - 1, np.uint64))
    # For every word, a hash of it and the next ones. A sum of products will do: the hashes of words are random already.
    at_words = np.zeros(len(hashes) - SHINGLE_WORDS + 1, np.uint64)
    for i in range(SHINGLE_WORDS):
        at_words += hashes[i : i + len(at_words)] * np.uint64(FACTORS[i])
    shingles = np.maximum(counts - SHINGLE_WORDS + 1, 1)
    begins, ends = np.cumsum(shingles) - shingles, np.cumsum(counts)
    # The last words of each text begin no shingle, so the gap grows from text to text.
    result = at_words[np.arange(shingles.sum()) + np.repeat(ends - counts - begins, shingles)]
    for i in np.flatnonzero(counts < SHINGLE_WORDS):
        result[begins[i]] = _word_hashes["\0".join(words[i])]
    return _mix(result), np.append(begins, len(result)).astype(np.uint64)


def _mix(x: np.ndarray) -> np.ndarray:
    """A bijection of 64 bits in which each bit of the result depends on all bits (the finalizer of splitmix64)."""
    import numpy as np

    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def band_hashes(texts: Sequence[str], threshold: float) -> np.ndarray:
    """The hash of each band of each text's signature, uint64 (texts, bands)."""
    import numpy as np
    import rensa

    minhash: Any = rensa.RMinHash  # pyright: ignore[reportAttributeAccessIssue]  # compiled, without stubs
    bands, values = bands_of(threshold)
    matrix = minhash.digest_matrix_from_flat_token_hashes(*shingle_hashes(texts), bands * values, 0)
    signatures = np.array(matrix.to_rows(), np.uint64).reshape(len(texts), bands, values)
    return _mix((signatures * np.array(FACTORS[:values], np.uint64)).sum(axis=2))


def near_duplicates(texts: Sequence[str], keys: Sequence[str], threshold: float, progress: str = "") -> list[int]:
    """For each text, the position of the text that is kept of its group of near-duplicates: its own if it is kept.

    Args:
        texts: the texts to compare.
        keys: a stable id of each, all different. The text with the smallest key of its group is kept, so that the order
            does not matter.
        threshold: of the Jaccard similarity, such as 0.7 or 0.5.
        progress: title of the progress bar; none is shown if it is empty.
    """
    import numpy as np

    if not len(texts):
        return []
    by_key = sorted(range(len(keys)), key=keys.__getitem__)
    bands = np.empty((bands_of(threshold)[0], len(texts)), np.uint64)
    with _progress(progress, len(texts), " texts") as bar:
        for start in range(0, len(texts), BATCH_TEXTS):
            batch = [texts[i] for i in by_key[start : start + BATCH_TEXTS]]
            bands[:, start : start + len(batch)] = band_hashes(batch, threshold).T
            bar.update(len(batch))
    first = grouped(bands, len(texts), lambda i: texts[by_key[i]], threshold, progress)
    result = [0] * len(texts)
    for i, position in enumerate(by_key):
        result[position] = by_key[first[i]]
    return result


def grouped(
    bands: Iterable[np.ndarray], texts: int, text_of: Callable[[int], str], threshold: float, progress: str
) -> np.ndarray:
    """The first text of each text's group, int64 (texts,); texts are numbered in the order of their keys.

    Args:
        bands: the columns of `band_hashes`, looked at one after the other: uint64 (texts,) each.
        texts: how many there are.
        text_of: number -> text; only candidates are asked for.
        threshold: of the Jaccard similarity.
        progress: title of the progress bar; none is shown if it is empty.
    """
    groups = _Groups(texts, text_of, threshold)
    with _progress(f"{progress}: bands" if progress else "", bands_of(threshold)[0], " bands") as bar:
        for band in bands:
            apart = (bucket for bucket in _buckets(band) if len({groups.root(i) for i in bucket}) > 1)
            for buckets in _batches(apart, BATCH_TEXTS):
                groups.read({i for bucket in buckets for i in bucket})
                for bucket in buckets:
                    groups.join(bucket)
            bar.update()
    return groups.first()


class _Groups:
    """Connected components of similar texts, a union-find structure in which the smallest number is the root."""

    def __init__(self, texts: int, text_of: Callable[[int], str], threshold: float) -> None:
        import numpy as np

        self.text_of, self.threshold = text_of, threshold
        self.parents = np.arange(texts)
        self.shingles: dict[int, np.ndarray] = {}

    def root(self, i: int) -> int:
        parents = self.parents
        while parents[i] != i:
            parents[i] = parents[parents[i]]
            i = parents[i]
        return int(i)

    def first(self) -> np.ndarray:
        """The root of every text."""
        while (self.parents != (grand := self.parents[self.parents])).any():
            self.parents = grand
        return self.parents

    def read(self, some: set[int]) -> None:
        """Compute the shingles of these texts, which `join` needs."""
        import numpy as np

        if len(self.shingles) + len(some) > CACHED_TEXTS:
            self.shingles.clear()
        if new := [i for i in some if i not in self.shingles]:
            hashes, begins = shingle_hashes([self.text_of(i) for i in new])
            split = np.split(hashes, begins[1:-1].astype(np.int64))
            self.shingles.update(zip(new, map(np.unique, split), strict=True))

    def similar(self, i: int, j: int) -> bool:
        import numpy as np

        a, b = self.shingles[i], self.shingles[j]
        if min(len(a), len(b)) / max(len(a), len(b)) < self.threshold:
            return False
        both = len(np.intersect1d(a, b, assume_unique=True))
        return both / (len(a) + len(b) - both) >= self.threshold

    def join(self, bucket: list[int]) -> None:
        """Join the groups of those texts of a bucket that are similar."""
        compared: dict[int, list[int]] = {}  # root -> texts of its group to compare with
        for number, j in enumerate(bucket):
            mine = self.root(j)
            for other in [group for group in compared if group != mine]:
                if any(self.similar(i, j) for i in compared[other]):
                    low, high = min(mine, other), max(mine, other)
                    self.parents[high] = low
                    compared[low] = compared.pop(other) + compared.pop(mine, [])
                    mine = low
            if number < MAX_COMPARED:
                compared.setdefault(mine, []).append(j)


def _buckets(band: np.ndarray) -> Iterable[list[int]]:
    """The groups of texts that agree in a band, each in the order of their numbers."""
    import numpy as np

    order = np.argsort(band, kind="stable")
    ordered = band[order]
    edges = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1], [True]]))
    several = np.flatnonzero(np.diff(edges) > 1)
    for start, stop in zip(edges[several].tolist(), edges[several + 1].tolist(), strict=True):
        yield order[start:stop].tolist()


def _batches(buckets: Iterable[list[int]], texts: int) -> Iterable[list[list[int]]]:
    """Successive buckets in batches of about `texts` texts."""
    batch, size = [], 0
    for bucket in buckets:
        batch.append(bucket)
        size += len(bucket)
        if size >= texts:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _progress(name: str, total: int, unit: str) -> Any:
    from tqdm import tqdm

    interactive = sys.stderr.isatty()  # a log file gets a line now and then
    return tqdm(
        total=total,
        desc=name,
        unit=unit,
        disable=not name,
        delay=2.0,
        leave=False,
        mininterval=0.2 if interactive else 15.0,
    )
