"""A server that fails now and then: no row is lost, none doubled, none silently wrong."""

import asyncio
import json
import ssl
import threading
import time

import httpx2
import pytest
from aiohttp import web

from selfalign.llm import client, fleet, replica
from selfalign.llm.completion import CompletionRequest
from selfalign.llm.endpoint import Endpoint, client_for
from tests.fakes.server import simulated
from tests.llm.asking import ROWS, ask_all, assert_all_right, on_every_third, on_prompt, open_rows, options


async def reset(request):
    request.transport.abort()
    return web.Response()


async def half_an_answer(request):
    response = web.StreamResponse(headers={"content-type": "application/json", "content-length": "1000"})
    await response.prepare(request)
    await response.write(b'[{"generated_text": "half of')
    request.transport.abort()
    return response


async def the_prompt_again(request):
    body = await request.json()
    return web.json_response([{"generated_text": body["inputs"] + " and", "details": DETAILS}])


def answering(payload, status=200):
    """A fault that answers with this JSON or text."""

    async def answer(request):
        if isinstance(payload, str):
            return web.Response(text=payload, status=status, content_type="text/html")
        return web.json_response(payload, status=status)

    return answer


DETAILS = {"finish_reason": "length", "generated_tokens": 3, "prefill": [], "tokens": []}
FAULTS = {
    "424": answering({"error": "CUDA out of memory", "error_type": "generation"}, 424),
    "500": answering("<html>oops", 500),
    "reset": reset,
    "half an answer": half_an_answer,
    "not JSON": answering("<html>Bad gateway</html>"),
    "something else": answering({"message": "hello"}),
}
TGI_FAULTS = {
    "no details": answering([{"generated_text": "a text"}]),
    "no text": answering([{"generated_text": None, "details": DETAILS}]),
    "nothing": answering([]),
    "unfinished": answering([{"generated_text": "half of", "details": DETAILS | {"finish_reason": "error"}}]),
    "too long": answering([{"generated_text": "so " * 300, "details": DETAILS | {"generated_tokens": 300}}]),
    "the prompt again": the_prompt_again,
}


@pytest.mark.parametrize(
    ("api", "fault"),
    [(api, fault) for api in ("tgi", "completions", "chat") for fault in FAULTS] + [("tgi", f) for f in TGI_FAULTS],
)
def test_an_occasional_fault_costs_no_row(api, fault, monkeypatch):
    monkeypatch.setattr(client, "ECHO_CHARACTERS", 10)
    with simulated(on_every_third((FAULTS | TGI_FAULTS)[fault])) as server:
        endpoint = Endpoint(options(server, api=api))
        assert_all_right(ask_all(endpoint), api=api)
        assert sum(endpoint.usage.faults.values()) >= ROWS / 4, "faults are counted"


