"""A model folder or Hub id, served by serve.py for as long as it is needed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from selfalign.errors import UserError
from selfalign.options import ROOT
from selfalign.processes import die_with_parent


@contextmanager
def served(model: str, *arguments: str) -> Iterator[str]:
    """Run serve.py with the model folder or Hub id `model`, and yield its URL.

    Raises:
        UserError: serve.py could not load the model; it has said why on standard error.
    """
    command = [sys.executable, str(ROOT / "serve.py"), "--model", model, "--port", "0", *arguments]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=die_with_parent
    )
    try:
        line = server.stdout.readline() if server.stdout else ""
        if "http://" not in line:
            raise UserError(f"{model} can't be served (see above)")
        yield line[line.index("http://") :].strip()
    finally:
        server.terminate()
        server.wait()
