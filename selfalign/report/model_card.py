"""Model cards: what a trained model was made from, how its training went, and how to prompt it."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfalign.models import resolve_model
from selfalign.runner.card import BEGIN, END, funnel_table, marked, sources_table
from selfalign.runner.hub import is_hub_id, with_retries
from selfalign.runner.provenance import (
    MODEL_LICENSES,
    UNKNOWN,
    license_data,
    license_of_card,
    license_on_hub,
    licenses_of_models,
    models_of,
    without_local_paths,
)
from selfalign.statistics import paired_bootstrap

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from selfalign.runner.source import Source

Curves = dict[str, list[tuple[int, float]]]  # by name: pairs of optimizer step and value

PICTURE = "loss.png"
HUB_TRIES = 3  # few: what is asked for is only shown
QUESTION = "Write a Python function that returns the n-th Fibonacci number."
# By our names: what the trainers log.
CURVES = {
    "loss": "loss",
    "held-out loss": "eval_loss",
    "margin": "rewards/margins",
    "held-out margin": "eval_rewards/margins",
    "reward": "reward",
    "held-out reward": "eval_reward",
}


def curves_of(log_history: list[dict[str, Any]]) -> Curves:
    """The CURVES in what a trainer has logged; a step that was logged twice counts once."""
    curves = {name: {e["step"]: e[key] for e in log_history if e.get(key) is not None} for name, key in CURVES.items()}
    if curves["reward"]:
        curves["loss"] = {}  # reinforcement's has a mean of 0 whatever is learnt
    return {name: sorted(values.items()) for name, values in curves.items()}


def ends_of(curves: Curves) -> list[str]:
    """The first and the last value of each curve, in words."""
    return [f"{name} {values[0][1]:.3f} -> {values[-1][1]:.3f}" for name, values in curves.items() if values]


def draw(curves: Curves) -> bytes:
    """The curves as a PNG: losses, margins and rewards, whichever there are."""
    from matplotlib.figure import Figure

    panels = [panel for panel in ("loss", "margin", "reward") if curves[panel]] or ["loss"]
    figure = Figure(figsize=(7, 3.5 * len(panels)), layout="constrained")
    for panel, axes in zip(panels, figure.subplots(len(panels), squeeze=False)[:, 0], strict=True):
        for name, label in ((panel, "training"), (f"held-out {panel}", "held out")):
            if curves[name]:
                axes.plot(*zip(*curves[name], strict=True), label=label, marker="o" if name != panel else None)
        axes.set(xlabel="optimizer step", ylabel=panel)
        axes.grid(alpha=0.3)
        axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    return picture.getvalue()


def base_of(model: str, commit: str | None, token: str | None) -> dict[str, str]:
    """The base model: its name, its commit if it came from the Hub, and the licence that its card names."""
    from huggingface_hub import ModelCard

    base = {"model": model, "license": MODEL_LICENSES.get(model, UNKNOWN)}
    if commit:
        base["revision"] = commit
    name = resolve_model(model, token=token)
    if is_hub_id(name):
        base["license"] = license_on_hub(name, token)
    else:
        with contextlib.suppress(Exception):  # without a card that can be read, the licence stays unknown
            base["license"] = license_of_card(ModelCard.load(Path(name) / "README.md").data)
    return base


def licenses_of(source: Source, token: str | None) -> dict[str, int]:
    """How many rows of the data have which licence: from its run.json, else from its card on the Hub."""
    from huggingface_hub import HfApi

    if models := models_of(source.run):
        return {", ".join(licenses_of_models(models, token, ask=True)): len(source)}
    if licenses := source.run.get("lineage", {}).get("license"):
        return licenses
    if "dataset" not in source.pin:
        return {}
    api = HfApi(token=token)
    try:
        info = with_retries(lambda: api.dataset_info(source.pin["dataset"], revision=source.pin["revision"]), HUB_TRIES)
        return {license_of_card(info.card_data): len(source)}
    except Exception:  # what is asked for is only shown
        return {}


def model_card(run: dict[str, Any], tokenizer: PreTrainedTokenizerBase, existing: str | None) -> str:
    """The README.md of the model that `run` (its run.json) made; what a person wrote into the `existing` one stays."""
    from huggingface_hub import ModelCard, ModelCardData

    card = ModelCard(existing, ignore_metadata_errors=True) if existing else ModelCard("---\n{}\n---\n")
    there = card.data.to_dict()
    base, source = run["base"], run["input"]
    data: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"} | there
    data["tags"] = sorted({*(there.get("tags") or []), "selfcodealign", _method(run)})
    if is_hub_id(base["model"]):
        data["base_model"] = base["model"].partition("@")[0]
    if "dataset" in source:
        data["datasets"] = [source["dataset"]]
    if "license" not in there:  # the licences of both, as in Table 13 of the paper
        data |= license_data({base["license"], *(source["licenses"] or {UNKNOWN})})
    text = marked(card.text, BEGIN, END, _story(run, tokenizer))
    return f"---\n{ModelCardData(**data).to_yaml()}\n---\n\n{text}"


def _method(run: dict[str, Any]) -> str:
    return run["identity"]["options"].get("method", "grpo")


def _gain(run: dict[str, Any]) -> str:
    """What a reinforcement has gained on held-out tasks, as a paragraph; nothing for other trainings."""
    return f"\n{gain_of(run['held_out'])}\n" if run.get("held_out") else ""


def gain_in(log_history: list[dict[str, Any]]) -> dict[str, float] | None:
    """How much more held-out tasks earn at the end than at the beginning, as `paired_bootstrap` says it.

    None if there are none, or none that was judged both times.
    """
    measured = [entry["held_out"] for entry in log_history if "held_out" in entry]
    if len(measured) < 2 or not measured[0].keys() & measured[-1].keys():
        return None
    return paired_bootstrap(measured[-1], measured[0])


def gain_of(held_out: dict[str, float]) -> str:
    """`paired_bootstrap` of the rewards of held-out tasks, before and after, in words."""
    return (
        "Reward on {problems} held-out tasks: {difference:+.3f} (95 %: {low:+.3f} to {high:+.3f}, p = {p:.2g})".format(
            **held_out
        )
    )


def _story(run: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> str:
    base, source, options = run["base"], run["input"], run["identity"]["options"]
    pinned = source.get("revision") or source.get("fingerprint")
    licenses = ", ".join(f"{name} ({n:,} rows)" for name, n in source["licenses"].items()) or UNKNOWN
    facts = {
        "base model": f"`{base['model']}`" + (f" at `{base['revision']}`" if "revision" in base else ""),
        "licence of the base model": base["license"],
        "data": f"`{source['name']}` at `{pinned}`",
        "licences of the data": licenses,
        **{
            name: f"`{value}`"
            for name, value in options.items()
            if name not in ("model", "chat_template") and value is not None
        },
        "versions": ", ".join(f"{name} {version}" for name, version in run["versions"].items()),
    }
    table = "\n".join(f"| {name.replace('_', ' ')} | {value} |" for name, value in facts.items())
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}], tokenize=False, add_generation_prompt=True
    )
    return without_local_paths(f"""# {_method(run).upper()} of {base["model"]}

Made with a step of SelfCodeAlign ([arXiv 2410.24198](https://arxiv.org/abs/2410.24198)) by

```bash
{run["command"]}
```

## How to prompt it

The chat template is in the tokenizer. A question becomes

```text
{prompt}
```

and the answer ends with `{tokenizer.eos_token}`. In this folder:

```python
from transformers import pipeline

ask = pipeline("text-generation", model=".")
print(ask([{{"role": "user", "content": "{QUESTION}"}}], max_new_tokens=512, do_sample=False)[0]["generated_text"])
```

## Training

![{"Reward" if run["curves"].get("reward") else "Training loss"} by optimizer step]({PICTURE})

{", ".join(ends_of(run["curves"]))}
{_gain(run)}
| | |
|---|---|
{table}

A fine-tuned model takes the licences of its base model and of the model that wrote its data.

## The funnel so far

{funnel_table(run["funnel"])}{sources_table(run)}""")
