"""serve.py as a process: how it starts, how it ends, and what it does when it is full."""

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import serve
from selfalign.llm.local_server import served
from tests.fakes.tgi_contract import validate
from tests.helpers import command, run
from tests.server.client import PROMPT, request, text


@pytest.fixture(scope="module")
def endless_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model without a way to end: its end-of-text never has the highest score. 2000 tokens take 4 s."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("endless") / "model"
    shutil.copytree(tiny_model, folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.lm_head.weight.data[model.config.eos_token_id] = 0
    model.save_pretrained(folder)
    return folder


def test_full_is_429_and_a_client_that_hangs_up_frees_its_place(endless_model: Path):
    """One place, taken by a long greedy answer; polled, as machines are slow."""

    def poll(url: str, wanted: int, seconds: float) -> bytes:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            status, answer = request(f"{url}/generate", {"inputs": PROMPT, "parameters": {"max_new_tokens": 1}})
            if status == wanted:
                return answer
            time.sleep(0.02)
        pytest.fail(f"no {wanted} within {seconds} s")

    with served(str(endless_model), "--dtype", "float32", "--max-concurrent-requests", "1") as url:
        host, port = url.removeprefix("http://").split(":")
        body = json.dumps({"inputs": PROMPT, "parameters": {"max_new_tokens": 2000}}).encode()
        with socket.create_connection((host, int(port))) as client:
            client.sendall(b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            refusal = json.loads(poll(url, 429, 3))
            validate(refusal, "ErrorResponse")
            assert refusal["error_type"] == "overloaded"
        poll(url, 200, 1)


def test_sigterm_ends_it_even_while_it_generates(endless_model: Path):
    start = command("serve", "--model", endless_model, "--port", 0)
    with subprocess.Popen(start, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        url = process.stdout.readline().split()[-1]
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: request(f"{url}/generate", {"inputs": PROMPT, "parameters": {"max_new_tokens": 2000}}))
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) == 0  # 0.1 s; this allows for a busy machine
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--port {port}", "can't listen on 127.0.0.1:{port}: Address already in use"),
        ("--model ./nowhere --port 0", "can't load the model ./nowhere: "),
    ],
)
def test_a_failure_is_one_sentence(endpoint: str, words: str, said: str):
    port = endpoint.rsplit(":", 1)[1]
    done = run("serve", *words.format(port=port).split())
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("serve.py: " + said.format(port=port)) and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("damaged", "said"),
    [("model.safetensors", "incomplete metadata, file not fully covered"), ("config.json", "mismatched_sizes")],
)
def test_a_damaged_model_is_one_sentence(tiny_model: Path, tmp_path: Path, damaged: str, said: str):
    """Weights of which a part is missing, and those of another size."""
    shutil.copytree(tiny_model, tmp_path / "model")
    file = tmp_path / "model" / damaged
    file.write_bytes(file.read_bytes().replace(b'"hidden_size": 64', b'"hidden_size": 32')[:20_000])
    done = run("serve", "--model", tmp_path / "model", "--port", 0)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    sentence = done.stderr.splitlines()[-1]
    assert sentence.startswith("serve.py: can't load the model") and said in sentence


def test_while_the_model_is_loaded_clients_are_refused():
    with contextlib.closing(serve.bind(serve.Options(port=0))) as bound, pytest.raises(ConnectionRefusedError):
        socket.create_connection(bound.getsockname())


def test_of_two_servers_that_start_at_one_port_one_is_refused(tiny_model: Path):
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    start = command("serve", "--model", tiny_model, "--port", port)
    both = [subprocess.Popen(start, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        lines = [process.stdout.readline() for process in both if process.stdout]
        assert sorted(lines) == ["", f"listening on http://127.0.0.1:{port}\n"]
        refused = both[lines.index("")]
        *_, sentence = refused.communicate()[1].splitlines()
        assert sentence == f"serve.py: can't listen on 127.0.0.1:{port}: Address already in use"
        assert refused.returncode == 2
    finally:
        for process in both:
            process.kill()
            process.communicate()


@pytest.mark.slow
def test_the_default_model_writes_code(tmp_path: Path):
    """Converts SmolLM2-135M-Instruct anew, and serves it in the machine's own dtype."""
    start = command("serve", "--port", 0, "--cache", tmp_path)
    with subprocess.Popen(start, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            url = process.stdout.readline().split()[-1]
            assert "fibonacci(n - 1)" in text(url, "def fibonacci(n):", max_new_tokens=40)
        finally:
            process.terminate()
