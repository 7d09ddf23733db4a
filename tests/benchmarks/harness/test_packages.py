"""Packages of benchmarks' programs: which are needed, which are there, and samples that failed for want of one."""

import json
import venv

import pytest

from selfalign.benchmarks import Problem
from selfalign.benchmarks.harness.packages import installed_packages, needed_packages
from selfalign.errors import UserError
from tests.helpers import run_well, write_rows


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


def test_programs_run_in_another_interpreter_and_what_it_lacks_is_said_and_counted(tmp_path):
    venv.create(tmp_path / "bare", symlinks=True)
    python = str(tmp_path / "bare" / "bin" / "python")
    assert installed_packages(["numpy", "json"], python) == {"json": ""}
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
    command = ("benchmark", "model", tmp_path / "out", "--data", data, "--samples", samples, "--python", python)
    said = run_well(*command).stderr
    assert "the programs' Python lacks numpy (imported by 1 of 1 problems): answers that need it will fail" in said
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["packages"] == {"numpy": None} and results["missing_packages"] == {"numpy": 1}
    assert results["outcomes"] == {"error": 1}
