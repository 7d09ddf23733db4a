"""Linear layers in 8-bit integers, for CPUs: half the bytes of bfloat16 to read for each token, and faster products.

Weights have one scale an output, inputs one scale a token, computed as they come (LLM.int8 without its outlier path,
arXiv 2208.07339, section 2). The products are oneDNN's, which torch ships; its quantized kernels use AMX or VNNI where
the processor has them.
"""

import torch
from torch import Tensor, nn

LARGEST = 127
SMALLEST_SCALE = 1e-8  # of an input that is all zeros


class Int8Linear(nn.Module):
    """Computes what `linear` does, with weights [outputs, inputs] and inputs [..., inputs] rounded to 8 bits."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        weight = linear.weight.detach().float()
        self.scales = (weight.abs().amax(1) / LARGEST).clamp(min=SMALLEST_SCALE)
        self.zero_points = torch.zeros(len(weight), dtype=torch.int64)
        self.packed = torch.ops.onednn.qlinear_prepack((weight / self.scales[:, None]).round().to(torch.int8), None)
        self.bias = linear.bias
        self.inputs, self.outputs = linear.in_features, linear.out_features

    def forward(self, inputs: Tensor) -> Tensor:
        rows = inputs.reshape(-1, self.inputs)
        scale = (rows.abs().amax(1, keepdim=True).float() / LARGEST).clamp(min=SMALLEST_SCALE)
        rounded = (rows / scale).round().to(torch.int8)
        one, zero, kind = 1.0, 0, inputs.dtype
        product = torch.ops.onednn.qlinear_pointwise(
            rounded, one, zero, self.packed, self.scales, self.zero_points, None, one, zero, kind, "none", [], ""
        )
        product = product * scale.to(kind)
        if self.bias is not None:
            product = product + self.bias
        return product.view(*inputs.shape[:-1], self.outputs)


def to_int8(model: nn.Module) -> None:
    """Replace every linear layer of `model` in place."""
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Linear):
                setattr(parent, name, Int8Linear(layer))
