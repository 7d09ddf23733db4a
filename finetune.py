"""Step 7: instructions -> model. The base model is fine-tuned on what it wrote itself.

Paper: section 2.3 and appendix C.3. Adafactor, learning rate 1e-5 (2e-5 for data of other models), linear schedule with
5 % warm-up, batches of 64 sequences of at most 1280 tokens, loss on the response alone.

    python finetune.py ./instructions ./model --model Qwen/CodeQwen1.5-7B
    accelerate launch finetune.py ./instructions ./model --model bigcode/starcoder2-3b      # on several GPUs

Columns in: `messages` (a chat that ends with the assistant), or `instruction` and `response`, as in
bigcode/self-oss-instruct-sc2-exec-filter-50k.

OUTPUT is a transformers model folder with the chat template in its tokenizer. While training goes on it holds
checkpoints: the same command resumes from the last one.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from selfalign.options import OPERATIONAL, PROMPTS, StepOptions, UserError, run_script


@dataclass(frozen=True, kw_only=True)
class Options(StepOptions):
    """Options of this step; the defaults are the paper's."""

    output: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUTPUT")] = field(metadata=OPERATIONAL)
    """Folder of the model that is made."""

    model: str = "Qwen/CodeQwen1.5-7B"
    """Base model: a Hub id, a folder, or `smollm2` for the quickstart's."""

    learning_rate: float = 1e-5
    """Paper, C.3: 1e-5 for data of the model itself, 2e-5 for that of other models."""

    epochs: float = 4.0
    """Passes over the data (StarCoder2-Instruct: 4; the paper does not say)."""

    batch_size: int = 64
    """Sequences in an optimizer step, over all devices (paper, C.3)."""

    device_batch_size: int = field(default=1, metadata=OPERATIONAL)
    """Sequences that a device takes at a time; gradients accumulate to the batch size."""

    max_length: int = 1280
    """Longest sequence in tokens; what is longer is cut (paper, C.3)."""

    optimizer: str = "adafactor"
    """As transformers calls it (paper, C.3)."""

    warmup: float = 0.05
    """Share of the steps in which the learning rate rises (paper, C.3)."""

    max_grad_norm: float = 0.0
    """Gradients longer than this are cut; 0 leaves them (StarCoder2-Instruct)."""

    packing: bool = False
    """Fill sequences with several examples, kept apart; faster, but other batches than the paper's."""

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Numbers of the weights; `auto` is bfloat16 on a GPU that has it (StarCoder2-Instruct), else float32."""

    gradient_checkpointing: bool = field(default=False, metadata=OPERATIONAL)
    """Recompute activations: less memory, a third more time."""

    chat_template: Path = PROMPTS / "chat.jinja"
    """Jinja chat template that goes into the tokenizer."""

    save_steps: int = field(default=100, metadata=OPERATIONAL)
    """Optimizer steps between checkpoints."""

    report_to: str = field(default="none", metadata=OPERATIONAL)
    """Where transformers reports to: trackio, wandb, tensorboard ..."""

    push_to_hub: str | None = field(default=None, metadata=OPERATIONAL)
    """Hub id to upload the finished model to."""


def to_prompt_and_completion(row: dict[str, Any]) -> dict[str, Any]:
    """A row as a chat in two parts; the loss is taken on the second alone."""
    messages = row.get("messages") or [
        {"role": "user", "content": row["instruction"]},
        {"role": "assistant", "content": row["response"]},
    ]
    return {"prompt": messages[:-1], "completion": messages[-1:]}


def read_examples(options: Options) -> Any:
    """The source of the examples, and the examples as `prompt` and `completion`."""
    from selfalign.steps import read_input

    source = read_input(options)
    names = source.rows.column_names
    if "messages" not in names and not {"instruction", "response"} <= set(names):
        raise UserError(f"{options.input} has neither messages nor instruction and response, but {', '.join(names)}")
    rows = source.rows.select(range(min(len(source), options.max_samples or len(source))))
    return source, rows.map(to_prompt_and_completion, remove_columns=names, desc="examples")


def load_model(options: Options) -> tuple[Any, Any]:
    """The base model, and its tokenizer with our chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from selfalign.small_model import resolve_model

    name = resolve_model(options.model)
    has_bfloat16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    dtype = {"auto": "bfloat16" if has_bfloat16 else "float32"}.get(options.dtype, options.dtype)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, token=options.hf_token)
        model = AutoModelForCausalLM.from_pretrained(
            name, dtype=getattr(torch, dtype), attention_dropout=0.0, token=options.hf_token
        )
    except (OSError, ValueError) as error:
        raise UserError(f"model {options.model} can't be loaded: {str(error).splitlines()[0]}") from None
    tokenizer.chat_template = options.chat_template.read_text()
    return model, tokenizer


