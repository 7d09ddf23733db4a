"""Step 7: instructions -> model. The base model is fine-tuned on what it wrote itself.

Paper: section 2.3 and appendix C.3. Adafactor, learning rate 1e-5 (2e-5 for data of other models), linear schedule with
5 % warm-up, batches of 64 examples of at most 1280 tokens, bfloat16, no dropout, loss on the response alone.

    python finetune.py ./instructions ./model --model Qwen/CodeQwen1.5-7B
    accelerate launch finetune.py ./instructions ./model --model bigcode/starcoder2-3b      # on several GPUs
    python finetune.py ./instructions ./aligned --model ./model --method dpo                # preferences, after that

What does not fit on one GPU is sharded: `accelerate launch --config_file experiments/accelerate/fsdp.yaml` (or
zero3.yaml).

Columns in: `messages` (a chat that ends with the assistant), or `instruction` and `response`, as in
bigcode/self-oss-instruct-sc2-exec-filter-50k. For `--method dpo`: `prompt`, `chosen` and `rejected`, each a list of
messages, as in the configuration `preferences` of what select.py writes.

OUTPUT is a transformers model folder with the chat template in its tokenizer, a card and the loss curve. While training
goes on it holds checkpoints: the same command resumes from the last one, and ends with the weights of a run that was
not stopped.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from selfalign.errors import UserError
from selfalign.options import (
    OPERATIONAL,
    PROMPTS,
    Count,
    CountOrZero,
    Positive,
    PositiveOrZero,
    Share,
    StepOptions,
    run_script,
)

if TYPE_CHECKING:
    from selfalign.runner.source import Source

NO_LOSS = -100  # the label that torch's cross entropy leaves out


@dataclass(frozen=True, kw_only=True)
class Options(StepOptions):
    """Options of this step; the defaults are the paper's."""

    output: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUTPUT")] = field(metadata=OPERATIONAL)
    """Folder of the model that is made."""

    model: str = "Qwen/CodeQwen1.5-7B"
    """Base model: a Hub id (org/name or org/name@revision), a folder, or `smollm2` for the quickstart's."""

    method: Literal["sft", "dpo"] = "sft"
    """Learn responses (paper), or to prefer chosen ones to rejected ones (DPO, arXiv 2305.18290)."""

    learning_rate: Positive | None = None
    """1e-5 without it (paper, C.3; use 2e-5 for data of other models); 1e-4 with --lora-rank (adapters want about ten
    times as much), 1e-6 for dpo."""

    epochs: Positive | None = None
    """Passes over the data; 4 without it (StarCoder2-Instruct; the paper does not say), 1 for dpo."""

    batch_size: Count = 64
    """Examples in an optimizer step, over all devices (paper, C.3)."""

    device_batch_size: Count = field(default=1, metadata=OPERATIONAL)
    """Sequences that a device takes at a time; gradients accumulate to the batch size. More than 1 with --packing wants
    flash attention."""

    max_length: Count = 1280
    """Longest sequence in tokens; what is longer is cut (paper, C.3)."""

    optimizer: str = "adafactor"
    """As transformers calls it (paper, C.3)."""

    warmup: Share = 0.05
    """Share of the steps in which the learning rate rises (paper, C.3)."""

    max_grad_norm: float = 0.0
    """Gradients longer than this are cut; 0 leaves them (StarCoder2-Instruct)."""

    dpo_beta: PositiveOrZero = 0.1
    """How strongly dpo holds on to the base model."""

    packing: bool = False
    """Fill sequences of --max-length with several examples, which do not see each other. An optimizer step takes as
    many sequences as hold --batch-size examples on average: faster, but not quite the paper's batches."""

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Numbers of the weights; `auto` is bfloat16 on a GPU that has it (StarCoder2-Instruct), else float32."""

    attention: str = field(default="auto", metadata=OPERATIONAL)
    """As transformers calls it; `auto` is the flash attention that is installed, else torch's own (sdpa)."""

    lora_rank: CountOrZero = 0
    """Train adapters of this rank on all linear layers, which are merged into the model in the end; 0 trains the whole
    model (paper)."""

    quantize_4bit: bool = False
    """Hold the base model in 4 bits under the adapters (QLoRA); needs bitsandbytes."""

    gradient_checkpointing: bool = field(default=False, metadata=OPERATIONAL)
    """Recompute activations: less memory, a third more time."""

    chat_template: Path = PROMPTS / "chat.jinja"
    """Jinja chat template that goes into the tokenizer."""

    eval_fraction: float = 0.0
    """Share of the examples that is held out, and whose loss is measured."""

    eval_steps: Count = field(default=100, metadata=OPERATIONAL)
    """Optimizer steps between measurements on what is held out; the first and the last step are measured anyway."""

    save_steps: Count = field(default=100, metadata=OPERATIONAL)
    """Optimizer steps between checkpoints."""

    report_to: str = field(default="none", metadata=OPERATIONAL)
    """Where transformers reports to, if it is installed: trackio, wandb, tensorboard ..."""

    push_to_hub: str | None = field(default=None, metadata=OPERATIONAL)
    """Hub id to upload the finished model to."""


