"""Benchmarks: each file here is one, and `harness/` holds what they share.

What belongs here: the problems of a benchmark, how a model is asked to solve them, and how its answers are judged. What
does not: asking the model, and the statistics of its scores, which benchmark.py gets from `selfalign.llm` and
`selfalign.report`.

`python benchmark.py --benchmark NAME` finds a benchmark by the name of its file, with hyphens for underscores. If there
are several sets of problems, each is a benchmark of its own: `evoeval-difficult` is the variant "difficult" of
`evoeval`. Adding one is adding a file that defines a subclass of `Benchmark`: docs/adding_a_benchmark.md shows how.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil

from selfalign.benchmarks.harness.benchmark import Benchmark, Problem
from selfalign.errors import UserError, did_you_mean

__all__ = ["Benchmark", "Problem", "benchmark_names", "benchmarks_by_family", "load_benchmark"]


def benchmark_names() -> list[str]:
    """The names that `load_benchmark` knows."""
    return list(_variants())


def benchmarks_by_family() -> dict[str, list[str]]:
    """The names of all benchmarks by what they begin with: {"evoeval": ["evoeval-difficult", ...], ...}."""
    families: dict[str, list[str]] = {}
    for name, (benchmark, _) in _variants().items():
        families.setdefault(benchmark.family(), []).append(name)
    return families


def load_benchmark(name: str) -> Benchmark:
    """The benchmark of this name; UserError if there is none."""
    variants = _variants()
    if name not in variants:
        families = {known.family(): known for known, _ in variants.values()}
        reasons = [known.why_not(name[len(f) + 1 :]) for f, known in families.items() if name.startswith(f"{f}-")]
        why = next((f": {reason}" for reason in reasons if reason), None) or did_you_mean(name, variants)
        raise UserError(f"there is no benchmark {name}{why}")
    benchmark, variant = variants[name]
    return benchmark(variant)


def _variants() -> dict[str, tuple[type[Benchmark], str | None]]:
    """Class and variant of each benchmark, by its name."""
    variants = {}
    for file in sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg):
        benchmark = _class_in(f"{__name__}.{file}")
        for variant in benchmark.variants:
            family = benchmark.family()
            variants[f"{family}-{variant}" if variant else family] = benchmark, variant
    return variants


def _class_in(module: str) -> type[Benchmark]:
    """The benchmark that a module defines, apart from those that it imports."""
    found = [
        member
        for member in vars(importlib.import_module(module)).values()
        if inspect.isclass(member) and member.__module__ == module and issubclass(member, Benchmark)
    ]
    if len(found) != 1:
        raise TypeError(f"{module} has to define one subclass of Benchmark; it defines {len(found)}")
    return found[0]
