"""Plain data as JSON, and back: all that passes between code and tests in strict mode."""

import base64
import math

LARGE_INTEGER = 4000  # digits above which json would refuse an integer (sys.int_info.default_max_str_digits)
CONTAINERS = {"tuple": tuple, "set": set, "frozenset": frozenset}


def encode(value):
    """Plain data as JSON that keeps the types: exactly None, bool, int, float, complex, str, bytes, list, tuple, dict,
    set and frozenset, nested; numpy's numbers become Python's. Raises TypeError for everything else.
    """
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if kind is int:
        return value if value.bit_length() < LARGE_INTEGER * 3 else {"integer": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if kind is list:
        return [encode(item) for item in value]
    if kind in (tuple, set, frozenset):
        return {kind.__name__: [encode(item) for item in value]}
    if kind is dict:
        return {"dict": [[encode(k), encode(v)] for k, v in value.items()]}
    if kind in (bytes, bytearray):
        return {kind.__name__: base64.b64encode(value).decode()}
    if kind is complex:
        return {"complex": [repr(value.real), repr(value.imag)]}
    if kind.__module__ == "numpy" and hasattr(kind, "item"):
        return encode(value.item() if value.ndim == 0 else value.tolist())
    raise TypeError(f"strict mode passes plain data between code and tests, not {kind.__name__!r}")


def decode(value):
    """The inverse of `encode`. What comes out is of Python's own types, whatever the other side sent."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind in CONTAINERS:
        return CONTAINERS[kind](decode(item) for item in content)
    if kind == "dict":
        return {decode(k): decode(v) for k, v in content}
    if kind == "integer":
        return int(content, 16)
    if kind == "float":
        return float(content)
    if kind == "bytes":
        return base64.b64decode(content)
    if kind == "bytearray":
        return bytearray(base64.b64decode(content))
    if kind == "complex":
        return complex(*map(float, content))
    raise ValueError(f"no plain data: {kind!r}")
