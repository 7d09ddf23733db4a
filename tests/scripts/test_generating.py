"""generate_concepts.py, generate_tasks.py and sample_responses.py: as commands against serve.py with a tiny random
model, and what they make of answers."""

import random
import re
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from aiohttp import web

from selfalign.code.markdown import python_code
from selfalign.data.selection import has_pass_rates
from selfalign.llm.prompts import load_examples
from selfalign.options import PROMPTS
from selfalign.runner.source import open_source
from tests.fakes.server import simulated
from tests.fakes.thinking import thinking
from tests.helpers import ROOT, load_script, read_rows, run, run_json, run_well, write_rows

SEEDS = [{"id": f"seed{i}", "content": f'def f{i}(x):\n    """Add {i}."""\n    return x + {i}'} for i in range(4)]
CONCEPTS = [{"id": f"c{i}", "concepts": ["lists", f"concept {i}"], "error": None} for i in range(4)]
TASKS = [{"id": f"t{i}", "instruction": f"Write a function that adds {i}.", "error": None} for i in range(3)]


def small(endpoint):
    examples = ROOT / "prompts" / "examples_small.yaml"
    return ("--endpoint", endpoint, "--examples", examples, "--shots", "1", "--max-new-tokens", "12")


def generate(script, rows, folder, endpoint, *options):
    folder.mkdir(exist_ok=True)
    run_well(script, write_rows(folder / "in.jsonl", rows), folder / "out", *small(endpoint), *options)
    return read_rows(folder / "out")


def test_concepts_as_a_command(tmp_path, endpoint):
    rows = generate("generate_concepts", SEEDS, tmp_path, endpoint)
    assert {row["seed_id"] for row in rows} == {seed["id"] for seed in SEEDS}
    assert all(bool(row["concepts"]) == (row["error"] is None) for row in rows)


def test_tasks_as_a_command_are_made_of_rows_without_an_error(tmp_path, endpoint):
    rows = generate("generate_tasks", [*CONCEPTS, {"id": "x", "error": "no_concepts"}], tmp_path, endpoint)
    assert {row["concepts_id"] for row in rows} == {row["id"] for row in CONCEPTS}
    assert run_json(tmp_path / "out")["counts"]["no_concepts"] == 1
    assert all(row["error"] == "unfinished" or row["finish_reason"] != "length" for row in rows)


def test_responses_as_a_command(tmp_path, endpoint):
    rows = generate("sample_responses", TASKS, tmp_path, endpoint, "--samples", "3")
    assert sorted((row["task_id"], row["sample"]) for row in rows) == [(t["id"], n) for t in TASKS for n in range(3)]
    assert len({row["completion"] for row in rows}) > 3, "samples of one task differ"


def test_the_ablation_without_concepts_is_another_template(tmp_path, endpoint):
    template = ROOT / "prompts" / "tasks_from_seed.jinja"
    rows = generate("generate_tasks", SEEDS, tmp_path, endpoint, "--template", template)
    assert {row["content"] for row in rows} == {seed["content"] for seed in SEEDS}


@pytest.mark.parametrize(
    ("script", "rows", "template"),
    [
        ("generate_concepts", SEEDS, "concepts"),
        ("generate_tasks", CONCEPTS, "tasks"),
        ("sample_responses", TASKS, "responses"),
    ],
)
def test_in_the_references_layout_an_answer_ends_at_the_next_example(tmp_path, script, rows, template):
    with simulated() as server:
        generate(script, rows, tmp_path, server.url, "--template", PROMPTS / "reference" / f"{template}.jinja")
        asked = [body for body in server.bodies if "## Example" in body["inputs"]]
    assert asked and all(body["parameters"]["stop"] == ["## Example"] for body in asked)
    assert all(body["inputs"] == body["inputs"].rstrip() for body in asked)


def test_two_runs_give_the_same_rows(tmp_path, endpoint):
    first = generate("generate_concepts", SEEDS, tmp_path / "a", endpoint)
    assert generate("generate_concepts", SEEDS[::-1], tmp_path / "b", endpoint, "--concurrency", "1") == first


