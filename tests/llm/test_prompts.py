"""Worked examples and templates: two formats of examples, one prompt."""

import random
from collections import Counter
from dataclasses import fields

import pytest
import yaml

from selfalign.errors import UserError
from selfalign.llm.prompts import (
    Example,
    Examples,
    JudgedDocstring,
    Repair,
    draw_examples,
    in_words_of,
    load_examples,
    load_prompt,
    warn_if_alike,
)
from selfalign.options import PROMPTS

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


LARGE = load_examples(PROMPTS / "examples.yaml")
SMALL = load_examples(PROMPTS / "examples_small.yaml")


def test_the_reference_text_format_is_read_and_its_system_texts_replace_ours(tmp_path):
    (tmp_path / "fewshot.txt").write_text(TEXT)
    examples = load_examples(tmp_path / "fewshot.txt")
    first, second = examples.pool
    assert first.seed == "def f(x):\n    return x" and first.concepts == ["identity", "functions"]
    assert first.response == "Here:" and first.tests == "```python\nassert f(1) == 1\n```"
    assert (second.category, second.difficulty, second.concepts) == ("program", "hard", ["constants"])
    assert examples.system == {"I->R": "Answer the task.", "S->C": "Name\nconcepts."}
    prompt = load_prompt(PROMPTS / "concepts.jinja", examples)
    assert prompt.render(row={"content": "x"}, shots=[]).startswith("Name\nconcepts.\n\n## Example 1")


def test_the_mark_of_editors_on_windows_is_no_part_of_a_text(tmp_path):
    for name, text in (("fewshot.txt", TEXT), ("concepts.jinja", "Name them: {{ row.content }}")):
        (tmp_path / name).write_text(text, encoding="utf-8-sig")
    examples = load_examples(tmp_path / "fewshot.txt")
    assert examples.system.keys() == {"I->R", "S->C"}
    assert load_prompt(tmp_path / "concepts.jinja", examples).render(row={"content": "x"}) == "Name them: x"


def test_a_snippet_that_begins_in_the_middle_of_a_function_keeps_its_indentation(tmp_path):
    (tmp_path / "fewshot.txt").write_text(TEXT.replace("[Code]\ng = 1", "[Code]\n    g = 1\n    return g\n"))
    assert load_examples(tmp_path / "fewshot.txt").pool[1].seed == "    g = 1\n    return g"


def test_a_query_uses_the_words_of_its_worked_examples(tmp_path):
    text = TEXT.replace("category: function", "category: function implementation")
    (tmp_path / "fewshot.txt").write_text(text)
    examples = load_examples(tmp_path / "fewshot.txt")
    words = [("category", "function"), ("category", "program"), ("category", "class"), ("language", "python")]
    used = [in_words_of(examples, column, name) for column, name in words]
    assert used == ["function implementation", "program", "class", "Python"]
    assert [in_words_of(LARGE, column, name) for column, name in words] == [name for _, name in words]


def test_the_references_layout_is_that_of_its_responses():
    shot = LARGE.pool[0]
    text = load_prompt(PROMPTS / "reference" / "responses.jinja", LARGE).render(row=ROW, shots=[shot])
    assert f"<response>\n{shot.response}\n</response>\n\n<tests>\n{shot.tests}\n</tests>\n\n## Example 2" in text
    assert text.endswith("<instruction>\nTASK\n</instruction>\n\n<response>")


@pytest.mark.parametrize("template", ["concepts", "tasks", "tasks_from_seed", "responses"])
def test_the_references_prompts_end_without_a_line_break_and_its_answers_at_the_next_example(template):
    prompt = load_prompt(PROMPTS / "reference" / f"{template}.jinja", LARGE)
    assert prompt.stop == ["## Example"] and load_prompt(PROMPTS / f"{template}.jinja", LARGE).stop is None
    text = prompt.render(row=ROW, shots=LARGE.pool[:2], **DRAWN)
    assert text == text.strip() and "## Example 3" in text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (TEXT.replace("[Tests]", "[Test]"), r"example 1 has no \[Tests\]"),
        (TEXT.replace("difficulty: easy\n", ""), "the \\[Property\\] of example 1 has no difficulty"),
        *((text, "should be a YAML list") for text in ("", "a: b", "- name: x", "[", "- 1", "- seed: 2024-13-45")),
        ("[]", "holds no example"),
        (b"\xff\xfe\x00", "can't be read: it is not UTF-8 text"),
    ],
)
def test_examples_in_neither_format_are_refused(tmp_path, text, complaint):
    (tmp_path / "bad").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=f"examples .*/bad.* {complaint}"):
        load_examples(tmp_path / "bad")


VALID = {
    Example: {f.name: "x" for f in fields(Example)} | {"concepts": ["one", "two"]},
    JudgedDocstring: {"seed": "x", "good": True, "reason": "x"},
    Repair: {f.name: "x" for f in fields(Repair)},
}


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        *((Example, "concepts", value) for value in ("recursion, lists", None, [], ["", "x"], [1], [{"a": "b"}])),
        *((Example, name, None) for name in VALID[Example] if name != "concepts"),
        *((Example, "category", value) for value in ("", 3, ["function"], "\n")),
        (JudgedDocstring, "good", "yes"),
        (Repair, "feedback", 3),
    ],
)
def test_an_example_with_a_value_of_the_wrong_type_is_refused(tmp_path, kind, name, value):
    """A string of concepts would be joined letter by letter, and an empty response would leave every row open."""
    (tmp_path / "own.yaml").write_text(yaml.safe_dump([VALID[kind], VALID[kind] | {name: value}]))
    with pytest.raises(UserError, match=rf"examples .*/own\.yaml: {name} of example 2 must be "):
        load_examples(tmp_path / "own.yaml", kind)


