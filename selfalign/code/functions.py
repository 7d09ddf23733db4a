"""The top-level functions of a Python file, each with the imports that it needs to stand alone."""

from __future__ import annotations

import ast
import builtins
import importlib
import re
import sys
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, replace
from functools import cache

from selfalign.code.parsing import DEFINITIONS, parsed

# Names that mean the same in any file that does not say otherwise, as the statements that bind them; the modules of the
# standard library are known as well. Names that have two homes or are common words are left out: `choice`, `sample`,
# `join`.
WELL_KNOWN = """
from abc import ABC, ABCMeta, abstractmethod
from ast import literal_eval
from base64 import b64decode, b64encode
from bisect import bisect_left, bisect_right, insort
from collections import ChainMap, Counter, OrderedDict, defaultdict, deque, namedtuple
from contextlib import closing, contextmanager, suppress
from copy import deepcopy
from dataclasses import asdict, astuple, dataclass
from datetime import date, timedelta, timezone, tzinfo
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from difflib import SequenceMatcher, get_close_matches
from enum import Enum, IntEnum
from fractions import Fraction
from functools import cached_property, cmp_to_key, lru_cache, partial, reduce, total_ordering, wraps
from hashlib import md5, sha1, sha256
from heapq import heapify, heappop, heappush, nlargest, nsmallest
from io import BytesIO, StringIO
from itertools import accumulate, chain, combinations, combinations_with_replacement, cycle, dropwhile, groupby, islice
from itertools import permutations, product, starmap, takewhile, tee, zip_longest
from math import acos, asin, atan, atan2, ceil, cos, degrees, exp, factorial, floor, gcd, hypot, isclose, log10, log2
from math import pi, radians, sin, sqrt, tan
from numbers import Integral, Number, Real
from operator import attrgetter, itemgetter, methodcaller
from pathlib import Path, PurePath
from random import randint, randrange
from string import ascii_letters, ascii_lowercase, ascii_uppercase, punctuation
from textwrap import dedent
from time import perf_counter, sleep, strftime
from types import SimpleNamespace
from typing import Any, AnyStr, Callable, ClassVar, Deque, Dict, FrozenSet, Generator, Generic, Hashable, Iterable
from typing import Iterator, List, Literal, Mapping, Match, MutableMapping, MutableSequence, NamedTuple, NoReturn
from typing import Optional, Pattern, Protocol, Sequence, Set, SupportsFloat, Tuple, Type, TypedDict, TypeVar, Union
from uuid import UUID, uuid4
from warnings import warn
import matplotlib.pyplot as plt
import networkx
import networkx as nx
import numpy
import numpy as np
import numpy.typing as npt
import pandas
import pandas as pd
import polars as pl
import scipy
import seaborn as sns
import sklearn
import sympy
import tensorflow as tf
import torch
import xml.etree.ElementTree as ET
import yaml
from torch import nn
"""
# Modules that contain something with their own name, which is meant just as often.
HOMONYMS = {"array", "bisect", "copy", "datetime", "glob", "pprint", "time"}
# Modules that provide Python 3's builtins under their own names: files import from them for the sake of Python 2.
BUILTINS_OF_PYTHON_3 = {"__builtin__", "builtins", "future.builtins", "io", "past.builtins", "six", "six.moves"}

Imports = dict[str, tuple[str, str]]  # bound name -> (import statement, module)


@dataclass(frozen=True)
class Names:
    """What the names of a file mean at its top level.

    Attributes:
        imports: names bound by absolute imports.
        conditional: the same with those inside of `if` and `try`; of several imports, the first.
        own: names that the file, or another file of its project, defines.
        stars: modules from which it imports `*`.
        shadowed: builtins to which it gives another meaning.
        submodules: the modules of `import a.b`. Several of them bind the same name, and each may be needed.
    """

    imports: Imports
    conditional: Imports
    own: frozenset[str]
    stars: frozenset[str]
    shadowed: frozenset[str]
    submodules: frozenset[str]


