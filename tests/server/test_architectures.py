"""Models of all kinds: each computes what transformers does, or is refused before the first request."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from serve import context_of
from server.completion import Completion
from server.packed import PackedLinear, formats
from server.plain import PlainEngine, engine_for
from tests.fakes.architectures import SIZES

IDS = list(range(5, 45))


def model_of(architecture: str, **more: Any) -> Any:
    torch.manual_seed(0)
    ends = {"vocab_size": 320, "eos_token_id": None, "bos_token_id": None, "pad_token_id": 0}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **SIZES | ends | more)).eval()


@torch.inference_mode()
def test_capped_scores_are_computed(tiny_model):
    model = model_of("gemma2", initializer_range=1.0)
    expected = model(torch.tensor([IDS]), use_cache=False).logits[0, -1]
    engine = engine_for(model, AutoTokenizer.from_pretrained(tiny_model), 1)
    torch.testing.assert_close(engine.prefill(tuple(IDS), None).scores, expected)


@torch.inference_mode()
def test_a_model_with_a_mask_of_its_own_is_computed(tiny_model):
    """Doge's leaves all tokens in as long as there are few: the trial with a short prompt does not show it."""
    model = model_of("doge", keep_window_size=8)
    expected = model(torch.tensor([IDS]), use_cache=False).logits[0, -1]
    engine = engine_for(model, AutoTokenizer.from_pretrained(tiny_model), 1)
    assert isinstance(engine, PlainEngine)
    torch.testing.assert_close(engine.prefill(tuple(IDS), None).scores, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.skipif(not formats(), reason="weights are not packed on this processor")
def test_also_a_model_that_is_computed_row_by_row_has_packed_weights(tiny_model):
    engine = engine_for(model_of("gemma2"), AutoTokenizer.from_pretrained(tiny_model), 1)
    assert isinstance(engine, PlainEngine)
    assert any(isinstance(layer, PackedLinear) for layer in engine.model.modules())


@torch.inference_mode()
def test_a_model_that_does_not_count_its_positions_is_told_them(tiny_model):
    sizes = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 8}
    model = model_of("bamba", attn_layer_indices=[1], **sizes)
    expected = model.generate(torch.tensor([IDS]), do_sample=False, max_new_tokens=20)[0, len(IDS) :]
    engine = engine_for(model, AutoTokenizer.from_pretrained(tiny_model), 1)
    engine.eos = set()
    completion = Completion(prompt=IDS, max_new_tokens=20)
    engine.waiting.append(completion)
    engine.admit()
    while engine.rows:
        engine.step()
    assert [token.id for token in completion.tokens] == expected.tolist()


def test_a_model_with_a_state_of_its_own_is_refused(tiny_model):
    with pytest.raises(ValueError, match="models of the kind mamba: use TGI or vLLM"):
        engine_for(model_of("mamba", state_size=8), AutoTokenizer.from_pretrained(tiny_model), 1)


def test_the_context_ends_where_the_window_slides_also_inside_a_model_of_images_and_text():
    text = SIZES | {"sliding_window": 512}
    assert context_of(AutoConfig.for_model("gemma3_text", **text)) == 512
    assert context_of(AutoConfig.for_model("gemma3", text_config=text)) == 512


def test_the_context_ends_where_attention_begins_to_forget_whole_chunks():
    assert context_of(AutoConfig.for_model("llama4_text", **SIZES, attention_chunk_size=64)) == 64


def test_the_context_ends_where_longrope_would_stretch_the_positions_of_a_whole_batch():
    rope = {"rope_type": "longrope", "short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
    config = AutoConfig.for_model("phi3", **SIZES, original_max_position_embeddings=64, rope_parameters=rope)
    assert context_of(config) == 64
