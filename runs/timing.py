"""How fast this machine fine-tunes a model: measured with a few steps, in a process whose memory is free afterwards.

python -m runs.timing smollm2          # prints JSON: seconds per token, per optimizer step, and for loading
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from runs.running import write_state
from runs.servers import gpu_count
from selfalign.models import resolve_model
from selfalign.options import ROOT
from selfalign.training.loading import BaseModel

TOKENS = 128  # of the sequence that is measured
FIRST_TOKENS = 8  # of the one before, with which is loaded what is loaded late
LARGEST_BYTES = 8e9  # of weights: loading more, only to measure, takes minutes


class Training(NamedTuple):
    """Seconds that a training takes for each token of its examples, for each optimizer step, and to load the model."""

    token: float
    step: float
    loading: float

    def seconds(self, examples: int, tokens: float, epochs: float, batch_size: int) -> float:
        """What a training on `examples` of `tokens` tokens takes."""
        steps = math.ceil(examples / batch_size) * epochs
        return self.loading + examples * epochs * tokens * self.token + steps * self.step


def measure_training(model: str, file: Path | None = None) -> Training | None:
    """The speed of finetune.py with this model, on one device; None if it can't be measured here.

    It is kept in `file`, and measured once.
    """
    words = [sys.executable, "-m", "runs.timing", model]
    there = file is not None and file.exists()
    text = (
        file.read_text() if file and there else subprocess.run(words, cwd=ROOT, capture_output=True, text=True).stdout
    )
    try:
        training = Training(*json.loads(text.strip().splitlines()[-1]))
    except (ValueError, IndexError, TypeError):
        return None
    if file and not there:
        write_state(file.parent, file.name, training)
    return training


def main(name: str) -> None:
    """Print the speed of one step after a first, short one."""
    import torch
    from transformers.optimization import Adafactor

    folder = Path(resolve_model(name))
    if folder.is_dir() and sum(file.stat().st_size for file in folder.glob("*.safetensors")) > LARGEST_BYTES:
        raise SystemExit(1)
    started = time.monotonic()
    model = BaseModel(name, "auto", "auto").load().train()
    model = model.to("cuda" if gpu_count() else "cpu")  # type: ignore[arg-type]
    loading = time.monotonic() - started
    optimizer = Adafactor(model.parameters(), lr=1e-9, scale_parameter=False, relative_step=False)
    passed = ended = started
    for length in (FIRST_TOKENS, TOKENS):
        ids = torch.arange(length, device=model.device).unsqueeze(0) + 100
        started = time.monotonic()
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        loss.item()  # waits for a GPU
        passed = time.monotonic()
        optimizer.step()
        optimizer.zero_grad()
        ended = time.monotonic()
    print(json.dumps([(passed - started) / TOKENS, ended - passed, loading]))


if __name__ == "__main__":
    main(sys.argv[1])
