"""What several test files need: the scripts as modules and as commands, and small datasets."""

import errno
import importlib.util
import io
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted(path.stem for path in ROOT.glob("*.py"))


@cache
def load_script(name):
    """The script `name` as a module, under another name: `select` is the standard library's."""
    spec = importlib.util.spec_from_file_location(f"{name}_script", ROOT / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def command(name, *arguments):
    return [sys.executable, str(ROOT / f"{name}.py"), *map(str, arguments)]


def run(name, *arguments, cwd=None, env=None, timeout=120):
    """Runs the script `name` as a user would; the result has its output and exit status."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"} | (env or {})
    return subprocess.run(
        command(name, *arguments), capture_output=True, text=True, cwd=cwd, env=environment, timeout=timeout
    )


def run_well(name, *arguments, **options):
    """The same for a run that must succeed."""
    result = run(name, *arguments, **options)
    assert result.returncode == 0, result.stdout + result.stderr
    return result


class Unwritable(io.TextIOBase):
    """A standard error that can't be written any more: every attempt raises `error`."""

    def __init__(self, error):
        self.error = error

    def write(self, text):
        raise self.error


WRITE_ERRORS = [
    OSError(errno.ENOSPC, "No space left on device"),
    BrokenPipeError(),
    ValueError("I/O operation on closed file"),
]


def write_rows(path, rows):
    """`rows` as a JSON-lines dataset."""
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read_rows(folder):
    """The rows of a dataset that a step wrote, in the order of their ids, read as any user would."""
    import datasets

    return sorted(datasets.load_dataset(str(folder), split="train").to_list(), key=lambda row: row["id"])


def run_json(folder):
    return json.loads((Path(folder) / "run.json").read_text())
