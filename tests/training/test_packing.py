"""Packed sequences: their examples are computed as if each were alone."""

import pytest

from tests.training.tools import examples_in, trainer_of


@pytest.mark.parametrize(("attention", "device_batch_size"), [("sdpa", 1), ("sdpa", 2), ("eager", 1)])
def test_packed_examples_do_not_see_each_other(make, attention, device_batch_size):
    """Logits and loss of a packed sequence are those of its examples one by one."""
    import torch

    options = make(packing=True, max_length=200, attention=attention, device_batch_size=device_batch_size)
    trainer = trainer_of(options)
    model = trainer.model.eval()
    batch = next(iter(trainer.get_train_dataloader()))
    given = {name: value for name, value in batch.items() if name != "labels"}
    with torch.no_grad():
        packed = model(**given).logits[0]
        loss = trainer.compute_loss(model, dict(batch)).item()
        done, losses = 0, []
        for ids, labels, _ in examples_in(batch):
            alone = model(torch.tensor([ids])).logits[0]
            assert torch.allclose(packed[done : done + len(ids)], alone, atol=1e-5)
            losses.append(torch.nn.functional.cross_entropy(alone[:-1], torch.tensor(labels[1:]), reduction="none"))
            done += len(ids)
    assert done == packed.shape[0] and len(losses) == 2 * device_batch_size
    losses = torch.cat(losses)
    assert loss == pytest.approx(losses[losses != 0].mean().item(), rel=1e-5)


def test_packing_takes_as_many_optimizer_steps(make):
    """16 examples in batches of 4 are 4 steps, also when two of them are in each sequence."""
    trainer = trainer_of(make(batch_size=4, packing=True, max_length=200))
    assert len(trainer.train_dataset) == 8 and trainer.args.gradient_accumulation_steps == 2
