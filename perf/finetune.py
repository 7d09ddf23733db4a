"""Tokens per second of packed training, next to the same model padded as others do: python -m perf.finetune [options]

Everything but the batches is finetune.py's: trainer, loss, Adafactor, and 64 examples (4 on a CPU) in each optimizer
step. The weights are random; the examples are random tokens whose lengths are drawn from a log-normal distribution,
like those of instruction data: few are long, most are short. The ways to make batches of them:

    one at a time           the reference implementation's command: batch of 1, gradients accumulate over 64
    padded to --max-length  the same with every sequence as long as the longest allowed
    padded, N at a time     each N sequences as long as the longest of them
    packed, N at a time     finetune.py --packing --device-batch-size N

`tokens/s` does not count padding, so that the same figure means the same progress. `MFU` is the share of the device's
peak that goes into these tokens: 6 floating-point operations for each of them and each parameter that multiplies it
(those of the head only for tokens with a label, as only these are scored), and 6 x layers x hidden x n for the causal
attention of an example of n tokens (PaLM, arXiv 2204.02311, appendix B, without the half that is masked). The peak is
the vendor's for dense bfloat16 where the device is known, else, as on CPUs, what a large matrix product reaches here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import tyro

from selfalign.training.loading import attention_of, dtype_of, multiplies_in_bfloat16, without_dropout
from tests.fakes.tiny_model import make_tiny_model
from tests.helpers import load_script

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# FLOP/s in dense bfloat16, without sparsity, from NVIDIA's data sheets; the first key in the device's name counts.
PEAKS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "A10G": 70e12,
    "A10": 125e12,
    "L4": 121e12,
}
# Llama-3.2-1B's shape on a GPU, SmolLM2-135M's on a CPU: vocabulary, width, that of the inner layer, layers, heads, and
# heads of keys and values.
SHAPES = {"cuda": (128256, 2048, 8192, 16, 32, 8), "cpu": (49152, 576, 1536, 30, 9, 3)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is measured."""

    config: str | None = None
    """Model whose shape is taken: a Hub id or a folder with config.json. By default, Llama-3.2-1B on a GPU, and
    SmolLM2-135M on a CPU."""

    steps: int | None = None
    """Optimizer steps that are timed, after one that is not. By default, 5 on a GPU, and 2 on a CPU."""

    batch_size: int | None = None
    """Examples per optimizer step. By default, 64 on a GPU, and 4 on a CPU."""

    max_length: int = 1280
    """Maximum length of an example in tokens (paper, C.3)."""

    median: int = 300
    """Median length of the examples in tokens."""

    spread: float = 0.6
    """Standard deviation of the logarithm of the lengths."""

    at_a_time: tuple[int, ...] = (1, 8)
    """Sequences that the device takes at a time."""

    attention: str = "auto"
    """As in finetune.py."""

    gradient_checkpointing: bool = False
    """As in finetune.py; what is computed twice counts once."""


class Way(NamedTuple):
    """A way to make batches."""

    title: str
    packing: bool
    at_a_time: int
    pad_to: int | None = None  # tokens; None: the longest sequence of the batch


def ways_of(options: Options, device: str, batch_size: int) -> Iterator[Way]:
    """The ways to compare; several sequences at a time only on a GPU."""
    yield Way("one at a time", False, 1)
    yield Way(f"padded to {options.max_length}, 1 at a time", False, 1, options.max_length)
    for number in options.at_a_time:
        if number > batch_size or (number > 1 and device == "cpu"):
            continue
        if number > 1:
            yield Way(f"padded, {number} at a time", False, number)
        yield Way(f"packed, {number} at a time", True, number)


