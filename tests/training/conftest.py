"""What the tests of trainings share."""

import pytest

from tests.training.tools import QUICK, finetune, options_of


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """A model this small gains nothing from more; threads that wait for each other on a busy machine cost minutes."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="package")
def make(tiny_model, tmp_path_factory):
    """Options of a training of the tiny model, in a folder of its own."""
    return lambda *rows, **more: options_of(tmp_path_factory.mktemp("finetune"), tiny_model, *rows, **more)


@pytest.fixture(scope="package")
def trained(make):
    """The options of a training that is done: 12 examples in batches of 4, 3 times, and 4 held out."""
    options = make(**QUICK)
    finetune.main(options)
    return options
