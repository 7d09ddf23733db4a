"""The reward: shares of tests, no reward for an attack, and None for what was never judged."""

import asyncio
import os
import pickle
import time
import warnings

import pytest

from code_eval import reward as reward_module
from code_eval.assertions import text_without_main_block
from code_eval.markdown import code_in
from code_eval.reward import AsyncCodeReward, CodeReward, format_reward, share_of, text_of
from code_eval.sandbox import Result
from tests.code_eval.attacks import ATTACKS
from tests.code_eval.test_strict import FORGERIES

TESTS = "assert f(2) == 4\nassert f(3) == 9\nassert not abs(f(4) - 16) > 1e-6"
LOOP = "def f(x):\n    while True: pass"


def fenced(code: str) -> str:
    return f"Here it is:\n\n```python\n{code}\n```\n"


@pytest.fixture(scope="module")
def reward():
    with CodeReward(workers=2, timeout=1.0, preload=["unittest"]) as reward:
        yield reward


@pytest.mark.parametrize(
    ("completion", "tests", "earned"),
    [
        (fenced("def f(x): return x * x"), TESTS, 1.0),
        (fenced("def f(x): return 4"), TESTS, 0.9 / 3 + 0.1),
        (fenced("def f(x): return 5"), TESTS, 0.0),
        ("def f(x): return x * x", TESTS, 0.9),
        ("```python\ndef f(x): return x * x", TESTS, 0.9),
        ("<think>```python\ndef f(x): return 0\n```</think>" + fenced("def f(x): return x * x"), TESTS, 1.0),
        ([{"role": "assistant", "content": fenced("def f(x): return x * x")}], TESTS, 1.0),
        (fenced("def f(x): return x * x\nif __name__ == '__main__':\n print(f(int(input())))"), TESTS, 1.0),
        ("I can't do that.", TESTS, 0.0),
        ("", TESTS, 0.0),
        (fenced("def f(x): return x * x"), fenced(TESTS), 1.0),
        (fenced("def f(x): return 4"), TESTS.splitlines(), 0.9 / 3 + 0.1),
        (fenced("def f(x):\n if x == 3:\n  while True: pass\n return x * x"), TESTS, 0.9 / 3 + 0.1),
        (fenced("def f(x): return x * x"), None, None),
        (fenced("def f(x): return x * x"), "f(2)", None),
        (fenced("def f(x): return x * x"), "assert f(2) ==", None),
        (fenced("def f(x"), TESTS, 0.0),
    ],
)
def test_what_a_completion_earns(completion, tests, earned, reward):
    (found,) = reward([completion], [tests])
    assert found == (earned if earned is None else pytest.approx(earned))


@pytest.mark.parametrize(
    ("code", "tests", "earned"),
    [
        ("const f = (x) => x * x;", "assert.equal(f(2), 4);", 1.0),
        ("const f = (x) => 4;", "assert.equal(f(2), 4); assert.equal(f(3), 9);", 0.0),  # all or nothing
        ("const f = (", "assert.equal(f(2), 4);", 0.0),
        ("for (;;);", "assert.equal(f(2), 4);", 0.0),
        ("const f = (", "assert.equal(f(2), 4", None),
        ("const f = (x) => x * x;", "f(2);", None),
    ],
)
def test_what_javascript_earns(code, tests, earned, javascript):
    """Beside Python, by the column `language`."""
    completions, languages = [fenced(code).replace("python", "js"), fenced("def f(x): return x")], ["JavaScript", None]
    assert javascript(completions=completions, tests=[tests, "assert f(2) == 2"], language=languages) == [earned, 1.0]


@pytest.fixture(scope="module")
def javascript():
    with CodeReward("isolated", workers=1, timeout=1.0, preload=[]) as reward:
        yield reward


def test_a_strict_reward_refuses_javascript():
    with CodeReward(workers=1) as reward, pytest.raises(ValueError, match="'strict' is for Python only"):
        reward(["const f = 1;"], ["assert(f === 1)"], language=["javascript"])


