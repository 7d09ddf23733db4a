"""Format filters of step 6: what a sample must look like to become a training example.

Paper: section 2.3. The rules are those by which the reference implementation sanitizes its data, but they look at
syntax trees instead of lines. Models write the samples, so any text can occur: nothing here raises an exception.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from selfalign.code.markdown import PYTHON_LABELS, code_blocks, python_code
from selfalign.code.parsing import DEFINITIONS, FUNCTIONS, compiles, parsed

MAX_INSTRUCTION_WORDS = 200  # reference implementation
MAX_CHARACTERS = 50_000  # of a response, or of tests: ten times what a training sequence of 1280 tokens holds
# Signs of code that is still to be written, as in the reference implementation. A task may be about a to-do list, so
# "todo" only counts in comments of code: in capitals, or at the beginning of one. XXX also stands for digits or names,
# and so has to be a word of its own.
UNFINISHED = re.compile(
    r"(?i:\b(your|the|rest of the|remaining) (code|implementation|logic|solution) (goes |comes |should go )?here\b)"
)
COMMENT = re.compile(r"#[^\n]*")
MARK = r"\b(TODO|FIXME)\b|(?<![^\s#/*])XXX(?=[\s:!(]|$)"
UNFINISHED_COMMENT = re.compile(MARK + r"|(?i:^#[ \t]{0,4}(todo|fixme)\b)")
MAY_BE_MARKED = re.compile(r"(?i:todo|fixme)|XXX")
# Calls that inspect a function without running it.
INSPECTING = frozenset(
    "callable getattr hasattr hash help id isinstance issubclass print repr str type vars".split()  # noqa: SIM905
)
EMPTY = ast.Module([], [])  # the tree of what is no program


@dataclass(frozen=True)
class ParsedSample:
    """A sample whose Markdown and Python are parsed.

    Attributes:
        instruction, response: as they are, "" if they are null.
        too_long: nothing else is looked at, as if there were no code and no tests.
        code, tests: the program in the response and in the tests, None if there is no closed Python block.
        code_tree, tests_tree: their syntax trees, EMPTY if they do not compile.
    """

    instruction: str
    response: str
    too_long: bool
    code: str | None
    tests: str | None
    code_tree: ast.Module
    tests_tree: ast.Module

    @classmethod
    def of(cls, row: dict[str, Any]) -> ParsedSample:
        """The sample in a row with `instruction`, `response` and `tests`."""
        texts = [row[part] or "" for part in ("response", "tests")]
        too_long = max(map(len, texts)) > MAX_CHARACTERS
        code, tests = (None, None) if too_long else map(python_code, texts)
        return cls(row["instruction"] or "", texts[0], too_long, code, tests, _compiled(code), _compiled(tests))


def _compiled(code: str | None) -> ast.Module:
    """The syntax tree of `code`, EMPTY if there is no code or it does not compile."""
    tree = None if code is None else parsed(code)
    return tree if tree and compiles(tree) else EMPTY


def is_finished(sample: ParsedSample) -> bool:
    """Nothing in the response says that code is still to be written."""
    return not (
        UNFINISHED.search(sample.response[:MAX_CHARACTERS])
        or (not sample.too_long and any(map(UNFINISHED_COMMENT.search, _comments_in(sample.response))))
        or _is_not_implemented(sample.code_tree)
    )


def _comments_in(response: str) -> Iterator[str]:
    """The comments in the code blocks of a response that may be marked; none of its words and of strings in Python."""
    for block in code_blocks(response) if MAY_BE_MARKED.search(response) else ():
        try:
            if block.label and block.label not in PYTHON_LABELS:
                raise SyntaxError
            tokens = list(tokenize.generate_tokens(io.StringIO(block.code).readline))
            yield from (token.string for token in tokens if token.type == tokenize.COMMENT)
        except (SyntaxError, ValueError, tokenize.TokenError):  # another language, or no code
            yield from COMMENT.findall(block.code)


def has_no_stub(sample: ParsedSample) -> bool:
    """No top-level function is a mere stub. The reference implementation has no such rule."""
    return not any(map(_is_stub, sample.code_tree.body))


def tests_assert(sample: ParsedSample) -> bool:
    """The tests assert something that is not always true, raise AssertionError, or call something like unittest's
    assertEqual, numpy's assert_allclose or pytest's raises."""

    def asserts(node: ast.AST) -> bool:
        if isinstance(node, ast.Assert):
            return not (isinstance(node.test, ast.Constant) and node.test.value)
        if isinstance(node, ast.Raise):
            return _name(node.exc) == "AssertionError"
        return isinstance(node, ast.Call) and (_name(node) or "").startswith(("assert", "raises"))

    return any(map(asserts, ast.walk(sample.tests_tree)))


def tests_run(sample: ParsedSample) -> bool:
    """The tests do something: they are more than imports and definitions."""
    passive = (*DEFINITIONS, ast.Import, ast.ImportFrom, ast.Pass)
    return any(not isinstance(node, passive) for node in sample.tests_tree.body)


def tests_call_the_code(sample: ParsedSample) -> bool:
    """The tests use something that the response defines and that they do not define themselves: they call it, pass it
    on, decorate with it, derive from it, look something up in it, or read a value that it computed."""
    names = names_defined(sample.code_tree) - names_defined(sample.tests_tree)
    values = names - {node.name for node in ast.walk(sample.code_tree) if isinstance(node, DEFINITIONS)}
    values -= {node.arg for node in ast.walk(sample.tests_tree) if isinstance(node, ast.arg)}
    values -= {n.id for n in ast.walk(sample.tests_tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    inspected: set[ast.AST] = set()

    for node in ast.walk(sample.tests_tree):  # from the top down: a call comes before its arguments
        if isinstance(node, ast.Call) and _first_name(node.func) in INSPECTING - names:
            inspected.update(node.args)
        elif node not in inspected and (
            (isinstance(node, ast.Name) and node.id in values)
            or any(_first_name(value) in names for value in _used_by(node))
        ):
            return True
    return False


def _first_name(node: ast.AST) -> str | None:
    """The name that `a.b.c` or `a` begins with."""
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _used_by(node: ast.AST) -> list[ast.expr]:
    """What `node` uses, or passes on to be used."""
    if isinstance(node, ast.Call):
        return [node.func, *node.args, *(keyword.value for keyword in node.keywords)]
    if isinstance(node, DEFINITIONS):
        return [*node.decorator_list, *getattr(node, "bases", [])]
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        return node.elts
    if isinstance(node, ast.Dict):
        return node.values
    if isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
        return [node.iter]
    if isinstance(node, ast.Assign) or (isinstance(node, ast.Attribute) and not node.attr.startswith("__")):
        return [node.value]
    return [node.value] if isinstance(node, ast.Subscript) else []


# In the order in which they are applied; their names are what the funnel counts and the reasons in `rejected`.
FILTERS: dict[str, Callable[[ParsedSample], bool]] = {
    "too_long": lambda sample: not sample.too_long,
    "no_code_block": lambda sample: sample.code is not None,
    "no_test_block": lambda sample: sample.tests is not None,
    "long_instruction": lambda sample: len(sample.instruction.split()) <= MAX_INSTRUCTION_WORDS,
    "does_not_compile": lambda sample: EMPTY not in (sample.code_tree, sample.tests_tree),
    "unfinished_code": is_finished,
    "stub": has_no_stub,
    "no_assertion": tests_assert,
    "tests_not_run": tests_run,
    "tests_do_not_call": tests_call_the_code,
}


def failed_filter(row: dict[str, Any], skip: Collection[str] = ()) -> str | None:
    """The first filter that a row with `instruction`, `response` and `tests` does not pass, or None."""
    sample = ParsedSample.of(row)
    return next((name for name, passes in FILTERS.items() if name not in skip and not passes(sample)), None)


def names_defined(tree: ast.Module) -> set[str]:
    """The functions, classes and variables at the top level of a module, including those under `if` and `try`."""
    names: set[str] = set()
    todo: list[ast.AST] = list(tree.body)
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
    """The names of a response's top-level functions and classes, in lower case and without underscores.

    Responses with the same names usually do the same thing (reference implementation). Methods don't count: most
    classes have an `__init__`.
    """
    tree = ParsedSample.of({"instruction": "", "response": response, "tests": ""}).code_tree
    names = {node.name for node in tree.body if isinstance(node, DEFINITIONS)}
    return frozenset(name.replace("_", "").lower() for name in names)


def _name(node: ast.AST | None) -> str | None:
    """The last part of the name that is called, raised or inherited from: "raises" in `pytest.raises(...)`."""
    node = node.func if isinstance(node, ast.Call) else node
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None


def _is_not_implemented(tree: ast.Module) -> bool:
    """Whether anything but an abstract method raises NotImplementedError.

    A method is abstract if it is decorated so, or if another class of the module is derived from its class.
    """
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    bases = {_name(base) for each in classes for base in each.bases}
    abstract = {
        node
        for each in classes
        for method in each.body
        if isinstance(method, DEFINITIONS)
        and (each.name in bases or any((_name(d) or "").startswith("abstract") for d in method.decorator_list))
        for node in ast.walk(method)
    }
    return any(
        isinstance(node, ast.Raise) and (_name(node.exc) or "").startswith("NotImplemented") and node not in abstract
        for node in ast.walk(tree)
    )


def _is_stub(node: ast.stmt) -> bool:
    """A function whose body is a docstring, `...` or `pass`, unless it only states types for the one that follows."""
    return (
        isinstance(node, FUNCTIONS)
        and not any(_name(decorator) == "overload" for decorator in node.decorator_list)
        and all(
            isinstance(line, ast.Pass) or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
            for line in node.body
        )
    )