def test_another_seed_gives_other_draws(tmp_path, endpoint):
    concepts = [row | {"id": f"{row['id']}-{copy}"} for row in CONCEPTS for copy in range(4)]
    first = generate("generate_tasks", concepts, tmp_path / "a", endpoint, "--temperature", "0")
    second = generate("generate_tasks", concepts, tmp_path / "b", endpoint, "--temperature", "0", "--seed", "1")
    assert [row["prompt_hash"] for row in first] != [row["prompt_hash"] for row in second]


def test_a_longer_run_continues_a_shorter_one(tmp_path, endpoint):
    generate("generate_concepts", SEEDS, tmp_path, endpoint, "--max-samples", "2")
    parts = {path.name for path in (tmp_path / "out" / "data").iterdir()}
    assert len(generate("generate_concepts", SEEDS, tmp_path, endpoint)) == 4
    assert parts < {path.name for path in (tmp_path / "out" / "data").iterdir()}, "what was there stays"


# Models that think ----------------------------------------------------------------------------------------------------

RESPONSE = "```python\ndef f(): pass\n```\n\n### Tests\n```python\nf()\n```"
# Rows, an answer, the column that it fills, and that of the reasoning.
STEPS = {
    "generate_concepts": (SEEDS, "lists, loops", "concepts", "concepts_reasoning"),
    "generate_tasks": (CONCEPTS, "Write a function.", "instruction", "instruction_reasoning"),
    "sample_responses": (TASKS, RESPONSE, "response", "reasoning"),
}


@pytest.mark.parametrize("step", STEPS)
def test_reasoning_is_kept_in_a_column_of_its_own_if_asked_to(tmp_path, step):
    """Every second answer ends while the model still thinks; the code in its reasoning is not taken for the answer."""
    rows, answer, filled, column = STEPS[step]
    think = thinking("reasoning", lambda prompt: answer)

    async def hook(request, body, number):
        return await think(request, body | {"max_tokens": 14 if number % 2 else 60}, number)

    with simulated(hook) as server:
        options = ("--api", "chat", "--reasoning", "keep")
        done = generate(step, rows, tmp_path, server.url, *options)
    assert {row["error"] for row in done} == {None, "unfinished"}
    assert all("assert 0" in row[column] for row in done)
    assert all((row[filled] is None) == (row["error"] == "unfinished") for row in done)


# What is wrong is said in one sentence, before anything is done ------------------------------------------------------


def complaint(script, *arguments):
    result = run(script, *arguments)
    assert result.returncode == 2, result.stdout + result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith(f"{script}.py: ")]
    assert len(lines) == 1 and "Traceback" not in result.stderr
    return lines[0]


@pytest.fixture
def seeds(tmp_path):
    return write_rows(tmp_path / "seeds.jsonl", SEEDS)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    {
        "no dataset": ("nowhere", (), "no dataset .*/nowhere"),
        "no column": ("text.jsonl", (), "no column content.* id, text"),
        "no rows": ("empty.parquet", (), "no rows"),
        "another model": ("seeds.jsonl", ("--model", "bigcode/starcoder2-3b"), "not bigcode/starcoder2-3b"),
        "no room": ("seeds.jsonl", ("--max-new-tokens", "2000"), "lower --shots or --max-new-tokens"),
        "no examples": ("seeds.jsonl", ("--examples", "none.yaml"), "examples none.yaml can't be read"),
    }.values(),
)
def test_what_cannot_work_is_refused_at_the_start(tmp_path, seeds, endpoint, name, options, said):
    nothing = pa.array([], pa.string())
    pq.write_table(pa.table({"id": nothing, "content": nothing}), tmp_path / "empty.parquet")
    write_rows(tmp_path / "text.jsonl", [{"id": "a", "text": "b"}])
    line = complaint("generate_concepts", tmp_path / name, tmp_path / "out", *small(endpoint), *options)
    assert re.search(said, line) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("step", "column"),
    [("generate_concepts", "content"), ("generate_tasks", "concepts"), ("sample_responses", "instruction")],
)
def test_one_row_too_long_for_the_model_is_no_reason_to_refuse_the_others(tmp_path, step, column):
    rows = STEPS[step][0]
    long = "# too long\n" * 3000
    first = rows[0] | {"id": "long", column: [long] if column == "concepts" else rows[0][column] + "\n" + long}
    with simulated(max_total_tokens=2048) as server:
        done = generate(step, [first, *rows], tmp_path, server.url)
    of = {"generate_concepts": "seed_id", "generate_tasks": "concepts_id", "sample_responses": "task_id"}[step]
    assert {row[of] for row in done if row["error"] == "prompt_too_long"} == {"long"}


