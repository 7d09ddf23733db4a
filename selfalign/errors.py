"""What can go wrong, and how it is reported: in one sentence, without secrets."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from difflib import get_close_matches

IN_URL = re.compile(r"//[^/\s]*@")  # user and password
# The name of a secret in a query or in --executor-options; "env" holds whatever users put there.
SECRET_NAME = r"[\w.-]*(?:token|key|secret|signature|credential|password|env)[\w.-]*="
IN_QUERY = re.compile(rf"([?&]{SECRET_NAME})[^&#\s'\"]+", re.IGNORECASE)


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
    print(f"warning: {without_secrets(sentence)}", file=sys.stderr)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """What follows "there is no NAME": the nearest of the names that there are, and all of them."""
    names = list(dict.fromkeys(known))
    near = get_close_matches(name, names, n=1)
    return f"{f'; did you mean {near[0]}? There are' if near else '; choose from'} {', '.join(names)}"


def first_line(error: BaseException) -> str:
    """What `error` says, as one line; its type if it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
