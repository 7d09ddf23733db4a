"""Environments for the programs of benchmarks that need packages of their era.

    python -m selfalign.benchmarks.harness.environment ds1000 canitedit

makes one environment for each benchmark that needs one, in `.environments` of the project, and prints the path of each
one's interpreter, which `benchmark.py --python` takes. For a benchmark that needs none it prints the path of this
interpreter. What is complete is not made again; what was interrupted is continued.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from selfalign.benchmarks import Benchmark, load_benchmark
from selfalign.errors import UserError, warn
from selfalign.options import ROOT

ENVIRONMENTS = ROOT / ".environments"
REQUIREMENTS = ROOT / "selfalign" / "benchmarks" / "requirements"
# Exits with 0 if a Python is of one of the versions in its arguments and can make environments.
SUITS = "import sys, venv; sys.exit('%d.%d' % sys.version_info[:2] not in sys.argv[1:])"
ALONE = "-alone"  # at the end of the name of a file: its packages are installed without what they require
DONE = "installed"  # the file in a complete environment, with the hash of its requirements


def environment_of(benchmark: Benchmark, folder: Path = ENVIRONMENTS, python: str | None = None) -> str:
    """The interpreter with the packages of a benchmark's requirements, in an environment below `folder`.

    It is made if it is not there or not complete. `python` is the interpreter to make it from, by default the first
    suitable one on the PATH. For a benchmark without requirements, it is this interpreter.

    Raises:
        UserError: there is no suitable Python, or the packages can't be installed.
    """
    if not benchmark.requirements:
        return sys.executable
    files = requirements_of(benchmark.requirements)
    environment = folder / benchmark.requirements
    interpreter = environment / "bin" / "python"
    wanted = hash_of(files)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{benchmark.requirements}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two recipes may want it at once
        done = environment / DONE
        if done.exists() and done.read_text() == wanted and _runs(interpreter, "pass"):
            return str(interpreter)
        done.unlink(missing_ok=True)
        base = _suitable(python, benchmark)
        print(f"Installing {files[0].name} into {environment} (minutes, and GB for torch) ...", file=sys.stderr)
        # An environment whose interpreter has gone, or is of another version, can't be repaired.
        clear = [] if _runs(interpreter, SUITS, *benchmark.pythons) else ["--clear"]
        _run([base, "-m", "venv", "--without-pip", *clear, str(environment)], f"no environment can be made with {base}")
        if not _runs(sys.executable, "import pip"):  # in a .venv that uv has made
            _run([sys.executable, "-m", "ensurepip"], f"{sys.executable} has no pip")
        pip = [sys.executable, "-m", "pip", "--python", str(interpreter), "--quiet", "--disable-pip-version-check"]
        for file in files:
            without = ["--no-deps"] if file.stem.endswith(ALONE) else []
            _run([*pip, "install", *without, "-r", str(file)], f"{file.name} can't be installed")
        try:
            _run([str(interpreter), "-c", benchmark.download, str(environment)], f"{environment} lacks data")
            done.write_text(wanted)
        except UserError as error:  # the next call tries again
            warn(f"{error}; answers that need it will fail")
    return str(interpreter)


def requirements_of(name: str) -> list[Path]:
    """The files of requirements of this name: the packages with all that they need, and those to be had without."""
    files = REQUIREMENTS / f"{name}.txt", REQUIREMENTS / f"{name}{ALONE}.txt"
    return [file for file in files if file.exists()]


def hash_of(files: list[Path]) -> str:
    """What a complete environment has in its file DONE."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _suitable(python: str | None, benchmark: Benchmark) -> str:
    """An interpreter of a version for which the benchmark's packages were published."""
    candidates = [python] if python else [*(f"python{version}" for version in benchmark.pythons), sys.executable]
    for candidate in candidates:
        found = shutil.which(candidate)
        if found and _runs(found, SUITS, *benchmark.pythons):
            return found
    versions = " or ".join(benchmark.pythons)
    raise UserError(
        f"the packages of {benchmark.requirements} need Python {versions} with venv, and "
        + (f"{python} is not one" if python else "there is none on the PATH; --python names one elsewhere")
    )


def _runs(python: str | Path, code: str, *arguments: str) -> bool:
    try:
        return not subprocess.run([python, "-I", "-c", code, *arguments], capture_output=True).returncode
    except OSError:
        return False


def _run(command: list[str], failure: str) -> None:
    """Runs a command; UserError with the last line that it wrote if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise UserError(f"{failure}: {lines[-1].strip() if lines else f'exit status {done.returncode}'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmarks", nargs="+", metavar="BENCHMARK", help="as benchmark.py --benchmark has it")
    parser.add_argument("--folder", type=Path, default=ENVIRONMENTS, help="where the environments are (%(default)s)")
    parser.add_argument("--python", help="make them from this interpreter; by default, the first suitable on the PATH")
    options = parser.parse_args()
    try:
        for name in options.benchmarks:
            print(environment_of(load_benchmark(name), options.folder.absolute(), options.python), flush=True)
    except UserError as error:
        sys.exit(f"environment: {error}")


if __name__ == "__main__":
    main()
