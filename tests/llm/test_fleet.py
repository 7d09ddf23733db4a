"""Several servers: the load is shared, and servers may die, come back, or come back as something else."""

import asyncio
import contextlib
import socket
import sys
import threading
import time
from dataclasses import replace

import aiohttp
import pytest
from aiohttp import web

from selfalign.errors import RowOpen, UserError
from selfalign.llm import client, replica
from selfalign.llm.completion import Completion, CompletionRequest
from selfalign.llm.endpoint import Endpoint
from selfalign.llm.fleet import Fleet
from selfalign.llm.usage import Usage
from tests.fakes.server import simulated
from tests.helpers import WRITE_ERRORS, Unwritable
from tests.llm.asking import ROWS, ask_all, assert_all_right, open_rows, options


@pytest.fixture
def three():
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(simulated(seconds_per_token=0.002)) for _ in range(3)]


def when(events):
    """An `on_row` that calls functions, each in a thread, after so many rows."""
    return lambda done: threading.Thread(target=events[done]).start() if done in events else None


def come_back(server, **changes):
    """Stop the server, and start it half a second later with other options."""
    server.stop()
    server.options = replace(server.options, **changes)
    time.sleep(0.5)
    server.start()


def test_the_least_loaded_server_is_asked(three):
    assert_all_right(ask_all(Endpoint(options(*three)), rows=90), rows=90)
    asked = [len(server.bodies) for server in three]
    assert min(asked) > 0.6 * max(asked)


def test_a_server_is_killed_and_started_again_in_mid_run(three, capsys):
    on_row = when({60: three[1].stop, 150: three[1].start})
    assert_all_right(ask_all(Endpoint(options(*three)), rows=600, width=32, on_row=on_row), rows=600)
    assert len(three[1].bodies) > 0, "it was used again"
    said = capsys.readouterr().err
    assert f"{three[1].url} is not used for a while" in said and f"{three[1].url} answers again" in said


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model": "another/model"}, "now serves another/model"),
        ({"has_info": False}, "is not a text-generation-inference endpoint"),
    ],
    ids=str,
)
def test_a_server_that_comes_back_as_another_is_not_used(three, capsys, change, complaint):
    def stop():
        three[1].stop()
        three[1].options = replace(three[1].options, **change)

    on_row = when({30: stop, 100: three[1].start})
    assert_all_right(ask_all(Endpoint(options(*three)), rows=400, on_row=on_row), rows=400)
    assert not three[1].bodies and complaint in capsys.readouterr().err


@pytest.mark.parametrize("api", ["tgi", "completions"])
def test_a_server_that_is_named_in_two_ways_is_one(api):
    with simulated() as server:
        endpoint = Endpoint(options(*(f"{server.url}{end}" for end in ("", "/", "/v1", "/v1/")), api=api))
        assert [each.client.url for each in endpoint._fleet.replicas] == [server.url]


# None is left ---------------------------------------------------------------------------------------------------------


def test_when_none_is_left_the_run_waits_and_says_so(capsys):
    with simulated() as server:
        on_row = when({20: lambda: come_back(server)})
        assert_all_right(ask_all(Endpoint(options(server)), rows=200, on_row=on_row), rows=200)
    assert "no endpoint is left: waiting up to 5 s" in capsys.readouterr().err


@pytest.mark.parametrize("error", WRITE_ERRORS, ids=repr)
@pytest.mark.parametrize("back_as", ["itself", "another/model"])
def test_no_row_waits_for_ever_because_standard_error_cannot_be_written(monkeypatch, error, back_as):
    changes = {"model": back_as} if back_as != "itself" else {}
    with simulated() as server:
        endpoint = Endpoint(options(server))
        monkeypatch.setattr(sys, "stderr", Unwritable(error))
        got = ask_all(endpoint, on_row=when({20: lambda: come_back(server, **changes)}))
    assert len(got) == ROWS and bool(open_rows(got)) == bool(changes)


def test_patience_ends_and_rows_stay_open():
    with simulated() as server:
        endpoint = Endpoint(options(server, patience=0.5))
        got = ask_all(endpoint, on_row=lambda done: server.stop() if done == 20 else None)
    assert len(got) == ROWS and len(open_rows(got)) > 40
    assert_all_right(got, without=open_rows(got))


