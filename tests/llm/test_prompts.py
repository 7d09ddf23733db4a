"""Worked examples and templates: two formats of examples, one prompt."""

import random

import pytest

from selfalign.errors import UserError
from selfalign.llm.prompts import Example, Examples, draw_examples, load_examples, load_prompt
from selfalign.options import PROMPTS
from tests.helpers import ROOT

TEXT = """### System: I->R
Answer the task.

### System: S->C
Name
concepts.

### Example 1
[Code]
```python
def f(x):
    return x
```

[Property]
category: function
language: Python
difficulty: easy
concepts: identity, functions

[Instruction]
Write f.

[Response]
Here:

```python
def f(x):
    return x
```

[Tests]
```python
assert f(1) == 1
```

### Example 2
[Code]
g = 1
[Property]
concepts: constants
category: program
difficulty: hard
language: Python
[Instruction]
Write g.
[Response]
g
[Tests]
t
"""


@pytest.fixture
def text_examples(tmp_path):
    (tmp_path / "fewshot.txt").write_text(TEXT)
    return load_examples(tmp_path / "fewshot.txt")


def test_the_reference_text_format_is_read(text_examples):
    first, second = text_examples.pool
    assert first.seed == "def f(x):\n    return x" and first.concepts == ["identity", "functions"]
    assert first.response.startswith("Here:") and first.tests == "```python\nassert f(1) == 1\n```"
    assert (second.category, second.difficulty, second.concepts) == ("program", "hard", ["constants"])


def test_system_texts_of_the_reference_replace_ours(text_examples):
    assert text_examples.system == {"I->R": "Answer the task.", "S->C": "Name\nconcepts."}
    prompt = load_prompt(PROMPTS / "concepts.jinja", text_examples)
    assert prompt.render(row={"content": "x"}, shots=[]).startswith("Name\nconcepts.\n\n## Example 1")


def test_a_missing_section_is_said(tmp_path):
    (tmp_path / "bad.txt").write_text(TEXT.replace("[Tests]", "[Test]"))
    with pytest.raises(UserError, match=r"example 1 has no \[Tests\]"):
        load_examples(tmp_path / "bad.txt")


def test_a_missing_property_is_said(tmp_path):
    (tmp_path / "bad.txt").write_text(TEXT.replace("difficulty: easy\n", ""))
    with pytest.raises(UserError, match="example 1 has no difficulty"):
        load_examples(tmp_path / "bad.txt")


@pytest.mark.parametrize("text", ["", "a: b", "- name: x", "[", "- 1"])
def test_a_yaml_file_of_something_else_is_said(tmp_path, text):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(UserError, match=r"examples .*bad\.yaml"):
        load_examples(tmp_path / "bad.yaml")


def test_examples_are_drawn_without_repetition():
    pool = load_examples(PROMPTS / "examples.yaml")
    drawn = draw_examples(random.Random(0), pool, 8)
    assert len({example.instruction for example in drawn}) == 8


def test_every_example_is_drawn_as_often():
    pool = Examples([Example(str(i), [], "", "", "", "", "", "") for i in range(21)])
    draws = random.Random(0)
    counts = [0] * 21
    for _ in range(2100):
        for example in draw_examples(draws, pool, 8):
            counts[int(example.seed)] += 1
    assert max(counts) < 1.2 * 800 and min(counts) > 0.8 * 800


def test_more_shots_than_examples_take_all_of_them():
    assert len(draw_examples(random.Random(0), load_examples(PROMPTS / "examples_small.yaml"), 100)) == 8


ROW = {"content": "SEED", "concepts": ["one", "two"], "instruction": "TASK"}
DRAWN = {"category": "class", "language": "python", "difficulty": "hard"}


@pytest.mark.parametrize(
    ("template", "columns", "ending"),
    [
        ("concepts", {"content"}, "SEED\n```\n\n### Concepts\n"),
        (
            "tasks",
            {"concepts"},
            "category: class\nlanguage: python\ndifficulty: hard\nconcepts: one, two\n\n### Task\n",
        ),
        ("tasks_from_seed", {"content"}, "SEED\n```\n\n### Task\n"),
        ("responses", {"instruction"}, "### Task\nTASK\n\n### Response\n"),
    ],
)
def test_templates_end_where_the_model_goes_on(template, columns, ending):
    examples = load_examples(PROMPTS / "examples.yaml")
    prompt = load_prompt(PROMPTS / f"{template}.jinja", examples)
    text = prompt.render(row=ROW, shots=examples.pool[:2], **DRAWN)
    assert prompt.columns == columns and text.endswith(ending) and "## Example 3" in text


def test_a_completed_example_has_the_form_of_the_worked_ones():
    """What precedes the last heading's content is the same for worked examples and for the one to complete."""
    examples = load_examples(PROMPTS / "examples.yaml")
    shot = examples.pool[0]
    render = load_prompt(PROMPTS / "responses.jinja", examples).render
    asked = render(row={"instruction": shot.instruction}, shots=[])
    shown = render(row=ROW, shots=[shot])
    assert shown.startswith(asked) and shown[len(asked) :].startswith(shot.response + "\n\n### Tests\n" + shot.tests)


def test_an_unknown_variable_is_no_silence(tmp_path):
    (tmp_path / "t.jinja").write_text("{{ row.content }}{{ typo }}")
    prompt = load_prompt(tmp_path / "t.jinja", load_examples(PROMPTS / "examples_small.yaml"))
    with pytest.raises(UserError, match=r"t\.jinja can't be filled: 'typo' is undefined"):
        prompt.render(row=ROW, shots=[])


def test_a_file_that_is_no_text_is_said(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"examples .*binary can't be read: it is not text in UTF-8"):
        load_examples(tmp_path / "binary")
    with pytest.raises(UserError, match=r"template .*binary can't be read: it is not text in UTF-8"):
        load_prompt(tmp_path / "binary", load_examples(PROMPTS / "examples_small.yaml"))


def test_a_broken_template_is_said(tmp_path):
    (tmp_path / "t.jinja").write_text("{% if %}")
    with pytest.raises(UserError, match="template"):
        load_prompt(tmp_path / "t.jinja", load_examples(PROMPTS / "examples_small.yaml"))


def test_prompts_are_known_by_template_and_examples(tmp_path):
    small, large = (load_examples(PROMPTS / name) for name in ("examples_small.yaml", "examples.yaml"))
    (tmp_path / "moved.jinja").write_text((ROOT / "prompts" / "tasks.jinja").read_text())
    hashes = [load_prompt(PROMPTS / "tasks.jinja", e).hash for e in (small, large)]
    assert hashes[0] == load_prompt(tmp_path / "moved.jinja", small).hash != hashes[1]
