"""Duplicates: exact ones, and near-duplicates by MinHash, verified.

Paper: appendix B, one seed of each group of near-duplicates is kept, at Jaccard 0.5; the reference implementation does
the same with instructions and responses at 0.7. A text is the set of its shingles, each 5 successive words. Its MinHash
signature (Broder 1997) is cut into bands; texts that agree in one band are candidates, and the Jaccard similarity of
each candidate pair is then computed from the shingles themselves, so that no text is dropped for an accident of
hashing. A group is a connected component of similar pairs.

    near_duplicates(texts, keys, 0.7)                        in memory: 200 bytes a text beside the texts
    near_duplicates_by_step(options, source, text_of, 0.7)   signatures as a dataset, by the step runner and its shards

Both find the same groups, whatever the order of the rows and the number of shards.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from selfalign.options import StepOptions
    from selfalign.runner.source import Source

WORD = re.compile(r"\w+")
ASCII_WORDS = "".join(chr(i) if WORD.fullmatch(chr(i)) else " " for i in range(128))  # for str.translate
SHINGLE_WORDS = 5  # as in the reference implementation
PERMUTATIONS = 128  # at most; what bands do not use up is not computed
RECALL = (
    0.98  # at least, of pairs that are exactly as similar as the threshold; more similar ones are found more surely
)
BATCH_TEXTS = 10_000  # whose signatures are computed at a time
KNOWN_WORDS = 1_000_000  # whose hashes are kept: some 100 MB
CACHED_TEXTS = 50_000  # whose shingles are kept while candidates are compared: 8 bytes a shingle
# With how many texts of a band's bucket one is compared. It bounds what boilerplate costs that thousands share; two
# similar texts in such a bucket have the other bands to be found by.
MAX_COMPARED = 200


def exact_key(text: str) -> bytes:
    """The same 16 bytes for texts that differ in white space alone, and (but for 1 in 2^128) for no others."""
    return hashlib.blake2b(" ".join(text.split()).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def code_without_comments(code: str) -> str:
    """Python `code` without comments and docstrings, formatted in one way; text that does not parse as it is.

    `code` is untrusted: nothing is raised, whatever it holds.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes
            tree = ast.parse(code)
            drop_docstrings(tree)
            return ast.unparse(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # ValueError: null bytes, lone surrogates
        return code


def drop_docstrings(tree: ast.AST) -> None:
    """Take the docstrings out of a syntax tree; a body that was nothing else becomes `pass`."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)):
            head = node.body[0] if node.body else None
            if (
                isinstance(head, ast.Expr)
                and isinstance(head.value, ast.Constant)
                and isinstance(head.value.value, str)
            ):
                node.body = node.body[1:] or ([] if isinstance(node, ast.Module) else [ast.Pass()])


def bands_of(threshold: float) -> tuple[int, int]:
    """How many bands, of how many permutations each, find pairs of at least this Jaccard similarity.

    A band of r values agrees with probability s^r where the similarity is s, so one of b bands does with
    1 - (1 - s^r)^b. More values a band mean fewer candidates in vain: the most that still give RECALL are taken.

        0.7: 25 x 5 = 125 permutations, 1 - (1 - 0.7^5)^25 = .990; 0.75 gives .999, 0.8 .99995, and 0.3 gives .06
        0.5: 42 x 3 = 126 permutations, 1 - (1 - 0.5^3)^42 = .996; 0.6 gives .99996, and 0.1 gives .04
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"a Jaccard threshold lies above 0 and is at most 1, not {threshold}")
    values = max(r for r in range(1, 17) if r == 1 or 1 - (1 - threshold**r) ** (PERMUTATIONS // r) >= RECALL)
    return PERMUTATIONS // values, values


# Odd numbers of 64 bits, as good as random: what makes the order count in a sum of hashes.
FACTORS = tuple(int.from_bytes(hashlib.blake2b(bytes([i]), digest_size=8).digest(), "little") | 1 for i in range(16))


class _WordHashes(dict[str, int]):
    """word -> 64 bits, the same on every machine."""

    def __missing__(self, word: str) -> int:
        if len(self) >= KNOWN_WORDS:
            self.clear()
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        self[word] = int.from_bytes(digest, "little")
        return self[word]


_word_hashes = _WordHashes()


def words_of(text: str) -> list[str]:
    r"""The words of a text: what `\w+` finds, five times as fast where all is ASCII."""
    return text.translate(ASCII_WORDS).split() if text.isascii() else WORD.findall(text)


def shingle_hashes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The shingles of `texts` as 64-bit hashes, repeats included, one text after the other, and where each begins.

    Returns:
        uint64 (shingles,) and uint64 (texts + 1,). A text of fewer than SHINGLE_WORDS words is one shingle; one
        without words (punctuation, say) is one, too, of its characters.
    """
    import numpy as np

    words = [words_of(text) or [text] for text in texts]
    counts = np.fromiter(map(len, words), np.int64, len(words))
    hashes = np.fromiter(map(_word_hashes.__getitem__, chain.from_iterable(words)), np.uint64, counts.sum())
    hashes = np.append(hashes, np.zeros(SHINGLE_WORDS - 1, np.uint64))
    # At every word, a hash of it and the next ones: a sum of products, since the hashes of words are random already.
    at_words = np.zeros(len(hashes) - SHINGLE_WORDS + 1, np.uint64)
    for i in range(SHINGLE_WORDS):
        at_words += hashes[i : i + len(at_words)] * np.uint64(FACTORS[i])
    shingles = np.maximum(counts - SHINGLE_WORDS + 1, 1)
    begins, ends = np.cumsum(shingles) - shingles, np.cumsum(counts)
    # Of each text, the last words begin no shingle: the gap grows from text to text.
    result = at_words[np.arange(shingles.sum()) + np.repeat(ends - counts - begins, shingles)]
    for i in np.flatnonzero(counts < SHINGLE_WORDS):
        result[begins[i]] = _word_hashes["\0".join(words[i])]
    return _mix(result), np.append(begins, len(result)).astype(np.uint64)


def _mix(x: np.ndarray) -> np.ndarray:
    """A bijection of 64 bits in which every bit of the result depends on all (the finalizer of splitmix64)."""
    import numpy as np

    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def band_hashes(texts: Sequence[str], threshold: float) -> np.ndarray:
    """What each text has in each band, uint64 (texts, bands)."""
    import numpy as np
    import rensa

    minhash: Any = rensa.RMinHash  # pyright: ignore[reportAttributeAccessIssue]  # compiled, without stubs
    bands, values = bands_of(threshold)
    matrix = minhash.digest_matrix_from_flat_token_hashes(*shingle_hashes(texts), bands * values, 0)
    signatures = np.array(matrix.to_rows(), np.uint64).reshape(len(texts), bands, values)
    return _mix((signatures * np.array(FACTORS[:values], np.uint64)).sum(axis=2))


def near_duplicates(texts: Sequence[str], keys: Sequence[str], threshold: float, progress: str = "") -> list[int]:
    """For each text the position of the one that stands for its group of near-duplicates: its own if it is kept.

    Args:
        texts: what is compared.
        keys: a stable id of each, no two alike. The smallest of a group stays, so that the order does not matter.
        threshold: of the Jaccard similarity, 0.7 or 0.5 say.
        progress: what the progress bar is called; none is shown if it is empty.
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
    first = _groups(bands, len(texts), lambda i: texts[by_key[i]], threshold, progress)
    result = [0] * len(texts)
    for i, position in enumerate(by_key):
        result[position] = by_key[first[i]]
    return result


def near_duplicates_by_step(
    options: StepOptions, source: Source, text_of: Callable[[dict[str, Any]], str], threshold: float, name: str
) -> dict[str, str]:
    """The same past one machine's memory: the id of each row that repeats another -> the id of the one that stays.

    The signatures are a step of their own, from `source` to OUTPUT-signatures-NAME: it resumes, `--executor` and
    `--shard` divide it. Then one band after the other is read and sorted, 24 bytes a row in memory, and of the texts
    only candidates.

    Args:
        options: of the script; its output is only a name here.
        source: rows with an `id`.
        text_of: row -> what is compared.
        threshold: of the Jaccard similarity.
        name: of what is compared, such as "instruction".

    Raises:
        UserError, SystemExit: as `selfalign.runner.step.run_step` does.
    """
    import dataclasses

    import numpy as np
    import pyarrow.compute as pc

    from selfalign.runner.source import open_source
    from selfalign.runner.step import run_step
    from selfalign.runner.table import Table

    bands = [f"band_{i:02}" for i in range(bands_of(threshold)[0])]

    def signature(row: dict[str, Any]) -> dict[str, Any]:
        text = text_of(row)
        values = band_hashes([text], threshold)[0].view(np.int64).tolist()
        return {"id": row["id"], "text": text, **dict(zip(bands, values, strict=True))}

    output = f"{options.output.rstrip('/')}-signatures-{name}"
    columns = {"id": str, "text": str, **dict.fromkeys(bands, int)}
    run_step(
        dataclasses.replace(options, output=output),
        Table(source, signature, columns, carry=False),
        title=f"signatures_{name}",
    )
    table = open_source(output, columns=tuple(columns), token=options.hf_token).rows.with_format("arrow")

    def column(name: str) -> Any:
        return table.data.column(name)  # memory-mapped: one column is read, not the others

    ids = column("id")
    by_key = pc.sort_indices(ids).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]  # made at run time
    read = (column(band).to_numpy().view(np.uint64)[by_key] for band in bands)
    texts = column("text")
    first = _groups(read, len(ids), lambda i: texts[int(by_key[i])].as_py(), threshold, name)
    repeats = np.flatnonzero(first != np.arange(len(first)))
    return {ids[int(by_key[i])].as_py(): ids[int(by_key[first[i]])].as_py() for i in repeats}


def _groups(
    bands: Iterable[np.ndarray], texts: int, text_of: Callable[[int], str], threshold: float, progress: str
) -> np.ndarray:
    """The first text of each text's group, int64 (texts,). Texts are numbered in the order of their keys.

    `bands` are uint64 (texts,) each, and looked at one after the other.
    """
    import numpy as np

    parents = np.arange(texts)

    def root(i: int) -> int:
        while parents[i] != i:
            parents[i] = parents[parents[i]]
            i = parents[i]
        return int(i)

    shingles: dict[int, np.ndarray] = {}

    def read(some: set[int]) -> None:
        if len(shingles) + len(some) > CACHED_TEXTS:
            shingles.clear()
        if new := [i for i in some if i not in shingles]:
            hashes, begins = shingle_hashes([text_of(i) for i in new])
            shingles.update(zip(new, map(np.unique, np.split(hashes, begins[1:-1].astype(np.int64))), strict=True))

    def similar(i: int, j: int) -> bool:
        a, b = shingles[i], shingles[j]
        if min(len(a), len(b)) / max(len(a), len(b)) < threshold:
            return False
        both = len(np.intersect1d(a, b, assume_unique=True))
        return both / (len(a) + len(b) - both) >= threshold

    def join(bucket: list[int]) -> None:
        compared: dict[int, list[int]] = {}  # root -> texts of its group to compare with
        for number, j in enumerate(bucket):
            mine = root(j)
            for other in [group for group in compared if group != mine]:
                if any(similar(i, j) for i in compared[other]):
                    low, high = min(mine, other), max(mine, other)
                    parents[high] = low
                    compared[low] = compared.pop(other) + compared.pop(mine, [])
                    mine = low
            if number < MAX_COMPARED:
                compared.setdefault(mine, []).append(j)

    with _progress(f"{progress}: bands" if progress else "", bands_of(threshold)[0], " bands") as bar:
        for band in bands:
            apart = (bucket for bucket in _buckets(band) if len({root(i) for i in bucket}) > 1)
            for buckets in _batches(apart, BATCH_TEXTS):
                read({i for bucket in buckets for i in bucket})
                for bucket in buckets:
                    join(bucket)
            bar.update()
    while (parents != (grand := parents[parents])).any():
        parents = grand
    return parents


def _buckets(band: np.ndarray) -> Iterable[list[int]]:
    """The texts that agree in a band with another, together, in the order of their numbers."""
    import numpy as np

    order = np.argsort(band, kind="stable")
    ordered = band[order]
    edges = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1], [True]]))
    several = np.flatnonzero(np.diff(edges) > 1)
    for start, stop in zip(edges[several].tolist(), edges[several + 1].tolist(), strict=True):
        yield order[start:stop].tolist()


def _batches(buckets: Iterable[list[int]], texts: int) -> Iterable[list[list[int]]]:
    """Buckets together that have some `texts` texts."""
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
    return tqdm(total=total, desc=name, unit=unit, disable=not name, mininterval=0.2 if interactive else 15.0)
