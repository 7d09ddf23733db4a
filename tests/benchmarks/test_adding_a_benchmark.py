"""docs/adding_a_benchmark.md: its example runs as it stands."""

import json
import re
import sys

import pytest

from selfalign import benchmarks
from tests.helpers import ROOT, load_script, write_rows

PAGE = (ROOT / "docs" / "adding_a_benchmark.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the files of the page, whose benchmark is found as those of the package are."""
    (code,) = (text for label, text in BLOCKS if label == "python")
    problems, solutions = (text for label, text in BLOCKS if label == "json")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "regexes.py").write_text(code)
    (tmp_path / "regexes.jsonl").write_text(problems)
    (tmp_path / "solutions.jsonl").write_text(solutions)
    monkeypatch.setattr(benchmarks, "__path__", [*benchmarks.__path__, str(tmp_path / "package")])
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("selfalign.benchmarks.regexes", None)


def results_of(samples, output, monkeypatch):
    """What the page's command for given samples writes."""
    (line,) = (text for label, text in BLOCKS if label == "bash" and "--samples" in text)
    _, script, _, _, *options = line.split()
    options[options.index("solutions.jsonl")] = samples
    monkeypatch.setattr(sys, "argv", [script, "reference", output, *options])
    module = load_script("benchmark")
    module.run_script(module.main, module.Options, None)
    with open(f"{output}/results.json") as file:
        return json.load(file)


def test_the_example_judges_right_and_wrong_solutions(folder, monkeypatch):
    results = results_of("solutions.jsonl", "right", monkeypatch)
    assert results["scores"] == {"pass@1": 1.0, "easy": 1.0, "hard": 1.0}
    write_rows(folder / "wrong.jsonl", [{"task_id": name, "solution": "'[0-9]*'"} for name in ("year", "even")])
    assert results_of("wrong.jsonl", "wrong", monkeypatch)["scores"]["pass@1"] == 0.0


def test_the_example_takes_answers_in_both_styles(folder):
    benchmark = benchmarks.load_benchmark("regexes")
    problem = benchmark.problems("regexes.jsonl")[0]
    for answer, style in ((" '[0-9]{4}'", "completion"), ("Here:\n\n```python\n'[0-9]{4}'\n```", "chat")):
        assert benchmark.program(problem, answer, style).code == "PATTERN = '[0-9]{4}'"


def test_every_attribute_that_the_page_names_exists():
    table = PAGE[PAGE.index("| to say") :]
    for cell in re.findall(r"^\|[^|]+\|([^|]+)\|", table, re.MULTILINE)[2:]:
        names = set(re.findall(r"`(\w+)`", cell)) - {"FunctionBenchmark"}
        assert all(hasattr(benchmarks.Benchmark, name) for name in names), cell
