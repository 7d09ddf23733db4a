"""How often does the probe of a server err? Real models behind serve.py, which is honest, or deaf in one of four ways.

    python -m tests.verdicts.probe smollm2 /path/to/Qwen2.5-Coder-0.5B-Instruct --repeats 20

Beside the models that are named, a tiny one is trained to repeat itself, and is probed at several stages of that: from
nearly random to so sure of every token that it can't write anything else.

An honest server draws anew for each probe. The deaf ones: `greedy` takes the likeliest token whatever the temperature;
`one seed` draws, but with the same seed whatever was asked; `cache` draws the first time that it sees a prompt, and
repeats that; `temperature 0.01` has a temperature of its own. Each is probed with the log-probabilities that TGI tells,
and without, as OpenAI's interface is.

Prints a line for each model and server: of how many probes the server was refused, of how many there was a remark that
the model is too sure to tell, and of how many nothing was found. A false alarm is an honest server that is refused. A
miss is a deaf one of which nothing was found.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import TextGenerationOutput

from selfalign.llm.client import Unfit
from selfalign.llm.probe import probe
from selfalign.llm.tgi import TgiClient
from selfalign.options import GenerationOptions
from selfalign.statistics import wilson_interval
from serve import Options, load
from server.validation import check
from tests.fakes.tiny_model import make_tiny_model

STAGES = (0, 5, 10, 20, 40, 80, 160)  # steps of training the tiny model
SERVERS = ("honest", "greedy", "one seed", "cache", "temperature 0.01")
REFUSED, REMARK, NOTHING = "refused", "remark", "nothing found"


class Served:
    """The application of serve.py, called without the network, with the faults of a server put before it."""

    def __init__(self, model: str) -> None:
        self.app = load(Options(model=model, max_total_tokens=512))
        self.app.engine.start(threads=len(os.sched_getaffinity(0)))
        self.kind, self.draw = "honest", 0
        self.cached: dict[str, Any] = {}

    async def text_generation(self, prompt: str, **asked: Any) -> Any:
        """As huggingface_hub's client, which TgiClient calls."""
        if self.kind == "cache" and prompt in self.cached:
            return self.cached[prompt]
        parameters = {"details": True, **asked}
        if self.kind == "greedy":
            parameters |= {"do_sample": False, "temperature": None, "seed": None}
        elif self.kind == "temperature 0.01":
            parameters["temperature"] = 0.01
        # Each probe sends the same seeds; an honest server is to draw other texts for each of our probes.
        seed = 0 if self.kind == "one seed" else parameters["seed"] or 0
        parameters["seed"] = None if self.kind == "greedy" else 1000 * self.draw + seed
        inputs, checked = check(
            {"inputs": prompt, "parameters": {k: v for k, v in parameters.items() if v is not None}}
        )
        answer = TextGenerationOutput.parse_obj_as_instance(await self.app.answer(inputs, checked, repeat_prompt=False))
        self.cached[prompt] = answer
        return answer


class ServedClient(TgiClient):
    """Our client of TGI, on `Served`; `tells_logprobs` as an answer of TGI does."""

    def __init__(self, served: Served, options: GenerationOptions, *, tells_logprobs: bool) -> None:
        super().__init__(options.endpoint[0], options)
        self.served, self.tells_logprobs = served, tells_logprobs

    @contextlib.contextmanager
    def _pool(self) -> Iterator[Any]:
        yield self.served

    async def complete(self, request: Any) -> list[Any]:
        completions = await super().complete(request)
        return completions if self.tells_logprobs else [replace(each, logprob=None) for each in completions]


def probed(served: Served, kind: str, *, tells_logprobs: bool, repeats: int) -> Counter[str]:
    """What the probe said of one kind of server, `repeats` times."""
    options = GenerationOptions(endpoint=("http://served",), temperature=0.7)
    found: Counter[str] = Counter()
    for number in range(repeats):
        served.kind, served.draw, served.cached = kind, number, {}
        client = ServedClient(served, options, tells_logprobs=tells_logprobs)
        try:
            remarks = asyncio.run(probe(client, options))
        except Unfit:
            found[REFUSED] += 1
        else:
            found[REMARK if any("so sure" in remark for remark in remarks) else NOTHING] += 1
    return found


def repeating_models(folder: Path) -> Iterator[tuple[str, str]]:
    """A tiny model at several stages of being trained to write "yes yes yes ..." after anything: names and folders."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = str(make_tiny_model(folder / "tiny"))
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    draws = random.Random(0)
    for step in range(max(STAGES) + 1):
        if step in STAGES:
            model.save_pretrained(folder / str(step))
            tokenizer.save_pretrained(folder / str(step))
            yield f"tiny, {step} steps of repeating", str(folder / str(step))
        before = ["".join(draws.choices("abcdefghij :,\n", k=30)) for _ in range(16)]
        batch = tokenizer([text + "yes" * 20 for text in before], return_tensors="pt", padding=True)
        loss = model(batch["input_ids"], labels=batch["input_ids"]).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="Hub ids, folders or .gguf files")
    parser.add_argument("--repeats", type=int, default=20, help="probes of each model and server")
    options = parser.parse_args()
    false_alarms, misses = Counter[bool](), Counter[bool]()
    with tempfile.TemporaryDirectory() as folder:
        models = [*((Path(name).name, name) for name in options.models), *repeating_models(Path(folder))]
        print(f"{'model':38} {'server':18} {'log-probs':10} {REFUSED:>8} {REMARK:>8} {NOTHING:>14}", flush=True)
        for name, model in models:
            served = Served(model)
            for kind in SERVERS:
                for tells in (True, False):
                    found = probed(served, kind, tells_logprobs=tells, repeats=options.repeats)
                    line = f"{name:38} {kind:18} {'yes' if tells else 'no':10}"
                    print(f"{line} {found[REFUSED]:8} {found[REMARK]:8} {found[NOTHING]:14}", flush=True)
                    if kind == "honest":
                        false_alarms.update({True: found[REFUSED], False: found[REMARK] + found[NOTHING]})
                    else:
                        misses.update({True: found[NOTHING], False: found[REFUSED] + found[REMARK]})
            served.app.engine.stop()
    for title, counted in (("false alarms", false_alarms), ("misses", misses)):
        low, high = wilson_interval(counted[True], counted.total())
        print(f"{title}: {counted[True]} of {counted.total()} (95 %: {100 * low:.1f} to {100 * high:.1f} %)")


if __name__ == "__main__":
    main()
