"""repair.py: as a command before execute.py, select.py and finetune.py, and what it refuses."""

import re

import pytest
import yaml
from aiohttp import web
from datasets import load_dataset

from code_eval.sandbox import Program, Sandbox
from selfalign.benchmarks import load_benchmark
from selfalign.code.feedback import feedback_of, telling
from selfalign.code.markdown import python_code
from selfalign.options import PROMPTS
from tests.data.tools import WORDS, block, sample
from tests.fakes.server import simulated
from tests.helpers import load_script, read_rows, run, run_json, run_well, write_rows
from tests.scripts.test_select import selected

EXAMPLES = yaml.safe_load((PROMPTS / "repairs.yaml").read_text())
TESTS = "assert double(3) == 6\nassert double(5) == 10"
RIGHT = "def double(x):\n    return x + x"
CHEAT = "def double(x):\n    return {3: 6, 5: 10}[x]"
WRONG = "def double(x):\n    return 0"
OWN_TESTS = f"It squares.\n\n{block(WRONG)}\n\n### Tests\n{block('assert double(2) == 0')}"


def attempt(number, code, outcome="failed", **more):
    return {
        "id": f"a{number}",
        "task_id": f"t{number}",
        "instruction": f"Write `double`, number {number}.",
        "response": block(code),
        "tests": block(TESTS),
        "passed": outcome == "passed",
        "outcome": outcome,
        "detail": "AssertionError",
        "error": None,
        **more,
    }


ATTEMPTS = [
    attempt(0, "def double(x):\n    return x + 3"),
    attempt(1, "def double(x):\n    return y", "error"),
    attempt(2, "def double(x):\n    while True: pass", "cpu_limit"),
    attempt(3, RIGHT, "passed"),
]


def answering(texts):
    """A model that answers a prompt with the first text when it first comes, then with the second, and so on.

    The samples of a prompt are asked at the same time, so which of them gets which text is chance."""
    asked = {}

    async def hook(_, body, __):
        prompt = body["inputs"]
        if "## Example" not in prompt:
            return None
        number = asked[prompt] = asked.get(prompt, -1) + 1
        details = {"finish_reason": "eos_token", "generated_tokens": 9, "seed": 0, "prefill": [], "tokens": []}
        return web.json_response({"generated_text": texts[number % len(texts)], "details": details})

    return hook


def repaired(folder, texts, *options, rows=ATTEMPTS):
    """The rows that repair.py writes, and what the model was asked."""
    source = write_rows(folder / "executions.jsonl", rows)
    with simulated(answering(texts)) as server:
        run_well("repair", source, folder / "repairs", "--endpoint", server.url, "--timeout", 0.3, *options)
        asked = [body["inputs"] for body in server.bodies if "## Example" in body["inputs"]]
    return read_rows(folder / "repairs"), asked


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repair")
    texts = [f"It has to add.\n\n{block(RIGHT)}", f"These are wanted.\n\n{block(CHEAT)}"]
    return folder, *repaired(folder, texts)


def test_each_failure_is_mended_several_times_and_what_passed_is_left_alone(made):
    _, rows, _ = made
    assert sorted((row["attempt_id"], row["sample"]) for row in rows) == [
        (f"a{n}", k) for n in range(3) for k in (0, 1)
    ]
    assert {row["task_id"] for row in rows} == {"t0", "t1", "t2"} and len({row["id"] for row in rows}) == 6
    assert {row["attempt_id"]: row["attempt_outcome"] for row in rows} == {
        "a0": "failed",
        "a1": "error",
        "a2": "cpu_limit",
    }
    assert all(row["pass_rate"] == 0.0 and row["judged_samples"] == 1 for row in rows)


def test_the_model_is_told_which_assertion_fails_and_with_what_value(made):
    _, rows, asked = made
    said = {row["attempt_id"]: row["feedback"] for row in rows}
    assert said["a1"] == "`assert double(3) == 6` raises NameError: name 'y' is not defined"
    assert said["a0"] == "`assert double(5) == 10` fails: its left side is 8"
    assert said["a2"].startswith("The program does not end: it needs more than 0.3 s of CPU time")
    assert all(any(text in prompt for prompt in asked) for text in said.values())


