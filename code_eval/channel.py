"""Strict mode: messages between the process of the code and that of the tests, and what both may say in them."""

import json
import os
import types
from typing import NoReturn

from .messages import LENGTH, framed
from .plain_data import encode
from .verdict import Claim, classify, describe

CHANNEL = 5  # the descriptor of the socket between code and tests
MESSAGE_LIMIT = 64 << 20  # bytes of a message

# Taken when this module is loaded, before any program can replace them.
_write, _read = os.write, os.read


def send(channel: int, message: dict) -> None:
    data = memoryview(framed(message))
    while data:
        data = data[_write(channel, data) :]


def _refuse(number: str) -> NoReturn:
    raise Claim("error", f"A message with {number}, which is not JSON.")


# Python's own parser would take a bare NaN, and the tests would not know it for one (see plain_data.NotANumber).
_parse = json.JSONDecoder(parse_constant=_refuse).decode


def receive(channel: int) -> dict:
    (size,) = LENGTH.unpack(_receive_exactly(channel, LENGTH.size))
    if size > MESSAGE_LIMIT:
        raise Claim("error", f"A message of {size} bytes; {MESSAGE_LIMIT} are allowed.")
    message = _parse(_receive_exactly(channel, size).decode("utf-8", "surrogatepass"))
    if not isinstance(message, dict):
        raise Claim("error", "A message that is not an object.")
    return message


def _receive_exactly(channel: int, size: int) -> bytes:
    parts = []
    while size:
        part = _read(channel, min(size, 1 << 20))
        if not part:
            raise EOFError("The other process ended.")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def described(error: BaseException) -> list:
    """An exception as it is told to the other process: its classes, its arguments, what it amounts to, and, of a class
    of the code's own, the attributes that are plain data and the text."""
    try:
        arguments = encode(list(error.args))
    except Exception:  # `args` can be anything
        arguments = [describe(error).partition(": ")[2]]
    told = [classes_of(type(error)), arguments, describe(error), classify(error)[0]]
    return told if type(error).__module__ == "builtins" else [*told, *attributes_and_text(error)]


def attributes_and_text(error: BaseException) -> list:
    """What tests can ask of an exception besides its arguments."""
    attributes = {}
    try:
        for name, value in vars(error).items():
            try:
                attributes[str(name)] = encode(value)
            except TypeError:
                continue
        return [attributes, str(error)]
    except Exception:  # a `__str__` can do anything
        return [attributes, None]


def classes_of(kind: type) -> list[str]:
    """The names of an exception's class and its bases, up to the first that is Python's own."""
    names = []
    for base in kind.__mro__:
        names.append(base.__name__)
        if base.__module__ == "builtins":
            break
    return names


def is_plain_function(value: object) -> bool:
    """Whether a value is a function, of whatever kind, and not a class or an object that can be called."""
    return isinstance(value, (types.FunctionType, types.BuiltinFunctionType, types.MethodType)) or (
        type(value).__module__ == "functools" and callable(value)
    )
