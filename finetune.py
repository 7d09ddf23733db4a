"""Step 7: instructions -> model. The base model is fine-tuned on what it wrote itself.

Paper: section 2.3 and appendix C.3. Adafactor, a learning rate of 1e-5 (2e-5 for data that other models wrote), a
linear schedule with 5 % warm-up, batches of 64 examples of at most 1280 tokens, bfloat16, no dropout, loss on the
response alone.

    python finetune.py ./instructions ./model --model Qwen/CodeQwen1.5-7B
    accelerate launch finetune.py ./instructions ./model --model bigcode/starcoder2-3b      # on several GPUs
    python finetune.py ./instructions ./aligned --model ./model --method dpo                # then learn preferences

A model that does not fit on one GPU is sharded: `accelerate launch --config_file experiments/accelerate/fsdp.yaml` (or
zero3.yaml).

Columns in: `messages` (a chat that ends with the assistant), or `instruction` and `response`, as in
bigcode/self-oss-instruct-sc2-exec-filter-50k; with `--reasoning keep`, also `reasoning`. For `--method dpo`: `prompt`,
`chosen` and `rejected`, each a list of messages, as in the configuration `preferences` of what select.py writes.

OUTPUT is a transformers model folder with the chat template in its tokenizer, a card and the loss curve. During the
training it holds checkpoints: the same command resumes from the last one, and ends with the same weights as a run that
was not stopped.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from selfalign.errors import UserError, warn
from selfalign.llm.reasoning import BEGIN, END
from selfalign.options import (
    LATER,
    OPERATIONAL,
    PROMPTS,
    Count,
    Positive,
    PositiveOrZero,
    Share,
    identity_of,
    run_script,
)
from selfalign.runner.columns import check_type
from selfalign.runner.source import Source, is_single_file, read_input
from selfalign.training.chats import Message, begin_of, check_chat, prompt_and_response, tokens_of
from selfalign.training.loading import adapters, multiplies_in_bfloat16
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
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.sft_config import SFTConfig

    from selfalign.training.trainers import DPO, SFT

THINKS = "{#- Answers begin with <think>, reasoning, and </think>. -#}"  # a template that says so is asked accordingly
NO_LOSS = -100  # the label that torch's cross entropy leaves out


@dataclass(frozen=True, kw_only=True)
class Options(TrainingOptions):
    """Options of this step; the defaults are the paper's."""

    model: str = "Qwen/CodeQwen1.5-7B"
    """Base model: a Hub id (org/name or org/name@revision), a folder, a .gguf file, or `smollm2` for that of the
    quickstart."""

    method: Literal["sft", "dpo"] = "sft"
    """`sft` learns the responses (paper); `dpo` learns to prefer chosen ones to rejected ones (arXiv 2305.18290)."""

    learning_rate: Positive | None = None
    """Peak learning rate. By default, 1e-5 (paper, C.3; use 2e-5 for data from other models), 1e-4 with --lora-rank
    (adapters need about ten times as much), and 1e-6 for dpo."""

    epochs: Positive | None = None
    """Passes over the data. By default, 4 (StarCoder2-Instruct; the paper does not say), and 1 for dpo."""

    batch_size: Count = 64
    """Examples per optimizer step, over all devices (paper, C.3)."""

    device_batch_size: Count = field(default=1, metadata=OPERATIONAL)
    """Sequences that a device processes at a time; gradients are accumulated up to the batch size. With --packing, more
    than 1 is best done with flash attention."""

    max_length: Count = 1280
    """Maximum length of a sequence in tokens; longer ones are truncated (paper, C.3)."""

    optimizer: str = "adafactor"
    """Name of the optimizer in transformers (paper, C.3)."""

    warmup: Share = 0.05
    """Share of the steps over which the learning rate rises (paper, C.3)."""

    max_grad_norm: float = 0.0
    """Gradients are clipped to this norm; 0 turns clipping off (StarCoder2-Instruct)."""

    dpo_beta: PositiveOrZero = 0.1
    """How strongly dpo keeps the model close to the base model."""

    packing: bool = False
    """Fill sequences of --max-length with several examples, which do not attend to each other. An optimizer step takes
    as many sequences as hold --batch-size examples on average: faster, but not exactly the paper's batches."""

    chat_template: Path = PROMPTS / "chat.jinja"
    """Jinja chat template to store in the tokenizer; prompts/reference/chat.jinja is that of StarCoder2-Instruct."""

    reasoning: Literal["strip", "keep"] = field(default="strip", metadata=LATER)
    """Whether the model also learns to think before it answers, from the column `reasoning` (or `reasoning_content` of
    the last message): as the chat template writes it, or between <think> and </think> where the template does not."""

    average_loss_over: Literal["tokens", "sequences"] = field(default="tokens", metadata=LATER)
    """Whether all tokens of an optimizer step weigh the same, or all device batches, however many tokens these have.
    The second is what transformers did in 2024: with --device-batch-size 1, each sequence weighed the same."""

    eval_fraction: float = 0.0
    """Share of the examples to hold out for measuring the loss."""

    eval_steps: Count = field(default=100, metadata=OPERATIONAL)
    """Optimizer steps between measurements on the held-out examples. The first and the last step are measured, too."""


