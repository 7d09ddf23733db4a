"""What is generated: transformers' greedy text, draws that follow the probabilities, the same in any batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import AutoModelForCausalLM, AutoTokenizer, TopPLogitsWarper

from selfalign.llm.local_server import served
from server.completion import Completion, Decoder, choose, keep_top_p, look_up
from server.engine import Engine
from tests.server.client import PROMPT, generate, text, texts_at_once


@pytest.fixture
def reference(tiny_model: Path) -> tuple[Any, Any]:
    """The tiny model and its tokenizer, as transformers has them."""
    return AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)


def test_greedy_is_transformers_greedy(url: str, reference: tuple[Any, Any]):
    model, tokenizer = reference
    inputs = tokenizer(PROMPT, return_tensors="pt")
    expected = model.generate(**inputs, do_sample=False, max_new_tokens=60)
    details = generate(url, max_new_tokens=60)["details"]
    assert [token["id"] for token in details["tokens"]] == expected[0, inputs.input_ids.shape[1] :].tolist()


def test_logprobs_are_the_models(url: str, reference: tuple[Any, Any]):
    model, tokenizer = reference
    tokens = generate(url)["details"]["tokens"]
    prompt, completion = tokenizer(PROMPT).input_ids, [token["id"] for token in tokens]
    with torch.inference_mode():
        expected = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    reported = [token["logprob"] for token in tokens]
    assert reported == pytest.approx([float(row[id]) for row, id in zip(expected, completion, strict=True)], abs=1e-4)


def test_a_prompt_that_begins_like_an_earlier_one_is_answered_the_same(url: str, tiny_model: Path):
    """As if its beginning, which is not computed again, had been."""
    long = PROMPT * 5 + "    return"
    text(url, PROMPT * 5 + "    pass")
    with served(str(tiny_model), "--dtype", "float32") as fresh:
        assert text(url, long) == text(fresh, long)


@pytest.mark.parametrize("seeds", [range(8), [None] * 8], ids=["different seeds", "no seeds"])
def test_samples_differ(url: str, seeds: Any):
    assert len(set(texts_at_once(url, [{"temperature": 0.9, "seed": seed} for seed in seeds]))) == 8


def test_a_seed_gives_the_same_text_in_any_batch(url: str):
    """More requests than rows, with several prompts, lengths and settings: each as when it is alone."""
    jobs: list[dict[str, Any]] = [
        {
            "inputs": PROMPT * (1 + n % 3),
            "temperature": None if n % 4 == 0 else 0.5 + n / 10,
            "top_p": 0.9 if n % 4 == 1 else None,
            "top_k": 5 if n % 4 == 2 else None,
            "seed": n,
            "max_new_tokens": 5 + 7 * n,
        }
        for n in range(16)
    ]
    assert texts_at_once(url, jobs) == [text(url, **job) for job in jobs]


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 0.01}], ids=str)
def test_sampling_from_one_token_is_greedy(url: str, narrow: dict[str, Any]):
    assert text(url, **narrow, seed=7) == text(url)


def test_top_p_keeps_transformers_nucleus():
    for seed in range(1, 20):
        scores = torch.randn(1000, generator=torch.Generator().manual_seed(seed)) * (seed / 4)
        expected = TopPLogitsWarper(0.9)(None, scores[None])[0]  # type: ignore
        assert torch.equal(keep_top_p(scores, 0.9), expected)


@pytest.mark.parametrize("scores", [torch.zeros(1000), torch.randn(1000)], ids=["all alike", "different"])
def test_a_tiny_nucleus_has_a_token(scores: torch.Tensor):
    kept = keep_top_p(scores, 1e-9).isfinite()
    assert kept.sum() == 1 and scores[kept] == scores.max()


def test_a_temperature_may_be_a_whole_number():
    """Also in bfloat16, whose draws would otherwise depend on the other rows."""
    scores = torch.randn(1, 2000, generator=torch.Generator().manual_seed(0)).bfloat16()

    def drawn(temperature: float, *others: float) -> list[int]:
        found = []
        for seed in range(50):
            jobs = [Completion([0], 1, seed=seed, temperature=each) for each in (temperature, *others)]
            found.append(choose(jobs, scores.expand(len(jobs), -1))[0][0])
        return found

    assert drawn(1) == drawn(1.0) == drawn(1, 0.8)


def test_draws_follow_the_probabilities():
    """Tokens far apart, so that they are in different blocks."""
    scores = torch.full((2, 1000), -torch.inf)
    scores[:, [3, 4, 900]] = torch.tensor([0.5, 0.3, 0.2]).log()
    completions = [Completion(prompt=[0], max_new_tokens=1, seed=seed) for seed in range(2)]
    drawn = [token for _ in range(4000) for token, _ in choose(completions, scores)]
    assert [drawn.count(token) / 8000 for token in (3, 4, 900)] == pytest.approx([0.5, 0.3, 0.2], abs=0.02)


def test_every_number_falls_on_a_token_of_positive_probability():
    probabilities = torch.zeros(1, 300)
    probabilities[0, [10, 127, 128, 250]] = torch.tensor([1e-8, 0.4, 0.6, 1e-8])
    numbers = torch.cat([torch.linspace(0, 1, 1000), torch.tensor([1 - 2**-24, 1.0])])
    found = look_up(probabilities.expand(len(numbers), -1), numbers)
    assert set(found.tolist()) <= {10, 127, 128, 250} and found.tolist() == sorted(found.tolist())


def test_a_byte_that_spoils_the_character_before_it_ends_nothing():
    """The tokenizers of Llama 2 and CodeQwen1.5 have bytes as tokens, and decode those in a row together."""
    tokenizer = Tokenizer(models.BPE({"a": 0, "<0x0A>": 1, "<0xF0>": 2}, [], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    decoder = Decoder([0])
    assert [decoder.step(tokenizer, id) for id in (0, 1, 2, 0)] == ["a", "\n", "", "\ufffda"]


def test_a_prompt_that_rows_use_is_computed_once(reference: tuple[Any, Any], monkeypatch):
    """However many others come between, and although none is kept once its rows have ended."""
    engine = Engine(*reference, max_batch_size=9)
    monkeypatch.setattr("server.engine.PROMPT_TOKENS_KEPT", 0)
    computed, prefill = [], engine.prefill
    monkeypatch.setattr(engine, "prefill", lambda ids, kept: computed.append(ids) or prefill(ids, kept))
    prompts = [[5, 6, 7], [8, 9], [10, 11, 12]]
    completions = [Completion(prompt=prompt, max_new_tokens=4) for _ in range(3) for prompt in prompts]
    for completion in completions:
        engine.submit(completion)
    engine.start(threads=1)
    assert [completion.future.result(30) for completion in completions] == ["length"] * 9
    assert computed == [tuple(prompt) for prompt in prompts]
    later = [[13, 14], prompts[0]]
    for prompt in later:
        completion = Completion(prompt=prompt, max_new_tokens=1)
        engine.submit(completion)
        completion.future.result(30)
    assert computed == [tuple(prompt) for prompt in prompts + later]
    engine.stop()
    engine.thread.join(30)


class Panic(BaseException):
    """As tokenizers' PanicException: no Exception."""


@pytest.mark.parametrize(
    ("failure", "told"), [(MemoryError("too little memory"), MemoryError), (Panic("overflow"), RuntimeError)], ids=str
)
def test_a_failure_ends_what_is_in_the_batch_and_nothing_else(
    reference: tuple[Any, Any], monkeypatch, failure: BaseException, told: type[Exception]
):
    engine = Engine(*reference, max_batch_size=1)
    step, failures = engine.step, iter([failure])

    def fails_once():
        for error in failures:
            raise error
        step()

    monkeypatch.setattr(engine, "step", fails_once)
    first, second = (Completion(prompt=[5, 6, 7], max_new_tokens=4) for _ in range(2))
    engine.submit(first)
    engine.submit(second)
    engine.start(threads=1)
    error = first.future.exception(30)
    assert isinstance(error, told) and str(error) == str(failure)
    assert second.future.result(30) == "length" and len(second.tokens) == 4
    engine.stop()
    engine.thread.join(30)
