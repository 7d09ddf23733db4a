"""reinforce.py says what is wrong with its options or its data in one sentence, before any work is done."""

import importlib.util

import pytest

from selfalign.data.languages import are_tests
from selfalign.errors import UserError
from selfalign.options import PROMPTS
from tests.training.reinforcing import TASKS, reinforce, reinforcement


@pytest.mark.parametrize(
    ("row", "more", "said"),
    [
        ({"instruction": "a"}, {}, "has no column tests; its columns are instruction"),
        ({"tests": "a"}, {}, "has no column instruction; its columns are tests"),
        ({"instruction": "a", "test_list": ["b"]}, {}, "are instruction, test_list; --column tests=NAME takes"),
        (TASKS[0] | {"tests": 3}, {}, "holds int64, but it must hold text or lists of text"),
        (TASKS[0] | {"tests": "f(2)"}, {}, "can be used: {'no_tests': 1}"),
        (TASKS[0] | {"tests": "assert f("}, {}, "can be used: {'no_tests': 1}"),
        (TASKS[0] | {"tests": None}, {}, "can be used: {'no_tests': 1}"),
        (TASKS[0] | {"instruction": " "}, {}, "can be used: {'no_instruction': 1}"),
        (TASKS[0], {"max_prompt_length": 3}, "can be used: {'prompt_too_long': 1}"),
        (TASKS[0], {"eval_fraction": 0.5}, "only 1 of the 1 rows"),
        (TASKS[0], {"samples": 1}, "nothing to compare"),
        (TASKS[0], {"batch_size": 10}, "--batch-size 10 must be a multiple of --samples 4"),
        (TASKS[0], {"device_batch_size": 3}, "must be a multiple of 1 devices x --device-batch-size 3"),
        (TASKS[0], {"model": "./nowhere"}, "model ./nowhere can't be loaded: there is no such file or folder"),
        (TASKS[0], {"quantize_4bit": True}, "needs --lora-rank"),
        (TASKS[0], {"vllm": "yes"}, "--vllm yes is neither colocate nor the URL of a server"),
        (TASKS[0], {"optimizer": "nowhere"}, "--optimizer nowhere is not known to transformers"),
        (TASKS[0], {"chat_template": PROMPTS / "nowhere.jinja"}, "nowhere.jinja is not a file"),
        (TASKS[0], {"executor": "slurm"}, "accelerate launch"),
        (TASKS[0], {"output": "org/model"}, "write ./org/model, and add --push-to-hub org/model"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, tiny_model, row, more, said):
    with pytest.raises(UserError) as error:
        reinforce.main(reinforcement(tmp_path, **{"model": tiny_model, "rows": [row], **more}))
    assert said in str(error.value)


@pytest.mark.parametrize("where", ["colocate", "http://127.0.0.1:8000"])
def test_vllm_without_its_package_or_a_gpu(where, monkeypatch):
    import torch

    if importlib.util.find_spec("vllm") is None:
        with pytest.raises(UserError, match="needs vLLM: pip install vllm"):
            reinforce.check_vllm(where)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="needs a GPU, and there is none"):
        reinforce.check_vllm(where)


def test_a_machine_without_a_sandbox(tmp_path, tiny_model, monkeypatch):
    monkeypatch.setattr("code_eval.isolation.platform.machine", lambda: "riscv64")
    with pytest.raises(UserError, match="riscv64"):
        reinforce.main(reinforcement(tmp_path, tiny_model))
    assert not (tmp_path / "reinforced").exists()


@pytest.mark.parametrize(
    ("tests", "are"),
    [
        ("assert f(1) == 1", True),
        ("```python\nassert f(1) == 1\n```", True),
        (["x = f(1)", "assert x == 1"], True),
        ("import unittest\nclass T(unittest.TestCase):\n def test_a(self): self.assertTrue(f)\nunittest.main()", True),
        ("def test_a():\n    assert f(1) == 1", False),
        ("x = '\\d'\nprint(f(1))", False),
        ("```bash\nls\n```", False),
        ("\0", False),
        ([], False),
    ],
)
def test_what_counts_as_tests(tests, are):
    assert are_tests(tests) == are
