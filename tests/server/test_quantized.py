"""Layers in 8 bits: nearly the same scores, row by row, and one sentence where the processor lacks the instructions."""

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

import serve
from selfalign.errors import UserError
from selfalign.llm.local_server import served
from server.packed import native_dtype
from server.plain import PlainEngine
from server.quantized import (
    CALIBRATION,
    LEAST_PART,
    QuantizedLinear,
    calibration_tokens,
    has_vnni,
    largest_inputs,
    parts_of,
    quantize,
)
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
def test_large_inputs_are_scaled_down_so_that_the_others_keep_their_precision():
    torch.manual_seed(0)
    layer = nn.Linear(96, 50).requires_grad_(False)
    inputs = torch.randn(20, 96)
    inputs[:, 7] *= 100
    layer.weight[:, 7] /= 100  # or else the others would hardly count
    plain, smoothed = QuantizedLinear(layer), QuantizedLinear(layer, inputs.abs().amax(0))
    expected = layer(inputs)
    assert error_of(smoothed(inputs), expected).mean() < error_of(plain(inputs), expected).mean() / 4


@needs_instructions
def test_inputs_and_weights_that_are_zero_where_it_is_calibrated_do_no_harm():
    layer = nn.Linear(96, 50).requires_grad_(False)
    layer.weight[:, 11] = 0
    largest = torch.ones(96)
    largest[5] = 0
    inputs = torch.randn(4, 96)
    for seen in (largest, torch.zeros(96)):
        assert error_of(QuantizedLinear(layer, seen)(inputs), layer(inputs)).max() < 0.04


@needs_instructions
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_with_many_inputs_and_few_outputs_has_several_scales_a_row(bias):
    layer = nn.Linear(4 * LEAST_PART, 10, bias=bias).requires_grad_(False)
    layer.weight[:, :LEAST_PART] = 0  # so that what the large input does to the others is all that is seen
    inputs = torch.randn(3, 2, 4 * LEAST_PART)
    inputs[..., 0] = 10_000
    assert error_of(QuantizedLinear(layer)(inputs), layer(inputs)).max() < 0.05


@pytest.mark.parametrize(
    ("inputs", "outputs", "parts"), [(4864, 896, 4), (896, 4864, 1), (896, 128, 1), (4096, 4096, 1), (4098, 64, 1)]
)
def test_only_long_rows_with_few_outputs_are_parted(inputs, outputs, parts):
    assert parts_of(inputs, outputs) == parts


@torch.inference_mode()
def test_how_large_inputs_get_is_seen_on_some_tokens_by_all_layers_that_are_used(tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    model.spare = nn.Linear(4, 4)
    inputs = []
    layer = model.model.layers[0].mlp.down_proj
    hook = layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    tokens = list(range(1, 30))
    largest = largest_inputs(model, tokens)
    hook.remove()
    assert torch.equal(largest[layer], inputs[0][0].abs().amax(0)) and largest[layer].shape == (layer.in_features,)
    assert {*layers(model, nn.Linear)} - largest.keys() == {model.spare}
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_it_is_calibrated_on_the_beginning_of_the_worked_examples(tiny_model):
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokens = calibration_tokens(tokenizer)
    assert len(tokens) == CALIBRATION and tokens[:5] == calibration_tokens(tokenizer, 5)
    assert "worked examples" in tokenizer.decode(tokens).lower()


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
    quantize(model, [1, 2, 3])
    assert len(layers(model, QuantizedLinear)) == linear > 0 and not layers(model, nn.Linear)
    assert 0 < error_of(model(ids).logits, expected).mean() < 0.1


@needs_instructions
def test_serve_quantizes_and_shares_prompts_all_the_same(tiny_model):
    app = serve.load(serve.Options(model=str(tiny_model), quantize="int8"))
    assert layers(app.engine.model, QuantizedLinear) and not layers(app.engine.model, nn.Linear)
    assert not isinstance(app.engine, PlainEngine)


@needs_instructions
@pytest.mark.parametrize("native", [torch.bfloat16, torch.float32])
def test_where_bfloat16_is_quicker_a_sentence_says_so(native, tiny_model, monkeypatch, capsys):
    monkeypatch.setattr("server.packed.native_dtype", lambda _="cpu": native)
    serve.load(serve.Options(model=str(tiny_model), quantize="int8"))
    assert ("slower than bfloat16" in capsys.readouterr().err) is (native == torch.bfloat16)


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
