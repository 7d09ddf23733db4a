"""What a report is about: a dataset that a step wrote, or the folder of a whole run with several of them."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from selfalign.errors import UserError, warn
from selfalign.runner.hub import hub_name, is_hub_id, with_retries
from selfalign.runner.source import Source, open_source

Record = dict[str, Any]


@dataclass
class Run:
    """A run of some steps, of which one dataset is shown.

    Attributes:
        label: its name beside other runs.
        name: of the dataset that is shown.
        record: the run.json of that dataset, {} if no step wrote it.
        rows: the dataset; None if its step dropped all rows.
        rejected: what its rules dropped, with the `reason`.
        samples: the executions that its rows were chosen from; `rows` itself if these are executions.
        preferences: the pairs of chosen and rejected responses.
        results: results.json of each benchmark, by its name.
        audit: the rules of audit.json, by their names.
    """

    label: str
    name: str
    record: Record
    rows: Source | None = None
    rejected: Source | None = None
    samples: Source | None = None
    preferences: Source | None = None
    results: dict[str, Record] = field(default_factory=dict)
    audit: Record = field(default_factory=dict)

    def pairs(self) -> dict[str, str]:
        """The rejected response of each row that has one, by the row's id."""
        if not self.preferences or not {"chosen_id", "rejected"} <= set(self.preferences.rows.column_names):
            return {}
        pairs = self.preferences.read(None, ("chosen_id", "rejected"))
        return {row["chosen_id"]: row["rejected"][-1]["content"] for _, row in pairs}

    @cached_property
    def pass_rate(self) -> tuple[int, int] | None:
        """How many samples passed their tests, of how many that were run; None if none were."""
        entries = [entry for entry in self.record.get("funnel", ()) if entry["step"] == "execute"]
        if not entries or not entries[-1]["rows_out"]:
            return None
        return entries[-1]["counts"].get("passed", 0), entries[-1]["rows_out"]


def open_run(
    place: str, executions: str | None = None, *, look_for_samples: bool = True, token: str | None = None
) -> Run:
    """The run LABEL=PLACE, or PLACE: a dataset (Hub id, folder or URL), or a local folder with the datasets of a run.

    `executions` is the dataset that the rows were chosen from; by default, the one that run.json names, if it can be
    read. UserError if nothing can be read there.
    """
    label, equals, path = place.partition("=")
    if not equals or "/" in label:
        label, path = "", place
    folder = Path(path).expanduser()
    inner = [] if is_hub_id(path) or (folder / "run.json").exists() else sorted(_datasets_in(folder))
    if not inner:
        run = _open_dataset(path, executions, token, look_for_samples)
    else:
        # What comes last in the chain says most; benchmarks, audits and models are shown beside it.
        shown = [name for name in inner if not (name / "results.json").exists() and (name / "data").is_dir()]
        shown = [name for name in shown if not (name / "audit.json").exists()]
        if not shown:
            raise UserError(f"{path} has no dataset of a step that makes data: it has only results or models")
        last = max(shown, key=lambda name: len(_read(name, "run.json").get("funnel", ())))
        run = _open_dataset(str(last), executions, token, look_for_samples)
        for name in inner:
            run.audit = run.audit or _read(name, "audit.json").get("rules", {})
            if result := _read(name, "results.json"):
                key = str(result.get("benchmark") or name.name)
                run.results[key if name.parent == folder else f"{name.parent.name}: {key}"] = result  # "before: ..."
    run.label = label or path.rstrip("/").rsplit("/", 1)[-1]
    return run


def _datasets_in(folder: Path) -> list[Path]:
    """The outputs of steps below a folder."""
    found = [file.parent for depth in ("*/run.json", "*/*/run.json") for file in folder.glob(depth)]
    return [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]


def _read(folder: Path, file: str) -> Record:
    """A JSON file of a folder, {} if it is not there or holds something else."""
    with contextlib.suppress(OSError, ValueError):
        content = json.loads((folder / file).read_text())
        return content if isinstance(content, dict) else {}
    return {}


def _open_dataset(name: str, executions: str | None, token: str | None, look_for_samples: bool) -> Run:
    source = open_source(name, token=token)
    record = source.run
    run = Run("", name, record, rows=source)
    tables = {table: entry["rows_out"] for table, entry in record.get("tables", {}).items()}
    if tables.get("rejected"):
        run.rejected = open_source(name, config="rejected", token=token)
    if tables.get("preferences"):
        run.preferences = open_source(name, config="preferences", token=token)
    if {"passed", "outcome"} <= set(source.rows.column_names) and record.get("step") != "select":
        run.samples = source
    elif look_for_samples and (record.get("step") == "select" or executions):
        run.samples = open_samples(name, record, executions, token)
    files = {"audit.json": {}, "results.json": {}} | files_beside(name, token)
    run.audit = files["audit.json"].get("rules", {})
    if result := files["results.json"]:
        run.results[str(result.get("benchmark") or "benchmark")] = result
    return run


def open_samples(dataset: str, record: Record, executions: str | None, token: str | None) -> Source | None:
    """The dataset that `dataset` was selected from: `executions`, or what its run.json names if that can be read there
    or beside `dataset`."""
    if executions:
        return open_source(executions, columns=("id", "passed"), token=token)
    source, problem = record.get("input", {}), None
    names = [f"{source['dataset']}@{source['revision']}"] if "dataset" in source else [source.get("name", "")]
    if not is_hub_id(dataset) and "://" not in dataset:  # the run may have been moved, or started in another folder
        names.append(str(Path(dataset).expanduser().parent / Path(names[0]).name))
    for name in filter(None, names):
        try:
            found = open_source(name, columns=("id", "passed"), token=token)
        except UserError as error:
            problem = problem or error
        else:
            if found.pin == {key: value for key, value in source.items() if key in found.pin} or name == names[0]:
                return found
    warn(f"the report has no figures of the executions: {problem or 'those beside it are of another run'}")
    return None


def files_beside(name: str, token: str | None) -> dict[str, Record]:
    """audit.json and results.json of a dataset, those that it has."""
    from fsspec.core import url_to_fs
    from huggingface_hub import HfFileSystem

    on_hub = is_hub_id(name)
    if on_hub:
        fs, root = HfFileSystem(token=token), f"datasets/{hub_name(name)}"
    else:
        fs, root = url_to_fs(str(Path(name).expanduser()) if "://" not in name else name)
    found = {}
    for file in ("audit.json", "results.json"):
        path = f"{root}/{file}"
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, ValueError):
            text = with_retries(lambda path=path: fs.cat_file(path)) if on_hub else fs.cat_file(path)
            content = json.loads(text)
            found[file] = content if isinstance(content, dict) else {}
    return found
