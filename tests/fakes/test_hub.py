"""The local Hub: what it must refuse. What clients can do with it, and its faults, are tested in `tests/runner`."""

import subprocess
import sys

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from tests.fakes.hub import LocalHub

REPO = "org/seeds"


@pytest.fixture
def hub():
    with LocalHub() as hub:
        yield hub


def test_a_card_with_broken_metadata_is_refused(hub):
    hub.add(REPO, {})
    card = CommitOperationAdd("README.md", b"---\nlicense: [mit\n---\n")
    with pytest.raises(ValueError, match="Invalid metadata"):
        HfApi(hub.url, hub.token).create_commit(REPO, [card], commit_message="card", repo_type="dataset")
    assert not hub.files(REPO)


def test_datasets_loads_what_is_asked_for_and_nothing_reaches_the_network(hub, tmp_path):
    """In a subprocess: datasets takes the Hub's address at import."""
    code = """
import sys
from datasets import load_dataset
from huggingface_hub import get_session

for revision in (None, sys.argv[1]):
    print(load_dataset("org/seeds", split="train", revision=revision).num_rows)
print(load_dataset("json", data_files="hf://datasets/org/seeds/data/*.jsonl", split="train").num_rows)
get_session().get("https://example.com")
"""
    first = hub.add(REPO, {"data/train-0.jsonl": b'{"id": 1}\n'}, private=True)
    hub.add(REPO, {"data/train-1.jsonl": b'{"id": 2}\n{"id": 3}\n'})
    command = [sys.executable, "-c", code, first]
    ended = subprocess.run(command, env=hub.environment(tmp_path), capture_output=True, text=True)
    assert ended.stdout.split() == ["3", "1", "3"] and "ProxyError" in ended.stderr, ended.stderr
    assert [each.path for each in hub.requests if each.status == 403] == ["example.com:443"]
