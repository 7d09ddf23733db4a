"""selfalign/code/type_checkers.py: what passes, whatever lies around, and however functions are put together."""

import asyncio
import json
import venv

import pytest

from selfalign.code import type_checkers
from selfalign.code.type_checkers import BAD, FAILED, GOOD, TypeChecker
from selfalign.errors import UserError

RULES = {"basedpyright": "reportReturnType", "pyrefly": "bad-return"}


def check(codes, name="pyrefly", **options):
    async def all_at_once(checker):
        async with checker:
            return await asyncio.gather(*map(checker.check, codes))

    return asyncio.run(all_at_once(TypeChecker(name, **options)))


@pytest.mark.parametrize("name", RULES)
def test_functions_are_judged_by_their_types_whatever_configuration_lies_around(name, tmp_path, monkeypatch):
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "off", "ignore": ["**"]}))
    (tmp_path / "pyrefly.toml").write_text('preset = "off"')
    off = '[tool.basedpyright]\ntypeCheckingMode = "off"\n[tool.pyrefly]\npreset = "off"'
    (tmp_path / "pyproject.toml").write_text(off)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert check([GOOD, BAD], name) == [None, RULES[name]]


def test_each_answer_belongs_to_its_function_in_batches_of_any_size():
    codes = [GOOD, BAD, BAD] * 7
    expected = [None, RULES["pyrefly"], RULES["pyrefly"]] * 7
    assert check(codes, batch=7, processes=2) == expected == check(codes, batch=1000, processes=1)


def test_functions_do_not_see_each_other():
    names = ("0", "f0", "a", "b")
    codes = ["def f0(x):\n    return x\n", *(f"import {name}\n" for name in names[1:]), "def g(x):\n    return f0(x)\n"]
    assert all(check(codes)[1:])


def test_packages_are_those_of_the_interpreter_that_is_named(tmp_path):
    venv.create(tmp_path / "bare", symlinks=True, with_pip=False)
    code = ["import numpy\n"]
    assert check(code) == [None]
    assert check(code, python=str(tmp_path / "bare" / "bin" / "python")) == ["missing-import"]


def test_a_function_that_kills_the_checker_costs_the_others_nothing(monkeypatch):
    checker = TypeChecker("pyrefly")
    real, runs = checker._run, []

    async def dies_of_poison(codes):
        runs.append(len(codes))
        return (None, "Killed") if "poison" in codes else await real(codes)

    monkeypatch.setattr(checker, "_run", dies_of_poison)
    assert asyncio.run(checker._rules([GOOD, BAD, "poison", GOOD])) == [None, RULES["pyrefly"], FAILED, None]
    assert max(runs) == 4 and len(runs) <= 5


def test_a_process_that_hangs_is_ended(monkeypatch):
    checker = TypeChecker("pyrefly")
    monkeypatch.setattr(type_checkers, "BASE_SECONDS", 0.2)
    monkeypatch.setattr(type_checkers, "SECONDS_PER_FUNCTION", 0.0)
    monkeypatch.setattr(checker, "_command", ["sleep", "60"])
    assert asyncio.run(checker._rules([GOOD])) == [FAILED]


@pytest.mark.parametrize("python", ["/no/such/python", "/bin/false"])
def test_an_interpreter_that_is_none_is_refused_at_the_start(python):
    with pytest.raises(UserError, match=f"{python} is not a Python interpreter"):
        TypeChecker("pyrefly", python=python)


def test_a_checker_that_does_not_work_is_refused_at_the_start(monkeypatch, tmp_path):
    (tmp_path / "pyrefly").write_text("#!/bin/sh\necho out of order\nexit 1\n")
    (tmp_path / "pyrefly").chmod(0o755)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    (tmp_path / "python").symlink_to("/bin/true")
    with pytest.raises(UserError, match="pyrefly does not work here: out of order"):
        TypeChecker("pyrefly")


def test_a_checker_that_is_not_installed_is_refused_at_the_start(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(UserError, match="pyrefly is not installed: pip install pyrefly"):
        TypeChecker("pyrefly")
