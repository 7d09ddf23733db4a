"""TGI's HTTP interface: its contract, its refusals, and its own client."""

import asyncio
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import AsyncInferenceClient
from transformers import AutoModelForCausalLM, AutoTokenizer

from selfalign.llm.client import GENERATED
from server.app import App, Limits
from server.engine import Engine
from tests.fakes.tgi_contract import validate
from tests.server.client import PROMPT, generate, request, text, texts_at_once


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.7, "seed": 3}], ids=str)
def test_generate_keeps_the_contract(url: str, sampling: dict[str, Any]):
    validate(generate(url, **sampling), "GenerateResponse")


@pytest.mark.parametrize(("given", "begins_with"), [({}, PROMPT), ({"return_full_text": False}, "")], ids=str)
def test_root_repeats_the_prompt_unless_asked_not_to(url: str, given: dict[str, Any], begins_with: str):
    (item,) = json.loads(request(url, {"inputs": PROMPT, "parameters": {"max_new_tokens": 5, **given}})[1])
    validate(item, "GenerateResponse")
    assert item["generated_text"] == begins_with + text(url, max_new_tokens=5)


def test_info_has_the_limits_and_health_is_good(url: str):
    info = json.loads(request(f"{url}/info")[1])
    validate(info, "Info")
    assert (info["max_input_tokens"], info["max_total_tokens"], info["max_concurrent_requests"]) == (299, 300, 128)
    assert request(f"{url}/health")[0] == 200


def test_metrics_tell_that_the_model_works(url: str):
    def count() -> float:
        status, answer = request(f"{url}/metrics")
        assert status == 200
        return sum(map(float, GENERATED.findall(answer.decode())))

    before = count()
    generate(url, max_new_tokens=5)
    assert count() >= before + 5 > before


def test_tokenize_gives_ids_and_offsets(url: str, tiny_model: Path):
    tokens = json.loads(request(f"{url}/tokenize", {"inputs": PROMPT})[1])
    validate(tokens, "TokenizeResponse")
    assert [token["id"] for token in tokens] == AutoTokenizer.from_pretrained(tiny_model)(PROMPT).input_ids
    assert "".join(token["text"] for token in tokens) == PROMPT


