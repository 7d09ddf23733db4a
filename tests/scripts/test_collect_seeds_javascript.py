"""collect_seeds.py for JavaScript: which functions of a folder of packages become seeds, and what it says."""

import json

import pytest

from selfalign.data.javascript_seeds import (
    documentation_in,
    fault_of_javascript,
    open_javascript_files,
    seeds_of_javascript,
)
from selfalign.errors import UserError
from tests.helpers import load_script, read_rows, run_json

DOC = "/**\n * Adds one to a number.\n *\n * @param {number} x\n */\n"
ADD = "function addOne(x) {\n  return x + 1;\n}"
FILE = {"repository": "r", "path": "p", "license": None}


def found(text, max_lines=150):
    """The seeds of a file by their names, and why others are none."""
    seeds, counts = seeds_of_javascript(FILE | {"text": text}, max_lines, None)
    return {seed["name"]: seed["content"] for seed in seeds}, dict(counts)


@pytest.mark.parametrize(
    ("text", "name", "content"),
    {
        "a declaration": (DOC + ADD, "addOne", DOC + ADD),
        "an export": (DOC + "export " + ADD, "addOne", DOC + ADD),
        "a default export": (DOC + "export default " + ADD, "addOne", DOC + ADD),
        "an arrow": (DOC + "const addOne = (x) => x + 1;", "addOne", DOC + "const addOne = (x) => x + 1;"),
        "CommonJS": (DOC + "module.exports = " + ADD, "addOne", DOC + ADD),
        "line comments": ("// Adds one\n// to a number.\n" + ADD, "addOne", "// Adds one\n// to a number.\n" + ADD),
        "an import": (
            "const { inspect } = require('util');\n" + DOC + "const show = (x) => inspect(x);",
            "show",
            "const { inspect } = require('util');\n\n" + DOC + "const show = (x) => inspect(x);",
        ),
        "names of all kinds": (
            DOC
            + "function f({ a, b: [c = 1] }, ...d) { for (const e of d) try { return [a, c, e]; } catch (g) { g; } }",
            "f",
            DOC
            + "function f({ a, b: [c = 1] }, ...d) { for (const e of d) try { return [a, c, e]; } catch (g) { g; } }",
        ),
    }.values(),
)
def test_documented_functions_are_found(text, name, content):
    assert found(text) == ({name: content}, {"ok": 1})


@pytest.mark.parametrize(
    ("text", "why"),
    {
        "no comment": (ADD, "no_docstring"),
        "a comment elsewhere": (DOC + "\n" + ADD, "no_docstring"),
        "a comment for a tool": ("// eslint-disable-next-line some rule\n" + ADD, "no_docstring"),
        "the comment of a file": ("/**\n * Helpers for numbers\n * ==============\n */\n" + ADD, "no_docstring"),
        "types only": ("/** @param {number} x the number that is added */\n" + ADD, "no_docstring"),
        "no argument": (DOC + "function f() { return 1; }", "no_argument"),
        "no value": (DOC + "function f(x) { x.map((y) => { return y; }); return; }", "no_return_value"),
        "unfinished": (DOC + "function f(x) {\n  // TODO\n  return x;\n}", "unfinished"),
        "an object": (DOC + "function f(x) { return this.y + x; }", "uses_this"),
        "a file": ("const fs = require('node:fs');\n" + DOC + "const f = (x) => fs.readFileSync(x);", "unsafe_import"),
        "a module inside": (DOC + "function f(x) { return require('fs').readFileSync(x); }", "unsafe_import"),
        "another package": ("import lib from 'fs';\n" + DOC + "const f = (x) => lib(x);", "unsafe_import"),
        "another function": (DOC + "function f(x) { return helper(x); }", "undefined_name"),
        "a browser": (DOC + "function f(x) { return document.querySelector(x); }", "undefined_name"),
    }.values(),
)
def test_others_are_dropped_by_name(text, why):
    assert found(text) == ({}, {why: 1})


