"""How many planted benchmark solutions decontamination finds, and how many false alarms it gives.

    python -m perf.decontamination --decontaminate humaneval mbpp --benchmark-data mbpp=mbpp.jsonl

Each canonical solution that is a program in Python, by itself or behind its prompt, is planted both bare and in a
response as models write them, in five ways (see WAYS). Beside the name of the benchmark stands how many these are.
"By substring" is the paper's rule alone: a prompt or solution as a substring.

False alarms are counted among 2,000 top-level functions of the running Python's standard library, drawn at random; any
match counts, even if the function really is the benchmark's.
"""

from __future__ import annotations

import argparse
import ast
import random
import sys
import sysconfig
import time
from collections import Counter
from pathlib import Path

from selfalign.code.contamination import Item
from selfalign.code.parsing import DEFINITIONS, FUNCTIONS, parsed
from selfalign.data.decontamination import decontaminator_of
from selfalign.errors import UserError
from selfalign.options import DecontaminationOptions

LIBRARY_FUNCTIONS = 2_000


def renamed(code: str) -> str:
    """Other names for everything that a program defines."""
    tree = ast.parse(code)
    nodes = list(ast.walk(tree))
    bound = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    bound |= {n.arg for n in nodes if isinstance(n, ast.arg)}
    bound |= {n.name for n in nodes if isinstance(n, DEFINITIONS)}
    names = {name: f"other_{i}" for i, name in enumerate(sorted(bound))}
    for node in nodes:  # a call before the name that it calls
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            for keyword in node.keywords:
                keyword.arg = names.get(keyword.arg or "", keyword.arg)
        elif isinstance(node, ast.Name):
            node.id = names.get(node.id, node.id)
        elif isinstance(node, ast.arg):
            node.arg = names[node.arg]
        elif isinstance(node, DEFINITIONS):
            node.name = names[node.name]
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            node.names = [names.get(name, name) for name in node.names]
    return ast.unparse(tree)


def commented(code: str) -> str:
    """Other docstrings, and other comments on lines of their own."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, DEFINITIONS):
            if ast.get_docstring(node) is not None:
                node.body = node.body[1:] or [ast.Pass()]
            node.body.insert(0, ast.Expr(ast.Constant("Written in other words.")))
    lines = ast.unparse(tree).split("\n")
    lines[::3] = [line if {'"', "'"} & set(line) else f"{line}  # it continues" for line in lines[::3]]
    return "\n".join(lines)


def edited(code: str) -> str:
    """An additional statement at the beginning of each function, and other names: only similarity can find this."""
    tree = ast.parse(renamed(code))
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS):
            node.body.insert(0, ast.parse("checked = True").body[0])
    return ast.unparse(tree)


WAYS = {
    "verbatim": lambda code: code,
    "names": renamed,
    "comments": commented,
    "both": lambda code: commented(renamed(code)),
    "edited": edited,
}


def response(code: str) -> str:
    return f"This is how it can be done:\n\n```python\n{code}\n```\n\nIt returns what was asked for."


def whole(item: Item) -> str:
    """The solution as a program, "" if it is none."""
    return next((code for code in (item.solution, item.prompt + item.solution) if parsed(code)), "")


def library_functions() -> list[str]:
    """The top-level functions of the standard library's modules, except for its tests."""
    functions = []
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        if {"site-packages", "test", "tests", "idle_test", "lib2to3"} & set(path.relative_to(root).parts):
            continue
        source = path.read_text(encoding="utf-8", errors="replace")
        body = tree.body if (tree := parsed(source)) else []
        functions += [ast.get_source_segment(source, n) or "" for n in body if isinstance(n, ast.FunctionDef)]
    return functions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--decontaminate", nargs="+", default=["humaneval"])
    parser.add_argument("--benchmark-data", nargs="*", default=[], metavar="NAME=FILE")
    parser.add_argument("--functions", type=int, default=LIBRARY_FUNCTIONS)
    parser.add_argument("--show", type=int, default=0, help="show this many false alarms and missed solutions")
    options = parser.parse_args()
    started = time.perf_counter()
    names, files = tuple(options.decontaminate), tuple(options.benchmark_data)
    _, decontaminator = decontaminator_of(DecontaminationOptions(decontaminate=names, benchmark_data=files))
    assert decontaminator
    print(f"index of {len(decontaminator.items)} items in {time.perf_counter() - started:.1f} s")

    print(f"{'planted':24} {'way':10} {'found':>14} {'by substring':>14}   all rules")
    for name in decontaminator.counts:
        items = [item for item in decontaminator.items if item.family == name]
        solutions = [(item, code) for item in items if (code := whole(item))]
        planted = f"{name}: {len(solutions)} of {len(items)}"
        if not solutions:
            print(f"{planted:24} solutions are programs in Python")
            continue
        for way, change in WAYS.items():
            rules, missed = Counter(), []
            for item, code in solutions:
                for text in (changed := change(code), response(changed)):
                    match = decontaminator.match(text)
                    rules[match.rule if match else "not found"] += 1
                    if not match:
                        missed.append((item.task_id, text))
            found = 1 - rules["not found"] / (2 * len(solutions))
            shown = ", ".join(f"{n} {rule}" for rule, n in rules.most_common())
            print(f"{planted:24} {way:10} {found:14.1%} {rules['substring'] / (2 * len(solutions)):14.1%}   {shown}")
            for task, text in missed[: 2 * options.show : 2]:
                print(f"--- {task}\n{text}\n")

    functions = library_functions()
    drawn = random.Random(0).sample(functions, min(options.functions, len(functions)))
    started = time.perf_counter()
    found = [(match, text) for text in drawn if (match := decontaminator.match(text))]
    seconds = time.perf_counter() - started
    print(f"false alarms: {len(found)} of {len(drawn)} library functions, {len(found) / len(drawn):.2%}; ", end="")
    print(f"{1e3 * seconds / len(drawn):.2f} ms per function")
    print(", ".join(f"{n} {rule}" for rule, n in Counter(match.rule for match, _ in found).most_common()))
    for match, text in found[: options.show]:
        print(f"--- {match}\n{text}\n")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(str(error))
