"""Fixtures of the tests here."""

import pytest

from selfalign.llm import fleet, replica


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """Tenths of a second where a run waits for seconds and minutes."""
    monkeypatch.setattr(fleet, "BACKOFF_SECONDS", 0.02)
    monkeypatch.setattr(fleet, "MAX_BACKOFF_SECONDS", 0.2)
    monkeypatch.setattr(fleet, "MAX_REST_SECONDS", 0.2)
    monkeypatch.setattr(replica, "REST_SECONDS", 0.05)
