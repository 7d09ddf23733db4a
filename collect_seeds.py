"""Step 1: Python files -> seeds. High-quality functions, from which everything else is made.

Paper: section 2.1 and appendix B. From The Stack V1 it extracts top-level functions with a docstring and keeps those
that return something, can be executed and are complete: 5,359,051 functions become 248,934 seeds.

    python collect_seeds.py stdlib ./seeds                              # the running Python's standard library
    python collect_seeds.py ~/code/my_project ./seeds                   # a folder of Python files
    python collect_seeds.py bigcode/the-stack-dedup org/seeds --text-column content

With one argument, that is OUTPUT, and the standard library is read. The functions of all files go to OUTPUT-candidates,
those that are left without duplicates to OUTPUT, in the order of their ids: a random order that is the same everywhere,
so that `--max-samples 37000` of a later step is a random sample (the paper's component analysis, section 4).

Columns out:

    id          hash of the content
    content     source of the function, below the imports that it needs
    name        of the function
    docstring   of the function, its indentation removed
    repository, path, license    where it comes from, as far as that is known

Filters, in this order, each counted: see FILTERS.
"""

from __future__ import annotations

import ast
import dataclasses
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from selfalign.options import OPERATIONAL, StepOptions, UserError, run_script

if TYPE_CHECKING:
    from selfalign.datasets_io import Source
    from selfalign.steps import Done

STDLIB = "stdlib"
SKIPPED_FOLDERS = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "node_modules"}
COLUMNS = {name: str for name in ("id", "content", "name", "docstring", "repository", "path", "license")}

MAX_LINES = 150  # longer functions fill the prompt
MAX_FILE_BYTES = 1 << 20  # larger files are generated ones
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK|BUG|WIP)\b|NotImplemented", re.IGNORECASE)
# Importing these makes a function hard to run safely (processes, files, network, native code) or to test (windows,
# plots).
UNSAFE_IMPORTS = frozenset(
    """_ctypes _winapi aiohttp argparse asyncio asyncore boto3 builtins cffi click code ctypes curses cv2 dis distutils
    django docker fcntl flask ftplib gc getpass glob grp gtk http imp importlib inspect IPython kivy matplotlib mmap
    msvcrt multiprocessing nt optparse os paramiko pip pkg_resources pkgutil platform posix psutil psycopg2 pty pwd
    pygame PyQt4 PyQt5 PyQt6 PySide2 PySide6 pymongo readline redis requests resource runpy seaborn selenium serial
    setuptools shutil signal site smtplib socket socketserver sqlalchemy ssl subprocess sys syslog tempfile termios
    threading tkinter tty turtle urllib urllib2 urllib3 venv webbrowser winreg wx""".split()  # noqa: SIM905
)


@dataclass(frozen=True, kw_only=True)
class Options(StepOptions):
    """Options of this step; the defaults are the paper's."""

    output: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUTPUT")] = field(
        default="", metadata=OPERATIONAL
    )
    """Dataset to write: a Hub id, a local folder, or an fsspec URL. If it is left out, INPUT is the output, and the
    standard library is read."""

    text_column: str = "content"
    """Column that holds the files, where the input is a dataset."""

    repository_column: str = "max_stars_repo_name"
    """Column with the repository's name, if there is one (the default is The Stack's)."""

    path_column: str = "max_stars_repo_path"
    """Column with the file's path, if there is one."""

    license_column: str = "max_stars_repo_licenses"
    """Column with the file's licence or licences, if there is one."""

    max_lines: int = MAX_LINES
    """Longest function, in lines."""


@dataclass(frozen=True)
class Function:
    """A function of a file: its syntax tree, and its source below the imports that it needs."""

    node: ast.FunctionDef
    content: str
    imported: frozenset[str]


def has_docstring(function: Function, options: Options) -> bool:
    """A fifth of all functions has one (paper, B)."""
    return bool((ast.get_docstring(function.node) or "").strip())


