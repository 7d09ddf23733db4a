"""Weights of linear layers in the order in which the processor's matrix instructions read them.

A step of decoding multiplies few rows with all weights. torch lets oneDNN put the weights into that order anew in each
product, which takes a third of its time or more; here they are put into it once. What comes out is the same.

Weights and inputs in 8 bits were tried and left out. Such products alone need a third less processor time or so (from
1.3 to 1.7 times as fast, on one core of a busy machine), but the inputs have to be rounded first, each row with a scale
of its own so that no row depends on the others. torch has no operation for that, and the small ones that it takes use
up most of the gain: all products of a step of a 0.5B model together became 1.4 times as fast with 16 rows and 1.2 times
with 64, and prompts became slower; with AVX-512 and without AMX, 1.3 and 1.4 times, and prompts 1.5 times.
`torch.ops.aten._weight_int8pack_mm`, which rounds the weights alone, is slower than bfloat16 from 16 rows on.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

ROWS = 64  # oneDNN chooses the order for a number of rows; it computes with any other number, too


class PackedLinear(nn.Module):
    """What a linear layer computes. Its weights take as much memory as before, and are not among the parameters."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.in_features, self.out_features, self.bias = layer.in_features, layer.out_features, layer.bias
        self.packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS)

    def forward(self, input: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(input, self.packed, self.bias, "none", [], "")

    def unpacked(self) -> nn.Linear:
        layer = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        layer.weight = nn.Parameter(self.packed.to_dense(), requires_grad=False)
        layer.bias = self.bias
        return layer


def pack(model: nn.Module) -> None:
    """Pack the linear layers of a model that computes in bfloat16 on a processor with instructions for it."""
    if torch.cpu._is_avx512_bf16_supported():
        replace(model, lambda layer: PackedLinear(layer) if type(layer) is nn.Linear and packable(layer) else layer)


def unpack(model: nn.Module) -> None:
    """Make all layers what they were before `pack`."""
    replace(model, lambda layer: layer.unpacked() if isinstance(layer, PackedLinear) else layer)


def packable(layer: nn.Linear) -> bool:
    return layer.weight.dtype == torch.bfloat16 and layer.weight.device.type == "cpu"


def replace(model: nn.Module, of: Callable[[nn.Module], nn.Module]) -> None:
    """Put of(module) in the place of each module inside of `model`."""
    for parent in list(model.modules()):
        for name, module in parent.named_children():
            setattr(parent, name, of(module))
