"""Linear layers in 8 bits, weights and inputs alike, for processors that multiply these faster than anything else.

Each output of a layer has a scale of its own for its weights, and each row of the inputs one, too: what a row gives
does not depend on the others, and one large number spoils the precision of no other row (LLM.int8(), arXiv 2208.07339,
section 3). Within a row it still does. So inputs that tend to be large are scaled down, and their weights up by the
same factors (SmoothQuant, arXiv 2211.10438, with equal shares for both); which ones these are is seen when the model
reads a few tokens. And where many inputs give few outputs, as in the last layer of an MLP, each row has several scales.
torch has no operation that rounds rows in this way, so a few small ones do.

What that does, as `python -m perf.quantized` printed it for 24 texts of the pipeline: how far the distribution of the
next token is from that of the model in float32 (mean Kullback-Leibler divergence), and how many ms all products of a
step take with 64 rows on a Xeon with AVX-512 and VNNI, but no bfloat16, and two cores:

| | Qwen2.5-Coder-0.5B | | SmolLM2-135M | |
|---|---:|---:|---:|---:|
| torch's own dynamic layers, one scale for all rows | 0.220 | 97 | 1.111 | 39 |
| a scale for each row | 0.0089 | 108 | 0.0357 | 52 |
| several scales for rows that are long enough | 0.0074 | 115 | | |
| factors | 0.0027 | 108 | 0.0107 | 51 |
| factors, and several scales | 0.0018 | 110 | | |
| oneDNN, float32 | 0 | 259 | 0 | 86 |
| FBGEMM, weights in float16 | 0.0000 | 282 | 0.0000 | 80 |

The factors have to be seen on the first token of a text, too: its inputs are by far the largest, and all other tokens
attend to it. Without it, a simulation gave 0.0064 where it gave 0.0016 with it.

With AMX, bfloat16 is quicker: all products of a step with 64 rows take 65 ms, and 84 in 8 bits. `perf.serving` printed
212 and 261 tokens a second in bfloat16, and 172 and 191 in 8 bits. AMD's processors with bfloat16 were not tried.
`torch.ops.aten._weight_int8pack_mm`, which rounds the weights alone, is slower than bfloat16 from 16 rows on.

Without VNNI, FBGEMM is the quickest in 8 bits. Its sums of two products have 16, so that weights and inputs can have 90
steps to either side, and not 127. A script that is not in the project computed all products of a step of the 0.5B model
in this way, on an EPYC with AVX2: 64 rows took 466 ms, of which 389 are FBGEMM's, and 620 with weights in float16. For
a fourth of the time, the model would be further from itself than here, so it is not done.
"""

from typing import Any

import torch
from torch import Tensor, nn

from selfalign.options import PROMPTS
from server.packed import ROWS, replace

MOST = 127  # in 8 bits with a sign
PARTS = 4  # with a scale each, of the rows of a layer with more inputs than outputs
LEAST_PART = 1024  # inputs: smaller products gain less and take longer in parts
CALIBRATION = 256  # tokens on which it is seen how large inputs are; 768 were hardly better
ZERO = 128  # what stands for 0 in 8 bits without a sign, as VNNI wants its inputs: with signed ones, it takes seconds
LEAST = 1e-30  # that a row is divided by: one that is all zeros has no largest number


