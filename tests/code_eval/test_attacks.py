"""Attacks on the sandbox, one property each: as root and as a user without rights.

After each attack the same worker, not a new one, runs the next program.
"""

import os
import platform
import socket
import threading
import time

import pytest

from tests.code_eval.attacks import ARCHITECTURE, ATTACKS, LEFTOVERS, MARK, OTHERS, TOOLS
from tests.code_eval.tools import IN_TMP, ROOT, processes_with, sandbox_of, shown_in

LIMITS = {"memory": 256 << 20, "disk": 16 << 20, "processes": 24, "output": 100_000, "files": 1000}


@pytest.fixture(scope="module")
def targets():
    """Things of the host that attacks look for; the text that defines them for programs."""
    listener = socket.create_server(("127.0.0.1", 0))
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0host-{os.getpid()}")
    abstract.listen()
    os.environ["HF_TOKEN"] = secret = f"hf_secret_of_{os.getpid()}"
    project = str(ROOT)
    devices = ["null", "zero", "full", "random", "urandom", "fd", "stdin", "stdout", "stderr", "shm"]
    ioctl, leave = (16, 29)[ARCHITECTURE], (60, 93)[ARCHITECTURE]
    yield (
        f"HOST, PORT, ABSTRACT, SECRET = {os.getpid()}, {listener.getsockname()[1]}, 'host-{os.getpid()}', {secret!r}\n"
        f"PROJECT, DEVICES, IOCTL, EXIT = {project!r}, {devices!r}, {ioctl}, {leave}\n"
        f"IN_TMP, IN_PROJECT = ([], {shown_in('/tmp')}), ({shown_in(project)},)\n"
    )
    del os.environ["HF_TOKEN"]
    listener.close()
    abstract.close()


@pytest.fixture(scope="module", params=["root", "user"])
def sandbox(request, targets):
    sandbox = sandbox_of(request.param, workers=1, timeout=OTHERS, preload=[], **LIMITS)
    yield sandbox
    sandbox.close()


def still_works(sandbox, workers: list[int]) -> None:
    result = sandbox.run(f"import os\nassert os.listdir('/tmp') in ([], {IN_TMP})")
    assert result.outcome == "passed", result
    assert sandbox.workers() == workers, "the worker was replaced"
    deadline = time.monotonic() + 5  # the kernel takes a moment to reap
    while processes_with(MARK) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not processes_with(MARK)


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(name, sandbox, targets):
    attack, workers = ATTACKS[name], sandbox.workers()
    result = sandbox.run(TOOLS + targets + attack.code, attack.tests, attack.timeout)
    assert result.outcome in attack.outcomes, result
    assert result.passed == (result.outcome == "passed")
    assert len(result.detail) <= 300
    still_works(sandbox, workers)


@pytest.mark.parametrize("name", LEFTOVERS)
def test_nothing_is_left_for_the_next_program(name, sandbox):
    leave, look = LEFTOVERS[name]
    workers = sandbox.workers()
    assert sandbox.run(TOOLS + leave + "\nassert os.getpid()").outcome == "passed"
    assert sandbox.run(TOOLS + f"assert {look}").outcome == "passed"
    still_works(sandbox, workers)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="these doors exist on x86-64 only")
@pytest.mark.parametrize(
    ("name", "code", "outcome"),
    [
        # mov eax, 20 (getpid of the 32-bit table); int 0x80; ret
        ("int_80", "b'\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3'", "killed"),
        # mov eax, 0x40000000 + 39 (x32's getpid); syscall; ret
        ("x32", "b'\\xb8\\x27\\x00\\x00\\x40\\x0f\\x05\\xc3'", "passed"),
    ],
)
def test_other_tables_of_system_calls(name, code, outcome, sandbox):
    program = f"""
import mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write({code})
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
assert ctypes.CFUNCTYPE(ctypes.c_int)(address)() == -errno.EPERM
"""
    workers = sandbox.workers()
    assert sandbox.run(TOOLS + program).outcome == outcome
    still_works(sandbox, workers)


def test_programs_side_by_side_do_not_meet(targets):
    """A program cannot see, reach or signal one that another worker runs at the same time."""
    host = sandbox_of("user", workers=1, timeout=2.0)
    other = sandbox_of("user", workers=1, timeout=2.0)
    try:
        listen = (
            "s = socket.socket(socket.AF_UNIX)\ns.bind('\\0meeting')\ns.listen()\ntime.sleep(1)\nassert os.getpid()"
        )
        thread = threading.Thread(target=host.run, args=(TOOLS + listen,))
        thread.start()
        time.sleep(0.3)
        look = "assert refused(socket.socket(socket.AF_UNIX).connect, '\\0meeting')\nassert refused(os.kill, -1, 9)"
        assert other.run(TOOLS + look).outcome == "passed"
        thread.join()
    finally:
        host.close()
        other.close()
