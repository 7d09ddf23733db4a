"""Untrusted programs in a sandbox, the metric that is computed with it, and a reward.

    from code_eval import Program, Sandbox
    with Sandbox() as sandbox:
        results = list(sandbox.run([Program("def f(x): return x * x", "assert f(2) == 4")]))

What belongs here: all that runs a program and says how it ended. What does not: anything that needs the rest of this
project, because the folder installs by itself, and is an `evaluate` module, which is copied and loaded elsewhere.
"""

from .reward import AsyncCodeReward, CodeReward
from .sandbox import CounterUnavailable, Limits, Program, Result, Sandbox, SandboxUnavailable

__all__ = [
    "AsyncCodeReward",
    "CodeReward",
    "CounterUnavailable",
    "Limits",
    "Program",
    "Result",
    "Sandbox",
    "SandboxUnavailable",
]
