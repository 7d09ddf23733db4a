"""The server that the tests in this folder share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from selfalign.llm.local_server import served


@pytest.fixture(scope="package")
def url(tiny_model: Path) -> Iterator[str]:
    """The URL of serve.py with the tiny model, with small limits."""
    with served(str(tiny_model), "--dtype", "float32", "--max-batch-size", "8", "--max-total-tokens", "300") as url:
        yield url
