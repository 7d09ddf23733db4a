"""Step 8: model -> results. pass@k of a model on a benchmark, with every sample that the number was computed from.

Paper: section 3. Greedy decoding, one sample a problem, at most 512 new tokens (EvalPlus). Base models continue the
prompt (`--prompt-style completion`), instruction-tuned ones are asked through their chat template (`chat`).

    python benchmark.py ./runs/out/model ./results                    # a model folder: served for the time it takes
    python benchmark.py http://127.0.0.1:8080 ./results               # an endpoint

Columns out:

    id, task_id, sample    problem and number of the sample
    prompt, completion     what was sent, and what came back
    program, outcome, passed, detail, seconds    as in execute.py
    generated_tokens, finish_reason

`results.json` beside them has pass@k, the counts of outcomes, decoding, model and versions.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import tyro

from selfalign.options import OPERATIONAL, GenerationOptions, StepOptions, UserError, run_script

COLUMNS = {
    **{
        name: str for name in ("id", "task_id", "prompt", "completion", "program", "outcome", "detail", "finish_reason")
    },
    **{"sample": int, "generated_tokens": int, "passed": bool, "seconds": float},
}
PASS_AT = (1, 10, 100)


@dataclass(frozen=True, kw_only=True)
class Options(StepOptions):
    """Options of this step; the defaults are the paper's."""

    input: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")] = field(metadata=OPERATIONAL)
    """What to benchmark: the URL of a text-generation-inference endpoint, or a model folder or Hub id."""

    benchmark: Literal["humaneval"] = "humaneval"
    """Which problems."""

    data: str | None = None
    """A file of problems in the benchmark's own format, instead of the published ones."""

    prompt_style: Literal["completion", "chat"] = "completion"
    """Continue the prompt (base models), or ask through the chat template (instruction-tuned models)."""

    samples: int = 1
    """Answers a problem."""

    temperature: float = 0.0
    """Sampling temperature; 0 is greedy decoding."""

    top_p: float | None = None
    """Nucleus sampling: keep the likeliest tokens up to this probability."""

    max_new_tokens: int = 512
    """Longest answer, in tokens (EvalPlus: 512)."""

    timeout: float = 10.0
    """Processor seconds that a program may use."""

    tokenizer: str | None = None
    """Whose chat template to use, where MODEL is an endpoint: a model folder or Hub id."""

    sandboxes: int = field(default_factory=lambda: os.cpu_count() or 1, metadata=OPERATIONAL)
    """Programs that run at a time."""


def chat_template_of(name: str) -> Any:
    """The function from what a user asks to the text that the model is given."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(name)
    if not tokenizer.chat_template:
        raise UserError(f"the tokenizer of {name} has no chat template: use --prompt-style completion")

    def prompt_of(question: str) -> str:
        turns = [{"role": "user", "content": question}]
        return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)

    return prompt_of


def summarize(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """pass@k over the problems of `rows` (which have `task_id`, `passed`, `outcome`), and how the samples ended."""
    from selfalign.benchmarks import pass_at_k

    verdicts = defaultdict(list)
    for row in rows:
        verdicts[row["task_id"]].append(row["passed"])
    least = min(len(passed) for passed in verdicts.values())
    scores = {
        f"pass@{k}": sum(pass_at_k(len(passed), sum(passed), k) for passed in verdicts.values()) / len(verdicts)
        for k in PASS_AT
        if k <= least
    }
    return scores | {
        "problems": len(verdicts),
        "samples": len(rows),
        "passed": sum(row["passed"] for row in rows),
        "outcomes": dict(Counter(row["outcome"] for row in rows).most_common()),
    }


def main(options: Options) -> None:
    """Ask the model for answers to every problem, run them, and compute pass@k."""
    import contextlib

    from selfalign.endpoints import served
    from selfalign.small_model import resolve_model

    with contextlib.ExitStack() as stack:
        if options.input.startswith(("http://", "https://")):
            url, tokenizer, fingerprint = options.input, options.tokenizer, None
        else:
            model = resolve_model(options.input)
            tokenizer, fingerprint = options.tokenizer or model, model_fingerprint(model)
            url = stack.enter_context(served(model))
        if options.prompt_style == "chat" and not tokenizer:
            raise UserError("--prompt-style chat of an endpoint needs --tokenizer, whose chat template is used")
        run(options, url, tokenizer, fingerprint)


def model_fingerprint(model: str) -> str | None:
    """A hash of a model folder's files, so that another model under the same path is noticed; None for a Hub id."""
    from pathlib import Path

    from fsspec.implementations.local import LocalFileSystem

    from selfalign.datasets_io import fingerprint

    files = sorted(str(path) for path in Path(model).glob("*") if path.suffix in (".json", ".safetensors", ".jinja"))
    return fingerprint(LocalFileSystem(), str(Path(model)), files) if files else None


