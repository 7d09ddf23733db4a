"""Attacks on the sandbox, one property each: as root and as a user without rights.

After each attack the same worker, not a new one, runs the next program.
"""

import os
import platform
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from code_eval.sandbox import Program, Sandbox
from tests.code_eval.attacks import ARCHITECTURE, ATTACKS, LEFTOVERS, MARK, OTHERS, TOOLS
from tests.code_eval.tools import IN_TMP, ROOT, gone, processes_with, sandbox_of, shown_in

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
        "SEEN = ['/output', '/output', 'socket', '/memfd']\n"
        f"IN_TMP, IN_PROJECT = ([], {shown_in('/tmp')}), ({shown_in(project)},)\n"
    )
    del os.environ["HF_TOKEN"]
    listener.close()
    abstract.close()


@pytest.fixture(scope="module", params=["root", "user"])
def sandbox(request, targets):
    with closing(sandbox_of(request.param, workers=1, timeout=OTHERS, preload=[], **LIMITS)) as sandbox:
        yield sandbox


@pytest.fixture
def unharmed(sandbox):
    """The sandbox, of which the same worker must run the next program after the test, with nothing left behind."""
    workers = sandbox.workers()
    yield sandbox
    result = sandbox.run(f"import os\nassert os.listdir('/tmp') in ([], {IN_TMP})")
    assert result.outcome == "passed", result
    assert sandbox.workers() == workers, "the worker was replaced"
    assert gone(processes_with(MARK))  # the kernel takes a moment to reap


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(name, unharmed, targets):
    attack = ATTACKS[name]
    result = unharmed.run(TOOLS + targets + attack.code, attack.tests, attack.timeout)
    assert result.outcome in attack.outcomes.split(), result
    assert result.passed == (result.outcome == "passed")
    assert len(result.detail) <= 300 and result.detail.isprintable()


@pytest.mark.parametrize("name", LEFTOVERS)
def test_nothing_is_left_for_the_next_program(name, unharmed):
    leave, look = LEFTOVERS[name]
    assert unharmed.run(TOOLS + leave + "\nassert os.getpid()").outcome == "passed"
    assert unharmed.run(TOOLS + f"assert {look}").outcome == "passed"


SCAN = """
import re
found = 0
with open('/proc/self/maps') as maps, open('/proc/self/mem', 'rb') as memory:
    for line in maps:
        start, end = (int(address, 16) for address in line.split()[0].split('-'))
        try:
            memory.seek(start)
            found += len(re.findall(rb'secret_[o]f_the_first', memory.read(end - start)))
        except (OSError, ValueError, OverflowError):
            pass
"""


@pytest.mark.parametrize("mode", ["isolated", "strict"])
@pytest.mark.parametrize("lines", [1, 10, 100, 3000])
def test_a_program_cannot_read_another_one_in_its_memory(mode, lines):
    """Neither one that ran before it, nor one that waits; nor what was printed, nor why it failed."""
    text = "# secret_of_the_first\nx = 'secret_of_the_first'\n" * lines
    other = Program(text + "print(x, flush=True)", f"assert int('2') == 1, 'secret_of_the_first'\n{text}")
    with Sandbox(mode, workers=1, preload=["re"]) as sandbox:
        look = Program(SCAN, "assert found == 0, found")
        results = list(sandbox.run([other, other, look, other, look, other, look]))
    assert [result.outcome for result in results] == ["failed", "failed", *["passed", "failed"] * 2, "passed"]


def test_the_scan_finds_what_is_there(unharmed):
    assert unharmed.run("kept = ''.join(['secret_', 'of_the_first']).encode()\n" + SCAN, "assert found > 0").passed


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
def test_other_tables_of_system_calls(name, code, outcome, unharmed):
    program = f"""
import mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write({code})
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
assert ctypes.CFUNCTYPE(ctypes.c_int)(address)() == -errno.EPERM
"""
    assert unharmed.run(TOOLS + program).outcome == outcome


def test_programs_side_by_side_do_not_meet():
    """A program cannot see, reach or signal one that another worker runs at the same time."""
    listen = "s = socket.socket(socket.AF_UNIX)\ns.bind('\\0meeting')\ns.listen()\ntime.sleep(1)\nassert os.getpid()"
    look = "assert refused(socket.socket(socket.AF_UNIX).connect, '\\0meeting')\nassert refused(os.kill, -1, 9)"
    user = {"user": "user", "workers": 1, "timeout": 2.0}
    with closing(sandbox_of(**user)) as host, closing(sandbox_of(**user)) as other, ThreadPoolExecutor() as threads:
        listening = threads.submit(host.run, TOOLS + listen)
        time.sleep(0.3)
        assert other.run(TOOLS + look).outcome == "passed"
        assert listening.result().outcome == "passed"
