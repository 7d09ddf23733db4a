"""The filters of step 1: which functions can become seeds (paper, appendix B).

Type checking, judging docstrings and dropping near-duplicates come after these, see collect_seeds.py.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from textwrap import dedent

from selfalign.code.functions import Function, with_imports
from selfalign.code.parsing import DEFINITIONS, FUNCTIONS, parsed

MAX_FILE_BYTES = 1 << 20  # larger files are generated ones
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK|BUG|WIP)\b|NotImplemented", re.IGNORECASE)
# A function that imports one of these is hard to run safely (processes, files, network, native code) or hard to test
# (windows, plots).
UNSAFE_IMPORTS = frozenset(
    """_ctypes _winapi aiohttp argparse asyncio asyncore boto3 builtins cffi click code ctypes curses cv2 dis distutils
    django docker fcntl flask ftplib gc getpass glob grp gtk http imp importlib inspect IPython kivy matplotlib mmap
    msvcrt multiprocessing nt optparse os paramiko pip pkg_resources pkgutil platform posix psutil psycopg2 pty pwd
    pygame PyQt4 PyQt5 PyQt6 PySide2 PySide6 pymongo readline redis requests resource runpy seaborn selenium serial
    setuptools shutil signal site smtplib socket socketserver sqlalchemy ssl subprocess sys syslog tempfile termios
    threading tkinter tty turtle urllib urllib2 urllib3 venv webbrowser winreg wx""".split()  # noqa: SIM905
)

# Those that StarCoder2-Instruct, the paper's reference implementation, looks for.
UNSAFE_IMPORTS_OF_REFERENCE = frozenset("argparse os subprocess sys setuptools distutils matplotlib seaborn".split())  # noqa: SIM905

Filter = Callable[[Function], object]  # true if the function passes


def fault_of_seed(content: str) -> str | None:
    """Why code that somebody else collected is no function: no_python, no_function; None if it is one.

    Imports and constants may precede the function, and a method may stand alone, indented as in its class.
    """
    tree = parsed(dedent(content))
    if tree is None:
        return "no_python"
    return None if any(isinstance(node, FUNCTIONS) for node in tree.body) else "no_function"


def has_argument(function: Function) -> bool:
    """A function without arguments is hard to test."""
    arguments = function.node.args
    return bool(arguments.posonlyargs or arguments.args or arguments.kwonlyargs or arguments.vararg or arguments.kwarg)


def returns_value(function: Function) -> bool:
    """A `return` with a value other than None, in the function itself and not in one nested in it (paper, B)."""
    todo: list[ast.AST] = list(function.node.body)
    while todo:
        node = todo.pop()
        returned = node.value if isinstance(node, ast.Return) else None
        if returned and not (isinstance(returned, ast.Constant) and returned.value is None):
            return True
        if not isinstance(node, (*DEFINITIONS, ast.Lambda)):
            todo += ast.iter_child_nodes(node)
    return False


def imports_are_safe(function: Function, unsafe: frozenset[str] = UNSAFE_IMPORTS) -> bool:
    """It imports nothing that makes it unsafe to run or impossible to test, and nothing from its own package."""
    modules = {module for _, module in function.imports}
    for node in ast.walk(function.node):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add("." * node.level + (node.module or ""))
    return not {name.split(".")[0] for name in modules} & (unsafe | {""})


def filters(max_lines: int) -> dict[str, Filter]:
    """The filters, cheapest first, under the names that the funnel counts."""
    return {
        "no_docstring": lambda function: (ast.get_docstring(function.node) or "").strip(),
        "no_argument": has_argument,
        "no_return_value": returns_value,
        "too_long": lambda function: (function.node.end_lineno or 0) - function.node.lineno < max_lines,
        "unfinished": lambda function: not UNFINISHED.search(function.source),
    }


def import_filters(unsafe: frozenset[str]) -> dict[str, Filter]:
    """The filters that come after those, only for functions whose imports have been inferred."""
    return {
        "unsafe_import": lambda function: imports_are_safe(function, unsafe),
        "undefined_name": lambda function: not function.undefined,
    }


def filtered(
    function: Function, max_lines: int, unsafe: frozenset[str] = UNSAFE_IMPORTS
) -> tuple[Function, str | None]:
    """The function with the imports that it needs, and the name of the first filter that it does not pass, if any.

    Functions that fail one of the first filters come back without imports, which take time to infer.
    """
    if failed := _first_failing(filters(max_lines), function):
        return function, failed
    try:
        function = with_imports(function)
    except RecursionError:
        return function, "too_deep"
    return function, _first_failing(import_filters(unsafe), function)


def _first_failing(some: dict[str, Filter], function: Function) -> str | None:
    return next((name for name, passes in some.items() if not passes(function)), None)
