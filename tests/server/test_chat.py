"""The chat of serve.py: TGI's contract, the model's own template, and the clients that people use."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import AsyncInferenceClient

from selfalign.llm.local_server import served
from tests.fakes.tgi_contract import validate
from tests.server.client import request, text

TEMPLATE = """{% for m in messages %}{% if m.role == "system" %}{{ raise_exception("no system") }}{% endif %}\
<{{ m.role }}>{{ m.content }}
{% endfor %}{% if add_generation_prompt %}<{{ name | default("assistant") }}>{% endif %}"""
ASKED = [{"role": "user", "content": "Add two numbers."}]
AS_TEXT = "<user>Add two numbers.\n<assistant>"


@pytest.fixture(scope="module")
def chat_url(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of serve.py with a tiny model that has a chat template."""
    folder = tmp_path_factory.mktemp("model") / "chat"
    shutil.copytree(tiny_model, folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    with served(str(folder), "--dtype", "float32", "--max-total-tokens", "300") as url:
        yield url


def chat(url: str, messages: Any = ASKED, **more: Any) -> tuple[int, dict[str, Any]]:
    body = {"messages": messages, "max_tokens": 8, "temperature": 0, **more}
    status, answer = request(f"{url}/v1/chat/completions", body)
    return status, json.loads(answer)


def test_an_answer_keeps_the_contract_and_is_that_of_the_template(chat_url: str):
    status, answer = chat(chat_url)
    assert status == 200
    validate(answer, "ChatCompletion")
    assert answer["choices"][0]["message"]["content"] == text(chat_url, AS_TEXT, max_new_tokens=8)
    assert answer["usage"]["completion_tokens"] == 8


def test_arguments_reach_the_template(chat_url: str):
    _, answer = chat(chat_url, chat_template_kwargs={"name": "model"})
    asked = AS_TEXT.replace("<assistant>", "<model>")
    assert answer["choices"][0]["message"]["content"] == text(chat_url, asked, max_new_tokens=8)


def test_a_seed_gives_the_same_answer_and_another_one_not(chat_url: str):
    first, again, other = (chat(chat_url, temperature=1.0, seed=seed)[1]["choices"] for seed in (1, 1, 2))
    assert first == again != other


def test_parts_of_text_are_joined(chat_url: str):
    parts = [{"type": "text", "text": "Add "}, {"type": "text", "text": "two numbers."}]
    (one, of_parts) = (chat(chat_url, messages)[1]["choices"] for messages in (ASKED, [ASKED[0] | {"content": parts}]))
    assert one == of_parts


def test_hugging_faces_client_is_answered(chat_url: str):
    async def ask() -> Any:
        async with AsyncInferenceClient(chat_url) as client:
            return await client.chat_completion(ASKED, max_tokens=8, temperature=0.7, seed=1)

    answer = asyncio.run(ask())
    assert (
        answer.choices[0].message.content
        == chat(chat_url, temperature=0.7, seed=1)[1]["choices"][0]["message"]["content"]
    )
    assert answer.choices[0].finish_reason == "length"


def test_the_one_model_is_listed(chat_url: str):
    (model,) = json.loads(request(f"{chat_url}/v1/models")[1])["data"]
    assert model["id"] == json.loads(request(f"{chat_url}/info")[1])["model_id"]


@pytest.mark.parametrize(
    "more",
    [
        {"messages": []},
        {"messages": "Hello"},
        {"messages": [{"content": "Hello"}]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        {"messages": [{"role": "user", "content": "\ud800"}]},
        {"messages": [{"role": "system", "content": "Hello"}]},  # which this template refuses
        {"tools": [{"type": "function"}]},
        {"stream": True},
        {"logprobs": True},
        {"max_tokens": 0},
        {"temperature": "hot"},
        {"temperature": -1},
        {"chat_template_kwargs": "x"},
        {"chat_template_kwargs": {"name": "\ud800"}},
        {"chat_template_kwargs": {"chat_template": "{{ messages[0].content }}"}},
        {"max_tokens": 1000},
    ],
    ids=str,
)
def test_what_can_not_be_answered_is_refused(chat_url: str, more: dict[str, Any]):
    status, answer = chat(chat_url, **more)
    assert status == 422
    validate(answer, "ErrorResponse")


def test_a_template_that_writes_nothing_is_refused(tiny_model: Path, tmp_path: Path):
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text("{{ messages[0].content }}")
    with served(str(tmp_path / "model")) as url:
        status, answer = chat(url, [{"role": "user", "content": ""}])
    assert status == 422 and "`inputs` cannot be empty" in answer["error"]


def test_a_model_without_a_template_is_refused(url: str):
    assert chat(url) == (422, {"error": "Template error: template not found", "error_type": "template_error"})
