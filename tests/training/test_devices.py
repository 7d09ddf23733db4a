"""Several devices: accelerate's configurations, and two processes that train as one does."""

import dataclasses
import json
from typing import Any

import pytest

from selfalign.errors import UserError
from tests.helpers import ROOT
from tests.training.tools import curve, finetune, run_python, same_weights, words_of


@pytest.mark.parametrize("name", ["ddp", "fsdp", "zero3"])
def test_accelerate_takes_our_configurations(name):
    from accelerate.commands.config.config_args import load_config_from_file

    config: Any = load_config_from_file(str(ROOT / "experiments" / "accelerate" / f"{name}.yaml"))
    assert config.distributed_type.value == {"ddp": "MULTI_GPU", "fsdp": "FSDP", "zero3": "DEEPSPEED"}[name]
    if name == "zero3":
        assert json.loads((ROOT / config.deepspeed_config["deepspeed_config_file"]).read_text())["bf16"]["enabled"]


def test_one_process_that_sees_several_gpus_says_how_to_start_it(make, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(UserError, match=r"there are 2 GPUs.*accelerate launch"):
        finetune.training_arguments(finetune.checked(make()))


@pytest.mark.slow
def test_two_processes_train_as_one_does(trained, tmp_path):
    """The same batches, divided; what differs is the order of sums."""
    options = dataclasses.replace(trained, output=str(tmp_path / "model"))
    launch = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", 2, "--num_machines", 1)
    result = run_python(*launch, ROOT / "finetune.py", *words_of(options))
    assert result.returncode == 0, result.stdout + result.stderr
    assert same_weights(trained, options, tolerance=1e-3)
    assert len(curve(options, "loss")) == len(curve(trained, "loss"))
