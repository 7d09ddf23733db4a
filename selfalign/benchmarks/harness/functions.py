"""Benchmarks of single functions: how a model is asked for one, and how the code is extracted from its answer.

In substance, this follows EvalPlus (arXiv:2305.01210): a base model continues the prompt; a chat model is asked to
write the function and given the beginning of its answer, up to the line that opens the code block. Only the imports and
the definitions that the function needs are run, without a last line that the token limit cut off.
"""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from collections.abc import Iterable

from code_eval.sandbox import Program
from selfalign.benchmarks.harness.benchmark import Benchmark, Problem, Style
from selfalign.code.markdown import PYTHON_LABELS, code_blocks
from selfalign.code.parsing import CODE_ERRORS, DEFINITIONS, parsed

# The output of answers is dropped, as in the original evaluators: some answers print megabytes.
SILENCE = """
import contextlib as _contextlib, io as _io

class _Nowhere(_io.StringIO):
    def write(self, text):
        return len(text)

_silence = _contextlib.redirect_stdout(_Nowhere())
"""


def script_beside(reference: str, entry_point: str, judge: str, inputs: str, judged_with: str) -> str:
    """A test that runs the program `reference` beside the answer.

    `inputs` is code for an iterable of arguments, each twice, since functions may change them: a list for the answer
    and an equal one for the reference. `judge` is code that defines `_judge(out, expected, ...)`, and `judged_with` is
    what it gets besides these two.
    """
    return (
        f"{SILENCE}{judge}\n"
        f"_reference = {{'__name__': 'reference'}}\nexec({reference!r}, _reference)\n"
        f"with _silence:\n"
        f"    for _arguments, _again in {inputs}:\n"
        f"        _expected = _reference[{entry_point!r}](*_again)\n"
        f"        _judge({entry_point}(*_arguments), _expected, {judged_with})\n"
    )


# Where code begins, in an answer that begins with something else.
BEGIN = re.compile(r"^(from \S+ import\b|import \w|(async )?def \w|class \w+[(:]|@\w)", re.MULTILINE)


class FunctionBenchmark(Benchmark):
    """A benchmark whose problems are functions to complete, and whose tests call them by name."""

    # A function ends where something new begins without indentation, but for comments. Servers take the first four of
    # these, and the client cuts at all of them.
    completion_stop = ("\ndef ", "\nclass ", "\nif __name__", "\nprint(", "\n@", "\nassert ", "\nimport ", "\n```")
    chat_prefix = "Here is the complete function:\n\n```python\n"
    chat_stop = ("\n```",)

    def completion_prompt(self, problem: Problem) -> str:
        """Signature and docstring, without the final line break, as in the BigCode evaluation harness.

        Many tokenizers join a line break with the indentation that follows it. After a prompt that ends with one, the
        model would have to begin the body in a way that it has hardly ever seen.
        """
        return problem.prompt.strip()

    def chat_prompt(self, problem: Problem) -> str:
        # Asked for "the imports that it needs", too, a model of 0.5B imported something in nearly every answer, and
        # solved nine of HumanEval+'s 164 problems fewer (docs/fidelity.md).
        return (
            "Complete this Python function. Answer with one code block that holds the whole function.\n\n"
            f"```python\n{problem.prompt.strip()}\n```"
        )

    def reference_prompt(self, problem: Problem) -> str:
        return f"Write a Python function to solve the following task:\n```python\n{problem.prompt.strip()}\n```"

    def program(self, problem: Problem, answer: str, style: Style) -> Program:
        return Program(self.code(problem, answer, style), problem.test)

    def code(self, problem: Problem, answer: str, style: Style) -> str:
        """The code of an answer; a chat answer without a code block is taken as code.

        A chat model may leave out the imports and helper functions of its prompt, so these stand before its code.
        """
        if style == "solution":
            return answer
        # The tests use helpers that the prompt gives, too (HumanEval/32, 38, 50).
        given = re.findall(r"^def (\w+)", problem.prompt, re.MULTILINE)
        answer = spaced(answer)
        if style == "chat":
            head = problem.prompt[: max(0, problem.prompt.rfind(f"def {problem.entry_point}"))]
            code = f"{head}\n{code_defining(problem.entry_point, answer)}"
        else:
            code = self.completion_prompt(problem) + ("" if answer.startswith("\n") else "\n") + answer
        return needed_code(code, problem.entry_point, given)


