"""Weights of linear layers in the order in which the processor's matrix instructions read them.

A step of decoding multiplies few rows with all weights. In bfloat16, torch lets oneDNN put the weights into that order
anew in each product, which takes a third of its time or more; here they are put into it once, and what comes out is the
same. In float32, torch has MKL read the weights as they are, which is slower still.

Where the processor does not compute in bfloat16, reading weights in float32 takes longer than multiplying them. FBGEMM
reads them in float16 and computes in float32. Rounded so, a weight changes by at most 0.05 %, or by nothing if it was
in bfloat16, as nearly all models are published; those below 0.00006 change by less than 0.0000001.

All products of a step of a 0.5B model on an AMD EPYC with AVX2 and two cores, in ms:

| rows | MKL, float32 | oneDNN, float32 | FBGEMM, float16 |
|---|---:|---:|---:|
| 1 | 191 | 169 | 75 |
| 16 | 621 | 324 | 200 |
| 64 | 1205 | 726 | 629 |

`server.quantized` has fewer bits, for those who ask for it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

ROWS = 64  # oneDNN chooses the order for a number of rows; it computes with any other number, too
MOST_OUTPUTS = 8192  # that FBGEMM computes at once: 64 rows take 257 ms for a vocabulary of 151,936, and 179 in parts
LARGEST = torch.finfo(torch.float16).max


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


class HalvedLinear(nn.Module):
    """What a linear layer computes in float32, with weights in float16. They are not among the parameters."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.has_bias = layer.bias is not None
        weights = layer.weight.detach().split(MOST_OUTPUTS)
        biases = layer.bias.detach().split(MOST_OUTPUTS) if self.has_bias else [None] * len(weights)
        prepack: Any = torch.ops.quantized.linear_prepack_fp16
        self.packed = [prepack(weight, bias) for weight, bias in zip(weights, biases, strict=True)]

    def forward(self, input: Tensor) -> Tensor:
        parts = [torch.ops.quantized.linear_dynamic_fp16(input, packed) for packed in self.packed]
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)

    def unpacked(self) -> nn.Linear:
        """The layer in float32, with its weights as they were rounded."""
        layer = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        parts = [torch.ops.quantized.linear_unpack_fp16(packed) for packed in self.packed]
        layer.weight = nn.Parameter(torch.cat([weight for weight, _ in parts]), requires_grad=False)
        if self.has_bias:
            layer.bias = nn.Parameter(torch.cat([bias for _, bias in parts]), requires_grad=False)
        return layer


def pack(model: nn.Module, halve: bool = False) -> None:
    """Pack the linear layers of a model, with `halve` those in float32 as `HalvedLinear`."""
    replace(model, lambda layer: packed(layer, halve) if type(layer) is nn.Linear else layer)


def unpack(model: nn.Module) -> None:
    """Make all layers what they were before `pack`, but for the rounding of `HalvedLinear`."""
    replace(model, lambda layer: layer.unpacked() if isinstance(layer, PackedLinear | HalvedLinear) else layer)


def packed(layer: nn.Linear, halve: bool) -> nn.Module:
    """The layer as it computes fastest here: packed if it is on a processor of Intel's or AMD's."""
    if layer.weight.device.type != "cpu":
        return layer
    if halve and can_be_halved(layer.weight):
        return HalvedLinear(layer)
    return PackedLinear(layer) if layer.weight.dtype in formats() else layer


def can_be_halved(weight: Tensor) -> bool:
    """Whether FBGEMM is there, and all of the weights are within float16."""
    if "fbgemm" not in torch.backends.quantized.supported_engines or weight.dtype != torch.float32:
        return False
    lowest, highest = weight.aminmax()
    return bool(-lowest <= LARGEST and highest <= LARGEST)


def formats() -> set[torch.dtype]:
    """The number formats that oneDNN packs and the processor computes in. Only Intel's and AMD's were measured."""
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return set()
    return {torch.float32, native_dtype()}


def native_dtype(device: str = "cpu") -> torch.dtype:
    """The format for models on this processor, or on this GPU ("cuda"): bfloat16 if it has instructions for it;
    emulated, as on GPUs older than Ampere, that is slow."""
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


def replace(model: nn.Module, of: Callable[[nn.Module], nn.Module]) -> None:
    """Put of(module) in the place of each module inside of `model`, and give up its weights before the next one's."""
    for parent in [module for module in model.modules() if list(module.children())]:
        for name in [name for name, _ in parent.named_children()]:
            setattr(parent, name, of(getattr(parent, name)))
