"""LiveCodeBench: problems in the published layout, with content of our own, judged in the sandbox."""

import base64
import gzip
import json
import os
import pickle
import zlib
from types import SimpleNamespace

import pytest

from code_eval.sandbox import Sandbox
from selfalign.benchmarks import livecodebench, load_benchmark
from selfalign.benchmarks.harness.selection import choose_release, problems_of, record_of
from selfalign.errors import UserError
from tests.benchmarks.tools import in_markdown, judged
from tests.fakes.hub import LocalHub
from tests.helpers import run_well, write_rows

LIVECODEBENCH = load_benchmark("livecodebench")


def hidden(tests):
    """Hidden tests as they are published."""
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


def row(number, date, tests, function=None, starter_code="", **changes):
    """A problem whose first test is public."""
    kind = "functional" if function else "stdin"
    tests = [{"input": given, "output": expected, "testtype": kind} for given, expected in tests]
    return {
        "question_content": f"Problem {number}: add up the numbers.",
        "question_id": f"abc{number}_a",
        "contest_date": f"{date}T00:00:00",
        "starter_code": starter_code,
        "public_test_cases": json.dumps(tests[:1]),
        "private_test_cases": hidden(tests[1:]),
        "metadata": json.dumps({"func_name": function} if function else {}),
    } | changes


STDIN = row(301, "2023-05-13", [("2\n1 2\n", "3\n"), ("3\n1 2 3\n", "6\n"), ("1\n-7\n", "-7\n")])
STARTER = "class Solution:\n    def addUp(self, numbers: List[int], times: int) -> int:\n        "
FUNCTIONAL = row(302, "2023-08-20", [("[1, 2]\n1", "3"), ("[1, 2, 3]\n2", "12"), ("[]\n5", "0")], "addUp", STARTER)

ADD = "input()\nprint(sum(map(int, input().split())))"
METHOD = f"{STARTER}return times * sum(numbers)"

EVIL = base64.b64encode(zlib.compress(pickle.dumps(os.getcwd))).decode()  # a pickle that names a function
EXAMPLES = [
    row(304, "2023-06-01", [("3\n1 5 5\n", "5 2\n"), ("1\n-2\n", "-2 1\n")]),
    row(305, "2023-06-01", [("[3, 1, 2, 2, 5]", "2"), ("[1]", "1"), ("[1, 3, 2]", "1")], "countPeaks"),
]


@pytest.fixture(scope="module")
def problems(tmp_path_factory):
    rows = [STDIN, FUNCTIONAL, STDIN | {"question_id": "evil", "private_test_cases": EVIL}, *EXAMPLES]
    return LIVECODEBENCH.problems(str(write_rows(tmp_path_factory.mktemp("data") / "test.jsonl", rows)))


@pytest.fixture(scope="module")
def sandbox(problems):
    readable = LIVECODEBENCH.read_only(problems)
    with Sandbox(timeout=LIVECODEBENCH.timeout, memory=LIVECODEBENCH.memory, read_only=readable) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def outcomes(sandbox):
    def of(problem, *answers):
        results = judged(sandbox, LIVECODEBENCH, [(problem, answer, "solution") for answer in answers])
        return [(result.outcome, result.detail) for result in results]

    return of


def test_programs_that_read_and_print_as_asked_pass(outcomes, problems):
    main = f"def main():\n    {ADD.replace(chr(10), chr(10) + '    ')}\n\nif __name__ == '__main__':\n    main()"
    exits = f"{ADD}\nraise SystemExit"
    reads = "import sys\nwords = sys.stdin.read().split()\nsys.stdout.write(f'{sum(map(int, words[1:]))}   \\n\\n')"
    bytewise = "import os, sys\nprint(sum(map(int, open(0).read().split()[1:])))"
    decimals = "input()\nprint('%.3f' % sum(map(int, input().split())))"
    talks = f"import sys\nsys.stderr.write('debug ' * 500_000)\n{ADD}"
    star = "readline = stdin.readline\nreadline()\nprint(reduce(add, map(int, readline().split())))"
    assert outcomes(problems[0], ADD, main, exits, reads, bytewise, decimals, talks, star) == [("passed", "")] * 8


def test_programs_may_print_at_their_end(outcomes, problems):
    body = f"def main():\n    {ADD.replace(chr(10), chr(10) + '    ')}\n"
    slowly = body.replace("print", "time.sleep(0.1); print")
    thread = f"import threading, time\n{slowly}threading.Thread(target=main).start()"
    at_exit = f"import atexit\n{body}atexit.register(main)"
    assert outcomes(problems[0], thread, at_exit) == [("passed", "")] * 2


