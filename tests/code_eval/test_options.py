"""Options of the sandbox, the interpreter that runs the programs, and what these may see."""

import contextlib
import fcntl
import glob
import os
import shutil
import socket
import sys
import tempfile
import time
import venv
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from code_eval import sandbox as sandbox_module
from code_eval.checks import LEAST
from code_eval.sandbox import Program, Sandbox, SandboxUnavailable
from tests.code_eval.tools import GOOD, Elsewhere, one, sandbox_of


@pytest.mark.parametrize(
    ("options", "program"),
    [
        ({"preload": ["statistics"]}, "import sys\nassert 'statistics' in sys.modules"),
        ({"preload": []}, "import sys\nassert 'statistics' not in sys.modules"),
        ({}, "import sys\nassert 'numpy' in sys.modules"),
        ({"main": True, "preload": []}, "x = __name__\nassert x == '__main__'"),
        ({"main": False, "preload": []}, "x = __name__\nassert x != '__main__'"),
        ({"environment": {"GREETING": "hello"}, "preload": []}, "import os\nassert os.environ['GREETING'] == 'hello'"),
    ],
)
def test_an_option(options, program):
    with Sandbox(workers=1, **options) as sandbox:
        assert one(sandbox, program).passed


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"python": "/bin/false"}, SandboxUnavailable, "not a Python"),
        ({"read_only": ["/does/not/exist"]}, FileNotFoundError, "/does/not/exist"),
        ({"memroy": 1}, TypeError, "^There is no option memroy; the limits that can be set are memory, "),
        ({"workers": 0}, ValueError, "^workers must be at least 1, and not 0.$"),
        ({"workers": 1.5}, ValueError, "^workers must be a whole number"),
        ({"memory": "1GB"}, ValueError, "^memory must be a whole number of bytes, such as 16777216, and not '1GB'.$"),
        ({"memory": 1024}, ValueError, "^memory must be at least 16777216 bytes, and not 1024.$"),
        ({"processes": 2}, ValueError, "^processes must be at least 4"),
        ({"open_files": 8}, ValueError, "^open_files must be at least 32"),
        *(({"timeout": t}, ValueError, "^timeout must be a number of seconds above 0") for t in (0, -1, "3", None)),
        ({"wall_timeout": 0}, ValueError, "^wall_timeout must be"),
        ({"wall_timeout": 9, "on_the_clock": True}, ValueError, "there is no wall_timeout then"),
        ({"preload": "numpy"}, ValueError, "^preload must be a list of strings, and not 'numpy'.$"),
        ({"perf_event": "cycles"}, ValueError, "'cycles': one of instructions, page-faults"),
        ({"perf_event": "page-faults", "mode": "strict"}, ValueError, "not for the mode 'strict'"),
        *(({"mode": mode}, ValueError, "isolated, strict, unsafe") for mode in ("", "safe", "Isolated", None)),
    ],
)
def test_an_option_that_cannot_be(options, error, message):
    with pytest.raises(error, match=message):
        Sandbox(**{"workers": 1, **options})


def test_programs_that_cannot_be():
    with Sandbox(workers=1, preload=[]) as sandbox:
        with pytest.raises(ValueError, match="timeout must be a number of seconds above 0, and not -1"):
            sandbox.submit(Program(GOOD, timeout=-1))
        with pytest.raises(TypeError, match="must be a string or Program"):
            sandbox.submit((GOOD, GOOD))  # pyright: ignore[reportArgumentType]
        with pytest.raises(TypeError, match="code must be a string, and not None"):
            sandbox.submit(Program(None))


@pytest.mark.parametrize("options", [{name: LEAST[name]} for name in LEAST])
def test_the_least_that_is_allowed_runs_programs(options):
    with Sandbox("strict", workers=1, **options) as sandbox:
        assert one(sandbox, "x = 1", "assert x").passed


