"""Which texts contain a problem of a benchmark, or its solution.

Paper: appendix B, functions that have a prompt or a solution of a benchmark as a substring are removed. That is not
enough: Evol-Instruct-110K, filtered in this way, still contains 82 of HumanEval's 164 problems. So a text also matches
when it shares 8 successive words with a prompt, contains most of a prompt's phrases, or has a function that differs
from a canonical solution only in names, comments, docstrings, annotations and formatting.

    decontaminator = Decontaminator(items)    # selfalign.data.decontamination reads them from benchmarks
    match = decontaminator.match(text)        # Match("humaneval", "HumanEval/53", "same_solution"), or None

The rules, in the order in which they are tried:

    substring           it contains a prompt, its docstring or a solution, ignoring case and white space (paper, B)
    8-gram              it contains 8 successive words of a prompt; numbers do not count as words
    similar_prompt      it contains SIMILAR_PROMPT of a prompt's phrases, which are 3 successive words each
    same_solution       it has a function with the tokens of a canonical solution (see syntax_tokens.py)
    similar_solution    it has a function whose Jaccard similarity to a solution is at least SIMILAR_SOLUTION, computed
                        over 5-grams of tokens with all numbered names alike

What several problems of a benchmark have in common ("Write a function to find the") is the benchmark's way of putting
things and points to none of them. Solutions that are not functions (DS-1000) are only found as substrings, and
LiveCodeBench publishes none. A solution may be so short that others write the same: same_solution finds
`def add(a, b): return a + b`, which is HumanEval/53, whoever wrote it.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from selfalign.code.parsing import DEFINITIONS, parsed
from selfalign.code.syntax_tokens import Tokens, tokens_in_code, tokens_in_text

WORD = re.compile(r"[^\W\d]\w*")  # numbers do not count: lists of them are alike everywhere
NGRAM_WORDS = 8
PHRASE_WORDS = 3
SIMILAR_PROMPT = 0.6  # of a prompt's phrases: replacing one word changes three of them
MIN_PHRASES = 6  # of a prompt, for similar_prompt
MIN_OWN_PHRASES = 2  # of the 6 phrases in 8 words: "write a function to find the perimeter of" fits any figure
MIN_SUBSTRING_WORDS = 6  # "return x + y" is all of HumanEval/53, and stands in every other file
COMMON = 3  # words that so many tasks of a benchmark have in common point to none of them
SHINGLE_TOKENS = 5
SIMILAR_SOLUTION = 0.7
MIN_SIMILAR_TOKENS = 30  # of a function, for similar_solution: in a shorter one, a single other token is too much
MIN_ALONE_TOKENS = 30  # of a function that stands for a solution of several: a wrapper of one line does not


@dataclass(frozen=True)
class Item:
    """A problem of a benchmark, as far as texts can contain it.

    Attributes:
        family: what was asked for, such as "evoeval".
        benchmark: the set of the family that has the problem, such as "evoeval-difficult".
        task_id: its id there.
        task: items of a family with the same task count as one: MBPP's sets word some tasks in two ways.
        prompt: the question.
        solution: the canonical solution, whole or as a continuation of the prompt; "" if none is published.
        given: code that the question asks to change; "" if there is none.
    """

    family: str
    benchmark: str
    task_id: str
    task: str
    prompt: str
    solution: str = ""
    given: str = ""


@dataclass(frozen=True)
class Match:
    """The benchmark's item that a text matches, and the rule by which it does."""

    benchmark: str
    task_id: str
    rule: str

    def __str__(self) -> str:
        return f"{self.benchmark} {self.task_id} ({self.rule})"


