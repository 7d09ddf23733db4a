"""Linear layers in 8 bits, weights and inputs alike, for processors that multiply these faster than anything else.

Each output of a layer has a scale of its own for its weights, and each row of the inputs one, too: what a row gives
does not depend on the others, and one large number spoils the precision of no other row (LLM.int8(), arXiv 2208.07339,
section 3). torch has no operation that rounds rows in this way, so a few small ones do.

All products of a step of a 0.5B model on a Xeon with AVX-512 and VNNI, but no bfloat16, and two cores, in ms, beside
`server.packed`:

| rows | oneDNN, float32 | FBGEMM, float16 | oneDNN, 8 bits |
|---|---:|---:|---:|
| 1 | 81 | 57 | 42 |
| 16 | 131 | 131 | 58 |
| 64 | 274 | 297 | 102 |
| 512, without the head | 1236 | 1422 | 446 |

On processors that compute in bfloat16, an earlier try with other operations made products 1.2 to 1.4 times as fast.
`torch.ops.aten._weight_int8pack_mm`, which rounds the weights alone, is slower than bfloat16 from 16 rows on.
"""

import torch
from torch import Tensor, nn

from server.packed import ROWS, replace

MOST = 127  # in 8 bits with a sign
ZERO = 128  # what stands for 0 in 8 bits without a sign, as VNNI wants its inputs: with signed ones, it takes seconds
LEAST = 1e-30  # that a row is divided by: one that is all zeros has no largest number


class QuantizedLinear(nn.Module):
    """What a linear layer computes, nearly. Its weights take a byte each, and are not among the parameters."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.bias = None if layer.bias is None else layer.bias.detach().float()
        weight = layer.weight.detach().float()
        self.scales = weight.abs().amax(1).clamp_(min=LEAST) / MOST
        rounded = (weight / self.scales[:, None]).round_().to(torch.int8)
        self.packed: Tensor = torch.ops.onednn.qlinear_prepack(rounded, [ROWS, self.in_features])
        self.zeros = torch.zeros(self.out_features, dtype=torch.long)

    def forward(self, input: Tensor) -> Tensor:
        rows = input.reshape(-1, self.in_features)
        largest = rows.abs().amax(-1, keepdim=True).float().clamp_(min=LEAST)
        rounded = (rows * (MOST / largest)).add_(ZERO + 0.5).to(torch.uint8)
        inputs, weights = (rounded, 1 / MOST, ZERO), (self.packed, self.scales, self.zeros)
        no_bias, unrounded, nothing_after = None, (1.0, 0, torch.float32), ("none", [], "")
        out = torch.ops.onednn.qlinear_pointwise(*inputs, *weights, no_bias, *unrounded, *nothing_after)
        out = out.mul_(largest) if self.bias is None else torch.addcmul(self.bias, out, largest)
        return out.view(*input.shape[:-1], self.out_features).to(input.dtype)


def quantize(model: nn.Module) -> None:
    """Round all linear layers of a model to 8 bits, on a processor that `has_vnni`.

    Embeddings stay as they are, and so does what is no `torch.nn.Linear`: the experts of most mixtures, and the layers
    of GPT-2.
    """
    replace(model, lambda layer: QuantizedLinear(layer) if type(layer) is nn.Linear else layer)


def has_vnni() -> bool:
    """Whether the processor multiplies numbers of 8 bits without overflow. Only AVX-512's instructions were tried."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_vnni") or capabilities.get("avx_vnni"))
