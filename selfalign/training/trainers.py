"""TRL's trainers as they are used here. Importing this takes seconds, because it imports torch and TRL."""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.integration_utils import get_available_reporting_integrations
from transformers.trainer import TRAINER_STATE_NAME
from transformers.training_args import OptimizerNames
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.sft_trainer import SFTTrainer

from selfalign.errors import UserError
from selfalign.training import checkpoints

LOST_AFTER = 3  # steps in a row without a loss that is a number


class SFT(SFTTrainer):
    """TRL's trainer without its model card, because ours is written at the end."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None: ...


class DPO(DPOTrainer):
    """The same for preferences."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None: ...


class GRPO(GRPOTrainer):
    """The same for rewards. Of tasks that are held out only the rewards are measured, each task's apart.

    Rows need a `number`. What is logged of a measurement (with `eval_reward`) also has `held_out`: the mean reward of
    each task, by its number as text. Checkpoints keep it, and so a run that was stopped still knows where it began.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._held_out = defaultdict[int, list[float]](list)
        super().__init__(*args, **kwargs)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None: ...

    def prediction_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> tuple[None, None, None]:
        """Answers and their rewards, without TRL's loss: over what is not learnt from, it says nothing."""
        self._prepare_inputs(inputs)
        return None, None, None

    def _calculate_rewards(self, inputs: list[dict[str, Any]], *args: Any) -> torch.Tensor:
        rewards = super()._calculate_rewards(inputs, *args)
        model: Any = self.model
        if not model.training:
            numbers: Any = gather(torch.tensor([row["number"] for row in inputs], device=rewards.device))
            for number, reward in zip(numbers.tolist(), rewards[:, 0].tolist(), strict=True):
                self._held_out[number].append(reward)
        return rewards

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        self._held_out.clear()
        metrics = super().evaluate(*args, **kwargs)
        judged = {n: [r for r in rewards if r == r] for n, rewards in self._held_out.items()}  # without NaN
        means = {str(n): sum(rewards) / len(rewards) for n, rewards in sorted(judged.items()) if rewards}
        entry: dict[str, Any] = self.state.log_history[-1]
        entry["held_out"] = means
        if means:  # TRL's is the mean over batches, of which the last may be smaller
            entry["eval_reward"] = sum(means.values()) / len(means)
        return metrics


class KeepNewestCheckpoint(TrainerCallback):
    """Removes the older checkpoints, but only when all of the new one is on the disk."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        PartialState().wait_for_everyone()  # each process writes a file of its own into it
        if state.is_world_process_zero:
            checkpoints.keep_only(Path(str(args.output_dir), f"checkpoint-{state.global_step}"))


class StopWithoutLoss(TrainerCallback):
    """Ends a training whose loss is no number any more. Until then, its weights do not take the place of the last
    checkpoint."""

    def __init__(self) -> None:
        self.in_a_row = 0

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any
    ) -> None:
        if (loss := (logs or {}).get("loss")) is None:  # of what is held out
            return
        self.in_a_row = 0 if math.isfinite(loss) else self.in_a_row + 1
        control.should_save &= self.in_a_row == 0
        if self.in_a_row == LOST_AFTER:
            raise UserError(
                f"the loss has been no number since step {state.global_step - LOST_AFTER + 1}: lower --learning-rate, "
                "or set --max-grad-norm 1"
            )


def is_finished(trainer: SFT | DPO, checkpoint: str) -> bool:
    """Whether a checkpoint was written after the last step of the training."""
    batches, accumulated = len(trainer.get_train_dataloader()), trainer.args.gradient_accumulation_steps
    steps = math.ceil(trainer.args.num_train_epochs * max(1, math.ceil(batches / accumulated)))
    return TrainerState.load_from_json(str(Path(checkpoint, TRAINER_STATE_NAME))).global_step >= steps


def check_names(optimizer: str, report_to: str) -> None:
    """UserError if transformers has no such optimizer, or can't report there."""
    optimizers = [str(known.value) for known in OptimizerNames]
    if optimizer not in optimizers:
        raise UserError(f"--optimizer {optimizer} is not known to transformers; choose from {', '.join(optimizers)}")
    installed = get_available_reporting_integrations()
    if report_to not in ("none", "all", *installed):
        names = ", ".join(installed) or "nothing"
        raise UserError(f"--report-to {report_to} is not installed; installed: {names}")
