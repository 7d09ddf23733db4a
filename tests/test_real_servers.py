"""The OpenAI side against servers that this project did not write, where they are installed."""

import importlib.util
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from selfalign.endpoints import Endpoint
from selfalign.options import GenerationOptions, UserError

pytestmark = pytest.mark.slow


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def transformers_serve(tiny_model: Path):
    """`transformers serve`, with the tiny random model."""
    if not all(map(importlib.util.find_spec, ("fastapi", "uvicorn", "openai"))):
        pytest.skip("transformers[serving] is not installed")
    port = free_port()
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", "--device", "cpu"]
    with subprocess.Popen([*command, "--port", str(port)], stderr=subprocess.PIPE) as server:
        deadline = time.monotonic() + 240
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
        server.terminate()


def test_transformers_serve_is_refused_for_sampling(transformers_serve, tiny_model):
    """It takes temperature, seed and `n`, and gives one greedy text whatever they are."""
    options = GenerationOptions(endpoint=(transformers_serve,), api="completions", model=str(tiny_model))
    with pytest.raises(UserError, match="same text twice at temperature 1"):
        Endpoint(options)


def test_transformers_serve_is_taken_for_greedy_decoding(transformers_serve, tiny_model):
    import asyncio

    options = GenerationOptions(
        endpoint=(transformers_serve,), api="completions", model=str(tiny_model), temperature=0.0
    )
    endpoint = Endpoint(options)

    async def ask():
        async with endpoint:
            return await asyncio.gather(
                *(endpoint.generate("def add(a, b):", max_new_tokens=12, seed=n, stop=["zzz"]) for n in range(3))
            )

    answers = asyncio.run(ask())
    assert len({answer.text for answer in answers}) == 1 and answers[0].text
    assert all(answer.finish_reason == "length" and answer.generated_tokens == 12 for answer in answers)
