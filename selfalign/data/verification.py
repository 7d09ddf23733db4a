"""Whether a dataset is what it says it is: hashes, ids, run.json, and the program of a row.

Each check gives faults as sentences; none means that what could be checked agrees. What a dataset of another origin
does not have (parts named by a hash, run.json, our ids) is no fault, and is said as not checked.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfalign.code.markdown import code_blocks
from selfalign.data.conversations import conversation_of, is_repair
from selfalign.data.javascript_seeds import is_javascript_folder, open_javascript_files
from selfalign.data.languages import code_in, language_of, programs_of
from selfalign.data.python_files import open_python_files
from selfalign.errors import UserError
from selfalign.ids import content_id
from selfalign.runner.hub import is_hub_id, with_retries
from selfalign.runner.part import PART, Part, lineage_in, read_part
from selfalign.runner.provenance import UNKNOWN
from selfalign.runner.source import MAIN_TABLE, Source, open_source, recorded_selections

Row = dict[str, Any]
SHOWN = 3  # faults of a check that are printed
TEXTS = ("content", "instruction", "response")  # what may contain a benchmark
MAKERS = ("collect_seeds", "generate_concepts", "generate_tasks", "sample_responses", "repair")  # of new ids
CHOSEN = ("collect_seeds", "select", None)  # steps after which none may be left; None: of unknown origin


@dataclass
class Check:
    """What a check found out.

    Attributes:
        name: what was checked.
        what: the things that were, in words; why nothing was, if `checked` is 0.
        checked, agreeing: how many of them, and how many of these agree.
        faults: the first few that do not, in words.
    """

    name: str
    what: str
    checked: int = 0
    agreeing: int = 0
    faults: list[str] = field(default_factory=list)

    def add(self, agrees: bool, fault: str) -> None:
        """Count one more, which has this fault unless it agrees."""
        self.checked += 1
        self.agreeing += agrees
        if not agrees and len(self.faults) < SHOWN:
            self.faults.append(fault)

    @property
    def failed(self) -> bool:
        return self.agreeing < self.checked

    def __str__(self) -> str:
        said = f"{self.agreeing:,} of {self.checked:,} {self.what}" if self.checked else f"not checked: {self.what}"
        return "\n".join([f"{self.name:<14} {said}", *(f"{'':<14} - {fault}" for fault in self.faults)])


def check_parts(source: Source, name: str, token: str | None) -> tuple[Check, list[Part]]:
    """Whether the name of each part is a hash of its content, and the parts."""
    from fsspec.core import url_to_fs
    from huggingface_hub import HfFileSystem

    check, parts = Check("hashes", "parts are named by a hash of their content"), []
    if not source.run:
        check.what = "no step of this project wrote the dataset, so there is no run.json and its files have no hashes"
        return check, parts
    if is_hub_id(name):
        fs, root = HfFileSystem(token=token), f"datasets/{source.pin['dataset']}@{source.pin['revision']}"
    else:
        fs, root = url_to_fs(name)
    found = with_retries(lambda: fs.find(root, maxdepth=2)) if is_hub_id(name) else fs.find(root, maxdepth=2)
    for path in sorted(found):
        file = "/".join(path.rsplit("/", 2)[-2:])
        if not PART.match(file):
            continue
        content: Any = fs.cat_file(path)
        digest = hashlib.sha256(content).hexdigest()[:12]
        check.add(file.endswith(f"-{digest}.parquet"), f"{file} has content with the hash {digest}")
        try:
            parts.append(read_part(io.BytesIO(content), file, file))
        except UserError as error:
            check.add(False, str(error))
    return check, parts


def check_record(source: Source, parts: list[Part], table: str) -> Check:
    """Whether run.json says of the rows what they are; `table` is the one that `source` holds."""
    check, run = Check("run.json", "statements agree with the data"), source.run
    if not run:
        check.what = "there is none"
        return check
    check.add(bool(run.get("complete")), "the run is not complete: some of its rows are still open")
    funnel = run.get("funnel") or [{}]
    check.add(funnel[-1].get("rows_out") == run.get("rows_out"), "its funnel ends with another number of rows")
    for name, entry in {MAIN_TABLE: run, **run.get("tables", {})}.items():
        rows = sum(part.rows for part in parts if part.table == name)
        said = entry.get("rows_out")
        check.add(rows == said, f"it says that {name} has {said} rows, but the parts have {rows}")
    for column in lineage_in(source.rows.features.arrow_schema) if table == MAIN_TABLE else ():
        counts = Counter(UNKNOWN if value is None else str(value) for value in source.rows[column])
        check.add(dict(counts) == run.get("lineage", {}).get(column), f"it counts other values of {column}")
    return check


def check_input(source: Source, token: str | None) -> Check:
    """Whether what the dataset was made from is still there and is what it was then."""
    check, said = Check("input", "inputs are what they were"), source.run.get("input", {})
    name = f"{said['dataset']}@{said['revision']}" if "dataset" in said else said.get("name")
    if not name:
        check.what = "run.json names none" if source.run else "there is no run.json"
        return check
    found, faults = [], []
    for config, split in recorded_selections(source.run):
        try:
            found.append(_code_files(name, source.run) or open_source(name, config=config, split=split, token=token))
        except UserError as error:
            faults.append(f"{error}")
    if not found:
        check.what = faults[0]
        return check
    agrees = any(each.pin.items() <= said.items() for each in found)
    check.add(agrees, f"{name} has changed since, or is another dataset of the same name")
    return check


def _code_files(name: str, run: dict[str, Any]) -> Source | None:
    """The files of the folder `name`, if the first stage of collect_seeds.py read it: data that they stand beside was
    not its input."""
    if run.get("step") != "extract_functions" or not Path(name).expanduser().is_dir():
        return None
    if run.get("identity", {}).get("options", {}).get("language") == "javascript":
        return open_javascript_files(name) if is_javascript_folder(name) else None
    return open_python_files(name)


def check_rows(source: Source, rows: Iterable[Row]) -> Check:
    """Whether the ids follow from the content that they are hashes of, and columns from those that they repeat."""
    rules = rules_of(source)
    check = Check("ids", f"values follow from the content ({', '.join(rules)})")
    if not rules:
        check.what = "the dataset has no column that follows from others"
        return check
    for row in rows:
        for name, holds in rules.items():
            if (agrees := holds(row)) is not None:
                check.add(agrees, f"{name} of row {row.get('id')} does not follow from its content")
    return check


def rules_of(source: Source) -> dict[str, Callable[[Row], bool | None]]:
    """What must hold in each row, by the column that it is about; None where a row has nothing to say.

    An id is checked only if the funnel has the step that made it: rows that somebody brought have ids of their own.
    """
    there, run = set(source.rows.column_names), source.run
    steps = [entry.get("step") for entry in run.get("funnel", ())]
    makers = [step for step in steps if step in MAKERS]
    own_tests = run.get("identity", {}).get("options", {}).get("strategy") != "consensus"
    seed_id = _column_of_ids("collect_seeds", makers, "generate_concepts", "seed_id")
    task_id = _column_of_ids("generate_tasks", makers, "sample_responses", "task_id")
    rules: list[tuple[bool, set[str], str, Callable[[Row], bool | None]]] = [
        (
            bool(seed_id),
            {seed_id, "content"},
            seed_id,
            lambda row: row[seed_id] == content_id(row["content"]),
        ),
        (
            bool(task_id),
            {task_id, "concepts_id", "instruction"},
            task_id,
            lambda row: row[task_id] == content_id(row["concepts_id"], row["instruction"] or ""),
        ),
        (
            makers[-1:] in (["sample_responses"], ["repair"]),
            {"task_id", "sample", "completion"},
            "id",
            lambda row: (
                row["id"] == content_id(row.get("attempt_id") or row["task_id"], row["sample"], row["completion"])
            ),
        ),
        (
            "execute" in steps and own_tests and not has_old_verdicts(run),
            {"program", "response", "tests"},
            "program",
            _program_follows,
        ),
        (bool(run), {"messages", "response", "instruction"}, "messages", _messages_follow),
        (True, {"sha1", "seed"}, "sha1", _sha1_follows),
    ]
    return {column: rule for applies, needs, column, rule in rules if applies and needs <= there}


def _column_of_ids(step: str, makers: list[str], then: str, kept: str) -> str:
    """The column of the ids that `step` made: `id`, or `kept` after the step `then` has made others; "" if another step
    than these made what is there. `makers` are those of MAKERS that ran, in their order."""
    if makers[-1:] == [step]:
        return "id"
    last = max((number for number, maker in enumerate(makers) if maker == then), default=0)
    return kept if last and makers[last - 1] == step else ""


def has_old_verdicts(run: dict[str, Any]) -> bool:
    """Whether the rows may say what became of other responses than theirs: repairs that have not run yet do, of the
    attempts, and new responses to instructions say nothing."""
    return run.get("step") in ("repair", "sample_responses")


def _program_follows(row: Row) -> bool | None:
    if row["program"] is None:
        return None
    code, tests = programs_of(row)
    return row["program"] == f"{code}\n\n{tests}"


def _messages_follow(row: Row) -> bool | None:
    messages = row["messages"]
    if not messages:
        return None
    question = messages[0]["content"]
    follows = (
        messages == conversation_of(row, question) if is_repair(row) else messages[-1]["content"] == row["response"]
    )
    return follows and question.startswith(row["instruction"])


def _sha1_follows(row: Row) -> bool | None:
    if row["sha1"] is None or row["seed"] is None:
        return None
    return row["sha1"] == hashlib.sha1(row["seed"].encode()).hexdigest()


def program_in(row: Row) -> tuple[str, str, bool] | None:
    """The code of a row, its tests, and whether it claims to pass; None if it has no tests to be checked by.

    Where tests are no column of their own, they are the assertions in the instruction's code, or those at the end of
    the response's: datasets that were filtered by execution often keep no others.
    """
    code, claim = code_in(row["response"] or "", language_of(row)), row.get("passed")
    if code is None or row.get("outcome") == "sandbox_error":
        return None
    claim = True if claim is None else bool(claim)
    if row.get("tests"):
        if not isinstance(row["tests"], str):  # a list of assertions, for example, or of inputs and outputs
            return None
        code, tests = programs_of(row)
        return (code, tests, claim) if tests else None
    shown = [block.code for block in code_blocks(row.get("instruction") or "") if "assert" in block.code]
    if shown:
        return code, "\n\n".join(shown), claim
    *rest, last = [block.code for block in code_blocks(row["response"]) if block.closed]
    return ("\n\n".join(rest), last, claim) if rest and "assert" in last else None
