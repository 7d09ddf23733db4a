"""The output of a fine-tuning: a transformers model folder, resumed where it was left, described, and uploaded."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfalign.errors import UserError, first_line
from selfalign.options import command_of
from selfalign.report import model_card as model_cards
from selfalign.runner.card import versions
from selfalign.runner.folder_output import FolderOutput
from selfalign.runner.hub import with_retries
from selfalign.runner.output import open_output
from selfalign.runner.provenance import models_of, sources_of
from selfalign.runner.record import refuse_other_run
from selfalign.runner.source import Source
from selfalign.training import checkpoints
from selfalign.training.loading import BaseModel

if TYPE_CHECKING:
    from accelerate import PartialState
    from transformers import PreTrainedTokenizerBase

    from selfalign.training.options import TrainingOptions
    from selfalign.training.trainers import DPO, GRPO, SFT

BASE = "model_files"  # what the hash of the base model is called in a run's identity
RECORDED_LATER = (BASE, "device_batch_size")  # which runs that were begun earlier do not have
ADAPTER = "adapter"  # folder of what LoRA trained, in the output
NOT_UPLOADED = ["checkpoint-*", ".*", "data/*"]


@dataclasses.dataclass
class ModelFolder:
    """The folder of a model that is being made, or is `complete` already. All processes call all methods."""

    output: FolderOutput
    base: BaseModel
    identity: dict[str, Any]
    command: str  # that repeats the run
    devices: PartialState
    complete: bool

    @property
    def path(self) -> Path:
        return Path(self.output.name)

    def say(self, sentence: str) -> None:
        if self.devices.is_main_process:
            print(sentence)

    def last_checkpoint(self, a_step: int) -> str | None:
        """Note that this run is in progress; the folder of its newest checkpoint that is whole.

        UserError if its optimizer steps had another number of sequences than `a_step`, of which it would skip as many
        steps as are done. With packing, the number is rounded to what the devices take at a time.
        """
        if self.devices.is_main_process:
            before = json.loads(self.output.read("run.json") or "{}").get("sequences_per_step", a_step)
            if before != a_step and checkpoints.newest_checkpoint(self.path):
                raise UserError(
                    f"{self.output.name} was begun with {before} sequences per optimizer step, and would go on with "
                    f"{a_step}: use the same --device-batch-size and as many devices, or choose another output"
                )
            begun = self._run() | {"sequences_per_step": a_step, "complete": False}
            self.output.write("run.json", json.dumps(begun, indent=2))
            checkpoints.remove_all(self.path, but=checkpoints.newest_checkpoint(self.path))
        self.devices.wait_for_everyone()
        newest = checkpoints.newest_checkpoint(self.path)
        return str(newest) if newest else None

    def remove_checkpoints(self) -> None:
        """Remove what only a training that goes on needs."""
        if self.devices.is_main_process:
            checkpoints.remove_all(self.path)

    def _run(self) -> dict[str, Any]:
        return {
            "step": self.identity["step"],
            "identity": self.identity,
            "command": self.command,
            "versions": versions(),
        }

    def save(self, trainer: SFT | DPO | GRPO, tokenizer: PreTrainedTokenizerBase, *, merge: bool) -> None:
        """Write the model. With `merge`, adapters were trained: they are kept beside the model they are merged into."""
        trainer.save_model(str(self.path / ADAPTER if merge else self.path))
        self.devices.wait_for_everyone()
        if not self.devices.is_main_process:
            return
        if merge:
            self._merge_adapters(trainer)
        tokenizer.save_pretrained(self.path)
        for folder in (self.path, self.path / ADAPTER):  # it adds nothing to run.json, and a pickle can run code
            (folder / "training_args.bin").unlink(missing_ok=True)

    def _merge_adapters(self, trainer: SFT | DPO | GRPO) -> None:
        from peft import PeftModel

        base: Any = dataclasses.replace(self.base, quantize_4bit=False).load()
        merged: Any = PeftModel.from_pretrained(base, str(self.path / ADAPTER)).merge_and_unload()
        trained: Any = trainer.model
        # The trainer has set in its own model that the tokenizer's end token ends an answer; `base` may not know it.
        merged.generation_config = trained.generation_config
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            setattr(merged.config, name, getattr(trained.config, name, None))
        merged.save_pretrained(self.path)

    def describe(
        self,
        trainer: SFT | DPO | GRPO,
        tokenizer: PreTrainedTokenizerBase,
        source: Source,
        rows_in: int,
        counts: dict[str, int],
        measured: dict[str, Any] | None = None,
    ) -> None:
        """Write the card, the curves and run.json, remove the checkpoints, and say how it went.

        `measured` is what else the run has found out, for run.json, by name.
        """
        if not self.devices.is_main_process:
            return
        curves = model_cards.curves_of(trainer.state.log_history)
        counts = counts | {"steps": trainer.state.global_step}
        entry = {"step": self.identity["step"], "rows_in": rows_in, "rows_out": counts["examples"], "counts": counts}
        licenses = model_cards.licenses_of(source, self.base.token)
        commit = getattr(getattr(trainer.model, "config", None), "_commit_hash", None)
        run = self._run() | (measured or {})
        run |= {
            "complete": True,
            "base": model_cards.base_of(self.base.name, commit, self.base.token),
            "input": {"name": source.name, **source.pin, "licenses": licenses},
            "curves": curves,
            "funnel": [*source.run.get("funnel", []), entry],
            "sources": [*sources_of(source.run), {"step": self.identity["step"], "name": source.name, **source.pin}],
            "models": models_of(source.run),
        }
        self.output.write(model_cards.PICTURE, model_cards.draw(curves))
        self.output.write("README.md", model_cards.model_card(run, tokenizer, self.output.read("README.md")))
        self.output.write("run.json", json.dumps(run, indent=2))
        checkpoints.remove_all(self.path)
        with contextlib.suppress(OSError):
            os.rmdir(self.path / "data")  # where a dataset has its parts
        ends = "".join(f", {end}" for end in model_cards.ends_of(curves))
        self.say(f"{self.identity['step']}: {counts['examples']} examples{ends} -> {self.output.name}")

    def upload(self, repo: str, *, public: bool) -> None:
        """Send the model folder to the Hub; what is there already is not sent again."""
        from huggingface_hub import HfApi

        if not self.devices.is_main_process:
            return
        api = HfApi(token=self.base.token)
        try:
            full_name = with_retries(lambda: api.create_repo(repo, private=not public, exist_ok=True)).repo_id
            upload = {"repo_id": full_name, "folder_path": self.path, "ignore_patterns": NOT_UPLOADED}
            with_retries(lambda: api.upload_folder(**upload))
        except Exception as error:  # the libraries raise a dozen types
            raise UserError(f"{repo} can't be uploaded ({first_line(error)}): run the same command again") from error


@contextlib.contextmanager
def open_model_folder(name: str, base: BaseModel, identity: dict[str, Any], command: str) -> Iterator[ModelFolder]:
    """The folder `name`, held by this run alone; UserError if it is another run's, or another is writing it."""
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    devices = PartialState()
    output = open_output(name)
    identity = json.loads(json.dumps(identity))
    with output if devices.is_main_process else contextlib.nullcontext():
        complete = False
        if devices.is_main_process:
            there, foreign = output.begun_by()
            identity = as_far_as_known(identity, there)
            refuse_other_run(output.name, there, identity, foreign)
            complete = bool(json.loads(there or "{}").get("complete"))
        (complete,) = broadcast_object_list([complete])  # other machines may not see this disk
        yield ModelFolder(output, base, identity, command, devices, complete)


