"""The sandbox that the tests of benchmarks share."""

import pytest

from code_eval.sandbox import PRELOAD, Sandbox
from tests.benchmarks.tools import judged


@pytest.fixture(scope="session")
def sandbox():
    with Sandbox(workers=2, timeout=30, memory=8 << 30, preload=[*PRELOAD, "pandas"]) as sandbox:
        yield sandbox


@pytest.fixture
def outcomes(sandbox):
    """The function from a benchmark and cases (problem, answer, style) to outcomes, in order."""
    return lambda benchmark, *cases: [result.outcome for result in judged(sandbox, benchmark, cases)]
