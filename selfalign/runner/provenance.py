"""Where a dataset comes from: the datasets and models that were used for it, and under which licence it is.

`run` is a run.json. Those of earlier versions have neither `sources` nor `models`; theirs begin with the step itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfalign.runner.hub import is_hub_id, with_retries

if TYPE_CHECKING:
    from huggingface_hub import CardData

UNKNOWN = "unknown"
# Those licences of The Stack and of Python's standard library for which the Hub has a name
# (https://huggingface.co/docs/hub/repositories-licenses). Any other, and any mixture, is "other" there, with a name of
# its own beside it.
HUB_LICENSES = frozenset(
    """0bsd apache-2.0 artistic-2.0 bsd-2-clause bsd-3-clause bsl-1.0 cc-by-4.0 cc0-1.0 isc mit ms-pl ncsa postgresql
    unlicense wtfpl zlib""".split()  # noqa: SIM905
)
MODEL_LICENSES = {"smollm2": "apache-2.0", "SmolLM2-135M-Instruct": "apache-2.0"}  # whose folder has no card
LOCAL_PATH = re.compile(r"(?<![^\s'\"`=(])/[\w.@%+~-][^\s'\"`,;)]*")


def sources_of(run: Mapping[str, Any]) -> list[dict[str, str]]:
    """The datasets that were read for this one, the first one first: `step` that read it, `name`, and what it was
    pinned to (`dataset` and `revision`, or `fingerprint`)."""
    if "input" not in run:
        return []
    return run.get("sources") or [{"step": run["step"], **run["input"]}]


def models_of(run: Mapping[str, Any]) -> list[dict[str, str | None]]:
    """The models that generated something in this dataset, in the order of the steps: `model`, `revision`, and their
    `license` where the user gave it."""
    if "models" in run:
        return run["models"]
    identity = run.get("identity", {})
    if not identity.get("model"):
        return []
    given = identity.get("options", {}).get("license")
    return [{"model": identity["model"], "revision": identity.get("revision"), "license": given}]


def licenses_of_models(models: Iterable[Mapping[str, str | None]], token: str | None, *, ask: bool) -> list[str]:
    """The licence of each model: as given, as known, or as the Hub says if it shall be asked; otherwise "that of X"."""
    found = []
    for entry in models:
        model = str(entry["model"])
        license = entry.get("license") or MODEL_LICENSES.get(model)
        if not license and ask and is_hub_id(model):
            license = license_on_hub(model, token)
        found.append(license if license and license != UNKNOWN else f"that of {without_local_paths(model)}")
    return list(dict.fromkeys(found))


@cache
def license_on_hub(model: str, token: str | None) -> str:
    """The licence on the card of a model, `UNKNOWN` if it names none or can't be read: cards are only informative."""
    from huggingface_hub import HfApi

    name, _, revision = model.partition("@")
    try:
        info = with_retries(lambda: HfApi(token=token).model_info(name, revision=revision or None), 2)
        return license_of_card(info.card_data)
    except Exception:  # of the Hub, or of the connection, for which the libraries have a dozen types
        return UNKNOWN


def license_of_card(card: CardData | None) -> str:
    """The licence that a card's YAML names."""
    data = card.to_dict() if card else {}
    return data.get("license_name") or data.get("license") or UNKNOWN


def license_data(licenses: Iterable[str]) -> dict[str, str]:
    """The licence as a card's YAML has it: {} if none is known, "other" with a name if there are several."""
    licenses = set(licenses)
    known = sorted(licenses - {UNKNOWN})
    if not known:
        return {}
    if len(licenses) == 1 and known[0].lower() in HUB_LICENSES:
        return {"license": known[0].lower()}
    return {"license": "other", "license_name": ", ".join(known[:5]) + (" and others" if len(known) > 5 else "")}


def without_local_paths(text: str) -> str:
    """`text` without the absolute paths of this machine: relative ones below the working folder, `~` for the home
    folder, and the name alone for any other."""

    def shown(match: re.Match[str]) -> str:
        path = Path(os.path.normpath(match[0]))
        for folder, short in ((Path.cwd(), "."), (Path.home(), "~")):
            if path.is_relative_to(folder):
                return f"{short}/{path.relative_to(folder)}"
        return f"…/{path.name}"

    return LOCAL_PATH.sub(shown, text)
