"""Which texts are duplicates, whatever their order."""

import random

import numpy as np
import pytest

from selfalign.code import near_duplicates as dedup

WORDS = [f"word{i}" for i in range(2000)]


def text_of(number, words=60):
    return " ".join(random.Random(number).choices(WORDS, k=words))


def edited(text, places):
    """`text` with a word changed at each of `places`."""
    words = text.split()
    for place in places:
        words[place] = f"changed{place}"
    return " ".join(words)


def shingles(text):
    words = text.split()
    return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}


def jaccard(one, other):
    return len(shingles(one) & shingles(other)) / len(shingles(one) | shingles(other))


def kept(texts, keys=None, threshold=0.7):
    keys = keys or [f"{i:09}" for i in range(len(texts))]
    return dedup.near_duplicates(texts, keys, threshold)


CHAIN = [text_of(1)]  # the first and the last of it share less than half
for i in range(6):
    CHAIN.append(edited(CHAIN[-1], [10 * i]))


@pytest.mark.parametrize(
    ("texts", "threshold", "expected"),
    {
        "a near-duplicate": ([text_of(1), text_of(2), edited(text_of(1), [0])], 0.7, [0, 1, 0]),
        # 15 of 56 shingles change: 41 / 71 = .577
        "below the threshold": ([text_of(1), edited(text_of(1), [10, 20, 30])], 0.7, [0, 1]),
        "above the threshold": ([text_of(1), edited(text_of(1), [10, 20, 30])], 0.5, [0, 0]),
        "a chain": (CHAIN, 0.7, [0] * 7),
        "words in another order": ([" ".join(WORDS[:60]), " ".join(WORDS[59::-1])], 0.7, [0, 1]),
        "thousands of equal texts": ([text_of(1)] * 5000, 0.7, [0] * 5000),
        # a similarity of .3
        "shared boilerplate": ([" ".join(WORDS[:40]) + " " + text_of(i, 40) for i in range(300)], 0.5, [*range(300)]),
    }.values(),
)
def test_similar_texts_are_a_group(texts, threshold, expected):
    assert kept(texts, threshold=threshold) == expected


def test_a_pair_at_the_threshold_itself_is_a_duplicate():
    texts = [text_of(1), edited(text_of(1), [20])]
    similarity = jaccard(*texts)
    assert kept(texts, threshold=similarity) == [0, 0]
    assert kept(texts, threshold=np.nextafter(similarity, 1)) == [0, 1]


def test_the_smallest_key_stays():
    assert kept([text_of(1), edited(text_of(1), [0])], keys=["b", "a"]) == [1, 1]


def test_the_order_of_the_rows_does_not_matter():
    texts = [text_of(i) for i in range(100)] + [edited(text_of(i), [i % 60, 5]) for i in range(0, 100, 3)]
    keys = [f"{random.Random(i).random()}" for i in range(len(texts))]
    result = kept(texts, keys)
    order = random.Random(0).sample(range(len(texts)), len(texts))
    shuffled = kept([texts[i] for i in order], [keys[i] for i in order])
    assert len(set(result)) < len(texts)
    assert [order[shuffled[order.index(i)]] for i in range(len(texts))] == result


EQUAL = [("same", "same"), ("a b", "a  b"), ("", ""), ("?!", "?!"), ("\ud800", "\ud800")]
DIFFERENT = [("a", "b"), ("a b c", "a b c d"), ("?!", "!?"), ("", "?"), ("a", "a a")]


@pytest.mark.parametrize("texts", EQUAL + DIFFERENT)
def test_short_texts_are_duplicates_if_they_are_equal(texts):
    assert kept(texts) == ([0, 0] if texts in EQUAL else [0, 1])


@pytest.mark.parametrize(("threshold", "expected"), [(0.7, (25, 5)), (0.5, (42, 3)), (1.0, (8, 16))])
def test_bands_by_the_arithmetic_of_recall(threshold, expected):
    assert dedup.bands_of(threshold) == expected


@pytest.mark.parametrize("threshold", [0.0, -1, 1.1])
def test_a_threshold_that_is_none_is_refused(threshold):
    with pytest.raises(ValueError, match="Jaccard"):
        dedup.bands_of(threshold)


@pytest.mark.parametrize(("threshold", "edits", "words"), [(0.7, 2, 61), (0.5, 3, 50)])
def test_recall_just_above_the_threshold(threshold, edits, words):
    """5 shingles change with each word: 47 of 67 are common, 31 of 61. These are the pairs that are hardest to find."""
    texts = []
    for i in range(1000):
        texts += [text_of(i, words), edited(text_of(i, words), [5 + 12 * e for e in range(edits)])]
    assert threshold <= jaccard(*texts[:2]) < threshold + 0.01
    found = sum(first != i for i, first in enumerate(kept(texts, threshold=threshold)))
    assert found / 1000 >= 0.98


def test_shingle_hashes_are_the_same_on_any_machine():
    hashes, begins = dedup.shingle_hashes(["a b c d e f", "a"])
    assert begins.tolist() == [0, 2, 3]
    assert [f"{h:016x}" for h in hashes.tolist()] == ["c3a5abda9ceadb73", "721feb052da5cfe3", "931cddc3613b6f2e"]


def test_the_known_words_do_not_grow_without_bound(monkeypatch):
    monkeypatch.setattr(dedup, "KNOWN_WORDS", 50)
    monkeypatch.setattr(dedup, "_word_hashes", dedup._WordHashes())
    assert kept([text_of(1), text_of(2), edited(text_of(1), [0])]) == [0, 1, 0]
    assert len(dedup._word_hashes) <= 50


def test_exact_key_folds_white_space_and_nothing_else():
    assert dedup.exact_key(" a\n\tb ") == dedup.exact_key("a b") != dedup.exact_key("ab")
    assert dedup.exact_key("\ud800") != dedup.exact_key("")
