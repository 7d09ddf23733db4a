# ruff: noqa: E501 - a program that is data stays on one line
"""Programs that attack the sandbox, and pairs of which the first leaves something for the second.

An attack is a program. Most check themselves whether they got anywhere, and pass if they did not; the others must end
in one of the outcomes given.
"""

import platform
from dataclasses import dataclass

MARK = "31415.92653"  # seconds to sleep: a process of ours is found on the host by them
ARCHITECTURE = {"x86_64": 0, "aarch64": 1}[platform.machine()]
NEVER_ENDING, OTHERS = 0.4, 3.0  # seconds of CPU time

# What attacks may use: `refused` says whether the kernel refuses something, `call` makes a system call and returns its
# errno, `in_children` does some work in eight processes that keep what it returns.
TOOLS = """
import ctypes, errno, os, resource, signal, socket, struct, subprocess, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    return ctypes.get_errno() if result == -1 else 0
def refused(action, *arguments, **keywords):
    try:
        action(*arguments, **keywords)
    except (OSError, ValueError):
        return True
    return False
def in_children(work):
    for _ in range(8):
        if os.fork() == 0:
            kept = work()
            time.sleep(60)
    time.sleep(60)
"""


@dataclass(frozen=True)
class Attack:
    code: str
    outcomes: str = "passed"  # those that are allowed
    tests: str | None = None

    @property
    def timeout(self) -> float:
        return NEVER_ENDING if {"cpu_limit", "timeout"} & set(self.outcomes.split()) else OTHERS


def endless(code: str, outcomes: str = "cpu_limit timeout") -> Attack:
    """An attack that never reaches its last line, which would fail; the first line makes sure that something is tested."""
    return Attack(f"assert os.getpid()\n{code}\nassert os.getpid() < 0", outcomes)


# System calls that must fail: their numbers on x86-64 and aarch64 (if it has them), and arguments.
DENIED_CALLS = {
    "ptrace": ("101 117", "0, 0, 0, 0"),
    "process_vm_readv": ("310 270", "1, None, 0, None, 0, 0"),
    "process_vm_writev": ("311 271", "1, None, 0, None, 0, 0"),
    "pidfd_getfd": ("438 438", "os.pidfd_open(1), 0, 0"),
    "kcmp": ("312 272", "1, 1, 0, 0, 0"),
    "unshare_user": ("272 97", "0x10000000"),
    "unshare_mount": ("272 97", "0x20000"),
    "unshare_pid": ("272 97", "0x20000000"),
    "unshare_net": ("272 97", "0x40000000"),
    "setns": ("308 268", "os.open('/proc/self/ns/mnt', 0), 0"),
    "clone_newuser": ("56 220", "0x10000011, 0, 0, 0, 0"),
    "chroot": ("161 51", "b'/tmp'"),
    "pivot_root": ("155 41", "b'/tmp', b'/tmp'"),
    "mount": ("165 40", "b'/usr', b'/tmp', None, 4096, None"),
    "umount": ("166 39", "b'/tmp', 2"),
    "fsopen": ("430 430", "b'tmpfs', 0"),
    "open_tree": ("428 428", "-100, b'/', 1"),
    "move_mount": ("429 429", "-100, b'/usr', -100, b'/tmp', 0"),
    "mount_setattr": ("442 442", "-100, b'/', 0, None, 0"),
    "bpf": ("321 280", "0, None, 0"),
    "io_uring_setup": ("425 425", "8, ctypes.create_string_buffer(256)"),
    "perf_event_open": ("298 241", "ctypes.create_string_buffer(256), 0, -1, -1, 0"),
    "userfaultfd": ("323 282", "0"),
    "keyctl": ("250 219", "0, -3, 0, 0, 0"),
    "add_key": ("248 217", "b'user', b'a', b'b', 1, -2"),
    "memfd_create": ("319 279", "b'hidden', 0"),
    "memfd_secret": ("447 447", "0"),
    "shmget": ("29 194", "0, 1 << 20, 0o1600"),
    "msgget": ("68 186", "0, 0o1600"),
    "semget": ("64 190", "0, 1, 0o1600"),
    "mq_open": ("240 180", "b'q', 0o102, 0o600, None"),
    "name_to_handle_at": ("303 264", "-100, b'/usr', None, None, 0"),
    "open_by_handle_at": ("304 265", "-100, None, 0"),
    "init_module": ("175 105", "None, 0, b''"),
    "finit_module": ("313 273", "0, b'', 0"),
    "kexec_load": ("246 104", "0, 0, None, 0"),
    "reboot": ("169 142", "0xFEE1DEAD - (1 << 32), 672274793, 0, None"),
    "swapon": ("167 224", "b'/tmp/x', 0"),
    "syslog": ("103 116", "3, ctypes.create_string_buffer(64), 64"),
    "settimeofday": ("164 170", "None, None"),
    "clock_settime": ("227 112", "0, None"),
    "sethostname": ("170 161", "b'mine', 4"),
    "acct": ("163 89", "b'/tmp/x'"),
    "quotactl": ("179 60", "0, None, 0, None"),
    "fanotify_init": ("300 262", "0, 0"),
    "personality": ("135 92", "0x0040000"),
    "sync": ("162 81", ""),
    "setuid_0": ("105 146", "0"),
    "setgid_0": ("106 144", "0"),
    "capset": ("126 91", "None, None"),
    "realtime_priority": ("144 119", "0, 1, struct.pack('i', 50)"),
    "seccomp_again": ("317 277", "1, 0, None"),
    "modify_ldt": ("154", "0, None, 0"),
    "iopl": ("172", "3"),
    "ioperm": ("173", "0, 1, 1"),
    "vmsplice": ("278 75", "1, None, 0, 0"),
}


