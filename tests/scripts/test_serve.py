"""serve.py as a command, with a tiny random model in float32: TGI's contract, and transformers' own generation."""

import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import pytest

ROOT = Path(__file__).parent.parent.parent
CONTRACT = json.loads((ROOT / "tests" / "fakes" / "tgi_openapi_subset.json").read_text())
PROMPT = "def add(first, second):\n"


def validate(answer: Any, schema: str) -> None:
    """Raises if an answer breaks TGI's contract. OpenAPI 3.0 says `nullable` where JSON Schema has a type null."""

    def translated(node: Any) -> Any:
        if isinstance(node, list):
            return [translated(item) for item in node]
        if not isinstance(node, dict):
            return node
        node = {key: translated(value) for key, value in node.items() if key != "example"}
        return {"anyOf": [{"type": "null"}, node]} if node.pop("nullable", False) else node

    jsonschema.validate(answer, {"$ref": f"#/components/schemas/{schema}", **translated(CONTRACT)})


@contextlib.contextmanager
def served(model: Path | str, *options: str) -> Iterator[str]:
    """The URL of a serve.py of its own, which is ended afterwards."""
    command = [sys.executable, str(ROOT / "serve.py"), "--model", str(model), "--port", "0", "--dtype", "float32"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        found = re.fullmatch(r"listening on (http://127\.0\.0\.1:\d+)\n", process.stdout.readline())
        assert found
        yield found[1]
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def url(tiny_model: Path) -> Iterator[str]:
    with served(tiny_model, "--max-batch-size", "8", "--max-total-tokens", "300") as url:
        yield url


def request(url: str, body: Any = None, timeout: float = 60) -> tuple[int, bytes]:
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=timeout) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def generate(url: str, inputs: str = PROMPT, **parameters: Any) -> dict[str, Any]:
    body = {"inputs": inputs, "parameters": {"details": True, "max_new_tokens": 20, **parameters}}
    status, answer = request(f"{url}/generate", body)
    assert status == 200, answer
    return json.loads(answer)


def text(url: str, inputs: str = PROMPT, **parameters: Any) -> str:
    return generate(url, inputs, **parameters)["generated_text"]


def at_once(url: str, jobs: Sequence[dict[str, Any]]) -> list[str]:
    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(lambda job: generate(url, **job)["generated_text"], jobs))


def events(url: str, **parameters: Any) -> list[dict[str, Any]]:
    status, answer = request(f"{url}/generate_stream", {"inputs": PROMPT, "parameters": parameters})
    assert status == 200, answer
    return [json.loads(line.removeprefix(b"data:")) for line in answer.splitlines() if line]


# The contract --------------------------------------------------------------------------------------------------------


def test_generate_keeps_the_contract(url: str):
    validate(generate(url), "GenerateResponse")
    validate(generate(url, temperature=0.7, seed=3, decoder_input_details=True), "GenerateResponse")


def test_stream_keeps_the_contract(url: str):
    for event in events(url, max_new_tokens=5):
        validate(event, "StreamResponse")


def test_root_keeps_the_contract(url: str):
    status, answer = request(url, {"inputs": PROMPT, "parameters": {"max_new_tokens": 5}})
    assert status == 200
    for item in json.loads(answer):
        validate(item, "GenerateResponse")


def test_root_repeats_the_prompt_as_tgi_does(url: str):
    parameters: dict[str, Any] = {"max_new_tokens": 5}
    full = json.loads(request(url, {"inputs": PROMPT, "parameters": parameters})[1])[0]["generated_text"]
    assert full == PROMPT + text(url, **parameters)


def test_info_tells_the_limits(url: str):
    info = json.loads(request(f"{url}/info")[1])
    validate(info, "Info")
    assert (info["max_input_tokens"], info["max_total_tokens"], info["max_concurrent_requests"]) == (299, 300, 128)


def test_health(url: str):
    assert request(f"{url}/health")[0] == 200


