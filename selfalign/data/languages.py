"""The programming languages of rows: Python, and JavaScript where the column `language` says so.

A step that asks a model has the option --language, and its rows must not say that they are in another one. Where a step
looks into programs of Python only, `only_python` refuses the others in one sentence.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from code_eval import javascript, markdown
from code_eval.assertions import has_tests, text_without_main_block
from selfalign.code.javascript import branches_in as branches_in_javascript
from selfalign.code.javascript import tree_of
from selfalign.code.markdown import JAVASCRIPT_LABELS, PYTHON_LABELS, javascript_code, python_code
from selfalign.code.parsing import branches_in, parsed
from selfalign.errors import UserError
from selfalign.options import PROMPTS, Language
from selfalign.runner.source import Source

# Programs in these are refused, and not taken for Python.
OTHER_LANGUAGES = {
    "bash", "c", "c#", "c++", "cpp", "csharp", "dart", "go", "haskell", "java", "julia", "kotlin", "lua", "ocaml",
    "perl", "php", "r", "ruby", "rust", "scala", "shell", "sql", "swift", "typescript", "ts",
}  # fmt: skip
KNOWN = ("python", "javascript")


def language_of(row: dict[str, Any]) -> str:
    """The programming language of a row: "javascript", one of OTHER_LANGUAGES, or else "python".

    A column of this name may also hold what people speak, such as "en".
    """
    language = str(row.get("language")).strip().lower()
    if language in JAVASCRIPT_LABELS:
        return "javascript"
    return language if language in OTHER_LANGUAGES else "python"


def code_in(text: str, language: str, *, open_too: bool = False) -> str | None:
    """The closed blocks of `text` in a language of KNOWN as one program, or None if there is none; with `open_too`,
    also one that is never closed."""
    find = javascript_code if language == "javascript" else python_code
    return find(text, open_too=open_too)


def parses(code: str, language: str) -> bool:
    """Whether a program in a language of KNOWN has a syntax tree."""
    return (tree_of(code) if language == "javascript" else parsed(code)) is not None


def programs_of(row: dict[str, Any]) -> tuple[str, str]:
    """The code and the tests of a row, extracted from their Markdown.

    The code's `if __name__ == "__main__":` is left out, which may wait for input; that of tests may run them. What
    stands under `if (require.main === module)` in JavaScript does not run either.
    """
    language = language_of(row)
    code, tests = (code_in(row[column] or "", language) or "" for column in ("response", "tests"))
    return code if language == "javascript" else text_without_main_block(code), tests


def branches_of(row: dict[str, Any]) -> int | None:
    """How often the code of a row's response branches: conditions, loops, Python's comprehensions, handlers and cases.

    None if the code does not parse. What stands under `if __name__ == "__main__":` does not count.
    """
    language = language_of(row)
    code = code_in(row["response"] or "", language) or ""
    if language == "javascript":
        root = tree_of(code)
        return None if root is None else branches_in_javascript(root)
    tree = parsed(text_without_main_block(code))
    return None if tree is None else branches_in(tree)


def are_tests(tests: str | list[str] | None, language: str = "python") -> bool:
    """Whether tests test anything, as far as can be seen without running them."""
    texts = [tests] if isinstance(tests, str) else tests or []
    code = "\n".join(markdown.code_in(text, language)[0] for text in texts)
    if language == "javascript":
        return javascript.has_tests(code)
    if "doctest" in code:
        return True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return has_tests(compile(code, "<tests>", "exec", dont_inherit=True))
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return False


def languages_in(rows: Source) -> list[str]:
    """The programming languages of the rows; UserError if there is one of OTHER_LANGUAGES."""
    found = sorted({language_of({"language": name}) for name in _names(rows) or [None]})
    if unknown := [name for name in found if name in OTHER_LANGUAGES]:
        raise UserError(f"{rows.name} has rows in {', '.join(unknown)}: only programs in {' and '.join(KNOWN)} can run")
    return found


def only_python(rows: Source, what: str) -> None:
    """UserError if rows are in another language than Python, for which there is no `what`."""
    if others := [name for name in languages_in(rows) if name != "python"]:
        raise UserError(f"{rows.name} has rows in {', '.join(others)}: {what} only for Python")


def check_language(rows: Source, language: Language) -> None:
    """UserError if a row says that it is in the other language of KNOWN than the one that is asked for."""
    labels = JAVASCRIPT_LABELS if language == "python" else PYTHON_LABELS | OTHER_LANGUAGES
    if others := sorted(str(name) for name in _names(rows) if str(name).strip().lower() in labels):
        fitting = "add --language javascript" if language == "python" else "leave out --language"
        raise UserError(f"{rows.name} has rows in {', '.join(others)}, and the prompts are in {language}: {fitting}")


def prompt_file(path: Path, language: Language) -> Path:
    """`path`, or where it lies in prompts/, the file of the same name for that language, if there is one."""
    other = PROMPTS / language / path.name
    return other if path.resolve().parent == PROMPTS and other.exists() else path


def check_examples(languages: Iterable[str], path: Path, language: Language) -> None:
    """UserError if a worked example, each of which has one of `languages`, is in another one than is asked for."""
    if others := sorted({name for name in languages if language_of({"language": name}) != language}):
        raise UserError(f"the worked examples in {path} are in {', '.join(others)}, which --language {language} is not")


def _names(rows: Source) -> list[str | None]:
    """The different values of the column `language`, and None for rows without one; [] if there is no such column of
    texts."""
    if getattr(rows.rows.features.get("language"), "dtype", "") not in ("string", "large_string"):
        return []
    return rows.rows.unique("language")
