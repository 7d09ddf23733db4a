"""finetune.py: the loss is on the response alone, training survives kills, and what comes out is better."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from selfalign.errors import UserError
from selfalign.options import PROMPTS
from tests.fakes.hub import LocalHub
from tests.helpers import ROOT, load_script, run_json, write_rows

ROWS = [
    {"id": str(i), "instruction": f"Add {i} to a number.", "response": f"```python\ndef f(x):\n    return x + {i}\n```"}
    for i in range(16)
]
# To be learnt: short answers are right.
PAIRS = [
    {
        "prompt": [{"role": "user", "content": f"Add {i} to a number."}],
        "chosen": [{"role": "assistant", "content": f"return x + {i}"}],
        "rejected": [{"role": "assistant", "content": f"I am sorry that I can't add {i}"}],
    }
    for i in range(16)
]
QUICK = {"epochs": 3, "batch_size": 4, "learning_rate": 1e-3, "eval_fraction": 0.25}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """A model this small gains nothing from more; threads that wait for each other on a busy machine cost minutes."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def script():
    return load_script("finetune")


@pytest.fixture(scope="module")
def make(script, tiny_model, tmp_path_factory):
    """Options for a training of the tiny model on `rows`."""

    def make(rows=ROWS, **more):
        folder = tmp_path_factory.mktemp("finetune")
        data = write_rows(folder / "in.jsonl", rows)
        return script.Options(input=str(data), output=str(folder / "model"), model=str(tiny_model), **more)

    return make


@pytest.fixture(scope="module")
def trained(script, make):
    """The options of a training that is done: 12 examples in batches of 4, 3 times, and 4 held out."""
    options = make(**QUICK)
    script.main(options)
    return options


def curve(options, name):
    return [value for _, value in run_json(options.output)["curves"][name]]


def weights(options):
    from safetensors.torch import load_file

    return load_file(Path(options.output) / "model.safetensors")


def same_weights(first, second):
    import torch

    first, second = weights(first), weights(second)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def tokenizer_of(script, options):
    return script.load_tokenizer(options)


def trainer_of(script, options):
    tokenizer = script.load_tokenizer(options)
    examples, held_out, _ = script.prepare(script.read_examples(options)[1], tokenizer, options)
    return script.make_trainer(script.checked(options), tokenizer, examples, held_out)


# What is learnt


def test_training_lowers_the_loss_on_what_is_held_out(trained):
    assert len(curve(trained, "loss")) == 9
    assert curve(trained, "held-out loss")[-1] < curve(trained, "held-out loss")[0] - 0.5


def test_adapters_lower_it_too_and_are_merged(script, make, tiny_model):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    options = make(**QUICK | {"learning_rate": 1e-2}, lora_rank=8)
    script.main(options)
    held_out = curve(options, "held-out loss")
    assert held_out[-1] < held_out[0] - 0.5

    base, merged = (AutoModelForCausalLM.from_pretrained(name) for name in (tiny_model, options.output))
    ids = torch.arange(3, 20)[None]
    before = base(ids).logits
    adapted = PeftModel.from_pretrained(base, f"{options.output}/adapter")(ids).logits
    assert torch.allclose(merged(ids).logits, adapted, atol=1e-4) and not torch.allclose(before, adapted, atol=1e-2)


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_the_model_stops_where_it_has_learnt_to(script, make, tiny_model, tmp_path, lora_rank):
    """Also where the base model's own generation ends with another token than its tokenizer's."""
    import shutil

    from transformers import AutoTokenizer, GenerationConfig

    base = shutil.copytree(tiny_model, tmp_path / "base")
    GenerationConfig(eos_token_id=2).save_pretrained(base)
    options = dataclasses.replace(make(**QUICK | {"epochs": 1}, lora_rank=lora_rank), model=str(base))
    script.main(options)
    ends = GenerationConfig.from_pretrained(options.output).eos_token_id
    assert AutoTokenizer.from_pretrained(options.output).eos_token_id in (ends if isinstance(ends, list) else [ends])


