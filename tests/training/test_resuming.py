"""A training that is killed and started again ends with the weights of one that was not."""

import dataclasses
import json
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from runs.running import is_complete
from selfalign.errors import UserError
from selfalign.training.model_folder import ModelFolder
from tests.helpers import ROOT, run_json
from tests.training.tools import PAIRS, QUICK, ROWS, finetune, run_python, same_weights, words_of

# The script as it is, but for where it dies: writing the checkpoint of step 4, or so many seconds into the training.
WRAPPER = f"""
import os, runpy, signal, sys, threading
when, *arguments = sys.argv[1:]
sys.argv = [{str(ROOT / "finetune.py")!r}, *arguments]
from selfalign.training import trainers
kill = lambda: os.kill(os.getpid(), signal.SIGKILL)

class SFT(trainers.SFT):
    def _save_optimizer_and_scheduler(self, folder):
        if when == "saving" and folder.endswith("checkpoint-4"):
            kill()
        super()._save_optimizer_and_scheduler(folder)

    def train(self, *args, **kwargs):
        if when != "saving":
            threading.Timer(float(when), kill).start()
        return super().train(*args, **kwargs)

trainers.SFT = SFT
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def killed(when, options):
    """Runs the script until it kills itself; whether it did."""
    result = run_python("-c", WRAPPER, when, *words_of(options, "save_steps"))
    assert result.returncode in (0, -signal.SIGKILL), result.stdout + result.stderr
    return result.returncode != 0


def test_killed_while_it_writes_a_checkpoint_it_ends_with_the_same_weights(trained, tmp_path, monkeypatch):
    options = dataclasses.replace(trained, output=str(tmp_path / "model"), save_steps=1)
    assert killed("saving", options)
    assert sorted(path.name for path in (tmp_path / "model").glob("checkpoint-*")) == ["checkpoint-3", "checkpoint-4"]
    assert (tmp_path / "model" / "checkpoint-4" / "model.safetensors").exists()
    assert steps_of(options, monkeypatch) == [4, 5, 6, 7, 8, 9]
    assert same_weights(trained, options) and not list((tmp_path / "model").glob("checkpoint-*"))
    assert run_json(options.output)["curves"]["loss"] == run_json(trained.output)["curves"]["loss"]


def test_checkpoints_that_were_left_when_it_was_killed_at_its_end_are_removed(trained, tmp_path):
    options = dataclasses.replace(trained, output=str(shutil.copytree(trained.output, tmp_path / "model")))
    (tmp_path / "model" / "checkpoint-9").mkdir()
    assert not is_complete(tmp_path / "model"), "so that a run calls it again"
    finetune.main(options)
    assert is_complete(tmp_path / "model") and not list((tmp_path / "model").glob("checkpoint-*"))


def stopped(options, when, monkeypatch):
    """Runs the training until so many steps are done, and what is to be saved is saved."""
    with pytest.raises(KeyboardInterrupt):
        steps_of(options, monkeypatch, stop_after=when)


def test_stopped_behind_its_last_checkpoint_it_takes_no_further_step(make, monkeypatch):
    """transformers would take one where the last epoch is not whole."""
    whole = make(epochs=0.5, batch_size=4, learning_rate=1e-3, save_steps=1)
    assert steps_of(whole, monkeypatch) == [1, 2]
    cut = dataclasses.replace(whole, output=f"{whole.output}-cut")
    with monkeypatch.context() as patch:
        patch.setattr(ModelFolder, "save", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            finetune.main(cut)
    assert steps_of(cut, monkeypatch) == []
    assert same_weights(whole, cut) and run_json(whole.output)["curves"] == run_json(cut.output)["curves"]


def test_packed_it_goes_on_only_with_as_many_steps(make, monkeypatch):
    how = {"packing": True, "max_length": 100, "batch_size": 5, "epochs": 1, "learning_rate": 1e-3, "save_steps": 1}
    options = make(device_batch_size=1, **how)
    stopped(options, 2, monkeypatch)
    with pytest.raises(UserError, match=r"was begun with 5 sequences per optimizer step, and would go on with 4: use"):
        finetune.main(dataclasses.replace(options, device_batch_size=2))
    assert steps_of(options, monkeypatch)[0] == 2
    with pytest.raises(UserError, match=r"fills 5 packed sequences, and 1 devices x --device-batch-size 8 are more"):
        finetune.main(make(device_batch_size=8, **how))


def test_another_base_model_at_the_same_path_is_another_run(make, tmp_path, monkeypatch):
    base = Path(shutil.copytree(make().model, tmp_path / "base"))
    options = dataclasses.replace(make(epochs=1, batch_size=8, save_steps=1), model=str(base))
    stopped(options, 2, monkeypatch)
    kept = (base / "config.json").read_text()
    (base / "config.json").write_text(kept + "\n")
    with pytest.raises(UserError, match=r"holds a run that differs \(model_files was"):
        finetune.main(options)
    (base / "config.json").write_text(kept)
    recorded = run_json(options.output)
    del recorded["identity"]["model_files"]  # as runs that were begun earlier have it
    (Path(options.output) / "run.json").write_text(json.dumps(recorded))
    finetune.main(options)
    shutil.rmtree(base)
    finetune.main(options)  # it is complete, and does not need its base


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_twenty_times_it_ends_with_the_same_weights(make, tmp_path):
    """At random moments between the first step and the last, in steps of 20 ms and writes of checkpoints."""
    whole = make(**QUICK | {"epochs": 100}, save_steps=3)
    started = time.monotonic()
    finetune.main(whole)
    seconds = time.monotonic() - started
    options = dataclasses.replace(whole, output=str(tmp_path / "model"))
    draws = random.Random(0)
    kills = sum(killed(draws.uniform(0, seconds / 10), options) for _ in range(20))
    print(f"{kills} kills of a training of {seconds:.1f} s")
    finetune.main(options)
    assert kills > 10 and same_weights(whole, options)


@pytest.mark.slow
@pytest.mark.parametrize("more", [{"lora_rank": 4, "packing": True, "max_length": 200}, {"method": "dpo"}])
def test_other_trainings_continue_too(make, more, monkeypatch):
    """Stopped after two steps and started again, they end with the weights of a training that was not stopped."""
    whole = make(PAIRS if "method" in more else ROWS, **QUICK, save_steps=1, **more)
    all_steps = steps_of(whole, monkeypatch)
    parts = dataclasses.replace(whole, output=f"{whole.output}-parts")
    with pytest.raises(KeyboardInterrupt):
        steps_of(parts, monkeypatch, stop_after=2)
    assert steps_of(parts, monkeypatch) == all_steps[1:]  # the checkpoint of the second was not written
    assert same_weights(whole, parts)


def steps_of(options, monkeypatch, stop_after=None):
    """Runs the training; the optimizer steps that it took."""
    from transformers import TrainerCallback

    steps, make_trainer = [], finetune.make_trainer

    class Watch(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            steps.append(state.global_step)
            if state.global_step == stop_after:
                raise KeyboardInterrupt

    def watched(*arguments):
        trainer = make_trainer(*arguments)
        trainer.add_callback(Watch())
        return trainer

    with monkeypatch.context() as patch:
        patch.setattr(finetune, "make_trainer", watched)
        finetune.main(options)
    return steps
