"""Environments of benchmarks' programs: made once, continued, and what is said when they can't be."""

import subprocess
import sys
import venv
import zipfile
from types import SimpleNamespace

import pytest

from selfalign.benchmarks import load_benchmark
from selfalign.benchmarks.harness import environment
from selfalign.benchmarks.harness.environment import REQUIREMENTS, environment_of
from selfalign.errors import UserError

HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"


@pytest.fixture
def benchmark(tmp_path, monkeypatch):
    """A benchmark that needs the package `era`, and a file."""
    monkeypatch.setattr(environment, "REQUIREMENTS", tmp_path)
    wheel = tmp_path / "era-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("era.py", "version = 1")
        file.writestr("era-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: era\nVersion: 1.0\n")
        file.writestr("era-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("era-1.0.dist-info/RECORD", "")
    (tmp_path / "toy.txt").write_text(f"{wheel}\n")
    return SimpleNamespace(requirements="toy", pythons=(HERE,), download="import sys; open(sys.argv[1] + '/data', 'w')")


def test_an_environment_is_made_once_and_completed_if_it_was_interrupted(tmp_path, benchmark):
    python = environment_of(benchmark, tmp_path / "all", sys.executable)
    assert subprocess.run([python, "-c", "import era"]).returncode == 0
    wheel = (tmp_path / "era-1.0-py3-none-any.whl").rename(tmp_path / "away")
    assert environment_of(benchmark, tmp_path / "all", sys.executable) == python  # nothing is installed again
    wheel.rename(tmp_path / "era-1.0-py3-none-any.whl")
    for left in ("bin/python", "installed"):
        (tmp_path / "all" / "toy" / left).unlink()
        assert environment_of(benchmark, tmp_path / "all", sys.executable) == python
        assert subprocess.run([python, "-c", "import era"]).returncode == 0
    assert (tmp_path / "all" / "toy" / "data").exists()


def test_packages_that_are_wanted_alone_come_without_what_they_require(tmp_path, benchmark):
    wheel = tmp_path / "server-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("server.py", "")
        required = "Metadata-Version: 2.1\nName: server\nVersion: 1.0\nRequires-Dist: nowhere-to-be-had==7.7\n"
        file.writestr("server-1.0.dist-info/METADATA", required)
        file.writestr("server-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("server-1.0.dist-info/RECORD", "")
    (tmp_path / "toy-alone.txt").write_text(f"{wheel}\n")
    python = environment_of(benchmark, tmp_path / "all", sys.executable)
    assert subprocess.run([python, "-c", "import era, server"]).returncode == 0


def test_an_environment_is_made_where_uv_has_left_out_pip(tmp_path, benchmark, monkeypatch):
    venv.create(tmp_path / "uv", symlinks=True)
    base = sys.executable
    monkeypatch.setattr(sys, "executable", str(tmp_path / "uv" / "bin" / "python"))
    python = environment_of(benchmark, tmp_path / "all", base)
    assert subprocess.run([python, "-c", "import era"]).returncode == 0


def test_data_that_cannot_be_fetched_are_said_and_tried_again(tmp_path, benchmark, capsys):
    benchmark.download = "import sys; sys.exit('no network')"
    for _ in range(2):
        environment_of(benchmark, tmp_path / "all", sys.executable)
        assert "toy lacks data: no network; answers that need it will fail" in capsys.readouterr().err


def test_what_can_not_be_installed_is_said(tmp_path, benchmark):
    (tmp_path / "toy.txt").write_text("./nowhere.whl\n")
    with pytest.raises(UserError, match=r"toy\.txt can't be installed: .*nowhere\.whl"):
        environment_of(benchmark, tmp_path / "all", sys.executable)
    assert not (tmp_path / "all" / "toy" / "installed").exists()


@pytest.mark.parametrize(("python", "said"), [(None, "none on the PATH"), (sys.executable, "is not one")])
def test_a_python_of_another_era_is_said(tmp_path, benchmark, python, said):
    benchmark.pythons = ("2.7",)
    with pytest.raises(UserError, match=rf"need Python 2\.7 with venv, and .*{said}"):
        environment_of(benchmark, tmp_path / "all", python)


def test_a_benchmark_without_requirements_has_this_interpreter():
    assert environment_of(load_benchmark("humaneval")) == sys.executable


@pytest.mark.parametrize("file", sorted(REQUIREMENTS.glob("*.txt")), ids=lambda file: file.stem)
def test_what_imports_pkg_resources_comes_with_a_setuptools_that_has_it(file):
    """An environment is made without pip, so it has none by itself, and the newest has no pkg_resources any more."""
    lines = (line.split("#")[0].strip() for line in file.read_text().splitlines())
    versions = dict(line.lower().split("==") for line in lines if line)
    if {"z3-solver", "librosa"} & versions.keys():
        assert int(versions["setuptools"].split(".")[0]) < 80
