"""Weights of linear layers in the order in which the processor's matrix instructions read them.

A step of decoding multiplies few rows with all weights. In bfloat16, torch lets oneDNN put the weights into that order
anew in each product, which takes a third of its time or more; here they are put into it once, and what comes out is the
same. In float32, torch has MKL read the weights as they are. Without AVX-512, on an AMD EPYC with two cores, all
products of a step of a 0.5B model took 670 ms with 16 rows and 1,000 ms with 64, and with packed weights 300 and 600.

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
    """Pack the linear layers of a model on a processor of Intel's or AMD's that has instructions for its format."""
    replace(model, lambda layer: PackedLinear(layer) if type(layer) is nn.Linear and packable(layer) else layer)


def unpack(model: nn.Module) -> None:
    """Make all layers what they were before `pack`."""
    replace(model, lambda layer: layer.unpacked() if isinstance(layer, PackedLinear) else layer)


def packable(layer: nn.Linear) -> bool:
    return layer.weight.device.type == "cpu" and layer.weight.dtype in formats()


def formats() -> set[torch.dtype]:
    """The number formats in which packed weights are faster here. Other processors than these were not measured."""
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return set()
    return {torch.float32, native_dtype()}


def native_dtype() -> torch.dtype:
    """The format for models on this processor: bfloat16 if it has instructions for it; emulated, that is slow."""
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


def replace(model: nn.Module, of: Callable[[nn.Module], nn.Module]) -> None:
    """Put of(module) in the place of each module inside of `model`, and give up its weights before the next one's."""
    for parent in [module for module in model.modules() if list(module.children())]:
        for name in [name for name, _ in parent.named_children()]:
            setattr(parent, name, of(getattr(parent, name)))
