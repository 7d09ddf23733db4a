"""Right programs of ordinary kinds pass, but for those that are known and named."""

import pytest

from tests.verdicts.ordinary import FAILING, programs, surprises


@pytest.mark.slow
@pytest.mark.parametrize("mode", FAILING)
def test_ordinary_programs_pass(mode):
    assert surprises(mode, programs()) == []
