"""ClassEval: a class in the published layout, with content of our own, by all three strategies, in the sandbox."""

import asyncio
import json

import pytest

from tests.benchmarks.tools import in_markdown, judged, problems_of
from tests.helpers import read_rows, run_well, write_rows

STRATEGIES = ("holistic", "incremental", "compositional")

HEADS = {
    "parse": 'def parse(text):\n        """\n        Reads an amount such as "3 g".\n        :return: int\n        """',
    "add": 'def add(self, text):\n    """\n    Puts an amount into the bowl.\n    :return: float, all in it\n    """',
    # As published for some: typographic quotes, which end no docstring.
    "is_full": "def is_full(self):\n        ”“”\n        Whether nothing more goes in.\n        ”“”",
}
BODIES = {
    "parse": "        amount = int(text.split()[0])\n        return amount",
    "add": "        self.content += self.parse(text)\n        return float(self.content)",
    "is_full": "        return math.isclose(self.content, self.size) or self.content > self.size",
}
CONSTRUCTOR = "class Bowl: \n    def __init__(self, size):\n        self.size = size\n        self.content = 0\n\n"


def class_of(bodies):
    """The class with these bodies of its methods."""
    methods = [
        ("    @staticmethod\n" if name == "parse" else "") + f"    {HEADS[name].splitlines()[0]}\n{body}\n"
        for name, body in bodies.items()
    ]
    return CONSTRUCTOR + "\n".join(methods)


TEST_CODE = {
    "BowlTestParse": "    def test_parse(self):\n        self.assertEqual(Bowl.parse('3 g'), 3)\n",
    "BowlTestAdd": "    def test_add(self):\n        self.assertEqual(Bowl(5).add('2 g'), 2.0)\n",
    "BowlTestIsFull": "    def test_is_full(self):\n        self.assertFalse(Bowl(5).is_full())\n",
    "BowlTest": (
        "    def setUp(self):\n        self.bowl = Bowl(5)\n"
        "    def test_all(self):\n        self.bowl.add('5 g')\n        self.assertTrue(self.bowl.is_full())\n"
    ),
}
TESTS = {name: f"class {name}(unittest.TestCase):\n{code}" for name, code in TEST_CODE.items()}
ROW = {
    "task_id": "ClassEval_0",
    "skeleton": "import math\n\nclass Bowl:\n    def __init__(self, size):\n        self.size = size\n"
    "        self.content = 0\n\n    @staticmethod\n"
    f"    {HEADS['parse']}\n\n    {HEADS['add']}\n\n    {HEADS['is_full']}\n",
    "test": "import unittest\n\n" + "\n\n".join(TESTS.values()),
    "solution_code": f"import math\n\n{class_of(BODIES)}",
    "import_statement": ["import math"],
    "class_description": '    """\n    A bowl of a size in grams.\n    """\n',
    "class_name": "Bowl",
    "test_classes": list(TESTS),
    "class_constructor": CONSTRUCTOR,
    "methods_info": [
        {
            "method_name": name,
            "method_description": head,
            "test_class": test,
            "solution_code": f"{head.splitlines()[0]}\n{BODIES[name]}",
        }
        for (name, head), test in zip(HEADS.items(), list(TESTS)[:3], strict=True)
    ],
}


def replies(benchmark, problem, style, given):
    """The answer of a model that writes the bodies `given`, and the prompts that it got."""
    asked = []

    async def ask(prompt, stop=None):
        asked.append(prompt)
        if benchmark.variant == "holistic":
            return class_of(given).removeprefix("class Bowl") if style == "completion" else in_markdown(class_of(given))
        name = list(BODIES)[len(asked) - 1]
        if style == "completion":  # and one more method, which nobody asked for
            return f"\n{given[name]}\n\n    def more(self):\n        return 1 / 0\n"
        return in_markdown(
            f"import math\n\n{HEADS[name].splitlines()[0]}\n{given[name]}".replace("\n        ", "\n    ")
        )

    return asyncio.run(benchmark.answer(problem, ask, style)), asked


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("style", ["completion", "chat"])
def test_a_class_passes_the_test_classes_that_see_no_fault(tmp_path, sandbox, strategy, style):
    benchmark, (problem,) = problems_of(tmp_path, f"classeval-{strategy}", ROW)
    right, asked = replies(benchmark, problem, style, BODIES)
    never_full = {**BODIES, "is_full": "        return self.content > self.size"}  # only the whole is ever full
    wrong, _ = replies(benchmark, problem, style, never_full)
    good, bad = judged(sandbox, benchmark, [(problem, right, style), (problem, wrong, style)])
    assert {name: result.outcome for name, result in good.items()} == dict.fromkeys(TESTS, "passed")
    assert {name for name, result in bad.items() if not result.passed} == {"BowlTest"}
    assert bad["BowlTest"].detail == "AssertionError: 1 of 1: AssertionError: False is not true"
    assert len(asked) == (1 if strategy == "holistic" else 3)


