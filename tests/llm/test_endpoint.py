"""The client against a simulated server with faults: no row lost, none doubled, none silently wrong."""

import asyncio
import contextlib
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from aiohttp import web

from selfalign.errors import RowOpen, UserError
from selfalign.llm import clients as servers
from selfalign.llm import endpoint as endpoints
from selfalign.llm import probe as trust
from selfalign.llm.clients import PROMPT_TOO_LONG, Generation
from selfalign.llm.concurrency import Window
from selfalign.llm.endpoint import Endpoint
from selfalign.options import GenerationOptions, Shard, command_of
from selfalign.runner.folder_output import FolderOutput
from selfalign.runner.step import run_step
from selfalign.runner.table import Table
from tests.fakes.server import Running, expected, simulated
from tests.scripts.test_serve import validate

ROWS = 80


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Waits of a tenth of a second where a run has seconds and minutes."""
    for name, seconds in {
        "BACKOFF_SECONDS": 0.02,
        "MAX_BACKOFF_SECONDS": 0.2,
        "REST_SECONDS": 0.05,
        "MAX_REST_SECONDS": 0.2,
    }.items():
        monkeypatch.setattr(endpoints, name, seconds)


def options(*running, **changes):
    urls = tuple(server if isinstance(server, str) else server.url for server in running)
    return GenerationOptions(endpoint=urls, **{"patience": 5.0, **changes})


def prompt(number):
    return f"prompt {number}: what comes next?"


async def answers_of(endpoint, rows=ROWS, width=16, max_new_tokens=16, on_row=None, **more):
    """What each row got; a row that stays open is an exception."""
    got = {}

    async def worker(numbers):
        for number in numbers:
            try:
                answer = await endpoint.generate(prompt(number), max_new_tokens=max_new_tokens, seed=number, **more)
            except RowOpen as error:
                answer = error
            assert number not in got
            got[number] = answer
            if on_row:
                on_row(len(got))

    numbers = iter(range(rows))
    await asyncio.gather(*(worker(numbers) for _ in range(width)))
    return got


def ask_all(endpoint, **more):
    async def run():
        async with endpoint:
            return await answers_of(endpoint, **more)

    return asyncio.run(run())


def assert_all_right(got, rows=ROWS, **more):
    assert {n: getattr(answer, "text", answer) for n, answer in got.items()} == {
        n: expected(prompt(n), n, **more) for n in range(rows)
    }


def every_third(fault):
    """A hook that does `fault` to every third request after the probe's."""

    async def hook(request, body, number):
        return await fault(request) if number > 10 and number % 3 == 0 else None

    return hook


# Faults of one server -------------------------------------------------------------------------------------------------


async def status_424(request):
    return web.json_response({"error": "CUDA out of memory", "error_type": "generation"}, status=424)


async def status_500(request):
    return web.Response(text="<html>oops", status=500)


async def reset(request):
    request.transport.abort()
    return web.Response()


async def half_an_answer(request):
    response = web.StreamResponse(headers={"content-type": "application/json", "content-length": "1000"})
    await response.prepare(request)
    await response.write(b'[{"generated_text": "half of')
    request.transport.abort()
    return response


async def not_json(request):
    return web.Response(text="<html>Bad gateway</html>")


async def without_details(request):
    return web.json_response([{"generated_text": "a text"}])


async def without_text(request):
    return web.json_response([{"generated_text": None, "details": {"finish_reason": "length", "generated_tokens": 3}}])


async def something_else(request):
    return web.json_response({"message": "hello"})


async def nothing(request):
    return web.json_response([])


async def unfinished(request):
    details = {"finish_reason": "error", "generated_tokens": 3, "prefill": [], "tokens": []}
    return web.json_response([{"generated_text": "half of", "details": details}])


async def longer_than_asked(request):
    details = {"finish_reason": "length", "generated_tokens": 300, "prefill": [], "tokens": []}
    return web.json_response([{"generated_text": "so " * 300, "details": details}])


async def the_prompt_again(request):
    body = await request.json()
    details = {"finish_reason": "length", "generated_tokens": 3, "prefill": [], "tokens": []}
    return web.json_response([{"generated_text": body["inputs"] + " and", "details": details}])


@pytest.mark.parametrize(
    "fault",
    [
        *(status_424, status_500, reset, half_an_answer, not_json, without_details, without_text, something_else),
        *(nothing, unfinished, longer_than_asked, the_prompt_again),
    ],
)
def test_a_fault_now_and_then_costs_no_row(fault, monkeypatch):
    monkeypatch.setattr(servers, "ECHO_CHARACTERS", 10)
    with simulated(every_third(fault)) as server:
        endpoint = Endpoint(options(server))
        assert_all_right(ask_all(endpoint))
        assert sum(endpoint.faults.values()) >= ROWS / 4, "faults are counted"


