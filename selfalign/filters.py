"""Format filters: what a sample must look like before it can be an example to train on.

Paper: section 2.3; the rules are those of the reference implementation's sanitizing, on syntax trees instead of lines.
Models write the samples, so any text can come: nothing here raises on any.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

MAX_INSTRUCTION_WORDS = 200  # reference implementation
MAX_CHARACTERS = 50_000  # of a response, or of tests: ten times what a training sequence of 1280 tokens holds
# Marks of code that is left to be written: those of the reference implementation. A task may be about a to-do list, so
# "todo" counts in capitals, or where a comment begins with it.
UNFINISHED = re.compile(
    r"\b(TODO|FIXME|XXX)\b|NotImplemented|(?i:#[ \t]{0,4}(todo|fixme)\b"
    r"|\b(your|the|rest of the|remaining) (code|implementation|logic|solution) (goes |comes |should go )?here\b)"
)
# Calls that look at a function without running it.
LOOKING = frozenset(
    "callable getattr hasattr hash help id isinstance issubclass print repr str type vars".split()  # noqa: SIM905
)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
# What parsing and compiling raise on some text or other.
PARSE_ERRORS = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)


@dataclass(frozen=True)
class ParsedSample:
    """A sample, its code taken out of the Markdown: None where there is no closed Python block, and the syntax trees of
    both: None where the code does not compile. What is too long is not looked into."""

    instruction: str
    response: str
    too_long: bool
    code: str | None
    tests: str | None
    code_tree: ast.Module | None
    tests_tree: ast.Module | None

    @classmethod
    def of(cls, row: dict[str, Any]) -> ParsedSample:
        """The sample in a row with `instruction`, `response` and `tests`."""
        from selfalign.markdown import python_code

        texts = [row[part] or "" for part in ("response", "tests")]
        too_long = max(map(len, texts)) > MAX_CHARACTERS
        code, tests = (None, None) if too_long else map(python_code, texts)
        return cls(row["instruction"] or "", texts[0], too_long, code, tests, parsed(code), parsed(tests))


def parsed(code: str | None) -> ast.Module | None:
    """The syntax tree of `code`, or None if there is none, or it does not compile."""
    if code is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes, `assert (x, y)`
            tree = ast.parse(code)
            compile(tree, "<code>", "exec", dont_inherit=True)  # finds what the grammar allows: `return` outside ...
    except PARSE_ERRORS:
        return None
    return tree


def is_short(sample: ParsedSample) -> bool:
    """At most MAX_CHARACTERS characters in the response and in the tests."""
    return not sample.too_long


def has_code(sample: ParsedSample) -> bool:
    """The response holds a Python block."""
    return sample.code is not None


def has_tests(sample: ParsedSample) -> bool:
    """The tests hold a Python block."""
    return sample.tests is not None


def instruction_is_short(sample: ParsedSample) -> bool:
    """At most MAX_INSTRUCTION_WORDS words."""
    return len(sample.instruction.split(None, MAX_INSTRUCTION_WORDS + 1)) <= MAX_INSTRUCTION_WORDS


def code_compiles(sample: ParsedSample) -> bool:
    """The code of the response and that of the tests."""
    return sample.code_tree is not None and sample.tests_tree is not None


def is_finished(sample: ParsedSample) -> bool:
    """Nothing in the response says that code is to be filled in, and no top-level function is a mere stub."""
    return not UNFINISHED.search(sample.response[:MAX_CHARACTERS]) and not any(map(_is_stub, _body(sample.code_tree)))


def tests_assert(sample: ParsedSample) -> bool:
    """The tests have an `assert` of something that is no constant, or call a method such as unittest's assertEqual."""
    return any(
        (isinstance(node, ast.Assert) and not isinstance(node.test, ast.Constant))
        or (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr.startswith("assert"))
        for node in _nodes(sample.tests_tree)
    )


def tests_run(sample: ParsedSample) -> bool:
    """The tests do something: they are more than imports and definitions that nothing calls."""
    passive = (*DEFINITIONS, ast.Import, ast.ImportFrom, ast.Pass)
    return any(not isinstance(node, passive) for node in _body(sample.tests_tree))


def tests_call_the_code(sample: ParsedSample) -> bool:
    """The tests call something that the response defines and they do not define themselves, or hand it to a call."""
    names = names_defined(sample.code_tree) - names_defined(sample.tests_tree)

    def comes_from(node: ast.AST) -> str | None:
        """The name that `a.b.c` or `a` begins with."""
        while isinstance(node, ast.Attribute):
            node = node.value
        return node.id if isinstance(node, ast.Name) else None

    for node in _nodes(sample.tests_tree):
        if isinstance(node, ast.Call):
            called = comes_from(node.func)
            handed = [*node.args, *(keyword.value for keyword in node.keywords)]
            if called in names or (called not in LOOKING and any(comes_from(value) in names for value in handed)):
                return True
    return False


# In the order in which they are applied; the name is what the funnel counts and what `rejected` gives as the reason.
FILTERS: dict[str, Callable[[ParsedSample], bool]] = {
    "too_long": is_short,
    "no_code_block": has_code,
    "no_test_block": has_tests,
    "long_instruction": instruction_is_short,
    "does_not_compile": code_compiles,
    "unfinished_code": is_finished,
    "no_assertion": tests_assert,
    "tests_not_run": tests_run,
    "tests_do_not_call": tests_call_the_code,
}


def failed_filter(row: dict[str, Any], skip: Collection[str] = ()) -> str | None:
    """The first filter that a row with `instruction`, `response` and `tests` does not pass, or None."""
    sample = ParsedSample.of(row)
    return next((name for name, passes in FILTERS.items() if name not in skip and not passes(sample)), None)


def names_defined(tree: ast.Module | None) -> set[str]:
    """Functions, classes and variables at the top level of a module, those under `if` and `try` too."""
    names: set[str] = set()
    todo: list[ast.AST] = list(_body(tree))
    while todo:
        node = todo.pop()
        if isinstance(node, DEFINITIONS):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif not isinstance(node, ast.expr) or isinstance(node, (ast.Tuple, ast.List, ast.Starred)):
            todo += ast.iter_child_nodes(node)
    return names


def names_of_definitions(response: str) -> frozenset[str]:
    """What a response's top-level functions and classes are called, without case and underscores.

    Responses with the same names do the same thing more often than not (reference implementation). Methods don't count:
    most classes have an `__init__`.
    """
    tree = ParsedSample.of({"instruction": "", "response": response, "tests": ""}).code_tree
    names = {node.name for node in _body(tree) if isinstance(node, DEFINITIONS)}
    return frozenset(name.replace("_", "").lower() for name in names)


def _body(tree: ast.Module | None) -> list[ast.stmt]:
    return tree.body if tree else []


def _nodes(tree: ast.Module | None) -> Iterator[ast.AST]:
    return ast.walk(tree) if tree else iter(())


def _is_stub(node: ast.stmt) -> bool:
    """A function whose body is a docstring, `...` or `pass`."""
    return isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and all(
        isinstance(line, ast.Pass) or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
        for line in node.body
    )
