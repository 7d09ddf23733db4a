"""JavaScript from a seed to a conversation: the steps one after another, and what is refused as not there."""

import pytest
from aiohttp import web
from datasets import load_dataset

from experiments.problem_tasks import in_any_language
from selfalign.data.languages import prompt_file
from selfalign.errors import UserError
from selfalign.options import PROMPTS
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
        "examples of Python": (
            "generate_tasks",
            [{"id": "t", "concepts": ["a"]}],
            {"language": "javascript", "examples": PROMPTS / "examples_plain.yaml"},
            "examples_plain.yaml are in python, which --language javascript is not",
        ),
        "a repair": ("repair", [row("sort", passed=False)], {}, "rows in javascript: repairs exist only for Python"),
        "an audit": (
            "audit",
            [row("sort", benchmark="mbppplus", problem="Mbpp/2")],
            {},
            "rows in javascript: benchmarks with hidden tests are here only for Python",
        ),
        "agreement": ("select", [row("sort")], {"choose": "agreement"}, "--choose agreement is only for Python"),
        "support": ("select", [row("sort")], {"min_support": 0.5}, "--min-support is only for Python"),
        "harbor": ("export", [row("sort")], {"to": "harbor"}, "what harbor does with tests is only for Python"),
    }.values(),
)
def test_what_is_not_there_is_said_in_a_sentence(tmp_path, name, rows, options, said):
    source = write_rows(tmp_path / "in.jsonl", rows)
    with pytest.raises(UserError) as error:
        step(name, source, tmp_path / "out", **options)
    assert said in str(error.value) and not (tmp_path / "out").exists()


def test_rewards_are_only_for_python(tmp_path):
    script = load_script("reinforce")
    source = write_rows(tmp_path / "in.jsonl", [row("sort")])
    with pytest.raises(UserError, match="rows in javascript: rewards are only for Python"):
        script.read_tasks(script.Options(input=str(source), output=str(tmp_path / "out"), model="m"))


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