def test_code_that_holds_the_tests_answers_is_not_run(made):
    errors = {n: sorted(str(row["error"]) for row in made[1] if row["attempt_id"] == f"a{n}") for n in range(3)}
    assert errors == {n: ["None", "hard_coded"] for n in range(3)}
    assert run_json(made[0] / "repairs")["counts"] == {"hard_coded": 3, "ok": 3, "passed": 1}


def test_what_passes_becomes_a_conversation_whose_last_turn_is_learnt(made, tiny_model):
    folder = made[0]
    run_well("execute", folder / "repairs", folder / "mended", "--mutants", 0)
    assert run_json(folder / "mended")["counts"] == {"hard_coded": 3, "passed": 3}
    run_well("select", folder / "mended", folder / "chosen", "--decontaminate", "--skip", "same_names", "same_response",
             "near_instruction", "near_response", "near_code")  # fmt: skip
    rows = read_rows(folder / "chosen")
    assert {row["task_id"] for row in rows} == {"t0", "t1", "t2"} and {row["pass_rate"] for row in rows} == {0.0}
    chat = rows[0]["messages"]
    assert [turn["role"] for turn in chat] == ["user", "assistant", "user", "assistant"]
    assert chat[1]["content"] == rows[0]["attempt"] and rows[0]["feedback"] in chat[2]["content"]
    assert chat[3]["content"] == f"It has to add.\n\n{block(RIGHT)}"
    for name in ("repairs", "mended", "chosen"):
        run_well("verify", folder / name, "--decontaminate")

    finetune = load_script("finetune")
    options = finetune.Options(input=str(folder / "chosen"), output=str(folder / "model"), model=str(tiny_model))
    tokenizer = finetune.base_model(options).load_tokenizer(options.chat_template)
    encoded = finetune.to_tokens(rows[0], tokenizer, 4096)
    learnt = [id for id, label in zip(encoded["input_ids"], encoded["labels"], strict=True) if label != -100]
    assert tokenizer.decode(learnt).strip() == chat[3]["content"] + tokenizer.eos_token


def test_repairs_that_have_not_run_are_no_failures_yet(made, tmp_path):
    with simulated() as server:
        result = run("repair", made[0] / "repairs", tmp_path / "out", "--endpoint", server.url)
    assert result.returncode == 2 and "run execute.py on it first" in result.stderr, result.stderr
    assert not (tmp_path / "out").exists()


REPAIR = {"attempt": "An attempt.", "feedback": "It fails.", "explanation": "It is wrong."}


@pytest.mark.parametrize("column", REPAIR)
def test_what_is_of_a_benchmark_is_found_in_the_conversation_of_a_repair(tmp_path, column):
    known = load_benchmark("humaneval").problems()[4].prompt
    asked = sample("count", **REPAIR | {column: known})
    no_repair = sample("merge", **{name: known if name == column else None for name in REPAIR})
    kept, reasons = selected(tmp_path, [sample("sort", **REPAIR), asked, no_repair], decontaminate=("humaneval",))
    assert kept == {"sort-0", "merge-0"} and reasons == {"count-0": "contaminated"}


def test_tests_that_the_model_writes_are_never_run(tmp_path):
    """Else it would mend the tests."""
    rows, _ = repaired(tmp_path, [OWN_TESTS], "--samples", 1, rows=ATTEMPTS[:1])
    assert rows[0]["tests"] == block(TESTS) and "double(2) == 0" not in rows[0]["response"]
    run_well("execute", tmp_path / "repairs", tmp_path / "mended")
    (row,) = read_rows(tmp_path / "mended")
    assert row["outcome"] == "failed" and "double(2) == 0" not in row["program"]


def test_it_goes_on_where_it_stopped(tmp_path):
    texts = [f"It has to add.\n\n{block(RIGHT)}"]
    first, _ = repaired(tmp_path, texts, "--max-samples", 1)
    rows, asked = repaired(tmp_path, texts)
    assert len(first) == 2 and len(rows) == 6
    assert not [prompt for prompt in asked if f"number {first[0]['attempt_id'][1]}." in prompt], "asked again"


