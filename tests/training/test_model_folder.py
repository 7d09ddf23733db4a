"""The finished model: served, described, uploaded, and not made twice."""

import dataclasses
from pathlib import Path

import pytest

from selfalign.errors import UserError
from selfalign.llm.local_server import served
from selfalign.report.model_card import model_card
from selfalign.runner.source import open_source
from tests.fakes.hub import LocalHub
from tests.helpers import run_json
from tests.training.tools import finetune


def test_what_comes_out_can_be_served_and_asked(trained):
    import httpx2

    with served(trained.output) as url:
        body = {"inputs": "### Instruction\n", "parameters": {"max_new_tokens": 3}}
        assert httpx2.post(f"{url}/generate", json=body, timeout=60).json()["generated_text"]


def test_the_card_says_how_it_was_made_and_how_to_ask(trained):
    from huggingface_hub import ModelCard

    card = ModelCard.load(Path(trained.output) / "README.md")
    assert "selfcodealign" in card.data.tags and card.data.pipeline_tag == "text-generation"
    facts = (
        "| learning rate | `0.001` |",
        "| finetune | 16 |",
        f"…/{Path(trained.model).name}",
        "### Instruction\nWrite a Python",
        "![",
    )
    assert [fact for fact in facts if fact not in card.text] == []
    assert (Path(trained.output) / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_the_card_keeps_what_a_person_wrote_and_chose(trained):
    from transformers import AutoTokenizer

    tokenizer, run = AutoTokenizer.from_pretrained(trained.output), run_json(trained.output)
    run["input"]["licenses"] = {"mit": 3}
    run["sources"] = [{"step": "select", "name": "org/executions", "revision": "abc"}, *run["sources"]]
    first = model_card(run, tokenizer, None)
    assert "| select | `org/executions` at `abc` |\n| finetune | `…/in.jsonl` at `" in first
    assert "license: other\nlicense_name: mit\n" in first  # the base model's is not known
    edited = "# Ours\n\n" + first.partition("---\n\n")[2]
    again = model_card(run, tokenizer, f"---\nlicense: mit\n---\n{edited}")
    assert "\n# Ours\n" in again and again.count("## How to prompt it") == 1 and "license: mit\n" in again


def test_a_second_run_does_nothing(trained, capsys):
    before = (Path(trained.output) / "model.safetensors").stat().st_mtime_ns
    finetune.main(trained)
    assert "already exists" in capsys.readouterr().out
    assert before == (Path(trained.output) / "model.safetensors").stat().st_mtime_ns


def test_other_options_are_refused(trained):
    with pytest.raises(UserError, match="epochs was 3, is 2"):
        finetune.main(dataclasses.replace(trained, epochs=2))


def test_it_is_uploaded_also_when_it_was_there_already(trained, monkeypatch):
    from huggingface_hub import constants

    with LocalHub() as hub:
        for name, value in {"ENDPOINT": hub.url, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}.items():
            monkeypatch.setattr(constants, name, value)
        options = dataclasses.replace(trained, push_to_hub="org/model", hf_token=hub.token)
        finetune.main(options)
        files = hub.files("org/model", "model")
    assert {"model.safetensors", "README.md", "loss.png", "run.json", "chat_template.jinja"} <= set(files)
    assert not [name for name in files if "checkpoint" in name or name.startswith((".", "data")) or "args.bin" in name]


def test_a_model_is_no_dataset(trained):
    with pytest.raises(UserError, match="is a model that finetune has trained, and has no rows"):
        open_source(trained.output)