def test_no_prompt_is_cut_or_filled_up_as_the_training_data_was(tiny_model: Path, tmp_path: Path):
    """A tokenizer is stored with the lengths that it was last called with."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)
    tokenizer(PROMPT, truncation=True, max_length=5, padding="max_length")
    tokenizer.save_pretrained(tmp_path)
    stored = AutoTokenizer.from_pretrained(tmp_path)
    app = App(Engine(model, stored, 1), Limits(1, 299, 300), "tiny")
    for prompt in ("a", PROMPT):
        assert app.tokenizer.encode(prompt).ids == tokenizer(prompt).input_ids


def test_hugging_faces_client_is_answered(url: str):
    async def ask():
        async with AsyncInferenceClient(url) as client:
            options: dict[str, Any] = {"max_new_tokens": 12, "temperature": 0.7, "seed": 1, "return_full_text": False}
            return await client.text_generation(PROMPT, details=True, **options)

    answer = asyncio.run(ask())
    assert answer.details.generated_tokens == len(answer.details.tokens) == 12
    assert answer.details.finish_reason == "length"
    assert answer.generated_text == text(url, max_new_tokens=12, temperature=0.7, seed=1)


# Refusals -------------------------------------------------------------------------------------------------------------


def refusal(url: str, body: Any, path: str = "/generate") -> str:
    """The message with which a request is refused as invalid."""
    status, answer = request(f"{url}{path}", body)
    error = json.loads(answer)
    validate(error, "ErrorResponse")
    assert (status, error["error_type"]) == (422, "validation")
    return error["error"]


INVALID = {
    "temperature": [0, -1.0, "hot"],
    "top_p": [2, 1.0],  # 1.0 is refused by TGI, too
    "top_k": [0],
    "max_new_tokens": [0, True, 300],
    "seed": [-1],
    "stop": [["a", "b", "c", "d", "e"], [""], "a"],
    "truncate": [0],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in INVALID.items() for value in values])
def test_invalid_parameters_are_refused(url: str, name: str, value: Any):
    assert name in refusal(url, {"inputs": PROMPT, "parameters": {name: value}})


@pytest.mark.parametrize(
    ("name", "value", "off"),
    [
        ("best_of", 2, 1),
        ("decoder_input_details", True, False),
        ("grammar", {"type": "regex", "value": "a"}, None),
        ("repetition_penalty", 1.3, 1.0),
        ("top_n_tokens", 5, None),
        ("typical_p", 0.9, None),
        ("watermark", True, False),
    ],
)
def test_what_is_not_supported_is_refused_and_may_be_off(url: str, name: str, value: Any, off: Any):
    said = refusal(url, {"inputs": PROMPT, "parameters": {name: value}})
    assert said.startswith(f"Input validation error: serve.py does not support `{name}`")
    assert text(url, **{name: off}) == text(url)


@pytest.mark.parametrize("path", ["/", "/generate"])
def test_streaming_is_refused_and_may_be_off(url: str, path: str):
    body = {"inputs": PROMPT, "parameters": {"max_new_tokens": 5}}
    assert "`stream`" in refusal(url, body | {"stream": True}, path)
    assert request(f"{url}{path}", body | {"stream": False})[0] == 200
    assert "use /generate" in refusal(url, {"inputs": PROMPT}, "/generate_stream")


@pytest.mark.parametrize(
    "body",
    [
        *(b"{", b"\xff", b"[" * 100_000, [], {}),
        *({"inputs": ""}, {"inputs": 3}, {"inputs": "\ud83d"}, {"inputs": "a", "parameters": 3}),
    ],
    ids=lambda body: ascii(body)[:20],
)
def test_invalid_bodies_are_refused(url: str, body: Any):
    assert refusal(url, body)


def test_a_charset_that_nobody_knows_is_refused(url: str):
    unknown = {"content-type": "application/json; charset=nobody"}
    with pytest.raises(urllib.error.HTTPError, match="422"):
        urllib.request.urlopen(urllib.request.Request(f"{url}/generate", b'{"inputs": "a"}', unknown), timeout=60)


@pytest.mark.parametrize("temperature", [1e-45, 1e-38, 10**30, 1e300])
def test_no_temperature_is_too_extreme(url: str, temperature: float):
    """Nor does it end what others have asked for."""
    jobs = [{"temperature": temperature, "seed": 3}, {}]
    cold, other = texts_at_once(url, jobs)
    assert cold and other == text(url)
    assert (cold == other) == (temperature < 1)


def test_a_long_prompt_is_refused_in_tgis_words(url: str):
    said = refusal(url, {"inputs": "x" * 290, "parameters": {"max_new_tokens": 20}})
    assert "`inputs` tokens + `max_new_tokens` must be <= 300. Given: 290 `inputs` tokens and 20" in said


def test_truncate_keeps_the_end_of_the_prompt(url: str):
    assert text(url, "x" * 500 + "yz", truncate=2) == text(url, "yz")


# Details --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [slice(7, 10), slice(0, 1)], ids=["later", "at once"])
def test_a_stop_sequence_ends_the_text_and_stays_in_it(url: str, part: slice):
    whole = text(url)
    stop = whole[part]
    answer = generate(url, stop=["never there", stop])
    assert answer["generated_text"] == whole[: whole.index(stop) + len(stop)]
    assert answer["details"]["finish_reason"] == "stop_sequence"


def test_eos_ends_and_is_not_in_the_text(url: str):
    for seed in range(200):  # the random model says <|endoftext|> once in a few hundred tokens
        answer = generate(url, temperature=3.0, seed=seed, max_new_tokens=250)
        if answer["details"]["finish_reason"] == "eos_token":
            last = answer["details"]["tokens"][-1]
            assert last["special"] and last["text"] == "<|endoftext|>"
            assert "<|endoftext|>" not in answer["generated_text"]
            return
    pytest.fail("no text ended by itself")


def test_the_seed_is_reported_when_sampling_only(url: str):
    assert generate(url, temperature=0.7, seed=9)["details"]["seed"] == 9
    assert isinstance(generate(url, do_sample=True)["details"]["seed"], int)
    assert generate(url, seed=9)["details"]["seed"] is None
