"""The local Hub as the Hub of this process, for the tests of the runner."""

import time
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import constants

import selfalign.runner.hub
from selfalign.runner import writer
from tests.fakes.hub import LocalHub


@pytest.fixture
def hub(monkeypatch, tmp_path, waits):
    with LocalHub() as hub:
        for name, value in {
            "ENDPOINT": hub.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_DISABLE_TELEMETRY": True,
        }.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(writer, "PART_ROWS", 10)
        yield hub


@pytest.fixture
def waits(monkeypatch):
    """The seconds that were not slept, by us or by the client."""
    waits = []
    for module in (selfalign.runner.hub, huggingface_hub.utils._http):
        monkeypatch.setattr(module, "time", SimpleNamespace(sleep=waits.append, time=time.time))
    return waits
