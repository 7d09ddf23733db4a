"""Layers in 8 bits: nearly the same scores, row by row, and one sentence where the processor lacks the instructions."""

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

import serve
from selfalign.errors import UserError
from selfalign.llm.local_server import served
from server.packed import native_dtype
from server.plain import PlainEngine
from server.quantized import QuantizedLinear, has_vnni, quantize
from tests.server.client import text

needs_instructions = pytest.mark.skipif(not has_vnni(), reason="no VNNI instructions")


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)  # which would hold for the tests that follow


def layers(model, kind):
    return [module for module in model.modules() if isinstance(module, kind)]


def error_of(output, expected):
    """Of each row, relative to its length."""
    return ((output - expected).norm(dim=-1) / expected.norm(dim=-1)).float()


@needs_instructions
@pytest.mark.parametrize("dtype", dict.fromkeys([torch.float32, native_dtype()]))
@pytest.mark.parametrize(("bias", "rows"), [(True, 1), (False, 1), (True, 3), (False, 100)])
def test_a_layer_with_and_without_bias(dtype, bias, rows):
    layer = nn.Linear(96, 50, bias=bias, dtype=dtype).requires_grad_(False)
    inputs = torch.randn(rows, 2, 96, dtype=dtype)
    output = QuantizedLinear(layer)(inputs)
    assert output.dtype == dtype and output.shape == (rows, 2, 50)
    assert error_of(output, layer(inputs)).max() < 0.03


@needs_instructions
def test_a_row_gives_the_same_beside_one_with_a_huge_number():
    layer = nn.Linear(96, 50).requires_grad_(False)
    rows = torch.randn(3, 96)
    rows[1, 7] = 10_000
    quantized = QuantizedLinear(layer)
    assert torch.equal(quantized(rows)[0], quantized(rows[:1])[0])
    assert error_of(quantized(rows), layer(rows))[[0, 2]].max() < 0.03


@needs_instructions
def test_the_largest_numbers_of_both_signs_do_not_overflow():
    layer = nn.Linear(4096, 2, bias=False).requires_grad_(False)
    layer.weight[0], layer.weight[1] = 3.0, -3.0
    inputs = torch.tensor([[5.0], [-5.0]]).expand(2, 4096)
    torch.testing.assert_close(QuantizedLinear(layer)(inputs), layer(inputs), rtol=1e-5, atol=0)


@needs_instructions
def test_zeros_give_the_bias():
    layer = nn.Linear(96, 50).requires_grad_(False)
    layer.weight[3] = 0
    quantized = QuantizedLinear(layer)
    torch.testing.assert_close(quantized(torch.zeros(2, 96)), layer.bias.expand(2, 50))
    torch.testing.assert_close(quantized(torch.randn(2, 96))[:, 3], layer.bias[3].expand(2))


@needs_instructions
@torch.inference_mode()
def test_a_quantized_model_gives_nearly_the_same_scores(tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    ids = torch.arange(1, 41)[None]  # the first one is the padding, whose scores are all zeros
    expected, linear = model(ids).logits, len(layers(model, nn.Linear))
    quantize(model)
    assert len(layers(model, QuantizedLinear)) == linear > 0 and not layers(model, nn.Linear)
    assert 0 < error_of(model(ids).logits, expected).mean() < 0.1


@needs_instructions
def test_serve_quantizes_and_shares_prompts_all_the_same(tiny_model):
    app = serve.load(serve.Options(model=str(tiny_model), quantize="int8"))
    assert layers(app.engine.model, QuantizedLinear) and not layers(app.engine.model, nn.Linear)
    assert not isinstance(app.engine, PlainEngine)


@needs_instructions
def test_a_quantized_server_answers_the_same_each_time(tiny_model):
    with served(str(tiny_model), "--quantize", "int8") as url:
        assert text(url, "def add(a, b):") == text(url, "def add(a, b):") != ""


@needs_instructions
def test_a_model_that_reads_the_weights_of_its_layers_is_refused_in_one_sentence(tiny_model, monkeypatch):
    def reads_weights(model, *_):
        return model.lm_head.weight

    monkeypatch.setattr("server.plain.engine_for", reads_weights)
    with pytest.raises(UserError, match=r"can't load the model .* 'QuantizedLinear' object has no attribute 'weight'"):
        serve.main(serve.Options(model=str(tiny_model), quantize="int8", port=0))


@pytest.mark.parametrize("lacks", ["instructions", "a processor alone"])
def test_where_the_processor_can_not_one_sentence_says_so_before_the_model_is_loaded(lacks, tiny_model, monkeypatch):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx2": True, "avx512_vnni": lacks != "instructions"})
    monkeypatch.setattr("torch.cuda.is_available", lambda: lacks != "instructions")
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", None)
    with pytest.raises(UserError, match="--quantize int8 needs a processor with VNNI instructions, and no GPU"):
        serve.load(serve.Options(model=str(tiny_model), quantize="int8"))