def test_methods_that_return_what_is_expected_pass(outcomes, problems):
    prints = f"{STARTER}print('looking', numbers)\n        return times * sum(numbers)"
    function = "def addUp(numbers, times):\n    return times * sum(numbers)"
    main = (
        f"{METHOD}\n\nif __name__ == '__main__':\n    print(Solution().addUp([int(input())], 1))"  # there is no input
    )
    future = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    typed = f"{future}@dataclass\nclass Times:\n    n: int\n{STARTER}return Times(times).n * sum(numbers)"
    assert outcomes(problems[1], METHOD, prints, function, main, typed) == [("passed", "")] * 5


@pytest.mark.parametrize(
    "number, answer, outcome, said",
    [
        (0, "print(3)", "failed", "AssertionError: test 2 of 3: '3\\n' instead of '6\\n'"),
        (0, "print('3')\nprint('6')", "failed", "AssertionError: test 1 of 3: '3\\n6\\n' instead of '3\\n'"),
        (0, "1 / 0", "failed", "AssertionError: test 1 of 3: ZeroDivisionError: division by zero"),
        (0, "import os\nos._exit(3)", "failed", "AssertionError: test 1 of 3: exit status 3"),
        (0, "import os\nos.abort()", "failed", "AssertionError: test 1 of 3: ended by signal 6"),
        (0, "pass", "failed", "AssertionError: test 1 of 3: '' instead of '3\\n'"),
        (1, f"{STARTER}return sum(numbers)", "failed", "AssertionError: test 2 of 3: 6 instead of 12"),
        (1, f"{STARTER}return [3]", "failed", "AssertionError: test 1 of 3: [3] instead of 3"),
        (1, f"{STARTER}return sum(numbers) * times + 0 * numbers[0]", "error", "IndexError: list index out of range"),
        (2, ADD, "error", "UnpicklingError: the tests name posix.getcwd"),  # hidden tests that name a function
    ],
)
def test_other_answers_do_not(outcomes, problems, number, answer, outcome, said):
    assert outcomes(problems[number], answer) == [(outcome, said)]


def test_a_test_that_takes_too_long_ends_its_program(outcomes, problems, tmp_path, monkeypatch):
    """With the limit at a second of CPU time a test, instead of 6."""
    judge = tmp_path / "judge.py"
    judge.write_text(livecodebench.JUDGE.read_text().replace("SECONDS = 6", "SECONDS = 1"))
    monkeypatch.setattr(livecodebench, "JUDGE", judge)
    said = [("failed", "AssertionError: test 1 of 3: more than 1 s")]
    assert outcomes(problems[0], "while True:\n    pass") == said
    assert outcomes(problems[1], STARTER + "while True:\n            pass") == said


def test_answers_of_both_styles_are_judged(sandbox, problems):
    chat = [(problems[0], ADD), (problems[0], "print(3)"), (problems[1], METHOD)]
    cases = [(problems[0], ADD, "completion"), *((problem, in_markdown(code), "chat") for problem, code in chat)]
    assert [result.passed for result in judged(sandbox, LIVECODEBENCH, cases)] == [True, True, False, True]


def test_worked_examples_of_the_base_prompt_are_right(outcomes, problems):
    for problem, kind in zip(problems[3:], ("stdin", "functional"), strict=True):
        assert outcomes(problem, livecodebench.EXAMPLES[kind][1]) == [("passed", "")]


def test_prompts_show_the_problem_and_its_starter_code_but_no_tests(problems):
    for problem in problems:
        for prompt in (LIVECODEBENCH.completion_prompt(problem), LIVECODEBENCH.chat_prompt(problem)):
            assert problem.prompt in prompt
            assert problem.extra["starter_code"].strip() in prompt


def test_scores_count_problems_from_each_start_date_on(problems):
    rows = [{"task_id": "abc301_a", "passed": False}, {"task_id": "abc302_a", "passed": True}]
    scores = LIVECODEBENCH.scores(rows, {problem.task_id: problem for problem in problems[:2]})
    assert scores == {"from 2023-07-01": 1.0, "from 2023-05-01": 0.5}


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "has no rows"),
        ('{"question_id": "a"}\n', "line 1 has no question_content, contest_date, starter_code, metadata, private"),
        (json.dumps(STDIN) + '\n{"question', "line 2 is not JSON"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a pointer of Git LFS"),
    ],
)
def test_a_damaged_file_is_said(tmp_path, text, said):
    path = tmp_path / "test.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        LIVECODEBENCH.problems(str(path))


def test_a_compressed_file_is_said(tmp_path):
    (tmp_path / "test.jsonl.gz").write_bytes(gzip.compress(json.dumps(STDIN).encode()))
    with pytest.raises(UserError, match="is compressed: unpack it first"):
        LIVECODEBENCH.problems(str(tmp_path / "test.jsonl.gz"))


