"""Counters for programs: what they count, who has one, and what can be done with it.

Page faults stand for instructions, which few virtual machines can count: it is the same call of the kernel with another
number, and how many there are depends on nothing but the program.
"""

import errno
import os
import platform
import subprocess
import sys
from contextlib import closing

import pytest

from code_eval.isolation import unavailable
from code_eval.perf_event import ATTR_SIZE, EVENTS, NOT_COUNTED, SYS_PERF_EVENT_OPEN, why_not
from code_eval.sandbox import CounterUnavailable, Program, Sandbox, SandboxUnavailable
from tests.code_eval.attacks import TOOLS
from tests.code_eval.tools import ROOT, one, sandbox_of

WORK = """
import mmap, os, subprocess, sys, threading

def count():
    return int.from_bytes(os.read(5, 8), sys.byteorder)

def touch(pages):
    with mmap.mmap(-1, pages * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        for place in range(0, len(memory), mmap.PAGESIZE):
            memory[place] = 1

def in_a_thread(pages):
    thread = threading.Thread(target=touch, args=(pages,))
    thread.start()
    thread.join()

def in_a_fork(pages):
    if os.fork() == 0:
        touch(pages)
        os._exit(0)
    os.wait()

def taken(work, pages):
    before = count()
    work(pages)
    return count() - before
"""
IOCTL = {"x86_64": 16, "aarch64": 29}[platform.machine()]


@pytest.fixture(scope="module", params=["root", "user"])
def counting(request):
    with closing(sandbox_of(request.param, workers=1, preload=[], perf_event="page-faults")) as sandbox:
        yield sandbox


@pytest.mark.parametrize("where", ["touch", "in_a_thread", "in_a_fork"])
def test_ten_times_the_work_is_ten_times_the_count(counting, where):
    # A child copies some pages that it shares with its parent: 280 were seen.
    tests = f"few, many = taken({where}, 1000), taken({where}, 10000)\n"
    tests += "assert 1000 <= few < 2000 and 10000 <= many < 11000, (few, many)"
    result = counting.run(WORK, tests)
    assert result.passed, result


def test_the_counter_is_all_that_a_program_has_in_addition(counting):
    look = "links = [os.readlink(f'/proc/self/fd/{n}') for n in range(256) if os.path.lexists(f'/proc/self/fd/{n}')]\n"
    seen = "['/output', '/output', 'socket', '/memfd', 'anon_inode']"
    result = counting.run(
        f"import os\n{look}", f"assert [link.partition(':')[0] for link in links[1:]] == {seen}, links"
    )
    assert result.passed, result


def test_a_counter_can_only_be_read(counting):
    """Neither set back, stopped or redirected, nor mapped, whether it goes by another number or in a child."""
    attack = f"""
import fcntl, mmap
requests = [0x2400 + n for n in range(256)] + [0x40082404, 0x40082406, 0x80082407, 0x40042408, 0xC008240A, 0x4008240B]
for counter in (5, os.dup(5)):
    assert all(call({IOCTL}, counter, request, 0) == errno.EPERM for request in requests)
    for size in (4096, 8192, 4096 * 9):
        for flags in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
            assert refused(mmap.mmap, counter, size, flags) and refused(mmap.mmap, counter, size, flags, mmap.PROT_READ)
    assert refused(os.write, counter, bytes(8))
attributes = struct.pack("<IIQQQQQ", 1, {ATTR_SIZE}, 2, 0, 0, 0, 1 << 5).ljust({ATTR_SIZE}, bytes(1))
assert call({SYS_PERF_EVENT_OPEN[platform.machine()]}, attributes, 0, -1, -1, 0) == errno.EPERM, "it opens another"
assert len(os.read(5, 8)) == 8
"""
    result = counting.run(TOOLS + attack)
    assert result.passed, result


@pytest.mark.parametrize("options", [{}, {"mode": "strict"}])
def test_without_the_option_there_is_no_counter(options):
    look = "import os\ndef links():\n return [os.readlink(f'/proc/self/fd/{n}') for n in range(256) if is_open(n)]\n"
    look += "def is_open(n): return os.path.lexists(f'/proc/self/fd/{n}')\n"
    with Sandbox(workers=1, preload=[], **options) as sandbox:
        result = one(sandbox, look, "assert not [link for link in links() if 'perf' in link]")
        assert result.passed, result