def random_examples(count: int, options: Options, vocabulary: int) -> Dataset:
    """Examples in tokens, of which the first third is the prompt."""
    import datasets

    draws = random.Random(0)
    rows = []
    for _ in range(count):
        length = max(8, min(options.max_length, round(options.median * draws.lognormvariate(0, options.spread))))
        ids = [draws.randrange(10, vocabulary) for _ in range(length)]
        rows.append({"input_ids": ids, "labels": [-100] * (length // 3) + ids[length // 3 :]})
    return datasets.Dataset.from_list(rows)


def operations_per_token(model: Any, examples: Dataset) -> float:
    """Floating-point operations of the forward and backward pass for a token, on average over the examples."""
    config = model.config
    lengths = [len(ids) for ids in examples["input_ids"]]
    scored = sum(label != -100 for labels in examples["labels"] for label in labels) / sum(lengths)
    head = config.vocab_size * config.hidden_size
    body = sum(p.numel() for p in model.parameters()) - head * (1 if config.tie_word_embeddings else 2)
    attention = config.num_hidden_layers * config.hidden_size * sum(n * n for n in lengths) / sum(lengths)
    return 6 * (body + scored * head + attention)


def matmul_speed(device: str, dtype: torch.dtype) -> float:
    """FLOP/s of the fastest of ten products of two square matrices."""
    import torch

    size = 8192 if device == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    times = []
    for _ in range(10):
        started = now(device)
        a @ b
        times.append(now(device) - started)
    return 2 * size**3 / min(times)


def now(device: str) -> float:
    """Seconds on the clock, once the device has done all it was given."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


class Speed(NamedTuple):
    """What a training reached."""

    tokens_per_second: float  # without padding
    useful: float  # share of the tokens computed that were not padding
    memory: float  # peak of the GPU in GiB; NaN on a CPU


def measure(made: Any, way: Way, tokenizer: PreTrainedTokenizerBase, examples: Dataset, device: str) -> Speed:
    """Train on the examples with the options `made` of finetune.py; the first optimizer step is not timed."""
    import torch
    from transformers import TrainerCallback
    from transformers.trainer_utils import SaveStrategy

    times, computed = [], []

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            times.append(now(device))

    trainer = load_script("finetune").make_trainer(made, tokenizer, examples)
    trainer.data_collator.pad_to_multiple_of = way.pad_to
    trainer.args.max_steps, trainer.args.save_strategy = len(examples) // made.batch_size, SaveStrategy.NO
    trainer.args.disable_tqdm = True
    trainer.add_callback(Clock())
    compute_loss = trainer.compute_loss

    def counted(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        computed.append(inputs["input_ids"].numel())
        return compute_loss(model, inputs, *args, **kwargs)

    trainer.compute_loss = counted
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with contextlib.redirect_stdout(io.StringIO()):  # the losses of each step
        trainer.train()
    memory = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else float("nan")
    seen = [entry["num_tokens"] for entry in trainer.state.log_history if "loss" in entry]
    return Speed((seen[-1] - seen[0]) / (times[-1] - times[0]), seen[-1] / sum(computed), memory)


def compare(
    options: Options, load: Callable[[], PreTrainedModel], examples: Dataset, batch_size: int, device: str
) -> Iterator[tuple[Way, Speed]]:
    """Measure each way in turn, with the model that `load` makes: the way and its speed."""
    from transformers import AutoTokenizer

    finetune = load_script("finetune")
    finetune.base_model = lambda _: SimpleNamespace(load=load, check_packing=lambda: None)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = AutoTokenizer.from_pretrained(make_tiny_model(Path(folder) / "tokenizer"))
        for way in ways_of(options, device, batch_size):
            made = finetune.Options(
                input="random tokens",
                output=f"{folder}/out",
                packing=way.packing,
                device_batch_size=way.at_a_time,
                batch_size=batch_size,
                max_length=options.max_length,
                epochs=1,
                learning_rate=1e-5,
                gradient_checkpointing=options.gradient_checkpointing,
            )
            yield way, measure(made, way, tokenizer, examples, device)


def main(options: Options) -> None:
    """Print the machine, the model and the examples, and a line for each way."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = dtype_of("auto")
    attention = attention_of(options.attention, dtype)
    steps = options.steps or (5 if device == "cuda" else 2)
    batch_size = options.batch_size or (64 if device == "cuda" else 4)
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    shape = dict(zip((*names, "num_key_value_heads"), SHAPES[device], strict=True))
    llama = LlamaConfig(**shape, max_position_embeddings=8192, tie_word_embeddings=True)
    config: Any = without_dropout(AutoConfig.from_pretrained(options.config) if options.config else llama)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config)
    examples = random_examples((steps + 1) * batch_size, options, config.vocab_size)
    lengths = [len(ids) for ids in examples["input_ids"]]
    operations = operations_per_token(model, examples)

    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    products = "bfloat16" if multiplies_in_bfloat16("auto") else dtype
    measured = matmul_speed(device, getattr(torch, products))
    peak = next((peak for known, peak in PEAKS.items() if known in name), measured)
    print(f"{name}; load average {os.getloadavg()[0]:.1f}; {dtype}, products in {products}, {attention}")
    reference = "that" if peak == measured else f"the data sheet's {peak / 1e12:.0f}"
    print(f"a matrix product reaches {measured / 1e12:.2f} TFLOP/s; MFU is a share of {reference}")
    print(
        f"{sum(p.numel() for p in model.parameters()) / 1e6:,.0f}M parameters, {operations / 1e9:.2f} GFLOP per token; "
        f"examples of {sum(lengths) / len(lengths):.0f} tokens on average, {max(lengths)} at most; {batch_size} a step"
    )
    print(f"\n{'':28} {'tokens/s':>10} {'MFU':>7} {'beside the first':>17} {'no padding':>11} {'GPU memory':>11}")
    first = None
    make = AutoModelForCausalLM.from_config
    load = functools.partial(make, config, dtype=getattr(torch, dtype), attn_implementation=attention)
    for way, speed in compare(options, load, examples, batch_size, device):
        tokens = speed.tokens_per_second
        first = first or tokens
        memory = f"{speed.memory:.1f} GiB" if device == "cuda" else "-"
        print(
            f"{way.title:28} {tokens:10,.0f} {100 * tokens * operations / peak:6.1f}% {tokens / first:16.2f}x "
            f"{100 * speed.useful:10.0f}% {memory:>11}",
            flush=True,
        )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
