"""Add what benchmark.py measured to the card of a model, in the form that the Hub shows beside it (`model-index`).

    python benchmark.py ./model ./results/humaneval --prompt-style chat
    python -m selfalign.report.evaluations ./model ./results
    python -m selfalign.report.evaluations your-org/model ./results/humaneval your-org/results-mbpp

RESULTS are outputs of benchmark.py, or folders with several of them. What is on the card for another benchmark stays.
The card of a folder reaches the Hub when the same finetune.py command runs with --push-to-hub; a model that is there
already can be named by its id.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from selfalign.benchmarks import load_benchmark
from selfalign.errors import UserError, check_secret, first_line
from selfalign.options import run_script
from selfalign.report.runs import files_beside
from selfalign.runner.card import marked
from selfalign.runner.hub import hub_name, is_hub_id, with_retries

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

BEGIN, END = "<!-- selfalign evaluations: begin -->", "<!-- selfalign evaluations: end -->"
HEAD = ("| benchmark | score | % | 95 % interval |", "|---|---|---:|---:|")
TASK = "text-generation"  # as the Hub calls it


@dataclass(frozen=True, kw_only=True)
class Options:
    """Which results belong to which model."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Model with a card: a folder that finetune.py wrote, or a Hub id."""

    results: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RESULTS")]
    """Outputs of benchmark.py for this model, or folders with several of them."""

    hf_token: str | None = None
    """Hugging Face token. By default, the one from `hf auth login` or HF_TOKEN."""


def read_results(places: Sequence[str], token: str | None) -> list[dict[str, Any]]:
    """The results.json of each place; UserError if one has none, or if two are of the same benchmark."""
    found: dict[str, dict[str, Any]] = {}
    for place in places:
        folder = Path(place).expanduser()
        inner = [] if is_hub_id(place) else sorted(str(file.parent) for file in folder.glob("*/results.json"))
        for name in inner or [place]:
            result = files_beside(name, token).get("results.json", {})
            if not isinstance(result.get("scores"), dict):
                raise UserError(f"{name} has no results.json of benchmark.py")
            if (benchmark := result["benchmark"]) in found:
                raise UserError(f"{place} has a second result on {benchmark}: name the one that belongs to the model")
            found[benchmark] = result
    return list(found.values())


def evaluations_of(result: Mapping[str, Any]) -> list[EvalResult]:
    """The scores of a results.json in the Hub's form, in percent."""
    from huggingface_hub import EvalResult

    name = result["benchmark"]
    try:
        dataset = load_benchmark(name).dataset
    except UserError:  # of a version with other benchmarks
        dataset = None
    return [
        EvalResult(
            task_type=TASK,
            dataset_type=dataset or name,
            dataset_name=name,
            metric_type=score,
            metric_name=score,
            metric_value=round(100 * value, 2),
        )
        for score, value in result["scores"].items()
    ]


def with_evaluations(card: str, model: str, results: Sequence[Mapping[str, Any]]) -> str:
    """The card of a model with these results: in its YAML, and as a table with intervals in its text.

    UserError if its YAML, or the results there, can't be read: they would be lost.
    """
    import yaml
    from huggingface_hub import ModelCard

    try:
        parsed = ModelCard(card)
    except (ValueError, yaml.YAMLError) as error:
        cause = first_line(error).partition(". Pass")[0]
        raise UserError(f"its YAML can't be read, so correct it or remove it ({cause})") from error
    new = [evaluation for result in results for evaluation in evaluations_of(result)]
    names, metrics = {result["benchmark"] for result in results}, {evaluation.metric_type for evaluation in new}
    data: Any = parsed.data  # CardData, whose fields depend on the kind of card

    def is_replaced(old: Any) -> bool:  # a pass@10 of an earlier run must not stand beside the pass@1 of this one
        return old.dataset_name in names and (old.metric_type in metrics or old.metric_type.startswith("pass@"))

    kept = [evaluation for evaluation in data.eval_results or [] if not is_replaced(evaluation)]
    data.model_name = data.model_name or model
    data.eval_results = kept + new
    lines = [*HEAD, *(line for line in _lines_in(parsed.text) if line.split(" | ")[0].removeprefix("| ") not in names)]
    for result in results:
        for score, value in result["scores"].items():
            interval = result.get("intervals", {}).get(score)
            bounds = "{:.1f} to {:.1f}".format(*(100 * bound for bound in interval)) if interval else ""
            lines.append(f"| {result['benchmark']} | {score} | {100 * value:.1f} | {bounds} |")
    text = marked(parsed.text, BEGIN, END, "## Results\n\nMeasured with `benchmark.py`.\n\n" + "\n".join(lines))
    return f"---\n{parsed.data.to_yaml()}\n---\n\n{text}"


def _lines_in(text: str) -> list[str]:
    """The lines of the table that an earlier call has left in the text of a card."""
    section = text.partition(BEGIN)[2].partition(END)[0].splitlines()
    return [line for line in section if line.startswith("|") and line not in HEAD]


def main(options: Options) -> None:
    """Read the results, and write them onto the card."""
    check_secret("--hf-token", options.hf_token)
    if not options.results:
        raise UserError("name at least one output of benchmark.py after the model")
    results = read_results(options.results, options.hf_token)
    on_hub = is_hub_id(options.model)
    name = hub_name(options.model) if on_hub else Path(os.path.abspath(os.path.expanduser(options.model))).name
    if on_hub:
        _write_on_hub(name, results, options.hf_token)
    else:
        _write_in_folder(Path(options.model).expanduser(), name, results)
    shown = ", ".join(f"{result['benchmark']} {score}" for result in results for score in result["scores"])
    print(f"{options.model}: its card has {shown}")


def _write_in_folder(folder: Path, name: str, results: Sequence[Mapping[str, Any]]) -> None:
    file = folder / "README.md"
    if not (folder / "config.json").exists():
        raise UserError(f"{folder} is not the folder of a model: it has no config.json")
    temporary = folder / ".README.md.part"
    try:
        card = file.read_text() if file.exists() else ""
        temporary.write_text(with_evaluations(card or "---\n{}\n---\n", name, results))
        os.replace(temporary, file)
    except UserError as error:
        raise UserError(f"{file} is left alone: {error}") from error
    except OSError as error:
        raise UserError(f"{file} can't be written: {error.strerror or error}") from error


def _write_on_hub(repo: str, results: Sequence[Mapping[str, Any]], token: str | None) -> None:
    from huggingface_hub import CommitOperationAdd, HfApi, ModelCard
    from huggingface_hub.errors import EntryNotFoundError

    api = HfApi(token=token)
    try:
        head = with_retries(lambda: api.model_info(repo)).sha
        try:
            card = ModelCard.load(repo, token=token, ignore_metadata_errors=True).content
        except EntryNotFoundError:
            card = "---\n{}\n---\n"
        text = with_evaluations(card, repo.rpartition("/")[2], results)
        change = [CommitOperationAdd("README.md", text.encode())]
        # The parent: if somebody changes the card meanwhile, this is refused instead of undoing the change.
        with_retries(lambda: api.create_commit(repo, change, commit_message="results", parent_commit=head), 1)
    except UserError as error:
        raise UserError(f"the card of {repo} is left alone: {error}") from error
    except Exception as error:  # of the Hub or of the connection, for which the libraries have a dozen types
        raise UserError(f"the card of {repo} can't be written: {first_line(error)}") from error


if __name__ == "__main__":
    run_script(main, Options, __doc__)
