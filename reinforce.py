"""Reinforcement: tasks and their tests -> model. The sandbox says which answers pass, and the model learns from that.

Not in the paper, which trains once on what passes. This is GRPO (arXiv 2402.03300) on TRL's GRPOTrainer: the model
answers each task several times, every answer runs against the task's tests, and the model is moved toward its answers
that earned more than the others of the same task.

    python reinforce.py ./instructions ./reinforced --model ./model
    python reinforce.py ./instructions ./reinforced --model ./model --lora-rank 16 --eval-fraction 0.1
    accelerate launch reinforce.py ./instructions ./reinforced --model ./model --vllm colocate      # on several GPUs

Columns in: `instruction` and `tests` (text, as code or as Markdown, or a list of such texts), as in what select.py
writes, whose tests have been passed by a response.

Rows that say so in a column `language` are in JavaScript, with --sandbox-mode isolated.

The reward is the share of its tests that an answer passes in the sandbox's strict mode, and a tenth for code in a
Markdown block, if at least one test passes (code_eval/reward.py). An answer that was never judged, because the sandbox
failed or time ran out, has no reward: TRL leaves it out, and the run says how many these were.

OUTPUT is a transformers model folder with a card, the curves of the rewards, and metrics.jsonl, all that TRL measured.
With --eval-fraction, the reward of held-out tasks is measured before and after; run.json has the difference with its
interval. During the training the folder holds checkpoints: the same command resumes from the last one.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from code_eval.reward import CodeReward
from code_eval.sandbox import SandboxUnavailable
from selfalign.data.languages import are_tests, language_of, languages_in, only_python
from selfalign.errors import UserError
from selfalign.options import (
    LATER,
    OPERATIONAL,
    Count,
    Positive,
    PositiveOrZero,
    Share,
    ShareAboveZero,
    identity_of,
    run_script,
)
from selfalign.report.model_card import gain_in, gain_of
from selfalign.runner.columns import missing_columns
from selfalign.runner.source import Source, read_input
from selfalign.training.loading import adapters, dtype_of
from selfalign.training.model_folder import ModelFolder, run_training
from selfalign.training.options import (
    ALL,
    TrainingOptions,
    base_model,
    check_training,
    common_arguments,
    folder_of,
    with_held_out,
)

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase
    from trl.trainer.grpo_config import GRPOConfig

    from selfalign.training.trainers import GRPO

METRICS = "metrics.jsonl"


@dataclass(frozen=True, kw_only=True)
class Options(TrainingOptions):
    """Options of this script; the defaults are TRL's where no other reason is given."""

    model: str = "./model"
    """Model to start from: a Hub id (org/name or org/name@revision), a folder, a .gguf file, or `smollm2` for that of
    the quickstart. It should solve some of the tasks already: what never passes teaches nothing."""

    learning_rate: Positive | None = None
    """Peak learning rate. By default, 1e-6, and 1e-5 with --lora-rank (adapters need about ten times as much)."""

    epochs: Positive = 1.0
    """Passes over the tasks."""

    steps: Count | None = None
    """Optimizer steps, instead of --epochs."""

    samples: Count = 8
    """Answers to a task, which are compared with each other."""

    batch_size: Count = 64
    """Answers per optimizer step, over all devices: at the default, 8 to each of 8 tasks."""

    device_batch_size: Count = field(default=8, metadata=OPERATIONAL)
    """Answers from which a device learns at a time; gradients are accumulated up to the batch size."""

    max_prompt_length: Count = 1024
    """Tasks whose prompt has more tokens are left out, and counted."""

    max_completion_length: Count = 512
    """Maximum length of an answer in tokens."""

    temperature: Positive = 1.0
    """Sampling temperature of the answers, also for held-out tasks."""

    top_p: ShareAboveZero = 1.0
    """Nucleus sampling: keep the most likely tokens up to this total probability."""

    kl: PositiveOrZero = 0.0
    """Weight of the distance from the model at the start (KL); 0 leaves it out, and needs no second model."""

    loss: Literal["dapo", "grpo", "dr_grpo", "bnpo"] = "dapo"
    """How the loss is averaged over tokens: by their number in the step (arXiv 2503.14476), in each answer (arXiv
    2402.03300), by a constant (arXiv 2503.20783), or by their number on the device."""

    optimizer: str = "adamw_torch"
    """Name of the optimizer in transformers."""

    warmup: Share = 0.0
    """Share of the steps over which the learning rate rises."""

    max_grad_norm: PositiveOrZero = 1.0
    """Gradients are clipped to this norm; 0 turns clipping off."""

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the weights; `auto` is float32, with computations in bfloat16 on a GPU that has it: in bfloat16
    weights, steps as small as these would be lost."""

    vllm: str | None = field(default=None, metadata=OPERATIONAL)
    """Sample with vLLM: `colocate` for vLLM on the GPUs of the training, or the URL of a server that was started with
    `trl vllm-serve`. By default, transformers samples."""

    chat_template: Path | None = None
    """Jinja chat template to store in the tokenizer. By default, the tokenizer's own stays, which the model was trained
    with; a tokenizer without one gets prompts/chat.jinja."""

    sandboxes: Count | None = field(default=None, metadata=OPERATIONAL)
    """Number of programs that each process of the training runs at a time. By default, one for each CPU, divided by the
    processes on the machine."""

    sandbox_mode: Literal["strict", "isolated"] = field(default="strict", metadata=LATER)
    """How programs are isolated; see code_eval/SECURITY.md. JavaScript needs `isolated`, in which a model can learn to
    forge a pass: look at what earns the most."""

    timeout: Positive = 3.0
    """CPU seconds that a program may use; on the clock, it may take three times as long."""

    memory: Count = 1024
    """Memory that a program may use, in MiB."""

    patience: Positive = field(default=60.0, metadata=OPERATIONAL)
    """Seconds that all programs of a step may take together. What was not judged until then has no reward, so that
    endless programs cannot hold up the training."""

    format_weight: Share = 0.1
    """Part of the reward that an answer earns by code in a closed Markdown block, if at least one test passes."""

    eval_fraction: float = 0.0
    """Share of the tasks to hold out for measuring the reward."""

    eval_steps: Count = field(default=100, metadata=OPERATIONAL)
    """Optimizer steps between measurements on the held-out tasks. The first and the last step are measured, too."""


def checked(options: Options) -> Options:
    """The options, with those that depend on others filled in; UserError if they contradict each other."""
    check_training(options, options.eval_fraction)
    if options.samples < 2:
        raise UserError("--samples 1 leaves nothing to compare an answer with: it must be at least 2")
    if options.batch_size % options.samples:
        raise UserError(f"--batch-size {options.batch_size} must be a multiple of --samples {options.samples}")
    if options.chat_template and not options.chat_template.is_file():
        raise UserError(f"--chat-template {options.chat_template} is not a file")
    if options.vllm is not None:
        check_vllm(options.vllm)
    rate = 1e-5 if options.lora_rank else 1e-6
    return dataclasses.replace(
        options,
        output=folder_of(options.output),
        learning_rate=rate if options.learning_rate is None else options.learning_rate,
    )


def check_vllm(where: str) -> None:
    """UserError if --vllm names nothing that TRL can use, or if vLLM or a GPU is missing."""
    if where != "colocate" and not where.startswith(("http://", "https://")):
        raise UserError(f"--vllm {where} is neither colocate nor the URL of a server")
    if importlib.util.find_spec("vllm") is None:
        raise UserError(f"--vllm {where} needs vLLM: pip install vllm, or leave it out, and transformers samples")
    import torch

    if not torch.cuda.is_available():
        raise UserError(f"--vllm {where} needs a GPU, and there is none: leave it out, and transformers samples")


# Tasks ----------------------------------------------------------------------------------------------------------------


def read_tasks(options: Options) -> tuple[Source, Dataset]:
    """The source of the tasks, and its first `--max-samples` rows; UserError if it lacks the columns."""
    import pyarrow as pa

    source = read_input(options, "instruction")
    rows = source.rows
    if "tests" not in rows.column_names:
        raise UserError(f"{missing_columns(source.name, ['tests'], rows)}; --column tests=NAME takes another one")
    kind = rows.features.arrow_schema.field("tests").type
    text = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else kind
    if not (pa.types.is_string(text) or pa.types.is_large_string(text) or pa.types.is_null(text)):
        raise UserError(f"the column tests of {source.name} holds {kind}, but it must hold text or lists of text")
    if options.sandbox_mode == "strict":
        only_python(source, "rewards in strict mode, which --sandbox-mode isolated replaces, are")
    return source, rows.select(range(min(len(source), options.max_samples or len(source))))


def to_task(row: dict[str, Any], number: int, tokenizer: PreTrainedTokenizerBase, longest: int) -> dict[str, Any]:
    """A row as TRL takes it (`prompt`, a chat, and `tests`), with its `number`, and the `outcome` of looking at it."""
    prompt = [{"role": "user", "content": row["instruction"] or ""}]
    asked = str(tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True))
    if not (row["instruction"] or "").strip():
        outcome = "no_instruction"
    elif not are_tests(row["tests"], language_of(row)):
        outcome = "no_tests"
    else:
        outcome = "prompt_too_long" if len(tokenizer(asked).input_ids) > longest else "usable"
    return {"prompt": prompt, "tests": row["tests"], "number": number, "outcome": outcome}


def prepare(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, options: Options
) -> tuple[Dataset, Dataset | None, dict[str, int]]:
    """The tasks, the held-out ones if there are any, and counts of what became of the rows.

    UserError if too few rows can be used.
    """
    prepared = rows.select_columns(["instruction", "tests", *({"language"} & set(rows.column_names))]).map(
        to_task,
        with_indices=True,
        fn_kwargs={"tokenizer": tokenizer, "longest": options.max_prompt_length},
        remove_columns=["instruction"],
        desc="tasks",
    )
    outcomes = prepared["outcome"][:]
    usable = prepared.select([i for i, outcome in enumerate(outcomes) if outcome == "usable"]).remove_columns("outcome")
    counts = {outcome: n for outcome, n in Counter(outcomes).items() if outcome != "usable"}
    return with_held_out(usable, len(rows), counts, options, options.eval_fraction)


def in_order(tasks: Dataset, options: Options) -> Dataset:
    """The tasks as often as the training asks them, in its order: shuffled anew for each pass.

    TRL's own order begins again when a training resumes in its second pass.
    """
    import numpy as np

    at_a_time = options.batch_size // options.samples
    wanted = at_a_time * (options.steps or max(1, math.ceil(options.epochs * len(tasks) / at_a_time)))
    draws = np.random.default_rng(options.seed)
    passes = [draws.permutation(len(tasks)) for _ in range(math.ceil(wanted / len(tasks)))]
    return tasks.select(np.concatenate(passes)[:wanted])


# Training -------------------------------------------------------------------------------------------------------------


def open_reward(options: Options, languages: list[str]) -> CodeReward:
    """The reward, its workers for these languages started; UserError if programs cannot be isolated on this machine."""
    try:
        reward = CodeReward(
            options.sandbox_mode,
            workers=options.sandboxes,
            timeout=options.timeout,
            patience=options.patience,
            format_weight=options.format_weight,
            memory=options.memory << 20,
        )
        reward.judge([""] * len(languages), [None] * len(languages), languages)
    except (SandboxUnavailable, ValueError) as error:
        raise UserError(str(error)) from None
    return reward


def training_arguments(options: Options, revision: str | None, devices: int = 1) -> GRPOConfig:
    """The options under TRL's names. `revision` is the base model's commit on the Hub, if it comes from there."""
    from trl.trainer.grpo_config import GRPOConfig

    # Imported here because TRL comes with it: options and data are checked first, and --help answers at once.
    from selfalign.training.trainers import check_names

    check_names(options.optimizer, options.report_to)
    at_a_time = options.device_batch_size * devices
    if options.batch_size % at_a_time:
        raise UserError(
            f"--batch-size {options.batch_size} must be a multiple of {devices} devices x "
            f"--device-batch-size {options.device_batch_size}"
        )
    common = common_arguments(options, options.eval_steps if options.eval_fraction else None)
    common["bf16"] |= options.dtype == "auto" and dtype_of("auto") == "bfloat16"
    common["learning_rate"] = options.learning_rate
    server = options.vllm != "colocate"
    return GRPOConfig(
        **common,
        use_vllm=options.vllm is not None,
        vllm_mode="server" if server else "colocate",
        vllm_server_base_url=options.vllm if server else None,
        num_train_epochs=1,  # `in_order` has repeated the tasks
        shuffle_dataset=False,
        num_generations=options.samples,
        per_device_train_batch_size=options.device_batch_size,
        per_device_eval_batch_size=options.batch_size // devices,
        gradient_accumulation_steps=options.batch_size // at_a_time,
        max_completion_length=options.max_completion_length,
        temperature=options.temperature,
        top_p=options.top_p,
        beta=options.kl,
        loss_type=options.loss,
        optim=options.optimizer,
        warmup_steps=min(options.warmup, ALL),  # below 1, it is a share of the steps
        max_grad_norm=options.max_grad_norm,
        model_init_kwargs={"revision": revision} if revision and options.kl else None,  # of the second model
    )


def make_trainer(
    options: Options,
    tokenizer: PreTrainedTokenizerBase,
    reward: CodeReward,
    tasks: Dataset,
    held_out: Dataset | None = None,
    devices: int = 1,
) -> GRPO:
    """TRL's trainer for the tasks from `prepare`."""
    from selfalign.training.trainers import GRPO, KeepNewestCheckpoint

    training_arguments(options, None, devices)  # what is wrong with them is said before the model is loaded
    base = base_model(options)
    if options.dtype == "auto":
        base = dataclasses.replace(base, dtype="float32")
    model = base.load()
    tokenizer.padding_side = "left"
    return GRPO(
        model=model,
        reward_funcs=reward,
        args=training_arguments(options, getattr(model.config, "_commit_hash", None), devices),
        train_dataset=in_order(tasks, options),
        eval_dataset=held_out,
        processing_class=tokenizer,
        peft_config=adapters(options.lora_rank) if options.lora_rank else None,
        callbacks=[KeepNewestCheckpoint()],
    )


