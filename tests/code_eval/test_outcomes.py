# ruff: noqa: E501 - a program that is data stays on one line
"""Outcomes: how programs end, what counts as a test, and that ordinary programs run."""

import pytest

from code_eval.sandbox import Sandbox
from tests.code_eval.tools import one

both_modes = pytest.mark.parametrize("mode", ["isolated", "strict"])
CASE = "import unittest\nclass T(unittest.TestCase):\n def test(s): s.assertEqual(f(2), 4)\n"
LOADED = "unittest.defaultTestLoader.loadTestsFromTestCase(T)"
METHOD = "class Tests:\n def test_two(self): assert f(2) == 4, '6 != 4'\nt = Tests()\n"
EXAMPLE = '"""\n>>> f(2)\n4\n"""\nf\n'  # strict: the code is asked for names of the tests' statements


@pytest.fixture(scope="module")
def sandboxes():
    options = {"workers": 2, "timeout": 2.0, "processes": 32, "preload": ["unittest"]}
    with Sandbox(**options) as isolated, Sandbox("strict", **options) as strict:
        yield {"isolated": isolated, "strict": strict}


@pytest.fixture(scope="module")
def sandbox(sandboxes):
    return sandboxes["isolated"]


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
        ("open('x', 'wb').write(bytes(1 << 27))", "assert int()", "output_limit", "OSError: [Errno 27] File too large"),
        ("raise SystemExit(3)", "assert int()", "error", "SystemExit: 3"),
        ("x = 1", "", "no_tests", ""),
        ("x = 1", "def test(): assert x\ntest()", "passed", ""),
        ("x = 1", "for i in range(2):\n    def test(): assert x\n    test()", "passed", ""),
        ("x = 1", "if x != 1: raise ValueError", "passed", ""),
        ("f = abs", CASE + "unittest.main()", "failed", None),
        ("def f(x): return x * 2", CASE + "unittest.main()", "passed", ""),
        ("def f(x): return x * 2", CASE.replace("test(", "t(") + "unittest.main()", "no_tests", None),
    ],
)
def test_outcome(code, tests, outcome, detail, sandbox):
    result = one(sandbox, code, tests, timeout=0.5)
    assert (result.outcome, result.passed) == (outcome, outcome == "passed"), result
    assert detail is None or result.detail == detail


def test_the_kernel_does_not_end_a_program_before_its_time(sandbox):
    """Its clock, which counts coarsely, ran up to a quarter too fast on a busy virtual machine."""
    tests = "import resource\nassert resource.getrlimit(resource.RLIMIT_CPU)[0] >= 1.5 * 20"
    result = one(sandbox, "", tests, timeout=20.0)
    assert result.passed, result


@both_modes
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
def test_failures_that_a_runner_only_prints(tests, mode, sandboxes):
    good, bad = (one(sandboxes[mode], f"def f(x): return x * {n}", tests) for n in (2, 3))
    assert good.passed, good
    assert bad.outcome == "failed" and bad.detail.startswith("AssertionError: "), bad


@both_modes
@pytest.mark.parametrize(
    ("tests", "outcome"),
    [
        (CASE + f"unittest.TextTestRunner().run({LOADED})", "failed"),
        (CASE.replace("test(", "t(") + f"unittest.TextTestRunner().run({LOADED})\nassert f(1)", "no_tests"),
        ("import doctest\ndoctest.testmod()", "no_tests"),
        ("import doctest\ndoctest.testmod()\nassert f(1) == 3", "passed"),
        (METHOD, "no_tests"),
        (CASE, "no_tests"),
        (METHOD + "for name in dir(t):\n if name.startswith('test'): getattr(t, name)()", "failed"),
    ],
)
def test_what_a_runner_found(tests, outcome, mode, sandboxes):
    result = one(sandboxes[mode], "def f(x): return x * 3", tests)
    assert result.outcome == outcome, result
    if outcome == "failed":
        assert result.detail == "AssertionError: 6 != 4"


@both_modes
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


