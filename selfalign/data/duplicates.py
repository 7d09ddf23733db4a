"""Rows that repeat each other: which one of each group is kept, and by which rule the others are dropped.

Only ids and texts matter: neither the order of the rows nor the number of shards changes what is kept. How texts are
compared is in `selfalign.code.near_duplicates`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any

from selfalign.code.javascript import names_of_definitions as javascript_names
from selfalign.code.javascript import tree_of, without_comments
from selfalign.code.markdown import javascript_code
from selfalign.code.near_duplicates import band_hashes, bands_of, exact_key, grouped, near_duplicates
from selfalign.code.parsing import code_without_comments
from selfalign.data.filters import names_of_definitions
from selfalign.data.languages import code_in, language_of
from selfalign.options import StepOptions
from selfalign.runner.source import Source, open_source
from selfalign.runner.step import run_step
from selfalign.runner.table import Table

Row = dict[str, Any]
MANY = 10_000  # rows take seconds to compare: a progress bar is shown
NEAR_DUPLICATE = 0.7  # Jaccard similarity of 5-word shingles from which texts repeat each other (reference)


def plain_code(row: Row) -> str | None:
    """The code of a row's response without comments and docstrings, always formatted in the same way."""
    language = language_of(row)
    code = code_in(row["response"], language)
    return code and (without_comments if language == "javascript" else code_without_comments)(code)


def names_in(row: Row) -> frozenset[str]:
    """The names that a row's response defines, as `names_of_definitions` gives them; those of different languages
    differ."""
    if language_of(row) != "javascript":
        return names_of_definitions(row["response"])
    root = tree_of(javascript_code(row["response"]) or "")
    names = javascript_names(root) if root else ()
    return frozenset(f"{name.replace('_', '').lower()} in javascript" for name in names)


# The rules in their order, which are those of the reference implementation: rows repeat each other if they have the
# same key, or if their texts are near-duplicates. An empty key or text (no names, no code) repeats nothing.
SAME: dict[str, Callable[[Row], Any]] = {
    "same_instruction": lambda row: exact_key(row["instruction"]),
    "same_response": lambda row: exact_key(row["response"]),
    "same_names": names_in,
}
SIMILAR: dict[str, Callable[[Row], str | None]] = {
    "near_instruction": lambda row: row["instruction"],
    "near_response": lambda row: row["response"],
    "near_code": plain_code,
}


def repeated_rows(rows: Sequence[Row], lots: Sequence[str], skip: Collection[str] = ()) -> dict[int, tuple[str, int]]:
    """The rows that duplicate another: their number -> the rule, and the number of the row that is kept instead.

    Args:
        rows: with `instruction` and `response`.
        lots: a distinct string for each row; the row with the lowest in a group is kept.
        skip: rules of SAME and SIMILAR to leave out.
    """
    found: dict[int, tuple[str, int]] = {}
    for rule, what in {**SAME, **SIMILAR}.items():
        if rule in skip:
            continue
        compared = {i: value for i, row in enumerate(rows) if i not in found and (value := what(row))}
        if rule in SAME:
            first = {compared[i]: i for i in sorted(compared, key=lots.__getitem__, reverse=True)}
            kept = [first[key] for key in compared.values()]
        else:
            numbers, progress = list(compared), rule if len(compared) >= MANY else ""
            groups = near_duplicates(list(compared.values()), [lots[i] for i in numbers], NEAR_DUPLICATE, progress)
            kept = [numbers[group] for group in groups]
        found |= {i: (rule, other) for i, other in zip(compared, kept, strict=True) if other != i}

    def kept_for(i: int) -> int:
        while i in found:  # a later rule may have dropped what an earlier one kept
            i = found[i][1]
        return i

    return {i: (rule, kept_for(other)) for i, (rule, other) in found.items()}


def near_duplicates_by_step(
    options: StepOptions, source: Source, text_of: Callable[[dict[str, Any]], str], threshold: float, name: str
) -> dict[str, str]:
    """Near-duplicates among more rows than fit into memory: the id of each that is dropped -> the id of the one kept.

    The signatures are computed by a step of its own, from `source` to OUTPUT-signatures-NAME, which resumes and which
    `--executor` and `--shard` divide. Bands are then read and sorted one at a time, with 24 bytes per row in memory;
    only the texts of candidates are read.

    Args:
        options: of the script; its output only serves as a name.
        source: rows with an `id`.
        text_of: row -> the text to compare.
        threshold: of the Jaccard similarity.
        name: of the texts, such as "instruction".

    Raises:
        UserError, SystemExit: as `selfalign.runner.step.run_step` does.
    """
    import numpy as np
    import pyarrow.compute as pc

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
    first = grouped(read, len(ids), lambda i: texts[int(by_key[i])].as_py(), threshold, name)
    repeats = np.flatnonzero(first != np.arange(len(first)))
    return {ids[int(by_key[i])].as_py(): ids[int(by_key[first[i]])].as_py() for i in repeats}
