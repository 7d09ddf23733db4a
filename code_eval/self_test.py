"""The first program of each worker: it looks for holes in the isolation, and passes if there are none."""

# It runs behind a line that defines HIDDEN, the paths of the host that nobody may see inside.
SELF_TEST = """
import ctypes, os, resource, socket, errno

def fails(action, *arguments):
    try:
        action(*arguments)
    except OSError:
        return True
    return False

status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
    assert int(status[name], 16) == 0, f"it has capabilities ({name})"
assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2", "no system call filter"
assert os.getpid() == 1 and [p for p in os.listdir("/proc") if p.isdigit()] == ["1"], "it sees other processes"
for path in HIDDEN:
    assert not os.path.exists(path), f"it sees {path}"
for folder in ("/", "/usr", "/dev", "/etc", "/run", "/var", "/proc", "/proc/sys/kernel"):
    assert fails(open, folder + "/written", "w"), f"it writes to {folder}"
for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/1/oom_score_adj"):
    assert fails(open, path, "r+"), f"it writes to {path}"
connection = socket.socket()
connection.settimeout(1)
assert connection.connect_ex(("127.0.0.1", 9)) == errno.ENETUNREACH, "it has a network"
assert [line.split(":")[0].strip() for line in open("/proc/self/net/dev").readlines()[2:]] in ([], ["lo"]), "interfaces"
for family in (16, 17, 38, 40):  # NETLINK, PACKET, ALG, VSOCK
    assert fails(socket.socket, family, 3), f"it opens sockets of family {family}"
libc = ctypes.CDLL(None)
assert libc.unshare(0x10000000) == -1, "it makes namespaces"
assert libc.mount(b"/usr", b"/tmp", None, 4096, None) == -1, "it mounts"
assert libc.ptrace(0, 0, 0, 0) == -1, "it traces"
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
assert fails(os.fork), "limits on processes do not hold"
"""
