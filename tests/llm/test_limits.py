"""Limits of servers: requests at a time, the length of prompts, and the window that adapts to what a server takes."""

import asyncio
from collections import Counter

import httpx2
import pytest

from selfalign.llm.completion import PROMPT_TOO_LONG
from selfalign.llm.concurrency import CongestionWindow
from selfalign.llm.endpoint import Endpoint, client_for
from tests.fakes.server import simulated
from tests.llm.asking import ask_all, assert_all_right, on_prompt, options


@pytest.mark.parametrize(("allowed", "asked", "most"), [(7, None, 7), (128, 3, 3)])
def test_no_more_requests_at_a_time_than_server_and_user_allow(allowed, asked, most):
    with simulated(seconds_per_token=0.002, max_concurrent_requests=allowed) as server:
        endpoint = Endpoint(options(server, concurrency=asked))
        assert_all_right(ask_all(endpoint, width=40))
        assert server.most_running == most and not endpoint.usage.faults


def test_samples_count_against_the_concurrency_where_n_is_taken():
    with simulated() as server:
        endpoint = Endpoint(options(server, api="completions", concurrency=50), samples_a_row=10)
        assert endpoint._fleet.first.window.maximum == 5


def test_connections_are_used_again():
    peers = Counter()

    async def hook(request, body, number):
        peers[request.transport.get_extra_info("peername")] += 1

    with simulated(hook) as server:
        assert_all_right(ask_all(Endpoint(options(server)), width=4))
    assert len(peers) <= 4 + 3, "four places, and the probe's"


TOO_LONG = {
    "tgi": "Input validation error: `inputs` must have less than 1023 tokens. Given: 2000",
    "tgi, both": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: 2000 `inputs`",
    "vllm": "This model's maximum context length is 2048 tokens. However, your request has 3000 input tokens.",
    "vllm, older": "The decoder prompt (length 3000) is longer than the maximum model length of 2048.",
    "sglang": "The input (3000 tokens) is longer than the model's context length (2048 tokens).",
    "sglang, less memory": "Input length (3000 tokens) exceeds the maximum allowed length (2042 tokens). Use a shorter",
    "llama.cpp": "the request exceeds the available context size. try increasing the context size",
    "llama-cpp-python": "This model's maximum context length is 512 tokens, however you requested 3000 tokens",
    "openai": "context_length_exceeded",
}


@pytest.mark.parametrize("words", TOO_LONG.values(), ids=TOO_LONG)
@pytest.mark.parametrize("api", ["tgi", "completions"])
def test_a_prompt_too_long_is_an_outcome(words, api):
    tgi, openai = (422, {"error": words, "error_type": "validation"}), (400, {"error": {"message": words}})
    with simulated(on_prompt(3, *(tgi if api == "tgi" else openai))) as server:
        got = ask_all(Endpoint(options(server, api=api)), rows=8)
    assert [n for n, answer in got.items() if answer.finish_reason == PROMPT_TOO_LONG] == [3]
    assert got[3].text == ""


@pytest.mark.parametrize(
    ("answer", "tokens"),
    [
        *((wrong, None) for wrong in ("3", "null", '"abc"', '{"count": "3"}', '{"count": null}', "{}", "[" * 100_000)),
        ('{"count": 3}', 3),
        ("[{}, {}]", 2),
    ],
)
def test_a_count_of_tokens_that_is_no_number_is_ignored(answer, tokens):
    assert asyncio.run(counted_by(lambda _: httpx2.Response(200, content=answer))) == tokens


async def counted_by(server):
    """The tokens of a prompt, as a server counts them."""
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(server))
    async with http, client_for("http://127.0.0.1:1", options()) as client:
        client._http = http
        return await client.count_tokens("a prompt")


def test_a_server_that_never_counts_tokens_does_not_hold_up_the_run(monkeypatch):
    monkeypatch.setattr("selfalign.llm.client.COUNT_SECONDS", 0.05)

    async def silent(_):
        await asyncio.sleep(60)

    assert asyncio.run(asyncio.wait_for(counted_by(silent), 30)) is None


# The congestion window ------------------------------------------------------------------------------------------------


def answer(window, answers, is_refused=lambda n: False, pace=1.0):
    """Give a full window this many answers, of 10 tokens each at `pace` seconds per token."""
    for n in range(answers):
        window.in_flight = int(window.limit)
        window.on_refusal() if is_refused(n) else window.on_answer(10 * pace, 10)
    window.in_flight = 0


def test_the_window_shrinks_to_what_the_server_takes():
    """128 of 256 are refused at once, round after round."""
    window = CongestionWindow(256)
    answer(window, 2000, is_refused=lambda n: window.limit > 128 and n % 2 == 0)
    assert 100 < window.limit < 160


def test_the_window_grows_again_after_a_storm():
    window = CongestionWindow(128)
    answer(window, 1000, is_refused=lambda n: True)
    assert window.limit == 1
    answer(window, 200)
    assert window.limit > 60, "doubling at first"
    answer(window, 20_000, is_refused=lambda n: n % 20 == 0)
    assert window.limit == 128, "occasional refusals do not shrink it"


def test_rising_latency_shrinks_the_window():
    window = CongestionWindow(128)
    answer(window, 600)
    answer(window, 600, pace=3.0)
    assert 64 <= window.limit < 128


def test_a_window_that_is_not_used_does_not_grow():
    window = CongestionWindow(128)
    answer(window, 500, is_refused=lambda n: True)
    for _ in range(500):
        window.on_answer(1.0, 1)
    assert window.limit == 1