def checked(options: Options) -> Options:
    """The options with what follows from others filled in; UserError where they do not go together."""
    if options.executor or options.shard:
        raise UserError("finetune.py is spread over GPUs by accelerate launch, not by --executor or --shard")
    if options.method == "dpo" and options.packing:
        raise UserError("--packing does not go with --method dpo: TRL pads pairs")
    if options.quantize_4bit and not options.lora_rank:
        raise UserError("--quantize-4bit needs --lora-rank: weights of 4 bits can't be trained themselves")
    if options.quantize_4bit and importlib.util.find_spec("bitsandbytes") is None:
        raise UserError("--quantize-4bit needs bitsandbytes: pip install bitsandbytes")
    if not 0 <= options.eval_fraction < 1:
        raise UserError(f"--eval-fraction {options.eval_fraction} is no share between 0 and 1")
    if not options.chat_template.is_file():
        raise UserError(f"--chat-template {options.chat_template} is no file")
    dpo = options.method == "dpo"
    rate = 1e-6 if dpo else 1e-4 if options.lora_rank else 1e-5
    output = os.path.expanduser(options.output)
    return dataclasses.replace(
        options,
        output=output if output.startswith((".", "/")) else f"./{output}",  # a folder, never a Hub id
        config=options.config or ("preferences" if dpo else None),
        learning_rate=rate if options.learning_rate is None else options.learning_rate,
        epochs=(1.0 if dpo else 4.0) if options.epochs is None else options.epochs,
    )


def read_examples(options: Options) -> tuple[Source, Any]:
    """The source of the examples, and its first `--max-samples` rows; UserError if it lacks the columns."""
    from selfalign.runner.source import read_input

    source = read_input(options)
    names = set(source.rows.column_names)
    pairs = {"prompt", "chosen", "rejected"}
    if not (pairs <= names if options.method == "dpo" else "messages" in names or {"instruction", "response"} <= names):
        wanted = ", ".join(sorted(pairs)) if options.method == "dpo" else "messages, or instruction and response"
        raise UserError(f"{options.input} lacks {wanted}; its columns are {', '.join(source.rows.column_names)}")
    return source, source.rows.select(range(min(len(source), options.max_samples or len(source))))


def texts_of(prompt: list[dict[str, str]], answer: list[dict[str, str]], tokenizer: Any) -> tuple[str, str]:
    """A chat as the model reads it, in two parts: up to where its answer begins, and the answer with its end token."""
    asked = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    told = tokenizer.apply_chat_template([*prompt, *answer], tokenize=False)
    if not told.startswith(asked):
        raise UserError("the chat template writes a question otherwise when it is answered: its prompt can't be masked")
    response = told[len(asked) :]
    before, end, after = response.rpartition(tokenizer.eos_token)
    return asked, before + end if end and not after.strip() else response  # nothing is generated after the end


def tokens_of(text: str, tokenizer: Any) -> list[int]:
    """Token ids of a text, after the beginning-of-sequence token if the tokenizer puts one before every prompt."""
    begin = tokenizer("").input_ids[:1] if tokenizer.bos_token else []
    begins = begin == [tokenizer.bos_token_id] and not text.startswith(tokenizer.bos_token)
    return (begin if begins else []) + tokenizer(text, add_special_tokens=False).input_ids