def checked(options: Options) -> Options:
    """The options, with those that depend on others filled in; UserError if they contradict each other."""
    check_training(options, options.eval_fraction)
    if options.method == "dpo" and options.packing:
        raise UserError("--packing cannot be combined with --method dpo, because TRL pads pairs")
    if not options.chat_template.is_file():
        raise UserError(f"--chat-template {options.chat_template} is not a file")
    if options.method == "dpo" and options.reasoning == "keep":
        raise UserError("--reasoning keep cannot be combined with --method dpo, whose pairs have no reasoning")
    dpo = options.method == "dpo"
    rate = 1e-6 if dpo else 1e-4 if options.lora_rank else 1e-5
    return dataclasses.replace(
        options,
        output=folder_of(options.output),
        config=options.config
        or ("preferences" if dpo and not is_single_file(options.input, options.hf_token) else None),
        learning_rate=rate if options.learning_rate is None else options.learning_rate,
        epochs=(1.0 if dpo else 4.0) if options.epochs is None else options.epochs,
    )


# Examples -------------------------------------------------------------------------------------------------------------


def read_examples(options: Options) -> tuple[Source, Dataset]:
    """The source of the examples, and its first `--max-samples` rows; UserError if it lacks the columns."""
    source = read_input(options)
    names = set(source.rows.column_names)
    pairs = {"prompt", "chosen", "rejected"}
    if not (pairs <= names if options.method == "dpo" else "messages" in names or {"instruction", "response"} <= names):
        wanted = ", ".join(sorted(pairs)) if options.method == "dpo" else "messages, or instruction and response"
        raise UserError(f"{options.input} lacks {wanted}; its columns are {', '.join(source.rows.column_names)}")
    for name in ("instruction", "response") if not {"messages", *pairs} & names else ():
        check_type(source.rows, source.name, name)
    # The rows are asked, as the type of messages that differ in their keys does not say what is in them.
    chats = source.rows["messages"] if "messages" in names else ()
    within = (chat[-1].get("reasoning_content") for chat in chats if chat)
    if options.reasoning == "keep" and "reasoning" not in names and not any(within):
        raise UserError(
            f"{options.input} lacks the column reasoning, which --reasoning keep learns from and sample_responses.py "
            "--reasoning keep writes"
        )
    return source, source.rows.select(range(min(len(source), options.max_samples or len(source))))


def load_tokenizer(options: Options) -> PreTrainedTokenizerBase:
    """The tokenizer with the chat template, which says so where answers begin with reasoning."""
    tokenizer = base_model(options).load_tokenizer(options.chat_template)
    if options.reasoning == "keep" and END not in str(tokenizer.chat_template):
        tokenizer.chat_template = f"{tokenizer.chat_template}{THINKS}"
    return tokenizer


def with_reasoning(answer: Message, reasoning: str, tokenizer: PreTrainedTokenizerBase) -> Message:
    """An answer with the reasoning before it, as the chat template takes it: Qwen's as `reasoning_content`."""
    if "reasoning_content" in str(tokenizer.chat_template):
        return answer | {"reasoning_content": reasoning}
    return answer | {"content": f"{BEGIN}\n{reasoning}\n{END}\n\n{answer['content']}"}


def without_reasoning(answer: Message) -> Message:
    """An answer without the reasoning that it may have beside its content, which some chat templates would write."""
    return {name: value for name, value in answer.items() if name != "reasoning_content"}