@pytest.mark.parametrize(("shots", "drawn"), [(8, 8), (100, 21)])
def test_examples_are_drawn_without_repetition(shots, drawn):
    examples = draw_examples(random.Random(0), LARGE, shots)
    assert len(examples) == len({example.instruction for example in examples}) == drawn


def test_rows_that_all_give_the_same_prompt_are_noticed(tmp_path, capsys):
    (tmp_path / "t.jinja").write_text("{{ row.license }}")
    prompt = load_prompt(tmp_path / "t.jinja", SMALL)
    warn_if_alike(prompt, [{"license": "mit", "content": str(n)} for n in range(3)])
    assert "the first 3 rows give the same prompt" in capsys.readouterr().err
    warn_if_alike(prompt, [{"license": "mit"}, {"license": "0bsd"}])
    assert not capsys.readouterr().err


def test_every_example_is_drawn_as_often():
    pool = Examples([Example(str(i), [], "", "", "", "", "", "") for i in range(21)])
    draws = random.Random(0)
    counts = Counter(example.seed for _ in range(2100) for example in draw_examples(draws, pool, 8))
    assert len(counts) == 21 and max(counts.values()) < 1.2 * 800 and min(counts.values()) > 0.8 * 800


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
def test_templates_end_where_the_model_continues(template, columns, ending):
    prompt = load_prompt(PROMPTS / f"{template}.jinja", LARGE)
    text = prompt.render(row=ROW, shots=LARGE.pool[:2], **DRAWN)
    assert prompt.columns == columns and text.endswith(ending) and "## Example 3" in text


@pytest.mark.parametrize("shots", [0, 1, 2])
@pytest.mark.parametrize(
    ("template", "columns", "ending"),
    [
        ("concepts", {"content"}, "### Code\n```python\nSEED\n```\n"),
        ("tasks", {"concepts"}, "difficulty: hard\nconcepts: one, two\n"),
        ("responses", {"instruction"}, "### Task\nTASK\n"),
    ],
)
def test_instructions_for_chats_end_with_the_question(template, columns, ending, shots):
    prompt = load_prompt(PROMPTS / "instructions" / f"{template}.jinja", LARGE)
    text = prompt.render(row=ROW, shots=LARGE.pool[:shots], **DRAWN)
    assert prompt.columns == columns and text.endswith(ending)
    assert ("example" in text) == (shots > 0)


def test_a_completed_example_has_the_form_of_the_worked_ones():
    """What precedes the last heading's content is the same for worked examples and for the one to complete."""
    shot = LARGE.pool[0]
    render = load_prompt(PROMPTS / "responses.jinja", LARGE).render
    asked = render(row={"instruction": shot.instruction}, shots=[])
    shown = render(row=ROW, shots=[shot])
    assert shown.startswith(asked) and shown[len(asked) :].startswith(shot.response + "\n\n### Tests\n" + shot.tests)


@pytest.mark.parametrize(
    ("template", "columns"),
    [
        ("{{ row.content }}{{ row.get('name') }}", {"content"}),
        ("{{ row['func source'] }}", {"func source"}),
        ("{{ row.content }}{{ row[0] }}", {"content"}),
        ("{% for name, value in row.items() %}{{ value }}{% endfor %}", set()),
    ],
)
def test_the_columns_that_a_template_needs_are_known(tmp_path, template, columns):
    (tmp_path / "t.jinja").write_text(template)
    prompt = load_prompt(tmp_path / "t.jinja", SMALL)
    assert prompt.columns == columns and prompt.uses_row


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        (b"{{ row.content }}{{ typo }}", "can't be filled: 'typo' is undefined"),
        (b"{% if %}", "Expected an expression"),
        (b"\xff\xfe\x00", "can't be read: it is not UTF-8 text"),
        *(
            (f"{{% set stop = {stop} %}}{{{{ row.content }}}}".encode(), "stop should be a list of strings")
            for stop in ('"###"', "[]", '[""]', "[1]", "row.stop")
        ),
    ],
)
def test_templates_that_cannot_be_used_are_refused(tmp_path, template, complaint):
    (tmp_path / "t.jinja").write_bytes(template)
    with pytest.raises(UserError, match=rf"template .*/t\.jinja.* {complaint}"):
        load_prompt(tmp_path / "t.jinja", SMALL).render(row=ROW, shots=[])


def test_the_hash_covers_template_and_examples_but_not_their_place(tmp_path):
    (tmp_path / "moved.jinja").write_text((PROMPTS / "tasks.jinja").read_text())
    small, large = (load_prompt(PROMPTS / "tasks.jinja", each).hash for each in (SMALL, LARGE))
    assert small == load_prompt(tmp_path / "moved.jinja", SMALL).hash != large


@pytest.mark.parametrize(
    ("pool", "system", "digest"),
    [
        ([Example("s", ["c"], "function", "python", "easy", "i", "r", "t")], {"S->C": "x"}, "eca3b3a86186cad0"),
        ([JudgedDocstring("s", True, "r")], {}, "dfd89ff8dd79d989"),
    ],
)
def test_runs_begun_by_earlier_versions_continue(tmp_path, pool, system, digest):
    """The hash covers the repr of the examples: with another class or field name, these runs could not be resumed."""
    (tmp_path / "t.jinja").write_text("{{ row.content }}")
    assert load_prompt(tmp_path / "t.jinja", Examples(pool, system)).hash == digest


def test_similar_examples_are_of_the_same_category_and_the_nearest_comes_last():
    task = {"category": "class", "difficulty": "hard"}
    drawn = draw_examples(random.Random(0), LARGE, 4, like=task)
    assert [(e.category, e.difficulty) for e in drawn] == [("class", "medium")] * 2 + [("class", "hard")] * 2
