"""Type checkers on seed functions, side by side: how fast, and how often they say what Pyright says.

    python collect_seeds.py installed ./seeds          # makes ./seeds-candidates
    python perf/type_checkers.py ./seeds-candidates   # a sample of 1,000

A function passes when a checker has no error for it; two checkers agree on it when both or neither let it pass. Each
takes the functions through `selfalign.type_checkers`, as collect_seeds.py does, with one process and with the packages
of the running Python.

Pyright (the paper's) takes part where it is on PATH: `pip install 'pyright[nodejs]'` into an environment of its own.
ruff has the rules for undefined names alone (F821, F823, E9): what it would spare the others. All that it finds has
been found by the filters before, by pyflakes.
"""

import asyncio
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the project's root, in the place of this folder

from selfalign.datasets_io import open_source  # noqa: E402
from selfalign.type_checkers import BATCH, TypeChecker  # noqa: E402


@dataclass
class Options:
    candidates: tyro.conf.Positional[str]
    """Dataset with a column `content`: what collect_seeds.py writes as OUTPUT-candidates."""
    sample: int = 1000
    """Functions, drawn at random; 0 for all."""
    seed: int = 0
    """Of the draw."""
    checkers: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = ("basedpyright", "pyrefly")
    """Beside Pyright and ruff."""
    again: bool = False
    """basedpyright once more, backwards and in smaller batches, which should change hardly anything."""


def checked(name: str, codes: list[str], batch: int = BATCH) -> tuple[list[str | None], float]:
    """The rule of the first error of each function, and seconds."""

    async def all_of_them(checker: TypeChecker) -> list[str | None]:
        async with checker:
            return await asyncio.gather(*map(checker.check, codes))

    checker = TypeChecker(name, processes=1, batch=batch)
    started = time.perf_counter()
    rules = asyncio.run(all_of_them(checker))
    print(f"{name}: {time.perf_counter() - started:.1f} s", file=sys.stderr)
    return rules, time.perf_counter() - started


def ruff(codes: list[str]) -> tuple[list[str | None], float]:
    """The same with ruff."""
    rules: list[str | None] = [None] * len(codes)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        for number, code in enumerate(codes):
            Path(folder, f"{number}.py").write_bytes(code.encode())
        command = [
            "ruff",
            "check",
            "--isolated",
            "--no-cache",
            "--select",
            "F821,F823,E9",
            "--output-format",
            "json",
            ".",
        ]
        printed = subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout
        for error in json.loads(printed):
            rules[int(Path(error["filename"]).stem)] = error["code"]
        return rules, time.perf_counter() - started


def main(options: Options) -> None:
    """Draw the sample, let everybody check it, and print the table."""
    contents = open_source(options.candidates, columns=("content",)).rows["content"][:]
    codes = sorted(set(contents))  # by their imports, as collect_seeds.py has them checked
    if options.sample:
        codes = sorted(random.Random(options.seed).sample(codes, options.sample))
    results = {"ruff F821, F823, E9": ruff(codes)}
    for name in options.checkers:
        results[name] = checked(name, codes)
    if options.again:
        again, seconds = checked("basedpyright", codes[::-1], batch=BATCH // 3)
        results[f"basedpyright, backwards, batches of {BATCH // 3}"] = again[::-1], seconds
    if shutil.which("pyright"):
        results["pyright"] = checked("pyright", codes)
    peer = "pyright" if "pyright" in results else "basedpyright"

    print(f"{len(codes)} functions of {options.candidates}, one process each, Python {sys.version.split()[0]}\n")
    print(f"| checker | seconds | functions/s | pass | agrees with {peer} |")
    print("|---|---:|---:|---:|---:|")
    for name, (rules, seconds) in results.items():
        same = sum((a is None) == (b is None) for a, b in zip(rules, results[peer][0], strict=True)) / len(codes)
        passed = rules.count(None)
        print(f"| {name} | {seconds:.1f} | {len(codes) / seconds:.0f} | {passed} | {same:.4f} |")
    for name in ("basedpyright", peer):
        frequent = Counter(rule for rule in results[name][0] if rule).most_common(6)
        print(f"\n{name}: " + ", ".join(f"{n} {rule}" for rule, n in frequent), end="")
    print()
    for code, ours, theirs in zip(codes, results["basedpyright"][0], results[peer][0], strict=True):
        if (ours is None) != (theirs is None):
            name = next((line for line in code.splitlines() if line.startswith("def ")), code[:60])
            print(f"basedpyright {ours}, {peer} {theirs}: {name}")
    if peer != "pyright":
        print("pyright was not measured: it is not on PATH")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
