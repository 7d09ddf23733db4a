"""perf.serving, which measures serve.py beside its peers."""

import pytest

from perf import serving


@pytest.mark.parametrize("requests", [4, 12, 0])
def test_as_many_samples_are_asked_for_as_the_table_says(requests):
    with pytest.raises(SystemExit, match=f"--requests {requests} is not a multiple of --samples 8"):
        serving.main(serving.Options(model="any", requests=(16, requests)))