def as_far_as_known(identity: dict[str, Any], run_json: str | None) -> dict[str, Any]:
    """The identity of a run as the one that has begun can have recorded it: without what it did not yet, and with its
    hash of the base model where that is not here any more."""
    try:
        before = dict(json.loads(run_json or "{}")["identity"])
    except (ValueError, LookupError, TypeError):  # there is none yet, or it is damaged
        return identity
    known = {name: value for name, value in identity.items() if name not in RECORDED_LATER or name in before}
    return known | ({BASE: before[BASE]} if BASE in known and known[BASE] is None else {})


def run_training(
    options: TrainingOptions, base: BaseModel, identity: dict[str, Any], train: Callable[[ModelFolder], None]
) -> None:
    """Have `train` fill the output's folder, unless that is done already, and upload it if asked to."""
    if not Path(options.output).exists():
        base.check_path()  # before there is a folder; a finished one does not need its base any more
    os.environ.setdefault("GOMP_SPINCOUNT", "4000")  # see serve.py: torch's threads must not spin beside other work
    with open_model_folder(options.output, base, identity | {BASE: base.fingerprint()}, command_of(options)) as folder:
        if folder.complete:
            folder.remove_checkpoints()  # it may have been killed while it did so
            folder.say(
                f"{identity['step']}: {options.output} already exists, trained on the same data with the same options"
            )
        else:
            train(folder)
        if options.push_to_hub:
            folder.upload(options.push_to_hub, public=options.public)
