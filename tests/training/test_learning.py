"""What comes out of a training is better than what went in."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

from selfalign.errors import UserError
from selfalign.training.loading import BaseModel, without_dropout
from tests.helpers import run_json
from tests.training.tools import PAIRS, QUICK, curve, finetune, prepared, trainer_of


def test_training_lowers_the_loss_on_what_is_held_out(trained):
    assert len(curve(trained, "loss")) == 9
    assert curve(trained, "held-out loss")[-1] < curve(trained, "held-out loss")[0] - 0.5


@pytest.mark.parametrize(("warmup", "steps"), [(0.0, 0), (0.05, 5), (0.5, 50), (1.0, 100)])
def test_the_warmup_is_a_share_of_the_steps(make, warmup, steps):
    arguments = finetune.training_arguments(finetune.checked(make(warmup=warmup)))
    assert arguments.get_warmup_steps(100) == steps


def test_a_training_that_diverges_ends_and_keeps_its_last_checkpoint(make):
    options = make(**QUICK | {"learning_rate": 1e30}, warmup=0.0, save_steps=1)
    with pytest.raises(UserError, match="the loss has been no number since step 2: lower --learning-rate"):
        finetune.main(options)
    assert not run_json(options.output)["complete"]
    assert [path.name for path in Path(options.output).glob("checkpoint-*")] == ["checkpoint-1"]


def test_adapters_lower_it_too_and_are_merged(make, tiny_model):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    options = make(**QUICK | {"learning_rate": 1e-2}, lora_rank=8)
    finetune.main(options)
    held_out = curve(options, "held-out loss")
    assert held_out[-1] < held_out[0] - 0.5

    base, merged = (AutoModelForCausalLM.from_pretrained(name) for name in (tiny_model, options.output))
    ids = torch.arange(3, 20)[None]
    before = base(ids).logits
    adapted = PeftModel.from_pretrained(base, f"{options.output}/adapter")(ids).logits
    assert torch.allclose(merged(ids).logits, adapted, atol=1e-4) and not torch.allclose(before, adapted, atol=1e-2)


@pytest.mark.parametrize("lora_rank", [0, 2])
def test_the_model_stops_where_it_has_learnt_to(make, tiny_model, tmp_path, lora_rank):
    """Also where the base model's own generation ends with another token than its tokenizer's."""
    from transformers import AutoTokenizer, GenerationConfig

    base = shutil.copytree(tiny_model, tmp_path / "base")
    GenerationConfig(eos_token_id=2).save_pretrained(base)
    options = dataclasses.replace(make(**QUICK | {"epochs": 1}, lora_rank=lora_rank), model=str(base))
    finetune.main(options)
    ends = GenerationConfig.from_pretrained(options.output).eos_token_id
    assert AutoTokenizer.from_pretrained(options.output).eos_token_id in (ends if isinstance(ends, list) else [ends])


def test_it_stops_at_the_token_with_which_a_chat_template_of_its_own_ends_answers(make, tmp_path):
    """As Qwen's does with <|im_end|>, where the tokenizer of the base model ends a text with <|endoftext|>."""
    from transformers import AutoTokenizer, GenerationConfig

    template = tmp_path / "chatml.jinja"
    template.write_text(
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
    options = make(**QUICK | {"epochs": 1}, chat_template=template)
    examples, _, _ = prepared(options)
    finetune.main(options)
    tokenizer, ends = (kind.from_pretrained(options.output) for kind in (AutoTokenizer, GenerationConfig))
    assert tokenizer.eos_token == "<|im_end|>" and tokenizer.eos_token_id in ends.eos_token_id
    assert {labels[-1] for labels in examples["labels"]} == {tokenizer.eos_token_id}


def test_reinforcement_stops_there_too(tiny_model, tmp_path):
    (template := tmp_path / "chatml.jinja").write_text(
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
    )
    tokenizer = BaseModel(str(tiny_model), "auto", "auto").load_tokenizer(template)
    assert tokenizer.eos_token == "<|im_end|>"


def test_a_base_model_with_a_temperature_but_without_sampling_can_be_saved(make, tiny_model, tmp_path):
    base = shutil.copytree(tiny_model, tmp_path / "base")
    (base / "generation_config.json").write_text(json.dumps({"eos_token_id": 0, "temperature": 0.9, "top_p": 0.6}))
    options = dataclasses.replace(make(**QUICK | {"epochs": 1}, lora_rank=2), model=str(base))
    finetune.main(options)
    made = json.loads((Path(options.output) / "generation_config.json").read_text())
    assert made["temperature"] == 0.9 and made["do_sample"]


def test_dpo_raises_the_margin_on_what_is_held_out(make):
    options = make(PAIRS, **QUICK | {"epochs": 4}, method="dpo")
    finetune.main(options)
    margins = curve(options, "held-out margin")
    assert abs(margins[0]) < 1e-6 and margins[-1] > 0.1
    assert curve(options, "held-out loss")[-1] < curve(options, "held-out loss")[0]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU has the weights themselves in bfloat16")
@pytest.mark.parametrize(
    ("able", "dtype", "expected"),
    [
        ({"amx_bf16": True}, "auto", True),
        ({"amx_bf16": True}, "float32", False),
        ({"avx512_bf16": False}, "auto", False),
    ],
)
def test_products_are_in_bfloat16_where_the_processor_has_them(make, monkeypatch, able, dtype, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    trainer = trainer_of(make(dtype=dtype))
    assert trainer.args.bf16 is expected and {p.dtype for p in trainer.model.parameters()} == {torch.float32}


def test_no_dropout_is_left():
    from transformers import Starcoder2Config

    config = without_dropout(Starcoder2Config(attention_dropout=0.1, residual_dropout=0.1, embedding_dropout=0.1))
    assert config.attention_dropout == config.residual_dropout == config.embedding_dropout == 0


def test_sequences_weigh_the_same_if_asked_to(make):
    """The first loss of a training is that of the untrained model: the mean over tokens, or the mean of the means."""
    losses = {}
    for over in ("tokens", "sequences"):
        trainer = trainer_of(make(**QUICK | {"epochs": 1, "batch_size": 12}, average_loss_over=over))
        trainer.train()
        losses[over] = trainer.state.log_history[0]["loss"]
    with torch.no_grad():
        batches = [trainer.data_collator([example]) for example in trainer.train_dataset]
        model = trainer_of(make(**QUICK)).model
        means = [float(model(**batch).loss) for batch in batches]
        tokens = [int((batch["labels"] != -100).sum()) for batch in batches]
    assert losses["sequences"] == pytest.approx(sum(means) / 12, rel=1e-3)
    weighted = sum(mean * n for mean, n in zip(means, tokens, strict=True)) / sum(tokens)
    assert losses["tokens"] == pytest.approx(weighted, rel=1e-3)
