"""Linear layers in 8 bits: close to the layers that they stand for, and a server that answers with them."""

import torch

from selfalign.llm.local_server import served
from server.int8 import Int8Linear, to_int8
from tests.server.client import generate, texts_at_once


def layer(inputs=96, outputs=80, bias=True):
    torch.manual_seed(0)
    return torch.nn.Linear(inputs, outputs, bias=bias)


def test_a_layer_in_8_bits_is_close_to_the_layer():
    """Each number is off by at most half a step of 1/127 of the largest, so a sum of products by about 1 % here."""
    for bias in (True, False):
        linear, inputs = layer(bias=bias), torch.randn(2, 7, 96)
        expected, found = linear(inputs), Int8Linear(linear)(inputs)
        assert found.shape == expected.shape and found.dtype == expected.dtype
        assert (found - expected).norm() < 0.02 * expected.norm()


def test_rows_of_different_size_do_not_disturb_each_other():
    """Scales are per token: beside a token a thousand times as large, a small one keeps its digits."""
    linear, inputs = layer(bias=False), torch.randn(2, 96)
    alone = Int8Linear(linear)(inputs[:1])
    inputs[1] *= 1000
    assert torch.equal(Int8Linear(linear)(inputs)[:1], alone)


def test_zeros_give_the_bias():
    linear = layer()
    assert torch.equal(Int8Linear(linear)(torch.zeros(1, 96))[0], linear.bias)


def test_every_linear_layer_of_a_model_is_replaced():
    model = torch.nn.Sequential(layer(), torch.nn.Sequential(layer(80, 16), torch.nn.ReLU()))
    to_int8(model)
    assert not [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    assert model(torch.randn(3, 96)).shape == (3, 16)


def test_a_model_is_served_in_int8(tiny_model):
    with served(str(tiny_model), "--dtype", "int8") as url:
        assert generate(url, max_new_tokens=8)["details"]["generated_tokens"] == 8
        assert len(set(texts_at_once(url, [{"temperature": 0.9, "seed": seed} for seed in range(4)]))) == 4