def test_each_test_of_unittest_counts(reward):
    methods = "".join(f" def test_{x}(self): self.assertEqual(f({x}), {x * x})\n" for x in range(4))
    tests = f"import unittest\nclass T(unittest.TestCase):\n{methods}unittest.main()"
    assert reward.judge([fenced("def f(x): return x * 2")], [tests])[0].share == 0.5


def test_no_attack_is_rewarded(reward):
    lazy = [attack.code for attack in ATTACKS.values() if attack.tests and "cpu_limit" not in attack.outcomes]
    attacks = [*FORGERIES.values(), *lazy, *(attack.code for name, attack in ATTACKS.items() if "exit" in name)]
    completions = [text for code in attacks for text in (fenced(code), fenced(code + "\nf = globals().get('f', abs)"))]
    judged = reward.judge(completions, [TESTS] * len(completions))
    assert len(judged) > 100
    assert [(one.reward, one.result) for one in judged if one.reward != 0.0] == []


def test_as_trl_calls_it(reward):
    extra, metrics = {}, {}
    columns = {
        "prompts": ["p"] * 3,
        "completion_ids": [[1]] * 3,
        "completions": [[{"role": "assistant", "content": text}] for text in ("def f(x): return x", LOOP, "no")],
        "tests": ["assert f(1) == 1", "assert f(1) == 1", ""],
        "trainer_state": None,
        "log_extra": extra.__setitem__,
        "log_metric": metrics.__setitem__,
    }
    assert reward(**columns) == [0.9, 0.0, None]
    assert extra["outcome"] in (["passed", late, "not judged"] for late in ("cpu_limit", "timeout"))
    assert metrics == {f"code/{name}": pytest.approx(1 / 3) for name in ("passed", "timeout", "not_judged")}
    assert reward.__name__ == "code_reward"


def test_a_coroutine_earns_the_same():
    with AsyncCodeReward(workers=1, preload=[]) as reward:
        earned = asyncio.run(
            reward(completions=[fenced("def f(x): return x * x"), "no"], tests=[TESTS] * 2, prompts=["p"] * 2)
        )
    assert earned == [1.0, 0.0]


def test_endless_programs_do_not_hold_up_a_step():
    with CodeReward(workers=1, timeout=5.0, patience=1.0, preload=[]) as reward:
        completions = [fenced("def f(x): return x * x"), *[fenced(LOOP)] * 50]
        started = time.monotonic()
        earned = reward(completions, [TESTS] * 51)
        assert time.monotonic() - started < 100.0, "they would take 250 s"
        assert earned == [1.0, *[None] * 50]
        assert reward(completions[:1], [TESTS]) == [1.0], "the workers are free again"


def test_a_cancelled_step_ends_its_programs():
    async def cancelled(reward):
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reward.judge_async([fenced(LOOP)] * 10, [TESTS] * 10), 1.0)
        return await reward.judge_async([fenced("def f(x): return x * x")], [TESTS])

    with CodeReward(workers=1, timeout=30.0, patience=20.0, preload=[]) as reward:
        assert [one.share for one in asyncio.run(cancelled(reward))] == [1.0]


def test_what_the_sandbox_failed_runs_again(monkeypatch):
    """The sandbox itself has tried in vain; the next try is the one that counts."""
    with CodeReward(workers=1, preload=[]) as reward:
        reward(["x = 1"], ["assert x"])
        submit, failures = reward._sandboxes["python"].submit, [Result(0, False, "sandbox_error")] * 3

        def failing(program):
            future = submit(program)
            future.result()
            if failures:
                future._result = failures.pop()
            return future

        monkeypatch.setattr(reward._sandboxes["python"], "submit", failing)
        assert reward(["x = 1"], ["assert x"]) == [None], "after the last try"
        failures[:] = [Result(0, False, "sandbox_error")] * reward_module.AGAIN
        assert reward(["x = 1"], ["assert x"]) == [0.9]


