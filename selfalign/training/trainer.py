"""What fine-tuning needs beside its story: loading, packing, adapters, checkpoints that survive any kill, the Hub.

Importing this takes seconds, as torch and TRL come with it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import TrainerCallback
from trl.data_utils import pack_dataset
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_trainer import SFTTrainer

from selfalign.errors import UserError, first_line
from selfalign.models import resolve_model
from selfalign.options import command_of
from selfalign.runner.folder_output import FolderOutput
from selfalign.runner.hub import is_hub_id, with_retries
from selfalign.runner.output import open_output
from selfalign.runner.record import refuse_other_run

if TYPE_CHECKING:
    from selfalign.runner.source import Source

WHOLE = ".whole"  # a file in a checkpoint, made when all others are on the disk
ADAPTER = "adapter"  # folder of what LoRA trained, in the output
NOT_UPLOADED = ["checkpoint-*", ".*", "data/*"]


def base_model(auto_class: Any, options: Any, **more: Any) -> Any:
    """What `auto_class` (AutoConfig, AutoTokenizer, AutoModelForCausalLM) loads of `--model`; UserError if it can't."""
    name, revision = resolve_model(options.model), None
    if is_hub_id(name):
        name, _, revision = name.partition("@")
    try:
        return auto_class.from_pretrained(name, revision=revision or "main", token=options.hf_token, **more)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"model {options.model} can't be loaded: {first_line(error)}") from None


def without_dropout(config: Any) -> Any:
    """The model's configuration with every dropout at 0 (StarCoder2 has three, of 0.1 each)."""
    for name, value in config.to_dict().items():
        if re.search("dropout|pdrop", name) and isinstance(value, (int, float)):
            setattr(config, name, 0.0)
    return config


def dtype_of(name: str) -> str:
    """`auto` is bfloat16 on a GPU that computes with it."""
    has_bfloat16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return {"auto": "bfloat16" if has_bfloat16 else "float32"}.get(name, name)


def attention_of(name: str, dtype: str) -> str:
    """`auto` is the fastest flash attention that is installed for this GPU, else torch's own."""
    from transformers.utils.import_utils import is_flash_attn_2_available, is_flash_attn_3_available

    if name != "auto":
        return name
    if torch.cuda.is_available() and dtype == "bfloat16":
        if torch.cuda.get_device_capability() == (9, 0) and is_flash_attn_3_available():  # Hopper's alone
            return "flash_attention_3"
        if is_flash_attn_2_available():
            return "flash_attention_2"
    return "sdpa"


def four_bits() -> dict[str, Any]:
    """How QLoRA (arXiv 2305.14314) loads its base model."""
    from transformers import BitsAndBytesConfig

    bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": bits, "device_map": {"": PartialState().device}}


def lora(rank: int) -> Any:
    """Adapters on all linear layers but the head, scaled by 2 whatever their rank (arXiv 2106.09685)."""
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")


def pack(examples: Any, length: int, seed: int) -> Any:
    """Examples (`input_ids`, `labels`) put together into sequences of at most `length` tokens, none of them divided.

    A third column, `seq_lengths`, says where each begins: TRL's collator makes positions from it that start at 0 again,
    and from these the model knows what may attend to what.
    """
    return pack_dataset(examples.shuffle(seed=seed), length, "bfd")


def with_deepspeed() -> bool:
    """Whether `accelerate launch` was told to use DeepSpeed, which keeps bfloat16 weights by a setting of its own."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "false") == "true"


def check_report_to(name: str) -> None:
    """UserError if transformers can't report to `name` here."""
    from transformers.integrations.integration_utils import get_available_reporting_integrations

    there = get_available_reporting_integrations()
    if name not in ("none", "all", *there):
        raise UserError(f"--report-to {name} is not installed; what is: {', '.join(there) or 'nothing'}")


class Checkpoints(TrainerCallback):
    """Marks a checkpoint when all of it is on the disk, and only then removes the older ones."""

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        PartialState().wait_for_everyone()  # each process writes a file of its own into it
        if not state.is_world_process_zero:
            return
        newest = Path(args.output_dir, f"checkpoint-{state.global_step}")
        for file in newest.rglob("*"):
            if file.is_file():
                with open(file, "rb") as stream:
                    os.fsync(stream.fileno())
        (newest / WHOLE).touch()
        for checkpoint in newest.parent.glob("checkpoint-*"):
            if checkpoint != newest:
                remove_checkpoint(checkpoint)


def remove_checkpoint(folder: Path) -> None:
    """Its mark goes first: killed halfway, what is left of it is not taken for a checkpoint."""
    (folder / WHOLE).unlink(missing_ok=True)
    shutil.rmtree(folder)


class SFT(SFTTrainer):
    """TRL's trainer, without its card: ours is written in the end."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None: ...


class DPO(DPOTrainer):
    """TRL's trainer, without its card: ours is written in the end."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None: ...