def denied_calls() -> dict[str, Attack]:
    numbers = {name: numbers.split()[ARCHITECTURE:] for name, (numbers, _) in DENIED_CALLS.items()}
    return {
        f"call_{name}": Attack(f"assert call({numbers[name][0]}, {arguments}) in (errno.EPERM, errno.ENOSYS)")
        for name, (_, arguments) in DENIED_CALLS.items()
        if numbers[name]
    }


READ_ONLY = {  # folders, as Python expressions
    "root": "'/'", "usr": "'/usr'", "etc": "'/etc'", "dev": "'/dev'", "run": "'/run'", "proc": "'/proc'",
    "worker": "'/run/worker'", "interpreter": "sys.base_prefix", "packages": "os.path.dirname(os.__file__)",
}  # fmt: skip
SOCKETS = {  # (family, kind)
    "netlink": (16, 3), "packet": (17, 3), "alg": (38, 5), "vsock": (40, 1), "xdp": (44, 3), "bluetooth": (31, 3),
}  # fmt: skip
ATTACKS = {
    # ---- processes ----
    "fork_bomb": endless("while True:\n try: os.fork()\n except OSError: pass", "cpu_limit timeout"),
    "fork_bomb_unhandled": endless("while True: os.fork()", "too_many_processes"),
    "fork_bomb_of_daemons": endless(
        "def work():\n while True:\n  try:\n   if os.fork() == 0: os.setsid()\n  except OSError: pass\nwork()"
    ),
    "thread_bomb": endless("while True: threading.Thread(target=time.sleep, args=(60,)).start()", "too_many_processes"),
    "shell_bomb": endless("subprocess.run(['/bin/sh', '-c', 'b() { b | b & wait; }; b'])\nwhile True: pass"),
    "daemon": Attack(f"subprocess.Popen(['sleep', '{MARK}'], start_new_session=True)\nassert os.getpid()"),
    "daemon_double_fork": Attack(
        f"if os.fork() == 0:\n os.setsid()\n if os.fork() == 0: os.execvp('sleep', ['sleep', '{MARK}'])\n os._exit(0)\n"
        "time.sleep(0.1)\nassert os.getpid()"
    ),
    "daemon_that_ignores_signals": Attack(
        f"if os.fork() == 0:\n for s in (1, 2, 3, 13, 15): signal.signal(s, signal.SIG_IGN)\n"
        f" os.execvp('sleep', ['sleep', '{MARK}'])\ntime.sleep(0.1)\nassert os.getpid()"
    ),
    "zombies": Attack("for _ in range(10):\n if os.fork() == 0: os._exit(0)\nassert os.getpid()"),
    "kill_all": Attack("assert refused(os.kill, -1, 9)"),  # there is nobody else: ESRCH
    "kill_every_pid": Attack("for pid in range(2, 70000): assert refused(os.kill, pid, 9)"),
    "kill_group_0": Attack("os.killpg(0, 9)\nassert os.getpid() == 1", "passed killed"),
    "kill_parent": Attack("assert os.getppid() == 0\nassert refused(os.kill, HOST, 9)"),
    "stop_itself": Attack("os.kill(os.getpid(), signal.SIGSTOP)\nassert os.getpid()", "passed timeout"),
    "only_own_processes": Attack("assert [p for p in os.listdir('/proc') if p.isdigit()] == ['1']"),
    "root_of_pid_1_is_its_own": Attack("assert os.listdir('/proc/1/root/tmp') == os.listdir('/tmp') in IN_TMP"),
    "memory_of_others": Attack("assert refused(open, f'/proc/{HOST}/mem')"),
    "threads_spin": endless(
        "def spin():\n while True: pass\nfor _ in range(4): threading.Thread(target=spin).start()\ntime.sleep(60)"
    ),
    "children_spin": endless("for _ in range(4):\n if os.fork() == 0:\n  while True: pass\nos.wait()"),
    "raised_nice": Attack("assert refused(os.setpriority, os.PRIO_PROCESS, 0, -5)"),
    # ---- time ----
    "loop": endless("while True: pass", "cpu_limit"),
    "loop_in_c": endless("sum(iter(int, 1))", "cpu_limit"),
    "ignores_signals": endless(
        "for s in range(1, 65):\n if not refused(signal.signal, s, signal.SIG_IGN): pass\nwhile True: pass", "cpu_limit"
    ),
    "catches_everything": endless("while True:\n try:\n  while True: pass\n except BaseException: pass", "cpu_limit"),
    "regex": endless("import re\nre.match('(a*)*b', 'a' * 64)", "cpu_limit"),
    "huge_pow": endless("10 ** 10 ** 9", "cpu_limit out_of_memory"),
    "sleep": endless("time.sleep(1000)", "timeout"),
    "sleep_while_children_wait_for_each_other": endless(
        "for _ in range(16):\n if os.fork() == 0:\n  while time.process_time() < 0.01: pass\n  time.sleep(60)\ntime.sleep(30)",
        "timeout",
    ),
    "pause": endless("signal.pause()", "timeout"),
    "waits_for_a_lock": endless("lock = threading.Lock()\nlock.acquire()\nlock.acquire()", "timeout"),
    "reads_stdin": Attack("assert sys.stdin.read() == ''"),
    "input": endless("input()", "error"),
    "slow_str_of_error": endless("class E(Exception):\n def __str__(self):\n  while True: pass\nraise E", "cpu_limit"),
    "slow_exit": endless("import atexit\natexit.register(time.sleep, 1000)", "failed"),
    "raised_cpu_limit": Attack("assert refused(resource.setrlimit, resource.RLIMIT_CPU, (1000, 1000))"),
    # ---- memory ----
    "memory_at_once": endless("x = bytearray(3 << 30)", "out_of_memory"),
    "memory_by_and_by": endless("x = []\nwhile True: x.append(bytearray(1 << 20))", "out_of_memory"),
    "memory_of_integers": endless("x = list(range(1 << 27))", "out_of_memory"),
    "memory_in_children": endless("in_children(lambda: bytearray(b'x') * (100 << 20))", "out_of_memory"),
    "memory_in_children_that_hide_it": endless(
        "in_children(lambda: [libc.prctl(4, 0, 0, 0, 0), bytearray(b'x') * (100 << 20)])", "out_of_memory"
    ),
    "memory_behind_an_ended_first_thread": endless(
        "def fill():\n time.sleep(0.1)\n x = bytearray(b'x') * (100 << 20)\n time.sleep(60)\n"
        "def work():\n threading.Thread(target=fill).start()\n call(EXIT, 0)\nin_children(work)",
        "out_of_memory",
    ),
    "memory_shared_and_not_resident": endless(
        "import mmap\ndef work():\n m = mmap.mmap(-1, 100 << 20)\n for i in range(100):\n"
        "  m[i << 20:i + 1 << 20] = bytes(1 << 20)\n  m.madvise(mmap.MADV_DONTNEED)\n return m\nwork()",
        "output_limit",
    ),
    "memory_shared": endless("import mmap\nx = [mmap.mmap(-1, 1 << 20) for _ in range(64)]", "output_limit"),
    "memory_unmapped_but_for_a_page": endless(
        "import mmap\ndef work():\n m = mmap.mmap(-1, 10 << 20)\n m.write(bytes(10 << 20))\n"
        " base = ctypes.addressof(ctypes.c_char.from_buffer(m))\n"
        " libc.munmap(ctypes.c_void_p(base + 4096), ctypes.c_size_t((10 << 20) - 4096))\n return m\n"
        "x = [work() for _ in range(60)]",
        "output_limit",
    ),
    "memory_by_resizing": endless(
        "import mmap\nx = []\nfor _ in range(60):\n m = mmap.mmap(-1, 100 << 20)\n m.write(b'x' * (100 << 20))\n"
        " m.resize(4096)\n x.append(m)",
        "output_limit",
    ),
    "memory_made_read_only": endless(  # what cannot be written to any more does not count as data
        "import mmap\nx = []\nwhile True:\n m = mmap.mmap(-1, 50 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)\n"
        " m.write(b'x' * (50 << 20))\n base = ctypes.addressof(ctypes.c_char.from_buffer(m))\n"
        " assert libc.mprotect(ctypes.c_void_p(base), ctypes.c_size_t(50 << 20), 1) == 0\n x.append(m)",
        "out_of_memory",
    ),
    "memory_shared_anonymous": Attack(
        "libc.mmap.restype = ctypes.c_void_p\nfor flags in (0x21, 0x23, 0x40021, 0x40022):\n"
        " assert libc.mmap(None, ctypes.c_size_t(4096), 3, flags, -1, ctypes.c_long(0)) == ctypes.c_void_p(-1).value"
    ),
    "memory_of_zeros": Attack(
        "assert refused(open, '/dev/zero', 'r+b') and refused(os.chmod, '/dev/zero', 0o666)\n"
        "assert open('/dev/zero', 'rb').read(1 << 20) == bytes(1 << 20)"
    ),
    "memory_in_sockets": endless(
        "def work():\n kept = []\n while True:\n  try: kept.append(socket.socketpair())\n  except OSError: return kept\n"
        "in_children(work)",
        "out_of_memory",
    ),
    "memory_in_large_sockets": Attack(
        "s = socket.socket()\ns.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 24)\n"
        "assert s.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) < 1 << 20"
    ),
    "memory_in_connections": Attack(
        "server = socket.create_server(('127.0.0.1', 0))\nclient = socket.create_connection(server.getsockname())\n"
        "client.settimeout(0.2)\nsent = 0\ntry:\n while True: sent += client.send(bytes(1 << 16))\n"
        "except OSError: assert sent < 1 << 20, sent"
    ),
    "memory_error_ignored": endless(
        "x = []\nwhile True:\n try: x.append(bytearray(1 << 24))\n except MemoryError: pass",
        "cpu_limit timeout out_of_memory",  # its limit, or what the worker finds it to use, whichever comes first
    ),
    "memory_locked": Attack("x = ctypes.create_string_buffer(1 << 20)\nassert libc.mlock(x, len(x)) == -1"),
    "raised_memory_limit": Attack("assert refused(resource.setrlimit, resource.RLIMIT_AS, (-1, -1))"),
    "raised_limit_of_data": Attack("assert refused(resource.setrlimit, resource.RLIMIT_DATA, (-1, -1))"),
    "raised_process_limit": Attack("assert refused(resource.setrlimit, resource.RLIMIT_NPROC, (9999, 9999))"),
    "raised_limit_of_pid_1": Attack("assert refused(resource.prlimit, 1, resource.RLIMIT_AS, (-1, -1))"),
    "recursion": endless("def f(): f()\nf()", "error"),
    "recursion_unlimited": endless(
        "sys.setrecursionlimit(1 << 30)\ndef f(): f()\nf()", "killed out_of_memory error cpu_limit"
    ),
    "recursion_in_c": endless(
        "sys.setrecursionlimit(1 << 30)\nx = []\nfor _ in range(1 << 18): x = [x]\nrepr(x)", "killed error cpu_limit"
    ),
    "segfault": endless("ctypes.string_at(1)", "killed"),
    "abort": endless("os.abort()", "killed"),
    "illegal_free": endless("libc.free(ctypes.c_void_p(8))", "killed"),
    "no_core_dump": Attack("if os.fork() == 0: ctypes.string_at(1)\nos.wait()\nassert os.listdir('/tmp') in IN_TMP"),
    # ---- output ----
    "print_flood": endless("while True: print('x' * 1000)", "output_limit"),
    "stderr_flood": endless("while True: print('x' * 1000, file=sys.stderr)", "output_limit"),
    "flood_by_a_child": endless("subprocess.run(['yes'])", "output_limit"),
    "flood_at_the_end": Attack(
        "assert os.getpid()\nos.write(1, b'x' * 60000)\nos.write(1, b'x' * 60000)", "output_limit"
    ),
    "takes_back_its_output": Attack(
        "assert refused(os.fchmod, 1, 0o600) and refused(os.open, '/proc/self/fd/1', os.O_RDONLY)\n"
        "assert refused(os.chmod, '/proc/self/fd/1', 0o600) and refused(os.open, '/dev/stdout', os.O_RDWR)\n"
        "open('/dev/stdout', 'w').close()"
    ),
    "flood_of_a_large_pipe": endless(
        "import fcntl\nfcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 1 << 20)\nos.write(1, bytes(1 << 20))", "output_limit"
    ),
    "closes_everything": endless("os.closerange(0, 256)", "error"),
    "scribbles_on_descriptors": Attack(
        "assert os.getpid()\nfor fd in range(3, 256):\n refused(os.write, fd, b'\\xff\\n' * 4)\nassert os.getpid() < 0",
        "error failed",
    ),
    "no_descriptor_of_the_host": Attack(
        "def link(fd): return os.readlink(f'/proc/self/fd/{fd}') if os.path.lexists(f'/proc/self/fd/{fd}') else ''\n"
        "links = [link(fd) for fd in range(256)]\n"
        "assert [link.partition(':')[0] for link in links[1:] if link] == SEEN, links"
    ),
    # ---- files ----
    **{
        f"write_to_{name}": Attack(f"assert refused(open, os.path.join({folder}, 'written'), 'w')")
        for name, folder in READ_ONLY.items()
    },
    "read_shadow": Attack("assert refused(open, '/etc/shadow')"),
    "read_home_of_root": Attack("assert refused(os.listdir, '/root') or os.listdir('/root') in ([], ['.pyenv'])"),
    # An interpreter in the project's folder (.venv) is shown, and nothing else of it.
    "read_the_project": Attack("assert not os.path.exists(PROJECT) or os.listdir(PROJECT) in IN_PROJECT"),
    "read_sys": Attack("assert not os.path.exists('/sys/kernel')"),
    "environment": Attack("assert SECRET not in repr(os.environ)"),
    "environment_in_proc": Attack("assert SECRET.encode() not in open('/proc/self/environ', 'rb').read()"),
    "fill_tmp": endless("with open('/tmp/x', 'wb') as f:\n while True: f.write(bytes(1 << 20))", "output_limit"),
    "many_files": endless("for i in range(1 << 20): open(f'/tmp/{i}', 'w').close()", "output_limit"),
    "many_small_files_full": endless("for i in range(9999): open(f'/tmp/{i}', 'w').write('x' * 9999)", "output_limit"),
    "sparse_file": endless("open('/tmp/x', 'wb').truncate(1 << 40)", "output_limit"),
    "shared_memory_files": endless("open('/dev/shm/x', 'wb').write(bytes(64 << 20))", "output_limit"),
    "many_descriptors": endless("x = [open('/dev/null') for _ in range(1 << 16)]", "error"),
    "hard_link": Attack("assert refused(os.link, '/usr/bin/env', '/tmp/env')"),
    "symbolic_link": Attack("os.symlink('/', '/tmp/r')\nassert refused(open, '/tmp/r/written', 'w')"),
    "device_node": Attack("import stat\nassert refused(os.mknod, '/tmp/d', stat.S_IFBLK | 0o600, os.makedev(254, 0))"),
    "no_disks": Attack("assert set(os.listdir('/dev')) <= set(DEVICES), os.listdir('/dev')"),
    "set_uid_bit": Attack(
        "import shutil\nshutil.copy('/usr/bin/env', '/tmp/id')\nrefused(os.chmod, '/tmp/id', 0o6755)\n"
        "out = subprocess.run(['/tmp/id', 'cat', '/proc/self/status'], capture_output=True, text=True).stdout\n"
        "assert 'NoNewPrivs:\\t1' in out and 'CapEff:\\t0000000000000000' in out and 'Seccomp:\\t2' in out"
    ),
    "core_pattern": Attack("assert refused(open, '/proc/sys/kernel/core_pattern', 'w')"),
    "sysrq": Attack("assert refused(open, '/proc/sysrq-trigger', 'w')"),
    "uid_map": Attack("assert refused(open, '/proc/self/uid_map', 'w')"),
    "chmod_usr": Attack("assert refused(os.chmod, '/usr', 0o777)"),
    "out_of_proc_cwd": Attack("assert os.readlink('/proc/self/cwd') == '/tmp'"),
    "out_of_proc_root": Attack("assert os.readlink('/proc/self/root') == '/'"),
    "beneath_proc": Attack(
        "fd = os.open('/', os.O_RDONLY)\n"
        "assert [p for p in os.listdir(os.open('proc', os.O_RDONLY, dir_fd=fd)) if p.isdigit()] == ['1']"
    ),
    # ---- network ----
    "loopback_service": Attack("assert refused(socket.create_connection, ('127.0.0.1', PORT), 1)"),
    "udp": Attack(
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.connect(('127.0.0.1', PORT))\ns.send(b'x')\n"
        "assert refused(s.recv, 1), 'nobody is there'"
    ),
    "outside": Attack("assert refused(socket.create_connection, ('1.1.1.1', 53), 1)"),
    "ipv6": Attack("assert refused(socket.socket(socket.AF_INET6).connect, ('::1', PORT))"),
    "dns": Attack("assert refused(socket.getaddrinfo, 'example.org', 80)"),
    "abstract_socket": Attack("assert refused(socket.socket(socket.AF_UNIX).connect, '\\0' + ABSTRACT)"),
    "interfaces": Attack("assert {name for _, name in socket.if_nameindex()} <= {'lo'}", "passed error"),
    **{
        f"socket_family_{name}": Attack(f"assert refused(socket.socket, {family}, {kind})")
        for name, (family, kind) in SOCKETS.items()
    },
    "raw_socket": Attack("assert refused(socket.socket, socket.AF_INET, socket.SOCK_RAW, 1)"),
    # ---- the kernel ----
    **denied_calls(),
    "clone3": Attack("assert call(435, None, 0) == errno.ENOSYS"),
    "a_call_of_the_future": Attack("assert call(700) == errno.ENOSYS"),
    "terminal_injection": Attack(
        "import fcntl\nassert refused(fcntl.ioctl, 0, 0x5412, b'x')\n"
        "assert call(IOCTL, 0, 0x5412 | 1 << 40, b'x') == errno.EPERM, 'the upper half of the request is ignored'"
    ),
    "no_terminal": Attack("assert refused(open, '/dev/tty')"),
    "no_capability": Attack(
        "lines = [l for l in open('/proc/self/status') if l.startswith('Cap')]\n"
        "assert len(lines) == 5 and all(int(l.split()[1], 16) == 0 for l in lines)"
    ),
    # ---- verdicts that a lazy program would like ----
    "exit_0": endless("sys.exit(0)", "error"),
    "os_exit_0": endless("os._exit(0)", "error"),
    "exit_in_tests": Attack("def f(): os._exit(0)", "error", "assert f() == 1"),
    "exit_by_signal": Attack("def f(): os.abort()", "killed", "assert f() == 1"),
    "becomes_true": endless("os.execv('/bin/true', ['true'])", "error"),
    "prints_passed": Attack(
        "print('passed')\nprint('ready\\npassed\\n', file=sys.stderr)", "failed", "assert f'{1}' == ''"
    ),
    "writes_the_verdict": Attack(
        "for fd in range(3, 256):\n refused(os.write, fd, b'ready\\npassed\\n\\npassed\\n')",
        "failed",
        "assert f'{1}' == ''",
    ),
    "drains_the_verdict": Attack(
        "import fcntl\nfor fd in range(256):\n try: end = os.open(f'/proc/self/fd/{fd}', os.O_RDONLY | os.O_NONBLOCK)\n"
        " except OSError: continue\n refused(os.read, end, 1 << 16)",
        "failed",
        "assert f'{1}' == ''",
    ),
    "fork_that_goes_on": Attack("if os.fork(): time.sleep(0.2)\nchild = os.getpid() != 1", "failed", "assert child"),
    "unterminated_string": Attack("x = '''", "syntax_error", "assert x == ''\n'''"),
    "line_continued": Attack("x = 1 \\", "syntax_error", "assert x == 2"),
    "swallowing_block": Attack("if 0:", "syntax_error", " assert 0 == int()"),
    "patched_builtins": Attack(
        "import builtins\nbuiltins.print = builtins.len = builtins.isinstance = lambda *a: True",
        "failed",
        "assert int('1') == 2",
    ),
    "patched_assertion_error": Attack(
        "import builtins\nclass Quiet(BaseException): pass\nbuiltins.AssertionError = Quiet",
        "failed error",
        "assert int('1') == 2",
    ),
    "skips_the_test": Attack(
        "import unittest\ndef f(): raise unittest.SkipTest('no')",
        "failed",
        "import unittest\nclass T(unittest.TestCase):\n def test(self): self.assertEqual(f(), 4)\nunittest.main()",
    ),
    "loads_other_tests": Attack(
        "import unittest\nclass U(unittest.TestCase):\n def test(self): self.assertTrue(1)\n"
        "def load_tests(loader, *_): return loader.loadTestsFromTestCase(U)\ndef f(): return 5",
        "failed",
        "import unittest\nclass T(unittest.TestCase):\n def test(self): self.assertEqual(f(), 4)\nunittest.main()",
    ),
    "jumps_over_the_assertion": Attack(
        "import sys\ndef trace(frame, event, _):\n if event == 'line' and frame.f_lineno == 2: frame.f_lineno = 3\n"
        " return trace\nsys.settrace(trace)",
        "failed",
        "x = int('1')\nassert x == 2\nx = 3",
    ),
    "replaces_exec": Attack(
        "import builtins\nbuiltins.exec = builtins.type = lambda *a: None", "failed error", "assert int('1') == 2"
    ),
    "patched_exit": Attack("os.write = os._exit = lambda *a: None", "failed", "assert int('1') == 2"),
    "no_tests": Attack("x = 1", "no_tests", "x + 1"),
    "no_tests_but_comments": Attack("x = 1", "no_tests", "# assert x == 1"),
    "no_tests_but_strings": Attack("x = 1", "no_tests", "'''assert x == 1'''"),
    "test_that_nobody_calls": Attack("x = 1", "no_tests", "def test():\n assert x == 1"),
    "assertion_of_a_constant": Attack("x = 1", "no_tests", "assert True"),
    "null_bytes": Attack("x = 1\0", "syntax_error", "assert x == 1"),
    "lone_surrogate": Attack("x = '\ud800'", "syntax_error", "assert x == 1"),
    "deep_parentheses": Attack("x = " + "(" * 50000 + ")" * 50000, "syntax_error out_of_memory killed", "assert x"),
    "escape_sequences": Attack("raise Exception('\\x1b[2J\\x07')", "error"),
    "error_that_cannot_be_shown": endless("class E(Exception):\n def __str__(self): raise self\nraise E", "error"),
    "endless_message": Attack("raise Exception('x' * (1 << 20))", "error"),
}