def test_no_endpoint(tmp_path, seeds):
    said = complaint("generate_concepts", seeds, tmp_path / "out", *small("http://127.0.0.1:9"))
    assert "no endpoint answers at http://127.0.0.1:9" in said and not (tmp_path / "out").exists()


def test_an_endpoint_that_is_not_tgi(tmp_path, seeds):
    with simulated(has_info=False) as server:
        said = complaint("generate_concepts", seeds, tmp_path / "out", *small(server.url))
    assert "not a text-generation-inference endpoint" in said


def test_an_output_with_other_options(tmp_path, seeds, endpoint):
    def contents():
        return {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}

    generate("generate_concepts", SEEDS, tmp_path, endpoint)
    before = contents()
    changed = (*small(endpoint), "--temperature", "0.2")
    said = complaint("generate_concepts", tmp_path / "in.jsonl", tmp_path / "out", *changed)
    assert "temperature was 0.7, is 0.2" in said and contents() == before


def test_an_output_that_is_something_else(tmp_path, seeds, endpoint):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("precious")
    assert "thesis.txt" in complaint("generate_concepts", seeds, tmp_path / "out", *small(endpoint))


NO_ROW = "A question without a row. {{ shots | length }}"


@pytest.mark.parametrize(
    ("script", "rows", "options", "said"),
    {
        "no such kind": ("generate_tasks", CONCEPTS, ("--categories", "functions"), "none of class, function, program"),
        "kinds in one word": ("generate_tasks", CONCEPTS, ("--categories", "function,class"), "separated by spaces"),
        "no such difficulty": ("generate_tasks", CONCEPTS, ("--difficulties", "harder"), "none of easy, hard, medium"),
        "too many examples": ("sample_responses", TASKS, ("--shots", "50"), "more than the 21 worked examples"),
        "a template without a row": ("generate_concepts", SEEDS, ("--template", "t.jinja"), "no column of the input"),
        "repeated ids": ("generate_concepts", SEEDS + SEEDS, (), "has the id seed0 in more than one row"),
    }.values(),
)
def test_what_would_waste_hours_is_refused_before_a_server_is_asked(tmp_path, monkeypatch, script, rows, options, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.jinja").write_text(NO_ROW)
    source = write_rows(tmp_path / "in.jsonl", rows)
    assert said in complaint(script, source, tmp_path / "out", *options, "--endpoint", "http://127.0.0.1:9")


def test_own_seeds_need_no_id_and_may_have_another_column(tmp_path):
    """Those that are no functions are counted, and the model is not asked about them."""
    own = [{"func_source": seed["content"]} for seed in SEEDS]
    others = [{"func_source": "print(1)"}, {"func_source": "function f() {}"}]
    source = write_rows(tmp_path / "in.jsonl", own + others)
    with simulated() as server:
        named = ("--column", "content=func_source", "--endpoint", server.url)
        run_well("generate_concepts", source, tmp_path / "out", *named)
        asked = [body["inputs"] for body in server.bodies if "## Example" in body["inputs"]]
    assert len(asked) == 4 and run_json(tmp_path / "out")["counts"] == {"no_function": 1, "no_python": 1, "ok": 4}


def test_seeds_with_an_error_and_without_content_are_left_out(tmp_path, endpoint):
    generate("generate_concepts", [*SEEDS, {"id": "x", "error": "unreadable"}], tmp_path, endpoint)
    assert run_json(tmp_path / "out")["counts"]["unreadable"] == 1


def test_new_responses_to_instructions_keep_no_figures_of_the_old_ones(tmp_path, endpoint):
    rows = [{"instruction": f"Add {n}.", "response": "x", "tests": "x", "pass_rate": 1.0} for n in range(3)]
    run_well("execute", write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "executions")
    run_well("sample_responses", tmp_path / "executions", tmp_path / "out", *small(endpoint), "--samples", "1")
    source = open_source(str(tmp_path / "out"))
    assert not has_pass_rates(source) and set(source.rows["passed"]) == {None}
    assert has_pass_rates(open_source(str(tmp_path / "executions")))


def test_seeds_with_numbers_as_ids_are_answered(tmp_path):
    source = write_rows(tmp_path / "in.jsonl", [seed | {"id": n} for n, seed in enumerate(SEEDS)])
    with simulated() as server:
        run_well("generate_concepts", source, tmp_path / "out", "--endpoint", server.url)
    assert {row["seed_id"] for row in read_rows(tmp_path / "out")} == {"0", "1", "2", "3"}


# What is made of answers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cut_off", "concepts"),
    {
        "a list": ("heaps, sorting,  lazy evaluation", False, ["heaps", "sorting", "lazy evaluation"]),
        "repetitions": ("a, b, a", False, ["a", "b"]),
        "marks": ("- `a`, *b*.", False, ["a", "b"]),
        "nothing": (" , ,", False, []),
        "prose": ("x" * 101, False, []),
        "cut off": ("sorting, binary sea", True, ["sorting"]),
    }.values(),
)
def test_concepts_are_parsed(text, cut_off, concepts):
    assert load_script("generate_concepts").parse_concepts(text, cut_off) == concepts