@pytest.mark.parametrize("fault", [status_500, reset, half_an_answer, not_json, something_else])
@pytest.mark.parametrize("api", ["completions", "chat"])
def test_a_fault_of_an_openai_server_costs_no_row(fault, api):
    with simulated(every_third(fault)) as server:
        assert_all_right(ask_all(Endpoint(options(server, api=api))), api="openai")


GOOD = {"text": "a text", "message": {"content": "a text"}, "finish_reason": "length"}
FAULTY = {
    "text is NaN": {"choices": [GOOD | {"text": float("nan"), "message": {"content": float("nan")}}]},
    "text is a number": {"choices": [GOOD | {"text": 3, "message": {"content": 3}}] * 2},
    "text is an object": {"choices": [GOOD | {"text": {"a": 1}, "message": {"content": {"a": 1}}}]},
    "message is a list": {"choices": [{"message": [], "text": None, "finish_reason": "stop"}]},
    "finish_reason is a list": {"choices": [GOOD | {"finish_reason": ["stop"]}]},
    "choices is a number": {"choices": 3},
    "tokens are a text": {"choices": [GOOD], "usage": {"completion_tokens": "3"}},
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("payload", FAULTY.values(), ids=FAULTY)
@pytest.mark.parametrize("api", ["completions", "chat"])
@pytest.mark.parametrize(("status", "charset"), [(200, "utf-8"), (500, "hex"), (400, "idna")])
def test_a_faulty_openai_answer_is_a_fault_of_the_server(payload, api, status, charset):
    body = payload if isinstance(payload, str) else json.dumps({"usage": {"completion_tokens": 3}} | payload)
    answer = httpx2.Response(
        status, content=body.encode(), headers={"content-type": f"application/json; charset={charset}"}
    )

    async def ask():
        client = httpx2.AsyncClient(transport=httpx2.MockTransport(lambda request: answer))
        server = servers.server_at("http://127.0.0.1:1", options(api=api, model="m"), None)
        async with client, server:
            server._pools = [client]
            await server.complete(servers.Request("a", 8, seed=1, n=2, temperature=1.0))

    with pytest.raises(servers.ServerFault):
        asyncio.run(ask())


@pytest.mark.parametrize(
    ("said", "tokens"),
    [
        *((wrong, None) for wrong in ("3", "null", '"abc"', '{"count": "3"}', '{"count": null}', "{}", "[" * 100_000)),
        ('{"count": 3}', 3),
        ("[{}, {}]", 2),
    ],
)
def test_a_count_of_tokens_that_is_none_is_not_known(said, tokens):
    async def ask():
        client = httpx2.AsyncClient(transport=httpx2.MockTransport(lambda _: httpx2.Response(200, content=said)))
        async with client, servers.server_at("http://127.0.0.1:1", options(), None) as server:
            server._http = client
            return await server.count_tokens("a prompt")

    assert asyncio.run(ask()) == tokens


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
        assert endpoint.faults["429"] > 0


def test_a_prompt_that_always_fails_leaves_its_row_open_and_no_other():
    async def hook(request, body, number):
        return await status_500(request) if body["inputs"] == prompt(7) else None

    with simulated(hook) as server:
        got = ask_all(Endpoint(options(server)))
    assert isinstance(got.pop(7), RowOpen)
    assert {n: answer.text for n, answer in got.items()} == {n: expected(prompt(n), n) for n in range(ROWS) if n != 7}


def test_an_answer_after_the_deadline_is_asked_for_again(monkeypatch):
    monkeypatch.setattr(endpoints, "BASE_SECONDS", 0.3)
    monkeypatch.setattr(endpoints, "SECONDS_PER_TOKEN", 0.0)

    async def late(request):
        await asyncio.sleep(1)

    with simulated(every_third(late)) as server:
        endpoint = Endpoint(options(server))
        assert_all_right(ask_all(endpoint))
        assert endpoint.faults["no answer before the deadline"] > 0


def test_the_deadline_grows_with_the_tokens_asked_for(monkeypatch):
    monkeypatch.setattr(endpoints, "BASE_SECONDS", 0.0)
    monkeypatch.setattr(endpoints, "SECONDS_PER_TOKEN", 0.05)
    with simulated(seconds_per_token=0.02) as server:  # 0.16 s an answer
        assert_all_right(ask_all(Endpoint(options(server)), rows=8, max_new_tokens=16), rows=8)
        with pytest.raises(AssertionError):
            assert_all_right(ask_all(Endpoint(options(server)), rows=2, max_new_tokens=1), rows=2)


# Several servers ------------------------------------------------------------------------------------------------------


@pytest.fixture
def three():
    running = [Running(seconds_per_token=0.002) for _ in range(3)]
    yield running
    for server in running:
        server.close()


def test_the_least_loaded_server_is_asked(three):
    assert_all_right(ask_all(Endpoint(options(*three)), rows=90), rows=90)
    asked = [len(server.bodies) for server in three]
    assert min(asked) > 0.6 * max(asked)


def test_a_replica_is_killed_and_started_again_in_mid_run(three, capsys):
    endpoint = Endpoint(options(*three))

    def on_row(done):
        if done == 60:
            threading.Thread(target=three[1].stop).start()
        if done == 150:
            threading.Thread(target=three[1].start).start()

    got = ask_all(endpoint, rows=600, width=32, on_row=on_row)
    assert_all_right(got, rows=600)
    assert len(three[1].bodies) > 0, "it was used again"
    said = capsys.readouterr().err
    assert f"{three[1].url} rests" in said and f"{three[1].url} answers again" in said


def test_when_none_is_left_the_run_waits_and_says_so(capsys):
    with simulated() as server:

        def on_row(done):
            if done == 20:
                threading.Thread(target=lambda: (server.stop(), time.sleep(0.7), server.start())).start()

        assert_all_right(ask_all(Endpoint(options(server)), rows=200, on_row=on_row), rows=200)
    assert "no endpoint is left: waiting up to 5 s" in capsys.readouterr().err


def test_patience_ends_and_rows_stay_open():
    with simulated() as server:

        def on_row(done):
            if done == 20:
                server.stop()

        got = ask_all(Endpoint(options(server, patience=0.5)), on_row=on_row)
    opened = [n for n, answer in got.items() if isinstance(answer, RowOpen)]
    assert len(got) == ROWS and len(opened) > 40
    assert all(answer.text == expected(prompt(n), n) for n, answer in got.items() if n not in opened)


def test_when_the_only_server_comes_back_as_another_no_row_waits_for_ever(capsys):
    with simulated() as server:

        def on_row(done):
            if done == 20:
                server.stop()
                server.options = replace(server.options, model="another/model")
                threading.Timer(0.5, server.start).start()

        got = ask_all(Endpoint(options(server)), on_row=on_row)
    opened = [answer for answer in got.values() if isinstance(answer, RowOpen)]
    assert len(got) == ROWS and "no endpoint is left that serves" in str(opened[-1])
    assert "serves another/model" in capsys.readouterr().err


@pytest.mark.parametrize("api", ["tgi", "completions"])
def test_a_broken_tls_record_is_a_fault_of_the_server(api, monkeypatch):
    """httpx2 lets the OSError of ssl through, and a step takes one for a disk that fails."""

    async def broken(*arguments, **more):
        raise ssl.SSLError(1, "decryption failed or bad record mac")

    async def ask():
        async with servers.server_at("http://127.0.0.1:1", options(api=api), None) as server:
            await server.complete(servers.Request("a", 8, seed=1))

    monkeypatch.setattr(httpx2.AsyncClient, "send", broken)
    with pytest.raises(servers.ServerFault, match="SSLError"):
        asyncio.run(ask())


def test_a_server_that_accepts_and_never_answers(monkeypatch, capsys):
    """Its machine is gone, say: connections stay up, and nothing comes, not even /info."""
    monkeypatch.setattr(endpoints, "WATCH_SECONDS", 1.0)
    monkeypatch.setattr(endpoints, "CONNECT_SECONDS", 1.0)
    silent = threading.Event()

    async def hook(request, body, number):
        while silent.is_set():
            await asyncio.sleep(0.05)

    with simulated(hook) as gone, simulated() as well:
        endpoint = Endpoint(options(gone, well))
        real = endpoint._replicas[0].server.describe

        async def describe():
            await (asyncio.sleep(60) if silent.is_set() else real())

        endpoint._replicas[0].server.describe = describe
        assert_all_right(ask_all(endpoint, on_row=lambda done: silent.set() if done == 20 else None))
        assert endpoint.faults["no sign of life"] > 0
        silent.clear()
    assert f"{gone.url} rests: no sign of life" in capsys.readouterr().err


def test_a_server_that_never_answers_at_the_start(monkeypatch, capsys):
    monkeypatch.setattr(servers, "CONNECT_SECONDS", 0.3)
    with simulated() as well, socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        assert_all_right(ask_all(Endpoint(options(url, well))))
    assert f"no endpoint answers at {url}" in capsys.readouterr().err


def test_a_server_that_describes_itself_and_never_generates(monkeypatch):
    monkeypatch.setattr(endpoints, "PROBE_SECONDS", 0.5)

    async def hook(request, body, number):
        await asyncio.sleep(60)

    with simulated(hook) as mute, pytest.raises(UserError, match=r"no endpoint answers .* took over 0\.5 s"):
        Endpoint(options(mute))


def test_an_info_that_trickles_in_is_given_up(monkeypatch):
    monkeypatch.setattr(servers, "CONNECT_SECONDS", 0.5)

    def trickle():
        connection, _ = trickling.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
            for _ in range(100):
                connection.sendall(b" ")
                time.sleep(0.1)

    with socket.create_server(("127.0.0.1", 0)) as trickling:
        threading.Thread(target=trickle, daemon=True).start()
        with pytest.raises(UserError, match=r"no endpoint answers .*/info took over 0\.5 s"):
            Endpoint(options(f"http://127.0.0.1:{trickling.getsockname()[1]}"))


def test_a_key_that_cannot_be_sent_is_not_shown():
    with pytest.raises(UserError, match="--api-key holds") as refusal:
        Endpoint(options("http://127.0.0.1:1", api_key="secret\n"))
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("url", ["http://user:secret@127.0.0.1:1", "http://secret@127.0.0.1:1"])
def test_a_password_in_a_url_is_not_in_the_command(url):
    command = command_of(options(url))
    assert "secret" not in command and "http://127.0.0.1:1" in command


def test_a_password_in_a_url_is_not_in_an_error(capsys):
    with simulated() as well:
        Endpoint(options("http://user:secret@127.0.0.1:1", well))
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:1 ") as refusal:
        Endpoint(options("http://user:secret@127.0.0.1:1"))
    assert "secret" not in str(refusal.value) + capsys.readouterr().err


def test_the_key_may_come_by_the_environment(monkeypatch):
    monkeypatch.setenv("SELFALIGN_API_KEY", "secret")
    assert servers.server_at("http://127.0.0.1:1", options(), "hf_precious")._key == "secret"


def test_a_name_that_does_not_resolve(capsys):
    with simulated() as well:
        assert_all_right(ask_all(Endpoint(options("http://no-such-host.invalid:8080", well))))
    assert "no endpoint answers at http://no-such-host.invalid:8080" in capsys.readouterr().err
    with pytest.raises(UserError, match="no endpoint answers"):
        Endpoint(options("http://no-such-host.invalid:8080"))


def test_a_port_that_is_none_is_said():
    with pytest.raises(UserError, match=r"http://127.0.0.1:70000 is no URL"):
        Endpoint(options("http://127.0.0.1:70000"))


def test_servers_of_different_models_are_refused():
    with (
        simulated() as one,
        simulated(model="another/model") as other,
        pytest.raises(UserError, match="different models"),
    ):
        Endpoint(options(one, other))


def test_a_server_that_comes_back_with_another_model_is_not_used(three, capsys):
    endpoint = Endpoint(options(*three))

    def on_row(done):
        if done == 30:
            three[1].stop()
            three[1].options = replace(three[1].options, model="another/model")
        if done == 100:
            three[1].start()

    assert_all_right(ask_all(endpoint, rows=400, on_row=on_row), rows=400)
    assert not three[1].bodies and "serves another/model" in capsys.readouterr().err


def test_a_server_that_comes_back_as_something_else_is_not_used(three, capsys):
    """The port was given to another program, say."""
    endpoint = Endpoint(options(*three))

    def on_row(done):
        if done == 30:
            three[1].stop()
            three[1].without_info = True
        if done == 100:
            three[1].start()

    assert_all_right(ask_all(endpoint, rows=400, on_row=on_row), rows=400)
    assert not three[1].bodies and "is not a text-generation-inference endpoint" in capsys.readouterr().err


# Servers that do something else than they are asked -------------------------------------------------------------------


def changed(body_change):
    """A hook that changes what the server is asked for, so that it ignores it."""

    async def hook(request, body, number):
        body_change(body.get("parameters", body))

    return hook


@pytest.mark.parametrize("api", ["tgi", "completions", "chat"])
def test_a_server_that_ignores_temperature_is_refused(api):
    def greedy(asked):
        asked["temperature"], asked["do_sample"] = 0, False

    with (
        simulated(changed(greedy), median_tokens=30) as server,
        pytest.raises(UserError, match="same text twice at temperature 1"),
    ):
        Endpoint(options(server, api=api))


def test_a_server_with_one_seed_for_all_is_refused():
    with (
        simulated(changed(lambda asked: asked.update(seed=1)), median_tokens=30) as server,
        pytest.raises(UserError, match="same text twice at temperature 1"),
    ):
        Endpoint(options(server))


def test_a_server_that_ignores_seeds_is_noted(capsys):
    import random

    with simulated(changed(lambda asked: asked.update(seed=random.getrandbits(31)))) as server:
        Endpoint(options(server))
    assert "the same seed does not bring back the same text" in capsys.readouterr().err


def test_greedy_answers_that_differ_are_noted(capsys):
    import random

    def hot(asked):
        asked.update(do_sample=True, seed=random.getrandbits(31))

    with simulated(changed(hot)) as server:
        Endpoint(options(server, temperature=0.0))
    assert "two greedy answers to one prompt differ" in capsys.readouterr().err


@pytest.mark.parametrize("api", ["tgi", "completions"])
def test_a_server_that_ignores_stop_is_cut_on_our_side(api):
    with simulated(changed(lambda asked: asked.pop("stop", None))) as server:
        got = ask_all(Endpoint(options(server, api=api)), stop=[" w1", " w2"])
    for n, answer in got.items():
        whole = expected(prompt(n), n, api=api if api == "tgi" else "openai")
        ends = [end for end in (whole.find(" w1"), whole.find(" w2")) if end >= 0]
        assert answer.text == whole[: min(ends, default=None)]
        assert (answer.finish_reason == "stop_sequence") == bool(ends)


def test_stop_sequences_past_what_the_server_takes_are_cut_all_the_same():
    stop = ["a", "b", "c", "d", " w1"]
    with simulated() as server:
        got = ask_all(Endpoint(options(server)), stop=stop)
        assert all(len(body["parameters"]["stop"]) <= 4 for body in server.bodies)
    assert not any(" w1" in answer.text for answer in got.values())


def samples_of(endpoint, n, **more):
    async def run():
        async with endpoint:
            return await endpoint.sample(prompt(0), n, max_new_tokens=16, seed=0, **more)

    return [answer.text for answer in asyncio.run(run())]


def test_samples_are_requests_with_seeds_of_their_own_on_tgi():
    with simulated() as server:
        assert samples_of(Endpoint(options(server)), 5) == [expected(prompt(0), 0, number) for number in range(5)]


def test_samples_are_one_request_where_n_is_taken():
    with simulated() as server:
        endpoint = Endpoint(options(server, api="completions"))
        server.bodies.clear()
        assert samples_of(endpoint, 5) == [expected(prompt(0), 0, number, api="openai") for number in range(5)]
        assert [body["n"] for body in server.bodies] == [5]


@pytest.mark.parametrize("when", ["at the start", "later"])
def test_a_server_that_ignores_n_is_asked_once_a_sample(when, capsys):
    later = threading.Event()

    def one(asked):
        if when == "at the start" or later.is_set():
            asked.pop("n", None)

    with simulated(changed(one)) as server:
        endpoint = Endpoint(options(server, api="completions"))
        later.set()
        assert samples_of(endpoint, 5) == [expected(prompt(0), 0, number) for number in range(5)]


def test_more_samples_than_asked_for_are_a_fault():
    async def hook(request, body, number):
        if number > 3:  # after the probe
            body["n"] = 3

    with simulated(hook) as server:
        endpoint = Endpoint(options(server, api="completions"))
        got = ask_all(endpoint, rows=1)
        assert isinstance(got[0], RowOpen) and endpoint.faults["3 samples where 1 were asked for"] == endpoints.TRIES


def test_a_server_that_fails_on_seeds_is_asked_without(capsys):
    async def hook(request, body, number):
        return await status_500(request) if "seed" in body else None

    with simulated(hook) as server:
        endpoint = Endpoint(options(server, api="completions"))
        server.bodies.clear()
        got = ask_all(endpoint)
        assert len(got) == ROWS and not any(isinstance(answer, RowOpen) for answer in got.values())
        assert not any("seed" in body for body in server.bodies)
    assert endpoint.report([])["seeds"] == "not sent" and "asked without" in capsys.readouterr().err


def test_seeds_are_not_sent_where_the_user_says_so():
    with simulated() as server:
        ask_all(Endpoint(options(server, api="completions", send_seeds=False)), rows=3)
        assert not any("seed" in body for body in server.bodies)


# Limits ---------------------------------------------------------------------------------------------------------------


def test_no_more_requests_than_the_server_allows():
    with simulated(seconds_per_token=0.002, max_concurrent_requests=7) as server:
        endpoint = Endpoint(options(server))
        assert_all_right(ask_all(endpoint, width=40))
        assert server.simulation.most_running == 7 and not endpoint.faults


def test_a_smaller_concurrency_is_obeyed():
    with simulated(seconds_per_token=0.002) as server:
        ask_all(Endpoint(options(server, concurrency=3)), width=40)
        assert server.simulation.most_running == 3


def test_samples_count_against_the_concurrency_where_n_is_taken():
    with simulated() as server:
        endpoint = Endpoint(options(server, api="completions", concurrency=50), samples_a_row=10)
        assert endpoint._replicas[0].window.maximum == 5


TOO_LONG = {
    "tgi": "Input validation error: `inputs` must have less than 1023 tokens. Given: 2000",
    "tgi, both": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: 2000 `inputs`",
    "vllm": "This model's maximum context length is 2048 tokens. However, your request has 3000 input tokens.",
    "vllm, older": "The decoder prompt (length 3000) is longer than the maximum model length of 2048.",
    "sglang": "The input (3000 tokens) is longer than the model's context length (2048 tokens).",
    "llama.cpp": "the request exceeds the available context size. try increasing the context size",
    "llama-cpp-python": "This model's maximum context length is 512 tokens, however you requested 3000 tokens",
    "openai": "context_length_exceeded",
}


@pytest.mark.parametrize("words", TOO_LONG.values(), ids=TOO_LONG)
@pytest.mark.parametrize("api", ["tgi", "completions"])
def test_a_prompt_too_long_is_an_outcome(words, api):
    async def hook(request, body, number):
        if "prompt 3:" in str(body):
            error = {"error": words, "error_type": "validation"} if api == "tgi" else {"error": {"message": words}}
            return web.json_response(error, status=422 if api == "tgi" else 400)

    with simulated(hook) as server:
        got = ask_all(Endpoint(options(server, api=api)), rows=8)
    assert [n for n, answer in got.items() if answer.finish_reason == PROMPT_TOO_LONG] == [3]
    assert got[3].text == ""


def test_a_request_that_is_refused_for_another_reason_stays_open():
    async def hook(request, body, number):
        if "prompt 3:" in str(body):
            return web.json_response({"error": "no", "error_type": "validation"}, status=422)

    with simulated(hook) as server:
        got = ask_all(Endpoint(options(server)), rows=8)
    assert [n for n, answer in got.items() if isinstance(answer, RowOpen)] == [3]


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


def test_connections_are_used_again():
    peers = Counter()

    async def hook(request, body, number):
        peers[request.transport.get_extra_info("peername")] += 1

    with simulated(hook) as server:
        assert_all_right(ask_all(Endpoint(options(server)), width=4))
    assert len(peers) <= 4 + 3, "four places, and the probe's"


# The window -----------------------------------------------------------------------------------------------------------


def rounds(window, answers, refusal=lambda n: False, pace=lambda n: 1.0):
    for n in range(answers):
        window.in_flight = int(window.limit)
        window.refused() if refusal(n) else window.served(10 * pace(n), 10)
    window.in_flight = 0


def test_the_window_shrinks_to_what_the_server_takes():
    """128 of 256 are refused at once, round after round."""
    window = Window(256)
    rounds(window, 2000, refusal=lambda n: window.limit > 128 and n % 2 == 0)
    assert 100 < window.limit < 160


def test_the_window_grows_again_after_a_storm():
    window = Window(128)
    rounds(window, 1000, refusal=lambda n: True)
    assert window.limit == 1
    rounds(window, 200)
    assert window.limit > 60, "doubling at first"
    rounds(window, 20_000)
    assert window.limit == 128


def test_a_refusal_now_and_then_does_not_shrink_the_window():
    window = Window(128)
    rounds(window, 5000, refusal=lambda n: n % 20 == 0)
    assert window.limit == 128


def test_rising_latency_shrinks_the_window():
    window = Window(128)
    rounds(window, 600)
    assert window.limit == 128
    rounds(window, 600, pace=lambda n: 3.0)
    assert 64 <= window.limit < 128


def test_a_window_that_is_not_used_does_not_grow():
    window = Window(128)
    rounds(window, 500, refusal=lambda n: True)
    for _ in range(500):
        window.in_flight = 0
        window.served(1.0, 1)
    assert window.limit == 1


# Warnings -------------------------------------------------------------------------------------------------------------

TEXT = Generation("some text that is long enough", "eos_token", 16)


@pytest.mark.parametrize(
    ("samples", "times", "said"),
    {
        "equal samples": ([TEXT, TEXT, TEXT], 10, "all samples of a prompt are equal"),
        "empty answers": ([Generation("", "eos_token", 1)], 30, "answers are empty"),
        "cut off": ([Generation("a b c d", "length", 16)], 60, "cut off by --max-new-tokens"),
    }.values(),
)
def test_suspicious_answers_are_said_once(samples, times, said, capsys):
    suspicions = trust.Suspicions(temperature=0.7)
    for _ in range(times):
        suspicions.look_at(samples)
    assert capsys.readouterr().err.count(said) == 1


def test_usual_answers_raise_no_suspicion(capsys):
    suspicions = trust.Suspicions(temperature=0.7)
    for number in range(200):
        reason = "length" if number % 3 else "eos_token"
        suspicions.look_at([Generation("" if number % 4 == 0 else f"text {number}", reason, 16), TEXT])
    assert not capsys.readouterr().err


def test_greedy_samples_may_be_equal(capsys):
    suspicions = trust.Suspicions(temperature=0.0)
    for _ in range(20):
        suspicions.look_at([TEXT, TEXT])
    assert not capsys.readouterr().err


# The contract ---------------------------------------------------------------------------------------------------------


def requests_of(api, **more):
    with simulated() as server:
        endpoint = Endpoint(options(server, api=api, **more), samples_a_row=2)
        samples_of(endpoint, 2, stop=["a", "b"])
        return list(server.bodies)


@pytest.mark.parametrize("sampling", [{"temperature": 0.0}, {}, {"top_p": 0.95}, {"top_p": 1.0}], ids=str)
@pytest.mark.parametrize(
    ("api", "schema"),
    [("tgi", "CompatGenerateRequest"), ("completions", "CompletionRequest"), ("chat", "ChatRequest")],
)
def test_requests_keep_tgis_contract(api, schema, sampling):
    bodies = requests_of(api, **sampling)
    assert bodies
    for body in bodies:
        validate(body, schema)


def test_a_top_p_of_one_is_not_sent_to_tgi():
    """Its contract allows it, its router refuses it: "`top_p` must be > 0.0 and < 1.0"."""
    assert not any("top_p" in body["parameters"] for body in requests_of("tgi", top_p=1.0))


def post(url, body):
    import httpx2

    return httpx2.post(url, json=body)


@pytest.mark.parametrize(
    ("path", "schema", "body"),
    [
        ("/generate", "GenerateResponse", {"inputs": "a b", "parameters": {"max_new_tokens": 5, "details": True}}),
        ("/generate", "ErrorResponse", {"inputs": "a b", "parameters": {"max_new_tokens": 9000}}),
        ("/v1/completions", "CompletionFinal", {"prompt": ["a b"], "max_tokens": 5}),
        ("/v1/chat/completions", "ChatCompletion", {"messages": [{"role": "user", "content": "a"}], "max_tokens": 5}),
    ],
)
def test_the_simulation_keeps_tgis_contract(path, schema, body):
    with simulated() as server:
        validate(post(server.url + path, body).json(), schema)


def test_the_simulations_info_and_refusals_keep_tgis_contract():
    import httpx2

    with simulated(max_concurrent_requests=0) as server:
        validate(httpx2.get(f"{server.url}/info").json(), "Info")
        refusal = post(f"{server.url}/generate", {"inputs": "a b", "parameters": {"max_new_tokens": 5}})
        assert refusal.status_code == 429
        validate(refusal.json(), "ErrorResponse")


# Keys and commands ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", ["tgi", "chat"])
@pytest.mark.parametrize(("key", "sent"), [(None, "Bearer none"), ("secret", "Bearer secret")])
def test_the_hugging_face_token_goes_to_nobody_else(api, key, sent, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_precious")
    headers = set()

    async def hook(request, body, number):
        headers.add(request.headers.get("authorization"))

    with simulated(hook) as server:
        ask_all(Endpoint(options(server, api=api, api_key=key)), rows=2)
    assert headers == {sent}


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://router.huggingface.co/v1", True),
        ("https://abc.us-east-1.aws.endpoints.huggingface.cloud", True),
        ("http://router.huggingface.co", False),
        ("https://huggingface.co.example.org", False),
        ("https://nothuggingface.co", False),
    ],
)
def test_which_servers_are_hugging_faces_own(url, sent):
    server = servers.server_at(url, GenerationOptions(), "hf_precious")
    assert (server._key == "hf_precious") == sent


