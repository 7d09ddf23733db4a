"""Asking serve.py, with the standard library alone."""

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

PROMPT = "def add(first, second):\n"


def request(url: str, body: Any = None) -> tuple[int, bytes]:
    """Status and body of the answer to a GET, or to a POST of `body`: bytes as they are, or JSON."""
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def generate(url: str, inputs: str = PROMPT, **parameters: Any) -> dict[str, Any]:
    """What /generate answers, with details."""
    body = {"inputs": inputs, "parameters": {"details": True, "max_new_tokens": 20, **parameters}}
    status, answer = request(f"{url}/generate", body)
    assert status == 200, answer
    return json.loads(answer)


def text(url: str, inputs: str = PROMPT, **parameters: Any) -> str:
    return generate(url, inputs, **parameters)["generated_text"]


def texts_at_once(url: str, jobs: Sequence[dict[str, Any]]) -> list[str]:
    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(lambda job: text(url, **job), jobs))
