"""Tiny random models of architectures that people train today, with the tokenizer of the tiny model."""

import shutil
from pathlib import Path

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 2048,
    "initializer_range": 0.2,  # as in the tiny model: greedy decoding needs margins
    "tie_word_embeddings": False,
}
# model_type -> what its configuration has besides SIZES.
ARCHITECTURES = {
    "qwen3": {},
    "qwen3_5_text": {
        "num_hidden_layers": 4,  # three of linear attention, and one of full
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
    },
    "smollm3": {"num_hidden_layers": 4},  # the last without positions
    "gemma3_text": {"num_hidden_layers": 6, "sliding_window": 512},  # the last of full attention
    "deepseek_v2": {
        "num_key_value_heads": 4,
        "head_dim": 8,
        "kv_lora_rank": 32,
        "q_lora_rank": None,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8,
        "v_head_dim": 16,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_shared_experts": 1,
        "moe_intermediate_size": 64,
        "first_k_dense_replace": 1,
    },
    "starcoder2": {},
}


def make_model(architecture: str, like: Path, folder: Path) -> Path:
    """Writes a random model of this architecture, with the tokenizer in the folder `like`; returns `folder`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    shutil.copytree(
        like, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json", "generation_config.json")
    )
    torch.manual_seed(0)
    given = SIZES | ARCHITECTURES[architecture]
    ends = {"vocab_size": 320, "eos_token_id": 0, "bos_token_id": None, "pad_token_id": 0}
    config = AutoConfig.for_model(architecture, **given, **ends)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder
