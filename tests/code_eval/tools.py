"""What the tests of code_eval share: a sandbox as root, as a normal user, under another interpreter."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pytest

from code_eval.isolation import find_bubblewrap
from code_eval.sandbox import Program, Result, Sandbox

ROOT = Path(__file__).resolve().parent.parent.parent
NOBODY = {"user": 65534, "group": 65534, "extra_groups": []}  # for subprocess: a user without any rights
GOOD = "assert int('1') == 1"
NEVER = f"{GOOD}\nimport time\ntime.sleep(1000)"


def shown_in(folder: str) -> list[str]:
    """What programs see in a folder of the host: the way to an interpreter that lives there, and nothing else."""
    prefixes = [Path(prefix) for prefix in (sys.prefix, sys.base_prefix)]
    return sorted({path.relative_to(folder).parts[0] for path in prefixes if path.is_relative_to(folder)})


IN_TMP = shown_in("/tmp")
PATH = f"{os.path.dirname(find_bubblewrap())}:{os.environ['PATH']}"


class Here:
    """A sandbox in this process."""

    def __init__(self, **options):
        self.sandbox = Sandbox(**options)

    def run(self, code: str, tests: str | None = None, timeout: float | None = None) -> Result:
        return one(self.sandbox, code, tests, timeout)

    def workers(self) -> list[int]:
        return [worker.process.pid for worker in self.sandbox._pool.alive]

    def close(self) -> None:
        self.sandbox.close()


class Elsewhere:
    """A sandbox in another process, under another interpreter or as the `user` that Popen is given."""

    def __init__(self, python: str = sys.executable, user: dict | None = None, **options):
        self.folder = copy_of_code_eval()
        host = Path(__file__).with_name("host.py").read_text()
        self.process = subprocess.Popen(
            [python, "-s", "-B", "-c", host, self.folder.name, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env=os.environ | {"PATH": PATH},
            **(user or {}),
        )
        assert self.process.stdin and self.process.stdout
        self.requests, self.answers = self.process.stdin, self.process.stdout
        self.first = json.loads(self.answers.readline())

    def request(self, code: str, tests: str | None = None, timeout: float | None = None) -> None:
        self.requests.write(json.dumps({"code": code, "tests": tests, "timeout": timeout}) + "\n")
        self.requests.flush()

    def run(self, code: str, tests: str | None = None, timeout: float | None = None) -> Result:
        self.request(code, tests, timeout)
        return Result(**json.loads(self.answers.readline()))

    def workers(self) -> list[int]:
        return children(self.process.pid)

    def close(self) -> None:
        try:
            self.requests.close()
        finally:
            self.process.wait(10)
            self.answers.close()
            self.folder.cleanup()


def one(sandbox: Sandbox, *program, **options) -> Result:
    """How one program ends; `program` and `options` are what Program takes."""
    return sandbox.submit(Program(*program, **options)).result()


def copy_of_code_eval() -> tempfile.TemporaryDirectory:
    """A folder with code_eval that any user may enter, unlike pytest's."""
    folder = tempfile.TemporaryDirectory()
    os.chmod(folder.name, 0o755)
    shutil.copytree(ROOT / "code_eval", f"{folder.name}/code_eval", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def sandbox_of(user: str, **options) -> Here | Elsewhere:
    """A sandbox run by "root" or by a "user" without rights; skips the test where this process cannot have one."""
    if user == "root" and os.geteuid():
        pytest.skip("not root")
    if user == "root" or os.geteuid():
        return Here(**options)
    return Elsewhere(python_for_nobody(), NOBODY, **options)


def python_for_nobody() -> str:
    """An interpreter that a user without rights may execute: this one may lie in root's home folder."""
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            question = "import sys; assert sys.version_info >= (3, 10)"
            subprocess.run([python, "-c", question], check=True, cwd="/", **NOBODY)
            return python
        except (OSError, subprocess.CalledProcessError):
            continue
    pytest.skip("no interpreter that another user may execute")


def children(pid: int) -> list[int]:
    found = []
    with suppress(FileNotFoundError):  # the process has ended since it was found
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            with suppress(FileNotFoundError, ProcessLookupError):
                found += map(int, task.read_text().split())
    return found


def descendants(pid: int) -> list[int]:
    return [d for child in children(pid) for d in [child, *descendants(child)]]


def processes_with(text: str) -> list[int]:
    """Processes of this machine, in whatever namespace, whose command line or environment contains `text`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in folder.joinpath("cmdline").read_bytes() and int(folder.name) != os.getpid():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def gone(pids: list[int], seconds: float = 5.0) -> bool:
    """Whether all of these processes end within the time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(os.path.exists(f"/proc/{pid}") for pid in pids):
            return True
        time.sleep(0.01)
    return False
