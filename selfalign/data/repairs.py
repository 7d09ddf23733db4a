"""Repairs: what a model makes of its own failures, and what is wrong with these (LeDex, arXiv 2405.18649)."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from selfalign.code.javascript import without_comments
from selfalign.code.markdown import code_blocks
from selfalign.code.parsing import code_without_comments, parsed, unparsed
from selfalign.data import javascript_repairs
from selfalign.data.languages import code_in
from selfalign.data.selection import NO_VERDICT, Sample
from selfalign.ids import content_id

# Outcomes by what a user would call them.
FAILURES = {
    "failed": ("failed",),
    "error": ("error", "syntax_error", "out_of_memory", "output_limit", "too_many_processes", "killed"),
    "timeout": ("timeout", "cpu_limit"),
}
MIN_KNOWN = (
    2  # tests whose inputs and outputs the code holds, from which it is hard-coded if they are half of the tests
)
COMMON = {"0", "1", "2", "-1", "''", "None", "True", "False", "[]", "()", "{}"}  # literals that much code has


def failures_of(
    samples: Sequence[Sample], failures: Sequence[str], most: int | None, seed: int
) -> tuple[list[Sample], dict[str, int]]:
    """The samples to be mended, at most `most` of each task (by lot), in their order, and why how many others are not.

    Args:
        samples: of any number of tasks.
        failures: keys of FAILURES.
        most: None for all.
        seed: of the lots.
    """
    wanted = {outcome for name in failures for outcome in FAILURES[name]}
    left_out = {"passed": 0, "without_verdict": 0, "other_failures": 0, "not_drawn": 0}
    tasks: dict[str, list[Sample]] = {}
    for sample in samples:
        outcome = sample.outcome or ("passed" if sample.passed else "failed")
        if sample.passed:
            left_out["passed"] += 1
        elif outcome in NO_VERDICT or outcome == "no_consensus":
            left_out["without_verdict"] += 1
        elif outcome not in wanted:
            left_out["other_failures"] += 1
        else:
            tasks.setdefault(sample.task_id, []).append(sample)
    drawn = []
    for some in tasks.values():
        drawn += sorted(some, key=lambda sample: content_id(seed, sample.id))[:most]
        left_out["not_drawn"] += len(some) - len(some[:most])
    return sorted(drawn), left_out


def split_answer(completion: str, language: str = "python") -> tuple[str | None, str | None, str | None]:
    """A model's answer as explanation and mended code (Markdown with one block), and what is wrong with it: unfinished,
    no_code or no_explanation; None if nothing is."""
    explanation = completion.partition("```")[0]
    lines = [line for line in explanation.strip().split("\n") if not line.startswith("#")]
    explanation = "\n".join(lines).strip() or None
    code = code_in(completion, language)
    if any(not block.closed for block in code_blocks(completion)):
        return explanation, None, "unfinished"
    if not code or not code.strip():
        return explanation, None, "no_code"
    return explanation, f"```{language}\n{code.strip()}\n```", None if explanation else "no_explanation"


def fault_of_repair(attempt: str, mended: str, tests: str, language: str = "python") -> str | None:
    """Why mended code is not worth running: it is the attempt again (unchanged), or it holds the tests' answers
    (hard_coded)."""
    plain = without_comments if language == "javascript" else code_without_comments
    if plain(attempt) == plain(mended):
        return "unchanged"
    return "hard_coded" if is_hard_coded(attempt, mended, tests, language) else None


def is_hard_coded(attempt: str, mended: str, tests: str, language: str = "python") -> bool:
    """Whether the mended code holds, for half of the tests, both an argument and the output that they ask for, and the
    attempt does not.

    Only literals are looked at, and not those that much code has (COMMON): `if n == 7: return 13` for
    `assert f(7) == 13`. A table of constants that the attempt did not have is taken for the same.
    """
    literals_in, pairs_in = _literals_in, _pairs_in
    if language == "javascript":
        literals_in, pairs_in = javascript_repairs.literals_in, javascript_repairs.pairs_in
    before, after = literals_in(attempt), literals_in(mended)
    asked = list(pairs_in(tests))
    known = sum(
        output in after and bool(inputs & after) and not (output in before and inputs & before)
        for inputs, output in asked
    )
    return known >= MIN_KNOWN and 2 * known >= len(asked)


def _literals_in(code: str) -> set[str]:
    """The literals of a program that are not COMMON, as Python writes their values."""
    tree = parsed(code)
    return set() if tree is None else {text for node in ast.walk(tree) if (text := _literal(node))}


def _pairs_in(tests: str) -> Iterator[tuple[set[str], str]]:
    """For each assertion that a call equals a literal: the literals among the call's arguments, and that one."""
    tree = parsed(tests)
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Compare) and isinstance(node.test.left, ast.Call):
            output = _literal(node.test.comparators[0])
            inputs = {text for argument in node.test.left.args if (text := _literal(argument))}
            if output and inputs and isinstance(node.test.ops[0], (ast.Eq, ast.Is)):
                yield inputs, output


def _literal(node: ast.AST) -> str | None:
    """The value of a literal as Python writes it; None for anything else, and for what is COMMON."""
    if not isinstance(node, (ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.UnaryOp)):
        return None
    try:
        text = repr(ast.literal_eval(unparsed(node) or ""))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
    return None if text in COMMON else text