RESPONSE, TESTS = "Adds.\n\n```python\nf = sum\n```", "```python\nassert f([1]) == 1\n```"


@pytest.mark.parametrize(
    ("completion", "parts"),
    {
        "both": (f"{RESPONSE}\n\n### Tests\n{TESTS}\n", (RESPONSE, TESTS, None)),
        "no tests": (RESPONSE, (RESPONSE, None, "no_tests")),
        "tests without code": (f"{RESPONSE}\n### Tests\nnone", (RESPONSE, "none", "no_tests")),
        "no code": (f"Adds.\n\n### Tests\n{TESTS}", ("Adds.", TESTS, "no_code")),
        "cut off": (f"{RESPONSE}\n### Tests\n{TESTS[:-4]}", (RESPONSE, TESTS[:-4], "unfinished")),
        "a heading cut off": (f"{RESPONSE}\n### Tests\n{TESTS}\n\n##", (RESPONSE, TESTS, None)),
        "a heading without text": (f"{RESPONSE}\n### Tests\n{TESTS}\n## Notes\n", (RESPONSE, TESTS, None)),
        "nothing": ("", (None, None, "no_code")),
        "with tags": (f"{RESPONSE}\n</response>\n\n<tests>\n{TESTS}\n", (RESPONSE, TESTS, None)),
        "all tags": (f"{RESPONSE}\n</response>\n\n<tests>\n{TESTS}\n</tests>\nmore", (RESPONSE, TESTS, None)),
    }.values(),
)
def test_completions_are_split(completion, parts):
    assert load_script("sample_responses").split_completion(completion) == parts


