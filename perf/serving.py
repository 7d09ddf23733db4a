"""How many tokens a second a server makes of one model here: serve.py beside vLLM, OpenVINO and llama.cpp, in one run.

    python -m perf.serving --model ./qwen                      # a transformers folder or Hub id: serve.py alone
    python -m perf.serving --model ./qwen --vllm /venvs/vllm/bin/python --llama-cpp .venv/bin/python --gguf ./qwen.gguf

Each server gets the same requests: prompts as sample_responses.py writes them, with three worked examples, several
samples of each at temperature 0.7 and up to a number of tokens. They all have the same number of threads and are asked
in turn, round after round, so that what else the machine does falls on all of them; the median of the rounds counts,
after one that warms up.

Before them comes what the hardware can do: how fast memory is read, and how fast a large product is computed. A step of
the model has to read all weights once, and every token of an answer is multiplied with all of them. The first line of
the table is what this allows, whoever serves the model with weights of 16 bits: attention, drawing tokens and
everything else would have to take no time. Products are computed as serve.py does: in bfloat16 if the processor has
instructions for it, otherwise in float32.

vLLM's, OpenVINO's and llama-cpp-python's own environments are named by their Python, llama.cpp's own server (which
answers several requests at a time, where llama-cpp-python's answers one) by its program; what is not named is left out.
`perf/openvino_server.py` says how to get OpenVINO, and the model for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from selfalign.llm.endpoint import Endpoint
from selfalign.llm.local_server import served
from selfalign.llm.prompts import draw_examples, load_examples, load_prompt
from selfalign.options import PROMPTS, GenerationOptions

if TYPE_CHECKING:
    import torch

SHOTS = 3
PATIENCE = 600  # seconds for a server to start
BYTES = 1 << 29  # of the array that is read to measure the memory
ROWS = 64  # of the inputs that are multiplied to measure the processor
BYTES_OF_A_WEIGHT = 2


@dataclass
class Options:
    model: str
    """Transformers folder or Hub id."""
    gguf: str | None = None
    """The same model for llama.cpp."""
    vllm: str | None = None
    """Python that has vLLM (its CPU build)."""
    openvino: str | None = None
    """Python that has openvino-genai."""
    openvino_model: str | None = None
    """The same model for OpenVINO."""
    llama_cpp: str | None = None
    """Python that has llama-cpp-python[server]."""
    llama_server: str | None = None
    """llama.cpp's own server, the program llama-server."""
    before: str | None = None
    """Another checkout of this project, whose serve.py is measured beside this one's with the same Python."""
    quantize: bool = False
    """Also measure `serve.py --quantize int8`."""
    requests: tuple[int, ...] = (16, 64)
    """Samples asked for at the same time: multiples of --samples."""
    samples: int = 8
    """Samples of each prompt."""
    max_new_tokens: int = 128
    threads: int = len(os.sched_getaffinity(0))
    rounds: int = 3


def prompts(count: int) -> list[str]:
    """What sample_responses.py would ask for `count` tasks."""
    examples = load_examples(PROMPTS / "examples.yaml")
    shots = load_examples(PROMPTS / "examples_plain.yaml")
    template = load_prompt(PROMPTS / "responses.jinja", examples)
    tasks = [{"instruction": example.instruction} for example in examples.pool]
    draws = random.Random(0)
    return [template.render(row=tasks[n % len(tasks)], shots=draw_examples(draws, shots, SHOTS)) for n in range(count)]


