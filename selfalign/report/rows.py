"""The rows on a report's page: which of a dataset's rows, under which word, and what is shown of each.

A row becomes an `Entry` of the list, with what it can be sorted and filtered by, and a body of facts and texts, which
the page unpacks only when it is opened or searched.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from selfalign.ids import content_id
from selfalign.report.runs import Run
from selfalign.runner.source import Source

ROWS = 20_000  # on a page; more only make it larger, see `--rows`
CHUNK_ROWS = 200  # that are packed together: what is unpacked when one of them is opened
TEXT_LIMIT = 20_000  # characters of a text on the page; a longer one is cut, and says so
TITLE_LIMIT = 160
ACCEPTED, NOT_DRAWN = "accepted", "not_drawn"

Row = dict[str, Any]

# Texts in the order of the page, with their heading and kind: prose, Markdown (prose with code between fences), code.
TEXTS = {
    "instruction": ("Instruction", "markdown"),
    "prompt": ("Prompt", "code"),
    "response": ("Response", "markdown"),
    "code": ("Code", "code"),
    "completion": ("Completion", "markdown"),
    "tests": ("Tests", "markdown"),
    "detail": ("How it ended", "prose"),
    "content": ("Seed", "code"),
}
# The first of these that a row has is its line in the list.
TITLES = ("instruction", "concepts", "name", "prompt", "content", "response", "problem", "text")
# Said by the list, or of use to programs only.
NOT_SHOWN = {
    *("id", "task_id", "reason", "passed", "category", "difficulty", "program", "messages", "prompt_hash", "docstring"),
    *("seed_id", "concepts_id", "shown_tests", "language", "sample", "cleaned"),
}


class Group(NamedTuple):
    """Rows of a source that stand under the same word in the list, such as `accepted` or `timeout`."""

    word: str
    source: Source
    positions: list[int]


@dataclass
class Page:
    """What the script of the page gets.

    Attributes:
        index: columns of equal length, one value a row, and the names that their numbers stand for.
        chunks: the bodies of `CHUNK_ROWS` rows each, packed.
        there: how many rows the datasets have, those on the page and those left out.
    """

    index: dict[str, Any]
    chunks: list[str]
    there: int = 0
    shown: int = 0


@dataclass
class _Index:
    """The columns of the list while they are made."""

    names: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    columns: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))

    def number(self, column: str, name: str) -> int:
        """The number that stands for `name` in a column."""
        return self.names[column].setdefault(name, len(self.names[column]))

    def add(self, run: str, word: str, row: Row, rates: Mapping[str, float]) -> None:
        """Add a row to the list."""
        task = _text(row.get("task_id"))
        values = {"run": run, "group": word.replace("_", " "), "category": row.get("category"), "task": task}
        for column, value in (values | {"difficulty": row.get("difficulty")}).items():
            self.columns[column].append(self.number(column, str(value or "")))
        self.columns["id"].append(_text(row.get("id")))
        self.columns["title"].append(title_of(row))
        rate = row.get("pass_rate") if "pass_rate" in row else rates.get(task or "")
        for column, value in (("score", row.get("mutation_score")), ("rate", rate)):
            number = value if isinstance(value, int | float) else math.nan  # datasets of others may have texts
            self.columns[column].append(round(number, 4) if math.isfinite(number) else None)


def pack_rows(runs: Sequence[Run], limit: int = ROWS) -> Page:
    """The rows of all runs, at most `limit`, of which each run gets its share."""
    index, bodies, there = _Index(), [], 0
    for run in runs:
        groups = groups_of(run)
        there += sum(len(group.positions) for group in groups)
        rates = {task: passed / n for task, (passed, n) in counts_of_tasks(run.samples).items()}
        pairs = run.pairs()
        for group in spread(groups, limit // len(runs)):
            for _, row in group.source.read(group.positions):
                index.add(run.label, group.word, row, rates)
                bodies.append(body_of(row, pairs.get(_text(row.get("id")))))
    names = {column: list(numbers) for column, numbers in index.names.items()}
    chunks = [packed(bodies[start : start + CHUNK_ROWS]) for start in range(0, len(bodies), CHUNK_ROWS)]
    about = {"names": names, "rows": dict(index.columns), "chunkRows": CHUNK_ROWS}
    return Page(about, chunks, there, len(bodies))


def packed(value: Any) -> str:
    """`value` as JSON, compressed by zlib, in base64: browsers unpack that by themselves."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    return base64.b64encode(zlib.compress(text.encode("utf-8", "replace"))).decode()


# Which rows -----------------------------------------------------------------------------------------------------------


def groups_of(run: Run) -> list[Group]:
    """All rows of a run: the accepted ones, then the others by the reason why they were not.

    The rule that rejected a row says more than how its program ended. What passed and was not rejected was not drawn.
    """
    if run.rows is None:
        return []
    if not (run.rejected or run.samples) or run.samples is run.rows:
        return _grouped(run.rows, range(len(run.rows)), word_of)
    groups = [Group(ACCEPTED, run.rows, list(range(len(run.rows))))]
    listed = set(_column(run.rows, "id"))
    if run.rejected:
        groups += _grouped(run.rejected, range(len(run.rejected)), lambda row: row["reason"], "reason")
        listed |= set(_column(run.rejected, "id"))
    if run.samples:
        rest = [position for position, id in enumerate(_column(run.samples, "id")) if id not in listed]
        groups += _grouped(run.samples, rest, lambda row: NOT_DRAWN if row.get("passed") else word_of(row))
    return [groups[0], *sorted(groups[1:], key=lambda group: -len(group.positions))]