def test_read_only_paths(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    for folder in [shared, *shared.parents][:-1]:  # as root, programs run as another user
        with contextlib.suppress(PermissionError):
            folder.chmod(folder.stat().st_mode | 0o005)
    (shared / "data").write_text("x")
    look = f"import os\nassert open('{shared}/data').read() == 'x' and os.listdir('{tmp_path}') == ['shared']\n"
    write = f"try: open('{shared}/new', 'w')\nexcept OSError: pass\nelse: raise ValueError"
    with Sandbox(workers=1, preload=[], read_only=[str(shared)]) as sandbox:
        result = one(sandbox, look + write)
        assert result.passed, result


SERVICES = """
import fcntl, os, socket, time
os.chdir({folder!r})
with open("data") as data:
    assert data.read() == "x"
    fcntl.flock(data, fcntl.LOCK_EX)
    fcntl.lockf(data, fcntl.LOCK_SH)
    time.sleep(1)
assert socket.socket(socket.AF_UNIX).connect_ex("socket")
try:
    os.write(os.open("fifo", os.O_WRONLY | os.O_NONBLOCK), b"x")
except OSError:
    pass
"""


@pytest.mark.parametrize("user", ["root", "user"])
def test_programs_cannot_reach_services_in_a_read_only_folder_or_lock_its_files(user):
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as service:
        os.chmod(folder, 0o755)
        service.bind(f"{folder}/socket")
        service.listen()
        os.mkfifo(f"{folder}/fifo")
        data = Path(folder, "data")
        data.write_text("x")
        for path in Path(folder).iterdir():
            path.chmod(0o666)
        fifo = os.open(f"{folder}/fifo", os.O_RDONLY | os.O_NONBLOCK)
        with closing(sandbox_of(user, workers=1, preload=[], read_only=[folder])) as sandbox, data.open("r+") as file:
            with ThreadPoolExecutor() as threads:
                running = threads.submit(sandbox.run, SERVICES.format(folder=folder))
                while not running.done():
                    for lock in (fcntl.flock, fcntl.lockf):
                        lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises BlockingIOError if another holds a lock
                        lock(file, fcntl.LOCK_UN)
                    time.sleep(0.02)
            result = running.result()
        assert result.passed, result
        assert os.read(fifo, 1) == b""
        os.close(fifo)


@pytest.mark.parametrize("kind", ["socket", "fifo"])
def test_a_service_by_itself_is_refused(kind, tmp_path):
    path = tmp_path / "service"
    with socket.socket(socket.AF_UNIX) as service:
        service.bind(str(path)) if kind == "socket" else os.mkfifo(path)
        with pytest.raises(ValueError, match="neither a folder nor a file"):
            Sandbox(read_only=[str(path)])


def test_a_folder_that_no_overlay_can_show_is_still_there(tmp_path, monkeypatch):
    (tmp_path / "data").write_text("x")
    for folder in [tmp_path, *tmp_path.parents][:-1]:
        with contextlib.suppress(PermissionError):
            folder.chmod(folder.stat().st_mode | 0o005)
    monkeypatch.setattr(sandbox_module, "obstacle_to_overlay", lambda *_: "not here")
    with pytest.warns(RuntimeWarning, match="not here"):
        sandbox = Sandbox(workers=1, preload=[], read_only=[str(tmp_path)])
    with sandbox:
        assert one(sandbox, f"assert open('{tmp_path}/data').read() == 'x'").passed


def test_another_environment(tmp_path):
    environment = Path("/tmp") / f"environment-{os.getpid()}"  # in /tmp, which programs have their own of
    try:
        venv.create(environment, symlinks=True)
        (package,) = environment.glob("lib/python*/site-packages")
        (package / "only_there.py").write_text("x = 1")
        with Sandbox(workers=1, preload=[], python=str(environment / "bin" / "python")) as sandbox:
            look = f"import only_there, os\nassert only_there.x == 1 and '{environment.name}' in os.listdir('/tmp')"
            result = one(sandbox, look)
            assert result.passed, result
    finally:
        shutil.rmtree(environment)


@pytest.fixture
def environment(tmp_path):
    """An interpreter, and the folder of its packages."""
    venv.create(tmp_path / "environment", symlinks=True)
    (packages,) = tmp_path.glob("environment/lib/python*/site-packages")
    return str(tmp_path / "environment" / "bin" / "python"), packages


def test_programs_find_python_by_that_name(tmp_path):
    """Also where the interpreter is called otherwise, as Debian's is, which is python3 only."""
    (tmp_path / "python-of-ours").symlink_to(os.path.realpath(sys.executable))
    ask = "['python', '-c', 'import sys; print(sys.version)'], text=True"
    with Sandbox(workers=1, preload=[], python=str(tmp_path / "python-of-ours")) as sandbox:
        result = one(sandbox, f"import subprocess\nassert subprocess.check_output({ask}).strip() == {sys.version!r}")
        assert result.passed, result


def test_a_module_that_needs_a_temporary_file_is_imported_ahead(environment):
    python, packages = environment
    (packages / "writes.py").write_text("import tempfile\nfile = tempfile.TemporaryFile()\nfile.write(b'x')")
    with Sandbox(workers=1, preload=["writes"], python=python) as sandbox:
        result = one(sandbox, "import os, sys\nassert 'writes' in sys.modules")
        assert result.passed, result


@pytest.mark.parametrize("code", ["1 / 0", "import not_installed", "raise SystemExit"])
def test_a_module_that_cannot_be_imported_ahead_is_left_out_and_said_once(environment, code):
    python, packages = environment
    (packages / "broken.py").write_text(code)
    with pytest.warns(RuntimeWarning, match="^broken can't be imported ahead of the programs") as said:
        sandbox = Sandbox(workers=2, preload=["broken", "statistics"], python=python)
    with sandbox:
        assert len(said) == 1
        assert one(sandbox, "import sys\nassert 'statistics' in sys.modules and 'broken' not in sys.modules").passed


@pytest.mark.parametrize("folder", ["/", "/tmp", "/usr", "/proc", "/dev", "/etc", "/run", "/home"])
def test_any_working_directory(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with Sandbox(workers=1, preload=[]) as sandbox:
        assert one(sandbox, GOOD).passed


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
@pytest.mark.parametrize("mode", ["isolated", "strict"])
def test_versions_of_python(version, mode):
    found = glob.glob(os.path.expanduser(f"~/.pyenv/versions/{version}.*/bin/python3"))
    python = found[0] if found else shutil.which(f"python{version}")
    if not python:
        pytest.skip(f"no Python {version}")
    with contextlib.closing(Elsewhere(python, mode=mode, workers=1, timeout=5.0)) as host:
        assert "ready" in host.first, host.first
        f = "import sys\ndef f(x): return x * x"
        assert host.run(f, "assert f(2) == 4").outcome == "passed"
        assert host.run(f, "def test():\n assert f(2) == 5\ntest()").outcome == "failed"
        assert host.run(f, "def test():\n assert f(2) == 4").outcome == "no_tests"
        assert host.run("def f(x):\n while True: pass", "assert f(2) == 4", 0.5).outcome in ("cpu_limit", "timeout")
        assert host.run("def f(x): return sys", "assert f(2)").outcome == "error"
        assert host.run("def f(x): return bytearray(5 << 30)", "assert f(2)").outcome == "out_of_memory"
