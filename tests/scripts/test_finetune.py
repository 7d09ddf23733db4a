"""finetune.py says what is wrong with its options or its data in one sentence, before any work is done."""

import pytest

from selfalign.errors import UserError
from selfalign.options import PROMPTS
from tests.training.tools import PAIRS, ROWS, finetune, options_of


@pytest.mark.parametrize(
    ("row", "more", "said"),
    [
        ({"text": "a"}, {}, "lacks messages, or instruction and response; its columns are text"),
        (ROWS[0], {"method": "dpo"}, "lacks chosen, prompt, rejected"),
        (ROWS[0], {"batch_size": 3, "device_batch_size": 2}, "must be a multiple of 1 devices x --device-batch-size 2"),
        (ROWS[0], {"model": "./nowhere"}, "model ./nowhere can't be loaded: there is no such file or folder"),
        (ROWS[0], {"quantize_4bit": True}, "needs --lora-rank"),
        (ROWS[0], {"quantize_4bit": True, "lora_rank": 8}, "pip install bitsandbytes"),
        (PAIRS[0], {"method": "dpo", "packing": True}, "cannot be combined"),
        (ROWS[0], {"report_to": "nowhere"}, "--report-to nowhere is not installed"),
        (ROWS[0], {"optimizer": "nowhere"}, "--optimizer nowhere is not known to transformers"),
        (ROWS[0], {"chat_template": PROMPTS / "tasks.jinja"}, "tasks.jinja is not a chat template: 'system'"),
        (ROWS[0], {"executor": "slurm"}, "accelerate launch"),
        (ROWS[0], {"eval_fraction": 1.5}, "--eval-fraction 1.5 must be at least 0 and below 1"),
        (ROWS[0], {"output": "org/model"}, "write ./org/model, and add --push-to-hub org/model"),
        (ROWS[0] | {"response": None}, {}, "can be used: {'no_response': 1}"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, tiny_model, row, more, said):
    with pytest.raises(UserError) as error:
        finetune.main(options_of(tmp_path, rows=[row], **{"model": tiny_model, **more}))
    assert said in str(error.value)


def test_a_chat_template_in_which_answers_have_no_end(tmp_path, tiny_model):
    (template := tmp_path / "chat.jinja").write_text("{% for m in messages %}{{ m.content + '\\n' }}{% endfor %}")
    with pytest.raises(UserError, match="ends an answer with no end token"):
        finetune.main(options_of(tmp_path, tiny_model, chat_template=template))


def test_a_chat_that_the_chat_template_refuses(tmp_path, tiny_model):
    template, ours = tmp_path / "chat.jinja", (PROMPTS / "chat.jinja").read_text()
    template.write_text(
        "{% if messages[0].role == 'system' %}{{ raise_exception('No system role') }}{% endif %}" + ours
    )
    row = {"messages": [{"role": role, "content": "x"} for role in ("system", "user", "assistant")]}
    with pytest.raises(UserError, match="does not take a chat of system, user, assistant: No system role"):
        finetune.main(options_of(tmp_path, tiny_model, [row], chat_template=template))
