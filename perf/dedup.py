"""Near-duplicates beside the reference implementation's approach, on planted duplicates: python perf/dedup.py

    python perf/dedup.py                   100,000 texts: speed, recall and precision of both
    python perf/dedup.py --rows 1000000    a million, ours alone: time and peak memory, in memory and by the step runner

Texts are drawn word by word from the running Python's documentation, about 60 words each. A tenth are near-duplicates
of another text, with 1 to 3 words replaced. The truth is the Jaccard similarity of all pairs that share a shingle,
computed from the words themselves: what is a member of a connected component of pairs at 0.7 or more, and not its first
by key, is a duplicate. Recall and precision are of the texts that are dropped.

The peer is our own writing of what the reference implementation does: SHA-1 of each n-gram, 250 permutations in numpy,
25 bands of 10, texts joined that agree in a band, nothing verified; in two processes, as many as it is usually run in
on two cores. Ours runs in one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict

import numpy as np
from memory import ROOT, start

sys.path.insert(0, str(ROOT))
from selfalign import dedup

THRESHOLD = 0.7
DUPLICATES = 0.1  # of all texts
WORDS_A_TEXT = (50, 70)
PEER_BANDS, PEER_VALUES = 25, 10
MERSENNE_61, LOW_32_BITS = np.uint64((1 << 61) - 1), np.uint64((1 << 32) - 1)
PEER_PERMUTATIONS = np.random.default_rng(42).integers(1, 1 << 61, (2, PEER_BANDS * PEER_VALUES), np.uint64)

IN_MEMORY = """
import pyarrow.parquet as pq
from selfalign.dedup import near_duplicates
table = pq.read_table(sys.argv[1])
ids = table["id"].to_pylist()
first = near_duplicates(table["content"].to_pylist(), ids, 0.7)
report(dropped=sum(i != f for i, f in enumerate(first)))
"""
BY_STEP = """
from selfalign.dedup import near_duplicates_by_step
from selfalign.options import StepOptions
from selfalign.steps import read_input
options = StepOptions(input=sys.argv[1], output=sys.argv[2], shard=sys.argv[3] or None)
source = read_input(options, "id", "content")
try:
    report(dropped=len(near_duplicates_by_step(options, source, lambda row: row["content"], 0.7, "content")))
except SystemExit as ended:
    report(status=ended.code)
"""


def make_texts(rows: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Texts and their keys."""
    import pydoc_data.topics

    draws = random.Random(seed)
    words = re.findall(r"\w+", " ".join(pydoc_data.topics.topics.values()))
    originals = round(rows * (1 - DUPLICATES))
    texts = [" ".join(draws.choices(words, k=draws.randint(*WORDS_A_TEXT))) for _ in range(originals)]
    for _ in range(rows - originals):
        copy = texts[draws.randrange(originals)].split()
        for place in draws.sample(range(len(copy)), draws.randint(1, 3)):
            copy[place] = draws.choice(words)
        texts.append(" ".join(copy))
    draws.shuffle(texts)
    return texts, [f"{draws.getrandbits(64):016x}" for _ in texts]


def truth(texts: list[str], keys: list[str]) -> set[int]:
    """Positions of the duplicates."""

    def shingles(text: str) -> set[tuple[str, ...]]:
        words = text.split()
        return set(zip(*(words[i:] for i in range(5)), strict=False))

    hashes, owners = [], []
    for i, text in enumerate(texts):
        some = [hash(shingle) for shingle in shingles(text)]
        hashes.append(np.array(some, np.int64))
        owners.append(np.full(len(some), i))
    hashes, owners = np.concatenate(hashes), np.concatenate(owners)
    order = np.argsort(hashes, kind="stable")
    hashes, owners = hashes[order], owners[order]
    edges = np.flatnonzero(np.concatenate([[True], hashes[1:] != hashes[:-1], [True]]))
    pairs = set()
    for first, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        some = owners[first:stop].tolist()
        pairs.update((a, b) for i, a in enumerate(some) for b in some[i + 1 :])
    similar = []
    for a, b in pairs:
        one, other = shingles(texts[a]), shingles(texts[b])
        if len(one & other) / len(one | other) >= THRESHOLD:
            similar.append((a, b))
    return repeats(joined(len(texts), similar), keys)


def joined(texts: int, pairs: list[tuple[int, int]]) -> list[int]:
    """The component of each text."""
    parents = list(range(texts))

    def root(i: int) -> int:
        while parents[i] != i:
            parents[i] = i = parents[parents[i]]
        return i

    for a, b in pairs:
        parents[root(a)] = root(b)
    return [root(i) for i in range(texts)]


