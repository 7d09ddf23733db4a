"""The base model and its tokenizer, as fine-tuning needs them."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfalign.errors import UserError, first_line
from selfalign.models import resolve_model
from selfalign.options import PROMPTS
from selfalign.reach import use_cache_if_unreachable
from selfalign.runner.data_files import model_fingerprint
from selfalign.runner.hub import is_hub_id
from selfalign.training.chats import end_token_of

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}  # layers that know where an example ends


@dataclass(frozen=True)
class BaseModel:
    """A model to start from, as `selfalign.models` knows it."""

    name: str
    dtype: str  # "auto", "float32" or "bfloat16"
    attention: str  # "auto", or as transformers calls it
    quantize_4bit: bool = False
    token: str | None = None

    def check_path(self) -> None:
        """UserError if the name can only be a local path, and nothing is there."""
        if self.name.startswith((".", "/", "~")) and not Path(self.name).expanduser().exists():
            raise UserError(f"model {self.name} can't be loaded: there is no such file or folder")

    def fingerprint(self) -> str | None:
        """A hash of the model's files; None for a Hub id, and where it is not here any more."""
        try:
            return model_fingerprint(resolve_model(self.name, token=self.token))
        except UserError:
            return None

    def load(self) -> PreTrainedModel:
        """The model without dropout; UserError if it can't be loaded."""
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        dtype = dtype_of(self.dtype)
        model: PreTrainedModel = self._from_pretrained(
            AutoModelForCausalLM,
            config=without_dropout(self._from_pretrained(AutoConfig)),
            dtype=getattr(torch, dtype),
            attn_implementation=attention_of(self.attention, dtype),
            **(four_bits() if self.quantize_4bit else {}),
        )
        if model.generation_config:
            try:
                model.generation_config.validate(strict=True)
            except ValueError:  # a temperature without sampling, as Vicuna has it, can be loaded but not saved
                model.generation_config.do_sample = True
        return model

    def check_packing(self) -> None:
        """UserError if packed examples would run into each other: in layers with a state, transformers keeps them apart
        only with kernels that are packages of their own."""
        from transformers import AutoConfig

        config = self._from_pretrained(AutoConfig).get_text_config()
        kinds = set(getattr(config, "layer_types", None) or ()) - ATTENTION
        missing = [name for name in ("causal_conv1d", "fla") if importlib.util.find_spec(name) is None]
        if kinds and missing:
            raise UserError(
                f"--packing with {self.name} needs the packages causal-conv1d and flash-linear-attention: without "
                f"them, its layers of {' and '.join(sorted(kinds))} would mix the examples of a sequence"
            )

    def load_tokenizer(self, chat_template: Path | None) -> PreTrainedTokenizerBase:
        """The tokenizer, with the chat template of a file; UserError if one of the two can't be used.

        Without a file it is the tokenizer's own template, or ours if it has none. Its end token becomes the one with
        which the template ends an answer.
        """
        from transformers import AutoTokenizer

        tokenizer = self._from_pretrained(AutoTokenizer)
        if tokenizer.eos_token is None:
            raise UserError(f"the tokenizer of {self.name} has no end token, so the model could not learn to stop")
        if chat_template or not tokenizer.chat_template:
            chat_template = chat_template or PROMPTS / "chat.jinja"
            tokenizer.chat_template = chat_template.read_text()
        question = [{"role": "user", "content": "x"}]
        try:
            tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # a template can raise anything
            raise UserError(
                f"--chat-template {chat_template or 'of the tokenizer'} is not a chat template: {error}"
            ) from None
        tokenizer.eos_token = end_token_of(tokenizer)
        return tokenizer

    def _from_pretrained(self, auto_class: Any, **more: Any) -> Any:
        """What `auto_class` (AutoConfig, AutoTokenizer, AutoModelForCausalLM) loads."""
        path, revision = resolve_model(self.name, token=self.token), ""
        if is_hub_id(path):
            path, _, revision = path.partition("@")
        use_cache_if_unreachable(path)
        try:
            return auto_class.from_pretrained(path, revision=revision or "main", token=self.token, **more)
        except (OSError, ValueError, ImportError) as error:
            raise UserError(f"model {self.name} can't be loaded: {first_line(error)}") from None


def without_dropout(config: PreTrainedConfig) -> PreTrainedConfig:
    """The model's configuration with every dropout at 0 (StarCoder2 has three, of 0.1 each)."""
    for name, value in config.to_dict().items():
        if re.search("dropout|pdrop", name) and isinstance(value, (int, float)):
            setattr(config, name, 0.0)
    return config


def dtype_of(name: str) -> str:
    """A type of weights by its name; `auto` is bfloat16 on a GPU that computes in it, else float32. GPUs older than
    Ampere, such as a T4, only emulate it."""
    import torch

    has_bfloat16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return {"auto": "bfloat16" if has_bfloat16 else "float32"}.get(name, name)


def multiplies_in_bfloat16(name: str) -> bool:
    """Whether weights in float32 are multiplied in bfloat16: with `auto`, on a CPU that has instructions for it (AMX or
    AVX-512), which takes half the time where sequences are long. On a GPU, `auto` has the weights in bfloat16."""
    import torch

    able = torch.cpu.get_capabilities()
    return name == "auto" and not torch.cuda.is_available() and bool(able.get("amx_bf16") or able.get("avx512_bf16"))


def attention_of(name: str, dtype: str) -> str:
    """An implementation of attention by its name; `auto` is the fastest one that is installed for this device."""
    import torch
    from transformers.utils.import_utils import is_flash_attn_2_available, is_flash_attn_3_available

    if name != "auto":
        return name
    if torch.cuda.is_available() and dtype == "bfloat16":
        if torch.cuda.get_device_capability() == (9, 0) and is_flash_attn_3_available():  # for Hopper alone
            return "flash_attention_3"
        if is_flash_attn_2_available():
            return "flash_attention_2"
    return "sdpa"


def four_bits() -> dict[str, Any]:
    """The arguments with which QLoRA (arXiv 2305.14314) loads its base model."""
    import torch
    from accelerate import PartialState
    from transformers import BitsAndBytesConfig

    bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": bits, "device_map": {"": PartialState().device}}


def adapters(rank: int) -> LoraConfig:
    """Adapters on all linear layers but the head, scaled by 2 whatever their rank (LoRA, arXiv 2106.09685)."""
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
