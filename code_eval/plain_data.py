"""Plain data as JSON that keeps the types: all that code and tests may exchange in strict mode.

What comes from the code is never trusted: it is decoded to exactly Python's own types, or numpy's arrays of numbers.
"""

import base64
import collections
import datetime
import decimal
import fractions
import functools
import math
from typing import Any

from .verdict import Claim

LARGE_INTEGER = 4000  # digits beyond which json would refuse an integer (sys.int_info.default_max_str_digits)
FACTORIES = {kind.__name__: kind for kind in (bool, int, float, str, list, tuple, dict, set)}  # of a defaultdict
ARRAYS = "biufcUSMm"  # kinds of numpy's arrays that hold values and not references


def encode(value):
    """JSON for None, bool, int, float, complex, str, bytes, bytearray, range, list, tuple, deque, dict, Counter,
    OrderedDict, defaultdict, views of a dict, set, frozenset, date, time, datetime, timedelta, Decimal, Fraction and
    numpy's arrays, all of exactly these types, nested; numpy's numbers become Python's, and a named tuple becomes one
    with the same names. Raises TypeError for everything else.
    """
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if kind is int:
        return value if value.bit_length() < LARGE_INTEGER * 3 else {"integer": hex(value)}
    if kind in (float, NotANumber):
        return value if math.isfinite(value) else {"float": repr(value)}
    if kind is list:
        return [encode(item) for item in value]
    if kind in ENCODERS:
        return {kind.__name__: ENCODERS[kind](value)}
    if kind.__module__ == "numpy" and hasattr(kind, "item"):
        if value.ndim == 0:
            return encode(value.item())
        if value.dtype.kind in ARRAYS:
            return {"ndarray": [value.dtype.str, list(value.shape), base64.b64encode(value.tobytes()).decode()]}
        return encode(value.tolist())
    if kind.__mro__[1:] == (tuple, object) and isinstance(getattr(kind, "_fields", None), tuple):
        return {"namedtuple": [kind.__name__, list(kind._fields), _items(value)]}
    raise TypeError(f"strict mode passes plain data between code and tests, not {kind.__name__!r}")


def decode(value):
    """The inverse of `encode`. The result consists of the types above, whatever the other side sent."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind not in DECODERS:
        raise ValueError(f"not plain data: {kind!r}")
    return DECODERS[kind](content)


nans_seen: list[bool] = []  # has an item if a NaN was decoded


class NotANumber(float):
    """A NaN that the code returned. It can be asked what it is, but not whether it is larger or smaller.

    That is false in either case, so `assert not abs(f(2) - 4) > 1e-6` would hold for it.
    """

    def __new__(cls, *_):
        nans_seen[:] = [True]
        return super().__new__(cls, "nan")

    def _compare(self, _):
        raise Claim("failed", "the tests ask whether a NaN, which the code returned, is larger or smaller")

    __lt__ = __le__ = __gt__ = __ge__ = _compare

    def __round__(self, digits=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().__round__() if digits is None else self


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(NotANumber, f"__{_name}__", NotANumber)
    setattr(NotANumber, f"__r{_name}__", NotANumber)
for _name in ("neg", "pos", "abs"):
    setattr(NotANumber, f"__{_name}__", NotANumber)


def _items(values) -> list:
    return [encode(value) for value in values]


def _pairs(values) -> list:
    return [[encode(key), encode(value)] for key, value in values.items()]


def _bytes(value) -> str:
    return base64.b64encode(value).decode()


def _dictionary(pairs) -> dict:
    return {decode(key): decode(value) for key, value in pairs}


def _moment(value) -> str:
    """A date or time as text, whose time zone, if any, is an offset."""
    if type(getattr(value, "tzinfo", None)) not in (type(None), datetime.timezone):
        raise TypeError("strict mode passes only times without a zone, or with a fixed offset")
    return value.isoformat()


@functools.cache
def _named(name: str, *fields: str) -> type:
    """The class of named tuples with these names; ValueError for names that cannot be."""
    return collections.namedtuple(name, fields)


def _float(text: str) -> float:
    value = float(text)
    return value if value == value else NotANumber()


def _decimal(text: str) -> decimal.Decimal:
    value = decimal.Decimal(text)
    if value.is_nan():
        nans_seen[:] = [True]
    return value


def _complex(real: float, imaginary: float) -> complex:
    if real != real or imaginary != imaginary:
        nans_seen[:] = [True]
    return complex(real, imaginary)


def _array(content):
    import numpy

    kind, shape, data = content
    dtype = numpy.dtype(str(kind))
    if dtype.kind not in ARRAYS:
        raise ValueError(f"not plain data: an array of {kind!r}")
    array = numpy.frombuffer(bytearray(base64.b64decode(data)), dtype).reshape([int(size) for size in shape])
    if dtype.kind in "fcMm" and numpy.isnan(array).any():
        nans_seen[:] = [True]
    return array


ENCODERS: dict[type, Any] = {
    tuple: _items,
    set: _items,
    frozenset: _items,
    dict: _pairs,
    bytes: _bytes,
    bytearray: _bytes,
    complex: lambda value: [repr(value.real), repr(value.imag)],
    range: lambda value: [value.start, value.stop, value.step],
    type({}.keys()): _items,
    type({}.values()): _items,
    type({}.items()): lambda value: [[encode(key), encode(item)] for key, item in value],
    collections.deque: lambda value: [_items(value), value.maxlen],
    collections.Counter: _pairs,
    collections.OrderedDict: _pairs,
    collections.defaultdict: lambda value: [getattr(value.default_factory, "__name__", None), _pairs(value)],
    datetime.date: _moment,
    datetime.time: _moment,
    datetime.datetime: _moment,
    datetime.timedelta: lambda value: [value.days, value.seconds, value.microseconds],
    decimal.Decimal: str,
    fractions.Fraction: lambda value: [str(value.numerator), str(value.denominator)],
}
DECODERS: dict[str, Any] = {
    "tuple": lambda items: tuple(map(decode, items)),
    "set": lambda items: set(map(decode, items)),
    "frozenset": lambda items: frozenset(map(decode, items)),
    "dict": _dictionary,
    "integer": lambda text: int(text, 16),
    "float": _float,
    "bytes": base64.b64decode,
    "bytearray": lambda text: bytearray(base64.b64decode(text)),
    "complex": lambda parts: _complex(*map(float, parts)),
    "range": lambda parts: range(*map(int, parts)),
    "dict_keys": lambda items: dict.fromkeys(map(decode, items)).keys(),
    "dict_values": lambda items: dict(enumerate(map(decode, items))).values(),
    "dict_items": lambda pairs: _dictionary(pairs).items(),
    "namedtuple": lambda parts: _named(str(parts[0]), *map(str, parts[1]))(*map(decode, parts[2])),
    "deque": lambda parts: collections.deque(map(decode, parts[0]), parts[1]),
    "Counter": lambda pairs: collections.Counter(_dictionary(pairs)),
    "OrderedDict": lambda pairs: collections.OrderedDict(_dictionary(pairs)),
    "defaultdict": lambda parts: collections.defaultdict(FACTORIES.get(parts[0]), _dictionary(parts[1])),
    "date": datetime.date.fromisoformat,
    "time": datetime.time.fromisoformat,
    "datetime": datetime.datetime.fromisoformat,
    "timedelta": lambda parts: datetime.timedelta(*map(int, parts)),
    "Decimal": _decimal,
    "Fraction": lambda parts: fractions.Fraction(*map(int, parts)),
    "ndarray": _array,
}
