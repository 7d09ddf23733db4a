"""Dataset cards: where a dataset comes from, for people and for the search of the Hub."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from selfalign.runner.provenance import (
    UNKNOWN,
    license_data,
    licenses_of_models,
    models_of,
    sources_of,
    without_local_paths,
)
from selfalign.runner.source import MAIN_TABLE, part_prefix

if TYPE_CHECKING:
    from huggingface_hub import DatasetCard

BEGIN, END = "<!-- selfalign: begin -->", "<!-- selfalign: end -->"
OUR_LICENSE = re.compile(r"<!-- license as counted: (\S+) -->")  # what the YAML says unless a person changed it
REPOSITORIES_SHOWN, ITEMS_SHOWN = 20, 200  # on a card; run.json has all
PACKAGES = ("datasets", "huggingface_hub", "transformers", "trl", "torch", "basedpyright", "pyrefly")


def versions() -> dict[str, str]:
    """Versions of the packages that can change what comes out."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def dataset_card(run: dict[str, Any], existing: str | None, *, on_hub: bool, token: str | None = None) -> str:
    """The README.md of the dataset that `run` (its run.json) describes, in place of `existing`.

    Its licence is that of the models that generated something in it, for which the Hub is asked if the dataset is
    `on_hub`; without models, that of the seeds.

    What a person wrote into `existing`, above or below our text or in the YAML, stays: only our keys and the text
    between our two marks are replaced.
    """
    from huggingface_hub import DatasetCardData

    card = _card_of(existing or "")
    data: dict[str, Any] = card.data.to_dict()
    data |= {
        "size_categories": [size_category(run["rows_out"])],
        "tags": sorted({*_tags_of(data.get("tags")), "selfcodealign", "synthetic"}),
    }
    if on_hub:  # in a folder they make load_dataset take another one of the same name from its cache
        data["configs"] = [
            {"config_name": table, "data_files": [{"split": "train", "path": f"{part_prefix(table)}*.parquet"}]}
            for table in _filled_tables(run)  # load_dataset fails on a path without files
        ]
    found = OUR_LICENSE.search(existing or "")
    said = found and found[1]
    if data.get("license") == said:  # what we said ourselves, or nothing: nobody chose it
        data = {name: value for name, value in data.items() if name not in ("license", "license_name")}
        models = licenses_of_models(models_of(run), token, ask=on_hub)
        data |= license_data(models or run["lineage"]["license"])
        said = data.get("license")
    if on_the_hub := list(dict.fromkeys(source["dataset"] for source in sources_of(run) if "dataset" in source)):
        data["source_datasets"] = on_the_hub[::-1]
    data.pop("dataset_info", None)  # with the sizes of an earlier state, load_dataset refuses later parts
    note = f"\n\n<!-- license as counted: {said} -->" if said else ""
    text = marked(card.text, BEGIN, END, _story(run) + note)
    return f"---\n{DatasetCardData(**data).to_yaml()}\n---\n\n{text}"


def _card_of(existing: str) -> DatasetCard:
    """The card `existing`; if its YAML would make load_dataset refuse the dataset, it becomes the start of the text."""
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard

    try:
        card = DatasetCard(existing if existing.lstrip().startswith("---") else f"---\n{{}}\n---\n{existing}")
        data: Any = card.data
        MetadataConfigs.from_dataset_card_data(data)
    except Exception:  # no YAML, a list, keys that are no strings, bad configs: errors of four libraries
        card = DatasetCard(f"---\n{{}}\n---\n{existing}")
    return card


def _tags_of(tags: Any) -> list[str]:
    """The tags in a card's YAML as strings, even if it has a single one, or numbers."""
    return [str(tag) for tag in (tags if isinstance(tags, list) else [tags]) if tag is not None]


def marked(text: str, begin: str, end: str, ours: str) -> str:
    """`text` with `ours` between the marks `begin` and `end`: in place of what stood there, or else at the end."""
    ours = f"{begin}\n{ours}\n{end}"
    head, mark, rest = text.rpartition(begin)
    if mark and end in rest:  # a person may have removed one of the two, or several
        return f"{head}{ours}{rest.partition(end)[2]}".strip() + "\n"
    return f"{text.strip()}\n\n{ours}".strip() + "\n"


def size_category(rows: int) -> str:
    """The Hub's name for the size of a dataset of so many rows."""
    bounds = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")]
    return next((name for bound, name in bounds if rows < bound), "1M<n<10M" if rows < 10_000_000 else "n>10M")


def _story(run: dict[str, Any]) -> str:
    identity = run["identity"]
    facts = {"input": _pinned(run["input"])}
    if models := models_of(run):
        facts["model"] = ", ".join(
            f"`{m['model']}`" + (f" at `{m['revision']}`" if m["revision"] else "") for m in models
        )
    if identity.get("prompts"):
        facts["prompts"] = f"`{identity['prompts']}`"
    facts |= {name: f"`{value}`" for name, value in identity["options"].items() if value not in (None, [], "")}
    if run.get("generation"):
        facts["generation"] = generation_of(run["generation"])
    facts["versions"] = ", ".join(f"{name} {v}" for name, v in run["versions"].items())
    table = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return without_local_paths(f"""# {run["step"]}

Made with a step of SelfCodeAlign ([arXiv 2410.24198](https://arxiv.org/abs/2410.24198)) by

```bash
{run["command"]}
```

| | |
|---|---|
{table}

## The funnel so far

{funnel_table(run["funnel"])}{_rules(run)}{_decontamination(run)}{_tables(run)}{_lineage(run)}""")