def test_incremental_prompts_show_what_was_written_and_compositional_ones_only_signatures(tmp_path):
    for strategy, seen in (("incremental", True), ("compositional", False)):
        benchmark, (problem,) = problems_of(tmp_path, f"classeval-{strategy}", ROW)
        for style in ("completion", "chat"):
            _, asked = replies(benchmark, problem, style, BODIES)
            assert ("amount = int(text.split()[0])" in asked[1]) is seen
            assert ("def is_full(self):\n        pass" in asked[1]) is not seen
            assert "Puts an amount into the bowl." in asked[1] and "self.content +=" not in asked[1]


def test_heads_of_methods_are_put_right(tmp_path):
    """A static method whose decorator is missing, docstrings at two depths, and quotes that end none."""
    _, (problem,) = problems_of(tmp_path, "classeval-incremental", ROW)
    heads = "\n".join(f"{m['signature']}\n{m['docstring']}\n        pass" for m in problem.extra["methods"])
    names = {}
    exec(f"class Bowl:\n{heads}", names)
    assert isinstance(vars(names["Bowl"])["parse"], staticmethod)
    assert "Whether nothing more goes in." in names["Bowl"].is_full.__doc__


def test_a_class_without_a_code_block_is_found_behind_a_sentence(tmp_path, sandbox):
    benchmark, (problem,) = problems_of(tmp_path, "classeval-holistic", ROW)
    answer = f"Please complete the class Bowl in the following code.\n\nfrom math import inf\n\n{class_of(BODIES)}"
    (results,) = judged(sandbox, benchmark, [(problem, answer, "chat")])
    assert {result.outcome for result in results.values()} == {"passed"}


def test_a_method_without_a_code_block_is_found_between_sentences(tmp_path, sandbox):
    benchmark, (problem,) = problems_of(tmp_path, "classeval-compositional", ROW)
    names = iter(BODIES)

    async def ask(prompt, stop=None):
        name = next(names)
        return f"Here's the method:\n\n    {HEADS[name].splitlines()[0]}\n{BODIES[name]}\n\nIt is what was asked for."

    answer = asyncio.run(benchmark.answer(problem, ask, "chat"))
    (results,) = judged(sandbox, benchmark, [(problem, answer, "chat")])
    assert {result.outcome for result in results.values()} == {"passed"}


def test_a_method_is_found_behind_a_code_block_of_something_else(tmp_path, sandbox):
    benchmark, (problem,) = problems_of(tmp_path, "classeval-compositional", ROW)
    names = iter(BODIES)

    async def ask(prompt, stop=None):
        name = next(names)
        method = f"{HEADS[name].splitlines()[0]}\n{BODIES[name]}"
        return f"It needs this:\n\n```python\nimport math\n```\n\nThe method:\n\n```python\n{method}\n```"

    answer = asyncio.run(benchmark.answer(problem, ask, "chat"))
    (results,) = judged(sandbox, benchmark, [(problem, answer, "chat")])
    assert {result.outcome for result in results.values()} == {"passed"}


@pytest.mark.parametrize(
    "reply, said",
    [
        ("I can't.", "syntax_error"),
        ("```python\ndef other(self):\n    return 1\n```", "failed"),
        ("```python\ndef parse(text):\n    return (\n```", "syntax_error"),
    ],
)
def test_a_reply_without_the_method_fails(tmp_path, sandbox, reply, said):
    benchmark, (problem,) = problems_of(tmp_path, "classeval-compositional", ROW)

    async def ask(prompt, stop=None):
        return reply

    answer = asyncio.run(benchmark.answer(problem, ask, "chat"))
    (results,) = judged(sandbox, benchmark, [(problem, answer, "chat")])
    assert results["BowlTestParse"].outcome == said


def test_scores_count_classes_test_classes_and_methods(tmp_path):
    benchmark, (problem,) = problems_of(tmp_path, "classeval-holistic", ROW)
    outcomes = dict.fromkeys(TESTS, "passed") | {"BowlTest": "failed"}
    rows = [
        {"task_id": "ClassEval_0", "passed": True, "checks": dict.fromkeys(TESTS, "passed")},
        {"task_id": "ClassEval_0", "passed": False, "checks": outcomes},
    ]
    scores = benchmark.scores(rows, {"ClassEval_0": problem})
    assert scores == {"class_level": 0.5, "method_level": 7 / 8, "methods_alone": 1.0}


def test_a_model_is_asked_for_each_method_and_its_class_is_judged(tmp_path, endpoint):
    """The command as it is, with a tiny model that knows nothing."""
    data = write_rows(tmp_path / "data.jsonl", [ROW])
    options = ("--benchmark", "classeval-compositional", "--data", data, "--max-new-tokens", 8)
    run_well("benchmark", endpoint, tmp_path / "out", *options)
    (row,) = read_rows(tmp_path / "out")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert row["prompt"].count("class Bowl:") == 3 and row["code"].count("    def ") == 4
    assert row["completion"] in row["code"] and row["generated_tokens"] > 8  # those of all requests
    assert [check["name"] for check in row["checks"]] == list(TESTS) and not row["passed"]
    assert results["scores"].keys() == {"pass@1", "class_level", "method_level", "methods_alone"}