class QuantizedLinear(nn.Module):
    """What a linear layer computes, nearly. Its weights take a byte each, and are not among the parameters.

    Args:
        layer: What is to be computed.
        largest: How large each of its inputs gets, without sign. By default, all are taken to be alike.
    """

    def __init__(self, layer: nn.Linear, largest: Tensor | None = None):
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.bias = None if layer.bias is None else layer.bias.detach().float()
        weight = layer.weight.detach().float()
        self.factors = torch.ones(self.in_features) if largest is None else smoothing(weight, largest)
        weight = weight / self.factors
        self.scales = weight.abs().amax(1).clamp_(min=LEAST) / MOST
        rounded = (weight / self.scales[:, None]).round_().to(torch.int8)
        self.parts = parts_of(self.in_features, self.out_features)
        self.packed: list[Tensor] = [
            torch.ops.onednn.qlinear_prepack(part.contiguous(), [ROWS, part.shape[1]])
            for part in rounded.chunk(self.parts, 1)
        ]
        self.zeros = torch.zeros(self.out_features, dtype=torch.long)

    def forward(self, input: Tensor) -> Tensor:
        rows = (input.reshape(-1, self.in_features) * self.factors).view(-1, self.parts, self.in_features // self.parts)
        largest = rows.abs().amax(-1, keepdim=True).clamp_(min=LEAST)
        by_part = rows.mul_(MOST / largest).add_(ZERO + 0.5).transpose(0, 1)
        rounded = by_part.to(torch.uint8, memory_format=torch.contiguous_format)
        out = self.bias
        for part, of_part, packed in zip(rounded, largest.unbind(1), self.packed, strict=True):
            inputs, weights = (part, 1 / MOST, ZERO), (packed, self.scales, self.zeros)
            no_bias, unrounded, nothing_after = None, (1.0, 0, torch.float32), ("none", [], "")
            product = torch.ops.onednn.qlinear_pointwise(*inputs, *weights, no_bias, *unrounded, *nothing_after)
            out = product.mul_(of_part) if out is None else torch.addcmul(out, product, of_part)
        assert out is not None  # there is a part
        return out.view(*input.shape[:-1], self.out_features).to(input.dtype)


def parts_of(inputs: int, outputs: int) -> int:
    """How many scales each row of a layer's inputs has."""
    return PARTS if inputs > outputs and inputs % PARTS == 0 and inputs // PARTS >= LEAST_PART else 1


def smoothing(weight: Tensor, largest: Tensor) -> Tensor:
    """What inputs are multiplied by, and their weights divided by, so that the largest of both are alike.

    Only what is above the mean counts as large. An input that was never seen has a factor like most, too.
    """
    of_weights, of_inputs = weight.abs().amax(0), largest.float()
    of_weights, of_inputs = (each.clamp(min=float(each.mean().clamp(min=LEAST))) for each in (of_weights, of_inputs))
    return (of_weights / of_inputs).sqrt_()


def calibration_tokens(tokenizer: Any, most: int = CALIBRATION) -> list[int]:
    """The first tokens of the prompts' worked examples, which are like what the pipeline asks and gets."""
    text = (PROMPTS / "examples.yaml").read_text(encoding="utf-8")
    return tokenizer(text, truncation=True, max_length=min(CALIBRATION, most))["input_ids"]


def quantize(model: nn.Module, tokens: list[int]) -> None:
    """Round all linear layers of a model to 8 bits, on a processor that `has_vnni`.

    Embeddings stay as they are, and so does what is no `torch.nn.Linear`: the experts of most mixtures, and the layers
    of GPT-2.

    Args:
        model: It is changed in place.
        tokens: Of a text like those that it will read and write, such as `calibration_tokens`.
    """
    largest = largest_inputs(model, tokens)
    replace(model, lambda layer: QuantizedLinear(layer, largest.get(layer)) if type(layer) is nn.Linear else layer)


@torch.inference_mode()
def largest_inputs(model: nn.Module, tokens: list[int]) -> dict[nn.Module, Tensor]:
    """How large each input of each linear layer gets where the model reads the tokens; without layers that it skips."""
    largest: dict[nn.Module, Tensor] = {}

    def note(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        rows = args[0].reshape(-1, args[0].shape[-1])
        if len(rows):
            now = rows.abs().amax(0)
            largest[layer] = torch.maximum(largest.get(layer, now), now)

    linear = [module for module in model.modules() if type(module) is nn.Linear]
    hooks = [layer.register_forward_pre_hook(note) for layer in linear]
    model(torch.tensor([tokens]), use_cache=False)
    for hook in hooks:
        hook.remove()
    return largest


def has_vnni() -> bool:
    """Whether the processor multiplies numbers of 8 bits without overflow. Only AVX-512's instructions were tried."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_vnni") or capabilities.get("avx_vnni"))
