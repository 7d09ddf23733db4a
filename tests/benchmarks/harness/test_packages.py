"""Packages of benchmarks' programs: which are needed, which are there, and samples that failed for want of one."""

import json
import venv

import pytest

from selfalign.benchmarks import Problem, load_benchmark
from selfalign.benchmarks.harness.packages import check_missing, installed_packages, needed_packages, packages_for
from selfalign.errors import UserError
from tests.helpers import run, run_well, write_rows


def problem(solution, test=""):
    return Problem("a", "", "", solution, test)


def test_packages_are_those_that_solutions_and_tests_import_but_for_pythons_own():
    problems = [
        problem("import os, numpy as np\nfrom pandas.testing import assert_frame_equal", "import numpy"),
        problem("def f():\n    import pandas\n    from . import sibling"),
        problem("    import json\n    return half_a_function", "import scipy.stats\n1 +"),
    ]
    assert needed_packages(problems) == {"numpy": 1, "pandas": 2}


def test_installed_packages_have_their_versions():
    import numpy

    found = installed_packages(["numpy", "os.path", "no_such_package"])
    assert found == {"numpy": numpy.__version__, "os": ""}


def test_a_python_that_does_not_run_is_said():
    with pytest.raises(UserError, match="/no/python is not a Python interpreter that runs here"):
        installed_packages(["numpy"], "/no/python")


def test_programs_in_strings_count_too():
    assert needed_packages([problem("", "context = '''\nimport statsmodels\n[insert]\n'''")]) == {"statsmodels": 1}
    assert not needed_packages([problem("", "said = 'import it, please'")])


@pytest.fixture
def command(tmp_path):
    """The command that scores a right answer, which imports numpy, in an environment without it."""
    venv.create(tmp_path / "bare", symlinks=True)
    row = {
        "task_id": "HumanEval/0",
        "prompt": "def one():\n",
        "entry_point": "one",
        "canonical_solution": "    import numpy\n    return int(numpy.ones(1)[0])\n",
        "test": "def check(candidate):\n    assert candidate() == 1\n",
    }
    sample = {"task_id": "HumanEval/0", "solution": row["prompt"] + row["canonical_solution"]}
    data = write_rows(tmp_path / "data.jsonl", [row])
    samples = write_rows(tmp_path / "samples.jsonl", [sample])
    python = tmp_path / "bare" / "bin" / "python"
    return ("benchmark", "model", tmp_path / "out", "--data", data, "--samples", samples, "--python", python)


def test_without_a_package_that_problems_need_nothing_is_scored(tmp_path, command):
    done = run(*command)
    assert done.returncode == 2 and "lacks numpy (imported by 1 of 1 problems)" in done.stderr
    assert "--allow-missing numpy" in done.stderr and not (tmp_path / "out").exists()


def test_the_message_names_the_command_that_makes_the_environment():
    with pytest.raises(UserError, match=r"`python -m .*environment classeval-holistic` makes an environment"):
        packages_for(load_benchmark("classeval-holistic"), [problem("import no_such_package")])


def test_samples_that_were_judged_without_a_needed_package_give_no_result():
    rows = [{"detail": "ModuleNotFoundError: No module named 'numpy'"}, {"detail": None}]
    assert check_missing(rows, {"pandas"}, ()) == check_missing(rows, {"numpy"}, ("numpy",)) == {"numpy": 1}
    with pytest.raises(UserError, match="1 without numpy"):
        check_missing(rows, {"numpy"}, ())


def test_what_is_missing_can_be_allowed_by_name_and_is_counted(tmp_path, command):
    printed = run_well(*command, "--allow-missing", "numpy").stdout
    assert "because the programs' Python lacks a package: 1 without numpy" in printed
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["packages"] == {"numpy": None} and results["missing_packages"] == {"numpy": 1}
    assert results["outcomes"] == {"error": 1}
