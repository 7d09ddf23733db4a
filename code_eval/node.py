"""The `node` of this machine, which runs JavaScript programs."""

import os
import re
import shutil
import subprocess

from .isolation import SandboxUnavailable

OLDEST = 18  # the oldest major version with which this was written to work; node's own tests (node:test) came with it
PATIENCE = 60  # seconds that `node --version` may take on a busy machine
REMEDY = f"JavaScript programs need node {OLDEST} or newer on the PATH"


def find_node() -> str:
    """The path of node, without links. Raises SandboxUnavailable if there is none, or only an old one."""
    path = shutil.which("node")
    if path is None:
        raise SandboxUnavailable(f"{REMEDY}, and there is no node.")
    try:
        command = [path, "--version"]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        raise SandboxUnavailable(f"{REMEDY}, and {path} does not run: {error}.") from error
    version = re.match(r"v(\d+)\.", said)
    if version is None or int(version[1]) < OLDEST:
        raise SandboxUnavailable(f"{REMEDY}, and {path} is {said or 'of an unknown version'}.")
    return os.path.realpath(path)
