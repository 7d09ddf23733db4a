"""collect_seeds.py: which functions of a file become seeds."""

import pytest
from helpers import load_script, read_rows, run_json, run_well, write_rows

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
    (tmp_path / "code" / "deep" / "b.py").write_text(GOOD + GOOD.replace("double", "twice"))
    (tmp_path / "code" / "broken.py").write_bytes(b"\xff\xfe\x00")
    run_well("collect_seeds", tmp_path / "code", tmp_path / "seeds")
    rows = read_rows(tmp_path / "seeds")
    assert {(row["name"], row["path"]) for row in rows} == {("double", "a.py"), ("twice", "deep/b.py")}
    extracted, collected = run_json(tmp_path / "seeds")["funnel"]
    assert extracted["counts"]["files_unreadable"] == 1 and collected["counts"]["exact_duplicates"] == 1


def test_a_dataset_with_a_text_column_as_a_command(tmp_path):
    files = write_rows(tmp_path / "files.jsonl", [{"text": GOOD, "max_stars_repo_licenses": ["mit", "0bsd"]}])
    run_well("collect_seeds", files, tmp_path / "seeds", "--text-column", "text")
    assert [row["license"] for row in read_rows(tmp_path / "seeds")] == ["mit, 0bsd"]


def test_the_order_of_the_files_does_not_matter(tmp_path):
    files = [{"content": GOOD.replace("double", f"f{i % 3}"), "max_stars_repo_name": f"r{i}"} for i in range(6)]
    for name, order in (("one", files), ("two", files[::-1])):
        run_well("collect_seeds", write_rows(tmp_path / f"{name}.jsonl", order), tmp_path / name)
    assert read_rows(tmp_path / "one") == read_rows(tmp_path / "two")
