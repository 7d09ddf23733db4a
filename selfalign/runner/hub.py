"""The Hugging Face Hub: which names mean a repo, and what to do when a request fails."""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from selfalign.errors import first_line, tell
from selfalign.reach import need_hub

URL = "hf://datasets/"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
# In a URL, what follows a revision is a path, unless it is one of the revisions that have a slash in their names.
HUB_URL = re.compile(r"[\w.-]+/[\w.-]+(@(refs/(pr|convert)/)?[\w.-]+)?")
HUB_TRIES = 8  # of a request, with waits of 1, 2, 4 ... 60 s between them: about three minutes
MAX_WAIT_SECONDS = 60.0
RETRIED_STATUS = {409, 412, 429, 500, 502, 503, 504}

T = TypeVar("T")


def is_hub_id(name: str) -> bool:
    """Whether `name` means a Hub repo; a local path of that name takes precedence."""
    pattern = HUB_URL if name.startswith(URL) else HUB_ID
    return (
        not name.startswith((".", "/", "~"))
        and not os.path.exists(name)
        and pattern.fullmatch(hub_name(name)) is not None
    )


def hub_name(name: str) -> str:
    """`name` as org/name, with @revision if it has one; it may also be given as a URL (hf://datasets/...)."""
    return name.removeprefix(URL).rstrip("/")


def file_system(name: str, token: str | None = None) -> tuple[Any, str]:
    """fsspec's file system of a path or URL, and the path there. That of the Hub (hf://) gets the token."""
    from fsspec.core import url_to_fs

    options = {"hf": {"token": token}} if token and "hf://" in name else {}
    return url_to_fs(os.path.expanduser(name), **options)


def with_retries(call: Callable[[], T], tries: int = HUB_TRIES) -> T:
    """What `call` returns; it is tried again after a failure of the Hub or of the connection, not after a refusal.

    The libraries retry listings and uploads, but neither commits nor repo infos. Waits double, with jitter, and last at
    least as long as Retry-After says. `call` itself must check whether an earlier attempt succeeded although its answer
    was lost.

    Raises:
        UserError: this process has not reached the Hub yet, and can't.
    """
    need_hub()
    for attempt in range(tries):
        try:
            return call()
        except Exception as error:
            passing, retry_after = _passes_by_itself(error)
            if not passing or attempt == tries - 1:
                raise
            wait = max(retry_after, min(MAX_WAIT_SECONDS, 2.0**attempt) * random.uniform(0.5, 1.0))
            if wait > 5:
                tell(f"the Hub: {first_line(error)}; trying again in {wait:.0f} s")
            time.sleep(wait)
    raise AssertionError("unreachable")


def _passes_by_itself(error: BaseException | None) -> tuple[bool, float]:
    """Whether `error`, or what caused it, may pass with time, and how many seconds the Hub asks to wait."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    while error is not None:  # datasets and fsspec wrap what httpx raised
        if isinstance(error, HfHubHTTPError):
            return error.response.status_code in RETRIED_STATUS, _asked_to_wait(error.response.headers)
        if isinstance(error, httpx2.TransportError):
            return True, 0.0
        error = error.__cause__ or error.__context__
    return False, 0.0


def _asked_to_wait(headers: Mapping[str, str]) -> float:
    """How many seconds an answer asks to wait: by Retry-After, or by the Hub's own `RateLimit: "api";r=0;t=55`."""
    from huggingface_hub.utils import parse_ratelimit_headers

    after = headers.get("Retry-After", "")
    if after.isdecimal():
        return float(after)
    limit = parse_ratelimit_headers(headers)
    return limit.reset_in_seconds + 1.0 if limit and not limit.remaining else 0.0
