"""What can go wrong, and how it is reported: in one sentence, without secrets."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

IN_URL = re.compile(r"//[^/\s]*@")  # user and password
# The name of a secret in a query or in --executor-options; "env" holds whatever users put there.
SECRET_NAME = r"[\w.-]*(?:token|key|secret|signature|credential|password|env)[\w.-]*="
IN_QUERY = re.compile(rf"([?&]{SECRET_NAME})[^&#\s'\"]+", re.IGNORECASE)
WRITE_ERRORS = (OSError, ValueError)  # of a stream; the second one says that it is closed


class UserError(Exception):
    """Something that the user can put right, said in one sentence. `options.run_script` prints it, with exit status 2.

    Endpoints, datasets and benchmarks raise it before any work is done.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(without_secrets(sentence))


class RowOpen(Exception):
    """Raised by a row function that cannot do a row now, as when an endpoint fails; the next run does it."""


def without_secrets(text: str) -> str:
    """`text` without the passwords of URLs and the keys in their queries."""
    return IN_QUERY.sub(r"\1***", IN_URL.sub("//", text))


def check_secret(option: str, secret: str | None) -> None:
    """UserError if `secret` can't be sent in a header: the HTTP clients would show it in their own message."""
    if secret and not all("!" <= character <= "~" for character in secret):
        raise UserError(f"{option} contains a space, a line break or another character that cannot be part of a token")


def warn(sentence: str) -> None:
    """Print `sentence` as a warning on standard error."""
    print(f"warning: {without_secrets(sentence)}", file=Forgiving(sys.stderr))


def tell(sentence: str) -> None:
    """Print `sentence` on standard error in the middle of a run, where there may be a progress bar."""
    from tqdm import tqdm

    with contextlib.suppress(*WRITE_ERRORS):
        tqdm.write(without_secrets(sentence), file=sys.stderr)


class Forgiving:
    """A stream that people read, such as standard error: what can't be written to it is lost, and nothing else.

    The terminal may be closed, the reader of a pipe gone, or the disk full that a log is on. None of that is a reason
    to end a run, whose rows go elsewhere.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(*WRITE_ERRORS):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(*WRITE_ERRORS):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __eq__(self, other: object) -> bool:  # so that tqdm.write clears a bar which is drawn here
        return other is self._stream or other is self

    def __hash__(self) -> int:
        return hash(self._stream)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """What follows "there is no NAME": the nearest of the names that there are, and all of them."""
    names = list(dict.fromkeys(known))
    near = get_close_matches(name, names, n=1)
    return f"{f'; did you mean {near[0]}? There are' if near else '; choose from'} {', '.join(names)}"


def first_line(error: BaseException) -> str:
    """What `error` says, as one line; its type if it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