LEFTOVERS = {  # what the first program leaves behind, and what the second one must find instead
    "file": ("open('/tmp/left', 'w').write('x')", "not os.path.exists('/tmp/left')"),
    "shared_memory": ("open('/dev/shm/left', 'w').write('x')", "'left' not in os.listdir('/dev/shm')"),
    "module": ("import json\njson.left = 1", "not hasattr(__import__('json'), 'left')"),
    "builtin": ("import builtins\nbuiltins.left = 1", "not hasattr(__import__('builtins'), 'left')"),
    "environment": ("os.environ['LEFT'] = '1'", "'LEFT' not in os.environ"),
    "process": (f"subprocess.Popen(['sleep', '{MARK}'])", "len([p for p in os.listdir('/proc') if p.isdigit()]) == 1"),
    "abstract_socket": (
        "s = socket.socket(socket.AF_UNIX)\ns.bind('\\0left')\ns.listen()\nif os.fork() == 0: time.sleep(60)",
        "refused(socket.socket(socket.AF_UNIX).connect, '\\0left')",
    ),
    "limits": (
        "resource.setrlimit(resource.RLIMIT_NOFILE, (9, 9))",
        "resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 9",
    ),
    "mode_of_tmp": ("os.chmod('/tmp', 0)", "os.stat('/tmp').st_mode & 0o7777 == 0o1777"),
    "blocking_of_output": ("os.set_blocking(1, False)", "os.get_blocking(1)"),
    "size_of_output": (
        "import fcntl\nfcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 4096)",
        "__import__('fcntl').fcntl(1, 1032) == __import__('fcntl').fcntl(os.pipe()[0], 1032)",  # F_GETPIPE_SZ
    ),
}
