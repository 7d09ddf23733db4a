"""TRL's trainers as they are used here, and what they need of their surroundings.

Importing this takes seconds, as torch and TRL come with it.
"""

from __future__ import annotations

import os
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
    """TRL's trainer without its model card, as ours is written at the end."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None: ...


class DPO(DPOTrainer):
    """TRL's trainer without its model card, as ours is written at the end."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None: ...


class KeepNewestCheckpoint(TrainerCallback):
    """Removes the older checkpoints, but only when all of the new one is on the disk."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        PartialState().wait_for_everyone()  # each process writes a file of its own into it
        if state.is_world_process_zero:
            checkpoints.keep_only(Path(str(args.output_dir), f"checkpoint-{state.global_step}"))


def with_deepspeed() -> bool:
    """Whether `accelerate launch` was told to use DeepSpeed, which has a setting of its own for bfloat16 weights."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "false") == "true"


def check_optimizer(name: str) -> None:
    """UserError if transformers has no optimizer of that name."""
    known = [str(optimizer.value) for optimizer in OptimizerNames]
    if name not in known:
        raise UserError(f"--optimizer {name} is none of transformers': {', '.join(known)}")


def check_report_to(name: str) -> None:
    """UserError if transformers can't report to `name` here."""
    installed = get_available_reporting_integrations()
    if name not in ("none", "all", *installed):
        raise UserError(f"--report-to {name} is not installed; what is: {', '.join(installed) or 'nothing'}")
