"""Decontamination: which texts hold a problem of a benchmark, or its solution.

Paper: appendix B, functions that have a prompt or a solution of a benchmark as a substring are removed. That is not
enough: Evol-Instruct-110K, filtered so, still holds 82 of HumanEval's 164 problems. So a text also matches when it
shares 8 successive words with a prompt, has most of a prompt's phrases, or has a function that is a canonical solution
but for names, comments, docstrings, annotations and format.

    decontaminator = Decontaminator(["humaneval", "mbpp"], {"mbpp": "mbpp.jsonl"})
    match = decontaminator.match(text)    # Match("humaneval", "HumanEval/53", "same_solution"), or None

Rules, in the order in which they are tried:

    substring           a prompt, its docstring or a solution stands in the text, case and white space folded (paper, B)
    8-gram              8 successive words of a prompt; numbers are no words
    similar_prompt      SIMILAR_PROMPT of a prompt's phrases, 3 successive words each, are in the text
    same_solution       a function has the syntax tree of a canonical solution, names numbered in the order in which
                        they appear
    similar_solution    a function of the text and a solution have a Jaccard similarity of SIMILAR_SOLUTION or more in
                        5-grams of their syntax trees, in which all names that they define are alike

What several problems of a benchmark have in common ("Write a function to find the") is the benchmark's manner of
speaking, and no sign of any of them. Solutions that are no functions (DS-1000) are found as substrings alone, and
LiveCodeBench publishes none. Where a solution is so short that others write the same, same_solution finds these
as well: `def add(a, b): return a + b` is HumanEval/53, whoever wrote it.
"""

from __future__ import annotations

import ast
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from selfalign.code.near_duplicates import drop_docstrings
from selfalign.errors import UserError, warn
from selfalign.ids import content_id
from selfalign.options import DecontaminationOptions

if TYPE_CHECKING:
    from selfalign.benchmarks import Problem

WORD = re.compile(r"[^\W\d]\w*")  # a number is no word: lists of them are alike everywhere
NGRAM_WORDS = 8
PHRASE_WORDS = 3
SIMILAR_PROMPT = 0.6  # of a prompt's phrases: a word that is replaced takes three
MIN_PHRASES = 6  # of a prompt, for similar_prompt
MIN_OWN_PHRASES = 2  # of the 6 phrases in 8 words: "write a function to find the perimeter of" is about no one figure
MIN_SUBSTRING_WORDS = 6  # "return x + y" is the whole of HumanEval/53, and in every other file
COMMON = 3  # tasks of one benchmark that have words in common, which are then no sign of any of them
SHINGLE_TOKENS = 5
SIMILAR_SOLUTION = 0.7
MIN_SIMILAR_TOKENS = 30  # of a function, for similar_solution; one token that differs is then already too much
MIN_ALONE_TOKENS = 30  # of a function that stands for a solution of several: a wrapper of one line does not
UNTYPED = {"annotation", "returns", "type_comment", "ctx", "kind", "type_params", "simple"}


@dataclass(frozen=True)
class Match:
    """The benchmark's item that a text matches, and the rule by which it does."""

    benchmark: str
    task_id: str
    rule: str

    def __str__(self) -> str:
        return f"{self.benchmark} {self.task_id} ({self.rule})"