def test_tokenize_tells_ids_and_offsets(url: str, tiny_model: Path):
    from transformers import AutoTokenizer

    tokens = json.loads(request(f"{url}/tokenize", {"inputs": PROMPT})[1])
    validate(tokens, "TokenizeResponse")
    assert [token["id"] for token in tokens] == AutoTokenizer.from_pretrained(tiny_model)(PROMPT).input_ids
    assert "".join(token["text"] for token in tokens) == PROMPT


@pytest.mark.parametrize(
    "parameters",
    [
        {"temperature": 0},
        {"temperature": -1.0},
        {"temperature": "hot"},
        {"top_p": 2},
        {"top_p": 1.0},  # refused by TGI, too
        {"top_k": 0},
        {"typical_p": 0},
        {"repetition_penalty": 0},
        {"max_new_tokens": 0},
        {"max_new_tokens": True},
        {"max_new_tokens": 300},
        {"seed": -1},
        {"best_of": 2},
        {"stop": ["a", "b", "c", "d", "e"]},
        {"stop": [""]},
        {"stop": "a"},
        {"truncate": 0},
        {"grammar": {"type": "regex", "value": "a"}},
    ],
    ids=json.dumps,
)
def test_invalid_parameters_are_refused(url: str, parameters: dict[str, Any]):
    status, answer = request(f"{url}/generate", {"inputs": PROMPT, "parameters": parameters})
    validate(json.loads(answer), "ErrorResponse")
    assert (status, json.loads(answer)["error_type"]) == (422, "validation")


@pytest.mark.parametrize(
    "body",
    [
        *(b"{", b"\xff", b"[" * 100_000, [], {}),
        *({"inputs": ""}, {"inputs": 3}, {"inputs": "\ud83d"}, {"inputs": "a", "parameters": 3}),
    ],
    ids=lambda body: ascii(body)[:20],
)
def test_invalid_bodies_are_refused(url: str, body: Any):
    status, answer = request(f"{url}/generate", body)
    validate(json.loads(answer), "ErrorResponse")
    assert status == 422


def test_a_long_prompt_is_refused_in_tgis_words(url: str):
    status, answer = request(f"{url}/generate", {"inputs": "x" * 290, "parameters": {"max_new_tokens": 20}})
    assert status == 422
    said = json.loads(answer)["error"]
    assert "`inputs` tokens + `max_new_tokens` must be <= 300. Given: 290 `inputs` tokens and 20" in said


def test_truncate_keeps_the_end_of_the_prompt(url: str):
    assert text(url, "x" * 500 + "yz", truncate=2) == text(url, "yz")


# Details -------------------------------------------------------------------------------------------------------------


def test_generated_tokens_are_those_listed(url: str):
    details = generate(url, temperature=1.0, seed=1)["details"]
    assert details["generated_tokens"] == len(details["tokens"]) == 20
    assert details["finish_reason"] == "length"


def test_stop_sequence_ends_the_text_and_stays_in_it(url: str):
    whole = text(url)
    stop = whole[7:10]
    answer = generate(url, stop=["never there", stop])
    assert answer["generated_text"] == whole[: whole.index(stop) + 3]
    assert answer["details"]["finish_reason"] == "stop_sequence"


def test_a_text_cut_by_length_never_holds_the_stop_sequence_twice(url: str):
    whole = text(url)
    assert text(url, stop=[whole[0]]) == whole[0]


def test_eos_ends_and_is_not_in_the_text(url: str):
    for seed in range(200):  # the random model says <|endoftext|> once in a few hundred tokens
        answer = generate(url, temperature=3.0, seed=seed, max_new_tokens=250)
        if answer["details"]["finish_reason"] == "eos_token":
            last = answer["details"]["tokens"][-1]
            assert last["special"] and last["text"] == "<|endoftext|>"
            assert "<|endoftext|>" not in answer["generated_text"]
            return
    pytest.fail("no text ended by itself")


