"""Model cards: what a fine-tuned model was made of, how its training went, and how to ask it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfalign.models import resolve_model
from selfalign.runner.card import BEGIN, END, funnel_table, license_data, marked
from selfalign.runner.hub import is_hub_id, with_retries

if TYPE_CHECKING:
    from selfalign.runner.source import Source

PICTURE = "loss.png"
UNKNOWN = "unknown"
LICENSES = {"smollm2": "apache-2.0"}  # its folder has no card
QUESTION = "Write a Python function that returns the n-th Fibonacci number."
# What the trainers log, and what we call it.
CURVES = {
    "loss": "loss",
    "held-out loss": "eval_loss",
    "margin": "rewards/margins",
    "held-out margin": "eval_rewards/margins",
}


def curves_of(log_history: list[dict[str, Any]]) -> dict[str, list[tuple[int, float]]]:
    """Each of CURVES as pairs of optimizer step and value; a step that was logged again counts once."""
    curves = {name: {e["step"]: e[key] for e in log_history if key in e} for name, key in CURVES.items()}
    return {name: sorted(values.items()) for name, values in curves.items()}


def draw(curves: dict[str, list[tuple[int, float]]]) -> bytes:
    """The curves as a PNG: losses, and margins below them where there are some."""
    from matplotlib.figure import Figure

    panels = [panel for panel in ("loss", "margin") if curves[panel] or panel == "loss"]
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


def base_of(options: Any, config: Any) -> dict[str, str]:
    """The base model: its name, its commit if it came from the Hub, its licence as its card has it."""
    from huggingface_hub import HfApi, ModelCard

    base = {"model": options.model, "license": LICENSES.get(options.model, UNKNOWN)}
    if commit := getattr(config, "_commit_hash", None):
        base["revision"] = commit
    name = resolve_model(options.model)
    try:
        if is_hub_id(name):
            name, _, revision = name.partition("@")
            data = with_retries(lambda: HfApi(token=options.hf_token).model_info(name, revision=revision or None), 3)
            card = data.card_data
        else:
            card = ModelCard.load(Path(name) / "README.md").data
        base["license"] = _license(card)
    except Exception:  # without a card, or a Hub to ask, the licence stays unknown: the training is done
        pass
    return base


def licenses_of(source: Source, options: Any) -> dict[str, int]:
    """The licences of the data's rows: as its run.json counts them, else as its Hub card says."""
    from huggingface_hub import HfApi

    if licenses := source.run.get("lineage", {}).get("license"):
        return licenses
    if "dataset" not in source.pin:
        return {}
    api = HfApi(token=options.hf_token)
    try:
        info = with_retries(lambda: api.dataset_info(source.pin["dataset"], revision=source.pin["revision"]), 3)
        return {_license(info.card_data): len(source)}
    except Exception:  # as above
        return {}


def _license(card: Any) -> str:
    data = card.to_dict() if card else {}
    return data.get("license_name") or data.get("license") or UNKNOWN


def model_card(run: dict[str, Any], tokenizer: Any, existing: str | None) -> str:
    """The README.md of the model that `run` (its run.json) made, which was `existing`; what a person wrote stays."""
    from huggingface_hub import ModelCard, ModelCardData

    card = ModelCard(existing, ignore_metadata_errors=True) if existing else ModelCard("---\n{}\n---\n")
    there = card.data.to_dict()
    base, source = run["base"], run["input"]
    data: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"} | there
    data["tags"] = sorted({*(there.get("tags") or []), "selfcodealign", run["identity"]["options"]["method"]})
    if is_hub_id(base["model"]):
        data["base_model"] = base["model"].partition("@")[0]
    if "dataset" in source:
        data["datasets"] = [source["dataset"]]
    if "license" not in there:  # the licences of both, as in Table 13 of the paper
        data |= license_data({base["license"]: 1, **(source["licenses"] or {UNKNOWN: 1})})
    text = marked(card.text, BEGIN, END, _story(run, tokenizer))
    return f"---\n{ModelCardData(**data).to_yaml()}\n---\n\n{text}"


def _story(run: dict[str, Any], tokenizer: Any) -> str:
    base, source, options = run["base"], run["input"], run["identity"]["options"]
    pinned = source.get("revision") or source.get("fingerprint")
    licenses = ", ".join(f"{name} ({n:,} rows)" for name, n in source["licenses"].items()) or UNKNOWN
    facts = {
        "base model": f"`{base['model']}`" + (f" at `{base['revision']}`" if "revision" in base else ""),
        "licence of the base model": base["license"],
        "data": f"`{source['name']}` at `{pinned}`",
        "licences of the data": licenses,
        **{name: f"`{value}`" for name, value in options.items() if name not in ("model", "chat_template")},
        "versions": ", ".join(f"{name} {version}" for name, version in run["versions"].items()),
    }
    table = "\n".join(f"| {name.replace('_', ' ')} | {value} |" for name, value in facts.items())
    ends = [f"{name} {v[0][1]:.3f} -> {v[-1][1]:.3f}" for name, v in run["curves"].items() if v]
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}], tokenize=False, add_generation_prompt=True
    )
    return f"""# {run["identity"]["options"]["method"].upper()} of {base["model"]}

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

![Training loss by optimizer step]({PICTURE})

{", ".join(ends)}

| | |
|---|---|
{table}

A fine-tuned model takes the licences of its base model and of the model that wrote its data.

## The funnel so far

{funnel_table(run["funnel"])}"""