def test_given_samples_are_scored_with_problems_from_the_hub(tmp_path):
    """The command as it is: the file from the Hub's cache, where it is a link, is what programs read."""
    samples = [{"task_id": "abc301_a", "solution": ADD}, {"task_id": "abc302_a", "solution": f"{STARTER}return 3"}]
    with LocalHub() as hub:
        hub.add("org/lite", {"test.jsonl": "".join(json.dumps(row) + "\n" for row in (STDIN, FUNCTIONAL)).encode()})
        given = write_rows(tmp_path / "samples.jsonl", samples)
        command = ("benchmark", "model", tmp_path / "out", "--benchmark", "livecodebench", "--samples", given)
        environment = hub.environment(tmp_path / "home") | {"HF_HUB_OFFLINE": "0"}
        run_well(*command, "--data", "org/lite", env=environment)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["scores"] == {"pass@1": 0.5, "from 2023-07-01": 0.0, "from 2023-05-01": 0.5}
    assert results["outcomes"] == {"passed": 1, "failed": 1}
    assert results["selection"]["release"] == "release_v1" and results["selection"]["last"] == "2023-08-20"


# Releases and dates ---------------------------------------------------------------------------------------------------

LATER = row(306, "2024-05-04", [("1\n1\n", "1\n")], difficulty="hard")


@pytest.fixture
def files(tmp_path):
    """The first two files of LiveCodeBench, as --data names them."""
    parts = {"test.jsonl": [STDIN, FUNCTIONAL], "test2.jsonl": [LATER]}
    return [write_rows(tmp_path / name, rows) for name, rows in parts.items()]


def chosen(**changes):
    names = ("data", "release", "start_date", "end_date")
    return SimpleNamespace(**{"benchmark": "livecodebench"} | dict.fromkeys(names) | changes)


def test_a_release_adds_the_files_up_to_its_own(files):
    problems = LIVECODEBENCH.problems(",".join(map(str, files)))
    assert [problem.task_id for problem in problems] == ["abc301_a", "abc302_a", "abc306_a"]
    assert LIVECODEBENCH.read_only(problems) == sorted(map(str, files))
    assert [len(livecodebench.RELEASES[name]) for name in ("release_v1", "release_v6", "v6", "v5_v6")] == [1, 6, 1, 2]
    assert livecodebench.RELEASES["v2"] == ("test2.jsonl",)


def test_a_release_is_read_from_the_hub_and_recorded(files, monkeypatch):
    asked = []
    monkeypatch.setattr("selfalign.runner.hub.need_hub", lambda: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repo, name, **_: asked.append(name) or str(files[1]))
    benchmark = load_benchmark("livecodebench")
    choice = chosen(release="v2")
    choose_release(benchmark, choice)
    problems = problems_of(benchmark, benchmark.dataset, choice)
    assert asked == ["test2.jsonl"] and len(problems) == 1
    said = record_of(benchmark, problems, benchmark.dataset, choice)
    assert said["release"] == "v2" and said["first"] == said["last"] == "2024-05-04"


@pytest.mark.parametrize(
    "start, end, found",
    [
        ("2023-06-01", None, ["abc302_a", "abc306_a"]),
        (None, "2023-08-20", ["abc301_a", "abc302_a"]),
        ("2023-08-20", "2023-08-20", ["abc302_a"]),
    ],
)
def test_problems_are_chosen_by_the_date_of_the_contest(files, start, end, found):
    data = ",".join(map(str, files))
    choice = chosen(data=data, start_date=start, end_date=end)
    problems = problems_of(LIVECODEBENCH, data, choice)
    assert [problem.task_id for problem in problems] == found
    said = record_of(LIVECODEBENCH, problems, data, choice)
    assert (said["release"], said["start_date"], said["end_date"]) == (None, start, end)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"release": "v7"}, "no release v7: choose from release_v1"),
        ({"release": "v2", "data": "test.jsonl"}, "--data names files"),
        ({"start_date": "May"}, "--start-date May is not a day"),
        ({"start_date": "2025-01-01"}, "from 2025-01-01 to the end: they are from 2023-05-13 to 2023-08-20"),
    ],
)
def test_a_choice_that_leaves_nothing_is_said(files, changes, said):
    choice = chosen(**changes)
    with pytest.raises(UserError, match=said):
        choose_release(LIVECODEBENCH, choice)
        problems_of(LIVECODEBENCH, str(files[0]), choice)


def test_a_benchmark_without_releases_or_dates_says_so():
    humaneval = load_benchmark("humaneval")
    with pytest.raises(UserError, match="it has none to choose from"):
        choose_release(humaneval, chosen(release="v1"))
    with pytest.raises(UserError, match="have no dates"):
        problems_of(humaneval, "", chosen(end_date="2024-01-01"))


def test_a_problem_that_comes_twice_is_said(files):
    with pytest.raises(UserError, match="abc301_a, which came before"):
        LIVECODEBENCH.problems(f"{files[0]},{files[0]}")


def test_scores_of_each_difficulty(files):
    (problem,) = LIVECODEBENCH.problems(str(files[1]))
    scores = LIVECODEBENCH.scores([{"task_id": "abc306_a", "passed": True}], {"abc306_a": problem})
    assert scores["hard"] == 1.0 and "easy" not in scores