def test_dpo_raises_the_margin_on_what_is_held_out(script, make):
    options = make(PAIRS, **QUICK | {"epochs": 4}, method="dpo")
    script.main(options)
    margins = curve(options, "held-out margin")
    assert abs(margins[0]) < 1e-6 and margins[-1] > 0.1
    assert curve(options, "held-out loss")[-1] < curve(options, "held-out loss")[0]


# What the loss is taken on


@pytest.mark.parametrize(("packing", "device_batch_size"), [(False, 4), (True, 1), (True, 2)])
def test_the_loss_is_on_the_response_alone(script, make, packing, device_batch_size):
    """Token for token, on batches of the trainer as it is used; and every example is in one of them."""
    options = make(batch_size=4, device_batch_size=device_batch_size, packing=packing, max_length=200)
    trainer = trainer_of(script, options)
    tokenizer = trainer.processing_class
    assert tokenizer.chat_template == (PROMPTS / "chat.jinja").read_text()
    learnt = []
    for batch in trainer.get_train_dataloader():
        for ids, labels, start in examples_in(batch):
            row = next(row for row in ROWS if tokenizer.decode(ids).startswith(prompt_of(row)))
            response = tokenizer(row["response"] + tokenizer.eos_token).input_ids
            assert labels[-len(response) :] == ids[-len(response) :] == response
            assert set(labels[: -len(response)]) == {-100} and start == 0
            assert tokenizer.decode(ids[: -len(response)]) == prompt_of(row)
            learnt.append(row["id"])
    assert sorted(learnt) == sorted(row["id"] for row in ROWS)


def prompt_of(row):
    return f"### Instruction\n{row['instruction']}\n\n### Response\n"


def examples_in(batch):
    """Ids, labels and first position of each example of a batch, padded or packed."""
    if "attention_mask" in batch:
        for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
            assert (labels[mask == 0] == -100).all()
            yield ids[mask == 1].tolist(), labels[mask == 1].tolist(), 0
        return
    (ids,), (labels,), (positions,) = (batch[name].tolist() for name in ("input_ids", "labels", "position_ids"))
    starts = [i for i, position in enumerate(positions) if position == 0]
    for start, end in zip(starts, [*starts[1:], len(ids)], strict=True):
        yield ids[start:end], labels[start:end], positions[start]


@pytest.mark.parametrize(("attention", "device_batch_size"), [("sdpa", 1), ("sdpa", 2), ("eager", 1)])
def test_packed_examples_do_not_see_each_other(script, make, attention, device_batch_size):
    """Logits and loss of a packed sequence are those of its examples one by one."""
    import torch

    options = make(packing=True, max_length=200, attention=attention, device_batch_size=device_batch_size)
    trainer = trainer_of(script, options)
    model = trainer.model.eval()
    batch = next(iter(trainer.get_train_dataloader()))
    given = {name: value for name, value in batch.items() if name != "labels"}
    with torch.no_grad():
        packed = model(**given).logits[0]
        loss = trainer.compute_loss(model, dict(batch)).item()
        done, losses = 0, []
        for ids, labels, _ in examples_in(batch):
            alone = model(torch.tensor([ids])).logits[0]
            assert torch.allclose(packed[done : done + len(ids)], alone, atol=1e-5)
            losses.append(torch.nn.functional.cross_entropy(alone[:-1], torch.tensor(labels[1:]), reduction="none"))
            done += len(ids)
    assert done == packed.shape[0] and len(losses) == 2 * device_batch_size
    losses = torch.cat(losses)
    assert loss == pytest.approx(losses[losses != 0].mean().item(), rel=1e-5)


def test_packing_takes_as_many_optimizer_steps(script, make):
    """16 examples in batches of 4 are 4 steps, also when two of them are in each sequence."""
    trainer = trainer_of(script, make(batch_size=4, packing=True, max_length=200))
    assert len(trainer.train_dataset) == 8 and trainer.args.gradient_accumulation_steps == 2


# The chat template


