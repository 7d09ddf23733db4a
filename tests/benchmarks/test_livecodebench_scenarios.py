"""LiveCodeBench's other scenarios: rows in the published layouts, with content of our own, judged in the sandbox."""

import asyncio
import json

import pytest

from selfalign.benchmarks import load_benchmark
from selfalign.benchmarks.livecodebench_execution import EXAMPLES
from selfalign.benchmarks.livecodebench_repair import fault_of, shortened
from selfalign.benchmarks.livecodebench_test_output import EXAMPLE
from selfalign.errors import UserError
from tests.benchmarks.test_livecodebench import ADD, FUNCTIONAL, METHOD, STARTER, STDIN
from tests.benchmarks.tools import in_markdown, problems_of
from tests.fakes.server import simulated
from tests.helpers import read_rows, run, run_well, write_rows

# Execution ------------------------------------------------------------------------------------------------------------


def call(number, code, given, output):
    name = code[len("def ") : code.index("(")]
    return {
        **{"id": f"sample_{number}", "question_id": 2700 + number, "function_name": name, "code": code},
        **{"input": f"{name}({given})", "output": output, "contest_date": "2023-06-10T00:00:00", "numsteps": 9},
    }


CALLS = [
    call(0, "def total(nums: List[int]) -> int:\n    return sum(nums) - 1", "nums = [1, 2, 3]", "5"),
    call(1, "def joined(a, b):\n    return f'{a}=={b}'", "a = 'x==y', b = ''", "'x==y=='"),
    call(2, "def counted(word):\n    return Counter(word)", "word = 'aab'", "Counter({'a': 2, 'b': 1})"),
    call(3, "def none(n):\n    pass", "n = 1", "None"),
]


@pytest.fixture
def calls(tmp_path):
    return problems_of(tmp_path, "livecodebench-execution", *CALLS)


def test_outputs_pass_in_every_style_and_others_do_not(outcomes, calls):
    benchmark, problems = calls
    cases = [(problem, problem.canonical_solution, "solution") for problem in problems]
    for problem in problems:
        answer = f"assert {problem.test} == {problem.canonical_solution}\n[/ANSWER]"
        cases += [(problem, answer, "chat"), (problem, answer, "completion")]
        cases.append((problem, f"[THOUGHT]\nn == 1, so\n[/THOUGHT]\n[ANSWER]\n{answer}\n\n[PYTHON]\n[ANSWER]", "chat"))
    assert outcomes(benchmark, *cases) == ["passed"] * len(cases)
    cases = [(problem, f"assert {problem.test} == 6", "chat") for problem in problems]
    assert outcomes(benchmark, *cases) == ["failed"] * len(cases)


@pytest.mark.parametrize(
    "answer, outcome",
    [
        ("[ANSWER]\n5\n[/ANSWER]", "passed"),
        ("5  # the sum without one", "passed"),
        ("5, 'as it is'", "passed"),  # the message of an assertion
        ("total(nums = [1, 2, 3])", "failed"),
        ("6 or True", "failed"),
        ("5 apples", "error"),
        ("", "error"),
        ("quit()", "error"),
    ],
)
def test_answers_are_expressions_other_than_the_call(outcomes, calls, answer, outcome):
    benchmark, problems = calls
    assert outcomes(benchmark, (problems[0], answer, "completion")) == [outcome]


def test_the_worked_examples_are_right_and_the_question_comes_last(calls):
    for code, given, output, _ in EXAMPLES:
        names = {}
        exec(code, names)
        assert eval(given, names) == eval(output)
    for name, end in (("livecodebench-execution", "[ANSWER]\n"), ("livecodebench-execution-cot", "[THOUGHT]\n")):
        for problem in calls[1]:
            question = f"{problem.prompt}\nassert {problem.test} == ??\n[/PYTHON]\n{end}"
            assert load_benchmark(name).chat_prompt(problem).endswith(question)


# Test output prediction -----------------------------------------------------------------------------------------------


def row_of_test(number, function, given, output):
    return {
        **{"question_id": 3100, "test_id": number, "question_content": "You are given a list `nums`. Do something."},
        **{"function_name": function, "starter_code": f"class Solution:\n    def {function}(self, nums):\n        "},
        **{"contest_date": "2023-06-10T00:00:00", "difficulty": "easy"},
        "test": json.dumps([{"input": given, "output": output, "testtype": "functional"}]),
    }


TESTS = [
    row_of_test(0, "smallest", "[3, 1]\n2", "1"),
    row_of_test(1, "isSorted", "[1, 2]", "true"),
    row_of_test(2, "words", '["b", "a"]', '["a", "b"]'),
]


@pytest.fixture
def tests(tmp_path):
    return problems_of(tmp_path, "livecodebench-test-output", *TESTS)


def test_assertions_pass_in_every_style_and_others_do_not(outcomes, tests):
    benchmark, problems = tests
    cases = []
    for right in (True, False):
        for problem in problems:
            value = problem.canonical_solution if right else "[None]"
            assertion = f"assert {problem.entry_point}({problem.extra['arguments']}) == {value}"
            cases += [(problem, value, "solution"), (problem, f" {value}", "completion")]
            cases += [(problem, in_markdown(assertion), "chat"), (problem, f"So it is:\n{assertion}, 'wrong'", "chat")]
            cases.append((problem, in_markdown(f"# assert words([]) == []\n    {assertion}"), "chat"))
    half = len(cases) // 2
    assert outcomes(benchmark, *cases) == ["passed"] * half + ["failed"] * half
    assert [problem.task_id for problem in problems] == ["3100_0", "3100_1", "3100_2"]


