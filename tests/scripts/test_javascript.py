"""JavaScript from a seed to a conversation: the steps one after another, and what is refused as not there."""

import pytest
from aiohttp import web
from datasets import load_dataset

from experiments.problem_tasks import in_any_language
from selfalign.data.languages import are_tests, languages_in, prompt_file
from selfalign.errors import UserError
from selfalign.options import PROMPTS
from selfalign.runner.source import open_source
from tests.data.tools import sample
from tests.fakes.server import simulated
from tests.helpers import load_script, read_rows, write_rows

SEED = {"id": "s", "content": "/** Adds one. */\nfunction addOne(x) {\n  return x + 1;\n}"}
RESPONSE = "Adds two.\n\n```js\nconst addTwo = (x) => x + 2;\n```"
TESTS = "```javascript\nassert.strictEqual(addTwo(1), 3);\n```"
ANSWERS = {
    "### Concepts": "arrow functions, addition",
    "### Task": "Write a function `addTwo(x)` that adds 2.",
    "### Response": f"{RESPONSE}\n\n### Tests\n{TESTS}",
}


def answered(request, body, number):
    """The server's answer to a prompt of one of the steps."""
    text = next((text for end, text in ANSWERS.items() if body["inputs"].rstrip().endswith(end)), None)
    return text and web.json_response(
        {"generated_text": text, "details": {"finish_reason": "eos_token", "generated_tokens": 9, "tokens": []}}
    )


def row(id, code="const addTwo = (x) => x + 2;", tests="assert.equal(addTwo(1), 3);", passed=True, **columns):
    """A row of executions in JavaScript."""
    row = sample(id, passed=passed) | {"response": f"So:\n\n```js\n{code}\n```", "tests": f"```js\n{tests}\n```"}
    return row | {"language": "javascript", "error": None} | columns


def step(name, source, output, **options):
    """Runs the script `name` in this process."""
    script = load_script(name)
    script.main(script.Options(input=str(source), output=str(output), **options))


def test_a_seed_becomes_an_execution(tmp_path):
    """Each prompt shows JavaScript only, and the rows say what they are."""

    async def hook(request, body, number):
        return answered(request, body, number)

    with simulated(hook) as server:
        asking = {"language": "javascript", "endpoint": (server.url,)}
        seeds = write_rows(tmp_path / "seeds.jsonl", [SEED])
        step("generate_concepts", seeds, tmp_path / "concepts", **asking)
        step("generate_tasks", tmp_path / "concepts", tmp_path / "tasks", **asking)
        step("sample_responses", tmp_path / "tasks", tmp_path / "responses", **asking, samples=2)
        prompts = [body["inputs"] for body in server.bodies if "## Example" in body["inputs"]]
    step("execute", tmp_path / "responses", tmp_path / "executions", sandboxes=1)
    assert len(prompts) == 4 and not [text for text in prompts if "ython" in text]
    assert "```javascript" in prompts[0] and "language: javascript" in prompts[1] and "Node's assert" in prompts[2]
    found = [(row["language"], row["passed"]) for row in read_rows(tmp_path / "executions")]
    assert found == [("javascript", True)] * 2


@pytest.mark.parametrize(
    ("name", "rows", "options", "said"),
    {
        "rows of Python": (
            "sample_responses",
            [{"id": "t", "instruction": "Do.", "language": "python"}],
            {"language": "javascript"},
            "rows in python, and the prompts are in javascript: leave out --language",
        ),
        "rows of JavaScript": (
            "sample_responses",
            [{"id": "t", "instruction": "Do.", "language": "javascript"}],
            {},
            "rows in javascript, and the prompts are in python: add --language javascript",
        ),
        "concepts of JavaScript": (
            "generate_tasks",
            [{"id": "c", "concepts": ["arrow functions"], "language": "javascript"}],
            {},
            "rows in javascript, and the prompts are in python: add --language javascript",
        ),
        "examples of Python": (
            "generate_tasks",
            [{"id": "t", "concepts": ["a"]}],
            {"language": "javascript", "examples": PROMPTS / "examples_plain.yaml"},
            "examples_plain.yaml are in python, which --language javascript is not",
        ),
        "repairs in both": (
            "repair",
            [row("sort", passed=False), row("merge", passed=False, language=None)],
            {},
            "has rows in javascript and python: give it one language at a time",
        ),
        "an audit": (
            "audit",
            [row("sort", benchmark="mbppplus", problem="Mbpp/2")],
            {},
            "rows in javascript: benchmarks with hidden tests are here only for Python",
        ),
        "another language": (
            "select",
            [row("sort", language="rust")],
            {"min_support": 0.5},
            "rows in rust: only programs in python and javascript can run",
        ),
        "harbor": ("export", [row("sort")], {"to": "harbor"}, "what harbor does with tests is only for Python"),
    }.values(),
)
def test_what_is_not_there_is_said_in_a_sentence(tmp_path, name, rows, options, said):
    source = write_rows(tmp_path / "in.jsonl", rows)
    with pytest.raises(UserError) as error:
        step(name, source, tmp_path / "out", **options)
    assert said in str(error.value) and not (tmp_path / "out").exists()


