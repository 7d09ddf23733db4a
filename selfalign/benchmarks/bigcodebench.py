"""BigCodeBench (arXiv:2406.15877): 1,140 functions to write that call 139 libraries; 148 of them are "hard".

`bigcodebench-complete` and `bigcodebench-hard-complete` show a function's signature and its long docstring;
`bigcodebench-instruct` and `bigcodebench-hard-instruct` say in prose what it has to do, for chat models. `--release`
chooses among the states of the data; the newest one is the default.

As in its own evaluation ("calibrated"), the imports and the signature of the problem stand before each answer, so that
one without them can pass, and all tests of a problem are run by unittest in a module of their own. The programs need
packages of 2024, for which `python -m selfalign.benchmarks.harness.environment bigcodebench-complete` makes an
environment. Some tests use the network, which the sandbox does not have: results.json lists in `no_network` the
problems with samples that failed for want of it, as far as their errors say so.
"""

from __future__ import annotations

from typing import ClassVar

from code_eval.sandbox import Program
from selfalign.benchmarks.harness.benchmark import Benchmark, Problem, Style
from selfalign.benchmarks.harness.functions import FunctionBenchmark, code_defining, needed_code, spaced
from selfalign.benchmarks.harness.packages import NO_NETWORK
from selfalign.benchmarks.harness.problems import records

FIELDS = ("task_id", "complete_prompt", "instruct_prompt", "canonical_solution", "code_prompt", "test", "entry_point")

# The code and its tests are one module, and not the main one: tests may end with `unittest.main()` in a block for that.
# They begin in an empty folder of their own, which is not the one for temporary files. An error may have several lines,
# of which the first ones say what it is.
TESTS = """import contextlib, io, os, re, sys, tempfile, types, unittest

def _said(text):
    error = re.search(r"^\\S.*", text.rpartition("Traceback (most recent call last):\\n")[2], re.DOTALL | re.MULTILINE)
    return " ".join(error[0].split())[:300] if error else ""

_module = types.ModuleType("__test__")
_module.__dict__.update(__file__="__test__.py", __package__=None, sys=sys, os=os, environ=os.environ)
sys.modules["__test__"] = _module
_result = unittest.TestResult()
os.chdir(tempfile.mkdtemp())
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    exec(compile(CODE + "\\n" + {test!r}, "__test__.py", "exec"), _module.__dict__)
    unittest.defaultTestLoader.loadTestsFromTestCase(_module.TestCases).run(_result)
_faults = [_said(text) for _, text in _result.failures + _result.errors]
_first = next((text for text in _faults if re.search({network!r}, text)), _faults[0] if _faults else "no test")
assert _result.testsRun and not _faults, f"{{len(_faults)}} of {{_result.testsRun}}: {{_first}}"
"""


class BigCodeBench(FunctionBenchmark):
    """The variant is the set and the style of its prompts."""

    variants = ("complete", "instruct", "hard-complete", "hard-instruct")
    releases: ClassVar = ("v0.1.0_hf", "v0.1.1", "v0.1.2", "v0.1.3", "v0.1.4")
    release = "v0.1.4"
    max_new_tokens = 1280  # the benchmark's own script
    completion_stop = (*FunctionBenchmark.completion_stop, "\nfrom ")

    timeout = 240.0  # the benchmark's own script
    memory = 8 << 30  # address space, of which tensorflow reserves a lot
    disk = 1 << 30  # many tests write files, and the benchmark's own evaluation does not limit them
    requirements, pythons = "bigcodebench", ("3.10",)
    preload = ("numpy", "pandas", "scipy.stats", "sklearn")
    environment = {  # noqa: RUF012
        "TZ": "UTC",
        "OMP_NUM_THREADS": "1",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "0",
        "CUDA_VISIBLE_DEVICES": "-1",
        "MPLBACKEND": "Agg",
    }
    download = (
        "import nltk, sys\n"
        "for name in ('punkt', 'stopwords', 'wordnet', 'words', 'averaged_perceptron_tagger', 'vader_lexicon'):\n"
        "    nltk.download(name, sys.argv[1] + '/nltk_data', quiet=True) or sys.exit(f'nltk can not download {name}')\n"
    )

    def __init__(self, variant: str | None = None) -> None:
        super().__init__(variant)
        subset, _, self.style = (variant or "complete").rpartition("-")
        self.dataset = f"bigcode/bigcodebench{'-hard' if subset else ''}@main"  # resolved to a commit, and recorded

    def problems(self, data: str | None = None) -> list[Problem]:
        """The problems of one set, in order; `canonical_solution` is the whole function, without its docstring."""
        return [
            Problem(
                task_id=row["task_id"],
                prompt=row[f"{self.style}_prompt"],
                entry_point=row["entry_point"],
                canonical_solution=f"{row['code_prompt'].rstrip()}\n{row['canonical_solution']}",
                test=row["test"],
                extra={"head": row["code_prompt"], "task": row["task_id"]},  # the functions all have the same name
            )
            for row in records(data or self.dataset, split=self.release, needs=FIELDS)
        ]

    def completion_prompt(self, problem: Problem) -> str:
        """Signature and docstring; after an instruction, a code block with the signature."""
        if self.style == "complete":
            return super().completion_prompt(problem)
        return f"{problem.prompt.strip()}\n\n```python\n{problem.extra['head'].strip()}"

    def chat_prompt(self, problem: Problem) -> str:
        """The instruction, which says how the code has to begin, or the function to complete."""
        if self.style == "complete":
            return super().chat_prompt(problem)
        return (
            "Solve this problem in Python. Answer with one code block that holds all of the code, with its imports.\n\n"
            f"{problem.prompt.strip()}"
        )

    reference_prompt = Benchmark.reference_prompt  # the paper's reference implementation does not measure it

    def code(self, problem: Problem, answer: str, style: Style) -> str:
        """The imports and the signature that were given, and the answer's imports and what its function needs."""
        code = answer
        if style != "solution":
            answer = spaced(answer)
            if style == "chat":
                code = code_defining(problem.entry_point, answer)
            else:
                start = self.completion_prompt(problem) if self.style == "complete" else problem.extra["head"].strip()
                code = start + ("" if answer.startswith("\n") else "\n") + answer
            code = needed_code(code, problem.entry_point)
        return f"{problem.extra['head'].rstrip()}\n    pass\n{code}"

    def program(self, problem: Problem, answer: str, style: Style) -> Program:
        """The code as a string, and the tests as another, which make a module together."""
        code = self.code(problem, answer, style)
        return Program(f"CODE = {code!r}", TESTS.format(test=problem.test, network=NO_NETWORK))
