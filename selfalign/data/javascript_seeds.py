"""Step 1 for JavaScript: the files of a folder of packages, and which of their functions can become seeds.

The rules are those for Python (see seeds.py) as far as they make sense: JavaScript has no types that could be checked.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfalign.code.contamination import Decontaminator
from selfalign.code.javascript import (
    FUNCTIONS,
    Function,
    declarators_of,
    functions_of,
    has_argument,
    is_import,
    names_bound,
    names_needed,
    nodes_of,
    returns_value,
    text_of,
    tree_of,
)
from selfalign.data.python_files import named_in_utf8
from selfalign.data.seeds import MAX_FILE_BYTES, UNFINISHED
from selfalign.errors import UserError
from selfalign.ids import content_id
from selfalign.runner.source import Source

if TYPE_CHECKING:
    from tree_sitter import Node

ENDINGS = (".js", ".mjs", ".cjs")
SKIPPED_FOLDERS = {"test", "tests", "__tests__", "spec", "node_modules", "bower_components", ".git"}
MINIFIED = re.compile(r"[.-]min\.[cm]?js$")
LONG_LINE = 200  # characters; a file whose lines are longer on average was made by a program
MIN_DOC_WORDS = 3  # before the first @tag: fewer say no more than the name does
# Comments that say something to a tool, or of a whole file.
NO_DOCUMENTATION = re.compile(
    r"eslint|istanbul|prettier-ignore|@ts-|@license|copyright|@private|@deprecated|={5}", re.I
)
# Modules of Node that compute and neither run, write, listen nor wait.
SAFE_MODULES = {"assert", "buffer", "events", "path", "punycode", "querystring", "string_decoder", "url", "util"}
# Globals of the language, and those of Node that compute. Whatever else is not bound has to come from somewhere.
GLOBALS = frozenset(
    """AggregateError Array ArrayBuffer Atomics BigInt BigInt64Array BigUint64Array Boolean Buffer DataView Date Error
    EvalError Float32Array Float64Array Infinity Int16Array Int32Array Int8Array Intl Iterator JSON Map Math NaN Number
    Object Promise Proxy RangeError ReferenceError Reflect RegExp Set SharedArrayBuffer String Symbol SyntaxError
    TextDecoder TextEncoder TypeError URIError URL URLSearchParams Uint16Array Uint32Array Uint8Array Uint8ClampedArray
    WeakMap WeakRef WeakSet atob btoa console decodeURI decodeURIComponent encodeURI encodeURIComponent globalThis
    isFinite isNaN parseFloat parseInt queueMicrotask structuredClone undefined""".split()  # noqa: SIM905
)


def is_javascript_folder(name: str) -> bool:
    """Whether `name` is a folder that holds a JavaScript file."""
    folder = Path(name).expanduser()
    return folder.is_dir() and any(next(folder.rglob(f"*{ending}"), None) for ending in ENDINGS)


def open_javascript_files(name: str) -> Source:
    """The JavaScript files in a folder, as rows with `file`, `path`, `repository` (name and version of the package) and
    `license`. Tests, minified files and the packages of packages are left out.

    Raises:
        UserError: none is left.
    """
    import datasets

    folder = Path(name).expanduser().resolve()
    rows = []
    for path in named_in_utf8(sorted(path for path in folder.rglob("*") if path.suffix in ENDINGS)):
        parts = path.relative_to(folder).parts
        if not SKIPPED_FOLDERS & set(parts[:-1]) and not MINIFIED.search(path.name) and path.is_file():
            place = path.relative_to(folder).as_posix()
            rows.append({"file": str(path), "path": place, **_package_of(path.parent, folder)})
    if not rows:
        raise UserError(f"{name} contains no JavaScript files but tests, minified ones and node_modules")
    listing = [(row["path"], Path(row["file"]).stat().st_size) for row in rows]
    pin = {"fingerprint": hashlib.sha256(repr(listing).encode()).hexdigest()[:16]}
    return Source(str(folder), pin, datasets.Dataset.from_list(rows), {})


@cache
def _package_of(place: Path, folder: Path) -> dict[str, str | None]:
    """The package that a folder is in, by the nearest package.json, and its licence if that names one."""
    about: Any = None
    with contextlib.suppress(OSError, ValueError):  # there is none, or it is broken
        about = json.loads((place / "package.json").read_text(encoding="utf-8"))
    if isinstance(about, dict) and isinstance(about.get("name"), str):
        version = about.get("version")
        license = about.get("license")
        license = license.get("type") if isinstance(license, dict) else license
        named = f"{about['name']}@{version}" if isinstance(version, str) else about["name"]
        return {"repository": named, "license": license if isinstance(license, str) else None}
    if place in (folder, place.parent):
        return {"repository": folder.name, "license": None}
    return _package_of(place.parent, folder)


def fault_of_javascript(content: str) -> str | None:
    """Why code that somebody else collected is no function: no_javascript, no_function; None if it is one.

    A method may stand alone, as in its class.
    """
    root = tree_of(content) or tree_of(f"class A {{\n{content}\n}}")
    if root is None:
        return "no_javascript"
    return None if any(node.type in FUNCTIONS for node in nodes_of(root)) else "no_function"


def documentation_in(comment: str) -> str:
    """The text of a comment without its marks; "" if it is none for a reader."""
    if NO_DOCUMENTATION.search(comment):
        return ""
    lines = (re.sub(r"^\s*(/\*\*?|\*/|\*|//+)?\s?|\s*\*/\s*$", "", line) for line in comment.splitlines())
    return "\n".join(line.rstrip() for line in lines).strip()


def is_documented(function: Function) -> bool:
    """Some words before the first @tag say what the function does."""
    text = re.split(r"^\s*@(?!desc)", documentation_in(function.comment), maxsplit=1, flags=re.MULTILINE)[0]
    return len(re.findall(r"[^\W\d_]{2,}", text)) >= MIN_DOC_WORDS


def imports_of(root: Node) -> dict[str, tuple[str, str]]:
    """The names that a file binds at its top level to a whole module or a part of one: name -> (the statement, the
    module)."""
    found = {}
    for statement in root.named_children:
        several = declarators_of(statement) if statement.type.endswith("_declaration") else []
        if len(several) == 1 and is_import(several[0].child_by_field_name("value")):
            module = re.search(r"""(?:require|import)\s*\(\s*["'](?:node:)?([^"']+)["']""", text_of(statement))
            name = several[0].child_by_field_name("name")
            if name and module:
                found |= dict.fromkeys(names_bound(name), (text_of(statement), module[1]))
        elif statement.type == "import_statement":
            module = statement.child_by_field_name("source")
            names = {text_of(node) for node in nodes_of(statement) if node.type == "identifier"}
            found |= dict.fromkeys(names, ("", text_of(module).strip("\"'") if module else ""))
    return found


def seeds_of_javascript(
    file: dict[str, Any], max_lines: int, decontaminator: Decontaminator | None
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """The functions of one file that pass every filter, as rows of step 1, and how many each filter dropped.

    `file` has `text` (None if it could not be read), `repository`, `path` and `license`. A function that contains a
    benchmark's problem is included; its `contamination` says so.
    """
    text = file["text"]
    if text is None or len(text) > MAX_FILE_BYTES or len(text) > LONG_LINE * (text.count("\n") + 1):
        return [], Counter(files_unreadable=1)
    root = tree_of(text)
    if root is None:
        return [], Counter(files_that_do_not_parse=1)
    imports, seeds, counts = imports_of(root), [], Counter()
    for function in functions_of(root):
        failed, needed = _fault_of(function, imports, max_lines)
        content = "\n".join([*([needed, ""] if needed else []), function.comment, function.source])
        match = decontaminator.match(content) if decontaminator and not failed else None
        counts[failed or ("contaminated" if match else "ok")] += 1
        if not failed:
            seeds.append(
                {
                    "id": content_id(content),
                    "content": content,
                    "name": function.name,
                    "docstring": documentation_in(function.comment),
                    **{name: file[name] for name in ("repository", "path", "license")},
                    "language": "javascript",
                    "contamination": str(match) if match else None,
                }
            )
    return seeds, counts


def _fault_of(function: Function, imports: dict[str, tuple[str, str]], max_lines: int) -> tuple[str | None, str]:
    """The name of the first filter that a function does not pass, None if it passes all; and the imports it needs."""
    rules = {
        "no_docstring": is_documented(function),
        "no_argument": has_argument(function.node),
        "no_return_value": returns_value(function.node),
        "too_long": function.source.count("\n") < max_lines,
        "unfinished": not UNFINISHED.search(function.comment + function.source),
        "uses_this": not any(node.type == "this" for node in nodes_of(function.node)),
    }
    if failed := next((name for name, passes in rules.items() if not passes), None):
        return failed, ""
    needed = names_needed(function.node) - {function.name} - GLOBALS
    if any(imports[name][1] not in SAFE_MODULES for name in needed & set(imports)) or "require" in needed:
        return "unsafe_import", ""
    statements = {imports[name][0] for name in needed & set(imports)}
    if needed - set(imports) or "" in statements:  # an `import` needs a file that is a module
        return "undefined_name", ""
    return None, "\n".join(sorted(statements))