def repeats(components: list[int], keys: list[str]) -> set[int]:
    """All of each component but the one with the smallest key."""
    members = defaultdict(list)
    for i, component in enumerate(components):
        members[component].append(i)
    return {i for some in members.values() for i in some if i != min(some, key=keys.__getitem__)}


def peer_signature(text: str) -> list[bytes]:
    """What a text has in each of the peer's bands."""
    words = re.split(r"[^A-Za-z_0-9]", text)
    shingles = {" ".join(words[i : i + 5]) for i in range(len(words) - 4)}
    digests = [int.from_bytes(hashlib.sha1(shingle.encode()).digest()[:4], "little") for shingle in shingles]
    hashes = np.array(digests, np.uint64)[:, None]
    a, b = PEER_PERMUTATIONS
    lowest = ((hashes * a + b) % MERSENNE_61 & LOW_32_BITS).min(axis=0)
    return [lowest[i : i + PEER_VALUES].tobytes() for i in range(0, len(lowest), PEER_VALUES)]


def peer(texts: list[str], keys: list[str]) -> set[int]:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        signatures = pool.map(peer_signature, texts, chunksize=1000)
    pairs = []
    for band in range(PEER_BANDS):
        first: dict[bytes, int] = {}
        for i, signature in enumerate(signatures):
            if (other := first.setdefault(signature[band], i)) != i:
                pairs.append((other, i))
    return repeats(joined(len(texts), pairs), keys)


def ours(texts: list[str], keys: list[str]) -> set[int]:
    return {i for i, first in enumerate(dedup.near_duplicates(texts, keys, THRESHOLD)) if i != first}


def compare(rows: int, rounds: int) -> None:
    texts, keys = make_texts(rows)
    wanted = truth(texts, keys)
    print(f"{rows:,} texts, {len(wanted):,} of them duplicates at {THRESHOLD}")
    ways = {"the reference's approach, 2 processes": peer, "selfalign.dedup, 1 process": ours}
    best = dict.fromkeys(ways, (float("inf"), float("inf")))
    for _ in range(rounds):
        for name, find in ways.items():
            started, busy = time.perf_counter(), processor_seconds()
            found = find(texts, keys)
            seconds, busy = time.perf_counter() - started, processor_seconds() - busy
            best[name] = min(best[name], (seconds, busy))
            recall, precision = len(found & wanted) / len(wanted), len(found & wanted) / len(found)
            print(
                f"{name:40} {seconds:6.1f} s on the clock, {busy:6.1f} s of the processors   "
                f"recall {recall:.4f}   precision {precision:.4f}",
                flush=True,
            )
    (theirs, their_busy), (own, own_busy) = best.values()
    print(f"best of {rounds}: {theirs / own:.1f} times the speed, {their_busy / own_busy:.1f} times by the processors")


def processor_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    return sum(os.times()[:4])


def scale(rows: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts, keys = make_texts(rows)
    with tempfile.TemporaryDirectory() as folder:
        source, output = f"{folder}/in.parquet", f"{folder}/out"
        pq.write_table(pa.table({"id": keys, "content": texts}), source, row_group_size=10_000)
        del texts, keys
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": f"{folder}/home"}
        environment |= {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}

        def finish(name: str, started: float, busy: float, processes: list[subprocess.Popen[str]]) -> None:
            found = [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]
            memory = [f"{sum(each[kind] for each in found):,.0f} MiB {kind}" for kind in ("resident", "anonymous")]
            dropped = f"   {found[0]['dropped']:,} duplicates" if "dropped" in found[0] else ""
            seconds, used = time.perf_counter() - started, processor_seconds() - busy
            times = f"{seconds:7.1f} s on the clock, {used:7.1f} s of the processors"
            print(f"{name:40} {times}   {', '.join(memory)}{dropped}", flush=True)

        print(f"{rows:,} texts")
        started, busy = time.perf_counter(), processor_seconds()
        finish("in memory, 1 process", started, busy, [start(IN_MEMORY, [source], environment)])
        started, busy = time.perf_counter(), processor_seconds()
        finish(
            "signatures by the step runner, 2 shards",
            started,
            busy,
            [start(BY_STEP, [source, output, f"{i}/2"], environment) for i in (0, 1)],
        )
        finish("  and then bands from disk, in all", started, busy, [start(BY_STEP, [source, output, ""], environment)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}")
    if options.rows >= 1_000_000:
        scale(options.rows)
    else:
        compare(options.rows, options.rounds)


if __name__ == "__main__":
    main()