class Decontaminator:
    """Knows the problems of benchmarks, and finds them in texts.

    Args:
        names: of benchmarks, see `selfalign.benchmarks`; that of one with several sets ("evoeval") stands for them all.
        data: a file or Hub dataset to read instead of the published one, by name.

    Raises:
        UserError: there is no such benchmark, or its problems can't be read: no benchmark is left out silently.
    """

    def __init__(self, names: Sequence[str], data: Mapping[str, str] | None = None) -> None:
        data = data or {}
        if unknown := [known for known in data if known not in names and known.rpartition("-")[0] not in names]:
            raise UserError(f"--benchmark-data has {', '.join(unknown)}, which --decontaminate does not name")
        self.problems = {name: load_problems(name, data) for name in dict.fromkeys(names)}
        items = [(name, *found) for name, some in self.problems.items() for found in some]
        self._items = [(known, problem.task_id) for _, known, problem in items]
        self._learn_texts(
            [[problem.prompt, *passages_of(problem.prompt), *problem_code(problem)] for _, _, problem in items]
        )
        tasks = [(name, problem.entry_point or problem.task_id) for name, _, problem in items]
        self._learn_prompts(tasks, [passages_of(problem.prompt) for _, _, problem in items])
        self._learn_solutions([solution_of(problem) for _, _, problem in items])

    def _learn_texts(self, texts: list[list[str]]) -> None:
        """For substring: first words -> texts that begin so, folded, and their items."""
        self._substrings: dict[tuple[str, ...], list[tuple[str, int]]] = {}
        for item, patterns in enumerate(texts):
            for pattern in dict.fromkeys(map(fold, patterns)):
                words = words_of(pattern)
                if len(words) >= MIN_SUBSTRING_WORDS:
                    self._substrings.setdefault(tuple(words[:MIN_SUBSTRING_WORDS]), []).append((pattern, item))

    def _learn_prompts(self, tasks: list[tuple[str, str]], prompts: list[list[str]]) -> None:
        """For 8-gram: words -> the first item with them; for similar_prompt: the phrases of each item."""
        self._ngrams: dict[tuple[str, ...], int] = {}
        self._phrases = _Overlaps(SIMILAR_PROMPT)
        common, common_phrases = _common(tasks, prompts, NGRAM_WORDS), _common(tasks, prompts, PHRASE_WORDS)
        for item, passages in enumerate(prompts):
            phrases = _ngrams_of(passages, PHRASE_WORDS) - common_phrases
            if len(phrases) >= MIN_PHRASES:
                self._phrases.add(item, phrases)
            for gram in _ngrams_of(passages, NGRAM_WORDS) - common:
                if sum(phrase in phrases for phrase in ngrams(gram, PHRASE_WORDS)) >= MIN_OWN_PHRASES:
                    self._ngrams.setdefault(gram, item)
        self._phrases.build()

    def _learn_solutions(self, solutions: list[list[list[Any]]]) -> None:
        """For same_solution: the largest function -> items, and the functions that a text must have; for
        similar_solution: the shingles of the largest function of each item."""
        self._exact: dict[str, list[tuple[int, frozenset[str]]]] = {}
        self._shingles = _Overlaps(SIMILAR_SOLUTION)
        for item, functions in enumerate(solutions):
            if functions:
                largest = max(functions, key=len)
                needed = [largest] if len(largest) >= MIN_ALONE_TOKENS else functions
                self._exact.setdefault(exactly(largest), []).append((item, frozenset(map(exactly, needed))))
                if len(largest) >= MIN_SIMILAR_TOKENS:
                    self._shingles.add(item, shingles_of(largest))
        self._shingles.build()

    def __len__(self) -> int:
        return len(self._items)

    def __str__(self) -> str:
        return ", ".join(f"{name} ({len(some)} problems)" for name, some in self.problems.items())

    @property
    def hash(self) -> str:
        """16 hexadecimal digits of a hash of all problems."""
        texts = ((set, p.task_id, p.prompt, *problem_code(p)) for some in self.problems.values() for set, p in some)
        return content_id(*chain.from_iterable(texts))

    def match(self, text: str) -> Match | None:
        """The first rule that finds an item in `text`: code, or Markdown with code blocks. Nothing is raised."""
        words = words_of(text)
        for rule, items in chain(self._by_words(text, words), self._by_code(text)):
            if items:
                return Match(*self._items[min(items)], rule)
        return None

    def _by_words(self, text: str, words: list[str]) -> Iterator[tuple[str, list[int]]]:
        folded = None
        found = []
        for gram in ngrams(words, MIN_SUBSTRING_WORDS):
            for pattern, item in self._substrings.get(gram, ()):
                folded = folded or fold(text)
                if pattern in folded:
                    found.append(item)
        yield "substring", found
        yield "8-gram", [self._ngrams[gram] for gram in ngrams(words, NGRAM_WORDS) if gram in self._ngrams]
        phrases = set(ngrams(words, PHRASE_WORDS))
        yield (
            "similar_prompt",
            [item for item, both, size, _ in self._phrases.shared(phrases) if both / size >= SIMILAR_PROMPT],
        )

    def _by_code(self, text: str) -> Iterator[tuple[str, list[int]]]:
        functions = functions_in(text)
        there = set(map(exactly, functions))
        yield "same_solution", [item for key in there for item, needed in self._exact.get(key, ()) if needed <= there]
        found = []
        for tokens in functions:
            if len(tokens) >= MIN_SIMILAR_TOKENS * SIMILAR_SOLUTION:
                for item, both, size, own in self._shingles.shared(shingles_of(tokens)):
                    if both / (size + own - both) >= SIMILAR_SOLUTION:
                        found.append(item)
        yield "similar_solution", found