def _pinned(source: dict[str, str]) -> str:
    return f"`{source['name']}` at `{source.get('revision') or source.get('fingerprint') or ''}`"


def _filled_tables(run: dict[str, Any]) -> dict[str, int]:
    """The tables (configurations) that have rows, with their number."""
    tables = {MAIN_TABLE: run, **run.get("tables", {})}
    return {table: entry["rows_out"] for table, entry in tables.items() if entry["rows_out"]}


def _table(columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    """A Markdown table with names in the first column and numbers in the others."""
    lines = [f"| {' | '.join(columns)} |", f"|---{'|---:' * (len(columns) - 1)}|"]
    for name, *numbers in rows:
        lines.append(f"| {name} | {' | '.join(f'{number:,}' for number in numbers)} |")
    return "\n".join(lines)


def _more(hidden: int) -> str:
    return f"\n\nand {hidden:,} more, in `run.json`" if hidden else ""


def _rules(run: dict[str, Any]) -> str:
    """How many rows each rule of the step dropped, in the order of the rules; "" if the step has none."""
    if not (dropped := run.get("dropped")):
        return ""
    left, rows = run["rows_in"], []
    for rule, n in dropped:
        left -= n
        rows.append((rule.replace("_", " "), n, left))
    return "\n\n## What each rule left out\n\n" + _table(("rule", "rows", "rows left"), rows)


def _decontamination(run: dict[str, Any]) -> str:
    """Which benchmarks the data was compared with, and how many rows each of their items removed; "" if with none."""
    if not (record := run.get("decontamination")) or not record["benchmarks"]:
        return ""
    against = ", ".join(f"{name} ({problems:,} problems)" for name, problems in record["benchmarks"].items())
    removed = list(record["removed"].items())
    table = f"\n\n{_table(('item', 'rows removed'), removed[:ITEMS_SHOWN])}" if removed else " Nothing was removed."
    return f"\n\n## Decontamination\n\nAgainst {against}.{table}{_more(len(removed[ITEMS_SHOWN:]))}"


def _tables(run: dict[str, Any]) -> str:
    """The tables (configurations) of a dataset that has several, and the number of rows in each; "" if it has one."""
    filled = _filled_tables(run)
    if not set(filled) - {MAIN_TABLE}:
        return ""
    return "\n\n## Configurations\n\n" + _table(("configuration", "rows"), filled.items())


def _lineage(run: dict[str, Any]) -> str:
    """The datasets that each step read, what the licence follows from, and the licences and repositories of the code
    that the rows were made from, as tables; "" if not known."""
    text = sources_table(run)
    if models := models_of(run):
        names = " and ".join(f"`{name}`" for name in dict.fromkeys(model["model"] for model in models))
        text += f"\n\nWhat {names} generated takes the licence of the model."
    for name, plural, most in (("license", "Licences", None), ("repository", "Repositories", REPOSITORIES_SHOWN)):
        counts = run["lineage"][name]
        if set(counts) <= {UNKNOWN}:
            continue
        shown = list(counts.items())[:most]
        text += f"\n\n## {plural} of the seeds\n\n{_table((name, 'rows'), shown)}{_more(len(counts) - len(shown))}"
    return text


def sources_table(run: dict[str, Any]) -> str:
    """The datasets that each step read, as a section of a card; "" if it was a single one."""
    if len(sources := sources_of(run)) < 2:
        return ""
    rows = "\n".join(f"| {source['step']} | {_pinned(source)} |" for source in sources)
    return f"\n\n## Lineage\n\n| step | what it read |\n|---|---|\n{rows}"


def generation_of(used: dict[str, Any]) -> str:
    """What generation took: servers, tokens, time, and the servers' faults."""
    hours = used["seconds"] / 3600
    words = [
        f"{used['replicas']} x {used['api']}, seeds {used['seeds']}",
        f"{used['requests']:,} requests, {used['tokens']:,} tokens in {hours:.2f} h",
        f"{used['tokens'] / max(1e-9, used['seconds']):,.0f} tokens/s",
    ]
    words += [f"{n:,} x {fault}" for fault, n in sorted(used["faults"].items(), key=lambda fault: -fault[1])]
    return "; ".join(words)


def funnel_table(funnel: list[dict[str, Any]]) -> str:
    """The rows that went into and came out of each step, and why rows were dropped, as a Markdown table."""
    lines = ["| step | rows in | rows out | of these |", "|---|---:|---:|---|"]
    for entry in funnel:
        counts = sorted(entry["counts"].items(), key=lambda count: -count[1])
        why = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in counts)
        lines.append(f"| {entry['step']} | {entry['rows_in']:,} | {entry['rows_out']:,} | {why} |")
    return "\n".join(lines)