def test_patience_ends_though_an_answer_comes_after_the_last_server_was_found_to_be_gone(capsys):
    async def last_answer(request, body, number):
        if "prompt 0:" in str(body):
            await asyncio.sleep(0.9)
        elif "prompt 1:" in str(body):
            await server.stop_listening()
            request.transport.abort()

    with simulated(last_answer) as server:
        got = ask_all(Endpoint(options(server, patience=1.5)), rows=4, width=2)
    assert open_rows(got) == [1, 2, 3]
    assert_all_right(got, rows=4, without=[1, 2, 3])
    assert "no endpoint is left" in capsys.readouterr().err


def test_patience_begins_when_the_servers_fail():
    """The first answers may take longer than the patience."""

    async def slow(request, body, number):
        await asyncio.sleep(2 * ("prompt 0:" in str(body)))

    with simulated(slow) as server:
        endpoint = Endpoint(options(server, patience=1.5))
        threading.Timer(1.8, come_back, [server]).start()
        assert_all_right(ask_all(endpoint, rows=1, width=1), rows=1)


def test_when_the_only_server_comes_back_as_another_no_row_waits_for_ever(capsys):
    with simulated() as server:
        on_row = when({20: lambda: come_back(server, model="another/model")})
        got = ask_all(Endpoint(options(server)), on_row=on_row)
    opened = [answer for answer in got.values() if isinstance(answer, RowOpen)]
    assert len(got) == ROWS and "no endpoint is left that serves" in str(opened[-1])
    assert "now serves another/model" in capsys.readouterr().err


class Vanishing:
    """The client of a server that may vanish, or be too slow for a GET for a moment. If it vanishes, whoever waits for
    an answer waits for ever, without being told, and it counts what it generates from 0."""

    url, model, revision, concurrency, takes_n, is_there, starts = "http://host", "model", None, 16, False, True, 0
    steps = 0

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc):
        pass

    async def describe(self):
        if not self.is_there:
            raise client.Unreachable("ConnectError")

    async def generated(self):
        return self.steps

    async def ask(self, request):
        await self.describe()
        starts = self.starts
        for _ in range(1 if request.prompt == "another" else 40):
            await asyncio.sleep(0.1)
            if starts != self.starts:
                await asyncio.Event().wait()
            self.steps += 1
        return [Completion("text", "stop", 1)]


def gone_for_a_moment(monkeypatch, *, restarts):
    """Eight requests are under way when one more finds a server gone; a moment later it is there, the same or anew."""

    async def run():
        async with fleet:
            ask = lambda prompt: asyncio.ensure_future(fleet.complete(CompletionRequest(prompt, 1, 1)))  # noqa: E731
            rows = [ask("prompt") for _ in range(8)]
            await asyncio.sleep(0.05)
            server.is_there, server.starts = False, int(restarts)
            rows.append(ask("another"))
            await asyncio.sleep(0.03)
            server.is_there = True
            if restarts:
                server.steps = 0
            return await asyncio.wait_for(asyncio.gather(*rows), 20)

    monkeypatch.setattr(replica, "WATCH_SECONDS", 0.5)
    server, usage = Vanishing(), Usage()
    only = replica.Replica(server)
    only.was_probed = True
    fleet = Fleet([only], options("http://host"), usage)
    fleet.identity = only.identity
    assert len(asyncio.run(run())) == 9
    return usage.faults


def test_requests_to_a_server_that_has_been_gone_meanwhile_are_sent_again(monkeypatch, capsys):
    """It is back before they are looked at. What was lost with it is no new reason to rest it."""
    assert gone_for_a_moment(monkeypatch, restarts=True)["gone while it answered"] == 8
    assert capsys.readouterr().err.count("is not used for a while") == 1


def test_requests_to_a_server_that_was_only_slow_to_say_what_it_is_go_on(monkeypatch):
    assert gone_for_a_moment(monkeypatch, restarts=False)["gone while it answered"] == 0


# At the start ---------------------------------------------------------------------------------------------------------