@both_modes
@pytest.mark.parametrize(
    ("tests", "outcome"),
    [
        ("def run():\n def check(x): assert f(x) == 4\n check(2)\nrun()", "passed"),
        ("def run():\n def check(x): assert f(x) == 4\n check(3)\nrun()", "failed"),
        ("def run():\n def a(): assert f(2) == 4\n def b(): a()\n b()\nrun()", "passed"),
        ("def run():\n def check(x): assert f(x) == 4\nrun()", "no_tests"),
        ("class T:\n def __exit__(self, *_): assert f(2) == 4\n def __enter__(self): pass\nwith T(): pass", "passed"),
        ("class T:\n def __init__(self): assert f(2) == 4", "no_tests"),
        ("def run():\n class T:\n  def __init__(self): assert f(2) == 4\n T()\nrun()", "passed"),
        ("def run():\n class T:\n  def __init__(self): assert f(2) == 4\nrun()", "no_tests"),
    ],
)
def test_assertions_in_functions_of_functions_and_in_special_methods(tests, outcome, mode, sandboxes):
    assert one(sandboxes[mode], "def f(x): return x * 2", tests).outcome == outcome


@both_modes
@pytest.mark.parametrize(
    ("tests", "outcome"),
    [
        ("if __name__ == '__main__':\n assert f(2) == 4", "no_tests"),
        ("def test(): assert f(2) == 4\nif '__main__' == __name__:\n test()", "no_tests"),
        (CASE + "if __name__ == '__main__':\n unittest.main()", "no_tests"),
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
        "import mmap  # as large libraries are mapped\n"
        "x = mmap.mmap(-1, 3 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)\nassert x[0] == 0",
        "import random\nrandom.seed(1)\nassert random.random() < 1",
        "import threading\nassert threading.current_thread() is threading.main_thread()",
        "import sys\nsys.stdout.reconfigure(encoding='utf-8')\nsys.stderr.reconfigure(encoding='utf-8')\n"
        "print('\u00e9')\nassert not sys.stdout.seekable()",
        "open('own.py', 'w').write('x = 1')\nimport own\nassert own.x == 1",
        "import getpass\nassert getpass.getuser() == 'sandbox'",
        "import socket\nassert socket.gethostbyname(socket.gethostname()) == '127.0.0.1'",
        "assert getattr(__builtins__, 'int') is int and __builtins__.len([1]) == 1",
        "import inspect\ndef f():\n    return 1\nassert inspect.getsource(f) == 'def f():\\n    return 1\\n'",
        "import multiprocessing as m\ndef f(x): return x * x\n"
        "if __name__ == '__main__':\n    with m.get_context('spawn').Pool(1) as p: assert p.map(f, [1, 2]) == [1, 4]",
        "import subprocess\nassert subprocess.check_output(['python', '-c', 'print(1)']) == b'1\\n'",
        "import sys\ndef main():\n    assert int('1') == 1\n    return 0\nif __name__ == '__main__':\n    sys.exit(main())",
        "import socket\nserver = socket.create_server(('localhost', 8000))\n"
        "client = socket.create_connection(('localhost', 8000))\nserver.accept()[0].send(b'x')\nassert client.recv(1) == b'x'",
        "import socket  # the port is free again\nassert socket.create_server(('127.0.0.1', 8000), reuse_port=False)",
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
    ("program", "outcome"),
    [
        (
            "import sys\ndef main():\n    sys.exit(0)\n    assert int()\nif __name__ == '__main__':\n    sys.exit(main())",
            "error",
        ),
        ("import sys\nassert int() == 0\nif __name__ == '__main__':\n    sys.exit(1)", "error"),
        ("import sys\nif int() == 0: sys.exit(0)\nassert int()", "error"),
    ],
)
def test_leaving_early_does_not_pass(program, outcome, sandbox):
    assert one(sandbox, program).outcome == outcome


MAIN = "import sys\ndef main():\n assert f(2) == 4\n return 0\n"
BLOCK = "if __name__ == '__main__':\n "
WITH_CASE = CASE + f"import sys\n{BLOCK}r = unittest.TextTestRunner().run({LOADED})\n "


@both_modes
@pytest.mark.parametrize("count", [False, True])
@pytest.mark.parametrize(
    ("tests", "outcome"),
    [
        (MAIN + BLOCK + "sys.exit(main())", "passed"),
        (MAIN + "main()\nsys.exit(0)", "passed"),
        (MAIN + "main()\nraise SystemExit(0)", "passed"),
        (MAIN + BLOCK + "main(); exit()", "passed"),
        (WITH_CASE + "sys.exit(not r.wasSuccessful())", "passed"),
        (MAIN + "main()\nsys.exit(1)", "error"),
        (MAIN + "sys.exit(0)\nmain()", "error"),
    ],
)
def test_tests_may_end_as_scripts_do(tests, outcome, count, mode, sandboxes):
    right, wrong = "def f(x): return x * 2", "def f(x): return x * 3"
    assert one(sandboxes[mode], right, tests, count=count).outcome == outcome
    assert one(sandboxes[mode], wrong, tests, count=count).outcome in ("failed", "error")


@both_modes
@pytest.mark.parametrize("count", [False, True])
@pytest.mark.parametrize("tests", ["assert f(0) == 2", f"import sys\n{BLOCK}assert f(0) == 2\n sys.exit(0)"])
@pytest.mark.parametrize("code", ["import sys\nf = sys.exit", "import sys\ndef f(x): sys.exit(0)", "f = exit"])
def test_the_code_does_not_end_the_tests(code, tests, count, mode, sandboxes):
    assert one(sandboxes[mode], code, tests, count=count).outcome == "error"


@pytest.mark.parametrize(
    "tests",
    [
        "import multiprocessing as m\n"
        + BLOCK
        + "with m.get_context('spawn').Pool(1) as p: assert p.map(f, [1]) == [2]",
        "import inspect\ndef g(): return f(2)\nassert 'return f(2)' in inspect.getsource(g) and g() == 4",
        CASE.replace("s.", "\n  for x in 1, 2:\n   with s.subTest():\n    if x == 1: s.skipTest('odd')\n    s.")
        + "unittest.main()",
    ],
    ids=["spawn", "source", "subtests"],
)
def test_ordinary_tests_run(tests, sandbox):
    result = one(sandbox, "def f(x): return x * 2", tests, timeout=10.0)
    assert result.passed, result
    assert not one(sandbox, "def f(x): return x * 3", tests, timeout=10.0).passed


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
@both_modes
def test_programs_with_many_processes_or_threads_run(program, mode):
    with Sandbox(mode, workers=1, timeout=5.0, preload=[]) as sandbox:
        code, _, test = f"import threading\n{program}".rpartition("assert ")
        result = one(sandbox, f"{code}passed = {test}", "assert passed")
        assert result.passed, result


FORK = (
    "import os, sys\npid = os.fork()\nif pid == 0:\n    {}\nstatus = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])\n"
)


@both_modes
@pytest.mark.parametrize(
    ("act", "status"),
    [("sys.exit(0)", 0), ("sys.exit(7)", 7), ("sys.exit('no')", 1), ("raise ValueError", 1), ("assert int()", 1)],
)
def test_a_fork_ends_with_the_status_of_a_script(act, status, mode, sandboxes):
    test = f"assert status == {status}"
    assert one(sandboxes[mode], "", f"{FORK.format(act)}{test}").passed
    assert one(sandboxes[mode], FORK.format(act), f"{test} and status != {status + 1}").passed
    function = "def f():\n" + "\n".join("    " + line for line in FORK.format(act).splitlines()) + "\n    return status"
    assert one(sandboxes[mode], function, f"assert f() == {status}\nassert f() != 2").passed


def test_a_fork_hands_on_what_it_has_printed(sandbox):
    tests = (
        "import os, sys\nr, w = os.pipe()\nif os.fork() == 0:\n    os.dup2(w, 1)\n    print('x')\n    sys.exit()\n"
        "os.close(w)\nos.wait()\nassert os.read(r, 9) == b'x\\n'"
    )
    result = one(sandbox, "", tests)
    assert result.passed, result