@pytest.mark.parametrize("answer", ["true", "assert smallest([3, 1], 2) > 0", "I don't know.", ""])
def test_what_is_no_output_fails(outcomes, tests, answer):
    assert outcomes(tests[0], (tests[1][1], answer, "chat")) == ["error"]


def test_prompts_show_the_test_and_not_its_output(tests):
    benchmark, problems = tests
    assert benchmark.completion_prompt(problems[0]).endswith("assert smallest([3, 1], 2) ==")
    assert "assert smallest([3, 1], 2) == ..." in benchmark.chat_prompt(problems[0])
    names = {}
    exec("def sameEnds(words):\n    return sum(word[0] == word[-1] for word in words)", names)
    exec(EXAMPLE[2], names)


@pytest.mark.parametrize("name", ["livecodebench-execution", "livecodebench-test-output"])
def test_files_of_another_layout_are_said(tmp_path, name):
    with pytest.raises(UserError, match="have no"):
        problems_of(tmp_path, name, {"question_id": 1})


# Self-repair ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def contests(tmp_path):
    return problems_of(tmp_path, "livecodebench-repair", STDIN, FUNCTIONAL)


@pytest.mark.parametrize(
    "number, detail, said",
    [
        (
            0,
            "AssertionError: test 2 of 3: '3\\n' instead of '6\\n'",
            "3\n1 2 3\n\nExpected: 6\n\nThe output of the pro",
        ),
        (
            0,
            "AssertionError: test 1 of 3: more than 6 s",
            "2\n1 2\n\nExpected: 3\n\nThe program took too long: more th",
        ),
        (1, "AssertionError: test 2 of 3: 6 instead of 12", "[1, 2, 3]\n2\nExpected: 12\nThe value of the program: 6"),
        (1, "AssertionError: test 3 of 3: KeyError: 4", "[]\n5\nExpected: 0\nThe program ended with an error: KeyErr"),
    ],
)
def test_the_model_is_told_of_the_test_that_failed(contests, number, detail, said):
    assert fault_of(contests[1][number], {"detail": detail}).startswith(f"Input: {said}")


def test_other_errors_and_long_inputs(contests):
    assert fault_of(contests[1][1], {"detail": "AssertionError: test 9 of 3: x"}).startswith("It failed: ")
    assert "It failed: SyntaxError" in fault_of(contests[1][0], {"detail": "SyntaxError: invalid syntax"})
    assert len(shortened("ab" * 1000)) < 310 and shortened("ab" * 1000).endswith("abab")


def test_a_second_prompt_has_the_problem_the_answer_and_the_fault(contests):
    benchmark, problems = contests
    verdict = {"detail": "AssertionError: test 2 of 3: '3\\n' instead of '6\\n'", "outcome": "failed"}

    async def ask(prompt):
        return prompt

    for style, answer in (("chat", in_markdown("print(3)")), ("completion", "print(3)\n")):
        prompt = asyncio.run(benchmark.revise(problems[0], answer, verdict, ask, style))
        assert problems[0].prompt in prompt and "```python\nprint(3)\n```" in prompt and "Expected: 6" in prompt


async def answer_wrongly_first(request, body, number):
    """Wrong at first; right when shown the fault, but for problems that ask for a function."""
    from aiohttp import web

    prompt = body["inputs"]
    shows_fault = "### Fault" in prompt
    text = "print(3)\n" if not shows_fault else f"{ADD}\n" if "addUp" not in prompt.split("### Problem")[-1] else "pass"
    details = {"finish_reason": "stop_sequence", "generated_tokens": 3, "seed": 0, "prefill": [], "tokens": []}
    return web.json_response({"generated_text": text, "details": details})


def test_failed_answers_are_repaired_once_as_a_command(tmp_path):
    data = write_rows(tmp_path / "test.jsonl", [STDIN, FUNCTIONAL])
    options = ("--data", data, "--samples-per-problem", "1", "--benchmark")
    with simulated(hook=answer_wrongly_first) as server:
        run_well("benchmark", server.url, tmp_path / "first", *options, "livecodebench")
        run_well("benchmark", server.url, tmp_path / "out", *options, "livecodebench-repair")
        server.bodies.clear()
        given = (*options, "livecodebench-repair", "--first-answers", tmp_path / "first")
        run_well("benchmark", server.url, tmp_path / "given", *given)
        asked = [body["inputs"] for body in server.bodies if "### Problem" in body["inputs"]]
        refused = run("benchmark", server.url, tmp_path / "no", *options, "humaneval", "--first-answers", tmp_path)
    assert len(asked) == 2 and all("### Fault" in prompt for prompt in asked)
    for folder in ("out", "given"):
        scores = json.loads((tmp_path / folder / "results.json").read_text())["scores"]
        assert scores["pass@1"] == 0.5 and scores["first_answers"] == 0.0
        rows = read_rows(tmp_path / folder)
        outcomes = [(check["name"], check["outcome"]) for row in rows for check in row["checks"]]
        assert outcomes == [("first answer", "failed"), ("first answer", "error")]
    assert read_rows(tmp_path / "out")[0]["completion"] == f"{ADD}\n"
    assert refused.returncode == 2


def test_a_first_answer_that_was_not_finished_has_not_passed(contests):
    checks = [(False, {}), (True, {"first answer": "failed"}), (True, {})]  # unfinished, repaired, right at once
    rows = [{"task_id": "a", "passed": passed, "checks": check} for passed, check in checks]
    assert contests[0].scores(rows, {})["first_answers"] == 1 / 3


def test_given_samples_are_not_repaired(tmp_path, contests):
    benchmark, problems = contests
    rows = [{"task_id": p.task_id, "passed": True, "checks": {}} for p in problems]
    assert "first_answers" not in benchmark.scores(rows, {problem.task_id: problem for problem in problems})
    assert METHOD.startswith(STARTER)