def test_long_functions_and_broken_files():
    assert found(DOC + ADD, max_lines=2) == ({}, {"too_long": 1})
    assert found(DOC + ADD + "}") == ({}, {"files_that_do_not_parse": 1})
    assert found("var a=1;" * 100) == ({}, {"files_unreadable": 1})


def test_seeds_of_others_are_functions():
    faults = {ADD: None, "f = (x) => x": None, "async get(x) { return x; }": None, "x = 1": "no_function"}
    assert {text: fault_of_javascript(text) for text in faults} == faults
    assert fault_of_javascript("def f(x):\n    return x") == "no_javascript"


def test_documentation_is_the_text_of_a_comment():
    assert documentation_in(DOC) == "Adds one to a number.\n\n@param {number} x"
    assert documentation_in("// Adds one\n// to a number.") == "Adds one\nto a number."


@pytest.fixture
def packages(tmp_path):
    folder = tmp_path / "node_modules"
    files = {
        "sums/package.json": json.dumps({"name": "sums", "version": "1.2.0", "license": "MIT"}),
        "sums/lib/add.js": DOC + ADD,
        "sums/lib/same.mjs": DOC + "export " + ADD,
        "sums/lib/add.min.js": DOC + ADD.replace("addOne", "minified"),
        "sums/test/add.js": DOC + ADD.replace("addOne", "tested"),
        "sums/node_modules/other/index.js": DOC + ADD.replace("addOne", "other"),
        "close.cjs": "/** Whether two of the numbers are close to each other. */\n"
        "function closePair(numbers, limit) {\n  return numbers.some((a, i) => numbers.some((b, j) => i !== j && "
        "Math.abs(a - b) < limit));\n}",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_a_folder_of_packages_becomes_seeds(packages, tmp_path):
    collect = load_script("collect_seeds")
    output = tmp_path / "seeds"
    options = {"language": "javascript", "decontaminate": ("humaneval",)}
    collect.main(collect.Options(input=str(packages), output=str(output), **options))
    rows = {row["name"]: row for row in read_rows(output)}
    origin = {name: (row["repository"], row["license"], row["language"]) for name, row in rows.items()}
    assert origin == {
        "addOne": ("sums@1.2.0", "MIT", "javascript"),
        "closePair": ("node_modules", None, "javascript"),
    }
    assert run_json(output)["counts"] == {"exact_duplicates": 1}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"input": "stdlib"}, "stands for Python files: name a folder of JavaScript"),
        ({"judge_docstrings": True}, "--judge-docstrings is only for Python"),
        ({"input": "TESTS"}, "no JavaScript files but tests, minified ones and node_modules"),
    ],
)
def test_what_there_is_not_is_said_in_a_sentence(packages, tmp_path, options, said):
    collect = load_script("collect_seeds")
    folder = {"input": str(packages / "sums")} | options
    if folder["input"] == "TESTS":
        folder["input"] = str(tmp_path / "empty")
        (tmp_path / "empty" / "test").mkdir(parents=True)
        (tmp_path / "empty" / "test" / "a.js").write_text(ADD)
    with pytest.raises(UserError, match=said):
        collect.main(collect.Options(output=str(tmp_path / "out"), language="javascript", **folder))


def test_the_parser_that_is_missing_is_named(packages, tmp_path, monkeypatch):
    monkeypatch.setattr("selfalign.code.javascript.importlib.util.find_spec", lambda name: None)
    collect = load_script("collect_seeds")
    with pytest.raises(UserError, match=r"tree-sitter, which is missing: pip install -r requirements\.txt"):
        collect.main(collect.Options(input=str(packages), output=str(tmp_path / "out"), language="javascript"))


def test_files_are_listed_with_their_packages(packages):
    rows = open_javascript_files(str(packages)).rows
    assert rows["path"] == ["close.cjs", "sums/lib/add.js", "sums/lib/same.mjs"]
