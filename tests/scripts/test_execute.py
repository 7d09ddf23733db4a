"""execute.py as a command: real programs, in the real sandbox."""

import pytest

from code_eval.sandbox import Result
from selfalign.errors import UserError
from tests.helpers import load_script, read_rows, run, run_json, run_well, write_rows


def sample(id, code, tests="assert f(2) == 3"):
    response = f"Words.\n\n```python\n{code}\n```"
    return {"id": id, "response": response, "tests": f"```python\n{tests}\n```", "error": None}


SAMPLES = [
    sample("passed", "def f(x):\n    return x + 1"),
    sample("failed", "def f(x):\n    return x"),
    sample("error", "def f(x):\n    return y"),
    sample("syntax_error", "def f(x)\n    return x"),
    sample("cpu_limit", "def f(x):\n    while True: pass"),
    sample("no_tests", "def f(x):\n    return x", "f(2)"),
    {"id": "unfinished", "response": None, "tests": None, "error": "unfinished"},
]


def execute(folder, samples, *arguments):
    """The rows of the executions of `samples`, by id, and the run's counts."""
    run_well("execute", write_rows(folder / "in.jsonl", samples), folder / "out", *arguments)
    return {row["id"]: row for row in read_rows(folder / "out")}, run_json(folder / "out")["counts"]


@pytest.fixture(scope="module")
def executions(tmp_path_factory):
    return execute(tmp_path_factory.mktemp("execute"), SAMPLES, "--timeout", "1")


def test_each_sample_ends_as_it_should(executions):
    rows, counts = executions
    assert {name: row["outcome"] for name, row in rows.items()} == {name: name for name in rows}
    assert [name for name, row in rows.items() if row["passed"]] == ["passed"]
    assert counts["unfinished"] == 1, "what had an error before"


def test_reason_and_program_are_kept(executions):
    rows, _ = executions
    assert "name 'y' is not defined" in rows["error"]["detail"] and rows["passed"]["detail"] is None
    assert rows["passed"]["program"] == "def f(x):\n    return x + 1\n\n\nassert f(2) == 3\n"


def test_only_the_tests_may_have_a_main_block(tmp_path):
    main = "if __name__ == '__main__':\n    "
    program = f"def f(x):\n    return x + 1\n\n{main}print(f(int(input())))"
    rows, _ = execute(tmp_path, [sample("asks", program), sample("tested", program, f"{main}assert f(2) == 0")])
    assert [row["outcome"] for row in rows.values()] == ["passed", "failed"]


def test_what_passes_with_a_remark_is_counted(tmp_path):
    code = "def f(x):\n    return x + 1\n\ndef close(a, b):\n    return a == b"
    samples = [sample("direct", code), sample("by_its_helper", code, "assert close(f(2), 3)")]
    _, counts = execute(tmp_path, samples, "--sandbox-mode", "strict", "--mutants", "0")
    assert counts["passed"] == 2 and counts["remark_helpers"] == 1


def test_the_strength_of_tests_that_do_not_pass_is_unknown(executions):
    strengths = [(row["vacuous"], row["mutation_score"]) for row in executions[0].values() if not row["passed"]]
    assert strengths == [(None, None)] * 5


# ---- JavaScript ----


def javascript(id, code, tests="assert.equal(f(2), 3);", language="javascript"):
    response = f"Words.\n\n```js\n{code}\n```"
    return {
        "id": id,
        "response": response,
        "tests": f"```javascript\n{tests}\n```",
        "error": None,
        "language": language,
    }


def test_each_row_runs_in_its_language(tmp_path):
    samples = [
        javascript("passed", "const f = (x) => x + 1;"),
        javascript("failed", "const f = (x) => x;", language="JavaScript"),
        javascript("syntax_error", "def f(x): return x + 1"),
        sample("python", "def f(x):\n    return x + 1") | {"language": "python"},
        sample("unsaid", "def f(x):\n    return x + 1") | {"language": None},
        sample("spoken", "def f(x):\n    return x + 1") | {"language": "en"},
    ]
    rows, _ = execute(tmp_path, samples)
    outcomes = {name: "passed" if name in ("python", "unsaid", "spoken") else name for name in rows}
    assert {name: row["outcome"] for name, row in rows.items()} == outcomes and len(rows) == 6
    strengths = {name: (row["vacuous"], row["mutation_score"]) for name, row in rows.items()}
    passing = {strengths.pop(name) for name in ("passed", "python", "unsaid", "spoken")}
    assert passing == {(False, 1.0)}
    assert [*strengths.values()] == [(None, None)] * 2
    assert rows["passed"]["program"].startswith("const f") and "assert.equal" in rows["passed"]["program"]