def run(options: Options, url: str, tokenizer: str | None, fingerprint: str | None) -> None:
    """Generate, execute and score, with the model behind `url`."""
    import asyncio
    import json

    import datasets

    from code_eval.sandbox import Program, Sandbox, SandboxUnavailable
    from selfalign.benchmarks import load_benchmark
    from selfalign.datasets_io import Source, open_source
    from selfalign.endpoints import Endpoint
    from selfalign.steps import RowOpen, draws_of, run_step
    from selfalign.writing import open_output

    benchmark = load_benchmark(options.benchmark)
    problems = {problem.task_id: problem for problem in benchmark.problems(options.data)}
    endpoint = Endpoint(GenerationOptions(endpoint=url, temperature=options.temperature, top_p=options.top_p))
    ask = chat_template_of(str(tokenizer)) if options.prompt_style == "chat" else None
    stop = () if ask else benchmark.COMPLETION_STOP

    async def sample_of(row: dict[str, Any]) -> dict[str, Any]:
        problem = problems[row["task_id"]]
        prompt = ask(benchmark.chat_prompt(problem)) if ask else benchmark.completion_prompt(problem)
        seed = draws_of(options.seed, row["id"]).getrandbits(31)
        answer = await endpoint.generate(prompt, max_new_tokens=options.max_new_tokens, seed=seed, stop=stop)
        code, tests = benchmark.program(problem, answer.text, options.prompt_style)
        result = await asyncio.wrap_future(sandbox.submit(Program(code=code, tests=tests)))
        if result.outcome == "sandbox_error":
            raise RowOpen(f"the sandbox failed: {result.detail}")
        return row | {
            "prompt": prompt,
            "completion": answer.text,
            "program": f"{code}\n\n{tests}",
            "outcome": result.outcome,
            "passed": result.passed,
            "detail": result.detail or None,
            "seconds": result.cpu_seconds,
            "generated_tokens": answer.generated_tokens,
            "finish_reason": answer.finish_reason,
        }

    rows = [
        {"id": f"{task_id}/{number}", "task_id": task_id, "sample": number}
        for task_id in problems
        for number in range(options.samples)
    ]
    source = Source(options.input, {"fingerprint": fingerprint or endpoint.model}, datasets.Dataset.from_list(rows), {})
    try:
        sandbox = Sandbox(workers=options.sandboxes, timeout=options.timeout)
    except SandboxUnavailable as error:
        raise UserError(str(error)) from None
    with sandbox:
        run_json = run_step(options, source, sample_of, COLUMNS, endpoint=endpoint, count_by="outcome")

    columns = ["task_id", "passed", "outcome", "generated_tokens"]
    samples = open_source(options.output, token=options.hf_token).rows.select_columns(columns).to_list()
    results = summarize(samples) | run_json["identity"] | {"versions": run_json["versions"]}
    with open_output(options.output, public=options.public, token=options.hf_token) as output:
        output.commit(lambda read, parts: {"results.json": json.dumps(results, indent=2)}, final=True)
    for name in (name for name in results if name.startswith("pass@")):
        print(f"{options.benchmark} {name}: {100 * results[name]:.1f} % ({results['passed']} of {results['samples']})")


if __name__ == "__main__":
    run_script(main, Options, __doc__)
