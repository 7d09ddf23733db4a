"""The whole chain with everything on the Hub and the model on a server elsewhere, killed on the way."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.experiments.walking import SEEDS, lines
from tests.fakes.hub import LocalHub
from tests.fakes.vllm import TASKS
from tests.helpers import ROOT

DATASETS = ("concepts", "tasks", "responses", "executions", "instructions")


@pytest.fixture
def vllm(tiny_model):
    """The URL of vLLM's stand-in."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "tests.fakes.vllm", "serve", str(tiny_model), "--port", str(port)]
    with subprocess.Popen(words, cwd=ROOT, start_new_session=True) as server:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
        os.killpg(server.pid, signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_run_on_the_hub_is_killed_and_goes_on(tmp_path, tiny_model, vllm):
    words = [sys.executable, "-m", "runs.self_align", "org/tiny", "--seeds", "org/given", "--hub", "tester/aligned"]
    words += ["--endpoint", vllm, "--api", "completions", "--settings", "small", "--out", str(tmp_path / "out")]
    with LocalHub() as hub:
        hub.add("org/tiny", {path.name: path.read_bytes() for path in tiny_model.iterdir()}, repo_type="model")
        hub.add("org/given", {"train.jsonl": lines(SEEDS)})
        environment = hub.environment(tmp_path / "home") | {"HF_HUB_OFFLINE": "0"}
        first = subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        assert first.stdout
        for line in first.stdout:
            if line.startswith("Responses"):
                break
        first.send_signal(signal.SIGKILL)
        printed = first.stdout.read()
        first.wait()

        again = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert again.returncode == 0, printed + again.stdout + again.stderr
        assert "Concepts:" not in again.stdout and "Done in" in again.stdout
        for name in DATASETS:
            run = json.loads(hub.files(f"tester/aligned-{name}")["run.json"])
            assert run["complete"] and run["funnel"][-1]["rows_out"] >= len(TASKS) / 2, name
        assert "model.safetensors" in hub.files("tester/aligned", repo_type="model")
        results = json.loads((tmp_path / "out" / "after" / "humaneval" / "results.json").read_text())
        assert results["problems"] == 164
