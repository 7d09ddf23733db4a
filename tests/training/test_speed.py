"""perf.finetune trains the way that finetune.py does."""

from perf import finetune as perf
from tests.training.tools import finetune


def test_every_way_to_make_batches_is_measured(tiny_model, monkeypatch, capsys):
    monkeypatch.setattr(finetune, "base_model", finetune.base_model)  # it puts another in its place
    perf.main(perf.Options(config=str(tiny_model), steps=1, batch_size=2, max_length=200))
    lines = capsys.readouterr().out.splitlines()
    ways = ["one at a time", "padded to 200, 1 at a time", "packed, 1 at a time"]
    assert [way for way in ways if any(line.startswith(way) for line in lines)] == ways