def train(options: Options, reward: CodeReward, folder: ModelFolder, source: Source, rows: Dataset) -> None:
    """Reinforce what passes, from the last checkpoint if there is one, and fill the folder."""
    tokenizer = base_model(options).load_tokenizer(options.chat_template)
    with folder.devices.main_process_first():
        tasks, held_out, counts = prepare(rows, tokenizer, options)
    trainer = make_trainer(options, tokenizer, reward, tasks, held_out, folder.devices.num_processes)
    checkpoint = folder.last_checkpoint(options.batch_size)
    trainer.args.eval_on_start = held_out is not None and checkpoint is None
    trainer.train(resume_from_checkpoint=checkpoint)
    history = trainer.state.log_history
    shares = [entry.get("code/not_judged") or 0 for entry in history]
    if not_judged := round(sum(shares) * options.batch_size):
        counts["not_judged"] = not_judged
    folder.save(trainer, tokenizer, merge=options.lora_rank > 0)
    if folder.devices.is_main_process:
        folder.output.write(METRICS, "".join(json.dumps(entry) + "\n" for entry in history))
    gain = gain_in(history)
    folder.describe(trainer, tokenizer, source, len(rows), counts, {"held_out": gain} if gain else {})
    if gain:
        folder.say(gain_of(gain))
    if not_judged:
        folder.say(f"{not_judged} of {options.batch_size * trainer.state.global_step} answers were never judged")


def main(options: Options) -> None:
    """Reinforce the model, unless that is done already, and upload it if asked to."""
    options = checked(options)
    source, rows = read_tasks(options)
    identity = {"step": "reinforce", "options": identity_of(options), "input": source.pin, "rows": len(rows)}
    identity["options"]["chat_template"] = options.chat_template and options.chat_template.read_text()
    with open_reward(options, languages_in(source)) as reward:
        run_training(
            options, base_model(options), identity, lambda folder: train(options, reward, folder, source, rows)
        )


if __name__ == "__main__":
    run_script(main, Options, __doc__)