@dataclass(frozen=True)
class Function:
    """A top-level function of a file, and what it needs to stand alone.

    Attributes:
        node: its syntax tree.
        source: its lines, starting with the first decorator.
        names: what the names of its file mean.
        imports: the import statements that it needs, with their modules.
        undefined: names that it uses but that are not known.
    """

    node: ast.FunctionDef
    source: str
    names: Names
    imports: frozenset[tuple[str, str]] = frozenset()
    undefined: frozenset[str] = frozenset()

    @property
    def content(self) -> str:
        """Its source, preceded by the imports."""
        statements = sorted(statement for statement, _ in self.imports)
        return "\n".join(statements) + "\n\n\n" + self.source if statements else self.source


def functions_of(source: str) -> list[Function] | None:
    """The top-level functions of a file, without imports (see `with_imports`); None if the file does not parse."""
    # As Python reads a file: without its byte order mark, and with every kind of line end.
    source = source.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    tree = parsed(source)
    if tree is None:
        return None
    nodes = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    if not nodes:
        return []
    try:
        names = names_of(tree)
    except RecursionError:  # a thousand `elif`, each inside the one before
        return None
    lines = source.split("\n")
    functions = []
    for node in nodes:
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        functions.append(Function(node, "\n".join(lines[first - 1 : node.end_lineno]), names))
    return functions


def parts_that_parse(source: str) -> str:
    """Those parts of a file that are Python by themselves, each beginning with a line at the margin; the lines of the
    others are left empty. A file of Python 2 has such parts: functions without a `print` statement."""
    lines = source.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    begins = [number for number, line in enumerate(lines) if line[:1].strip() and line[0] not in ")]}#"]
    # A decorator, and the "else" of an "if", belong to what stands beside them.
    begins = [n for n in begins if not re.match(r"(else|elif|except|finally)\b", lines[n])]
    pairs = zip([0, *begins][:-1], begins, strict=True)
    begins = [n for before, n in pairs if n == before or not lines[before].startswith("@")]
    kept = [""] * len(lines)
    for begin, end in zip(begins, [*begins, len(lines)][1:], strict=True):
        if parsed("\n".join(lines[begin:end])) is not None:
            kept[begin:end] = lines[begin:end]
    return "\n".join(kept)


def with_imports(function: Function) -> Function:
    """`function` with the imports that it needs: those of its file, and well-known ones that its file lacks.

    A name that the function uses and does not define is looked up among the file's imports, then among the well-known
    names unless the file gives it another meaning, then among the imports inside of `if` and `try`. (The paper, B,
    infers missing imports with autoimport.)

    Raises:
        RecursionError: an expression is nested too deeply for pyflakes.
    """
    names, found, unknown = function.names, set(), set()
    for name in undefined_names(function.node, names.shadowed):
        known = names.imports.get(name) or _well_known(name, function) or names.conditional.get(name)
        if known:
            found.add(known)
        else:
            unknown.add(name)
    if names.submodules:
        bound = {module.split(".")[0] for statement, module in found if statement == f"import {module}"}
        used = {ast.unparse(child) for child in ast.walk(function.node) if isinstance(child, ast.Attribute)}
        found |= {(f"import {module}", module) for module in names.submodules & used if module.split(".")[0] in bound}
    return replace(function, imports=frozenset(found), undefined=frozenset(unknown))


def undefined_names(node: ast.FunctionDef, shadowed: Set[str] = frozenset()) -> set[str]:
    """The names that a function uses without defining them: no arguments, and no builtins except `shadowed` ones."""
    from pyflakes.checker import Checker
    from pyflakes.messages import ImportStarUsage, UndefinedExport, UndefinedLocal, UndefinedName

    kinds = (UndefinedName, UndefinedLocal, UndefinedExport, ImportStarUsage)
    forgotten = ast.parse("\n".join(f"del {name}" for name in sorted(shadowed))).body
    messages = Checker(ast.Module([*forgotten, node], []), withDoctest=False).messages
    return {str(message.message_args[0]) for message in messages if isinstance(message, kinds)}