GOOD = {"text": "a text", "message": {"content": "a text"}, "finish_reason": "length"}
FAULTY_ANSWERS = {
    "text is NaN": {"choices": [GOOD | {"text": float("nan"), "message": {"content": float("nan")}}]},
    "text is a number": {"choices": [GOOD | {"text": 3, "message": {"content": 3}}] * 2},
    "text is an object": {"choices": [GOOD | {"text": {"a": 1}, "message": {"content": {"a": 1}}}]},
    "message is a list": {"choices": [{"message": [], "text": None, "finish_reason": "stop"}]},
    "finish_reason is a list": {"choices": [GOOD | {"finish_reason": ["stop"]}]},
    "choices is a number": {"choices": 3},
    "tokens are a string": {"choices": [GOOD], "usage": {"completion_tokens": "3"}},
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("payload", FAULTY_ANSWERS.values(), ids=FAULTY_ANSWERS)
@pytest.mark.parametrize("api", ["completions", "chat"])
@pytest.mark.parametrize(("status", "charset"), [(200, "utf-8"), (500, "hex"), (400, "idna")])
def test_a_faulty_openai_answer_is_a_fault_of_the_server(payload, api, status, charset):
    body = payload if isinstance(payload, str) else json.dumps({"usage": {"completion_tokens": 3}} | payload)
    headers = {"content-type": f"application/json; charset={charset}"}
    answer = httpx2.Response(status, content=body.encode(), headers=headers)

    async def ask():
        pool = httpx2.AsyncClient(transport=httpx2.MockTransport(lambda request: answer))
        server = client_for("http://127.0.0.1:1", options(api=api, model="m"))
        async with pool, server:
            server._pools = [pool]
            await server.complete(CompletionRequest("a", 8, seed=1, n=2, temperature=1.0))

    with pytest.raises(client.ServerFault):
        asyncio.run(ask())


@pytest.mark.parametrize("api", ["tgi", "completions"])
def test_a_broken_tls_record_is_a_fault_of_the_server(api, monkeypatch):
    """httpx2 lets ssl's error through. It is an OSError, which a step would take for a failing disk."""

    async def broken(*arguments, **more):
        raise ssl.SSLError(1, "decryption failed or bad record mac")

    async def ask():
        async with client_for("http://127.0.0.1:1", options(api=api)) as server:
            await server.complete(CompletionRequest("a", 8, seed=1))

    monkeypatch.setattr(httpx2.AsyncClient, "send", broken)
    with pytest.raises(client.ServerFault, match="SSLError"):
        asyncio.run(ask())


@pytest.mark.parametrize(
    ("status", "error", "tries"), [(500, "oops", fleet.TRIES), (422, {"error": "no", "error_type": "validation"}, 1)]
)
def test_a_prompt_that_fails_or_is_refused_leaves_only_its_own_row_open(status, error, tries):
    with simulated(on_prompt(7, status, error)) as server:
        got = ask_all(Endpoint(options(server)))
        assert sum("prompt 7:" in str(body) for body in server.bodies) == tries
    assert open_rows(got) == [7]
    assert_all_right(got, without=[7])


def test_more_samples_than_asked_for_are_a_fault():
    async def hook(request, body, number):
        if number > 3:  # after the probe
            body["n"] = 3

    with simulated(hook) as server:
        endpoint = Endpoint(options(server, api="completions"))
        assert open_rows(ask_all(endpoint, rows=1)) == [0]
        assert endpoint.usage.faults["3 samples where 1 were asked for"] == fleet.TRIES


# Time -----------------------------------------------------------------------------------------------------------------


def test_an_answer_after_the_deadline_is_asked_for_again(monkeypatch):
    monkeypatch.setattr(replica, "BASE_SECONDS", 0.3)
    monkeypatch.setattr(replica, "SECONDS_PER_TOKEN", 0.0)

    async def late(request):
        await asyncio.sleep(1)

    with simulated(on_every_third(late)) as server:
        endpoint = Endpoint(options(server))
        assert_all_right(ask_all(endpoint))
        assert endpoint.usage.faults["no answer before the deadline"] > 0


def test_a_slow_server_that_goes_on_answering_is_given_the_time(monkeypatch):
    """Eight requests at one place: the last waits for the others, and longer than a deadline."""
    monkeypatch.setattr(replica, "BASE_SECONDS", 0.5)
    monkeypatch.setattr(replica, "SECONDS_PER_TOKEN", 0.0)
    one_at_a_time = asyncio.Semaphore(1)

    async def hook(request, body, number):
        async with one_at_a_time:
            await asyncio.sleep(0.2)

    with simulated(hook) as server:
        endpoint = Endpoint(options(server))
        assert_all_right(ask_all(endpoint, rows=8), rows=8)
        assert not endpoint.usage.faults


def test_the_deadline_grows_with_the_tokens_asked_for(monkeypatch):
    monkeypatch.setattr(replica, "BASE_SECONDS", 0.0)
    monkeypatch.setattr(replica, "SECONDS_PER_TOKEN", 0.05)
    with simulated(seconds_per_token=0.02) as server:  # 0.16 s an answer
        assert_all_right(ask_all(Endpoint(options(server)), rows=8, max_new_tokens=16), rows=8)
    with simulated(seconds_per_token=0.1) as server:
        assert open_rows(ask_all(Endpoint(options(server, patience=0.5)), rows=2, max_new_tokens=1)) == [0, 1]


def test_a_server_that_accepts_and_never_answers(monkeypatch, capsys):
    """Its machine is gone, say: connections stay up, and nothing comes, not even /info."""
    monkeypatch.setattr(replica, "WATCH_SECONDS", 1.0)
    monkeypatch.setattr(replica, "CONNECT_SECONDS", 1.0)
    silent = threading.Event()

    async def hook(request, body, number):
        while silent.is_set():
            await asyncio.sleep(0.05)

    with simulated(hook) as gone, simulated() as well:
        endpoint = Endpoint(options(gone, well))
        mute = endpoint._fleet.replicas[0].client
        describe = mute.describe
        monkeypatch.setattr(mute, "describe", lambda: asyncio.sleep(60) if silent.is_set() else describe())
        assert_all_right(ask_all(endpoint, on_row=lambda done: silent.set() if done == 20 else None))
        assert endpoint.usage.faults["no sign of life"] > 0
        silent.clear()
    assert f"{gone.url} is not used for a while: no sign of life" in capsys.readouterr().err


def test_a_server_that_redirects_to_https_is_said(monkeypatch):
    """Behind such a redirect, a POST becomes a GET."""

    async def describe():
        async with client_for("http://127.0.0.1:1", options()) as server:
            there = httpx2.Request("GET", "https://127.0.0.1:1/info")
            moved = [httpx2.Response(301)]
            answer = asyncio.sleep(0, httpx2.Response(200, json={"model_id": "m"}, request=there, history=moved))
            monkeypatch.setattr(server._http, "get", lambda url: answer)
            await server.describe()

    with pytest.raises(client.Unfit, match="redirects to https"):
        asyncio.run(describe())


# 429 ------------------------------------------------------------------------------------------------------------------


def test_a_storm_of_429_is_waited_out():
    begun = []

    async def storm(request, body, number):
        if number > 30:
            begun.append(time.monotonic())
        if begun and time.monotonic() - begun[0] < 1:
            return web.json_response({"error": "Model is overloaded", "error_type": "overloaded"}, status=429)

    with simulated(storm) as server:
        endpoint = Endpoint(options(server))
        assert_all_right(ask_all(endpoint))
        assert endpoint.usage.faults["429"] > 0


def test_retry_after_is_waited_for():
    refused, later = [], []

    async def hook(request, body, number):
        if number == 10:
            refused.append(time.monotonic())
            return web.Response(status=429, headers={"Retry-After": "1"})
        if refused:
            later.append(time.monotonic())

    with simulated(hook) as server:
        assert_all_right(ask_all(Endpoint(options(server)), width=1))
    assert later[0] - refused[0] > 0.9
