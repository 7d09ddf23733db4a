"""TRL's trainers as they are used here. Importing this takes seconds, because it imports torch and TRL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.integration_utils import get_available_reporting_integrations
from transformers.training_args import OptimizerNames
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_trainer import SFTTrainer

from selfalign.errors import UserError
from selfalign.training import checkpoints


class SFT(SFTTrainer):
    """TRL's trainer without its model card, because ours is written at the end."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None: ...


class DPO(DPOTrainer):
    """The same for preferences."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None: ...


class KeepNewestCheckpoint(TrainerCallback):
    """Removes the older checkpoints, but only when all of the new one is on the disk."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        PartialState().wait_for_everyone()  # each process writes a file of its own into it
        if state.is_world_process_zero:
            checkpoints.keep_only(Path(str(args.output_dir), f"checkpoint-{state.global_step}"))


def check_names(optimizer: str, report_to: str) -> None:
    """UserError if transformers has no such optimizer, or can't report there."""
    optimizers = [str(known.value) for known in OptimizerNames]
    if optimizer not in optimizers:
        raise UserError(f"--optimizer {optimizer} is not known to transformers; choose from {', '.join(optimizers)}")
    installed = get_available_reporting_integrations()
    if report_to not in ("none", "all", *installed):
        names = ", ".join(installed) or "nothing"
        raise UserError(f"--report-to {report_to} is not installed; installed: {names}")