def test_seed_is_told_when_sampling_only(url: str):
    assert generate(url, temperature=0.7, seed=9)["details"]["seed"] == 9
    assert isinstance(generate(url, do_sample=True)["details"]["seed"], int)
    assert generate(url, seed=9)["details"]["seed"] is None


def test_stream_says_what_generate_says(url: str):
    parameters = {"temperature": 0.8, "seed": 4, "max_new_tokens": 30}
    streamed, whole = events(url, **parameters), generate(url, **parameters)
    assert [event["token"] for event in streamed] == whole["details"]["tokens"]
    assert streamed[-1]["generated_text"] == whole["generated_text"]
    assert streamed[-1]["details"]["generated_tokens"] == 30


# What is generated ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference(tiny_model: Path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)


@pytest.mark.parametrize("penalty", [None, 1.3])
def test_greedy_is_transformers_greedy(url: str, reference: Any, penalty: float | None):
    model, tokenizer = reference
    inputs = tokenizer(PROMPT, return_tensors="pt")
    expected = model.generate(**inputs, do_sample=False, max_new_tokens=60, repetition_penalty=penalty)
    details = generate(url, max_new_tokens=60, repetition_penalty=penalty)["details"]
    assert [token["id"] for token in details["tokens"]] == expected[0, inputs.input_ids.shape[1] :].tolist()


def test_logprobs_are_the_models(url: str, reference: Any):
    import torch

    model, _ = reference
    details = generate(url, decoder_input_details=True)["details"]
    ids = [token["id"] for token in details["prefill"] + details["tokens"]]
    with torch.inference_mode():
        expected = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    told = [token["logprob"] for token in details["prefill"] + details["tokens"]]
    assert told[0] is None
    assert told[1:] == pytest.approx([float(expected[i, id]) for i, id in enumerate(ids[1:])], abs=1e-4)


def test_a_prompt_that_begins_like_an_earlier_one_is_answered_the_same(url: str, tiny_model: Path):
    """The common beginning is not computed again: as if it had been."""
    long = PROMPT * 5 + "    return"
    text(url, PROMPT * 5 + "    pass")
    with served(tiny_model) as fresh:
        assert text(url, long) == text(fresh, long)


def test_the_same_seed_gives_the_same_text(url: str):
    assert text(url, temperature=0.9, seed=5) == text(url, temperature=0.9, seed=5)


def test_different_seeds_differ(url: str):
    assert len(set(at_once(url, [{"temperature": 0.9, "seed": seed} for seed in range(8)]))) == 8


def test_without_a_seed_samples_differ(url: str):
    assert len(set(at_once(url, [{"temperature": 0.9}] * 8))) == 8


def test_a_batch_changes_nothing(url: str):
    """More rows than places, of several prompts, lengths and settings: each as when it is alone."""
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
    assert at_once(url, jobs) == [text(url, **job) for job in jobs]


def test_temperature_is_honoured_row_by_row(url: str):
    greedy, *sampled = at_once(url, [{}, {"temperature": 1.5, "seed": 1}, {"temperature": 0.01, "seed": 2}])
    assert greedy == text(url) == sampled[1] != sampled[0]


def test_top_k_of_one_is_greedy(url: str):
    assert text(url, top_k=1, seed=7) == text(url)


def test_a_small_top_p_is_greedy(url: str):
    assert text(url, top_p=1e-6, seed=7) == text(url)


def test_top_p_keeps_transformers_nucleus():
    import torch
    from transformers import TopPLogitsWarper

    from server.engine import keep_top_p

    for seed in range(1, 20):
        scores = torch.randn(1000, generator=torch.Generator().manual_seed(seed)) * (seed / 4)
        expected = TopPLogitsWarper(0.9)(None, scores[None])[0]  # type: ignore
        assert torch.equal(keep_top_p(scores, 0.9), expected)


