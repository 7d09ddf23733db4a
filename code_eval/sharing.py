"""Strict mode: what is one and the same object within a value that crosses, which JSON does not say.

`[[0] * 3] * 2` is a list whose two items are one list: who changes the first changes the second. Its copy in the tests'
process would be right where it is wrong, so places of the same object are told along with the value.
"""

import collections
from typing import Any

MUTABLE = (list, dict, set, bytearray, collections.deque)
HOLDERS = (list, tuple, dict)  # that are looked into
NOTHING_INSIDE = {type(None), bool, int, float, str, bytes}


def repeated(value: Any) -> list[list[list[int]]]:
    """Pairs of places in a value, by their numbers on the way down from it, that hold the same list, dictionary, set,
    bytearray or deque. Lists, tuples and the values of dictionaries are looked into."""
    first: dict[int, list[int]] = {}
    pairs: list[list[list[int]]] = []
    waiting: list[tuple[Any, list[int]]] = [(value, [])]
    while waiting:
        holder, way = waiting.pop()
        items = holder.values() if isinstance(holder, dict) else holder
        if NOTHING_INSIDE.issuperset(map(type, items)):  # nearly all are such
            continue
        for number, item in enumerate(items):
            if isinstance(item, MUTABLE):
                if id(item) in first:
                    pairs.append([first[id(item)], [*way, number]])
                    continue
                first[id(item)] = [*way, number]
            if isinstance(item, HOLDERS):
                waiting.append((item, [*way, number]))
    return pairs


def with_repeated(value: Any, pairs: Any) -> Any:
    """The copy of a value, in whose second place of each of the `pairs` the object of the first place is put, unless
    that is in a tuple. Raises LookupError or TypeError if there are no such places."""
    for source, target in pairs:
        *way, last = target
        holder = at(value, way)
        if isinstance(holder, dict):
            holder[list(holder)[last]] = at(value, source)
        elif isinstance(holder, list):
            holder[last] = at(value, source)
    return value


def at(value: Any, place: list[int]) -> Any:
    for number in place:
        value = list(value.values())[number] if isinstance(value, dict) else value[number]
    return value
