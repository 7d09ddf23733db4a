"""Where the keys and values of rows lie: none is lost or mixed up while rows come, grow and leave."""

import random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from server.cache import RowsCache, capacity_for
from server.completion import Completion
from server.engine import Engine
from server.plain import scores_of

LAYERS, HEADS, DIM = 2, 2, 4


@pytest.mark.parametrize(
    ("tokens", "capacity"),
    [(1, 128), (128, 128), (129, 192), (192, 192), (193, 256), (257, 384), (384, 384), (385, 512), (1537, 2048)],
)
def test_capacities(tokens, capacity):
    assert capacity_for(tokens) == capacity


def test_each_row_attends_to_its_own_tokens_while_rows_come_grow_and_leave():
    draws = random.Random(0)
    cache, expected = RowsCache(), {}
    for step in range(600):
        if len(expected) < 12 and draws.random() < 0.1:
            start = torch.randn(LAYERS, 2, HEADS, draws.choice([0, 0, 5, 127, 128, 300]), DIM)
            cache.join(step, start)
            expected[step] = start
        if expected and draws.random() < 0.05:
            gone = draws.choice(list(expected))
            cache.leave(gone)
            del expected[gone]
        if not expected:
            continue
        rows = cache.prepare()
        assert sorted(rows) == sorted(expected) and len(rows) == sum(cache.sizes)
        new = torch.randn(LAYERS, 2, len(rows), HEADS, 1, DIM)
        for number, row in enumerate(rows):
            expected[row] = torch.cat([expected[row], new[:, :, number]], -2)
        for layer in range(LAYERS):
            cache.update(*new[layer], layer)
            seen = [
                (keys[..., mask == 0, :], values[..., mask == 0, :])
                for own in cache.own_tokens(layer)
                for keys, values, mask in zip(own.keys, own.values, own.mask[:, 0, 0], strict=True)
            ]
            for row, (keys, values) in zip(rows, seen, strict=True):
                assert torch.equal(keys, expected[row][layer, 0]) and torch.equal(values, expected[row][layer, 1])


def test_a_row_that_has_left_takes_no_memory_as_the_only_one_of_its_length():
    cache = RowsCache()
    cache.join("short", torch.zeros(LAYERS, 2, HEADS, 0, DIM))
    cache.join("long", torch.zeros(LAYERS, 2, HEADS, 5000, DIM))
    cache.leave("long")
    assert list(cache.blocks) == [128]


def test_a_block_that_few_rows_are_left_in_is_halved():
    cache, rows = RowsCache(), range(40)
    tokens = torch.randn(40, LAYERS, 2, HEADS, 5, DIM)
    for row in rows:
        cache.join(row, tokens[row])
    (block,) = cache.blocks.values()
    most = block.kv.shape[2]
    for row in rows[:-2]:
        cache.leave(row)
    assert most == 64 and block.kv.shape[2] == 4
    for row in rows[-2:]:
        assert torch.equal(cache.tokens_of(row), tokens[row])


def test_a_row_for_which_there_is_too_little_memory_leaves_the_others_as_they_are(monkeypatch):
    def lacks_memory(*_):
        raise MemoryError

    cache = RowsCache()
    cache.join("first", torch.zeros(LAYERS, 2, HEADS, 0, DIM))
    with monkeypatch.context() as patch:
        patch.setattr("server.cache.Block.add", lacks_memory)
        with pytest.raises(MemoryError):
            cache.join("long", torch.zeros(LAYERS, 2, HEADS, 500, DIM))
    assert cache.prepare() == ["first"] and list(cache.blocks) == [128]


@pytest.fixture
def engine(tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    return Engine(model, AutoTokenizer.from_pretrained(tiny_model), max_batch_size=3)


def completions(*prompts):
    return [Completion(prompt=prompt, max_new_tokens=200) for prompt in prompts]


@torch.inference_mode()
def test_a_prompt_is_shared_if_another_row_has_it_or_soon_will(engine):
    one, other = [5, 6, 7], [5, 6, 8]
    first, alone, second, third = jobs = completions(one, other, one, one)
    engine.waiting.extend(jobs)
    engine.admit()  # three of them
    assert list(engine.rows) == [first, alone, second]
    assert engine.rows[alone] is None
    assert engine.rows[first] is engine.rows[second] is not None
    engine.leave(alone)
    engine.admit()
    assert engine.rows[third] is engine.rows[first]


@torch.inference_mode()
def test_rows_with_and_without_a_shared_prompt_in_one_batch_say_what_each_says_alone(engine):
    """The three are not in the order of their prompts, and one grows beyond its block."""
    prompts = [[5, 6, 7], list(range(3, 125)), [5, 6, 7]]
    engine.eos = set()

    def tokens_of(jobs):
        engine.waiting.extend(jobs)
        engine.admit()
        shares = list(engine.rows.values())
        while engine.rows:
            engine.step()
        return shares, [[token.id for token in job.tokens] for job in jobs]

    alone = [tokens_of(completions(prompt))[1][0] for prompt in prompts]
    shares, together = tokens_of(completions(*prompts))
    assert [prompt is not None for prompt in shares] == [True, False, True]
    assert together == alone


@torch.inference_mode()
def test_shared_or_not_the_scores_are_the_models(engine):
    ids = list(range(3, 40))
    shared, alone = scores_of(engine, ids)
    engine.model.set_attn_implementation("sdpa")
    expected = engine.model(torch.tensor([ids])).logits[0, -1]
    torch.testing.assert_close(shared, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(alone, expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_a_prompt_that_begins_like_that_of_a_row_is_computed_from_there_on(engine, monkeypatch):
    """Also if the row has it to itself, has written since, and no prompt is kept."""
    monkeypatch.setattr("server.engine.PROMPT_TOKENS_KEPT", 0)
    kept, prefill = [], engine.prefill
    monkeypatch.setattr(
        engine, "prefill", lambda ids, of: kept.append(0 if of is None else of.shape[-2]) or prefill(ids, of)
    )
    engine.eos = set()
    beginning = list(range(3, 43))
    engine.waiting.extend(completions([*beginning, 5], [7, 8, 9]))
    engine.admit()
    engine.step()
    engine.prompts.clear()
    (last,) = completions([*beginning, 6, 7])
    engine.waiting.append(last)
    engine.admit()
    assert kept == [0, 0, 40]
    engine.model.set_attn_implementation("sdpa")
    expected = engine.model(torch.tensor([last.prompt])).logits[0, -1]
    assert last.tokens[0].id == expected.argmax()
    torch.testing.assert_close(engine.prompts[tuple(last.prompt)].scores, expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_those_that_hung_up_do_not_wait_any_longer(engine):
    jobs = completions(*([5, 6, 7 + n] for n in range(6)))
    engine.waiting.extend(jobs)
    engine.admit()
    jobs[4].future.cancel()
    engine.admit()
    assert list(engine.rows) == jobs[:3] and list(engine.waiting) == [jobs[3], jobs[5]]


@torch.inference_mode()
def test_after_a_failure_the_engine_has_no_rows(engine):
    engine.waiting.extend(completions([5, 6, 7], [5, 6, 8]))
    engine.admit()
    engine.clear()
    assert not engine.rows and not engine.cache.blocks
    engine.waiting.extend(completions([5, 6, 7]))
    engine.admit()
    engine.step()
    assert len(engine.rows) == 1