def has_argument(function: Function, options: Options) -> bool:
    """Without one there is nothing to test it with."""
    arguments = function.node.args
    return bool(arguments.posonlyargs or arguments.args or arguments.kwonlyargs or arguments.vararg or arguments.kwarg)


def returns_value(function: Function, options: Options) -> bool:
    """A `return` with a value, in the function itself and not in one inside of it (paper, B)."""
    todo: list[ast.AST] = list(function.node.body)
    while todo:
        node = todo.pop()
        if (
            isinstance(node, ast.Return)
            and node.value
            and not (isinstance(node.value, ast.Constant) and node.value.value is None)
        ):
            return True
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            todo += ast.iter_child_nodes(node)
    return False


def is_short(function: Function, options: Options) -> bool:
    """At most `--max-lines` lines."""
    return (function.node.end_lineno or 0) - function.node.lineno < options.max_lines


def is_finished(function: Function, options: Options) -> bool:
    """No word says that something is left to do."""
    return not UNFINISHED.search(function.content)


def imports_are_safe(function: Function, options: Options) -> bool:
    """Nothing is imported that makes running it unsafe or testing it impossible."""
    inside = set()
    for node in ast.walk(function.node):
        if isinstance(node, ast.Import):
            inside |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inside.add(node.module or "." * node.level)
    return not {name.split(".")[0] for name in function.imported | inside} & (UNSAFE_IMPORTS | {""})


def names_are_defined(function: Function, options: Options) -> bool:
    """Every name is an argument, a builtin, imported, or defined in the function: it stands alone."""
    from pyflakes.checker import Checker
    from pyflakes.messages import ImportStarUsage, UndefinedExport, UndefinedLocal, UndefinedName

    undefined = (UndefinedName, UndefinedLocal, UndefinedExport, ImportStarUsage)
    messages = Checker(ast.parse(function.content), withDoctest=False).messages
    return not any(isinstance(message, undefined) for message in messages)


# In the order of cost; the name is what the funnel counts. Type checking, the judging of docstrings and near-duplicates
# follow these in the paper.
FILTERS: dict[str, Callable[[Function, Options], bool]] = {
    "no_docstring": has_docstring,
    "no_argument": has_argument,
    "no_return_value": returns_value,
    "too_long": is_short,
    "unfinished": is_finished,
    "unsafe_import": imports_are_safe,
    "undefined_name": names_are_defined,
}


