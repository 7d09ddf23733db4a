"""Arguments are checked when they are given: one sentence each, and not a message of whatever would break later."""

import math
from collections.abc import Iterable
from dataclasses import fields
from numbers import Integral

LEAST = {  # with which an interpreter still starts and its self-test runs; 1 for all else
    "memory": 16 << 20,
    "processes": 4,
    "disk": 4096,
    "files": 4,
    "open_files": 32,
}
BYTES = ("memory", "output", "disk")


def check_counts(**values: object) -> None:
    """ValueError for what is not a whole number, or is too small to run any program."""
    for name, value in values.items():
        least, unit = LEAST.get(name, 1), " of bytes" if name in BYTES else ""
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise ValueError(f"{name} must be a whole number{unit}, such as {least}, and not {value!r}.")
        if value < least:
            raise ValueError(f"{name} must be at least {least}{unit.replace(' of', '')}, and not {value}.")


def check_names(options: Iterable[str], known: type) -> None:
    """TypeError for an option that is no field of this dataclass."""
    names = [field.name for field in fields(known)]
    for name in options:
        if name not in names:
            raise TypeError(f"There is no option {name}; the limits that can be set are {', '.join(names)}.")


def check_seconds(**values: object) -> None:
    """ValueError for what is not a number of seconds above 0."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise ValueError(f"{name} must be a number of seconds above 0, and not {value!r}.")


def check_lists(**values: object) -> None:
    """ValueError for a string where a list of strings belongs: its characters would be taken one by one."""
    for name, value in values.items():
        if isinstance(value, str) or not isinstance(value, Iterable) or not all(isinstance(v, str) for v in value):
            raise ValueError(f"{name} must be a list of strings, and not {value!r}.")


def check_texts(**values: object) -> None:
    """TypeError for what is not a string."""
    for name, value in values.items():
        if not isinstance(value, str):
            raise TypeError(f"{name} must be a string, and not {value!r}.")
