"""Export instructions, executions or preferences as other trainers and environments take them.

    python export.py ./instructions ./sft --to trl-sft
    python export.py ./instructions ./dpo --to trl-dpo --config preferences
    python export.py ./instructions ./tasks --to harbor

Columns in:  id, instruction, response (or messages); tests for trl-grpo, verifiers and harbor; prompt, chosen and
rejected for preferences

What comes out depends on --to:

    trl-sft         dataset: id, prompt, completion, as chats
    trl-dpo         dataset: id, prompt, chosen, rejected, as chats
    trl-grpo        dataset: id, prompt, tests (code, for code_eval's reward) and response
    verifiers       folder: an environment that can be installed, whose reward is code_eval's
    harbor          folder: a folder for each task, with instruction, tests and the response as its solution
    openai          folder: train.jsonl, for fine-tuning by chats or by preferences, and ids.txt
    axolotl         folder: train.jsonl and the part of a configuration that reads it
    llama-factory   folder: train.jsonl and dataset_info.json

openai, axolotl and llama-factory take instructions and preferences. A dataset is written like that of any step, also to
the Hub. A folder appears as a whole or not at all; `source.json` in it says where its rows come from. An input that the
format would lose something of is refused with a sentence that says what. For trl-grpo and verifiers, each response runs
against its tests as the reward will run them: tests with which not even this response earns anything teach nothing.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from code_eval.reward import CodeReward
from code_eval.sandbox import SandboxUnavailable
from selfalign.data.environments import ENVIRONMENTS, REFUSALS, harbor_files
from selfalign.data.exports import FORMATS, OF_PREFERENCES, Format, refusal
from selfalign.data.languages import only_python
from selfalign.errors import UserError, warn
from selfalign.ids import content_id
from selfalign.options import StepOptions, run_script
from selfalign.runner.source import Source, open_source, read_input
from selfalign.runner.step import run_step
from selfalign.runner.table import Removed, Table

Row = dict[str, Any]
ABOUT = "source.json"
REWARDED = ("trl-grpo", "verifiers")  # whose tests are run by code_eval's reward, in the sandbox's strict mode
BATCH, PATIENCE = 200, 3600.0  # rows that are judged together, and seconds that they may take
SETTINGS_OF_DATASETS = ("executor", "shard")  # which a folder can't have


@dataclass(frozen=True, kw_only=True)
class Options(StepOptions):
    """Options of the export."""

    to: Literal["trl-sft", "trl-dpo", "trl-grpo", "verifiers", "harbor", "openai", "axolotl", "llama-factory"]
    """Who shall read it."""

    leave_out: bool = False
    """For trl-grpo and verifiers: leave out the rows whose own response does not earn the full reward, such as those
    whose tests handle objects, which the strict mode of the sandbox does not pass on. A larger --max-samples then
    needs another output."""


def format_for(options: Options) -> Format:
    """The format for this input, which may hold preferences."""
    source = open_source(options.input, config=options.config, split=options.split, token=options.hf_token)
    named = {pair.partition("=")[0] for pair in options.column}
    there = {*source.rows.column_names, *named}
    if options.to in OF_PREFERENCES and {"chosen", "rejected"} <= there:
        return OF_PREFERENCES[options.to]
    if options.to == "trl-dpo" and "chosen" not in there and "preferences" in source.run.get("tables", {}):
        raise UserError(f"{options.input} has its preferences in a configuration of their own: --config preferences")
    how = {**FORMATS, **ENVIRONMENTS}[options.to]
    if "tests" not in how.needs and "instruction" in how.needs and "messages" in there:
        return Format(("id", "messages"), how.row, how.columns, learns=how.learns, beside=how.beside)
    return how


def rows_of(source: Source, options: Options) -> Iterator[Row]:
    """The rows that are exported."""
    yield from (row for _, row in source.read(range(min(len(source), options.max_samples or len(source)))))


def check(options: Options, source: Source, how: Format) -> None:
    """UserError if something would be lost."""
    if "tests" in how.needs:
        only_python(source, f"what {options.to} does with tests is")
    fault = refusal(options.to, how, rows_of(source, options))
    if options.to in REFUSALS:
        fault = fault or REFUSALS[options.to](rows_of(source, options))
    if fault:
        raise UserError(f"{options.input} can't be exported to {options.to} without loss: {fault}")


def unrewarded(source: Source, options: Options) -> dict[str, str]:
    """The ids of the rows whose own response does not earn the full reward, and why not."""
    why, reward, rows = {}, CodeReward(patience=PATIENCE), rows_of(source, options)
    try:
        while batch := list(islice(rows, BATCH)):
            judged = reward.judge([row["response"] for row in batch], [row["tests"] for row in batch])
            for row, each in zip(batch, judged, strict=True):
                if each.share != 1.0:
                    why[row["id"]] = (each.result and (each.result.detail or each.result.outcome)) or "never judged"
    except SandboxUnavailable as error:
        raise UserError(str(error)) from None
    finally:
        reward.close()
    return why


def rewarded(source: Source, options: Options) -> tuple[Source, int]:
    """The rows that a reward can tell apart, and how many others were left out."""
    why, ids = unrewarded(source, options), [row["id"] for row in rows_of(source, options)]
    if not why:
        return source, 0
    first, reason = next(iter(why.items()))
    said = (
        f"the tests of {len(why)} of {len(ids)} rows give no full reward even to the response that is there, as in row"
    )
    if not options.leave_out or len(why) == len(ids):
        hint = "" if len(why) == len(ids) else "; --leave-out exports the others"
        raise UserError(f"{options.input} can't be exported to {options.to}: {said} {first} ({reason}){hint}")
    warn(f"left out: {said} {first} ({reason})")
    kept = [position for position, id in enumerate(ids) if id not in why]
    pin = source.pin | {"left_out": content_id(*why)}
    return replace(source, rows=source.rows.select(kept), pin=pin), len(why)


def about_of(options: Options, source: Source, rows: int) -> dict[str, Any]:
    """What a folder says of its origin: the input, its models and the licences of its seeds."""
    run = source.run
    return {
        "format": options.to,
        "rows": rows,
        "input": {"name": source.name, **source.pin},
        "models": run.get("models", []),
        "license": run.get("lineage", {}).get("license", {}),
        "sources": run.get("sources", []),
    }


def write_files(options: Options, source: Source, how: Format, folder: Path, rows: int) -> None:
    """Write the files of a format into `folder`."""
    if options.to == "harbor":
        for row in rows_of(source, options):
            for file, text in harbor_files(row).items():
                path = folder / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
                if path.suffix == ".sh":
                    path.chmod(0o755)
        return
    for file, text in how.beside(rows).items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(text, encoding="utf-8")
    lines = folder / ("selfalign_tasks/tasks.jsonl" if options.to == "verifiers" else "train.jsonl")
    with lines.open("w", encoding="utf-8") as out, (folder / "ids.txt").open("w", encoding="utf-8") as ids:
        for row in rows_of(source, options):
            out.write(json.dumps(how.row(row), ensure_ascii=False) + "\n")
            ids.write(f"{row['id']}\n")
    if options.to != "openai":  # the only one whose rows can't hold their ids
        (folder / "ids.txt").unlink()


def export_folder(options: Options, source: Source, how: Format) -> None:
    """Write the folder beside its place, and move it there when it is whole."""
    if option := next((name for name in SETTINGS_OF_DATASETS if getattr(options, name)), None):
        raise UserError(f"--{option} is for datasets: {options.to} is written as one folder")
    output = Path(options.output).expanduser()
    if "://" in options.output:
        raise UserError(f"{options.to} is written into a folder of this machine, which {options.output} is not")
    rows = min(len(source), options.max_samples or len(source))
    about = about_of(options, source, rows)
    if (output / ABOUT).is_file() and json.loads((output / ABOUT).read_text()) == about:
        print(f"export: nothing was left to do: {rows} rows -> {options.output}")
        return
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{options.output} exists and holds something else: choose another output")
    begun = output.absolute().with_name(f".{output.name}.begun")
    try:
        shutil.rmtree(begun, ignore_errors=True)  # of an export that was killed
        begun.mkdir(parents=True)
        write_files(options, source, how, begun, rows)
        (begun / ABOUT).write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(begun, output)
    except OSError as error:
        raise UserError(f"{options.output} can't be written: {error.strerror or error}") from error
    print(f"export: {rows} rows -> {options.output} ({options.to})")


def main(options: Options) -> None:
    """Check that nothing is lost, and write the rows in the format that was asked for."""
    how = format_for(options)
    source = read_input(options, *how.needs)
    check(options, source, how)
    source, left_out = rewarded(source, options) if options.to in REWARDED else (source, 0)
    if how.columns is None:
        export_folder(options, source, how)
    else:
        removed = Removed({"not_rewarded": left_out} if left_out else {})
        run_step(options, Table(source, how.row, how.columns, carry=False), removed=removed)


if __name__ == "__main__":
    run_script(main, Options, __doc__)