def functions_of(source: str) -> list[Function]:
    """The top-level functions of a file, each below those of the file's imports that it uses.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: the file does not parse.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes of old files
        tree = ast.parse(source)
    lines = source.split("\n")
    imports: dict[str, tuple[str, str]] = {}  # bound name -> (statement, module)
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)) and not getattr(node, "level", 0):
            for alias in node.names:
                module = alias.name if isinstance(node, ast.Import) else node.module or ""
                head = "import " if isinstance(node, ast.Import) else f"from {module} import "
                bound = alias.asname or alias.name.split(".")[0]
                imports[bound] = head + ast.unparse(alias), module
    functions = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            used = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)} & imports.keys()
            statements = sorted({imports[name][0] for name in used})
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            body = "\n".join(lines[first - 1 : node.end_lineno])
            content = "\n".join(statements) + "\n\n\n" + body if statements else body
            functions.append(Function(node, content, frozenset(imports[name][1] for name in used)))
    return functions


def seeds_of_file(file: dict[str, Any], options: Options) -> Done:
    """The functions of one file that pass every filter, and how many each filter dropped.

    `file` has `text` (None if it could not be read), `repository`, `path` and `license`.
    """
    from selfalign.steps import Done, content_id

    if file["text"] is None or len(file["text"]) > MAX_FILE_BYTES:
        return Done([], {"files_unreadable": 1})
    try:
        functions = functions_of(file["text"].replace("\r\n", "\n"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Done([], {"files_that_do_not_parse": 1})
    seeds, counts = [], Counter()
    for function in functions:
        failed = next((name for name, passes in FILTERS.items() if not passes(function, options)), None)
        counts[failed or "ok"] += 1
        if not failed:
            seeds.append(
                {
                    "id": content_id(function.content),
                    "content": function.content,
                    "name": function.node.name,
                    "docstring": ast.get_docstring(function.node),
                    **{name: file[name] for name in ("repository", "path", "license")},
                }
            )
    return Done(seeds, counts)


def open_python_folder(folder: Path, repository: str | None, license: str | None) -> Source:
    """The Python files below `folder`, one a row; what is in caches, tests and site-packages is left out."""
    import hashlib

    import datasets

    from selfalign.datasets_io import Source

    files = sorted(
        path
        for path in folder.rglob("*.py")
        if not SKIPPED_FOLDERS & set(path.relative_to(folder).parts[:-1]) and path.is_file()
    )
    if not files:
        raise UserError(f"{folder} holds no Python files")
    listing = [(path.relative_to(folder).as_posix(), path.stat().st_size) for path in files]
    pin = {"fingerprint": hashlib.sha256(repr(listing).encode()).hexdigest()[:16]}
    rows = [
        {"file": str(folder / path), "path": path, "repository": repository, "license": license} for path, _ in listing
    ]
    return Source(str(folder), pin, datasets.Dataset.from_list(rows), {})


def open_files(options: Options) -> Source:
    """The input: the standard library, a folder of Python files, or a dataset with a column of their texts."""
    import sysconfig

    from selfalign.datasets_io import is_hub_id
    from selfalign.steps import read_input

    if options.input == STDLIB:
        version = f"python/cpython@{sys.version_info.major}.{sys.version_info.minor}"
        return open_python_folder(Path(sysconfig.get_path("stdlib")), version, "PSF-2.0")
    folder = Path(options.input).expanduser()
    if not is_hub_id(options.input) and folder.is_dir() and next(folder.rglob("*.py"), None):
        return open_python_folder(folder.resolve(), folder.resolve().name, None)
    return read_input(options, options.text_column)


def as_file(row: dict[str, Any], options: Options) -> dict[str, Any]:
    """A row of the input as `seeds_of_file` wants it."""
    if "file" in row:
        try:
            return row | {"text": Path(row["file"]).read_text(encoding="utf-8")}
        except (OSError, UnicodeDecodeError):
            return row | {"text": None}
    license = row.get(options.license_column)
    return {
        "text": row[options.text_column],
        "repository": row.get(options.repository_column),
        "path": row.get(options.path_column),
        "license": ", ".join(license) if isinstance(license, list) else license,
    }


def without_duplicates(candidates: Source) -> tuple[list[int], int]:
    """Which candidates to keep, in the order of their ids, and how many repeat another.

    Of equal ones, that with the first repository and path stays, so that the order of the files does not matter.
    """
    rows = candidates.rows.select_columns(["id", "repository", "path"]).to_list()
    keys = [(row["id"], row["repository"] or "", row["path"] or "", i) for i, row in enumerate(rows)]
    first = {key[0]: key for key in sorted(keys, reverse=True)}  # the smallest key of an id is written last
    return [first[id][3] for id in sorted(first)], len(keys) - len(first)


def main(options: Options) -> None:
    """Extract the functions of all files that pass the filters, then drop duplicates."""
    from selfalign.steps import open_source, run_step

    if not options.output:
        options = dataclasses.replace(options, input=STDLIB, output=options.input)
    candidates = options.output.rstrip("/") + "-candidates"

    run_step(
        dataclasses.replace(options, output=candidates),
        open_files(options),
        lambda row: seeds_of_file(as_file(row, options), options),
        COLUMNS,
        carry=False,
        title="extract_functions",
    )

    functions = open_source(candidates, columns=tuple(COLUMNS), token=options.hf_token)
    kept, duplicates = without_duplicates(functions)
    run_step(
        dataclasses.replace(options, max_samples=None),
        dataclasses.replace(functions, rows=functions.rows.select(kept)),
        lambda function: function,
        COLUMNS,
        dropped={"exact_duplicates": duplicates},
    )


if __name__ == "__main__":
    run_script(main, Options, __doc__)
