"""The commands that the serving scripts start, with stand-ins for Docker, vLLM and Slurm that only print them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT, read_rows, write_rows
from tests.scripts.test_generating import TASKS

MODELS = ["starcoder2-3b", "codeqwen1.5-7b", "llama-3-8b", "starcoder2-15b", "deepseek-coder-33b"]


@pytest.fixture
def tools(tmp_path):
    """A function that adds a stand-in for a command to a folder which comes first on the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def add(name, script):
        (folder / name).write_text(f"#!/usr/bin/env bash\n{script}\n")
        (folder / name).chmod(0o755)

    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    add.environment = environment | {"PATH": f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return add


def run_script(tools, script, *arguments, **environment):
    words = ["bash", str(ROOT / "experiments" / "serving" / script), *arguments]
    environment = tools.environment | environment
    return subprocess.run(words, capture_output=True, text=True, env=environment, timeout=120)


def started(tools, script, *arguments):
    for name in ("docker", "vllm"):
        tools(name, 'printf "%s\\n" "$@"')
    result = run_script(tools, script, *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("script", "option"), [("tgi.sh", "--num-shard"), ("vllm.sh", "--tensor-parallel-size")])
def test_each_model_gets_the_gpus_of_the_table(tools, script, option, name):
    table = (ROOT / "experiments" / "serving" / "models.sh").read_text()
    (row,) = [line.split() for line in table.splitlines() if line.startswith(f"#   {name} ")]
    words = started(tools, script, name)
    assert words[words.index(option) + 1] == row[2]


def test_port_gpus_and_more_options_are_passed_on(tools):
    words = started(tools, "vllm.sh", "starcoder2-15b", "8123", "--gpus", "2", "--quantization", "fp8")
    assert words[words.index("--port") + 1] == "8123" and words[words.index("--tensor-parallel-size") + 1] == "2"
    assert words[-2:] == ["--quantization", "fp8"]


@pytest.mark.parametrize(
    ("model", "tokens"), [("codellama/CodeLlama-70b-Instruct-hf", "4096"), ("bigcode/octocoder", "8192")]
)
def test_no_longer_context_is_served_than_a_model_has(tools, model, tokens):
    words = started(tools, "vllm.sh", model)
    assert words[words.index("--max-model-len") + 1] == tokens


@pytest.mark.parametrize("given", [[], [""], ["all"]])
def test_gpus_must_be_a_number(tools, given):
    result = run_script(tools, "vllm.sh", "starcoder2-3b", "--gpus", *given)
    assert (result.returncode, result.stderr) == (2, "vllm.sh: --gpus needs a number\n")


def test_the_help_is_the_text_above(tools):
    result = run_script(tools, "vllm.sh", "--help")
    assert result.returncode == 0 and result.stdout.startswith("Serves one of the paper's models with vLLM")


def test_no_gpu_is_taken_where_all_are_hidden(tools):
    tools("docker", "exit 1")
    result = run_script(tools, "tgi.sh", "starcoder2-3b", CUDA_VISIBLE_DEVICES="")
    assert result.returncode == 2 and "leaves no GPU to serve starcoder2-3b with" in result.stderr


def test_an_unknown_model_is_refused(tools):
    result = run_script(tools, "tgi.sh", "gpt-5")
    assert result.returncode == 2 and "there is no model gpt-5" in result.stderr


def test_a_slurm_job_starts_replicas_and_hands_them_to_a_step(tools, tmp_path):
    tools("srun", 'shift; exec "$@"')
    tools("scontrol", "echo 127.0.0.1")
    tools("sleep", "exec /bin/sleep 0.2")
    tools("vllm", f'[ "$3" = --port ] && exec {sys.executable} -m tests.fakes.server --port "$4" --model "$2"')
    tasks = write_rows(tmp_path / "tasks.jsonl", TASKS)
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "node", "SLURM_SUBMIT_DIR": str(ROOT)}
    step = ["sample_responses.py", str(tasks), str(tmp_path / "out"), "--samples", "2"]
    result = run_script(tools, "slurm.sh", "starcoder2-3b", *step, **job, HF_HUB_OFFLINE="1")
    assert result.returncode == 0, result.stderr
    assert len(read_rows(tmp_path / "out")) == 2 * len(TASKS)
