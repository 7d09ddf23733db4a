"""What a model that thinks learns: its reasoning, where it is asked to, as its chat template writes it."""

import dataclasses

import pytest

from selfalign.errors import UserError
from selfalign.llm.chat_template import chat_template_of
from tests.training.tools import PAIRS, ROWS, finetune, prepared, tokenizer_of

ROW = ROWS[0] | {"reasoning": "Adding is enough."}
# What matters of Qwen3's template: it takes the reasoning apart, and may turn it off in the prompt.
QWEN3 = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.reasoning_content %}"
    "{{ '<think>\\n' + m.reasoning_content + '\\n</think>\\n\\n' }}{% endif %}{{ m.content + eos_token + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"
)
FORGETS = "{% for m in messages %}{{ m.role + ': ' + m.content.split('</think>')[-1] + eos_token }}{% endfor %}"


def options_with(make, tmp_path, template, *rows, **more):
    path = tmp_path / "template.jinja"
    path.write_text(template)
    return make(list(rows), reasoning="keep", chat_template=path, **more)


@pytest.mark.parametrize("template", [None, QWEN3], ids=["ours", "Qwen3's"])
def test_reasoning_is_learnt_before_the_answer(make, tmp_path, template):
    options = options_with(make, tmp_path, template, ROW) if template else make([ROW], reasoning="keep")
    examples, _, _ = prepared(options)
    labels = [label for label in examples["labels"][0] if label != finetune.NO_LOSS]
    end = tokenizer_of(options).eos_token
    assert tokenizer_of(options).decode(labels) == f"<think>\n{ROW['reasoning']}\n</think>\n\n{ROW['response']}{end}"


def test_it_is_not_learnt_by_default(make):
    (with_it, _, _), (without, _, _) = prepared(make([ROW])), prepared(make([ROWS[0]]))
    assert with_it["input_ids"][:] == without["input_ids"][:]


def test_it_is_taken_from_messages_of_which_only_answers_have_it_and_only_if_asked_to(make, tmp_path):
    answer = {"role": "assistant", "content": "Done.", "reasoning_content": "Adding is enough."}
    options = options_with(make, tmp_path, QWEN3, {"messages": [{"role": "user", "content": "Add."}, answer]})
    for reasoning, learnt in ("keep", True), ("strip", False):
        (ids,) = prepared(dataclasses.replace(options, reasoning=reasoning))[0]["input_ids"]
        assert ("Adding is enough." in tokenizer_of(options).decode(ids)) is learnt


def test_no_reasoning_is_preferred(make, tmp_path):
    """--reasoning keep is refused for pairs, so they have none, whatever the chat template would write."""
    chosen = {"role": "assistant", "content": "Done.", "reasoning_content": "Adding is enough."}
    options = options_with(make, tmp_path, QWEN3, PAIRS[0] | {"chosen": [chosen]}, method="dpo")
    (pair,) = prepared(dataclasses.replace(options, reasoning="strip"))[0]
    assert pair["chosen"] == "Done." + str(tokenizer_of(options).eos_token)


def test_reasoning_that_the_data_lack_or_the_template_forgets_is_said(make, tmp_path):
    with pytest.raises(UserError, match="lacks the column reasoning"):
        prepared(make(reasoning="keep"))
    with pytest.raises(UserError, match="leaves out the reasoning"):
        prepared(options_with(make, tmp_path, FORGETS, ROW))


def test_a_model_that_learnt_to_think_is_asked_as_one_that_does(make, tmp_path):
    tokenizer_of(make(reasoning="keep")).save_pretrained(tmp_path)
    template = chat_template_of(str(tmp_path))
    assert template.thinks and template("x") == "### Instruction\nx\n\n### Response\n"


@pytest.mark.parametrize(("arguments", "thinks"), [({}, True), ({"enable_thinking": False}, False)])
def test_an_argument_of_the_template_turns_thinking_off(make, tmp_path, arguments, thinks):
    tokenizer = tokenizer_of(options_with(make, tmp_path, QWEN3, ROW))
    tokenizer.save_pretrained(tmp_path)
    assert chat_template_of(str(tmp_path), arguments=arguments).thinks is thinks
    with pytest.raises(UserError, match="does not mention it"):
        chat_template_of(str(tmp_path), arguments={"enable_thinkin": False})


def test_a_template_without_reasoning_does_not_think(make, tmp_path):
    tokenizer_of(make()).save_pretrained(tmp_path)
    assert not chat_template_of(str(tmp_path)).thinks
