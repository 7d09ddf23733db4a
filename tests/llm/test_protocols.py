"""What is sent: requests and the simulated server's answers keep TGI's contract, and secrets stay where they belong."""

import socket
import sys

import httpx2
import pytest
import tyro
from aiohttp import web

from selfalign.errors import UserError
from selfalign.llm.endpoint import Endpoint, client_for
from selfalign.llm.openai import shares_of
from selfalign.options import GenerationOptions, command_of
from tests.fakes.server import simulated
from tests.fakes.tgi_contract import validate
from tests.llm.asking import ask_all, options, samples_of


def requests_of(api, **more):
    with simulated() as server:
        samples_of(Endpoint(options(server, api=api, **more), samples_a_row=2), 2, stop=["a", "b"])
        assert server.bodies
        return server.bodies


@pytest.mark.parametrize("sampling", [{"temperature": 0.0}, {}, {"top_p": 0.95}, {"top_p": 1.0}], ids=str)
@pytest.mark.parametrize(
    ("api", "schema"), [("tgi", "CompatGenerateRequest"), ("completions", "CompletionRequest"), ("chat", "ChatRequest")]
)
def test_requests_keep_tgis_contract(api, schema, sampling):
    for body in requests_of(api, **sampling):
        validate(body, schema)


def test_a_top_p_of_one_is_not_sent_to_tgi():
    """Its contract allows it, its router refuses it: "`top_p` must be > 0.0 and < 1.0"."""
    assert not any("top_p" in body["parameters"] for body in requests_of("tgi", top_p=1.0))


@pytest.mark.parametrize("api", ["tgi", "completions", "chat"])
def test_greedy_requests_say_nothing_of_sampling(api):
    """TGI's chat, and that of serve.py, sample at temperature 0 if there is a top_p."""
    for body in requests_of(api, temperature=0.0, top_p=0.95):
        assert not {"top_p", "seed"} & {*body, *body.get("parameters", ())}


TGI_REQUEST = {"inputs": "a b", "parameters": {"max_new_tokens": 5, "details": True}}
CHAT_REQUEST = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 5}


@pytest.mark.parametrize(
    ("path", "body", "places", "status", "schema"),
    [
        ("/info", None, 128, 200, "Info"),
        ("/generate", TGI_REQUEST, 128, 200, "GenerateResponse"),
        ("/generate", TGI_REQUEST, 0, 429, "ErrorResponse"),
        ("/generate", {"inputs": "a b", "parameters": {"max_new_tokens": 9000}}, 128, 422, "ErrorResponse"),
        ("/v1/completions", {"prompt": ["a b"], "max_tokens": 5}, 128, 200, "CompletionFinal"),
        ("/v1/chat/completions", CHAT_REQUEST, 128, 200, "ChatCompletion"),
    ],
)
def test_the_simulated_server_keeps_tgis_contract(path, body, places, status, schema):
    with simulated(max_concurrent_requests=places) as server:
        answer = httpx2.request("POST" if body else "GET", server.url + path, json=body)
    assert answer.status_code == status
    validate(answer.json(), schema)


def test_endpoints_are_repeated_on_the_command_line():
    parsed = tyro.cli(GenerationOptions, args=["--endpoint", "http://a", "--endpoint", "http://b"])
    assert parsed.endpoint == ("http://a", "http://b")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"finish_reason": "stop"}, "stop"),
        ({"finish_reason": "stop", "stop_reason": None}, "eos_token"),  # vLLM
        ({"finish_reason": "stop", "stop_reason": "###"}, "stop_sequence"),
        ({"finish_reason": "eos"}, "eos_token"),  # Together
    ],
)
def test_a_finished_answer_is_one_however_the_server_says_so(said, reason):
    async def hook(request, body, number):
        choices = [{"index": n, "text": f"text {number} {n}", **said} for n in range(body.get("n", 1))]
        return web.json_response({"choices": choices, "usage": {"completion_tokens": 3}})

    with simulated(hook) as server:
        (sample,) = samples_of(Endpoint(options(server, api="completions")), 1)
    assert sample.finish_reason == reason


# Secrets --------------------------------------------------------------------------------------------------------------


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
    ("url", "is_sent"),
    [
        ("https://router.huggingface.co/v1", True),
        ("https://abc.us-east-1.aws.endpoints.huggingface.cloud", True),
        ("http://router.huggingface.co", False),
        ("https://huggingface.co.example.org", False),
        ("https://nothuggingface.co", False),
    ],
)
def test_which_servers_are_hugging_faces_own(url, is_sent, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_precious")
    assert client_for(url, options())._key == ("hf_precious" if is_sent else "none")
    monkeypatch.setenv("SELFALIGN_API_KEY", "secret")
    assert client_for(url, options())._key == "secret"


def test_a_key_that_cannot_be_sent_is_not_shown():
    with pytest.raises(UserError, match="--api-key contains") as refusal:
        Endpoint(options("http://127.0.0.1:1", api_key="secret\n"))
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("url", ["http://user:secret@127.0.0.1:1", "http://secret@127.0.0.1:1"])
def test_a_password_in_a_url_is_shown_nowhere(url, capsys):
    with simulated() as well:
        Endpoint(options(url, well))
    with pytest.raises(UserError) as refusal:
        Endpoint(options(url))
    for shown in (command_of(options(url)), capsys.readouterr().err, str(refusal.value)):
        assert "http://127.0.0.1:1" in shown and "secret" not in shown


@pytest.mark.parametrize(
    ("tokens", "lengths", "most", "shares"),
    [
        (32, [90, 10], 16, [16, 16]),  # both were cut off, and one has longer words
        (20, [10, 30], 16, [5, 15]),
        (34, [90, 10], 16, [17, 17]),  # a server that counts the token which ends the text
        (7, [0, 0], 16, [7, 0]),
        (5, [3], 16, [5]),
    ],
)
def test_samples_share_the_tokens_that_a_server_counts_together(tokens, lengths, most, shares):
    assert shares_of(tokens, lengths, most) == shares


@pytest.mark.parametrize("api", ["tgi", "completions"])
@pytest.mark.parametrize("proxied", [False, True])
def test_connections_are_kept_alive_and_proxies_of_the_environment_are_used(monkeypatch, api, proxied):
    """The proxy is the simulated server, so it answers for a host that does not exist."""

    def noting(connection, *option):
        chosen.add(option[:2])
        return choose(connection, *option)

    choose, chosen = socket.socket.setsockopt, set()
    monkeypatch.setattr(socket.socket, "setsockopt", noting)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with simulated() as server:
        if proxied:
            monkeypatch.setenv("http_proxy", server.url)
        samples_of(Endpoint(options("http://no-such-host.invalid" if proxied else server, api=api)), 1)
        assert server.bodies
    kept_alive = {(socket.SOL_SOCKET, socket.SO_KEEPALIVE), (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)}
    assert proxied or kept_alive <= chosen


@pytest.mark.parametrize("scheme", ["socks", "socks5"])
def test_a_proxy_that_cannot_be_used_is_said(monkeypatch, scheme):
    monkeypatch.setitem(sys.modules, "socksio", None)  # it is not installed
    monkeypatch.setenv("all_proxy", f"{scheme}://127.0.0.1:1")
    with simulated() as server, pytest.raises(UserError, match=r"a proxy of the environment .* can't be used"):
        Endpoint(options(server))