def test_agreed_tests_can_take_the_place_of_a_samples_own(tmp_path):
    """Three samples double, with one wrong test each; the fourth squares, and passes its own. Only that is mended."""
    same = {"task_id": "t", "instruction": WORDS["count"]}
    codes = [
        RIGHT,
        "def double(x):\n    return 2 * x",
        "def double(x):\n    return x * 2",
        "def double(x):\n    return x**2",
    ]
    tests = [f"assert double({n}) == {2 * n}\nassert double({n + 3}) == 1" for n in (3, 4, 5)]
    tests.append("assert double(3) == 9\nassert double(7) == 49")
    rows = [
        attempt(n, code, "failed" if n < 3 else "passed", tests=block(text)) | same
        for n, (code, text) in enumerate(zip(codes, tests, strict=True))
    ]
    mended, _ = repaired(tmp_path, [f"It has to add.\n\n{block(RIGHT)}"], "--judge", "consensus", rows=rows)
    assert {row["attempt_id"] for row in mended} == {"a3"} and mended[0]["pass_rate"] == 0.75
    assert "double(3) == 6" in mended[0]["tests"]


def test_code_that_knows_its_own_tests_alone_has_little_support(tmp_path):
    """Where no rule sees it: the task's other repairs compute something else on the inputs of theirs."""
    codes = ["def double(x):\n    return 6", RIGHT, "def double(x):\n    return 2 * x"]
    asked = ["assert double(3) == 6", "assert double(7) == 14", "assert double(9) == 18"]
    same = {"task_id": "t", "instruction": WORDS["count"]}
    rows = [
        attempt(n, code, "passed", tests=block(text)) | same
        for n, (code, text) in enumerate(zip(codes, asked, strict=True))
    ]
    source = write_rows(tmp_path / "mended.jsonl", rows)
    run_well("select", source, tmp_path / "out", "--min-support", 0.5, "--decontaminate")
    (kept,) = read_rows(tmp_path / "out")
    rejected = load_dataset(str(tmp_path / "out" / "rejected"), split="train")
    assert kept["id"] != "a0" and dict(zip(rejected["id"], rejected["reason"], strict=True))["a0"] == "little_support"


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    {
        "nothing fails": (ATTEMPTS[3:], (), r"no failure to mend \(1 passed\)"),
        "not of this kind": (ATTEMPTS[:1], ("--failures", "timeout"), r"no failure to mend \(1 other_failures\)"),
        "no executions": ([{"id": "a", "instruction": "Do."}], (), "no column task_id, response, tests, passed"),
        "other examples": (ATTEMPTS, ("--examples", PROMPTS / "docstrings.yaml"), "mappings with instruction, attempt"),
        "too little memory": (ATTEMPTS, ("--memory", 8), "memory must be at least"),
        "no server": (ATTEMPTS, ("--endpoint", "http://127.0.0.1:9"), "no endpoint answers at"),
    }.values(),
)
def test_what_cannot_work_is_refused_in_a_sentence(tmp_path, rows, options, said):
    source = write_rows(tmp_path / "in.jsonl", rows)
    with simulated() as server:
        endpoint = () if "--endpoint" in options else ("--endpoint", server.url)
        result = run("repair", source, tmp_path / "out", *endpoint, *options)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("repair.py: ")]
    assert result.returncode == 2 and re.search(said, line), line
    assert "Traceback" not in result.stderr and not (tmp_path / "out").exists()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["instruction"].split("`")[1])
def test_a_worked_example_says_what_its_tests_say(example):
    """Its attempt fails with exactly this feedback, and what it is mended to passes."""
    tests = python_code(example["tests"])
    with Sandbox(workers=1) as sandbox:
        programs = [Program(python_code(example["attempt"]), telling(tests), timeout=0.3)]
        failing, passing = sandbox.run([*programs, Program(python_code(example["response"]), tests)])
    said = feedback_of(failing.outcome, failing.detail).replace("more than 0.3 s", "more than 10 s")
    assert said == example["feedback"] and passing.passed