def training_arguments(options: Options, world_size: int) -> Any:
    """The paper's hyper-parameters as TRL calls them."""
    import torch
    from trl.trainer.sft_config import SFTConfig

    accumulation, rest = divmod(options.batch_size, options.device_batch_size * world_size)
    if rest or not accumulation:
        raise UserError(
            f"--batch-size {options.batch_size} is no multiple of {world_size} devices x "
            f"--device-batch-size {options.device_batch_size}"
        )
    return SFTConfig(
        output_dir=options.output,
        learning_rate=options.learning_rate,
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.device_batch_size,
        gradient_accumulation_steps=accumulation,
        max_length=options.max_length,
        optim=options.optimizer,
        lr_scheduler_type="linear",
        warmup_steps=options.warmup,  # below 1 it is the ratio
        max_grad_norm=options.max_grad_norm,
        packing=options.packing,
        completion_only_loss=True,
        bf16=False,  # the weights are what --dtype says; no second copy in float32
        activation_checkpointing=options.gradient_checkpointing,
        use_cpu=not torch.cuda.is_available(),
        seed=options.seed,
        data_seed=options.seed,
        logging_steps=1,
        save_steps=options.save_steps,
        save_total_limit=1,
        report_to=options.report_to,
    )


def main(options: Options) -> None:
    """Fine-tune the model on the examples, from the last checkpoint if there is one."""
    import json

    from selfalign.cards import versions
    from selfalign.options import command_of, identity_of
    from selfalign.steps import refuse_other_run
    from selfalign.writing import open_output

    if not options.output.startswith((".", "/", "~")):
        options = dataclasses.replace(options, output=f"./{options.output}")  # a folder, never a Hub id
    source, examples = read_examples(options)

    os.environ.setdefault("GOMP_SPINCOUNT", "4000")  # see serve.py: torch's threads must not spin beside other work
    from accelerate import PartialState  # takes seconds: what is wrong with the data is said before
    from transformers.trainer_utils import get_last_checkpoint

    devices = PartialState()
    arguments = training_arguments(options, devices.num_processes)
    identity = {"step": "finetune", "options": identity_of(options), "input": source.pin, "rows": len(examples)}
    identity["options"]["chat_template"] = options.chat_template.read_text()
    run = {"step": "finetune", "identity": identity, "command": command_of(options), "versions": versions()}
    with devices.main_process_first(), open_output(options.output) as output:
        there = output.read("run.json")
        refuse_other_run(output.name, there, json.loads(json.dumps(identity)), output.foreign_files)
        if json.loads(there or "{}").get("complete"):
            print(f"finetune: {options.output} is already there, made from the same data with the same options")
            return
        output.write("run.json", json.dumps(run | {"complete": False}, indent=2))

    model, tokenizer = load_model(options)
    trainer = make_trainer(model, tokenizer, examples, arguments)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(options.output))
    trainer.save_model()
    losses = [(entry["step"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]

    if devices.is_main_process:
        tokenizer.save_pretrained(options.output)
        with open_output(options.output) as output:
            counts = {"examples": len(examples), "steps": losses[-1][0] if losses else 0}
            entry = {"step": "finetune", "rows_in": len(examples), "rows_out": len(examples), "counts": counts}
            funnel = [*source.run.get("funnel", []), entry]
            run |= {"complete": True, "losses": losses, "funnel": funnel}
            output.write("run.json", json.dumps(run, indent=2))
        remove_checkpoints(options.output)
        print(f"finetune: {len(examples)} examples, loss {losses[0][1]:.3f} -> {losses[-1][1]:.3f} -> {options.output}")
        if options.push_to_hub:
            upload(options)


def make_trainer(model: Any, tokenizer: Any, examples: Any, arguments: Any) -> Any:
    """TRL's trainer; it masks the prompt of each example by itself."""
    from trl.trainer.sft_trainer import SFTTrainer

    return SFTTrainer(model=model, args=arguments, train_dataset=examples, processing_class=tokenizer)


def remove_checkpoints(folder: str) -> None:
    """The finished model is saved beside them; each is three times as large."""
    import shutil

    for checkpoint in Path(folder).glob("checkpoint-*"):
        shutil.rmtree(checkpoint)


def upload(options: Options) -> None:
    """The model folder as a Hub repo."""
    from huggingface_hub import HfApi

    api = HfApi(token=options.hf_token)
    repo = api.create_repo(str(options.push_to_hub), private=not options.public, exist_ok=True).repo_id
    api.upload_folder(repo_id=repo, folder_path=options.output, ignore_patterns=["checkpoint-*", ".*"])


if __name__ == "__main__":
    run_script(main, Options, __doc__)
