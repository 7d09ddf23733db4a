"""Strict mode, the tests' process: which exceptions and classes of Python's own the code can name, and where an
exception of the code's may not be passed on as it is."""

import ast
import importlib
import sys
from collections.abc import Iterable, Sequence

from .arguments import arguments_of, calls_at, is_at, tree_of
from .channel import classes_of
from .plain_data import decode

TEXT = " text"  # under which an exception keeps what it says; no attribute of the code's can have this name
STANDARD = sys.stdlib_module_names - {"unittest", "doctest"}  # modules whose classes the tests can have from the code


def expects_exit(text: str) -> bool:
    """Whether the line of the tests that runs now names SystemExit in a `try` or `with` around it, or in a call."""
    frame = sys._getframe(1)
    while frame and frame.f_code.co_filename != "<tests>":
        frame = frame.f_back
    if not frame:
        return False
    tree, line = tree_of(text), frame.f_lineno
    first = frame.f_code.co_firstlineno  # what stands around the function is not around this call
    named: list[ast.AST] = [argument for call in calls_at(tree, line) for argument in arguments_of(call)]
    for node in ast.walk(tree):
        if is_at(node, line) and getattr(node, "lineno", 0) >= first:
            if isinstance(node, ast.Try):
                named += [handler.type for handler in node.handlers if handler.type]
            elif isinstance(node, ast.With):
                named += [item.context_expr for item in node.items]
    return any(isinstance(part, ast.Name) and part.id == "SystemExit" for node in named for part in ast.walk(node))


def standard_class(module: object, name: str) -> type | None:
    """The class of this name in a module of the standard library: what the tests have in one process if the code has
    `from datetime import date`, and they have not."""
    if not isinstance(module, str) or module.partition(".")[0] not in STANDARD:
        return None
    kind = getattr(importlib.import_module(module), name, None)
    return kind if isinstance(kind, type) else None


def standard_exception(text: str, used: Iterable[str], names: Sequence[str]) -> type[Exception] | None:
    """The class of the standard library with these bases that the tests, of this text, name.

    It is in a module that they import, or use where only the code imports it (`used`). Classes that they do not name
    could end a test in ways of which a runner takes no note.
    """
    if names[0] not in text:
        return None
    modules = list(used)
    for node in ast.walk(tree_of(text)):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    for module in modules:
        standard = module.partition(".")[0] in STANDARD
        kind = getattr(sys.modules.get(module), names[0], None) if standard else None
        if isinstance(kind, type) and issubclass(kind, Exception) and classes_of(kind) == [*names]:
            return kind
    return None


def instance_of(kind: type[Exception], arguments: list) -> Exception:
    """An exception with these `args`; some classes, such as json's, take arguments other than those they keep."""
    try:
        return kind(*arguments)
    except TypeError:
        return kind.__new__(kind, *arguments)


def with_attributes(error: Exception, attributes: object, text: object) -> Exception:
    """The exception with plain data as attributes of its own, for tests such as `error.balance == 100`."""
    if type(error).__module__ == "__main__" and isinstance(attributes, dict):
        for name, value in attributes.items():
            if name.isidentifier() and not name.startswith("_") and not hasattr(error, name):
                setattr(error, name, decode(value))
        if isinstance(text, str):
            vars(error)[TEXT] = text
    return error


def text_of(error: Exception) -> str:
    """What `str` gives for an exception of the code's, which may have a `__str__` of its own."""
    text = vars(error).get(TEXT)
    return super(type(error), error).__str__() if text is None else text


def gives_items() -> bool:
    """Whether a `__getitem__` of the tests, under whatever name it was defined, waits for the present function."""
    frame = sys._getframe(1)
    while frame:
        code = frame.f_code
        owner = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
        getter = getattr(type(owner), "__getitem__", None)
        if code.co_name == "__getitem__" or getattr(getter, "__code__", None) is code:
            return True
        frame = frame.f_back
    return False