@pytest.mark.parametrize("indented", ["{}", " {}", "\n   {}"])
def test_blocks_that_are_indented_as_a_whole_stay_programs(indented):
    spaces = " " * indented.count(" ")
    blocks = [indented.format(text.replace("\n", f"\n{spaces}")) for text in (RESPONSE.split("\n\n")[1], TESTS)]
    response, tests, error = load_script("sample_responses").split_completion(f"{blocks[0]}\n\n### Tests\n{blocks[1]}")
    assert (python_code(response), python_code(tests), error) == ("f = sum\n", "assert f([1]) == 1\n", None)


def test_answers_that_are_cut_off_in_their_tests_are_kept_without_the_last_one(tmp_path):
    """Of a copy of a worked example, too, the tests are only whole once they are trimmed."""
    example = load_examples(PROMPTS / "examples_small.yaml").pool[0]
    copied = f"{example.response}\n\n### Tests\n{example.tests.rstrip().removesuffix('```')}assert f("
    answers = (f"{RESPONSE}\n\n### Tests\n{TESTS[:-3]}assert f([1, 2", copied, "Adds.\n\n```python\nf = su")

    async def hook(_, body, number):
        if "## Example" not in body["inputs"]:
            return None
        details = {"finish_reason": "length", "generated_tokens": 9, "seed": 0, "prefill": [], "tokens": []}
        return web.json_response({"generated_text": answers[number % 3], "details": details})

    for more, first in (((), (TESTS[:-3] + "assert f([1, 2", "unfinished")), (("--trim-tests",), (TESTS, None))):
        with simulated(hook) as server:
            rows = generate("sample_responses", TASKS, tmp_path / str(len(more)), server.url, *more)
        assert {row["completion"] for row in rows} == {*answers}
        errors = {row["completion"]: (row["tests"], row["error"]) for row in rows}
        assert errors[answers[0]] == first
        assert errors[copied][1] == ("copied_example" if more else "unfinished")
        assert errors[answers[2]] == (None, "unfinished")
        counts = run_json(tmp_path / str(len(more)) / "out")["funnel"][-1]["counts"]
        assert counts.get("trimmed") == (sum(row["completion"] != answers[2] for row in rows) if more else None)


@pytest.mark.parametrize("step", ["generate_tasks", "sample_responses"])
def test_what_is_copied_from_a_worked_example_is_not_used(tmp_path, step):
    """Every second answer is a worked example's, with another name or number; the others are not."""
    example = load_examples(PROMPTS / "examples_small.yaml").pool[0]
    instruction, own = example.instruction.replace(".", ",", 1), "Write a function that counts the days of a month."
    answers = {
        "generate_tasks": (instruction, own),
        "sample_responses": tuple(
            f"{example.response}\n\n### Tests\n{tests}"
            for tests in (example.tests, "```python\nassert f(3) == 28\n```")
        ),
    }[step]

    async def hook(_, body, number):
        if "## Example" not in body["inputs"]:
            return None
        details = {"finish_reason": "eos_token", "generated_tokens": 9, "seed": 0, "prefill": [], "tokens": []}
        return web.json_response({"generated_text": answers[number % 2], "details": details})

    with simulated(hook) as server:
        done = generate(step, STEPS[step][0], tmp_path, server.url)
    copied = {row["completion" if "completion" in row else "instruction"]: row["error"] for row in done}
    assert copied == {answers[0].strip(): "copied_example", answers[1].strip(): None}


def test_functions_are_drawn_twice_as_often_as_classes_and_programs():
    script = load_script("generate_tasks")
    options = script.Options(input="i", output="o")
    draws = random.Random(0)
    examples = script.load_examples(options.examples)
    counts = Counter(script.draw_properties(draws, options, examples)["category"] for _ in range(4000))
    assert counts["function"] / 4000 == pytest.approx(0.5, abs=0.05)
    assert counts["class"] / 4000 == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize("nothing", ["--categories", "--difficulties"])
def test_a_task_needs_something_to_draw_from(tmp_path, nothing):
    concepts = write_rows(tmp_path / "concepts.jsonl", CONCEPTS)
    assert "needs at least one name" in complaint("generate_tasks", concepts, tmp_path / "tasks", nothing)