@contextlib.contextmanager
def started(command: list[str], threads: int) -> Iterator[str]:
    """The URL of an OpenAI server that `command --port PORT` starts, once it listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    command = [*command, "--port", str(port)]
    try:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except OSError as error:
        raise SystemExit(f"this server does not start ({error.strerror}): {' '.join(command)}") from None
    with process as server:
        try:
            deadline = time.monotonic() + PATIENCE
            while True:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                if server.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"this server does not start: {' '.join(command)}")
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def tokens_per_second(url: str, api: str, options: Options, requests: int) -> float:
    """Of one round. The prompts differ between rounds of different size only, and the first round is not counted."""
    generation = GenerationOptions(endpoint=(url,), api=api, send_seeds=api == "tgi")  # type: ignore[reportArgumentType]
    endpoint = Endpoint(generation, samples_a_row=options.samples)
    asked = prompts(requests // options.samples)

    async def all_samples() -> float:
        async with endpoint:
            start = time.perf_counter()
            answers = await asyncio.gather(
                *(
                    endpoint.sample(prompt, options.samples, max_new_tokens=options.max_new_tokens, seed=number)
                    for number, prompt in enumerate(asked)
                )
            )
            seconds = time.perf_counter() - start
        return sum(answer.generated_tokens for samples in answers for answer in samples) / seconds

    return asyncio.run(all_samples())


def measured(urls: dict[str, tuple[str, str]], options: Options, requests: int) -> dict[str, list[float]]:
    """Tokens a second of each server by round. In each round, all servers follow each other."""
    rounds: dict[str, list[float]] = {name: [] for name in urls}
    for number in range(options.rounds + 1):
        for name, (url, api) in urls.items():
            rate = tokens_per_second(url, api, options, requests)
            if number > 0:
                rounds[name].append(rate)
    return rounds


def hardware(threads: int, dtype: torch.dtype) -> tuple[float, float]:
    """Bytes that memory gives in a second, and FLOPS of a product with 4096 x 4096, the fastest way."""
    import torch

    from server.packed import packed

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    array = torch.ones(BYTES // 4)
    layer = torch.nn.Linear(4096, 4096, bias=False, dtype=dtype)
    ways = [layer, packed(layer, halve=False), packed(layer, halve=True)]
    inputs = torch.ones(ROWS, 4096, dtype=dtype)

    def seconds(work) -> float:
        work()
        times = []
        for _ in range(5):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return min(times)

    product = min(seconds(partial(way, inputs)) for way in ways)
    return BYTES / seconds(array.sum), 2 * ROWS * layer.weight.numel() / product


def most_tokens_per_second(options: Options, requests: int, memory: float, flops: float) -> float:
    """What reading the weights and multiplying with them would allow if nothing else took any time. Prompts don't
    count, as servers know them from the round that warms up."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(options.model))
    head = model.get_output_embeddings().weight.numel()
    embeddings = 0 if model.get_input_embeddings().weight is model.get_output_embeddings().weight else head
    layers = sum(weight.numel() for weight in model.parameters()) - head - embeddings
    written = requests * options.max_new_tokens
    multiplying = 2 * (layers + head) * written / flops
    reading = options.max_new_tokens * BYTES_OF_A_WEIGHT * (layers + head) / memory
    return written / max(multiplying, reading)


def check(options: Options) -> None:
    """SystemExit if not as many samples could be asked for at the same time as the table says."""
    for number in options.requests:
        if number < 1 or number % options.samples:
            raise SystemExit(
                f"--requests {number} is not a multiple of --samples {options.samples}, the samples of each prompt"
            )


def main(options: Options) -> None:
    check(options)
    from server.packed import native_dtype  # imports torch, which would make --help slow

    dtype = native_dtype()
    format = str(dtype).removeprefix("torch.")
    memory, flops = hardware(options.threads, dtype)
    print(f"memory: {memory / 1e9:.1f} GB/s read by {options.threads} threads")
    print(f"{format}: {flops / 1e9:.0f} GFLOPS with {ROWS} rows")
    threads = ("--threads", str(options.threads), "--max-batch-size", str(max(options.requests)))
    servers = {"serve.py": ("tgi", served(options.model, *threads))}
    if options.quantize:
        servers["serve.py --quantize int8"] = ("tgi", served(options.model, *threads, "--quantize", "int8"))
    if options.before:
        command = [sys.executable, str(Path(options.before) / "serve.py"), "--model", options.model, *threads]
        servers[f"serve.py in {options.before}"] = ("tgi", started(command, options.threads))
    if options.vllm:
        limits = ["--max-model-len", "4096", "--dtype", format, "--generation-config", "vllm"]
        command = [str(Path(options.vllm).parent / "vllm"), "serve", options.model, *limits]
        servers[f"vLLM, {format}"] = ("completions", started(command, options.threads))
    if options.openvino and options.openvino_model:
        command = [options.openvino, str(Path(__file__).with_name("openvino_server.py")), *threads]
        command += ["--model", options.openvino_model]
        servers["OpenVINO"] = ("completions", started(command, options.threads))
    if options.llama_cpp and options.gguf:
        command = [options.llama_cpp, "-m", "llama_cpp.server", "--model", options.gguf, "--n_ctx", "4096"]
        command += ["--n_threads", str(options.threads), "--n_threads_batch", str(options.threads)]
        servers["llama.cpp"] = ("completions", started(command, options.threads))

    if options.llama_server and options.gguf:
        most = max(options.requests)
        command = [
            options.llama_server,
            "--model",
            options.gguf,
            "--ctx-size",
            str(2048 * most),
            "--parallel",
            str(most),
        ]
        command += ["--threads", str(options.threads)]
        servers["llama.cpp, llama-server"] = ("completions", started(command, options.threads))

    print(f"{'tokens/s with samples at a time':32}" + "".join(f"{number:>8}" for number in options.requests))
    most = (most_tokens_per_second(options, number, memory, flops) for number in options.requests)
    print(f"{'what the hardware allows':32}" + "".join(f"{rate:8.0f}" for rate in most), flush=True)
    with contextlib.ExitStack() as stack:
        urls = {name: (stack.enter_context(running), api) for name, (api, running) in servers.items()}
        rates: dict[str, list[float]] = {name: [] for name in urls}
        for requests in options.requests:
            for name, rounds in measured(urls, options, requests).items():
                rates[name].append(statistics.median(rounds))
                by_round = " ".join(f"{rate:.0f}" for rate in rounds)
                print(f"  {name}, {requests} at a time, by round: {by_round}", flush=True)
    for name, of_server in rates.items():
        print(f"{name:32}" + "".join(f"{rate:8.0f}" for rate in of_server))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