def test_rewards_in_strict_mode_are_only_for_python(tmp_path):
    script = load_script("reinforce")
    options = {"input": str(write_rows(tmp_path / "in.jsonl", [row("sort")])), "output": str(tmp_path / "out")}
    with pytest.raises(UserError, match="rows in javascript: rewards in strict mode, which --sandbox-mode isolated"):
        script.read_tasks(script.Options(**options))
    script.read_tasks(script.Options(**options, sandbox_mode="isolated"))
    assert are_tests("assert(f(1) === 2)", "javascript") and not are_tests("f(1)", "javascript")


def test_an_export_of_chats_takes_both_languages(tmp_path):
    chat = [{"role": "user", "content": "Do."}, {"role": "assistant", "content": RESPONSE}]
    source = write_rows(tmp_path / "in.jsonl", [row("sort", messages=chat)])
    step("export", source, tmp_path / "out", to="openai")
    assert "```js" in (tmp_path / "out" / "train.jsonl").read_text()


def test_what_is_published_is_executed_in_its_language(tmp_path, capsys):
    python = sample("split") | {"language": None, "error": None}
    source = write_rows(tmp_path / "in.jsonl", [row("sort"), row("merge", tests="assert.equal(addTwo(1), 4);"), python])
    verify = load_script("verify")
    with pytest.raises(SystemExit):
        verify.main(verify.Options(dataset=str(source), sandboxes=1, decontaminate=()))
    said = capsys.readouterr().out
    assert "of 3 executed rows agree" in said and "row merge-0: passed there, failed here AssertionError" in said


def test_templates_of_the_project_have_a_twin_and_those_of_a_user_have_none(tmp_path):
    assert prompt_file(PROMPTS / "tasks_from_seed.jinja", "javascript").parent.name == "javascript"
    assert prompt_file(PROMPTS / "tasks.jinja", "javascript") == PROMPTS / "tasks.jinja", "which names no language"
    assert prompt_file(tmp_path / "responses.jinja", "javascript") == tmp_path / "responses.jinja"
    shown = [path for path in (PROMPTS / "javascript").glob("*.jinja") if "ython" in path.read_text()]
    assert not shown and prompt_file(PROMPTS / "responses.jinja", "python") == PROMPTS / "responses.jinja"


def test_tasks_of_benchmarks_can_leave_their_language_out():
    assert in_any_language("Write a python function to add.") == "Write a function to add."
    assert in_any_language("Complete:\n\n```python\ndef f(x):\n```") is None


