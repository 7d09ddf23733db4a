"""Fixtures that several test files share."""

from pathlib import Path

import pytest
from tiny_model import make_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random model, made once a session."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny_model"))