def test_endpoints_are_repeated_on_the_command_line():
    import tyro

    parsed = tyro.cli(GenerationOptions, args=["--endpoint", "http://a", "--endpoint", "http://b"])
    assert parsed.endpoint == ("http://a", "http://b")


# The steps ------------------------------------------------------------------------------------------------------------


def test_samples_through_completions_as_a_command(tmp_path):
    from tests.scripts.test_generating import TASKS, generate, run_json

    with simulated() as server:
        options = ("--samples", "3", "--api", "completions", "--price-per-hour", "3600")
        rows = generate("sample_responses", TASKS, tmp_path, server.url, *options)
        assert max(body.get("n", 1) for body in server.bodies) == 3
    assert len({row["completion"] for row in rows}) == len(rows) == 9
    used = run_json(tmp_path / "out")["generation"]
    assert used["tokens"] == sum(row["generated_tokens"] for row in rows) and used["requests"] == 3
    assert used["cost"] == pytest.approx(used["seconds"], abs=0.1), "a dollar a second"
    assert "tokens/s" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("by_hand", [False, True])
def test_what_shards_used_is_added_up(tmp_path, by_hand):
    from tests.helpers import command, run_json, write_rows
    from tests.scripts.test_generating import small

    rows = [{"id": f"seed{i:03d}", "content": f"def f{i}(): return {i}"} for i in range(40)]
    source = write_rows(tmp_path / "in.jsonl", rows)
    with simulated() as server:
        step = command("generate_concepts", source, tmp_path / "out", *small(server.url))
        step += ["--price-per-hour", "3600"]
        shards = [["--shard", "0/2"], ["--shard", "1/2"]] if by_hand else [["--executor", "local", "--shards", "2"]]
        environment = os.environ | {"HF_HUB_OFFLINE": "1"}
        for process in [subprocess.Popen([*step, *shard], env=environment) for shard in shards]:
            assert process.wait(120) == 0
    used = run_json(tmp_path / "out")["generation"]
    tokens = [part.used["tokens"] for part in FolderOutput(str(tmp_path / "out"), Shard(0, 1)).parts()]
    assert used["requests"] == 40 and len(tokens) == 2 and used["tokens"] == sum(tokens) > max(tokens)
    assert used["cost"] == pytest.approx(used["seconds"], abs=0.01)