def test_a_fork_and_a_copy_have_workers_of_their_own(reward):
    assert reward(["x = 1"], ["assert x"]) == [0.9]
    if (pid := os.fork()) == 0:
        os._exit(0 if reward(["x = 1"], ["assert x"]) == [0.9] else 1)
    assert os.waitpid(pid, 0)[1] == 0
    with pickle.loads(pickle.dumps(reward)) as copy:
        assert copy(["x = 1"], ["assert x"]) == [0.9]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"completions": ["x"], "answer": ["4"], "prompts": ["p"]}, "no column 'tests'; the columns are answer"),
        ({"completions": ["x"], "tests": "assert x"}, "1 completions need as many tests"),
        ({"completions": ["x"], "tests": ["assert x"] * 2}, "1 completions need as many tests"),
    ],
)
def test_wrong_columns_are_named(arguments, message, reward):
    with pytest.raises(ValueError, match=message):
        reward(**arguments)


@pytest.mark.parametrize("options", [{"format_weight": 2}, {"patience": 0}, {"timeout": "3"}])
def test_wrong_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        CodeReward(**options)


def test_another_column():
    with CodeReward(column="test_list", workers=1, preload=[], format_weight=0) as reward:
        assert reward(completions=["x = 1"], test_list=[["assert x == 1", "assert x == 2"]]) == [0.5]


@pytest.mark.parametrize(
    ("text", "code", "closed"),
    [
        ("```python\na\n```", "a\n", True),
        ("```py\na\n```\n\n~~~Python3\nb\n~~~", "a\n\n\nb\n", True),
        ("```\na\n```", "a\n", True),
        ("```bash\nls\n```\n```python\na\n```", "a\n", True),
        ("```bash\nls\n```", "", False),
        ("````python\n'''\n```\n'''\n````", "'''\n```\n'''\n", True),
        ("```python\na", "a", False),
        ("```python\r\nif a:\r\n    b\r\n```\r\n", "if a:\n    b\n", True),
        ("1. So:\n   ```python\n   if a:\n       b\n   ```", "if a:\n    b\n", True),
        (" ```python\nif a:\n b\n```", "if a:\n b\n", True),
        ("a", "a", False),
    ],
)
def test_the_code_of_a_text(text, code, closed):
    assert code_in(text) == (code, closed)
    assert format_reward([text], tests=[""]) == [float(closed)]


def without_main_block(code: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return text_without_main_block(code)


@pytest.mark.parametrize(
    ("code", "left"),
    [
        ('x = 1\nif __name__ == "__main__":\n    print(input())\n\ny = 2\n', "x = 1\n\ny = 2\n"),
        ("if '__main__' == __name__: x = 1\nelse:\n    x = 2\n", "x = 2\n"),
        ("def f():\n    if __name__ == '__main__': pass", "def f():\n    if __name__ == '__main__': pass"),
        ("if __name__ != '__main__':\n    x = 1", "if __name__ != '__main__':\n    x = 1"),
        ("x = '\\d'\r\nif __name__ == '__main__': pass", "x = '\\d'"),
    ],
)
def test_the_main_block_is_left_out(code, left):
    assert without_main_block(code) == left


@pytest.mark.parametrize(
    "odd", ["def f(:", "\x00", "\ud800", "(" * 5000, "1" * 5000, "0x" + "f" * 5000, "-" * 100_000 + "1"], ids=len
)
def test_no_code_with_a_main_block_raises_or_warns(odd):
    code = f"if __name__ == '__main__': pass\nelse: {odd}"
    assert without_main_block(code) == code


def test_the_text_of_messages():
    assert (
        text_of([{"role": "user", "content": "a"}, {"role": "assistant", "content": [{"type": "text", "text": "b"}]}])
        == "b"
    )
    assert text_of([]) == text_of([{"role": "assistant", "content": None}]) == ""


def test_who_does_not_pass_does_not_earn_all():
    assert share_of(Result(0, False, "error", tests_passed=4, tests=4)) == 0.75