def test_draws_follow_the_probabilities():
    import torch

    from server.engine import Request, choose

    job = Request(inputs=[0], max_new_tokens=1, emit=print, seed=0)
    drawn = [choose(job, torch.tensor([0.5, 0.3, 0.2]).log())[0] for _ in range(4000)]
    assert [drawn.count(token) / 4000 for token in range(3)] == pytest.approx([0.5, 0.3, 0.2], abs=0.03)


# Clients and processes -----------------------------------------------------------------------------------------------


def test_hugging_face_client(url: str):
    import asyncio

    from huggingface_hub import AsyncInferenceClient

    async def ask():
        async with AsyncInferenceClient(url) as client:
            options: dict[str, Any] = {"max_new_tokens": 12, "temperature": 0.7, "seed": 1, "return_full_text": False}
            whole = await client.text_generation(PROMPT, details=True, **options)
            stream = await client.text_generation(PROMPT, details=True, stream=True, **options)
            return whole, [event async for event in stream]

    whole, streamed = asyncio.run(ask())
    assert whole.details.generated_tokens == 12 and whole.details.finish_reason == "length"
    assert streamed[-1].generated_text == whole.generated_text
    assert [event.token.id for event in streamed] == [token.id for token in whole.details.tokens]


@pytest.fixture(scope="module")
def endless_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model without a way to end: its end-of-text never has the highest score. 2000 tokens take 4 s."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("endless") / "model"
    shutil.copytree(tiny_model, folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.lm_head.weight.data[model.config.eos_token_id] = 0
    model.save_pretrained(folder)
    return folder


def test_full_is_429_and_a_client_that_hangs_up_frees_its_place(endless_model: Path):
    """One place, taken by a long greedy answer; polled, as machines are slow."""

    def poll(url: str, wanted: int, seconds: float) -> bytes:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            status, answer = request(f"{url}/generate", {"inputs": PROMPT, "parameters": {"max_new_tokens": 1}})
            if status == wanted:
                return answer
            time.sleep(0.02)
        pytest.fail(f"no {wanted} within {seconds} s")

    with served(endless_model, "--max-concurrent-requests", "1") as url:
        host, port = url.removeprefix("http://").split(":")
        body = json.dumps({"inputs": PROMPT, "parameters": {"max_new_tokens": 2000}}).encode()
        with socket.create_connection((host, int(port))) as client:
            client.sendall(b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            refusal = json.loads(poll(url, 429, 3))
            validate(refusal, "ErrorResponse")
            assert refusal["error_type"] == "overloaded"
        poll(url, 200, 1)


def test_sigterm_ends_it_even_while_it_generates(endless_model: Path):
    command = [sys.executable, str(ROOT / "serve.py"), "--model", str(endless_model), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stderr
        url = process.stdout.readline().split()[-1]
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: request(f"{url}/generate", {"inputs": PROMPT, "parameters": {"max_new_tokens": 2000}}))
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) == 0  # 0.1 s; this allows for a busy machine
        assert "Traceback" not in process.stderr.read()


def failure(*options: str) -> str:
    """What serve.py says on stderr before it ends with an error."""
    command = [sys.executable, str(ROOT / "serve.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and not done.stdout
    return done.stderr


def test_a_taken_port_is_one_sentence(url: str):
    port = url.rsplit(":", 1)[1]
    assert failure("--port", port) == f"serve.py: can't listen on 127.0.0.1:{port}: Address already in use\n"


def test_a_model_that_is_not_there_is_one_sentence(tmp_path: Path):
    said = failure("--model", str(tmp_path / "nothing"), "--port", "0")
    assert said.startswith("serve.py: can't load the model") and "Traceback" not in said and said.count("\n") == 1


@pytest.mark.slow
def test_the_default_model_writes_code(tmp_path: Path):
    """Converts SmolLM2-135M-Instruct anew, and serves it in the machine's own dtype."""
    command = [sys.executable, str(ROOT / "serve.py"), "--port", "0", "--cache", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            url = process.stdout.readline().split()[-1]
            assert "fibonacci(n - 1)" in text(url, "def fibonacci(n):", max_new_tokens=40)
        finally:
            process.terminate()
