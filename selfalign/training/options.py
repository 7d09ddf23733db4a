"""Options of every script that trains a model, and what follows from them for the model and TRL's trainer."""

from __future__ import annotations

import importlib.util
import math
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from selfalign.errors import UserError
from selfalign.options import OPERATIONAL, Count, CountOrZero, Hidden, Positional, StepOptions, argument
from selfalign.runner.hub import is_hub_id
from selfalign.training.loading import BaseModel

if TYPE_CHECKING:
    from datasets import Dataset

ALL = math.nextafter(1, 0)  # the share of the steps that is all of them; transformers takes 1 for one step


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(StepOptions):
    """Options of every script that trains a model."""

    output: Annotated[str, Positional, argument(metavar="OUTPUT")] = field(metadata=OPERATIONAL)
    """Folder to write the model to."""

    max_samples: Count | None = field(default=None, metadata=OPERATIONAL)
    """Learn from only this many rows, the first ones. Another number needs another output."""

    # No options here: training is spread over GPUs by `accelerate launch`.
    executor: Annotated[Literal["local", "slurm", "ray", "jobs"] | None, Hidden] = field(
        default=None, metadata=OPERATIONAL
    )
    shards: Annotated[Count, Hidden] = field(default=1, metadata=OPERATIONAL)
    workers: Annotated[Count | None, Hidden] = field(default=None, metadata=OPERATIONAL)
    executor_options: Annotated[tuple[str, ...], Hidden] = field(default=(), metadata=OPERATIONAL)
    shard: Annotated[str | None, Hidden] = field(default=None, metadata=OPERATIONAL)

    model: str
    """Model to start from: a Hub id (org/name or org/name@revision), a folder, a .gguf file, or `smollm2` for that of
    the quickstart."""

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the weights; `auto` is bfloat16 on a GPU that has it (StarCoder2-Instruct), else float32, with
    products in bfloat16 on a CPU that has instructions for them."""

    attention: str = field(default="auto", metadata=OPERATIONAL)
    """Name of the attention in transformers; `auto` is flash attention if it is installed, else torch's own (sdpa)."""

    lora_rank: CountOrZero = 0
    """Train adapters of this rank on all linear layers, and merge them into the model at the end; 0 trains the whole
    model (as the paper does)."""

    quantize_4bit: bool = False
    """Keep the base model in 4 bits under the adapters (QLoRA); this needs bitsandbytes."""

    gradient_checkpointing: bool = field(default=False, metadata=OPERATIONAL)
    """Recompute activations, which takes less memory but a third more time."""

    save_steps: Count = field(default=100, metadata=OPERATIONAL)
    """Optimizer steps between checkpoints."""

    report_to: str = field(default="none", metadata=OPERATIONAL)
    """Where transformers should report to, if it is installed: trackio, wandb, tensorboard and others."""

    push_to_hub: str | None = field(default=None, metadata=OPERATIONAL)
    """Hub id to upload the finished model to."""


def check_training(options: TrainingOptions, eval_fraction: float) -> None:
    """UserError if options that all trainings have contradict each other, or the output is no folder."""
    if options.executor or options.shard:
        raise UserError("a training is spread over GPUs by accelerate launch, not by --executor or --shard")
    if options.quantize_4bit and not options.lora_rank:
        raise UserError("--quantize-4bit needs --lora-rank, because 4-bit weights cannot be trained directly")
    if options.quantize_4bit and importlib.util.find_spec("bitsandbytes") is None:
        raise UserError("--quantize-4bit needs bitsandbytes: pip install bitsandbytes")
    if not 0 <= eval_fraction < 1:
        raise UserError(f"--eval-fraction {eval_fraction} must be at least 0 and below 1")
    if is_hub_id(options.output):
        raise UserError(
            f"a model is written to a folder, and {options.output} has the form of a Hub id: "
            f"write ./{options.output}, and add --push-to-hub {options.output} if it shall be uploaded"
        )


def folder_of(output: str) -> str:
    """The path of an output that is a folder already, or a single name: one that is not taken for a Hub id."""
    output = os.path.expanduser(output)
    return output if output.startswith((".", "/")) else f"./{output}"


def base_model(options: TrainingOptions) -> BaseModel:
    """The model to start from, without dropout."""
    return BaseModel(options.model, options.dtype, options.attention, options.quantize_4bit, options.hf_token)


def common_arguments(options: TrainingOptions, eval_steps: int | None) -> dict[str, Any]:
    """What the scripts tell TRL's trainers alike; `eval_steps`: steps between measurements, None if there are none."""
    import torch
    from transformers import TrainingArguments

    if (gpus := torch.cuda.device_count()) > 1 and "LOCAL_RANK" not in os.environ:
        raise UserError(
            f"there are {gpus} GPUs, and one process trains on one: put `accelerate launch` in place of `python`, "
            "or CUDA_VISIBLE_DEVICES=0 before it for one of them"
        )
    # The last transformers for Python 3.10 has only the name that newer ones give up.
    renamed = hasattr(TrainingArguments, "activation_checkpointing")
    checkpointing = "activation_checkpointing" if renamed else "gradient_checkpointing"
    return {
        "output_dir": options.output,
        "lr_scheduler_type": "linear",
        # --dtype sets the type of the weights; only DeepSpeed, if `accelerate launch` uses it, has to be told as well.
        "bf16": os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true",
        checkpointing: options.gradient_checkpointing,
        "use_cpu": not torch.cuda.is_available(),
        "seed": options.seed,
        "data_seed": options.seed,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # it would log 0 where the loss is no number
        "eval_strategy": "steps" if eval_steps else "no",
        "eval_steps": eval_steps,
        "save_steps": options.save_steps,
        "report_to": options.report_to,
    }


def with_held_out(
    usable: Dataset, read: int, counts: dict[str, int], options: TrainingOptions, fraction: float
) -> tuple[Dataset, Dataset | None, dict[str, int]]:
    """The usable examples without a share of them that is held out, that share (None if it is 0), and the counts with
    the size of both; UserError if too few of the `read` rows are usable."""
    if len(usable) < (2 if fraction else 1):
        raise UserError(f"only {len(usable)} of the {read} rows in {options.input} can be used: {counts}")
    if not fraction:
        return usable, None, counts | {"examples": len(usable)}
    parts = usable.train_test_split(test_size=max(1, int(fraction * len(usable))), seed=options.seed)
    train, held_out = parts["train"], parts["test"]
    return train, held_out, counts | {"held_out": len(held_out), "examples": len(train)}
