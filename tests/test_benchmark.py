"""benchmark.py: the estimate of pass@k, the programs that judge, and the script as a command."""

import itertools
import json
import random

import pytest
from helpers import load_script, read_rows, run, run_well, write_rows

from code_eval.sandbox import Program, Sandbox
from selfalign.benchmarks import humaneval, pass_at_k

PROBLEMS = humaneval.problems()


def verdicts(programs):
    with Sandbox(workers=2) as sandbox:
        results = sorted(sandbox.run(Program(code=c, tests=t) for c, t in programs), key=lambda result: result.index)
    return [result.outcome for result in results]


@pytest.mark.parametrize("style", ["completion", "chat"])
def test_all_canonical_solutions_of_humaneval_pass(style):
    chat = "Here it is:\n\n```python\n{}\n```"
    answers = [
        p.canonical_solution if style == "completion" else chat.format(p.prompt + p.canonical_solution)
        for p in PROBLEMS
    ]
    programs = [humaneval.program(p, answer, style) for p, answer in zip(PROBLEMS, answers, strict=True)]
    assert len(programs) == 164 and set(verdicts(programs)) == {"passed"}


def test_an_empty_answer_never_passes():
    assert "passed" not in verdicts([humaneval.program(p, "\n    pass\n", "completion") for p in PROBLEMS[:40]])


def test_prompts_hold_no_solution():
    for problem in PROBLEMS:
        assert problem.canonical_solution.strip() not in humaneval.completion_prompt(problem)


def test_pass_at_k_is_the_mean_over_all_choices():
    """The definition: the share of all k-subsets of the samples that hold a passing one."""
    draws = random.Random(0)
    for _ in range(100):
        n = draws.randint(1, 9)
        c, k = draws.randint(0, n), draws.randint(1, n)
        subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
        assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets), abs=1e-12)


def test_scores_are_means_over_problems():
    rows = [{"task_id": t, "passed": p, "outcome": "passed" if p else "failed"} for t, p in [("a", True), ("b", False)]]
    summary = load_script("benchmark").summarize(rows)
    assert summary["pass@1"] == 0.5 and "pass@10" not in summary and summary["outcomes"] == {"passed": 1, "failed": 1}


@pytest.fixture
def problems(tmp_path):
    fields = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
    rows = [{name: getattr(problem, name) for name in fields} for problem in PROBLEMS[:3]]
    return write_rows(tmp_path / "problems.jsonl", rows)


def test_an_endpoint_as_a_command(tmp_path, endpoint, problems):
    options = ("--data", problems, "--samples", "10", "--temperature", "0.8", "--max-new-tokens", "8")
    printed = run_well("benchmark", endpoint, tmp_path / "out", *options).stdout
    rows = read_rows(tmp_path / "out")
    assert len(rows) == 30 and len({row["task_id"] for row in rows}) == 3
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["problems"] == 3 and {"pass@1", "pass@10"} <= results.keys()
    assert "humaneval pass@1: 0.0 % (0 of 30)" in printed


def test_a_model_folder_through_its_chat_template_as_a_command(tmp_path, tiny_model, problems):
    model = tmp_path / "model"
    model.mkdir()
    for file in tiny_model.iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    (model / "chat_template.jinja").write_text("{{ 'ASK ' + messages[0]['content'] }}")
    options = ("--data", problems, "--prompt-style", "chat", "--max-new-tokens", "8")
    run_well("benchmark", model, tmp_path / "out", *options)
    assert all(row["prompt"].startswith("ASK Complete this Python function") for row in read_rows(tmp_path / "out"))


def test_chat_without_a_template_is_said(tmp_path, endpoint):
    result = run("benchmark", endpoint, tmp_path / "out", "--prompt-style", "chat")
    assert result.returncode == 2 and "--tokenizer" in result.stderr
