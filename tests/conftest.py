"""Fixtures that several test files share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Whoever works without a network has set it; the Hub of the tests is on this machine.
os.environ.pop("HF_HUB_OFFLINE", None)

from tests.fakes.tiny_model import make_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random model, made once a session."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny_model"))


@pytest.fixture(scope="session")
def endpoint(tiny_model: Path) -> Iterator[str]:
    """The URL of serve.py with the tiny model, started once a session."""
    from selfalign.llm.local_server import served

    with served(str(tiny_model), "--dtype", "float32") as url:
        yield url
