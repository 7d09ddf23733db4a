"""collect_seeds.py: which functions of a file become seeds."""

import pytest
from helpers import ROOT, load_script, read_rows, run, run_json, run_well, write_rows
from simulations import simulated

from selfalign.prompting import JudgedDocstring, load_examples
from selfalign.servers import Generation

FAST = ("--type-checker", "pyrefly")

GOOD = '''
def double(x):
    """Return twice x."""
    return 2 * x
'''


def reasons(source, **options):
    script = load_script("collect_seeds")
    file = {"text": source, "repository": "r", "path": "p", "license": "mit"}
    return set(script.seeds_of_file(file, script.Options(input="i", output="o", **options)).counts)


def seed_of(source):
    script = load_script("collect_seeds")
    file = {"text": source, "repository": "r", "path": "p", "license": "mit"}
    (seed,) = script.seeds_of_file(file, script.Options(input="i", output="o")).rows
    return seed


def test_a_good_function_is_a_seed():
    seed = seed_of(GOOD)
    assert (seed["name"], seed["docstring"], seed["license"]) == ("double", "Return twice x.", "mit")
    assert seed["content"] == GOOD.strip("\n")


@pytest.mark.parametrize(
    ("reason", "source"),
    {
        "no_docstring": "def f(x):\n    return x",
        "no_argument": 'def f():\n    """Doc."""\n    return 1',
        "no_return_value": 'def f(x):\n    """Doc."""\n    print(x)',
        "unfinished": 'def f(x):\n    """Doc."""\n    # TODO: more\n    return x',
        "unsafe_import": 'import os\ndef f(x):\n    """Doc."""\n    return os.stat(x)',
        "undefined_name": 'def f(x):\n    """Doc."""\n    return helper(x)',
        "too_deep": 'def f(x):\n    """Doc."""\n    return ' + "-" * 900 + "x",
        "too_long": 'def f(x):\n    """Doc."""\n' + "    x += 1\n" * 150 + "    return x",
        "files_that_do_not_parse": "print 'Python 2'",
        "files_unreadable": None,
    }.items(),
)
def test_what_is_dropped_is_counted_by_its_reason(reason, source):
    assert reasons(source) == {reason}


@pytest.mark.parametrize(
    "body",
    ["return", "return None", "def g():\n        return 1", "lambda: 1"],
    ids=["bare", "None", "in a nested function", "in a lambda"],
)
def test_a_return_without_value_does_not_count(body):
    assert reasons(f'def f(x):\n    """Doc."""\n    {body}') == {"no_return_value"}


def test_an_import_inside_the_function_can_be_unsafe_too():
    assert reasons('def f(x):\n    """Doc."""\n    from subprocess import run\n    return run(x)') == {"unsafe_import"}


def test_an_inferred_import_can_be_unsafe_too():
    assert reasons('def f(x):\n    """Doc."""\n    return os.stat(x)') == {"unsafe_import"}


def test_imports_that_are_used_come_along():
    source = (
        'import math\nimport re\nfrom fractions import Fraction as F\ndef f(x):\n    """D."""\n    return F(math.pi)'
    )
    assert seed_of(source)["content"].startswith("from fractions import Fraction as F\nimport math\n\n\ndef f")


def test_methods_and_nested_functions_are_no_candidates():
    assert reasons(f"class A:\n{GOOD.replace(chr(10), chr(10) + '    ')}") == set()


@pytest.mark.parametrize("source", ["\x00", "def f(:", "(" * 500, "x = 1\n\ud800"])
def test_files_that_do_not_parse_are_never_fatal(source):
    assert reasons(source) == {"files_that_do_not_parse"}


def test_a_folder_as_a_command(tmp_path):
    (tmp_path / "code" / "deep").mkdir(parents=True)
    (tmp_path / "code" / "a.py").write_text(GOOD)
    (tmp_path / "code" / "deep" / "b.py").write_text(GOOD + GOOD.replace("double", "twice").replace("2 * x", "x + x"))
    (tmp_path / "code" / "broken.py").write_bytes(b"\xff\xfe\x00")
    run_well("collect_seeds", tmp_path / "code", tmp_path / "seeds", *FAST)
    rows = read_rows(tmp_path / "seeds")
    assert {(row["name"], row["path"]) for row in rows} == {("double", "a.py"), ("twice", "deep/b.py")}
    extracted, checked, _ = run_json(tmp_path / "seeds")["funnel"]
    assert extracted["counts"]["files_unreadable"] == 1 and checked["counts"]["exact_duplicates"] == 1


def test_a_dataset_with_a_text_column_as_a_command(tmp_path):
    files = write_rows(tmp_path / "files.jsonl", [{"text": GOOD, "max_stars_repo_licenses": ["mit", "0bsd"]}])
    run_well("collect_seeds", files, tmp_path / "seeds", "--text-column", "text", "--type-checker", "none")
    assert [row["license"] for row in read_rows(tmp_path / "seeds")] == ["mit, 0bsd"]