def to_tokens(row: dict[str, Any], tokenizer: Any, max_length: int) -> dict[str, Any]:
    """A row as `input_ids` and `labels`, which are NO_LOSS up to the response; `outcome` says if it can be used."""
    messages = row.get("messages") or [
        {"role": "user", "content": row.get("instruction")},
        {"role": "assistant", "content": row.get("response")},
    ]
    nothing = {"input_ids": [], "labels": []}
    if len(messages) < 2 or messages[-1]["role"] != "assistant" or any(m["content"] is None for m in messages):
        return nothing | {"outcome": "no_response"}
    prompt, response = texts_of(messages[:-1], messages[-1:], tokenizer)
    asked, told = tokens_of(prompt, tokenizer), tokens_of(prompt + response, tokenizer)
    # Tokens may join the end of the prompt to the beginning of the response: those are the response's.
    masked = next((i for i, (a, b) in enumerate(zip(asked, told, strict=False)) if a != b), len(asked))
    if masked >= max_length:
        return nothing | {"outcome": "prompt_too_long"}
    labels = [NO_LOSS] * masked + told[masked:]
    outcome = "cut" if len(told) > max_length else "whole"
    return {"input_ids": told[:max_length], "labels": labels[:max_length], "outcome": outcome}


def to_pair(row: dict[str, Any], tokenizer: Any, max_length: int) -> dict[str, Any]:
    """A row of preferences as the texts `prompt`, `chosen` and `rejected`; `outcome` says whether it can be used."""
    parts = [row[name] or [] for name in ("prompt", "chosen", "rejected")]
    if not all(parts) or any(message["content"] is None for part in parts for message in part):
        return {"prompt": "", "chosen": "", "rejected": "", "outcome": "no_response"}
    (prompt, chosen), (_, rejected) = (texts_of(parts[0], answer, tokenizer) for answer in parts[1:])
    lengths = [len(tokens_of(text, tokenizer)) for text in (prompt, prompt + chosen, prompt + rejected)]
    outcome = "prompt_too_long" if lengths[0] >= max_length else "cut" if max(lengths) > max_length else "whole"
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, "outcome": outcome}


def prepare(rows: Any, tokenizer: Any, options: Options) -> tuple[Any, Any, dict[str, int]]:
    """What is trained on, what is held out (or None), and the counts of what became of the rows."""
    prepared = rows.map(
        to_pair if options.method == "dpo" else to_tokens,
        fn_kwargs={"tokenizer": tokenizer, "max_length": options.max_length},
        remove_columns=rows.column_names,
        desc="examples",
    )
    outcomes = prepared["outcome"][:]
    usable = prepared.select([i for i, outcome in enumerate(outcomes) if outcome in ("whole", "cut")])
    usable = usable.remove_columns("outcome")
    counts = {outcome: n for outcome, n in Counter(outcomes).items() if outcome != "whole"}
    if len(usable) < (2 if options.eval_fraction else 1):
        raise UserError(f"{options.input} has {len(usable)} examples to train on, of {len(rows)} rows: {counts}")
    if not options.eval_fraction:
        return usable, None, counts | {"examples": len(usable)}
    parts = usable.train_test_split(test_size=max(1, int(options.eval_fraction * len(usable))), seed=options.seed)
    usable, held_out = parts["train"], parts["test"]
    return usable, held_out, counts | {"held_out": len(held_out), "examples": len(usable)}


def load_tokenizer(options: Options) -> Any:
    """The base model's tokenizer, with our chat template."""
    from transformers import AutoTokenizer

    from selfalign.training.trainer import base_model

    tokenizer = base_model(AutoTokenizer, options)
    if tokenizer.eos_token is None:
        raise UserError(f"the tokenizer of {options.model} has no end token: nothing could tell the model to stop")
    tokenizer.chat_template = options.chat_template.read_text()
    try:
        tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False, add_generation_prompt=True)
    except Exception as error:  # what a template computes can raise anything
        raise UserError(f"--chat-template {options.chat_template} is no chat template: {error}") from None
    return tokenizer


