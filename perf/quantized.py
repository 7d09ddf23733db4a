"""How far the layers of `serve.py --quantize int8` are from the model in float32, and how long they take.

    python -m perf.quantized ./responses --model ./qwen

On texts that the model writes in the pipeline, an instruction and its response each, it prints for each way to compute
the linear layers:
  divergence    of the next token, from float32 (Kullback-Leibler, mean over all tokens)
  same token    how often the likeliest token is that of float32, in %
  loss          mean over all tokens
and then the milliseconds of all products of a step of decoding with 64 rows: the best of several rounds, which
alternate between all ways, so that other load on the machine affects them alike.

The ways:
  float32                 oneDNN, packed as server/packed.py does
  float16                 the weights, as server/packed.py has them where the processor does not compute in bfloat16
  8 bits, torch           torch.ao.quantization's dynamic layers (FBGEMM): one scale for all rows of the inputs
  8 bits, rows            server/quantized.py with one scale for each row of the inputs, and no more
  8 bits, rows in parts   several scales for each row, in layers with many inputs and few outputs
  8 bits, smoothed        large inputs scaled down, as was seen on a few tokens (SmoothQuant)
  8 bits                  both: what serve.py does
  bfloat16                weights and inputs, if the processor computes in bfloat16: what serve.py then does by default
"""

import argparse
import copy
import time
import warnings
from collections.abc import Callable
from typing import Any

import datasets
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfalign.models import DEFAULT_CACHE, resolve_model
from server import quantized
from server.packed import native_dtype, pack, replace
from server.quantized import PARTS, QuantizedLinear, calibration_tokens, largest_inputs

ROWS, ROUNDS = 64, 10
MOST_TOKENS = 512  # of a text


def texts_of(dataset: str, count: int) -> list[str]:
    """Instructions with their responses, evenly drawn from a dataset of the pipeline."""
    rows: Any = datasets.load_dataset(dataset, split="train")
    texts = [f"{row['instruction']}\n\n{row['response']}" for row in rows if row["response"]]
    return texts[:: max(1, len(texts) // count)][:count]


def by_torch(model: nn.Module) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8, inplace=True)


def in_8_bits(parts: int, largest: dict[str, Tensor]) -> Callable[[nn.Module], None]:
    """A change of a model: `largest` has how large the inputs of its layers get, by the layers' names."""

    def change(model: nn.Module) -> None:
        names = {layer: name for name, layer in model.named_modules()}
        quantized.PARTS = parts
        replace(model, lambda of: QuantizedLinear(of, largest.get(names[of])) if type(of) is nn.Linear else of)

    return change


def scores(model: nn.Module, texts: list[list[int]]) -> list[Tensor]:
    """Logarithms of the probabilities of each next token, one tensor for each text."""
    return [model(torch.tensor([text])).logits[0, :-1].float().log_softmax(-1) for text in texts]


def compared(model: nn.Module, texts: list[list[int]], expected: list[Tensor]) -> str:
    """Divergence, same tokens and loss, as columns."""
    divergence, same, loss, tokens = 0.0, 0, 0.0, 0
    for text, wanted in zip(texts, expected, strict=True):
        found = scores(model, [text])[0]
        divergence += float((wanted.exp() * (wanted - found)).sum())
        same += int((wanted.argmax(-1) == found.argmax(-1)).sum())
        loss -= float(found.gather(1, torch.tensor(text[1:])[:, None]).sum())
        tokens += len(found)
    return f"{divergence / tokens:12.5f} {100 * same / tokens:12.1f} {loss / tokens:8.4f}"


def seconds(layers: list[tuple[nn.Module, Tensor]]) -> float:
    started = time.perf_counter()
    for layer, inputs in layers:
        layer(inputs)
    return time.perf_counter() - started


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", help="a dataset with instructions and responses: a folder or a Hub id")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--texts", type=int, default=24)
    options = parser.parse_args()
    folder = resolve_model(options.model, DEFAULT_CACHE)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [tokenizer(text)["input_ids"][:MOST_TOKENS] for text in texts_of(options.input, options.texts)]
    original = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    linear = {name: layer for name, layer in original.named_modules() if type(layer) is nn.Linear}
    names = {layer: name for name, layer in original.named_modules()}
    seen = largest_inputs(original, calibration_tokens(tokenizer))
    largest = {names[layer]: inputs for layer, inputs in seen.items()}
    ways: dict[str, Callable[[nn.Module], None]] = {
        "float32": pack,
        "float16": lambda model: pack(model, halve=True),
        "8 bits, torch": by_torch,
        "8 bits, rows": in_8_bits(1, {}),
        "8 bits, rows in parts": in_8_bits(PARTS, {}),
        "8 bits, smoothed": in_8_bits(1, largest),
        "8 bits": in_8_bits(PARTS, largest),
    }
    if native_dtype() == torch.bfloat16:
        ways["bfloat16"] = lambda model: pack(model.bfloat16())
    print(f"{sum(map(len, texts)):,} tokens of {len(texts)} texts; {torch.get_num_threads()} threads", flush=True)
    print(f"{'':24} {'divergence':>12} {'same token':>12} {'loss':>8}")
    expected, layers = scores(original, texts), {}
    generator = torch.Generator().manual_seed(0)
    inputs = {name: torch.randn(ROWS, layer.in_features, generator=generator) for name, layer in linear.items()}
    for way, change in ways.items():
        model = copy.deepcopy(original)
        change(model)
        layers[way] = [(model.get_submodule(name), inputs[name].to(model.dtype)) for name in linear]
        print(f"{way:24} {compared(model, texts, expected)}", flush=True)
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):
        for way, of_way in layers.items():
            best[way] = min(best[way], seconds(of_way))
    print(f"\n{'':24} {'ms, ' + str(ROWS) + ' rows':>12}")
    for way, took in best.items():
        print(f"{way:24} {1000 * took:12.1f}")


if __name__ == "__main__":
    main()