def to_tokens(
    row: dict[str, Any], tokenizer: PreTrainedTokenizerBase, max_length: int, keep_reasoning: bool = False
) -> dict[str, Any]:
    """A row (`messages`, or `instruction` and `response`) as `input_ids` and `labels` (NO_LOSS before the response).

    With `keep_reasoning`, the response begins with the row's `reasoning`, if it has any. `outcome` says whether the row
    can be used: whole, cut, no_response, prompt_too_long.
    """
    messages = row.get("messages") or [
        {"role": "user", "content": row.get("instruction")},
        {"role": "assistant", "content": row.get("response")},
    ]
    check_chat("messages", messages)
    reasoning = (row.get("reasoning") or messages[-1].get("reasoning_content") or "") if keep_reasoning else ""
    has_response = (
        len(messages) > 1 and messages[-1]["role"] == "assistant" and None not in (m["content"] for m in messages)
    )
    if not has_response or not (messages[-1]["content"] + reasoning).strip():  # of a blank one, a model learns to end
        return {"input_ids": [], "labels": [], "outcome": "no_response"}
    answer = without_reasoning(messages[-1])
    answer = with_reasoning(answer, reasoning, tokenizer) if reasoning else answer
    prompt, response = prompt_and_response(messages[:-1], [answer], tokenizer)
    if reasoning.strip() not in response:
        raise UserError("the chat template leaves out the reasoning of an answer: choose another --chat-template")
    prompt_ids, ids = tokens_of(prompt, tokenizer), tokens_of(prompt + response, tokenizer)
    # A token may span the end of the prompt and the beginning of the response: it counts as the response's.
    masked = next((i for i, (a, b) in enumerate(zip(prompt_ids, ids, strict=False)) if a != b), len(prompt_ids))
    if masked >= max_length:
        return {"input_ids": [], "labels": [], "outcome": "prompt_too_long"}
    labels = [NO_LOSS] * masked + ids[masked:]
    outcome = "cut" if len(ids) > max_length else "whole"
    return {"input_ids": ids[:max_length], "labels": labels[:max_length], "outcome": outcome}


def to_pair(row: dict[str, Any], tokenizer: PreTrainedTokenizerBase, max_length: int) -> dict[str, Any]:
    """A preference (`prompt`, `chosen` and `rejected`, each a list of messages) as texts, with its `outcome`.

    The prompt lacks the token that the tokenizer puts before every text: TRL has it put there.
    """
    parts = [row[name] or [] for name in ("prompt", "chosen", "rejected")]
    for name, part in zip(("prompt", "chosen", "rejected"), parts, strict=True):
        check_chat(name, part)
    if not all(parts) or any(message["content"] is None for part in parts for message in part):
        return {"prompt": "", "chosen": "", "rejected": "", "outcome": "no_response"}
    answers = ([without_reasoning(message) for message in part] for part in parts[1:])
    (prompt, chosen), (_, rejected) = (prompt_and_response(parts[0], answer, tokenizer) for answer in answers)
    lengths = [len(tokens_of(text, tokenizer)) for text in (prompt, prompt + chosen, prompt + rejected)]
    outcome = "prompt_too_long" if lengths[0] >= max_length else "cut" if max(lengths) > max_length else "whole"
    prompt = prompt.removeprefix(begin_of(tokenizer))
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, "outcome": outcome}


def prepare(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, options: Options
) -> tuple[Dataset, Dataset | None, dict[str, int]]:
    """The training examples, the held-out ones if there are any, and counts of what became of the rows.

    UserError if too few rows can be used.
    """
    from datasets import Features, List, Value

    dpo, how = options.method == "dpo", {"tokenizer": tokenizer, "max_length": options.max_length}
    text, ids = Value("string"), List(Value("int64"))
    columns = {"prompt": text, "chosen": text, "rejected": text} if dpo else {"input_ids": ids, "labels": ids}
    prepared = rows.map(
        to_pair if dpo else to_tokens,
        fn_kwargs=how if dpo else how | {"keep_reasoning": options.reasoning == "keep"},
        remove_columns=rows.column_names,
        features=Features(columns | {"outcome": text}),  # a thousand rows that can't be used would not tell them
        desc="examples",
    )
    outcomes = prepared["outcome"][:]
    usable = [i for i, outcome in enumerate(outcomes) if outcome in ("whole", "cut")]
    usable = prepared.select(usable).remove_columns("outcome")
    counts = {outcome: n for outcome, n in Counter(outcomes).items() if outcome != "whole"}
    return with_held_out(usable, len(rows), counts, options, options.eval_fraction)


def warn_of_losses(counts: dict[str, int], rows: int, max_length: int) -> None:
    """Say before the training, and not only on the card, which rows it lacks, and which it has in part."""
    left_out = {outcome: counts[outcome] for outcome in ("no_response", "prompt_too_long") if outcome in counts}
    if left_out:
        reasons = ", ".join(f"{n} {outcome}" for outcome, n in left_out.items())
        warn(f"{sum(left_out.values())} of {rows} rows are left out: {reasons}")
    if cut := counts.get("cut"):
        warn(f"{cut} of {rows} rows are cut at --max-length {max_length}, and do not teach where an answer ends")


# Training -------------------------------------------------------------------------------------------------------------


