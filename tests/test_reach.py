"""Without a network: one sentence within seconds, or what the Hub's cache has."""

import shutil
import socket
import time

import pytest
from huggingface_hub import constants

from selfalign import reach
from tests.helpers import run, write_rows

# Nothing listens at this address: a connection is refused at once.
UNREACHABLE = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
SECONDS = 30  # half of what the look-up would take; it is given up after 4.5


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("generate_concepts", ("org/seeds", "./out")),
        ("execute", ("responses.jsonl", "org/out")),
        ("benchmark", ("http://127.0.0.1:9", "./out", "--benchmark", "mbpp")),
        ("benchmark", ("org/model", "./out")),
        ("finetune", ("examples.jsonl", "./out", "--model", "org/model")),
        ("reinforce", ("tasks.jsonl", "./out", "--model", "org/model")),
        ("serve", ("--port", "0", "--model", "org/model")),
    ],
)
def test_one_sentence_that_mentions_local_paths(tmp_path, script, arguments):
    write_rows(tmp_path / "responses.jsonl", [{"id": "1", "response": "x", "tests": "x"}])
    write_rows(tmp_path / "examples.jsonl", [{"instruction": "x", "response": "x"}])
    write_rows(tmp_path / "tasks.jsonl", [{"instruction": "x", "tests": "assert f(1)"}])
    result = run(script, *arguments, cwd=tmp_path, env=UNREACHABLE, timeout=60)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "can't be reached" in result.stderr and "./ or /" in result.stderr


def test_a_look_up_that_gets_no_answer_ends_in_time(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://no.answer.invalid")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: time.sleep(60))
    started = time.monotonic()
    with pytest.raises(reach.UserError, match="can't be reached"):
        reach.need_hub()
    assert time.monotonic() - started < SECONDS


def test_a_model_in_the_cache_is_used(tmp_path, monkeypatch, tiny_model, capsys):
    from transformers import AutoTokenizer

    repo = tmp_path / "models--org--model"
    shutil.copytree(tiny_model, repo / "snapshots" / "abc")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    for name, value in {"OFFLINE": False, "CACHE": str(tmp_path)}.items():
        monkeypatch.setattr(constants, f"HF_HUB_{name}", value)
    monkeypatch.setattr(constants, "ENDPOINT", UNREACHABLE["HF_ENDPOINT"])
    reach.use_cache_if_unreachable("org/model")
    assert "org/model is taken from its cache" in capsys.readouterr().err
    assert AutoTokenizer.from_pretrained("org/model", cache_dir=tmp_path)
