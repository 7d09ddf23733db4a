"""Models of today, from tiny random configurations: served, trained, packed, saved and loaded as any other."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from selfalign.errors import UserError
from server.completion import Completion
from server.plain import PlainEngine
from tests.fakes.architectures import ARCHITECTURES, make_model
from tests.helpers import load_script
from tests.training.tools import examples_in, options_of, trainer_of

PLAIN = {"qwen3_5_text", "deepseek_v2"}  # served one row at a time
QUICK = [pytest.param(name, marks=[] if name == "qwen3_5_text" else pytest.mark.slow) for name in ARCHITECTURES]
serve = load_script("serve")


@pytest.fixture(scope="module")
def model_of(tiny_model, tmp_path_factory):
    made = {}

    def model_of(architecture):
        if architecture not in made:
            folder = tmp_path_factory.mktemp("architectures") / architecture
            made[architecture] = make_model(architecture, tiny_model, folder)
        return made[architecture]

    return model_of


def loaded(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def greedy(model, prompt, tokens):
    """What the model writes, computed anew for each token."""
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(tokens):
            ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("architecture", QUICK)
def test_it_is_served_as_transformers_computes_it(model_of, architecture):
    folder = model_of(architecture)
    engine = serve.load(serve.Options(model=str(folder), dtype="float32", threads=1)).engine
    assert isinstance(engine, PlainEngine) == (architecture in PLAIN)
    ids = engine.tokenizer("def add(first, second):\n").input_ids
    completions = [Completion(prompt=ids * times, max_new_tokens=8) for times in (1, 2, 1)]
    for completion in completions:
        engine.submit(completion)
    engine.start(threads=1)
    for completion in completions:
        completion.future.result(60)
    engine.stop()
    engine.thread.join(30)
    for completion in completions:
        written = [token.id for token in completion.tokens]
        assert written == greedy(loaded(folder), completion.prompt, len(written))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_learns_and_is_what_it_learnt_when_it_is_loaded_again(model_of, tmp_path, architecture):
    # In float32 also on CPUs that multiply in bfloat16, where the trained model would be compared in another precision.
    how = {"epochs": 2, "batch_size": 16, "learning_rate": 1e-2, "warmup": 0.0, "dtype": "float32"}
    options = options_of(tmp_path, model_of(architecture), **how)
    trainer = trainer_of(options)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[1] < losses[0]
    trainer.save_model(str(tmp_path / "saved"))
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert torch.allclose(loaded(tmp_path / "saved")(ids).logits, trainer.model.eval()(ids).logits, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES.keys() - {"qwen3_5_text"}))
def test_packed_examples_do_not_see_each_other(model_of, tmp_path, architecture):
    options = options_of(tmp_path, model_of(architecture), packing=True, max_length=200, batch_size=16)
    trainer = trainer_of(options)
    model = trainer.model.eval()
    batch = next(iter(trainer.get_train_dataloader()))
    with torch.no_grad():
        packed, done = model(**{name: value for name, value in batch.items() if name != "labels"}).logits[0], 0
        for ids, _, _ in examples_in(batch):
            alone = model(torch.tensor([ids])).logits[0]
            assert torch.allclose(packed[done : done + len(ids)], alone, atol=1e-4)
            done += len(ids)
    assert done == len(packed) > 0


def test_packing_is_refused_where_examples_would_be_mixed(model_of, tmp_path):
    with pytest.raises(UserError, match="layers of linear_attention would mix the examples"):
        trainer_of(options_of(tmp_path, model_of("qwen3_5_text"), packing=True, max_length=200))
