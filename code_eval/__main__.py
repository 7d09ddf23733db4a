"""Runs samples against their tests, in the sandbox, and prints how they ended and pass@k.

    python -m code_eval samples.jsonl
    python -m code_eval samples.jsonl --tests tasks.jsonl --workers 8 --results results.jsonl

Each line of samples.jsonl is a JSON object with the columns

    code (or completion, solution)    what to judge: a program, or Markdown with blocks of its language. Python's
                                      `if __name__ == "__main__":` is left out, which may wait for input
    tests (or test)                   what judges it; where --tests is given, it is looked up there by task_id
    task_id                           samples of the same task are counted together; without it, equal tests are a task

The exit status is 3 if the sandbox failed on a sample, which then is counted neither as passed nor as failed.
"""

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .assertions import text_without_main_block
from .estimate import pass_at
from .markdown import code_in
from .sandbox import LANGUAGES, MODES, Program, Result, Sandbox, SandboxUnavailable

CODE, TESTS = ("code", "completion", "solution"), ("tests", "test")
BAR = 30  # characters


class Refused(Exception):
    """What is wrong with the input, in one sentence."""


def rows_of(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where it is, the row) for each line. Raises Refused for what is not a JSON object."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError
                    yield f"{path}, line {number}", row
    except OSError as error:
        raise Refused(f"{path} can't be read: {error.strerror}.") from None
    except ValueError:
        raise Refused(f"{path} is not JSON lines in UTF-8: each line must be an object.") from None


def text_of(place: str, row: dict[str, Any], names: tuple[str, ...], language: str) -> str:
    """The first of these columns. Raises Refused if there is none, or no text in it."""
    name = next((name for name in names if name in row), None)
    if name is None:
        raise Refused(f"{place} has no column {' or '.join(names)}; its columns are {', '.join(row) or 'none'}.")
    texts = row[name] if isinstance(row[name], list) else [row[name]]
    if not all(isinstance(text, str) for text in texts):
        raise Refused(f"{place}: {name} must be text, and not {json.dumps(row[name])[:60]}.")
    return code_in("\n".join(texts), language)[0]


def samples_in(options: argparse.Namespace) -> list[tuple[str, Program, dict[str, Any]]]:
    """(task, program, row) of each sample. The file is read once: it may be a pipe."""
    tests = {}
    for place, row in rows_of(options.tests) if options.tests else ():
        tests[str(row.get("task_id"))] = text_of(place, row, TESTS, options.language)
    samples = []
    for place, row in rows_of(options.samples):
        task = str(row["task_id"]) if "task_id" in row else None
        if options.tests and task not in tests:
            raise Refused(f"{place}: there are no tests for task_id {task} in {options.tests}.")
        test = tests[str(task)] if options.tests else text_of(place, row, TESTS, options.language)
        code = text_of(place, row, CODE, options.language)
        code = text_without_main_block(code) if options.language == "python" else code
        samples.append((test if task is None else task, Program(code, test), row if options.results else {}))
    if not samples:
        raise Refused(f"{options.samples} has no samples.")
    return samples


def check_new(path: Path) -> None:
    """Raises Refused, before programs run, if the file is there already or can't be made."""
    if path.exists():
        raise Refused(f"{path} exists already: nothing is overwritten.")
    if not os.access(path.absolute().parent, os.W_OK):
        raise Refused(f"{path} can't be written: {path.parent} is no folder that you may write to.")


def verdict_of(result: Result) -> dict[str, Any]:
    """What is added to a sample. Tests were not counted, and `tests` is the sample's own column."""
    return {name: value for name, value in vars(result).items() if name not in ("tests", "tests_passed")}


def show_progress(done: int, total: int, passed: int) -> None:
    if sys.stderr.isatty() and (done == total or done % max(1, total // 200) == 0):
        filled = BAR * done // total
        bar = "█" * filled + "░" * (BAR - filled)
        print(f"\r{bar} {done} of {total}, {passed} passed", end="\n" if done == total else "", file=sys.stderr)


def table_of(outcomes: Counter, total: int) -> str:
    """The outcomes, the most frequent first, with their shares."""
    width = max(map(len, outcomes))
    return "\n".join(f"{name:{width}}  {count:8,}  {count / total:6.1%}" for name, count in outcomes.most_common())


def pass_at_k(tasks: list[str], results: list[Result], ks: list[int]) -> dict[int, float]:
    """pass@k for each k for which every task has enough samples; those on which the sandbox failed do not count."""
    judged, passed = Counter(dict.fromkeys(tasks, 0)), Counter()
    for task, result in zip(tasks, results, strict=True):
        judged[task] += result.outcome != "sandbox_error"
        passed[task] += result.passed
    enough = [k for k in ks if min(judged.values()) >= k]
    return {k: sum(pass_at(k, n, passed[task]) for task, n in judged.items()) / len(judged) for k in enough}


def main() -> int:
    parser = argparse.ArgumentParser("python -m code_eval", description=__doc__, formatter_class=formatter)
    parser.add_argument("samples", type=Path, metavar="SAMPLES.jsonl")
    parser.add_argument("--tests", type=Path, metavar="FILE", help="JSON lines with task_id and tests")
    parser.add_argument("--results", type=Path, metavar="FILE", help="where to write the samples with their outcomes")
    parser.add_argument("--mode", choices=MODES, default="isolated", help="strict: code cannot reach its tests")
    parser.add_argument("--language", choices=LANGUAGES, default="python", help="javascript: needs node 18 or newer")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="programs at a time")
    parser.add_argument("--timeout", type=float, default=3.0, help="seconds of CPU time for each program")
    parser.add_argument("--memory", type=int, default=1024, metavar="MIB", help="for each program")
    parser.add_argument("--k", type=int, nargs="+", default=[1, 10, 100], help="which pass@k to estimate")
    options = parser.parse_args()
    try:
        if min(options.k) < 1:
            raise Refused("--k must be at least 1.")
        if options.results:
            check_new(options.results)
        samples = samples_in(options)
        tasks = [task for task, *_ in samples]
        print(f"{len(samples):,} samples of {len(set(tasks)):,} tasks", file=sys.stderr)
        results: list[Result] = []
        passed = 0
        memory, language = options.memory << 20, options.language
        with Sandbox(options.mode, options.workers, options.timeout, memory=memory, language=language) as sandbox:
            for result in sandbox.run_unordered(program for _, program, _ in samples):
                results.append(result)
                passed += result.passed
                show_progress(len(results), len(samples), passed)
        results.sort(key=lambda result: result.index)
        if options.results:
            rows = [row | verdict_of(result) for (*_, row), result in zip(samples, results, strict=True)]
            options.results.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    except (Refused, SandboxUnavailable, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted: nothing was written.", file=sys.stderr)
        return 130
    outcomes = Counter(result.outcome for result in results)
    print(table_of(outcomes, len(results)))
    for name, count in Counter(name for r in results if r.passed for name in r.remarks).most_common():
        print(f"{count:,} passed with the remark {name!r}: see SECURITY.md")
    for k, value in pass_at_k(tasks, results, options.k).items():
        print(f"pass@{k}  {value:.4f}")
    return 3 if outcomes["sandbox_error"] else 0


formatter = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    sys.exit(main())