def training_arguments(options: Options, examples_per_sequence: float = 1.0, devices: int = 1) -> DPOConfig | SFTConfig:
    """The paper's hyperparameters (appendix C.3), under TRL's names."""
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.sft_config import SFTConfig

    # Imported here because TRL comes with it: options and data are checked first, and --help answers at once.
    from selfalign.training.trainers import check_names

    check_names(options.optimizer, options.report_to)
    at_a_time = options.device_batch_size * devices
    if not options.packing and (options.batch_size % at_a_time or options.batch_size < at_a_time):
        raise UserError(
            f"--batch-size {options.batch_size} must be a multiple of {devices} devices x "
            f"--device-batch-size {options.device_batch_size}"
        )
    sequences = options.batch_size / examples_per_sequence
    if (filled := max(1, round(sequences))) < at_a_time:
        raise UserError(
            f"--batch-size {options.batch_size} fills {filled} packed sequences, and {devices} devices x "
            f"--device-batch-size {options.device_batch_size} are more: lower the second, or raise the first"
        )
    common = common_arguments(options, options.eval_steps if options.eval_fraction else None)
    common["bf16"] |= multiplies_in_bfloat16(options.dtype)
    common |= {
        "learning_rate": options.learning_rate,
        "num_train_epochs": options.epochs,
        "per_device_train_batch_size": options.device_batch_size,
        "per_device_eval_batch_size": options.device_batch_size,
        "gradient_accumulation_steps": max(1, round(sequences / at_a_time)),
        "optim": options.optimizer,
        "warmup_steps": min(options.warmup, ALL),  # below 1, it is a share of the steps
        "max_grad_norm": options.max_grad_norm,
    }
    if options.method == "dpo":
        return DPOConfig(**common, max_length=options.max_length, beta=options.dpo_beta)
    # The examples are already tokenized and truncated; packed ones are concatenated, and told apart by their positions.
    return SFTConfig(**common, max_length=None, padding_free=options.packing)


def make_trainer(
    options: Options,
    tokenizer: PreTrainedTokenizerBase,
    examples: Dataset,
    held_out: Dataset | None = None,
    devices: int = 1,
) -> SFT | DPO:
    """TRL's trainer for the examples from `prepare`."""
    from trl.data_utils import pack_dataset

    from selfalign.training.trainers import DPO, SFT, KeepNewestCheckpoint, StopWithoutLoss

    # Packing puts whole examples into a sequence. From the column `seq_lengths` that it adds, TRL's collator makes
    # positions that begin at 0 for each example, and from these the model knows which tokens may attend to which.
    packed, base = examples, base_model(options)
    if options.packing:
        base.check_packing()
        packed = pack_dataset(examples.shuffle(seed=options.seed), options.max_length, "bfd")
    arguments: Any = training_arguments(options, len(examples) / len(packed), devices)
    given: dict[str, Any] = {
        "model": base.load(),
        "args": arguments,
        "train_dataset": packed,
        "eval_dataset": held_out,
        "processing_class": tokenizer,
        "peft_config": adapters(options.lora_rank) if options.lora_rank else None,
        "callbacks": [KeepNewestCheckpoint(), StopWithoutLoss()],
    }
    if options.method == "dpo":
        return DPO(**given, ref_model=None if options.lora_rank else base.load())
    trainer = SFT(**given)
    if options.average_loss_over == "sequences":
        trainer.model_accepts_loss_kwargs = False  # the number of tokens in the whole step, to divide by
    return trainer


def train(options: Options, folder: ModelFolder, source: Source, rows: Dataset) -> None:
    """Fine-tune the base model on the rows, from the last checkpoint if there is one, and fill the folder."""
    from selfalign.training.trainers import is_finished

    tokenizer = load_tokenizer(options)
    with folder.devices.main_process_first():
        examples, held_out, counts = prepare(rows, tokenizer, options)
    if folder.devices.is_main_process:
        warn_of_losses(counts, len(rows), options.max_length)
    trainer = make_trainer(options, tokenizer, examples, held_out, folder.devices.num_processes)
    a_step = trainer.args.gradient_accumulation_steps * options.device_batch_size * folder.devices.num_processes
    checkpoint = folder.last_checkpoint(a_step)
    trainer.args.eval_on_start = held_out is not None and checkpoint is None
    if checkpoint and is_finished(trainer, checkpoint):
        trainer.args.num_train_epochs = 0  # where the last epoch is not whole, transformers would take one more step
    trainer.train(resume_from_checkpoint=checkpoint)
    folder.save(trainer, tokenizer, merge=options.lora_rank > 0)
    folder.describe(trainer, tokenizer, source, len(rows), counts)


def main(options: Options) -> None:
    """Fine-tune the model, unless that is done already, and upload it if asked to."""
    options = checked(options)
    source, rows = read_examples(options)
    identity = {"step": "finetune", "options": identity_of(options), "input": source.pin, "rows": len(rows)}
    identity["options"]["chat_template"] = options.chat_template.read_text()
    if options.average_loss_over == "sequences":
        identity["device_batch_size"] = options.device_batch_size

    run_training(options, base_model(options), identity, lambda folder: train(options, folder, source, rows))


if __name__ == "__main__":
    run_script(main, Options, __doc__)