@pytest.mark.parametrize(
    "question", ["Ask.", "  Indented\n\n", "### Response\nno", "größer ≠ 漢字", "```python\nx\n```"]
)
def test_the_chat_template_round_trips(script, make, question):
    """What is trained on begins with the tokens that a server makes of the question, and says what the chat says."""
    tokenizer = tokenizer_of(script, make())
    chat = [{"role": "user", "content": question}, {"role": "assistant", "content": "def f():\n    pass\n"}]
    asked = tokenizer.apply_chat_template(chat[:1], tokenize=False, add_generation_prompt=True)
    encoded = script.to_tokens({"messages": chat}, tokenizer, 1280)
    prompt = tokenizer(asked).input_ids
    assert encoded["input_ids"][: len(prompt)] == prompt and encoded["labels"][: len(prompt)] == [-100] * len(prompt)
    assert (
        tokenizer.decode(encoded["input_ids"])
        == f"{prompt_of({'instruction': question})}{chat[1]['content']}<|endoftext|>"
    )
    assert encoded["labels"][-1] == tokenizer.eos_token_id


def test_a_tokenizer_that_begins_prompts_with_a_token_does_so_in_training(script, make):
    from tokenizers.processors import TemplateProcessing

    tokenizer = tokenizer_of(script, make())
    tokenizer.bos_token = "<|im_start|>"
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", tokenizer.bos_token_id)]
    )
    encoded = script.to_tokens(ROWS[0], tokenizer, 1280)["input_ids"]
    assert encoded.count(tokenizer.bos_token_id) == 1 and encoded[0] == tokenizer.bos_token_id


def test_the_layout_of_the_published_dataset_is_taken(script, make):
    names = ("fingerprint", "sha1", "seed", "concepts", "prompt")
    row = {name: None if name == "fingerprint" else "text" for name in names} | ROWS[0]
    options = make([row])
    examples, _, counts = script.prepare(script.read_examples(options)[1], tokenizer_of(script, options), options)
    assert counts == {"examples": 1} and examples.column_names == ["input_ids", "labels"]


def test_what_can_not_be_used_is_counted(script, make):
    rows = [
        *ROWS[:5],
        ROWS[5] | {"response": "long " * 100},
        ROWS[6] | {"instruction": "long " * 100},
        ROWS[7] | {"response": None},
    ]
    options = make(rows, max_length=100)
    examples, _, counts = script.prepare(script.read_examples(options)[1], tokenizer_of(script, options), options)
    assert counts == {"cut": 1, "prompt_too_long": 1, "no_response": 1, "examples": 6}
    assert max(map(len, examples["input_ids"])) == 100


def test_no_dropout_is_left(script):
    from transformers import Starcoder2Config

    from selfalign.training.trainer import without_dropout

    config = without_dropout(Starcoder2Config(attention_dropout=0.1, residual_dropout=0.1, embedding_dropout=0.1))
    assert config.attention_dropout == config.residual_dropout == config.embedding_dropout == 0


# What comes out


def test_what_comes_out_can_be_served_and_asked(trained):
    import httpx2

    from selfalign.llm.local_server import served

    with served(trained.output) as url:
        body = {"inputs": "### Instruction\n", "parameters": {"max_new_tokens": 3}}
        assert httpx2.post(f"{url}/generate", json=body, timeout=60).json()["generated_text"]


