"""pass@k of generated code, each program executed in a real sandbox: a drop-in for evaluate's `code_eval`.

    import evaluate
    code_eval = evaluate.load("./code_eval")
    pass_at_k, results = code_eval.compute(
        references=["assert add(2, 3) == 5"],
        predictions=[["def add(a, b): return a * b", "def add(a, b): return a + b"]],
        k=[1, 2],
    )
    pass_at_k   # {"pass@1": 0.5, "pass@2": 1.0}

Source of the metric and its unbiased estimator: Chen et al. 2021, "Evaluating Large Language Models Trained on Code",
https://arxiv.org/abs/2107.03374, section 2.1. The sandbox is described in SECURITY.md and usable by itself: sandbox.py.
"""

from collections import defaultdict
from collections.abc import Sequence

import datasets
import evaluate
import numpy

# ruff: noqa: F401 - evaluate copies into its cache only those files of this folder that this one imports
from .accounting import Accounting
from .arguments import use_of
from .assertions import has_tests
from .channel import receive
from .checks import check_counts
from .confinement import Confinement
from .counting import run_each
from .estimate import pass_at
from .isolation import SandboxUnavailable
from .javascript import outcome_of
from .mappings import Mapping
from .messages import Settings
from .node import find_node
from .perf_event import open_counter
from .plain_data import decode
from .pool import Pool
from .program import run
from .sandbox import Sandbox
from .seccomp import build_filter
from .served import serve_code
from .sharing import repeated
from .standard import standard_class
from .strict import judge_code
from .tasks import Program, Result
from .verdict import OUTCOMES
from .worker import Worker
from .worker_process import WorkerProcess

_DESCRIPTION = """\
Runs generated programs against their tests and estimates pass@k, the probability that at least one of k samples passes.
The programs run isolated by the kernel (namespaces, seccomp, limits), without network and without your files.
"""

_KWARGS_DESCRIPTION = """
Args:
    predictions: list of lists of str; for each task, the programs to judge
    references: list of str; for each task, the tests, run after each of its programs in the same module
    k: list of int; which pass@k to estimate; one for which some task has too few programs is left out, and those on
        which the sandbox failed do not count
    num_workers: int; programs that run at the same time
    timeout: float; seconds of CPU time per program; in wall-clock time it may take three times as long
    memory: int; bytes that a program may use
    mode: str; "isolated"; "strict": tests and code in separate processes, between which only plain data passes;
        "unsafe": no isolation, needs HF_ALLOW_CODE_EVAL=1 in the environment
    **sandbox: further options of sandbox.Sandbox, such as preload, python or read_only
Returns:
    pass_at_k: dict of str to numpy.float64, {"pass@1": ..., ...}
    results: dict of int to list of (int, dict); for each task, the number of the program and how it ended:
        task_id, completion_id, passed, result (as evaluate's code_eval words it), outcome, detail,
        cpu_seconds, wall_seconds, peak_memory (bytes), remarks (see tasks.Result)
Raises:
    SandboxUnavailable: programs cannot be isolated on this machine; the message names the cause and the remedy
Examples:
    >>> code_eval = evaluate.load("./code_eval")
    >>> candidates = [["def add(a,b): return a*b", "def add(a, b): return a+b"]]
    >>> pass_at_k, results = code_eval.compute(references=["assert add(2,3)==5"], predictions=candidates, k=[1, 2])
    >>> print({name: float(value) for name, value in pass_at_k.items()})
    {'pass@1': 0.5, 'pass@2': 1.0}
"""

_CITATION = """\
@article{chen2021evaluating,
  title={Evaluating Large Language Models Trained on Code},
  author={Mark Chen and Jerry Tworek and Heewoo Jun and Qiming Yuan and others},
  journal={arXiv preprint arXiv:2107.03374},
  year={2021}
}
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _KWARGS_DESCRIPTION)
class CodeEval(evaluate.Metric):
    """The metric; `compute` is described above."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features(
                {"predictions": datasets.Sequence(datasets.Value("string")), "references": datasets.Value("string")}
            ),
            homepage="https://arxiv.org/abs/2107.03374",
            reference_urls=["https://arxiv.org/abs/2107.03374"],
            license="Apache-2.0",
        )

    def _compute(  # pyright: ignore[reportIncompatibleMethodOverride] - as all metrics do
        self,
        predictions: Sequence[Sequence[str]],
        references: Sequence[str],
        k: Sequence[int] = (1, 10, 100),
        num_workers: int = 4,
        timeout: float = 3.0,
        memory: int = 1 << 30,
        mode: str = "isolated",
        **sandbox,
    ) -> tuple[dict[str, numpy.float64], dict[int, list[tuple[int, dict]]]]:
        check_counts(num_workers=num_workers, **{f"k[{place}]": number for place, number in enumerate(k)})
        places = [(task, number) for task, samples in enumerate(predictions) for number in range(len(samples))]
        if not places or not all(map(len, predictions)):
            raise ValueError("predictions must have at least one program for each task: there is nothing to judge.")
        programs = (Program(predictions[task][number], references[task]) for task, number in places)
        results: dict[int, list[tuple[int, dict]]] = defaultdict(list)
        # As in evaluate's metric, a program is not a script: its `if __name__ == "__main__":` blocks do not run.
        with Sandbox(mode, num_workers, timeout, memory=memory, **{"main": False, **sandbox}) as workers:
            for result in workers.run(programs):
                task, number = places[result.index]
                results[task].append((number, describe(result, task, number)))
        # Where the sandbox failed, nothing is known of the program.
        judged = [[entry["outcome"] != "sandbox_error" for _, entry in entries] for entries in results.values()]
        total = numpy.array([sum(known) for known in judged])
        correct = numpy.array([sum(entry["passed"] for _, entry in entries) for entries in results.values()])
        pass_at_k = {f"pass@{n}": estimate_pass_at_k(total, correct, n).mean() for n in k if (total >= n).all()}
        return pass_at_k, results


def describe(result: Result, task: int, number: int) -> dict:
    """One program's entry in `results`."""
    return {
        "task_id": task,
        "passed": result.passed,
        "result": wording(result),
        "completion_id": number,
        "outcome": result.outcome,
        "detail": result.detail,
        "cpu_seconds": result.cpu_seconds,
        "wall_seconds": result.wall_seconds,
        "peak_memory": result.peak_memory,
        "remarks": list(result.remarks),
    }


def wording(result: Result) -> str:
    """The words of evaluate's code_eval: "passed", "timed out", or "failed: " with the error's message."""
    if result.passed:
        return "passed"
    if result.outcome in ("timeout", "cpu_limit"):
        return "timed out"
    if result.outcome in ("failed", "error", "syntax_error"):
        return f"failed: {result.detail.partition(': ')[2]}"
    return f"failed: {result.outcome}"


def estimate_pass_at_k(total: numpy.ndarray, correct: numpy.ndarray, k: int) -> numpy.ndarray:
    """The unbiased estimate of pass@k for each task.

    total, correct: (tasks,) int, samples and those that passed; the result is (tasks,) float64.
    """

    return numpy.array([pass_at(k, int(n), int(c)) for n, c in zip(total, correct, strict=True)])
