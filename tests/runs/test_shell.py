"""The shell scripts of runs/, in a project whose path has a space: what they pass on, and what they refuse."""

import shutil
import subprocess

import pytest

from tests.helpers import ROOT

PRINT = """#!/usr/bin/env bash
printf '%s|' "$@"
"""
# Stands in for a Python at a path of one's own. What it makes has no packages, and needs none.
MAKES_VENV = """#!/usr/bin/env bash
if [ "$1 $2" = "-m venv" ]; then mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && cp "$0" "$3/bin/pip"; fi
"""


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def project(tmp_path):
    """A copy of runs/ whose scripts print what Python would be called with."""
    folder = tmp_path / "a project"
    shutil.copytree(ROOT / "runs", folder / "runs", ignore=shutil.ignore_patterns("out"))
    script(folder / "bin" / "python", PRINT)
    (folder / "runs" / "setup.sh").write_text('echo "setup: ${1:-}" >&2\nPATH=$PWD/bin:$PATH\n')
    return folder


def run_script(project, name, *arguments):
    (elsewhere := project.parent / "empty").mkdir()
    words = ["bash", str(project / "runs" / f"{name}.sh"), *arguments]
    return subprocess.run(words, capture_output=True, text=True, cwd=elsewhere, timeout=60)


@pytest.mark.parametrize("name", ["self_align", "rounds", "small"])
def test_a_model_may_have_any_name(project, name):
    """Also one that setup.sh knows as a word of its own."""
    result = run_script(project, name, "dev", "--out", "a b")
    assert result.stdout == f"-m|runs.{name}|dev|--out|a b|" and result.stderr == "setup: scripts\n"


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [
        (["./a b", "--model", "m"], "m|--settings|small|--out|./a b|"),
        (["x", "--plan-only", "--max-seeds", "8"], "smollm2|--settings|small|--out|x|--plan-only|--max-seeds|8|"),
        (
            ["x", "--decontaminate", "a", "b", "--max-seeds", "8"],
            "smollm2|--settings|small|--out|x|--decontaminate|a|b|--max-seeds|8|",
        ),
        (["x", "--max-seeds"], "smollm2|--settings|small|--out|x|--max-seeds|"),
        ([""], "smollm2|--settings|small|--out||"),
    ],
    ids=str,
)
def test_the_quickstart_leaves_its_options_to_the_chain(project, given, passed_on):
    """Which knows them, and says what is wrong with one."""
    result = run_script(project, "quickstart", *given)
    assert result.stdout == f"-m|runs.self_align|{passed_on}"


def test_the_quickstart_says_that_a_model_is_missing(project):
    result = run_script(project, "quickstart", "--model")
    assert (result.returncode, result.stderr) == (2, "quickstart.sh: --model needs a model\n")


@pytest.mark.parametrize("name", ["quickstart", "self_align", "rounds", "small"])
def test_help_needs_no_environment(project, name):
    result = run_script(project, name, "--help")
    assert result.returncode == 0 and f"bash runs/{name}.sh" in result.stdout and not result.stderr


def test_a_python_at_a_path_with_a_space_is_taken(project, monkeypatch):
    shutil.copy(ROOT / "runs" / "setup.sh", project / "runs")
    for name in ("requirements.txt", "requirements-dev.txt"):
        (project / name).touch()
    monkeypatch.setenv("PYTHON", str(script(project / "my python" / "python3", MAKES_VENV)))
    result = run_script(project, "setup")
    assert result.returncode == 0 and (project / ".venv" / "bin" / "pip").exists(), result.stderr
