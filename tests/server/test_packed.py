"""Packed weights: the same scores, no more memory, and everything as it was where they can't be used."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from server.packed import PackedLinear, pack, unpack
from server.plain import PlainEngine, engine_for

IDS = torch.arange(40)[None]
needs_bfloat16 = pytest.mark.skipif(not torch.cpu._is_avx512_bf16_supported(), reason="no instructions for bfloat16")


@pytest.fixture
def model(tiny_model):
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16).eval()


def layers(model, kind):
    return [module for module in model.modules() if isinstance(module, kind)]


@needs_bfloat16
@torch.inference_mode()
def test_packed_weights_give_the_same_scores_and_can_be_unpacked(model):
    expected, linear = model(IDS).logits, len(layers(model, nn.Linear))
    weights = deepcopy(model.state_dict())
    pack(model)
    assert len(layers(model, PackedLinear)) == linear > 0 and not layers(model, nn.Linear)
    torch.testing.assert_close(model(IDS).logits, expected)
    unpack(model)
    assert len(layers(model, nn.Linear)) == linear
    torch.testing.assert_close(dict(model.state_dict()), dict(weights), rtol=0, atol=0)


@needs_bfloat16
@pytest.mark.parametrize(("bias", "rows"), [(True, 1), (False, 1), (True, 3), (False, 100)])
def test_a_layer_with_and_without_bias(bias, rows):
    layer = nn.Linear(96, 50, bias=bias, dtype=torch.bfloat16).requires_grad_(False)
    inputs = torch.randn(rows, 2, 96, dtype=torch.bfloat16)
    torch.testing.assert_close(PackedLinear(layer)(inputs), layer(inputs))


def test_only_bfloat16_is_packed(model):
    pack(model.float())
    assert not layers(model, PackedLinear)


@needs_bfloat16
@pytest.mark.parametrize("method", ["__init__", "forward"])
def test_where_packed_weights_fail_a_model_is_served_without(model, tiny_model, monkeypatch, method):
    """In a torch that can't pack, or in a model that reads the weights itself."""

    def fails(*_):
        raise AttributeError(method)

    monkeypatch.setattr(PackedLinear, method, fails)
    engine = engine_for(model, AutoTokenizer.from_pretrained(tiny_model), 4)
    assert not isinstance(engine, PlainEngine) and not layers(model, PackedLinear)


@needs_bfloat16
def test_a_model_is_served_with_packed_weights(model, tiny_model):
    engine_for(model, AutoTokenizer.from_pretrained(tiny_model), 4)
    assert layers(model, PackedLinear)