class _Overlaps:
    """Sets of which others may have a share of `share` or more.

    Such a one has at least one of any (1 - share) n + 1 of a set's n members: only the rarest so many are looked up.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self.sets: list[tuple[int, frozenset[Any]]] = []
        self.lookup: dict[Any, list[int]] = {}

    def add(self, item: int, members: Iterable[Any]) -> None:
        self.sets.append((item, frozenset(members)))

    def build(self) -> None:
        frequency = Counter(member for _, members in self.sets for member in members)
        for number, (_, members) in enumerate(self.sets):
            rarest = sorted(members, key=lambda member: (frequency[member], member))
            for member in rarest[: int((1 - self.share) * len(members)) + 1]:
                self.lookup.setdefault(member, []).append(number)

    def shared(self, members: set[Any]) -> Iterator[tuple[int, int, int, int]]:
        """Item, members in common, size of its set, size of `members`, for each that may have enough in common."""
        candidates = {number for member in members if member in self.lookup for number in self.lookup[member]}
        for number in candidates:
            item, own = self.sets[number]
            yield item, len(own & members), len(own), len(members)


def decontaminator_of(options: DecontaminationOptions) -> Decontaminator | None:
    """What `--decontaminate` asks for, said on standard error; None if it names no benchmark.

    Raises:
        UserError: as `Decontaminator` does.
    """
    if not options.decontaminate:
        warn("no decontamination: --decontaminate names no benchmark")
        return None
    decontaminator = Decontaminator(options.decontaminate, data_by_name(options.benchmark_data))
    print(f"decontamination against {decontaminator}", file=sys.stderr)
    return decontaminator


def record_of(decontaminator: Decontaminator | None, removed: Iterable[Match | str]) -> dict[str, Any]:
    """For run.json and the card: the benchmarks and how many problems they have, and how many rows matched which item.

    `removed` has the match of each row that was removed, as it is or as a string.
    """
    counts = Counter(map(str, removed))
    return {
        "benchmarks": {name: len(some) for name, some in decontaminator.problems.items()} if decontaminator else {},
        "removed": dict(sorted(counts.items(), key=lambda count: (-count[1], count[0]))),
    }


def data_by_name(pairs: Iterable[str]) -> dict[str, str]:
    """What --benchmark-data says: "mbpp=mbpp.jsonl" -> {"mbpp": "mbpp.jsonl"}; UserError if it is not of that form."""
    data = {}
    for pair in pairs:
        name, equals, file = pair.partition("=")
        if not (name and equals and file):
            raise UserError(f"--benchmark-data {pair} is not of the form NAME=FILE")
        data[name] = file
    return data


def load_problems(name: str, data: Mapping[str, str]) -> list[tuple[str, Problem]]:
    """The problems of the benchmark `name`, or of all its sets ("evoeval"), each with the name of its set.

    A problem that several sets have (MBPP's) comes once. UserError if they can't be read.
    """
    from selfalign.benchmarks import benchmark_names, load_benchmark

    sets = [known for known in benchmark_names() if known == name or known.startswith(f"{name}-")]
    if not sets:
        raise UserError(f"no benchmark {name}; there are {', '.join(benchmark_names())}")
    problems: dict[tuple[str, str, str], tuple[str, Problem]] = {}
    for known in sets:
        file = data.get(known) or data.get(name)
        try:
            found = load_benchmark(known).problems(file)
        except UserError as error:
            hint = "" if file else f"; --benchmark-data {known}=FILE reads them from a file"
            raise UserError(f"decontamination needs the problems of {known}: {error}{hint}") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"the problems of {known} can't be read{f' from {file}' if file else ''}: {error!r}"
            ) from None
        for problem in found:
            problems.setdefault((problem.task_id, problem.prompt, problem.canonical_solution), (known, problem))
    return list(problems.values())


def fold(text: str) -> str:
    """`text` in lower case, with one space where there is white space."""
    return " ".join(text.lower().split())


def words_of(text: str) -> list[str]:
    return WORD.findall(text.lower())


def ngrams(words: Sequence[Any], n: int) -> Iterator[tuple[Any, ...]]:
    return zip(*(words[i:] for i in range(n)), strict=False)


def passages_of(prompt: str) -> list[str]:
    """The prose of a prompt: the docstrings, where it is Python, and all of it otherwise; without lines of examples."""
    passages = []
    tree = parsed(prompt)
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            passages.append(ast.get_docstring(node) or "")
    passages = [
        "\n".join(line for line in passage.split("\n") if not line.lstrip().startswith((">>>", "assert ")))
        for passage in ([p for p in passages if p] or [prompt])
    ]
    return passages


def problem_code(problem: Problem) -> list[str]:
    """The code of a problem: its solution, and what it gives to be changed."""
    return [code for code in (problem.canonical_solution, problem.extra.get("before")) if code]


def solution_of(problem: Problem) -> list[list[Any]]:
    """The functions and classes of the canonical solution, as tokens."""
    for code in (problem.canonical_solution, problem.prompt + problem.canonical_solution):
        if problem.canonical_solution and (functions := functions_of(code)):
            return functions
    return []


def _ngrams_of(passages: list[str], n: int) -> set[tuple[str, ...]]:
    return {gram for passage in passages for gram in ngrams(words_of(passage), n)}


def _common(tasks: list[tuple[str, str]], prompts: list[list[str]], n: int) -> set[tuple[str, ...]]:
    """The n-grams that the prompts of COMMON tasks of one benchmark have.

    `tasks` are benchmark and function of each item: MBPP's sets word some tasks in two ways, which are still one task.
    """
    owners: dict[tuple[str, tuple[str, ...]], set[str]] = {}
    for (name, task), passages in zip(tasks, prompts, strict=True):
        for gram in _ngrams_of(passages, n):
            owners.setdefault((name, gram), set()).add(task)
    return {gram for (_, gram), some in owners.items() if len(some) >= COMMON}


def parsed(code: str) -> ast.Module | None:
    """The syntax tree, or None: `code` is untrusted."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def functions_in(text: str) -> list[list[Any]]:
    """The functions of a text that is Python, or of the code blocks of one that is Markdown, nested ones too."""
    from selfalign.code.markdown import code_blocks

    if functions := functions_of(text, nested=True):
        return functions
    if "```" not in text and "~~~" not in text:
        return []
    return [tokens for block in code_blocks(text) for tokens in functions_of(block.code, nested=True)]


def functions_of(code: str, nested: bool = False) -> list[list[Any]]:
    """The functions and classes of `code`, those inside of others too if `nested`, each as tokens: see `tokens_of`."""
    tree = parsed(code)
    if not tree:
        return []
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    outside = {node.name for node in tree.body if isinstance(node, kinds)}
    outside |= {
        name.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for name in node.targets
        if isinstance(name, ast.Name)
    }
    try:
        drop_docstrings(tree)
        nodes = ast.walk(tree) if nested else tree.body
        return [tokens_of(node, outside) for node in nodes if isinstance(node, kinds)]
    except RecursionError:
        return []


def tokens_of(function: ast.AST, outside: set[str]) -> list[Any]:
    """A syntax tree as a flat list: what it is made of as strings, and names that it defines, or that are defined
    `outside` of it, as numbers in the order in which they appear. Annotations are left out."""
    names, attributes = set(outside), set()
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.ClassDef):
            names.add(node.name)
            attributes |= {
                child.name for child in node.body if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            }
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ExceptHandler)) and node.name:
            names.add(node.name)
        elif isinstance(node, ast.alias) and node.asname:
            names.add(node.asname)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            attributes.add(node.attr)
    numbers: dict[str, int] = {}
    tokens: list[Any] = []

    def name(identifier: str | None, known: set[str], mark: str = "") -> None:
        if identifier in known:
            tokens.append(numbers.setdefault(f"{mark}{identifier}", len(numbers)))
        else:
            tokens.append(f"{mark}{identifier}")

    def add(node: Any) -> None:
        if isinstance(node, list):
            for child in node:
                add(child)
            tokens.append(";")
        elif isinstance(node, ast.Name):
            name(node.id, names)
        elif isinstance(node, ast.Constant):
            tokens.append(repr(node.value))
        elif isinstance(node, ast.arg):
            name(node.arg, names)
        elif isinstance(node, ast.Attribute):
            add(node.value)
            name(node.attr, attributes, ".")
        elif isinstance(node, ast.AnnAssign):
            if node.value:
                tokens.append("Assign")
                add([node.target])
                add(node.value)
        elif isinstance(node, ast.Call):
            tokens.append("Call")
            add(node.func)
            add(node.args)
            own = isinstance(node.func, ast.Name) and node.func.id in names
            for keyword in node.keywords:
                name(keyword.arg, names if own else set(), "" if own else "=")
                add(keyword.value)
            tokens.append(";")
        elif isinstance(node, ast.AST):
            tokens.append(type(node).__name__)
            for field in node._fields:
                if field not in UNTYPED:
                    add(getattr(node, field, None))
        elif isinstance(node, str):
            name(node, names)
        elif node is not None:
            tokens.append(repr(node))

    add(function)
    return tokens


def exactly(tokens: list[Any]) -> str:
    """A string that is the same for the same tokens."""
    return "\n".join(map(str, tokens))


def shingles_of(tokens: list[Any]) -> set[tuple[str, ...]]:
    """The 5-grams of tokens, with all names alike that are numbers."""
    return set(ngrams(["name" if isinstance(token, int) else token for token in tokens], SHINGLE_TOKENS))
