"""finetune.py: the loss is on the response alone, training resumes, and what comes out can be served."""

import json

import pytest
from helpers import load_script, run, run_well, write_rows

ROWS = [
    {"id": str(i), "instruction": f"Add {i} to a number.", "response": f"```python\ndef f(x):\n    return x + {i}\n```"}
    for i in range(8)
]
QUICK = ("--epochs", "3", "--batch-size", "4", "--max-length", "128", "--learning-rate", "1e-3")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_model):
    folder = tmp_path_factory.mktemp("finetune")
    data = write_rows(folder / "in.jsonl", ROWS)
    run_well("finetune", data, folder / "model", "--model", tiny_model, *QUICK)
    return folder


def test_the_loss_falls(trained):
    losses = [loss for _, loss in json.loads((trained / "model" / "run.json").read_text())["losses"]]
    assert len(losses) == 6 and losses[-1] < losses[0]


def test_what_comes_out_can_be_served_and_asked(trained):
    import httpx2

    from selfalign.endpoints import served

    with served(str(trained / "model")) as url:
        body = {"inputs": "### Instruction\n", "parameters": {"max_new_tokens": 3}}
        assert httpx2.post(f"{url}/generate", json=body, timeout=60).json()["generated_text"]


def test_the_tokenizer_has_the_chat_template(trained):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(trained / "model")
    chat = [{"role": "user", "content": "Ask."}, {"role": "assistant", "content": "Answer."}]
    asked = tokenizer.apply_chat_template(chat[:1], tokenize=False, add_generation_prompt=True)
    told = tokenizer.apply_chat_template(chat, tokenize=False)
    assert asked == "### Instruction\nAsk.\n\n### Response\n"
    assert told.startswith(asked) and told[len(asked) :].startswith(f"Answer.{tokenizer.eos_token}")


def test_a_second_run_does_nothing(trained, tiny_model):
    before = (trained / "model" / "model.safetensors").stat().st_mtime_ns
    again = run_well(
        "finetune", trained / "in.jsonl", trained / "model", "--model", tiny_model, "--epochs", "3", *QUICK
    )
    assert "already there" in again.stdout
    assert before == (trained / "model" / "model.safetensors").stat().st_mtime_ns


def test_other_options_are_refused(trained, tiny_model):
    result = run("finetune", trained / "in.jsonl", trained / "model", "--model", tiny_model, *QUICK, "--epochs", "2")
    assert result.returncode == 2 and "epochs was 3.0, is 2.0" in result.stderr


def test_the_loss_is_on_the_response_alone(tmp_path, tiny_model):
    """Token for token, on a batch of the trainer as it is used."""
    from selfalign.options import PROMPTS

    script = load_script("finetune")
    options = script.Options(
        input=str(write_rows(tmp_path / "in.jsonl", ROWS)),
        output=str(tmp_path / "model"),
        model=str(tiny_model),
        batch_size=4,
        device_batch_size=4,
    )
    _, examples = script.read_examples(options)
    model, tokenizer = script.load_model(options)
    trainer = script.make_trainer(model, tokenizer, examples, script.training_arguments(options, 1))
    assert tokenizer.chat_template == (PROMPTS / "chat.jinja").read_text()
    batch = next(iter(trainer.get_train_dataloader()))
    for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
        text = tokenizer.decode(ids[labels != -100])
        learnt = next(row for row in ROWS if text.startswith(row["response"]))
        assert text.removeprefix(learnt["response"]).strip() == tokenizer.eos_token
        prompt = tokenizer.decode(ids[(labels == -100) & (mask == 1)])
        assert prompt == f"### Instruction\n{learnt['instruction']}\n\n### Response\n"


def test_training_goes_on_from_a_checkpoint(tmp_path, tiny_model):
    """Stopped after two of six steps and started again, it ends with the weights of a run that was not stopped."""
    import torch
    from safetensors.torch import load_file
    from transformers import TrainerCallback

    script = load_script("finetune")
    data = write_rows(tmp_path / "in.jsonl", ROWS)

    def options(name):
        return script.Options(
            input=str(data), output=str(tmp_path / name), model=str(tiny_model), batch_size=4, epochs=3, save_steps=1
        )

    class StopAfterTwo(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 2:
                raise KeyboardInterrupt

    make_trainer = script.make_trainer

    def stopping(*arguments):
        trainer = make_trainer(*arguments)
        trainer.add_callback(StopAfterTwo())
        return trainer

    script.main(options("whole"))
    script.make_trainer = stopping
    try:
        with pytest.raises(KeyboardInterrupt):
            script.main(options("parts"))
    finally:
        script.make_trainer = make_trainer
    assert [path.name for path in (tmp_path / "parts").glob("checkpoint-*")] == ["checkpoint-1"]
    script.main(options("parts"))
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize(
    ("row", "options", "said"),
    [
        ({"text": "a"}, (), "neither messages nor instruction and response, but text"),
        (ROWS[0], ("--batch-size", "3", "--device-batch-size", "2"), "no multiple"),
        (ROWS[0], ("--model", "./nowhere"), "model ./nowhere can't be loaded"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, tiny_model, row, options, said):
    data = write_rows(tmp_path / "in.jsonl", [row])
    result = run("finetune", data, tmp_path / "model", "--model", tiny_model, *options)
    assert result.returncode == 2 and said in result.stderr and "Traceback" not in result.stderr