@pytest.mark.parametrize(
    ("language", "arguments", "sentence"),
    [
        ("rust", [], "rows in rust: only programs in python and javascript can run"),
        ("javascript", ["--sandbox-mode", "strict"], "The mode 'strict' is for Python only"),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_runs(language, arguments, sentence, tmp_path):
    rows = write_rows(tmp_path / "in.jsonl", [javascript("a", "", language=language)])
    result = run("execute", rows, tmp_path / "out", *arguments)
    assert result.returncode == 2 and sentence in result.stderr, result.stderr
    assert result.stderr.strip().count("\n") == 0 and not (tmp_path / "out" / "data").exists()


# ---- how strong tests are: code, tests that check what it does, and tests that do not ----

CLOSEST = """
def closest(values, target=0):
    if not values:
        raise ValueError("no values")
    best = values[0]
    for value in values[1:]:
        if abs(value - target) < abs(best - target):
            best = value
    return best
"""
CLOSEST_TESTS = """
assert closest([5, 3, 9], 4) == 5
assert closest([5, 4, 9]) == 4
assert closest([1, 9, 6], 7) == 6
assert closest([3, -1]) == -1
assert closest([-2, 2]) == -2
try:
    closest([])
    assert False
except ValueError:
    pass
"""
ACCOUNT = """
class Account:
    def __init__(self, balance=0):
        self.balance = balance

    def withdraw(self, amount):
        if amount > self.balance:
            return False
        self.balance -= amount
        return True
"""
ACCOUNT_TESTS = """
account = Account(5)
assert account.withdraw(6) is False and account.balance == 5
assert account.withdraw(5) is True and account.balance == Account().balance == 0
"""
THOROUGH = {"closest": (CLOSEST, CLOSEST_TESTS), "account": (ACCOUNT, ACCOUNT_TESTS)}
WEAK = {
    "types only, closest": (CLOSEST, "assert isinstance(closest([5, 3, 9], 4), int)"),
    "types only, account": (ACCOUNT, "assert type(Account(1).withdraw(1)) is bool"),
}
VACUOUS = {
    "no values": (CLOSEST, "result = closest([5, 3, 9], 4)\nassert result is not None"),
    "calls nothing": (CLOSEST, "assert callable(closest) and closest.__doc__ is None"),
    "looks at no value": (ACCOUNT, "account = Account(1)\naccount.withdraw(1)\nassert account"),
    "calls nothing but a constructor": (ACCOUNT, "assert isinstance(Account(), Account)"),
    "tests other things": (CLOSEST, "x = [2, 3, 5]\nassert x == [2, 3, 5]"),
    "tests a copy of its own": (CLOSEST, f"{CLOSEST}\nassert closest([1, 3], 2.5) == 3"),
    "swallows what goes wrong": (CLOSEST, "try:\n    assert closest([1]) == 1\nexcept Exception:\n    pass"),
    "holds in any case": (CLOSEST, "assert closest([1]) == 2 or True is not None"),
}
OTHERS = {
    "sleeps": ("import time\n\ndef f(x):\n    time.sleep(0.3)\n    return [x]", "assert f(2)"),
    "nothing to do": ("def unquote(text):\n    return text.strip('\\'')", "assert unquote('a') == 'a'"),
    "nothing to change": ("def f():\n    pass", "assert f() is None"),
}


@pytest.fixture(scope="module")
def strengths(tmp_path_factory):
    """The rows of the executions of the responses above, by id."""
    samples = [sample(name, *texts) for name, texts in {**THOROUGH, **WEAK, **VACUOUS, **OTHERS}.items()]
    rows, counts = execute(tmp_path_factory.mktemp("strength"), samples, "--mutants", "40")
    assert all(row["passed"] for row in rows.values())
    assert counts["vacuous"] == sum(row["vacuous"] for row in rows.values())
    return rows


@pytest.mark.parametrize("name", [*THOROUGH, *WEAK, *VACUOUS])
def test_how_strong_tests_are(strengths, name):
    score = strengths[name]["mutation_score"]
    assert score > 0.8 if name in THOROUGH else score < 0.3
    assert strengths[name]["vacuous"] is (name in VACUOUS)


def test_scores_of_special_cases(strengths):
    assert strengths["sleeps"]["mutation_score"] < 1, "its mutants are given the time to wait"
    assert strengths["nothing to change"]["mutation_score"] is None
    assert strengths["nothing to do"]["vacuous"], "a function that hands back its argument passes, too"


def test_faults_of_the_sandbox_do_not_count():
    passed, failed, fault = (Result(0, name == "passed", name) for name in ("passed", "failed", "sandbox_error"))
    assert load_script("execute").strength([failed], [passed, failed, fault])["mutation_score"] == 0.5


def test_a_mutant_gets_a_few_times_the_time_of_the_response():
    execute = load_script("execute")
    options = execute.Options(input="", output="", timeout=10, mutants=1)

    def limit(**took):
        return execute.wrong_programs("x = 1", "", Result(0, True, "passed", **took), options, "id")[0][0].timeout

    assert limit(cpu_seconds=1.0) == execute.MUTANT_TIME_FACTOR
    assert limit(cpu_seconds=0.001) == execute.MUTANT_TIME_FLOOR
    assert limit(cpu_seconds=9.0) == options.timeout
    assert 3 * limit(wall_seconds=1.0) > 1.0  # the wall is three times the limit


def test_too_little_memory_is_said_in_one_sentence():
    execute = load_script("execute")
    with pytest.raises(UserError, match="memory must be at least"):
        execute.open_sandbox(execute.Options(input="in", output="out", memory=1))


def test_all_python_blocks_of_a_response_run():
    response = "```python\nimport math\n```\nand\n```python\nx = math.pi\n```\n```\noutput\n```"
    code, _ = load_script("execute").programs_of({"response": response, "tests": ""})
    assert code == "import math\n\nx = math.pi\n"
