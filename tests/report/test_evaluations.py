"""What benchmark.py measured, on the card of a model."""

import json

import pytest
from huggingface_hub import ModelCard

from selfalign.errors import UserError
from selfalign.report.evaluations import Options, main


@pytest.fixture
def model(tmp_path):
    """A model's folder, and results on two benchmarks beside it."""
    for name, value in (("humaneval", 0.25), ("mbpp", 0.5)):
        (tmp_path / "results" / name).mkdir(parents=True)
        result = {"benchmark": name, "scores": {"pass@1": value}, "intervals": {"pass@1": [0.125, 0.75]}}
        (tmp_path / "results" / name / "results.json").write_text(json.dumps(result))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "README.md").write_text("---\nlicense: mit\n---\n\nMy words.\n")
    return tmp_path / "model"


def add(model, *results):
    main(Options(model=str(model), results=tuple(str(model.parent / "results" / name) for name in results)))
    return ModelCard.load(model / "README.md")


def test_results_are_on_the_card_in_the_form_of_the_hub(model):
    card = add(model, ".")
    assert {(r.dataset_name, r.metric_type, r.metric_value) for r in card.data.eval_results} == {
        ("humaneval", "pass@1", 25.0),
        ("mbpp", "pass@1", 50.0),
    }
    assert "| humaneval | pass@1 | 25.0 | 12.5 to 75.0 |" in card.text
    assert card.data.license == "mit" and "My words." in card.text and "model-index:" in card.content


def test_a_new_result_replaces_that_of_its_benchmark_alone(model):
    file = model.parent / "results" / "mbpp" / "results.json"
    file.write_text(json.dumps({"benchmark": "mbpp", "scores": {"pass@1": 0.5, "pass@10": 0.875}}))
    add(model, ".")
    file.write_text(json.dumps({"benchmark": "mbpp", "scores": {"pass@1": 0.75}}))
    card = add(model, "mbpp")
    assert {(r.dataset_name, r.metric_value) for r in card.data.eval_results} == {("humaneval", 25.0), ("mbpp", 75.0)}
    assert card.text.count("## Results") == 1
    lines = [line for line in card.text.splitlines() if line.startswith("| ")][1:]
    assert lines == ["| humaneval | pass@1 | 25.0 | 12.5 to 75.0 |", "| mbpp | pass@1 | 75.0 |  |"]


@pytest.mark.parametrize(
    ("results", "said"),
    [(("nothere",), "no results.json"), ((".", "mbpp"), "a second result on mbpp"), ((), "at least one")],
)
def test_what_is_wrong_is_said_and_the_card_stays(model, results, said):
    before = (model / "README.md").read_text()
    with pytest.raises(UserError, match=said.replace(".", r"\.")):
        add(model, *results)
    assert (model / "README.md").read_text() == before


INDEX = "model-index:\n- name: m\n  results:\n  - task: {type: x}\n    metrics: [{type: acc, value: 3}]"


@pytest.mark.parametrize("metadata", [INDEX, "license: [mit", "- mit"])
def test_a_card_that_can_not_be_read_is_left_alone(model, metadata):
    """Written anew, it would have lost what is there."""
    (model / "README.md").write_text(before := f"---\n{metadata}\n---\n")
    with pytest.raises(UserError, match=r"README\.md is left alone: its YAML can't be read"):
        add(model, "mbpp")
    assert (model / "README.md").read_text() == before