WORD_COLUMNS = ("right", "passed", "outcome", "error", "finish_reason")


def word_of(row: Row) -> str:
    """The word that a row stands under in the output of any step."""
    if row.get("right") is not None:  # of an audit
        return f"{'passed' if row.get('passed') else 'did not pass'}, {'right' if row['right'] else 'wrong'}"
    return str(row.get("outcome") or row.get("error") or row.get("finish_reason") or "row")


def _grouped(source: Source, positions: Sequence[int], word: Any, *columns: str) -> list[Group]:
    """`positions` by the word of their rows, the largest group first."""
    wanted = [name for name in columns or WORD_COLUMNS if name in source.rows.column_names]
    groups: dict[str, list[int]] = defaultdict(list)
    if not wanted:
        groups["row"] = list(positions)
    else:
        for position, row in source.read(positions, wanted) if positions else ():
            groups[str(word(row))].append(position)
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    return [Group(name, source, found) for name, found in ordered]


def _column(source: Source, name: str) -> list[Any]:
    if name not in source.rows.column_names:
        return []
    return source.rows.select_columns([name]).with_format("arrow")[:][name].to_pylist()


def spread(groups: Sequence[Group], room: int) -> list[Group]:
    """At most `room` rows of the groups. Where not all fit, the first group gets at least half of it, the others equal
    shares of the rest, and the rows with the lowest hashes of their ids are taken."""
    if sum(len(group.positions) for group in groups) <= room:
        return list(groups)
    others = sum(len(group.positions) for group in groups[1:])
    shares = {0: min(len(groups[0].positions), max(room // 2, room - others))}
    left = room - shares[0]
    by_size = sorted(range(1, len(groups)), key=lambda number: len(groups[number].positions))
    for i, number in enumerate(by_size):
        shares[number] = min(len(groups[number].positions), left // (len(by_size) - i))
        left -= shares[number]
    return [group._replace(positions=_lowest(group, shares[number])) for number, group in enumerate(groups)]


def _lowest(group: Group, share: int) -> list[int]:
    ids = _column(group.source, "id")
    if share >= len(group.positions) or not ids:
        return group.positions[:share]
    lots = sorted((content_id("report", ids[position]), position) for position in group.positions)
    return sorted(position for _, position in lots[:share])


def counts_of_tasks(samples: Source | None) -> dict[str, tuple[int, int]]:
    """How many of each task's samples passed, and how many there are; the task is "" where it is not known."""
    if not samples or not {"task_id", "passed"} <= set(samples.rows.column_names):
        return {}
    total, passed = Counter(), Counter()
    for task, each in zip(_column(samples, "task_id"), _column(samples, "passed"), strict=True):
        total[_text(task)] += 1
        passed[_text(task)] += bool(each)
    return {task: (passed[task], n) for task, n in total.items()}


# What is shown of a row -----------------------------------------------------------------------------------------------


def title_of(row: Row) -> str:
    """The line of a row in the list."""
    longest = max((value for value in row.values() if isinstance(value, str)), key=len, default=row.get("id"))
    text = next((row[name] for name in TITLES if row.get(name)), longest)
    text = ", ".join(map(str, text)) if isinstance(text, list) else _text(text)
    line = " ".join(text[: 4 * TITLE_LIMIT].split())
    return line if len(line) <= TITLE_LIMIT else line[: TITLE_LIMIT - 1] + "…"


def body_of(row: Row, rejected: str | None = None) -> dict[str, Any]:
    """What an open row shows: `facts` as pairs of name and value, and `parts` as triples of heading, kind and text.

    `rejected` is the failing response of its pair of preferences.
    """
    parts = [[heading, kind, shortened(row[name])] for name, (heading, kind) in TEXTS.items() if _shown(name, row)]
    if rejected:
        parts.append(["Difference from the rejected response of the pair", "diff", shortened(rejected)])
    facts = []
    for name, value in row.items():
        if name in NOT_SHOWN or name in TEXTS or value is None or value in ("", []):
            continue
        if isinstance(value, str) and (len(value) > TITLE_LIMIT or "\n" in value):
            parts.append([name.replace("_", " "), "code", shortened(value)])
        else:
            facts.append([name.replace("_", " "), _fact(value)])
    return {"facts": facts, "parts": parts}


def _shown(name: str, row: Row) -> bool:
    """Whether a text is shown: not what the model wrote word for word if what was read from it is there."""
    return bool(row.get(name)) and not (name == "completion" and (row.get("response") or row.get("code")))


def _fact(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return shortened(", ".join(map(str, value)))
    return shortened(value)


def shortened(text: object) -> str:
    """`text`, cut at TEXT_LIMIT with a note of how much is missing."""
    text = _text(text)
    return text if len(text) <= TEXT_LIMIT else f"{text[:TEXT_LIMIT]}\n[… {len(text) - TEXT_LIMIT:,} more characters]"


def _text(value: object) -> str:
    return "" if value is None else str(value)


def first_rows(run: Run, count: int) -> Iterator[Row]:
    """The rows that a card shows as examples: of those with the shortest texts, the ones with the lowest hashes."""
    groups = groups_of(run)
    if groups:
        source = groups[0].source
        few = groups[0]._replace(positions=_lowest(groups[0], 10 * count))
        rows = [row for _, row in source.read(few.positions)]
        rows.sort(key=lambda row: sum(len(text) for _, _, text in body_of(row)["parts"]))
        yield from rows[:count]
