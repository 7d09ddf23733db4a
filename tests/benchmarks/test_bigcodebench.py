"""BigCodeBench: problems in the published layout, with content of our own, judged in the sandbox."""

import json

import pytest

from selfalign.benchmarks.harness.judging import sandbox_for
from selfalign.benchmarks.harness.packages import needed_packages, without_network
from selfalign.errors import UserError
from tests.benchmarks.tools import in_markdown, judged, problems_of
from tests.helpers import run_well, write_rows

VARIANTS = ("complete", "instruct", "hard-complete", "hard-instruct")
LIBRARIES = ("numpy", "pandas")


MAIN = "\n\nif __name__ == '__main__':\n    unittest.main()\n"


def row(number, head, what, solution, test, libraries=()):
    """A problem; `head` are its imports and its signature, `test` the methods of its TestCases."""
    imports, _, signature = head.rpartition("def ")
    docstring = f'    """\n    {what}\n\n    Example:\n    >>> task_func\n    """\n'
    return {
        "task_id": f"BigCodeBench/{number}",
        "complete_prompt": f"{imports}\ndef {signature}\n{docstring}",
        "instruct_prompt": f"{what}\nYou should write self-contained code starting with:\n```\n{head}\n```",
        "canonical_solution": solution,
        "code_prompt": f"{head}\n",
        "test": f"import unittest\nfrom unittest.mock import patch\n{test}{MAIN}",
        "doc_struct": json.dumps({"description": [what]}),
        "entry_point": "task_func",
        "libs": repr(list(libraries)),
    }


ROWS = [
    row(
        9000,
        "import pandas as pd\nimport numpy as np\nSCALE = 10\ndef task_func(values, path='table.csv'):",
        "Write the values and their tenfold to a CSV file, and return the mean of the tenfold.",
        "    table = pd.DataFrame({'value': values, 'tenfold': np.array(values) * SCALE})\n"
        "    table.to_csv(path, index=False)\n    return float(table['tenfold'].mean())",
        "import os\nimport pandas as pd\n\nclass TestCases(unittest.TestCase):\n"
        "    def tearDown(self):\n        os.remove('table.csv')\n\n"
        "    def test_mean(self):\n        self.assertEqual(task_func([1, 2]), 15.0)\n\n"
        "    def test_file(self):\n        task_func([3])\n"
        "        self.assertEqual(pd.read_csv('table.csv')['tenfold'].tolist(), [30])",
        LIBRARIES,
    ),
    row(
        9001,
        "import os\nimport pickle\ndef task_func(folder):",
        "Print and return the sorted names of the files in a folder.",
        "    names = sorted(os.listdir(folder))\n    print(names)\n    return names",
        "import io\nimport pickle\n\nclass Thing:\n    pass\n\nclass TestCases(unittest.TestCase):\n"
        "    @patch('os.listdir', return_value=['b', 'a'])\n    def test_sorted(self, listdir):\n"
        "        with patch('sys.stdout', new_callable=io.StringIO) as out:\n"
        "            self.assertEqual(task_func('/x'), ['a', 'b'])\n"
        "        self.assertIn(\"['a', 'b']\", out.getvalue())\n\n"
        "    def test_module(self):\n        self.assertIsInstance(pickle.loads(pickle.dumps(Thing())), Thing)\n"
        "        with patch(f'{__name__}.os.listdir', return_value=[]):\n"
        "            self.assertEqual(task_func('.'), [])",
    ),
    row(
        9002,
        "import urllib.request\ndef task_func(url):",
        "Return how many bytes there are at an address.",
        "    return len(urllib.request.urlopen(url).read())",
        "class TestCases(unittest.TestCase):\n    def test_bytes(self):\n"
        "        self.assertGreater(task_func('http://example.org'), 0)",
    ),
]
OFFLINE = ROWS[:2]
ROOM = ("import os\ndef task_func(folder):", "Fill a folder, and return the names in there.")
LISTED = (
    "class TestCases(unittest.TestCase):\n    def test_names(self):\n        self.assertEqual(task_func('.'), ['many'])"
)


def body(problem):
    """The part of the canonical solution that a base model would write."""
    return next(row["canonical_solution"] for row in ROWS if row["task_id"] == problem.task_id)


@pytest.mark.parametrize("variant", VARIANTS)
def test_references_pass_in_every_style_and_wrong_answers_do_not(outcomes, tmp_path, variant):
    benchmark, problems = problems_of(tmp_path, f"bigcodebench-{variant}", *OFFLINE)
    cases = [(problem, problem.canonical_solution, "solution") for problem in problems]
    cases += [(problem, in_markdown(problem.canonical_solution), "chat") for problem in problems]
    cases += [(problem, f"{body(problem)}\n\nprint(task_func('.'))", "completion") for problem in problems]
    assert outcomes(benchmark, *cases) == ["passed"] * len(cases)
    wrong = [(problem, f"{problem.extra['head']}    return None", "solution") for problem in problems]
    wrong += [(problem, "    return None", "completion") for problem in problems]
    assert set(outcomes(benchmark, *wrong)) == {"failed"}