def first_python_block(answer: str) -> str:
    """The code of the first Python block of a Markdown answer, or of its first block.

    Without a block, it is the answer without the sentences before its code.
    A block that is never closed counts, because the answer may have ended inside it.
    """
    blocks = code_blocks(answer)
    python = [block for block in blocks if block.label in PYTHON_LABELS] or blocks
    return python[0].code if python else without_sentences(answer)


def without_sentences(answer: str) -> str:
    """`answer` from its first line of code on: lines before it are dropped as long as the first one is not Python.

    Indented code counts as code. An answer with nothing but such lines stays as it is.
    """
    lines = answer.split("\n")
    for start, line in enumerate(lines):
        if line.strip():
            rest = "\n".join(lines[start:])
            if _error_line(textwrap.dedent(rest)) != 1:
                return rest
    return answer


def _error_line(code: str) -> int | None:
    """The number of the line at which `code` stops being Python; None if it is Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(code)
    except SyntaxError as error:
        return error.lineno or 1
    except CODE_ERRORS:
        return 1
    return None


def code_defining(entry_point: str, answer: str) -> str:
    """The code block of a Markdown answer that defines `entry_point`, or the first one; all of it if there is none."""
    blocks = [block.code for block in code_blocks(answer)] or [answer]
    definition = re.compile(rf"\bdef {re.escape(entry_point)}\b")  # not one of which it is only the beginning
    return without_preface(next(filter(definition.search, blocks), blocks[0]))


def spaced(answer: str) -> str:
    """Tabs as four spaces, as in EvalPlus: a body of tabs below a docstring of spaces is not Python."""
    return answer.replace("\t", "    ")


def without_preface(code: str) -> str:
    """`code` without what precedes its first import or definition, if that is not Python.

    It may be a sentence, or a line that opens a code block in an answer whose code block is already open.
    """
    begin = BEGIN.search(code)
    return code[begin.start() :] if begin and parsed(code[: begin.start()]) is None else code


def needed_code(code: str, entry_point: str, also: Iterable[str] = ()) -> str:
    """The imports of `code`, and the top-level definitions that `entry_point` and the names `also` need.

    Trailing lines are left out until the rest is Python. If that does not define `entry_point`, `code` is unchanged.
    """
    lines = code.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for end in range(len(lines), 0, -1):
        tree = parsed("\n".join(lines[:end]))
        if tree is None:
            continue
        names: dict[str, set[str]] = {}  # what is defined, and the names in its definition
        for node in tree.body:
            for name in _defined(node):
                names.setdefault(name, set()).update(n.id for n in ast.walk(node) if isinstance(n, ast.Name))
        if entry_point not in names:
            break
        needed = {entry_point, *also}
        waiting = sorted(needed)
        while waiting:
            new = (names.get(waiting.pop(), set()) & names.keys()) - needed
            needed |= new
            waiting += new
        kept = [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom)) or needed & set(_defined(n))]
        kept.sort(key=lambda node: not (isinstance(node, ast.ImportFrom) and node.module == "__future__"))
        return "\n".join(source_of(node, lines) for node in kept) + "\n"
    return code


def _defined(node: ast.stmt) -> list[str]:
    """The names that a top-level statement defines."""
    if isinstance(node, DEFINITIONS):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]


def source_of(node: ast.stmt, lines: list[str]) -> str:
    """The lines of a statement, with its decorators."""
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    return "\n".join(lines[first - 1 : node.end_lineno])