def test_servers_of_different_models_are_refused():
    refusal = pytest.raises(UserError, match="different models")
    with simulated() as one, simulated(model="another/model") as other, refusal:
        Endpoint(options(one, other))


def test_a_server_that_does_not_answer_is_done_without(monkeypatch, capsys):
    monkeypatch.setattr(client, "CONNECT_SECONDS", 0.3)
    with simulated() as well, socket.create_server(("127.0.0.1", 0)) as mute:
        urls = [f"http://127.0.0.1:{mute.getsockname()[1]}", "http://no-such-host.invalid:8080"]
        assert_all_right(ask_all(Endpoint(options(*urls, well))))
    said = capsys.readouterr().err
    assert all(f"no endpoint answers at {url}" in said for url in urls)


def test_a_server_that_describes_itself_and_never_generates(monkeypatch):
    monkeypatch.setattr(replica, "PROBE_SECONDS", 0.5)
    monkeypatch.setattr(replica, "WATCH_SECONDS", 0.2)

    async def hook(request, body, number):
        await asyncio.sleep(60)

    with simulated(hook) as mute, pytest.raises(UserError, match=r"no endpoint answers .* took more than 0\.5 s"):
        Endpoint(options(mute))


@contextlib.contextmanager
def others_requests(server, at_a_time):
    """Another client, which always has so many requests of one token at the server."""
    body, done = {"inputs": "other", "parameters": {"max_new_tokens": 1}}, threading.Event()

    async def ask(session):
        while not done.is_set():
            async with session.post(f"{server.url}/generate", json=body) as answer:
                assert answer.status == 200

    async def ask_all_the_time():
        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(ask(session) for _ in range(at_a_time)))

    other = threading.Thread(target=asyncio.run, args=(ask_all_the_time(),))
    other.start()
    try:
        while server.most_running < at_a_time:
            time.sleep(0.01)
        yield
    finally:
        done.set()
        other.join()


@pytest.mark.parametrize("api", ["tgi", "completions"])
def test_a_server_that_is_busy_with_others_is_used(monkeypatch, capsys, api):
    """Each request waits for 25 of another client, which is longer than the probe, and than a deadline."""
    for name, seconds in {"PROBE_SECONDS": 0.5, "WATCH_SECONDS": 0.2, "BASE_SECONDS": 1.5}.items():
        monkeypatch.setattr(replica, name, seconds)
    monkeypatch.setattr(replica, "SECONDS_PER_TOKEN", 0.0)
    with simulated(places=1, seconds_per_token=0.1) as server, others_requests(server, 25):
        endpoint = Endpoint(options(server, api=api))
        assert "it is busy with the requests of others" in capsys.readouterr().err
        assert_all_right(ask_all(endpoint, rows=2, max_new_tokens=1), rows=2, max_new_tokens=1, api=api)
        assert not endpoint.usage.faults


def test_an_info_that_trickles_in_is_given_up(monkeypatch):
    monkeypatch.setattr(client, "CONNECT_SECONDS", 0.5)

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


def test_a_port_that_cannot_be():
    with pytest.raises(UserError, match=r"http://127\.0\.0\.1:70000 is not a URL"):
        Endpoint(options("http://127.0.0.1:70000"))


def test_a_server_that_only_refuses_is_left_alone_while_another_answers():
    async def refuse(request, body, number):
        return web.Response(status=503) if number > 5 else None

    with simulated(seconds_per_token=0.002) as well, simulated(refuse) as broken:
        assert_all_right(ask_all(Endpoint(options(well, broken)), rows=200), rows=200)
    assert len(broken.bodies) < 50


def test_patience_with_refusals_is_for_all_rows_together():
    async def refuse(request, body, number):
        return web.Response(status=429) if number > 10 else None

    with simulated(refuse) as server:
        endpoint = Endpoint(options(server, patience=1))
        got = ask_all(endpoint, rows=60, width=4)
    assert len(open_rows(got)) > 40 and "has been busy for 1 s" in str(got[59])
    asked = [sum(f"prompt {row}:" in str(body) for body in server.bodies) for row in range(30, 60)]
    assert asked == [1] * 30, "they do not wait for a second each"
