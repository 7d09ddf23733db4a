"""Small trainings of the tiny model."""

import os
import subprocess
import sys
from pathlib import Path

from tests.helpers import ROOT, load_script, run_json, write_rows

finetune = load_script("finetune")

ROWS = [
    {"id": str(i), "instruction": f"Add {i} to a number.", "response": f"```python\ndef f(x):\n    return x + {i}\n```"}
    for i in range(16)
]
PAIRS = [
    {
        "prompt": [{"role": "user", "content": f"Add {i} to a number."}],
        "chosen": [{"role": "assistant", "content": f"return x + {i}"}],
        "rejected": [{"role": "assistant", "content": f"I am sorry that I can't add {i}"}],
    }
    for i in range(16)
]
QUICK = {"epochs": 3, "batch_size": 4, "learning_rate": 1e-3, "eval_fraction": 0.25}


def options_of(folder, model, rows=ROWS, **more):
    """Options of a training of `model` on `rows`, in `folder`."""
    data = write_rows(folder / "in.jsonl", rows)
    return finetune.Options(**{"input": str(data), "output": str(folder / "model"), "model": str(model), **more})


def words_of(options, *more):
    """The command line of a training with the options QUICK and `more`."""
    words = [options.input, options.output, "--model", options.model]
    for name in (*QUICK, *more):
        words += [f"--{name.replace('_', '-')}", getattr(options, name)]
    return words


def run_python(*words):
    """Runs Python in the project's root, with a thread for each process, as machines are busy."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)


def tokenizer_of(options):
    return finetune.load_tokenizer(options)


def prepared(options):
    return finetune.prepare(finetune.read_examples(options)[1], tokenizer_of(options), options)


def trainer_of(options):
    """The trainer of a training, before it begins."""
    examples, held_out, _ = prepared(options)
    return finetune.make_trainer(finetune.checked(options), tokenizer_of(options), examples, held_out)


def curve(options, name):
    return [value for _, value in run_json(options.output)["curves"][name]]


def weights(options):
    from safetensors.torch import load_file

    return load_file(Path(options.output) / "model.safetensors")


def same_weights(first, second, tolerance=0):
    import torch

    first, second = weights(first), weights(second)
    assert first.keys() == second.keys()
    return all(torch.allclose(first[name], second[name], rtol=0, atol=tolerance) for name in first)


def prompt_of(row):
    return f"### Instruction\n{row['instruction']}\n\n### Response\n"


def examples_in(batch):
    """Ids, labels and first position of each example of a batch, padded or packed."""
    if "attention_mask" in batch:
        for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
            assert (labels[mask == 0] == -100).all()
            yield ids[mask == 1].tolist(), labels[mask == 1].tolist(), 0
        return
    (ids,), (labels,), (positions,) = (batch[name].tolist() for name in ("input_ids", "labels", "position_ids"))
    starts = [i for i, position in enumerate(positions) if position == 0]
    for start, end in zip(starts, [*starts[1:], len(ids)], strict=True):
        yield ids[start:end], labels[start:end], positions[start]
