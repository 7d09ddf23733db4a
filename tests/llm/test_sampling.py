"""Samples are what was asked for: seeds, `n`, stop sequences, and servers that ignore them."""

import random
import re
import sys
import threading

import pytest
from aiohttp import web

from selfalign.errors import UserError
from selfalign.llm.completion import Completion
from selfalign.llm.endpoint import Endpoint
from selfalign.llm.probe import PROBES, Suspicions
from tests.fakes.server import expected, simulated
from tests.helpers import WRITE_ERRORS, Unwritable
from tests.llm.asking import ask_all, assert_all_right, changing, open_rows, options, prompt, samples_of


@pytest.mark.parametrize(("api", "requests"), [("tgi", 5), ("completions", 1)])
def test_samples_are_requests_with_seeds_of_their_own_or_one_request_with_n(api, requests):
    with simulated() as server:
        endpoint = Endpoint(options(server, api=api))
        server.bodies.clear()
        texts = [expected(prompt(0), 0, number, api=api) for number in range(5)]
        assert [sample.text for sample in samples_of(endpoint, 5)] == texts and len(server.bodies) == requests
        assert all(body.get("n", 1) == 5 // requests for body in server.bodies)


@pytest.mark.parametrize("when", ["at the start", "later"])
def test_a_server_that_ignores_n_is_asked_once_a_sample(when):
    later = threading.Event()

    def ignore_n(asked):
        if when == "at the start" or later.is_set():
            asked.pop("n", None)

    with simulated(changing(ignore_n)) as server:
        endpoint = Endpoint(options(server, api="completions"))
        later.set()
        texts = [expected(prompt(0), 0, number) for number in range(5)]
        assert [sample.text for sample in samples_of(endpoint, 5)] == texts


@pytest.mark.parametrize("status", [400, 500])  # of some providers; of llama.cpp before it took n
def test_a_server_that_refuses_n_is_asked_once_a_sample(status):
    async def hook(request, body, number):
        refusal = {"error": {"code": status, "message": "Only one completion choice is allowed"}}
        return web.json_response(refusal, status=status) if "n" in body else None

    with simulated(hook) as server:
        texts = [expected(prompt(0), 0, number) for number in range(5)]
        assert [sample.text for sample in samples_of(Endpoint(options(server, api="completions")), 5)] == texts


def test_a_server_that_fails_on_seeds_is_asked_without(capsys):
    async def hook(request, body, number):
        return web.Response(status=500) if "seed" in body else None

    with simulated(hook) as server:
        endpoint = Endpoint(options(server, api="completions"))
        server.bodies.clear()
        assert not open_rows(ask_all(endpoint))
        assert not any("seed" in body for body in server.bodies)
    assert endpoint.report([])["seeds"] == "not sent" and "so none are sent" in capsys.readouterr().err


def test_a_server_that_was_busy_at_the_start_gets_seeds():
    async def busy_at_first(request, body, number):
        return web.Response(status=429) if number == 1 else None

    with simulated(busy_at_first) as server:
        assert_all_right(ask_all(Endpoint(options(server, api="completions"))), api="openai")


def test_seeds_are_not_sent_where_the_user_says_so():
    with simulated() as server:
        ask_all(Endpoint(options(server, api="completions", send_seeds=False)), rows=3)
        assert not any("seed" in body for body in server.bodies)


@pytest.mark.parametrize("api", ["tgi", "completions"])
def test_a_server_that_ignores_stop_is_cut_on_our_side(api):
    with simulated(changing(lambda asked: asked.pop("stop", None))) as server:
        got = ask_all(Endpoint(options(server, api=api)), stop=[" w1", " w2"])
    for n, answer in got.items():
        whole = expected(prompt(n), n, api=api)
        assert answer.text == re.split(" w1| w2", whole)[0]
        assert (answer.finish_reason == "stop_sequence") == (answer.text != whole)


def test_stop_sequences_past_what_the_server_takes_are_cut_all_the_same():
    with simulated() as server:
        got = ask_all(Endpoint(options(server)), stop=["a", "b", "c", "d", " w1"])
        assert all(len(body["parameters"]["stop"]) <= 4 for body in server.bodies)
    assert not any(" w1" in answer.text for answer in got.values())


# The probe ------------------------------------------------------------------------------------------------------------


GREEDY = {"temperature": 0, "do_sample": False}


@pytest.mark.parametrize(
    ("api", "changes"), [("tgi", GREEDY), ("completions", GREEDY), ("chat", GREEDY), ("tgi", {"seed": 1})]
)
def test_a_server_whose_samples_are_equal_is_refused(api, changes):
    refusal = pytest.raises(UserError, match="same text twice for 4 different prompts")
    with simulated(changing(lambda asked: asked.update(changes)), median_tokens=30) as server, refusal:
        Endpoint(options(server, api=api))


def repeating(texts, logprob):
    """A hook of a server whose model gives each prompt of `texts` one text only, with this log-probability a token."""

    async def answer(request, body, number):
        if (text := texts.get(body["inputs"])) is None:
            return None
        tokens = [{"id": 0, "text": word, "logprob": logprob, "special": False} for word in text.split()]
        details = {
            "finish_reason": "length",
            "generated_tokens": len(tokens),
            "seed": 1,
            "prefill": [],
            "tokens": tokens,
        }
        return web.json_response({"generated_text": text, "details": details})

    return answer


NUMBERS = "1 2 3 4 5 6 7 8 9"


def test_a_confident_model_is_not_taken_for_a_deaf_server(capsys):
    """It continues the first prompt in one way only, as Qwen2.5-Coder-0.5B-Instruct does, but not the others."""
    with simulated(repeating({PROBES[0]: NUMBERS}, -0.5), median_tokens=30) as server:
        Endpoint(options(server))
    assert "temperature" not in capsys.readouterr().err


def test_a_model_that_always_repeats_itself_gets_a_remark(capsys):
    with simulated(repeating(dict.fromkeys(PROBES, NUMBERS), -0.01)) as server:
        Endpoint(options(server))
    assert "so sure of every token" in capsys.readouterr().err


def test_a_server_that_repeats_what_its_model_is_not_sure_of_is_refused():
    refusal = pytest.raises(UserError, match="same text twice for 4 different prompts")
    with simulated(repeating(dict.fromkeys(PROBES, NUMBERS), -0.5)) as server, refusal:
        Endpoint(options(server))


@pytest.mark.parametrize(
    ("temperature", "remark"),
    [(0.7, "the same seed does not give the same text again"), (0.0, "two greedy answers to the same prompt differ")],
)
def test_a_server_that_ignores_seeds_or_greed_is_noted(temperature, remark, capsys):
    def draw_anew(asked):
        asked.update(do_sample=True, seed=random.getrandbits(31))

    with simulated(changing(draw_anew)) as server:
        Endpoint(options(server, temperature=temperature))
    assert remark in capsys.readouterr().err


@pytest.mark.parametrize(("api", "other"), [("completions", "chat"), ("chat", "completions")])
def test_a_server_without_the_interface_is_refused_with_those_to_try(api, other):
    async def hook(request, body, number):
        return web.Response(text="404: Not Found", status=404)

    refusal = pytest.raises(UserError, match=rf"if it has no /v1/.*completions, use --api tgi or --api {other}$")
    with simulated(hook) as server, refusal:
        Endpoint(options(server, api=api))


# Suspicions during the run --------------------------------------------------------------------------------------------

TEXT = Completion("some text that is long enough", "eos_token", 16)
EMPTY = Completion("", "eos_token", 1)
CUT_OFF = Completion("a b c d", "length", 16)


@pytest.mark.parametrize(
    ("temperature", "prompts", "warnings"),
    {
        "equal samples": (0.7, [[TEXT, TEXT, TEXT]] * 10, ["all samples are the same"]),
        "empty answers": (0.7, [[EMPTY]] * 30, ["answers are empty"]),
        "cut off": (0.7, [[CUT_OFF]] * 60, ["cut off by --max-new-tokens"]),
        "usual answers": (0.7, [[EMPTY, TEXT], [CUT_OFF, TEXT], [CUT_OFF, TEXT]] * 70, []),
        "greedy": (0.0, [[TEXT, TEXT]] * 20, []),
    }.values(),
)
def test_suspicious_answers_are_warned_of_once(temperature, prompts, warnings, capsys):
    suspicions = Suspicions(temperature)
    for samples in prompts:
        suspicions.look_at(samples)
    said = capsys.readouterr().err
    assert said.count("warning: ") == len(warnings) and all(warning in said for warning in warnings)


@pytest.mark.parametrize("error", WRITE_ERRORS, ids=repr)
def test_a_warning_that_cannot_be_written_is_no_fault_of_the_row(monkeypatch, error):
    monkeypatch.setattr(sys, "stderr", Unwritable(error))
    suspicions = Suspicions(0.7)
    for _ in range(30):
        suspicions.look_at([EMPTY])
    assert suspicions.warned == {"empty"}
