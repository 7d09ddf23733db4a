"""What is trained on: the response alone, after the chat template's prompt, each example as if it were alone."""

import pytest

from selfalign.errors import UserError
from selfalign.options import PROMPTS
from tests.training.tools import PAIRS, ROWS, examples_in, finetune, prepared, prompt_of, tokenizer_of, trainer_of


@pytest.mark.parametrize(("packing", "device_batch_size"), [(False, 4), (True, 1), (True, 2)])
def test_the_loss_is_on_the_response_alone(make, packing, device_batch_size):
    """Token for token, on batches of the trainer as it is used; and every example is in one of them."""
    options = make(batch_size=4, device_batch_size=device_batch_size, packing=packing, max_length=200)
    trainer = trainer_of(options)
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


@pytest.mark.parametrize(
    "question", ["Ask.", "  Indented\n\n", "### Response\nno", "größer ≠ 漢字", "```python\nx\n```"]
)
def test_the_chat_template_round_trips(make, question):
    """What is trained on begins with the tokens that a server makes of the question, and says what the chat says."""
    tokenizer = tokenizer_of(make())
    chat = [{"role": "user", "content": question}, {"role": "assistant", "content": "def f():\n    pass\n"}]
    asked = tokenizer.apply_chat_template(chat[:1], tokenize=False, add_generation_prompt=True)
    encoded = finetune.to_tokens({"messages": chat}, tokenizer, 1280)
    prompt = tokenizer(asked).input_ids
    assert encoded["input_ids"][: len(prompt)] == prompt and encoded["labels"][: len(prompt)] == [-100] * len(prompt)
    whole = f"{prompt_of({'instruction': question})}{chat[1]['content']}<|endoftext|>"
    assert tokenizer.decode(encoded["input_ids"]) == whole
    assert encoded["labels"][-1] == tokenizer.eos_token_id


def test_a_tokenizer_that_begins_prompts_with_a_token_does_so_in_training(make):
    from tokenizers.processors import TemplateProcessing

    tokenizer = tokenizer_of(make())
    tokenizer.bos_token = "<|im_start|>"
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", tokenizer.bos_token_id)]
    )
    for template in "{{ bos_token }}" + tokenizer.chat_template, tokenizer.chat_template:
        tokenizer.chat_template = template
        encoded = finetune.to_tokens(ROWS[0], tokenizer, 1280)["input_ids"]
        for ids in encoded, tokenizer(finetune.to_pair(PAIRS[0], tokenizer, 1280)["prompt"]).input_ids:
            assert ids.count(tokenizer.bos_token_id) == 1 and ids[0] == tokenizer.bos_token_id


def test_the_layout_of_the_published_dataset_is_taken(make):
    names = ("fingerprint", "sha1", "seed", "concepts", "prompt")
    row = {name: None if name == "fingerprint" else "text" for name in names} | ROWS[0]
    examples, _, counts = prepared(make([row]))
    assert counts == {"examples": 1} and examples.column_names == ["input_ids", "labels"]


def test_what_can_not_be_used_is_counted_and_said(make, capsys):
    faults = {"response": "long " * 100}, {"instruction": "long " * 100}, {"response": None}, {"response": " \n"}
    rows = ROWS[:5] + [row | fault for row, fault in zip(ROWS[5:], faults, strict=False)]
    examples, _, counts = prepared(make(rows, max_length=100))
    assert counts == {"cut": 1, "prompt_too_long": 1, "no_response": 2, "examples": 6}
    finetune.warn_of_losses(counts, len(rows), 100)
    said = capsys.readouterr().err
    assert "3 of 9 rows are left out: 2 no_response, 1 prompt_too_long" in said
    assert "1 of 9 rows are cut at --max-length 100" in said
    assert max(map(len, examples["input_ids"])) == 100


CHAT = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
NO_CHAT = "must hold lists of messages whose role and content are texts, and not"


@pytest.mark.parametrize(
    ("row", "method", "message"),
    [
        ({"messages": [{"from": "human", "value": "hi"}] * 2}, "sft", f"the column messages {NO_CHAT}"),
        ({"messages": "hello"}, "sft", f"the column messages {NO_CHAT} hello"),
        ({"messages": [{"role": "user", "content": ["x"]}] * 2}, "sft", f"the column messages {NO_CHAT}"),
        ({"instruction": "x", "response": 5}, "sft", "column response of .* holds int64, but it must hold text"),
        ({"prompt": "x", "chosen": "y", "rejected": "z"}, "dpo", f"the column prompt {NO_CHAT} x"),
        ({"prompt": CHAT[:1], "chosen": "y", "rejected": "z"}, "dpo", f"the column chosen {NO_CHAT} y"),
    ],
)
def test_what_is_no_chat_is_refused(make, row, method, message):
    with pytest.raises(UserError, match=message):
        prepared(make([{"id": "0", **row}], method=method))


def test_a_thousand_rows_before_the_first_that_can_be_used(make):
    _, _, counts = prepared(make([ROWS[0] | {"response": None}] * 1000 + ROWS))
    assert counts == {"no_response": 1000, "examples": len(ROWS)}


@pytest.mark.parametrize(("attention", "device_batch_size"), [("sdpa", 1), ("sdpa", 2), ("eager", 1)])
def test_packed_examples_do_not_see_each_other(make, attention, device_batch_size):
    """Logits and loss of a packed sequence are those of its examples one by one."""
    import torch

    options = make(packing=True, max_length=200, attention=attention, device_batch_size=device_batch_size)
    trainer = trainer_of(options)
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


def test_packing_takes_as_many_optimizer_steps(make):
    """16 examples in batches of 4 are 4 steps, also when two of them are in each sequence."""
    trainer = trainer_of(make(batch_size=4, packing=True, max_length=200))
    assert len(trainer.train_dataset) == 8 and trainer.args.gradient_accumulation_steps == 2
