"""The record of a run: what it is known by, and what run.json and the card say of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from selfalign.errors import UserError
from selfalign.ids import content_id
from selfalign.options import StepOptions, command_of, identity_of
from selfalign.runner.card import dataset_card, versions
from selfalign.runner.part import LINEAGE, Part, covered_rows
from selfalign.runner.provenance import models_of, sources_of
from selfalign.runner.source import MAIN_TABLE
from selfalign.runner.table import Removed, Table

if TYPE_CHECKING:
    from selfalign.llm.endpoint import Endpoint
    from selfalign.runner.folder_output import FolderOutput

DIFFERENCES_SHOWN = 4
FOLLOWS = ("prompts", "revision")  # differences that follow from others: the examples, the model


@dataclass(frozen=True)
class Run:
    """A step with all that it runs with.

    Attributes:
        step: what it is called in the funnel.
        tables: the main table and any further ones, by name.
        prompts: hash of the templates and examples.
    """

    step: str
    options: StepOptions
    tables: dict[str, Table]
    prompts: str | None = None
    endpoint: Endpoint | None = None
    removed: Removed = field(default_factory=Removed)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What decides which rows come out, as JSON gives it back: a run is continued only if this is as it was."""
        pin = self.tables[MAIN_TABLE].source.pin
        identity = {"step": self.step, "options": identity_of(self.options), "input": pin, "prompts": self.prompts}
        return json.loads(json.dumps(identity | (self.endpoint.identity if self.endpoint else {})))

    @property
    def id(self) -> str:
        """A hash of the identity."""
        return content_id(self.identity)

    def recorded_in(self, output: FolderOutput) -> dict[str, Any]:
        """The run.json that is in `output`, {} if there is none; UserError if it is another run's."""
        run_json, foreign = output.begun_by()
        refuse_other_run(output.name, run_json, self.identity, foreign)
        return json.loads(run_json) if run_json else {}

    def describe(self, output: FolderOutput, read: Callable[[str], str | None], parts: list[Part]) -> dict[str, str]:
        """The card and run.json of an output that holds `parts`; UserError if `read` finds another run's there."""
        refuse_other_run(output.name, read("run.json"), self.identity)
        record = self.record(parts)
        card = dataset_card(record, read("README.md"), on_hub=output.on_hub, token=self.options.hf_token)
        return {"README.md": card, "run.json": json.dumps(record, indent=2)}  # last: it says that all is complete

    @property
    def _models(self) -> list[dict[str, str | None]]:
        """The models that generated something in the output, each once."""
        models = models_of(self.tables[MAIN_TABLE].source.run) + models_of({"identity": self.identity})
        return list({(model["model"], model["revision"]): model for model in models}.values())

    def record(self, parts: list[Part]) -> dict[str, Any]:
        """The run.json for `parts`.

        It depends on nothing else (no clock, no counter of this process), so it is the same whichever shard writes it,
        and retrying a commit changes nothing.
        """
        source, dropped = self.tables[MAIN_TABLE].source, self.removed.by_rule
        progress = {name: _progress_of(table, name, parts) for name, table in self.tables.items()}
        main = [part for part in parts if part.table == MAIN_TABLE]
        counts = sum((Counter(part.counts) for part in main), Counter(dropped))
        entry: dict[str, Any] = {"step": self.step, **progress[MAIN_TABLE], "counts": dict(sorted(counts.items()))}
        entry["rows_in"] += sum(dropped.values())
        record = {
            "step": self.step,
            "identity": self.identity,
            "command": command_of(self.options),
            "input": {"name": source.name, **source.pin},
            **entry,
            "complete": all(table["rows_done"] == table["rows_in"] for table in progress.values()),
            "seconds": round(sum(part.seconds for part in parts), 1),
            "lineage": {
                column: dict(sum((Counter(part.lineage.get(column, {})) for part in main), Counter()).most_common())
                for column in LINEAGE
            },
            "funnel": [*source.run.get("funnel", []), entry],
            "sources": [*sources_of(source.run), {"step": self.step, "name": source.name, **source.pin}],
            "models": self._models,
            "versions": versions(),
        }
        if dropped:
            record["dropped"] = list(dropped.items())  # in the order of the rules, which `counts` does not keep
        if len(self.tables) > 1:
            record["tables"] = {name: progress[name] for name in self.tables if name != MAIN_TABLE}
        if self.removed.decontamination:
            record["decontamination"] = self.removed.decontamination
        if self.endpoint:
            record["generation"] = self.endpoint.report([part.used for part in parts if part.used])
        return record


def _progress_of(table: Table, name: str, parts: list[Part]) -> dict[str, int]:
    done = covered_rows(parts, len(table.source), name)
    further = int(done[len(table) :].sum())  # of a run with a larger --max-samples, whose rows are there as well
    rows_out = sum(part.rows for part in parts if part.table == name)
    return {"rows_in": len(table) + further, "rows_done": int(done.sum()), "rows_out": rows_out}


def refuse_other_run(name: str, run_json: str | None, identity: dict[str, Any], foreign: Sequence[str] = ()) -> None:
    """UserError if the output `name`, with this run.json or these `foreign` files, holds anything but this very run."""
    if run_json is None:
        if foreign:
            raise UserError(
                f"{name} contains {', '.join(foreign[:3])}, which this step did not write: choose another output"
            )
        return
    recorded = _identity_in(name, run_json)
    if recorded == identity:
        return
    if (step := recorded.get("step", identity["step"])) != identity["step"]:
        raise UserError(f"{name} holds what {step} wrote, not {identity['step']}: choose another output")
    before, now = _flat(recorded), _flat(identity)
    differing = [
        f"{key} was {before.get(key)}, is {now.get(key)}"
        for key in sorted(before.keys() | now.keys(), key=lambda key: (key in FOLLOWS, key))
        if before.get(key) != now.get(key)
    ]
    more = f"; and {len(differing) - DIFFERENCES_SHOWN} more" if len(differing) > DIFFERENCES_SHOWN else ""
    raise UserError(
        f"{name} holds a run that differs ({'; '.join(differing[:DIFFERENCES_SHOWN])}{more}): choose another output"
    )


def refuse_other_step(name: str, run_json: str | None, step: str, foreign: Sequence[str] = ()) -> None:
    """UserError if the output `name` holds anything but a run of the step `step`, whatever its options."""
    identity = {} if run_json is None else _identity_in(name, run_json)
    refuse_other_run(name, run_json, identity | {"step": step}, foreign)


def _identity_in(name: str, run_json: str) -> dict[str, Any]:
    """The identity of the run that wrote the output `name`; UserError if run.json does not say."""
    try:
        return dict(json.loads(run_json)["identity"])
    except (ValueError, LookupError, TypeError, RecursionError):
        raise UserError(
            f"the run.json in {name} is damaged or was not written by a step: choose another output"
        ) from None


def _flat(identity: dict[str, Any]) -> dict[str, Any]:
    """The options beside the other keys; "input" stays in the names of what the input is pinned to."""
    flat = {}
    for name, value in identity.items():
        if isinstance(value, dict):
            flat |= {f"{name} {k}" if name == "input" else k: v for k, v in value.items()}
        else:
            flat[name] = value
    return flat
