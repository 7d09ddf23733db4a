"""What benchmarks of single functions share: how a model is asked for one, and how its code is taken from the answer.

As in EvalPlus (arXiv:2305.01210), in substance: a base model continues the prompt; a chat model is asked to write the
function, and its answer is begun for it up to the opened code block. Of what comes back, only imports, and the
definitions that the function needs, are run; a last line that the token limit cut off is left out.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

from selfalign.benchmarks import Problem
from selfalign.code.parsing import parsed

# A function ends where something new begins at the margin; a comment there, such as a line that is commented out, may
# stand within. Servers take four, in this order; the client cuts at all.
COMPLETION_STOP = ("\ndef ", "\nclass ", "\nif __name__", "\nprint(", "\n@", "\nassert ", "\nimport ", "\n```")
CHAT_PREFIX = "Here is the function, complete and with its imports:\n\n```python\n"
CHAT_STOP = ("\n```",)

# For tests: what answers print goes nowhere, as in the evaluators that the data comes from (some print megabytes).
SILENCE = """
import contextlib as _contextlib, io as _io

class _Nowhere(_io.StringIO):
    def write(self, text):
        return len(text)

_silence = _contextlib.redirect_stdout(_Nowhere())
"""

# Where code begins, in an answer that begins with something else.
BEGIN = re.compile(r"^(from \S+ import\b|import \w|(async )?def \w|class \w+[(:]|@\w)", re.MULTILINE)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)


def completion_prompt(problem: Problem) -> str:
    """Head and docstring without the line break after them, as the BigCode evaluation harness strips prompts.

    Many tokenizers join a line break with the indentation that follows: after a prompt that ends with one, the model
    would have to begin its body in a way that it has hardly ever seen.
    """
    return problem.prompt.strip()


def chat_prompt(problem: Problem) -> str:
    """What a user would ask."""
    return (
        "Complete this Python function. Answer with one code block that holds the whole function and the imports that "
        f"it needs.\n\n```python\n{problem.prompt.strip()}\n```"
    )


def function_code(problem: Problem, answer: str, style: str) -> str:
    """The code of an answer. Imports and helpers that the prompt of a chat model gave stand before it; a chat answer
    without a code block is taken as code."""
    if style == "solution":
        return answer
    answer = spaced(answer)
    # Tests make use of helpers that the prompt gives, too (HumanEval/32, 38, 50).
    given = re.findall(r"^def (\w+)", problem.prompt, re.MULTILINE)
    if style == "chat":
        head = problem.prompt[: max(0, problem.prompt.rfind(f"def {problem.entry_point}"))]
        code = f"{head}\n{code_of(answer, problem.entry_point)}"
    else:
        code = completion_prompt(problem) + ("" if answer.startswith("\n") else "\n") + answer
    return needed_code(code, problem.entry_point, given)


def spaced(answer: str) -> str:
    """Tabs as four spaces, as in EvalPlus: a body of tabs below a docstring of spaces is no Python."""
    return answer.replace("\t", "    ")


def code_of(answer: str, entry_point: str) -> str:
    """The code block that defines `entry_point`, or the first one; all of `answer` if there is none."""
    from selfalign.code.markdown import code_blocks

    blocks = [block.code for block in code_blocks(answer)]  # one that is not closed counts: the answer may end in it
    code = next((code for code in blocks if f"def {entry_point}" in code), blocks[0] if blocks else answer)
    return without_preface(code)


def without_preface(code: str) -> str:
    """`code` without what stands before its first import or definition and is no Python: a sentence, or the mark of a
    code block that is open already."""
    begin = BEGIN.search(code)
    return code[begin.start() :] if begin and parsed(code[: begin.start()]) is None else code


def needed_code(code: str, entry_point: str, also: Iterable[str] = ()) -> str:
    """The imports of `code`, and the definitions at its margin that `entry_point` and the names `also` need.

    Trailing lines are left out until the rest is Python. Where nothing of that defines `entry_point`, `code` stays as
    it is, and fails in its own way.
    """
    lines = code.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for end in range(len(lines), 0, -1):
        tree = parsed("\n".join(lines[:end]))
        if tree is None:
            continue
        names: dict[str, set[str]] = {}  # what is defined, and the names in its definition
        for node in tree.body:
            if isinstance(node, DEFINITIONS):
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
        kept = [
            node
            for node in tree.body
            if isinstance(node, (ast.Import, ast.ImportFrom))
            or (isinstance(node, DEFINITIONS) and needed & set(_defined(node)))
        ]
        kept.sort(key=lambda node: not (isinstance(node, ast.ImportFrom) and node.module == "__future__"))
        return "\n".join(_source(node, lines) for node in kept) + "\n"
    return code


def _defined(node: ast.stmt) -> list[str]:
    """The names that a statement at the margin defines."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]


def _source(node: ast.stmt, lines: list[str]) -> str:
    """The lines of a statement, with its decorators."""
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    return "\n".join(lines[first - 1 : node.end_lineno])
