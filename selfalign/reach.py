"""Whether the Hugging Face Hub can be reached, which every script asks before it needs the Hub.

The libraries do not ask: without a network, transformers tries for half a minute to load a model, and each of our own
retries multiplies such waits. A Hub that has answered once is not asked again, so an interruption in the middle of a
run is still waited for, as `selfalign.runner.hub` describes.
"""

from __future__ import annotations

import os
import threading
from functools import cache

from selfalign.errors import UserError, first_line, warn

SECONDS = 4.5  # for both attempts; looking up a name may take longer than any timeout of a connection
ATTEMPTS, PAUSE = 2, 0.5  # seconds between them
CONFIGURATIONS = ("config.json", "tokenizer_config.json")  # a model or a tokenizer has at least one of them
LOCAL = "What is on this machine is named by a path that begins with ./ or /"


def need_hub() -> None:
    """UserError, within 5 seconds, if the Hub can't be reached. In offline mode, the libraries say so themselves."""
    if fault := _fault():
        raise UserError(f"{fault}. {LOCAL}")


def use_cache_if_unreachable(model: str) -> None:
    """Without the Hub, have the libraries of this process and its children take a model from their cache at once.

    Nothing is asked if `model` is a path that exists.

    Raises:
        UserError: the cache does not have the model either.
    """
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if os.path.exists(model) or constants.is_offline_mode() or not (fault := _fault()):
        return
    repo, _, revision = model.partition("@")
    try:
        files = [try_to_load_from_cache(repo, name, revision=revision or None) for name in CONFIGURATIONS]
    except HFValidationError:
        raise UserError(
            f"there is no model {model}: neither a folder here, nor does it have the form of a Hub id"
        ) from None
    if not any(isinstance(file, str) for file in files):
        raise UserError(f"{fault}, and {model} is not in its cache ({constants.HF_HUB_CACHE}). {LOCAL}")
    warn(f"{fault}: {model} is taken from its cache, {constants.HF_HUB_CACHE}")
    constants.HF_HUB_OFFLINE = True
    os.environ["HF_HUB_OFFLINE"] = "1"


def _fault() -> str | None:
    """One clause that says why the Hub can't be reached; None if it answers, with whatever status, or is not wanted."""
    from huggingface_hub import constants

    return None if constants.is_offline_mode() else _fault_of(constants.ENDPOINT)


@cache
def _fault_of(endpoint: str) -> str | None:
    failures: list[str] = []
    # In a thread, because nothing else ends a look-up of a name that gets no answer.
    asking = threading.Thread(target=_ask, args=(endpoint, failures), daemon=True)
    asking.start()
    asking.join(SECONDS)
    if asking.is_alive() or len(failures) == ATTEMPTS:
        reason = failures[-1] if failures else f"no connection within {SECONDS:.0f} s"
        return f"the Hub ({endpoint}) can't be reached ({reason})"
    return None


def _ask(endpoint: str, failures: list[str]) -> None:
    """Connect to the Hub, again after a failure; what fails is added to `failures`."""
    import httpx2
    from huggingface_hub import get_session

    for attempt in range(ATTEMPTS):
        if attempt:
            threading.Event().wait(PAUSE)
        try:
            get_session().head(endpoint, timeout=SECONDS / ATTEMPTS - PAUSE)
            return
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            failures.append(first_line(error))
        except Exception:  # connected, but not answered: that is for the caller's own request to find out
            return