def test_the_best_of_a_mixed_dataset_is_selected(tmp_path):
    """Each row by the rules of its language; what is vacuous, a stub or a copy is dropped."""
    rows = [
        row("sort"),
        row("reverse", code="const flip = (text) => [...text].reverse().join('');", tests="assert(flip('ab'));"),
        row("count", code="function count() {}", tests="assert.equal(count(), undefined);"),
        row("merge", code="const addTwo = (x) => 2 + x;", tests="assert.strictEqual(addTwo(0), 2);"),
        row("join", code="const glue = (a, b) => a + '/' + b;", tests="assert(glue);", vacuous=True),
        sample("split") | {"language": "python", "error": None, "vacuous": False},
    ]
    source = write_rows(tmp_path / "in.jsonl", [{"vacuous": False} | one for one in rows])
    options = {"decontaminate": (), "report": False, "test_in_instruction": 1.0, "skip": ("near_instruction",)}
    step("select", source, tmp_path / "out", **options)
    chosen = {one["task_id"]: one["messages"] for one in read_rows(tmp_path / "out")}
    assert len(chosen) == 3 and {"reverse", "split"} < {*chosen}, "two rows define addTwo"
    assert "```javascript\nassert(flip('ab'));\n```" in chosen["reverse"][0]["content"]
    assert "```python\nassert split(0) == 0" in chosen["split"][0]["content"]
    rejected = load_dataset(str(tmp_path / "out" / "rejected"), split="train")
    reasons = dict(zip(rejected["task_id"], rejected["reason"], strict=True))
    assert reasons.items() >= {"count": "stub", "join": "vacuous"}.items() and "same_names" in reasons.values()


def compared(id, code, language, number):
    """One of several samples of a task, whose own tests claim what is wrong; the inputs are theirs."""
    tests = "".join(
        f"assert.strictEqual(twice({n}), 0);\n" if language == "javascript" else f"assert twice({n}) == 0\n"
        for n in (number, 7)
    )
    blocks = {name: f"So:\n\n```{language}\n{text}\n```" for name, text in (("response", code), ("tests", tests))}
    return sample("sort" if language == "javascript" else "merge", number) | blocks | {"id": id, "language": language}


@pytest.fixture
def both(tmp_path):
    """Samples of a task in each language, the third of which does something else."""
    bodies = {
        "javascript": [
            "const twice = (x) => x + x;",
            "function twice(x) {\n  return 2 * x;\n}",
            "const twice = (x) => x;",
        ],
        "python": ["def twice(x):\n    return x + x", "def twice(x):\n    return 2 * x", "def twice(x):\n    return x"],
    }
    rows = [
        compared(f"{language}{number}", code, language, number) | {"passed": False, "outcome": "failed"}
        for language, codes in bodies.items()
        for number, code in enumerate(codes, start=1)
    ]
    return write_rows(tmp_path / "in.jsonl", rows)


def test_samples_of_each_language_agree_among_themselves(tmp_path, both):
    options = {"decontaminate": (), "report": False, "sandboxes": 1, "skip": ("same_names",)}
    step("select", both, tmp_path / "out", strategy="consensus", **options)
    chosen = {one["language"]: one for one in read_rows(tmp_path / "out")}
    assert chosen["javascript"]["id"] in ("javascript1", "javascript2") and chosen["python"]["id"] in (
        "python1",
        "python2",
    )
    assert chosen["javascript"]["tests"].startswith(
        '```javascript\nconst assert = require("assert");\n\nassert.strictEqual('
    )
    step("execute", tmp_path / "out", tmp_path / "again", sandboxes=1, mutants=0)
    assert [(one["outcome"], one["vacuous"]) for one in read_rows(tmp_path / "again")] == [("passed", False)] * 2


def test_the_one_that_agrees_with_most_others_is_chosen(tmp_path):
    codes = ["const f = (x) => x + x;", "const f = (x) => 2 * x;", "const f = (x) => x;"]
    tests = ["assert.equal(f(3), 6);", "assert.equal(f(4), 8);", "assert.equal(f(0), 0);"]
    rows = [row("sort", code, test) | {"id": str(n)} for n, (code, test) in enumerate(zip(codes, tests, strict=True))]
    source = write_rows(tmp_path / "in.jsonl", rows)
    step("select", source, tmp_path / "out", choose="agreement", decontaminate=(), report=False, sandboxes=1)
    assert [one["id"] for one in read_rows(tmp_path / "out-agreement") if one["agreement"] < 0.5] == ["2"]
    assert read_rows(tmp_path / "out")[0]["id"] in "01"


def test_rows_that_say_no_language_are_pythons_beside_others(tmp_path):
    source = write_rows(tmp_path / "in.jsonl", [row("sort"), row("merge", language=None)])
    assert languages_in(open_source(str(source))) == ["javascript", "python"]
    source = write_rows(tmp_path / "more.jsonl", [{"id": "a"}])
    assert languages_in(open_source(str(source))) == ["python"]