def test_the_card_says_how_it_was_made_and_how_to_ask(trained):
    from huggingface_hub import ModelCard

    card = ModelCard.load(Path(trained.output) / "README.md")
    assert "selfcodealign" in card.data.tags and card.data.pipeline_tag == "text-generation"
    for said in (
        "| learning rate | `0.001` |",
        "### Instruction\nWrite a Python",
        "![",
        trained.model,
        "| finetune | 16 |",
    ):
        assert said in card.text
    assert (Path(trained.output) / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_the_card_keeps_what_a_person_wrote_and_chose(trained):
    from transformers import AutoTokenizer

    from selfalign.report.model_card import model_card

    tokenizer, run = AutoTokenizer.from_pretrained(trained.output), run_json(trained.output)
    run["input"]["licenses"] = {"mit": 3}
    first = model_card(run, tokenizer, None)
    assert "license: other\nlicense_name: mit\n" in first  # the base model's is not known
    edited = "# Ours\n\n" + first.partition("---\n\n")[2]
    again = model_card(run, tokenizer, f"---\nlicense: mit\n---\n{edited}")
    assert "\n# Ours\n" in again and again.count("## How to prompt it") == 1 and "license: mit\n" in again


def test_a_second_run_does_nothing(script, trained, capsys):
    before = (Path(trained.output) / "model.safetensors").stat().st_mtime_ns
    script.main(trained)
    assert "already there" in capsys.readouterr().out
    assert before == (Path(trained.output) / "model.safetensors").stat().st_mtime_ns


def test_it_is_uploaded_also_when_it_was_there_already(script, trained, monkeypatch):
    from huggingface_hub import constants

    with LocalHub() as hub:
        for name, value in {"ENDPOINT": hub.url, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}.items():
            monkeypatch.setattr(constants, name, value)
        options = dataclasses.replace(trained, push_to_hub="org/model", hf_token=hub.token)
        script.main(options)
        files = hub.files("org/model", "model")
    assert {"model.safetensors", "README.md", "loss.png", "run.json", "chat_template.jinja"} <= set(files)
    assert not [name for name in files if "checkpoint" in name or name.startswith((".", "data")) or "args.bin" in name]


# Killed and resumed

# The script as it is, but for where it dies: writing the checkpoint of step 4, or so many seconds into the training.
WRAPPER = f"""
import os, runpy, signal, sys, threading
when, *arguments = sys.argv[1:]
sys.argv = [{str(ROOT / "finetune.py")!r}, *arguments]
from selfalign.training import trainer as training
kill = lambda: os.kill(os.getpid(), signal.SIGKILL)

class SFT(training.SFT):
    def _save_optimizer_and_scheduler(self, folder):
        if when == "saving" and folder.endswith("checkpoint-4"):
            kill()
        super()._save_optimizer_and_scheduler(folder)

    def train(self, *args, **kwargs):
        if when != "saving":
            threading.Timer(float(when), kill).start()
        return super().train(*args, **kwargs)

training.SFT = SFT
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def killed(when, options, **more):
    """Runs the script until it kills itself; whether it did."""
    options = dataclasses.replace(options, **more)
    words = [options.input, options.output, "--model", options.model]
    for name in (*QUICK, "save_steps"):
        words += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", WRAPPER, str(when), *words], env=environment, capture_output=True, text=True, timeout=250
    )
    assert result.returncode in (0, -signal.SIGKILL), result.stdout + result.stderr
    return result.returncode != 0


def test_killed_while_it_writes_a_checkpoint_it_ends_with_the_same_weights(script, trained, tmp_path, monkeypatch):
    options = dataclasses.replace(trained, output=str(tmp_path / "model"), save_steps=1)
    assert killed("saving", options)
    assert sorted(path.name for path in (tmp_path / "model").glob("checkpoint-*")) == ["checkpoint-3", "checkpoint-4"]
    assert (tmp_path / "model" / "checkpoint-4" / "model.safetensors").exists()
    assert steps_of(script, options, monkeypatch) == [4, 5, 6, 7, 8, 9]
    assert same_weights(trained, options) and not list((tmp_path / "model").glob("checkpoint-*"))
    assert run_json(options.output)["curves"]["loss"] == run_json(trained.output)["curves"]["loss"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_twenty_times_it_ends_with_the_same_weights(script, make, tmp_path):
    """At random moments between the first step and the last, in steps of 20 ms and writes of checkpoints."""
    whole = make(**QUICK | {"epochs": 100}, save_steps=3)
    started = time.monotonic()
    script.main(whole)
    seconds = time.monotonic() - started
    options = dataclasses.replace(whole, output=str(tmp_path / "model"))
    draws = random.Random(0)
    kills = sum(killed(draws.uniform(0, seconds / 10), options) for _ in range(20))
    print(f"{kills} kills of a training of {seconds:.1f} s")
    script.main(options)
    assert kills > 10 and same_weights(whole, options)


@pytest.mark.slow
@pytest.mark.parametrize("more", [{"lora_rank": 4, "packing": True, "max_length": 200}, {"method": "dpo"}])
def test_other_trainings_go_on_too(script, make, more, monkeypatch):
    """Stopped after two steps and started again, they end with the weights of a training that was not stopped."""
    whole = make(PAIRS if "method" in more else ROWS, **QUICK, save_steps=1, **more)
    all_steps = steps_of(script, whole, monkeypatch)
    parts = dataclasses.replace(whole, output=f"{whole.output}-parts")
    with pytest.raises(KeyboardInterrupt):
        steps_of(script, parts, monkeypatch, stop_after=2)
    assert steps_of(script, parts, monkeypatch) == all_steps[1:]  # the checkpoint of the second was not written
    assert same_weights(whole, parts)


def steps_of(script, options, monkeypatch, stop_after=None):
    """Runs the training; the optimizer steps that it took."""
    from transformers import TrainerCallback

    steps, make_trainer = [], script.make_trainer

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
        patch.setattr(script, "make_trainer", watched)
        script.main(options)
    return steps


# Several devices


@pytest.mark.parametrize("name", ["ddp", "fsdp", "zero3"])
def test_accelerate_takes_our_configurations(name):
    from accelerate.commands.config.config_args import load_config_from_file

    config: Any = load_config_from_file(str(ROOT / "experiments" / "accelerate" / f"{name}.yaml"))
    assert config.distributed_type.value == {"ddp": "MULTI_GPU", "fsdp": "FSDP", "zero3": "DEEPSPEED"}[name]
    if name == "zero3":
        assert json.loads((ROOT / config.deepspeed_config["deepspeed_config_file"]).read_text())["bf16"]["enabled"]


@pytest.mark.slow
def test_two_processes_train_as_one_does(script, trained, tmp_path):
    """The same batches, divided; what differs is the order of sums."""
    import torch

    options = dataclasses.replace(trained, output=str(tmp_path / "model"))
    words = [options.input, options.output, "--model", options.model]
    for name in QUICK:
        words += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
    ]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*launch, str(ROOT / "finetune.py"), *words], env=environment, capture_output=True, text=True, timeout=280
    )
    assert result.returncode == 0, result.stdout + result.stderr
    one, two = weights(trained), weights(options)
    assert all(torch.allclose(one[name], two[name], atol=1e-3) for name in one)
    assert len(curve(options, "loss")) == len(curve(trained, "loss"))


# Bad input


@pytest.mark.parametrize(
    ("row", "more", "said"),
    [
        ({"text": "a"}, {}, "lacks messages, or instruction and response; its columns are text"),
        (ROWS[0], {"method": "dpo"}, "lacks chosen, prompt, rejected"),
        (ROWS[0], {"batch_size": 3, "device_batch_size": 2}, "no multiple"),
        (ROWS[0], {"model": "./nowhere"}, "model ./nowhere can't be loaded"),
        (ROWS[0], {"quantize_4bit": True}, "needs --lora-rank"),
        (ROWS[0], {"quantize_4bit": True, "lora_rank": 8}, "pip install bitsandbytes"),
        (PAIRS[0], {"method": "dpo", "packing": True}, "does not go with"),
        (ROWS[0], {"report_to": "nowhere"}, "--report-to nowhere is not installed"),
        (ROWS[0], {"optimizer": "nowhere"}, "--optimizer nowhere is none of transformers'"),
        (ROWS[0], {"chat_template": PROMPTS / "tasks.jinja"}, "tasks.jinja is no chat template: 'system' is undefined"),
        (ROWS[0], {"executor": "slurm"}, "accelerate launch"),
        (ROWS[0], {"eval_fraction": 1.5}, "no share between 0 and 1"),
        (ROWS[0] | {"response": None}, {}, "0 examples to train on, of 1 rows: {'no_response': 1}"),
    ],
)
def test_what_is_wrong_is_said(script, make, row, more, said):
    with pytest.raises(UserError) as error:
        script.main(dataclasses.replace(make([row]), **more))
    assert said in str(error.value)


def test_other_options_are_refused(script, trained):
    with pytest.raises(UserError, match="epochs was 3, is 2"):
        script.main(dataclasses.replace(trained, epochs=2))


def test_as_a_command_it_says_a_sentence(tmp_path, tiny_model):
    from tests.helpers import run

    data = write_rows(tmp_path / "in.jsonl", [{"text": "a"}])
    result = run("finetune", data, tmp_path / "model", "--model", tiny_model)
    assert result.returncode == 2 and "lacks messages" in result.stderr and "Traceback" not in result.stderr