class Decontaminator:
    """Knows the items of benchmarks, and finds them in texts.

    Attributes:
        counts: how many items each family has.
    """

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self.counts = dict(Counter(item.family for item in items))
        prompts = [passages_of(item.prompt) for item in items]
        self._learn_texts(prompts)
        self._learn_prompts(prompts)
        self._learn_solutions()

    def _learn_texts(self, prompts: list[list[str]]) -> None:
        """For substring: first words -> the folded texts that begin with them, and the numbers of their items."""
        self._substrings: dict[tuple[str, ...], list[tuple[str, int]]] = {}
        for number, (item, passages) in enumerate(zip(self.items, prompts, strict=True)):
            for text in dict.fromkeys(map(fold, [item.prompt, *passages, item.solution, item.given])):
                words = lower_words(text)
                if len(words) >= MIN_SUBSTRING_WORDS:
                    self._substrings.setdefault(tuple(words[:MIN_SUBSTRING_WORDS]), []).append((text, number))

    def _learn_prompts(self, prompts: list[list[str]]) -> None:
        """For 8-gram: words -> the first item with them; for similar_prompt: the phrases of each item."""
        self._ngrams: dict[tuple[str, ...], int] = {}
        sets: dict[int, set[tuple[str, ...]]] = {}
        common, common_phrases = (self._common_ngrams(prompts, n) for n in (NGRAM_WORDS, PHRASE_WORDS))
        for number, passages in enumerate(prompts):
            phrases = _ngrams_in(passages, PHRASE_WORDS) - common_phrases
            if len(phrases) >= MIN_PHRASES:
                sets[number] = phrases
            for gram in _ngrams_in(passages, NGRAM_WORDS) - common:
                if sum(phrase in phrases for phrase in ngrams(gram, PHRASE_WORDS)) >= MIN_OWN_PHRASES:
                    self._ngrams.setdefault(gram, number)
        self._phrases = _Overlaps(sets, SIMILAR_PROMPT)

    def _common_ngrams(self, prompts: list[list[str]], n: int) -> set[tuple[str, ...]]:
        """The n-grams that occur in the prompts of at least COMMON tasks of one family."""
        tasks: dict[tuple[str, tuple[str, ...]], set[str]] = {}
        for item, passages in zip(self.items, prompts, strict=True):
            for gram in _ngrams_in(passages, n):
                tasks.setdefault((item.family, gram), set()).add(item.task)
        return {gram for (_, gram), some in tasks.items() if len(some) >= COMMON}

    def _learn_solutions(self) -> None:
        """For same_solution: the largest function -> items, and the functions that a text must have; for
        similar_solution: the shingles of the largest function of each item."""
        self._exact: dict[str, list[tuple[int, frozenset[str]]]] = {}
        sets: dict[int, set[tuple[str, ...]]] = {}
        for number, item in enumerate(self.items):
            functions = solution_tokens(item)
            if functions:
                largest = max(functions, key=len)
                needed = [largest] if len(largest) >= MIN_ALONE_TOKENS else functions
                self._exact.setdefault(exactly(largest), []).append((number, frozenset(map(exactly, needed))))
                if len(largest) >= MIN_SIMILAR_TOKENS:
                    sets[number] = token_shingles(largest)
        self._shingles = _Overlaps(sets, SIMILAR_SOLUTION)

    def __str__(self) -> str:
        return ", ".join(f"{family} ({count} problems)" for family, count in self.counts.items())

    def match(self, text: str) -> Match | None:
        """The first rule that finds an item in `text`: code, or Markdown with code blocks. Nothing is raised."""
        for rule, numbers in chain(self._by_words(text), self._by_code(text)):
            if numbers:
                item = self.items[min(numbers)]
                return Match(item.benchmark, item.task_id, rule)
        return None

    def _by_words(self, text: str) -> Iterator[tuple[str, list[int]]]:
        words, folded = lower_words(text), fold(text)
        candidates = chain.from_iterable(self._substrings.get(gram, ()) for gram in ngrams(words, MIN_SUBSTRING_WORDS))
        yield "substring", [number for pattern, number in candidates if pattern in folded]
        yield "8-gram", [self._ngrams[gram] for gram in ngrams(words, NGRAM_WORDS) if gram in self._ngrams]
        shared = self._phrases.shared(set(ngrams(words, PHRASE_WORDS)))
        yield "similar_prompt", [number for number, both, size in shared if both / size >= SIMILAR_PROMPT]

    def _by_code(self, text: str) -> Iterator[tuple[str, list[int]]]:
        functions = tokens_in_text(text)
        there = set(map(exactly, functions))
        known = chain.from_iterable(self._exact.get(key, ()) for key in there)
        yield "same_solution", [number for number, needed in known if needed <= there]
        found = []
        for tokens in functions:
            if len(tokens) >= MIN_SIMILAR_TOKENS * SIMILAR_SOLUTION:
                shingles = token_shingles(tokens)
                for number, both, size in self._shingles.shared(shingles):
                    if both / (size + len(shingles) - both) >= SIMILAR_SOLUTION:
                        found.append(number)
        yield "similar_solution", found


class _Overlaps:
    """Finds, among the sets of items, those of which another set contains at least the share `share`.

    It then contains at least one of any (1 - share) n + 1 of the n members, so only that many, the rarest, are indexed.
    """

    def __init__(self, sets: dict[int, set[Any]], share: float) -> None:
        self.sets = sets
        self.lookup: dict[Any, list[int]] = {}  # member -> items
        frequency = Counter(chain.from_iterable(sets.values()))
        for item, members in sets.items():
            rarest = sorted(members, key=lambda member: (frequency[member], member))
            for member in rarest[: int((1 - share) * len(members)) + 1]:
                self.lookup.setdefault(member, []).append(item)

    def shared(self, members: set[Any]) -> Iterator[tuple[int, int, int]]:
        """Item, number of members in common, and size of its set, for each that may have enough in common."""
        for item in {item for member in members for item in self.lookup.get(member, ())}:
            yield item, len(self.sets[item] & members), len(self.sets[item])


def fold(text: str) -> str:
    """`text` in lower case, with all white space as single spaces."""
    return " ".join(text.lower().split())


def lower_words(text: str) -> list[str]:
    """The words of a text in lower case; numbers do not count as words."""
    return WORD.findall(text.lower())


def ngrams(words: Sequence[Any], n: int) -> Iterator[tuple[Any, ...]]:
    """Every `n` successive words."""
    return zip(*(words[i:] for i in range(n)), strict=False)


def _ngrams_in(passages: list[str], n: int) -> set[tuple[str, ...]]:
    return {gram for passage in passages for gram in ngrams(lower_words(passage), n)}


def passages_of(prompt: str) -> list[str]:
    """The prose of a prompt: its docstrings if it is Python, all of it otherwise; without the lines of examples."""
    tree = parsed(prompt)
    nodes = [node for node in ast.walk(tree) if isinstance(node, (*DEFINITIONS, ast.Module))] if tree else []
    docstrings = [docstring for node in nodes if (docstring := ast.get_docstring(node))]
    return [
        "\n".join(line for line in passage.split("\n") if not line.lstrip().startswith((">>>", "assert ")))
        for passage in (docstrings or [prompt])
    ]


def solution_tokens(item: Item) -> list[Tokens]:
    """The functions and classes of an item's canonical solution."""
    if not item.solution:
        return []
    return tokens_in_code(item.solution) or tokens_in_code(item.prompt + item.solution)


def exactly(tokens: Tokens) -> str:
    """A string that only equal tokens give."""
    return "\n".join(map(str, tokens))


def token_shingles(tokens: Tokens) -> set[tuple[str, ...]]:
    """The 5-grams of tokens, in which all numbered names are alike."""
    return set(ngrams(["name" if isinstance(token, int) else token for token in tokens], SHINGLE_TOKENS))