def function(name, line):
    return {"content": f'def {name}(x: int) -> int:\n    """Return what {name} is of x."""\n    {line}\n'}


def test_the_order_of_the_files_does_not_matter(tmp_path):
    files = [function(f"f{i % 3}", f"return x + {i}") | {"max_stars_repo_name": f"r{i}"} for i in range(6)]
    for name, order in (("one", files), ("two", files[::-1])):
        run_well("collect_seeds", write_rows(tmp_path / f"{name}.jsonl", order), tmp_path / name, *FAST)
    assert read_rows(tmp_path / "one") == read_rows(tmp_path / "two")


def test_type_errors_are_counted_by_rule_and_kept_beside_the_seeds(tmp_path):
    files = [function("right", "return 2 * x"), function("wrong", "return str(x)")]
    run_well("collect_seeds", write_rows(tmp_path / "files.jsonl", files), tmp_path / "seeds")
    assert {row["name"]: row["type_error"] for row in read_rows(tmp_path / "seeds-checked")} == {
        "right": None,
        "wrong": "reportReturnType",
    }
    assert [row["name"] for row in read_rows(tmp_path / "seeds")] == ["right"]
    _, checked, collected = run_json(tmp_path / "seeds")["funnel"]
    assert checked["counts"] == {"exact_duplicates": 0, "ok": 1, "reportReturnType": 1}
    assert collected["counts"] == {"type_error": 1, "near_duplicates": 0}


def test_of_near_duplicates_the_smallest_id_stays(tmp_path):
    line = "return sum(value * weight for value, weight in enumerate(range(x))) + {}"
    files = [function("weighted", line.format(i)) for i in range(3)] + [function("other", "return x")]
    arguments = (write_rows(tmp_path / "files.jsonl", files), tmp_path / "seeds", "--type-checker", "none")
    run_well("collect_seeds", *arguments)
    rows, candidates = read_rows(tmp_path / "seeds"), read_rows(tmp_path / "seeds-candidates")
    assert sorted(row["name"] for row in rows) == ["other", "weighted"]
    assert min(row["id"] for row in candidates if row["name"] == "weighted") in {row["id"] for row in rows}
    assert run_json(tmp_path / "seeds")["counts"]["near_duplicates"] == 2


def test_nothing_left_is_said_in_one_sentence(tmp_path):
    files = write_rows(tmp_path / "files.jsonl", [function("wrong", "return str(x)")])
    result = run("collect_seeds", files, tmp_path / "seeds", *FAST)
    assert result.returncode == 2 and "no function is left, see its column type_error" in result.stderr


# Docstrings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "verdict"),
    {
        "Yes. It says all.": "good",
        " **no**": "bad",
        "Yesterday": "unclear",
        "": "unclear",
        "The verdict is": "unclear",
    }.items(),
)
def test_verdicts_are_read_from_the_first_word(text, verdict):
    assert load_script("collect_seeds").parse_verdict(Generation(text, "stop_sequence", 3)) == verdict


def test_a_prompt_that_is_too_long_is_no_verdict():
    assert load_script("collect_seeds").parse_verdict(Generation("", "prompt_too_long", 0)) == "prompt_too_long"


def test_docstrings_are_judged_by_the_model(tmp_path):
    async def judge(request, body, number):
        from aiohttp import web

        verdict = "No" if "def vague" in body["inputs"].rpartition("### Function")[2] else "Yes"
        return web.json_response(
            {"generated_text": verdict, "details": {"finish_reason": "eos_token", "generated_tokens": 1}}
        )

    files = write_rows(tmp_path / "f.jsonl", [function("clear", "return x"), function("vague", "return 2 * x")])
    with simulated(judge) as server:
        options = ("--judge-docstrings", "--endpoint", server.url, "--type-checker", "none")
        run_well("collect_seeds", files, tmp_path / "seeds", *options)
    assert {row["name"]: row["verdict"] for row in read_rows(tmp_path / "seeds-judged")} == {
        "clear": "good",
        "vague": "bad",
    }
    assert [row["name"] for row in read_rows(tmp_path / "seeds")] == ["clear"]
    assert run_json(tmp_path / "seeds")["counts"]["docstring_not_good"] == 1


def test_an_endpoint_without_judging_is_refused(tmp_path):
    result = run("collect_seeds", tmp_path, tmp_path / "seeds", "--endpoint", "http://127.0.0.1:9")
    assert result.returncode == 2 and "--endpoint is for --judge-docstrings" in result.stderr


def test_the_worked_examples_hold_both_verdicts_and_docstrings():
    examples = load_examples(ROOT / "prompts" / "docstrings.yaml", JudgedDocstring).pool
    assert len(examples) == 7 and {example.good for example in examples} == {True, False}
    assert all(reasons(example.seed) == {"ok"} for example in examples)