def names_of(tree: ast.Module) -> Names:
    """What the names mean that a file binds at its top level, including those inside of `if`, `try`, `for`, `with`."""
    statements = list(_at_top_level(tree.body))
    imports = _bound_by(tree.body)
    conditional = _bound_by(reversed(statements))
    relative = _bound_by(statements, relative=True)
    defined = {node.name for node in statements if isinstance(node, DEFINITIONS)}
    for statement in statements:
        if not isinstance(statement, DEFINITIONS):
            inside = ast.iter_child_nodes(statement)
            defined |= _stored(child for child in inside if not isinstance(child, (ast.stmt, ast.ExceptHandler)))
    stars = {
        node.module or ""
        for node in statements
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)
    }
    own = (defined | relative.keys()) - conditional.keys()  # `np = None` where numpy is missing gives it no meaning
    # Not inside of `if` and `try`: there files say `range = xrange`, for Python 2.
    shadowed = {name for name, (_, module) in imports.items() if module not in BUILTINS_OF_PYTHON_3}
    shadowed |= _bound_by(tree.body, relative=True).keys()
    for node in tree.body:
        if isinstance(node, DEFINITIONS):
            shadowed.add(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            shadowed |= _stored(node.targets if isinstance(node, ast.Assign) else [node.target])
    shadowed &= vars(builtins).keys()
    plain = (alias for node in tree.body if isinstance(node, ast.Import) for alias in node.names if not alias.asname)
    submodules = {alias.name for alias in plain if "." in alias.name}
    return Names(imports, conditional, *map(frozenset, (own, stars, shadowed, submodules)))


def _stored(nodes: Iterable[ast.AST]) -> set[str]:
    """The names to which something is assigned in `nodes`."""
    names = (node for root in nodes for node in ast.walk(root) if isinstance(node, ast.Name))
    return {name.id for name in names if isinstance(name.ctx, ast.Store)}


def _at_top_level(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """All statements of a file outside of its functions and classes."""
    for statement in body:
        yield statement
        if not isinstance(statement, DEFINITIONS):
            for name in ("body", "orelse", "finalbody"):
                yield from _at_top_level(getattr(statement, name, []))
            for handler in getattr(statement, "handlers", []):
                yield from _at_top_level(handler.body)


def _bound_by(statements: Iterable[ast.stmt], relative: bool = False) -> Imports:
    """The names that absolute (or `relative`) import statements bind; of several that bind a name, the last."""
    bound: Imports = {}
    for node in statements:
        if isinstance(node, (ast.Import, ast.ImportFrom)) and bool(getattr(node, "level", 0)) == relative:
            for alias in node.names:
                module = alias.name if isinstance(node, ast.Import) else node.module or ""
                head = "import " if isinstance(node, ast.Import) else f"from {module} import "
                if alias.name != "*" and module != "__future__":
                    bound[alias.asname or alias.name.split(".")[0]] = head + ast.unparse(alias), module
    return bound


@cache
def _table() -> Imports:
    modules = (name for name in sys.stdlib_module_names if not name.startswith("_"))
    table = {name: (f"import {name}", name) for name in modules if name not in ("antigravity", "this")}
    return table | _bound_by(ast.parse(WELL_KNOWN).body)


def _well_known(name: str, function: Function) -> tuple[str, str] | None:
    """How most programs import `name`, if the function's file leaves that open."""
    names = function.names
    if name in names.own or name not in _table():
        return None
    statement, module = _table()[name]
    if name in HOMONYMS and _is_member(name, function.node):
        statement = f"from {name} import {name}"
    # A star may bring any name, but hardly that of a module; and what it brings from this very module is known.
    if names.stars and statement.startswith("from") and module not in names.stars:
        return None
    return statement, module


def _is_member(name: str, node: ast.FunctionDef) -> bool:
    """Whether `name` means what the module of that name contains under it, as in `datetime.now()` and `copy(x)`."""
    module = importlib.import_module(name)
    attributes = {child.value: child.attr for child in ast.walk(node) if isinstance(child, ast.Attribute)}
    used = [child for child in ast.walk(node) if isinstance(child, ast.Name) and child.id == name]
    return not all(use in attributes and hasattr(module, attributes[use]) for use in used)
