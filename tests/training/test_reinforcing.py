"""Reinforcement: rewards rise, a stopped run goes on as if nothing had happened, and the folder says what did."""

import dataclasses
import json
from pathlib import Path

import pytest

from selfalign.training.options import base_model
from tests.helpers import run_json
from tests.training.reinforcing import TASKS, reinforce, reinforcement, teach
from tests.training.tools import curve, same_weights


@pytest.fixture(scope="module")
def taught(tiny_model, tmp_path_factory):
    return teach(tmp_path_factory.mktemp("taught"), tiny_model)


@pytest.fixture(scope="module")
def reinforced(taught, tmp_path_factory):
    """The options of a reinforcement that is done: 3 steps over 10 tasks, and 5 held out; one more is no task."""
    options = reinforcement(
        tmp_path_factory.mktemp("reinforced"), taught, [*TASKS[:15], TASKS[15] | {"tests": "f(2)"}], eval_fraction=1 / 3
    )
    reinforce.main(options)
    return options


def test_what_trl_measured_is_kept(reinforced):
    entries = [json.loads(line) for line in (Path(reinforced.output) / "metrics.jsonl").read_text().splitlines()]
    steps = [entry for entry in entries if "reward" in entry]
    assert [entry["step"] for entry in steps] == [1, 2, 3]
    assert {"rewards/code_reward/mean", "code/passed", "completions/mean_length", "entropy"} <= steps[0].keys()
    assert all(0 < entry["reward"] < 1 for entry in steps)
    before, after = (entry for entry in entries if "held_out" in entry)
    assert (before["step"], after["step"]) == (0, 3) and len(before["held_out"]) == len(after["held_out"]) == 5
    assert sum(before["held_out"].values()) / 5 == pytest.approx(before["eval_reward"], abs=1e-5)


def test_the_folder_says_what_happened(reinforced):
    run, card = run_json(reinforced.output), (Path(reinforced.output) / "README.md").read_text()
    assert run["step"] == run["sources"][-1]["step"] == "reinforce" and run["held_out"]["problems"] == 5
    assert run["funnel"][-1]["counts"] == {"no_tests": 1, "held_out": 5, "examples": 10, "steps": 3}
    assert "# GRPO of" in card and "Reward on 5 held-out tasks: " in card and "- grpo" in card
    assert len(curve(reinforced, "reward")) == 3 and len(curve(reinforced, "held-out reward")) == 2
    assert not list(Path(reinforced.output).glob("checkpoint-*"))


def test_the_model_is_another_one_and_keeps_its_chat_template(reinforced, taught):
    before = dataclasses.replace(reinforced, output=taught)
    assert not same_weights(before, reinforced)
    after, taught_to = (base_model(options).load_tokenizer(options.chat_template) for options in (reinforced, before))
    assert after.chat_template == taught_to.chat_template


def test_a_second_run_does_nothing(reinforced, capsys):
    reinforce.main(reinforced)
    assert "already exists" in capsys.readouterr().out


def test_stopped_and_started_again_it_ends_with_the_same_weights(reinforced, tmp_path, monkeypatch):
    """Stopped in the second step, after the checkpoint of the first; what was held out was measured before that."""
    options = dataclasses.replace(reinforced, output=str(tmp_path / "model"), save_steps=1)
    stop_after(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        reinforce.main(options)
    assert [path.name for path in (tmp_path / "model").glob("checkpoint-*")] == ["checkpoint-1"]
    monkeypatch.undo()
    reinforce.main(options)
    assert same_weights(reinforced, options)
    assert run_json(options.output)["held_out"] == run_json(reinforced.output)["held_out"]
    assert curve(options, "reward") == curve(reinforced, "reward")


def stop_after(step, monkeypatch):
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == step:
                raise KeyboardInterrupt

    make_trainer = reinforce.make_trainer

    def stopping(*arguments):
        trainer = make_trainer(*arguments)
        trainer.add_callback(Stop())
        return trainer

    monkeypatch.setattr(reinforce, "make_trainer", stopping)


def test_each_pass_asks_every_task_once():
    from datasets import Dataset

    tasks = Dataset.from_dict({"number": range(10)})
    options = reinforcement_options(epochs=3, samples=4, batch_size=20)
    asked = reinforce.in_order(tasks, options)["number"][:]
    assert len(asked) == 30 and all(sorted(asked[start : start + 10]) == list(range(10)) for start in (0, 10, 20))
    assert asked[:10] != asked[10:20]
    assert len(reinforce.in_order(tasks, dataclasses.replace(options, steps=3))) == 15


def reinforcement_options(**more):
    return reinforce.Options(input="in", output="out", model="m", **more)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("lora_rank", [0, 8])
def test_the_reward_rises_on_what_is_held_out(taught, tmp_path, lora_rank):
    rate = 1e-2 if lora_rank else 1e-3
    options = reinforcement(
        tmp_path, taught, steps=40, samples=8, batch_size=32, learning_rate=rate, eval_fraction=0.5, lora_rank=lora_rank
    )
    reinforce.main(options)
    gain = run_json(options.output)["held_out"]
    assert gain["low"] > 0.1 and gain["problems"] == 8


def collection():
    """(name, code) of the attacks of the sandbox's tests that compute nothing: they forge, or end without failing."""
    from tests.code_eval.attacks import ATTACKS
    from tests.code_eval.test_strict import FORGERIES

    yield from FORGERIES.items()
    yield from ((n, a.code) for n, a in ATTACKS.items() if "exit" in n or (a.tests and "cpu_limit" not in a.outcomes))


def test_attacks_earn_nothing_through_the_trainer(taught, tmp_path):
    """As TRL calls the reward, each of them also with a function `f` that computes something else."""
    tests = "assert f(2) == 4\nassert f(3) == 9"
    attacks = [form for _, code in collection() for form in (code, f"{code}\nf = globals().get('f', abs)")]
    answers = ["def f(x): return x * x", "def f(x): return 4", *attacks]
    options = reinforce.checked(reinforcement(tmp_path, taught, timeout=1.0, patience=600.0))
    tokenizer = reinforce.base_model(options).load_tokenizer(None)
    tasks, _, _ = reinforce.prepare(reinforce.read_tasks(options)[1], tokenizer, options)
    with reinforce.open_reward(options, ["python"]) as reward:
        trainer = reinforce.make_trainer(options, tokenizer, reward, tasks)
        chats = [[{"role": "assistant", "content": f"```python\n{code}\n```"}] for code in answers]
        rows = [tasks[0] | {"tests": tests} for _ in answers]
        rewards = trainer._calculate_rewards(rows, [row["prompt"] for row in rows], chats, [[1]] * len(rows))
    assert len(attacks) > 100
    assert rewards[:2, 0].tolist() == pytest.approx([1, 0.55])
    assert [answer for answer, reward in zip(answers[2:], rewards[2:, 0].tolist(), strict=True) if reward != 0] == []