def test_other_programs_of_the_same_machine_are_not_counted(counting):
    """Nor what a program before it did: each has a counter of its own, from the beginning of its process."""
    assert counting.run(WORK, "assert taken(touch, 10000) >= 10000").passed
    result = counting.run(WORK, "assert count() < 9000, count()")
    assert result.passed, result


def test_what_the_kernel_does_not_count_is_said_at_the_start(monkeypatch):
    monkeypatch.setitem(EVENTS, "instructions", (1, 999))
    message = (
        r"^instructions can't be counted: .* has no counter of them \(perf_event_open: No such file or directory\)$"
    )
    with pytest.raises(CounterUnavailable, match=message):
        Sandbox(workers=1, preload=[], perf_event="instructions")


def test_a_counter_that_stands_still_is_none(monkeypatch):
    monkeypatch.setitem(EVENTS, "instructions", (1, 9))  # PERF_COUNT_SW_DUMMY, as on some virtual machines
    with pytest.raises(CounterUnavailable, match=r"^instructions can't be counted: the counter stands still$"):
        Sandbox(workers=1, preload=[], perf_event="instructions")


# A process whose kernel refuses counters, as that of a container does, and in which a sandbox is asked for one.
REFUSING = """
import ctypes, struct, sys
from code_eval.perf_event import SYS_PERF_EVENT_OPEN
from code_eval.sandbox import CounterUnavailable, Sandbox
from code_eval.seccomp import ALLOW, ERRNO, IF_EQUAL, LOAD, NUMBER, RETURN

number, error = SYS_PERF_EVENT_OPEN[{machine!r}], {error}
steps = [(LOAD, 0, 0, NUMBER), (IF_EQUAL, 0, 1, number), (RETURN, 0, 0, ERRNO | error), (RETURN, 0, 0, ALLOW)]
code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *step) for step in steps))
program = ctypes.create_string_buffer(struct.pack("HP", len(steps), ctypes.addressof(code)))
prctl = ctypes.CDLL(None).prctl
prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, ctypes.addressof(program), 0, 0) == 0
try:
    Sandbox(workers=1, preload=[], perf_event="page-faults").close()
except CounterUnavailable as error:
    print(error)
Sandbox(workers=1, preload=[]).close()
"""


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOSYS])
def test_a_kernel_that_refuses(number):
    script = REFUSING.format(machine=platform.machine(), error=number)
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == (f"{why_not('page-faults', number)}\n", "")


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOENT, "this processor or virtual machine has no counter of them"),
        (errno.EOPNOTSUPP, "this processor or virtual machine has no counter of them"),
        (errno.EACCES, "kernel.perf_event_paranoid"),
        (errno.EPERM, "kernel.perf_event_paranoid"),
        (errno.ENOSYS, "this kernel has no counters"),
        (errno.EBUSY, os.strerror(errno.EBUSY)),
    ],
)
def test_why_the_kernel_refuses(number, reason):
    sentence = why_not("instructions", number)
    assert sentence.startswith(f"instructions {NOT_COUNTED}") and reason in sentence and os.strerror(number) in sentence
    error = unavailable(f"RuntimeError: sandbox_error, NotCounted: {sentence}")
    assert isinstance(error, CounterUnavailable) and str(error) == sentence


def test_a_sandbox_that_does_not_start_is_no_matter_of_counters():
    assert type(unavailable("RuntimeError: timeout, longer than 20 s")) is SandboxUnavailable


def test_instructions_of_the_processor():
    """On machines whose processor and kernel count them."""
    try:
        sandbox = Sandbox(workers=1, preload=[], perf_event="instructions")
    except CounterUnavailable as error:
        pytest.skip(str(error))
    with sandbox:
        tests = "few, many = taken(lambda n: sum(range(n)), 10**5), taken(lambda n: sum(range(n)), 10**6)\n"
        result = sandbox.submit(Program(WORK, f"{tests}assert 5 < many / few < 11, (few, many)")).result()
    assert result.passed, result
