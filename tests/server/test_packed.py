"""Packed weights: the same scores, no more memory, and everything as it was where they can't be used."""

import weakref
from copy import deepcopy

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

import serve
from selfalign.training.loading import dtype_of
from server.packed import HalvedLinear, PackedLinear, formats, native_dtype, pack, replace, unpack
from server.plain import PlainEngine, engine_for

IDS = torch.arange(40)[None]
pytestmark = pytest.mark.skipif(not formats(), reason="weights are not packed on this processor")
needs_fbgemm = pytest.mark.skipif("fbgemm" not in torch.backends.quantized.supported_engines, reason="no FBGEMM")
a_number_format = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], indirect=True)


@pytest.fixture
def dtype(request):
    dtype = getattr(request, "param", torch.float32)
    if dtype not in formats():
        pytest.skip(f"no instructions for {dtype}")
    return dtype


@pytest.fixture
def model(tiny_model, dtype):
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=dtype).eval()


def layers(model, kind):
    return [module for module in model.modules() if isinstance(module, kind)]


@a_number_format
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


def test_the_weights_of_replaced_layers_are_given_up_one_by_one(model):
    replaced: list[weakref.ref] = []

    def identity_for_linear(module):
        assert not any(layer() for layer in replaced[:-1])
        if not isinstance(module, nn.Linear):
            return module
        replaced.append(weakref.ref(module))
        return nn.Identity()

    replace(model, identity_for_linear)
    assert len(replaced) > 2


@a_number_format
@pytest.mark.parametrize(("bias", "rows"), [(True, 1), (False, 1), (True, 3), (False, 100)])
def test_a_layer_with_and_without_bias(dtype, bias, rows):
    layer = nn.Linear(96, 50, bias=bias, dtype=dtype).requires_grad_(False)
    inputs = torch.randn(rows, 2, 96, dtype=dtype)
    torch.testing.assert_close(PackedLinear(layer)(inputs), layer(inputs))


@needs_fbgemm
@torch.inference_mode()
def test_halved_weights_give_nearly_the_same_scores_and_can_be_unpacked(model):
    expected, linear = model(IDS).logits, len(layers(model, nn.Linear))
    weights = deepcopy(model.state_dict())
    pack(model, halve=True)
    assert len(layers(model, HalvedLinear)) == linear > 0 and not layers(model, nn.Linear | PackedLinear)
    torch.testing.assert_close(model(IDS).logits, expected, rtol=0, atol=0.05)
    unpack(model)
    linear_weights = [name for name in weights if "proj" in name or "lm_head" in name]
    rounded = {name: weights[name].half().float() for name in linear_weights}
    torch.testing.assert_close(dict(model.state_dict()), weights | rounded, rtol=0, atol=1e-7)


@needs_fbgemm
@pytest.mark.parametrize(("bias", "rows"), [(True, 1), (False, 1), (True, 3), (False, 100)])
def test_a_halved_layer_with_and_without_bias_also_in_parts(bias, rows, monkeypatch):
    monkeypatch.setattr("server.packed.MOST_OUTPUTS", 16)
    layer = nn.Linear(96, 50, bias=bias).bfloat16().float().requires_grad_(False)
    inputs = torch.randn(rows, 2, 96)
    halved = HalvedLinear(layer)
    torch.testing.assert_close(halved(inputs), layer(inputs), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(dict(halved.unpacked().state_dict()), dict(layer.state_dict()), rtol=0, atol=1e-7)


@needs_fbgemm
def test_weights_beyond_float16_are_not_halved(model):
    layers(model, nn.Linear)[0].weight.data[0, 0] = 70_000
    linear = len(layers(model, nn.Linear))
    pack(model, halve=True)
    assert len(layers(model, HalvedLinear)) == linear - 1 and len(layers(model, PackedLinear)) == 1


@needs_fbgemm
@pytest.mark.parametrize(("dtype_option", "kind"), [("auto", HalvedLinear), ("float32", PackedLinear)])
def test_serve_halves_weights_unless_asked_for_float32(dtype_option, kind, tiny_model, monkeypatch):
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)  # which would hold for the tests that follow
    app = serve.load(serve.Options(model=str(tiny_model), dtype=dtype_option))
    assert layers(app.engine.model, kind) and not layers(app.engine.model, nn.Linear)


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_a_gpu_that_only_emulates_bfloat16_gets_float32(has_bfloat16, monkeypatch):
    """As a T4 does. What CUDA would say is given, since there is no GPU here."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(
        "torch.cuda.is_bf16_supported", lambda including_emulation=True: has_bfloat16 or including_emulation
    )
    expected = torch.bfloat16 if has_bfloat16 else torch.float32
    assert native_dtype("cuda") == getattr(torch, dtype_of("auto")) == expected


@pytest.mark.parametrize("lacks", ["bfloat16", "everything"])
def test_only_formats_that_the_processor_computes_in_are_packed(model, lacks, monkeypatch):
    if lacks == "bfloat16":
        monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False)
        pack(model.bfloat16())
    else:
        monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "DEFAULT")
        pack(model)
    assert not layers(model, PackedLinear)


@pytest.mark.parametrize("method", ["__init__", "forward"])
def test_where_packed_weights_fail_a_model_is_served_without(model, tiny_model, monkeypatch, method):
    """In a torch that can't pack, or in a model that reads the weights itself."""

    def fails(*_):
        raise AttributeError(method)

    monkeypatch.setattr(PackedLinear, method, fails)
    engine = engine_for(model, AutoTokenizer.from_pretrained(tiny_model), 4)
    assert not isinstance(engine, PlainEngine) and not layers(model, PackedLinear)


@a_number_format
def test_a_model_is_served_with_packed_weights(model, tiny_model):
    engine_for(model, AutoTokenizer.from_pretrained(tiny_model), 4)
    assert layers(model, PackedLinear)
