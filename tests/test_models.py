"""A GGUF file as a model: what is made of it, once, whatever happens in between."""

import os
import resource
import shutil
import subprocess
import sys
import time
from functools import partial

import pytest

from selfalign.errors import UserError
from selfalign.models import resolve_model
from tests.fakes.tiny_gguf import CHAT_TEMPLATE, make_tiny_gguf
from tests.helpers import ROOT, run

HEAD = "lm_head.weight"
EMBEDDING = "model.embed_tokens.weight"


@pytest.fixture(scope="session")
def gguf(tiny_model, tmp_path_factory):
    return make_tiny_gguf(tiny_model, tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="session")
def converted(gguf, tmp_path_factory):
    return resolve_model(str(gguf), tmp_path_factory.mktemp("cache"))


def loaded(folder):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder)


def converting(gguf, cache, **popen):
    """A process that converts the file."""
    code = "import sys, pathlib, selfalign.models as m; print(m.resolve_model(sys.argv[1], pathlib.Path(sys.argv[2])))"
    words = [sys.executable, "-c", code, str(gguf), str(cache)]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **popen)


def without_locks(folder):
    return [path for path in folder.glob("*") if path.suffix != ".lock"]


def test_a_gguf_file_is_the_model_that_it_was_made_from(tiny_model, converted):
    import torch

    ids = torch.arange(3, 40)[None]
    assert torch.allclose(loaded(converted)(ids).logits, loaded(tiny_model)(ids).logits, atol=1e-4)


def test_tokens_and_chat_template_come_along(tiny_model, converted):
    from transformers import AutoTokenizer

    tokenizer, original = map(AutoTokenizer.from_pretrained, (converted, tiny_model))
    text = "<|im_start|>def add(self, größer):\n\n    return 1<|im_end|><|endoftext|>"
    assert tokenizer(text).input_ids == original(text).input_ids
    assert tokenizer.chat_template == CHAT_TEMPLATE and tokenizer.eos_token == "<|im_end|>"


def test_a_text_ends_at_the_end_of_a_turn_and_at_that_of_a_document(converted):
    """GGUF names one end token alone."""
    assert loaded(converted).generation_config.eos_token_id == [2, 0]


@pytest.mark.parametrize(("noise", "shared"), [(0.04, True), (1.0, False)])
def test_a_head_that_differs_from_the_embedding_by_its_quantization_alone_is_shared(
    tiny_model, tmp_path, noise, shared
):
    import torch

    embedding = loaded(tiny_model).state_dict()[EMBEDDING]
    head = embedding + noise * embedding.std() * torch.randn(embedding.shape)
    file = make_tiny_gguf(tiny_model, tmp_path / "tied.gguf", **{HEAD: head})
    model = loaded(resolve_model(str(file), tmp_path))
    assert torch.allclose(model.lm_head.weight, head)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == shared


def test_a_file_is_known_by_its_content(gguf, converted, tiny_model, tmp_path):
    from pathlib import Path

    cache, moved = Path(converted).parent, tmp_path / gguf.name
    shutil.copy(gguf, moved)
    before = os.stat(converted).st_mtime_ns
    assert resolve_model(str(moved), cache) == converted and os.stat(converted).st_mtime_ns == before
    make_tiny_gguf(tiny_model, moved, **{HEAD: 2 * loaded(tiny_model).state_dict()[HEAD]})
    assert resolve_model(str(moved), cache) != converted


def test_a_folder_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # no shell replaces the ~ in --model=~/model
    (tmp_path / "model").mkdir()
    assert resolve_model("~/model") == str(tmp_path / "model")


def test_of_two_processes_one_converts(gguf, tmp_path):
    with converting(gguf, tmp_path) as first, converting(gguf, tmp_path) as second:
        outputs = [process.communicate(timeout=120) for process in (first, second)]
    assert outputs[0][0] == outputs[1][0] and loaded(outputs[0][0].strip())
    assert sum("GB) into" in errors for _, errors in outputs) == 1


def test_a_killed_conversion_leaves_nothing_that_is_used(gguf, tiny_model, tmp_path):
    """Killed as soon as it has written something; then the next conversion, of another file, cleans up."""
    with converting(gguf, tmp_path) as process:
        while not list(tmp_path.glob(".*.unfinished")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)
        process.kill()
    (left,) = tmp_path.glob(".*.unfinished")
    other = make_tiny_gguf(tiny_model, tmp_path / "other.gguf")
    assert [name for name in os.listdir(tmp_path) if not name.startswith(".")] == ["other.gguf"]
    resolve_model(str(other), tmp_path)
    assert not left.exists()
    assert loaded(resolve_model(str(gguf), tmp_path))


def not_gguf(tiny_model, path):
    path.write_bytes(b"a picture")


def cut_off(tiny_model, path):
    make_tiny_gguf(tiny_model, path)
    os.truncate(path, path.stat().st_size // 2)


FAULTS = {
    "is neither a GGUF file nor a model folder": not_gguf,
    "is damaged or not whole": cut_off,
    "transformers can't read the model": partial(make_tiny_gguf, architecture="clip"),
    "it lacks model.norm.weight": partial(make_tiny_gguf, **{"model.norm.weight": None}),
}


@pytest.mark.parametrize("said", FAULTS)
def test_a_file_that_is_no_model_is_refused(tiny_model, tmp_path, said):
    FAULTS[said](tiny_model, tmp_path / "bad.gguf")
    with pytest.raises(UserError, match=said):
        resolve_model(str(tmp_path / "bad.gguf"), tmp_path / "cache")
    assert not without_locks(tmp_path / "cache")


def test_a_disk_that_fills_up_is_one_sentence(gguf, tmp_path):
    def little_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    with converting(gguf, tmp_path, preexec_fn=little_room) as process:
        _, errors = process.communicate(timeout=120)
    assert errors.splitlines()[-1].startswith("selfalign.errors.UserError") and "can't be converted in" in errors
    assert not without_locks(tmp_path)


@pytest.mark.parametrize(
    ("model", "said"),
    [("./nowhere.gguf", "there is no file ./nowhere.gguf"), ("org/name/file.gguf", "is no file here, and the Hub")],
)
def test_a_file_that_is_not_there_is_one_sentence(model, said):
    done = run("serve", "--model", model, "--port", 0)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1