@dataclasses.dataclass
class ModelFolder:
    """The output: whether it is `complete` already, and how it is filled. All processes call all methods."""

    options: Any
    identity: dict[str, Any]
    devices: PartialState
    output: FolderOutput
    complete: bool = False

    @property
    def path(self) -> Path:
        return Path(self.options.output)

    def say(self, sentence: str) -> None:
        if self.devices.is_main_process:
            print(sentence)

    def begin(self) -> None:
        """See whether this run's model is there already; UserError if it is another's."""
        if self.devices.is_main_process:
            there = self.output.read("run.json")
            refuse_other_run(self.output.name, there, self.identity, self.output.foreign_files)
            self.complete = bool(json.loads(there or "{}").get("complete"))
        known = [self.complete]
        broadcast_object_list(known)  # other machines may not see this disk
        self.complete = known[0]

    def last_checkpoint(self) -> str | None:
        """Note that this run is under way; the folder of its newest checkpoint that is whole."""
        if self.devices.is_main_process:
            self.output.write("run.json", json.dumps(self._run() | {"complete": False}, indent=2))
            for checkpoint in self.path.glob("checkpoint-*"):
                if not (checkpoint / WHOLE).exists():
                    remove_checkpoint(checkpoint)
        self.devices.wait_for_everyone()
        whole = [folder for folder in self.path.glob("checkpoint-*") if (folder / WHOLE).exists()]
        return str(max(whole, key=lambda folder: int(folder.name.partition("-")[2]))) if whole else None

    def _run(self) -> dict[str, Any]:
        from selfalign.runner.card import versions

        return {
            "step": "finetune",
            "identity": self.identity,
            "command": command_of(self.options),
            "versions": versions(),
        }

    def save(self, trainer: Any, tokenizer: Any, load_model: Callable[[Any], Any]) -> None:
        """Write the model; adapters lie beside the model that they are merged into."""
        trainer.save_model(str(self.path / ADAPTER if self.options.lora_rank else self.path))
        self.devices.wait_for_everyone()
        if not self.devices.is_main_process:
            return
        if self.options.lora_rank:
            from peft import PeftModel

            base = load_model(dataclasses.replace(self.options, quantize_4bit=False))
            merged: Any = PeftModel.from_pretrained(base, str(self.path / ADAPTER)).merge_and_unload()
            # That the tokenizer's end token ends an answer the trainer has told its own model; `base` may not know.
            merged.generation_config = trainer.model.generation_config
            for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
                setattr(merged.config, name, getattr(trainer.model.config, name, None))
            merged.save_pretrained(self.path)
        tokenizer.save_pretrained(self.path)
        for pickled in self.path.glob("**/training_args.bin"):  # says nothing that run.json does not, and can run code
            if not pickled.parent.name.startswith("checkpoint-"):
                pickled.unlink()

    def describe(self, trainer: Any, tokenizer: Any, source: Source, rows: int, counts: dict[str, int]) -> None:
        """Write the card, the loss curve and run.json, remove the checkpoints, and say how it went."""
        from selfalign.report import model_card as model_cards

        if not self.devices.is_main_process:
            return
        curves = model_cards.curves_of(trainer.state.log_history)
        entry = {
            "step": "finetune",
            "rows_in": rows,
            "rows_out": counts["examples"],
            "counts": counts | {"steps": trainer.state.global_step},
        }
        run = self._run() | {
            "complete": True,
            "base": model_cards.base_of(self.options, trainer.model.config),
            "input": {"name": source.name, **source.pin, "licenses": model_cards.licenses_of(source, self.options)},
            "curves": curves,
            "funnel": [*source.run.get("funnel", []), entry],
        }
        self.output.write(model_cards.PICTURE, model_cards.draw(curves))
        self.output.write("README.md", model_cards.model_card(run, tokenizer, self.output.read("README.md")))
        self.output.write("run.json", json.dumps(run, indent=2))
        for checkpoint in self.path.glob("checkpoint-*"):
            remove_checkpoint(checkpoint)
        with contextlib.suppress(OSError):
            os.rmdir(self.path / "data")  # where a dataset has its parts
        ends = [f"{name} {values[0][1]:.3f} -> {values[-1][1]:.3f}" for name, values in curves.items() if values]
        said = ", ".join([f"{counts['examples']} examples", *ends])
        self.say(f"finetune: {said} -> {self.options.output}")

    def upload(self) -> None:
        """The model folder as a Hub repo; what is there already is not sent again."""
        from huggingface_hub import HfApi

        if not self.devices.is_main_process:
            return
        api = HfApi(token=self.options.hf_token)
        name, private = str(self.options.push_to_hub), not self.options.public
        try:
            repo = with_retries(lambda: api.create_repo(name, private=private, exist_ok=True)).repo_id
            with_retries(lambda: api.upload_folder(repo_id=repo, folder_path=self.path, ignore_patterns=NOT_UPLOADED))
        except Exception as error:  # the libraries raise a dozen types
            raise UserError(f"{name} can't be uploaded ({first_line(error)}): the same command tries again") from error


@contextlib.contextmanager
def output_folder(options: Any, identity: dict[str, Any]) -> Iterator[ModelFolder]:
    """The folder of the model, held by this run alone; UserError if another run's is there or is being made."""
    devices = PartialState()
    output = open_output(options.output)
    with output if devices.is_main_process else contextlib.nullcontext():
        folder = ModelFolder(options, json.loads(json.dumps(identity)), devices, output)
        folder.begin()
        yield folder