def test_an_answer_without_imports_gets_those_of_the_problem(outcomes, tmp_path):
    benchmark, problems = problems_of(tmp_path, "bigcodebench-instruct", *OFFLINE)
    code = "def task_func(folder):\n    return print(shown := sorted(os.listdir(folder))) or shown"
    cases = [(problems[1], in_markdown(code), "chat"), (problems[1], code, "solution")]
    assert outcomes(benchmark, *cases) == ["passed", "passed"]


@pytest.mark.parametrize(
    "code, outcome",
    [
        ("def task_func(folder):\n    raise SystemExit(0)", "failed"),
        ("import sys\nsys.exit(0)\ndef task_func(folder): pass", "error"),
        ("def task_func(folder):\n    return sorted(", "error"),
        ("def other(folder):\n    return []", "failed"),  # the given signature has an empty body
        ("import os\nos._exit(0)", "error"),
    ],
)
def test_answers_that_end_the_program_do_not_pass(outcomes, tmp_path, code, outcome):
    benchmark, problems = problems_of(tmp_path, "bigcodebench-complete", *OFFLINE)
    assert outcomes(benchmark, (problems[1], code, "solution")) == [outcome]


FOLDERS = row(
    9003,
    "import os\nimport shutil\ndef task_func(path):",
    "Copy a file into the working folder, and return the names in there.",
    "    shutil.copy(path, os.getcwd())\n    return sorted(os.listdir())",
    "import tempfile\n\nclass TestCases(unittest.TestCase):\n"
    "    def test_copy(self):\n        handle, path = tempfile.mkstemp()\n        os.close(handle)\n"
    "        self.assertEqual(task_func(path), [os.path.basename(path)])",
)


def test_programs_begin_in_an_empty_folder_beside_the_temporary_files(outcomes, tmp_path):
    benchmark, problems = problems_of(tmp_path, "bigcodebench-complete", FOLDERS)
    assert outcomes(benchmark, (problems[0], problems[0].canonical_solution, "solution")) == ["passed"]


def test_programs_may_write_more_than_elsewhere(tmp_path):
    many = "    with open('many', 'wb') as file:\n        file.write(bytes(100 << 20))\n    return os.listdir(folder)"
    benchmark, problems = problems_of(tmp_path, "bigcodebench-complete", row(9004, *ROOM, many, LISTED))
    with sandbox_for(benchmark, problems, workers=1, timeout=60, python=None) as sandbox:
        result = judged(sandbox, benchmark, [(problems[0], problems[0].canonical_solution, "solution")])[0]
    assert (result.outcome, result.detail) == ("passed", "")


@pytest.mark.parametrize(
    "code, said",
    [
        (
            "    return ['many', 'more']",
            "1 of 1: AssertionError: Lists differ: ['many', 'more'] != ['many'] First list",
        ),
        ("    raise LookupError('\\n*****\\n  no data\\n*****')", "1 of 1: LookupError: ***** no data *****"),
        (
            "    try:\n        1 / 0\n    except Exception as e:\n        raise KeyError('a') from e",
            "1 of 1: KeyError: 'a'",
        ),
    ],
)
def test_what_is_said_begins_with_the_kind_of_error(sandbox, tmp_path, code, said):
    benchmark, problems = problems_of(tmp_path, "bigcodebench-complete", row(9005, *ROOM, code, LISTED))
    result = judged(sandbox, benchmark, [(problems[0], problems[0].canonical_solution, "solution")])[0]
    assert result.detail.startswith(f"AssertionError: {said}")


def test_prompts_are_those_of_the_style(tmp_path):
    for variant in VARIANTS:
        benchmark, problems = problems_of(tmp_path, f"bigcodebench-{variant}", *ROWS)
        style = variant.rpartition("-")[2]
        for problem, published in zip(problems, ROWS, strict=True):
            assert published[f"{style}_prompt"].strip() in benchmark.chat_prompt(problem)
            assert body(problem) not in benchmark.chat_prompt(problem) + benchmark.completion_prompt(problem)
        assert benchmark.dataset.startswith("bigcode/bigcodebench" + "-hard" * ("hard" in variant) + "@")


def test_packages_are_those_of_the_signature_and_the_tests(tmp_path):
    _, problems = problems_of(tmp_path, "bigcodebench-complete", *ROWS)
    assert dict(needed_packages(problems)) == dict.fromkeys(LIBRARIES, 1)


def test_what_needs_a_network_is_counted_and_named_as_a_command(tmp_path):
    data = write_rows(tmp_path / "bigcodebench.jsonl", ROWS)
    _, problems = problems_of(tmp_path, "bigcodebench-complete", *ROWS)
    rows = [{"task_id": problem.task_id, "solution": problem.canonical_solution} for problem in problems]
    samples = write_rows(tmp_path / "samples.jsonl", rows)
    options = ("--benchmark", "bigcodebench-hard-complete", "--data", data, "--samples", samples)
    printed = run_well("benchmark", "reference", tmp_path / "out", *options).stdout
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["passed"] == 2 and results["no_network"] == {"BigCodeBench/9002": 1}
    assert "1 samples of 1 problems failed for want of a network (BigCodeBench/9002)" in printed
    assert without_network([{"task_id": "a", "passed": True, "detail": "urlopen error"}]) == {}


def test_files_of_another_layout_are_said(tmp_path):
    with pytest.raises(UserError, match="have no instruct_prompt"):
        problems_of(tmp_path, "bigcodebench-instruct", {"task_id": "a", "complete_prompt": ""})