def load_model(options: Options) -> Any:
    """The base model without dropout, as `--dtype`, `--attention` and `--quantize-4bit` want it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from selfalign.training.trainer import attention_of, base_model, dtype_of, four_bits, without_dropout

    dtype = dtype_of(options.dtype)
    return base_model(
        AutoModelForCausalLM,
        options,
        config=without_dropout(base_model(AutoConfig, options)),
        dtype=getattr(torch, dtype),
        attn_implementation=attention_of(options.attention, dtype),
        **(four_bits() if options.quantize_4bit else {}),
    )


def training_arguments(options: Options, examples_per_sequence: float = 1.0, devices: int = 1) -> Any:
    """The paper's hyper-parameters as TRL calls them."""
    import torch
    from transformers.training_args import OptimizerNames
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.sft_config import SFTConfig

    from selfalign.training.trainer import check_report_to, with_deepspeed

    if options.optimizer not in (known := [str(name.value) for name in OptimizerNames]):
        raise UserError(f"--optimizer {options.optimizer} is none of transformers': {', '.join(known)}")

    at_a_time = options.device_batch_size * devices
    if not options.packing and (options.batch_size % at_a_time or options.batch_size < at_a_time):
        raise UserError(
            f"--batch-size {options.batch_size} is no multiple of {devices} devices x "
            f"--device-batch-size {options.device_batch_size}"
        )
    check_report_to(options.report_to)
    common: dict[str, Any] = {
        "output_dir": options.output,
        "learning_rate": options.learning_rate,
        "num_train_epochs": options.epochs,
        "per_device_train_batch_size": options.device_batch_size,
        "per_device_eval_batch_size": options.device_batch_size,
        "gradient_accumulation_steps": max(1, round(options.batch_size / examples_per_sequence / at_a_time)),
        "optim": options.optimizer,
        "lr_scheduler_type": "linear",
        "warmup_steps": options.warmup,  # below 1 it is the ratio
        "max_grad_norm": options.max_grad_norm,
        "bf16": with_deepspeed(),  # the weights are what --dtype says; DeepSpeed alone wants to be told
        "gradient_checkpointing": options.gradient_checkpointing,
        "activation_checkpointing": options.gradient_checkpointing,
        "use_cpu": not torch.cuda.is_available(),
        "seed": options.seed,
        "data_seed": options.seed,
        "logging_steps": 1,
        "eval_strategy": "steps" if options.eval_fraction else "no",
        "eval_steps": options.eval_steps if options.eval_fraction else None,
        "save_steps": options.save_steps,
        "report_to": options.report_to,
    }
    if options.method == "dpo":
        return DPOConfig(**common, max_length=options.max_length, beta=options.dpo_beta)
    # The examples come in tokens and cut; packed ones are concatenated, with positions that tell them apart.
    return SFTConfig(**common, max_length=None, padding_free=options.packing)


def make_trainer(options: Options, tokenizer: Any, examples: Any, held_out: Any = None, devices: int = 1) -> Any:
    """TRL's trainer for what `prepare` gives."""
    from selfalign.training.trainer import DPO, SFT, Checkpoints, lora, pack

    packed = pack(examples, options.max_length, options.seed) if options.packing else examples
    arguments = training_arguments(options, len(examples) / len(packed), devices)
    given = {
        "model": load_model(options),
        "args": arguments,
        "train_dataset": packed,
        "eval_dataset": held_out,
        "processing_class": tokenizer,
        "peft_config": lora(options.lora_rank) if options.lora_rank else None,
        "callbacks": [Checkpoints()],
    }
    if options.method == "dpo":
        return DPO(**given, ref_model=None if options.lora_rank else load_model(options))
    return SFT(**given)


def main(options: Options) -> None:
    """Fine-tune the model on the examples, from the last checkpoint if there is one."""
    from selfalign.options import identity_of

    options = checked(options)
    source, rows = read_examples(options)
    identity = {"step": "finetune", "options": identity_of(options), "input": source.pin, "rows": len(rows)}
    identity["options"]["chat_template"] = options.chat_template.read_text()

    os.environ.setdefault("GOMP_SPINCOUNT", "4000")  # see serve.py: torch's threads must not spin beside other work
    from selfalign.training import (
        trainer as training,  # takes seconds: what is wrong with options and data has been said by now
    )

    with training.output_folder(options, identity) as folder:
        if folder.complete:
            folder.say(f"finetune: {options.output} is already there, made from the same data with the same options")
        else:
            tokenizer = load_tokenizer(options)
            with folder.devices.main_process_first():
                examples, held_out, counts = prepare(rows, tokenizer, options)
            trainer = make_trainer(options, tokenizer, examples, held_out, folder.devices.num_processes)
            checkpoint = folder.last_checkpoint()
            trainer.args.eval_on_start = held_out is not None and checkpoint is None
            trainer.train(resume_from_checkpoint=checkpoint)
            folder.save(trainer, tokenizer, load_model)
            folder.describe(trainer, tokenizer, source, len(rows), counts)
        if options.push_to_hub:
            folder.upload()


if __name__ == "__main__":
    run_script(main, Options, __doc__)