def test_what_was_used_for_rows_that_stay_open_is_counted(tmp_path):
    """And what a run used that went on later; the first one ends with rows open and no row done."""
    from tests.runner.doubling import COLUMNS, double, numbers
    from tests.runner.doubling import options as of_step

    asked = []

    async def ask(row):
        await endpoint.generate(prompt(row["number"]), max_new_tokens=16, seed=1)
        asked.append(row)
        if len(asked) <= 5:
            raise RowOpen("no luck")
        return double(row)

    with simulated() as server:
        endpoint = Endpoint(options(server))
        with pytest.raises(SystemExit):
            run_step(of_step(tmp_path), Table(numbers(5), ask, COLUMNS), endpoint=endpoint)
        endpoint = Endpoint(options(server))
        run = run_step(of_step(tmp_path), Table(numbers(5), ask, COLUMNS), endpoint=endpoint)
    assert run["generation"]["requests"] == 10 and run["complete"]


def test_ctrl_c_and_again_lose_and_double_nothing(tmp_path):
    import signal

    from tests.helpers import command, read_rows, write_rows
    from tests.scripts.test_generating import small

    rows = [{"id": f"seed{i:03d}", "content": f"def f{i}(): return {i}"} for i in range(300)]
    source = write_rows(tmp_path / "in.jsonl", rows)
    with simulated(seconds_per_token=0.05) as server:
        words = command("generate_concepts", source, tmp_path / "out", *small(server.url), "--concurrency", "10")
        environment = os.environ | {"HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        while len(server.bodies) < 60:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 130 and "Traceback" not in errors and "run the same command again" in errors
        server.options.seconds_per_token = 0.0
        subprocess.run(words, check=True, env=environment, capture_output=True)
    assert sorted(row["seed_id"] for row in read_rows(tmp_path / "out")) == [row["id"] for row in rows]
    assert json.loads(Path(tmp_path / "out" / "run.json").read_text())["generation"]["requests"] >= 300
