"""Repair: executions -> repairs. The model explains what is wrong with its failures and mends them.

Not in the paper; after LeDex (arXiv 2405.18649). A failing sample is run once more with tests that tell which assertion
fails and what the value is instead. The model sees the task, the attempt, its tests and what these say, and writes an
explanation and the whole code again. The next steps treat the result like any response: it is run against the same
tests, and select.py makes of what passes a conversation, whose last turn is what finetune.py trains on.

    python repair.py ./executions ./repairs --samples 2
    python execute.py ./repairs ./mended
    python select.py ./mended ./conversations
    python finetune.py ./conversations ./model

Columns in:  id, task_id, instruction, response, tests, passed; if present, outcome, detail, pass_rate; language, if the
             rows are in JavaScript

Columns out: those of the input, and

    attempt_id, attempt    id of the failing sample and its response; `id` and `response` are now the repair's
    attempt_outcome, attempt_detail    how the attempt ended; outcome and detail say so, too, until execute.py has run
    feedback               what the tests say of the attempt, in a sentence
    sample                 number of the repair, from 0
    completion             what the model wrote, unchanged
    explanation, response  its two parts; null if missing
    pass_rate, judged_samples    of the task's samples, as in select.py
    generated_tokens, prompt_hash, finish_reason    as in step 4
    error                  null, or why the repair is not run: no_code, no_explanation, unfinished, prompt_too_long;
                           unchanged (the attempt again), hard_coded (it holds the tests' inputs and outputs)
    reasoning              with --reasoning keep: what the model wrote before its answer; null if nothing

`tests` are the attempt's: what the model writes as tests is never run. Whether they are right is not known; see
docs/repair.md for what that means, and --judge for tests that a task's samples agree on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from code_eval.sandbox import Sandbox, SandboxUnavailable
from selfalign.code import feedback, javascript_feedback
from selfalign.code.javascript import check_parser
from selfalign.data.agreement import result_in
from selfalign.data.consensus import agreed_executions
from selfalign.data.languages import code_in, language_of, languages_in, programs_of, prompt_file
from selfalign.data.repairs import failures_of, fault_of_repair, split_answer
from selfalign.data.selection import RATE_COLUMNS, Sample, has_pass_rates, read_samples, tasks_of
from selfalign.data.verification import has_old_verdicts
from selfalign.errors import UserError
from selfalign.ids import content_id, draws_of
from selfalign.llm.completion import Completion
from selfalign.llm.endpoint import Endpoint
from selfalign.llm.prompts import TRIED, PromptTemplate, Repair, check_prompt, load_examples, load_prompt
from selfalign.options import (
    OPERATIONAL,
    PROMPTS,
    Count,
    CountOrZero,
    GenerationOptions,
    Language,
    Positive,
    SandboxOptions,
    StepOptions,
    run_script,
)
from selfalign.runner.source import Source, read_input
from selfalign.runner.step import run_step
from selfalign.runner.table import Done, Removed, Table

NEEDED = ("id", "task_id", "instruction", "response", "tests", "passed")
FEEDBACK = {"python": feedback, "javascript": javascript_feedback}
STOP = ["\n## Example", "\n### Task", "\n### Attempt", "\n### Tests"]
COLUMNS = {
    **dict.fromkeys(("attempt_id", "attempt", "attempt_outcome", "attempt_detail", "feedback"), str),
    "sample": int,
    "completion": str,
    "explanation": str,
    "response": str,
    "generated_tokens": int,
    "prompt_hash": str,
    "finish_reason": str,
    "error": str,
}

Row = dict[str, Any]
Told = Callable[[Row], Awaitable[str]]


@dataclass(frozen=True, kw_only=True)
class Options(GenerationOptions, SandboxOptions, StepOptions):
    """Options of this step."""

    samples: Count = 2
    """Number of repairs of each failure."""

    failures: tuple[Literal["failed", "error", "timeout"], ...] = ("failed", "error", "timeout")
    """Which failures to mend: those with a wrong value, those that end with another error, those that do not end."""

    attempts_per_task: Count | None = None
    """Maximum number of failures of each task to mend, drawn at random. By default, all."""

    judge: Literal["own-tests", "consensus"] = "own-tests"
    """What a failure is: a sample that fails its own tests, or one that fails those that most samples of the task agree
    on (as in select.py --strategy consensus), which are then the tests of the repair, too. Own tests are often wrong
    themselves."""

    shots: CountOrZero = 3
    """Number of worked examples in each prompt."""

    max_new_tokens: Count = 512
    """Maximum length of an explanation with the mended code, in tokens."""

    timeout: Positive = 10.0
    """CPU seconds that a program may use."""

    memory: Count = 1024
    """Memory that a program may use, in MiB."""

    examples: Path = field(default=PROMPTS / "repairs.yaml", metadata=OPERATIONAL)
    """Worked examples, in YAML. For rows in JavaScript, they and the template are by default those in
    prompts/javascript/."""

    template: Path = field(default=PROMPTS / "repair.jinja", metadata=OPERATIONAL)
    """Jinja template of the prompt. `{% set stop = ["## Example"] %}` in it says where an answer ends."""


def language_asked(options: Options) -> Language:
    """The language of the rows, which is that of the prompt; UserError if there are several."""
    language, *others = languages_in(read_input(options, *NEEDED))
    if others:
        raise UserError(f"{options.input} has rows in {language} and {others[0]}: give it one language at a time")
    if language == "javascript":
        check_parser()
    return "javascript" if language == "javascript" else "python"


def judged(options: Options) -> tuple[Source, list[Sample], dict[str, int]]:
    """The executions, judged as --judge says, their samples, and why how many rows are none; UserError if they have not
    run, and are to be judged by how they ended."""
    executions = read_input(options, *NEEDED)
    if options.judge == "own-tests" and has_old_verdicts(executions.run):
        raise UserError(
            f"{options.input} has responses that have not run yet, so what its rows say is not said of them: "
            "run execute.py on it first"
        )
    samples, unusable = read_samples(executions)
    if options.judge == "consensus":
        limits = {"timeout": options.timeout, "memory": options.memory << 20}
        tasks = list(tasks_of(samples).values())
        executions = agreed_executions(options, executions, tasks, options.sandboxes, **limits)
        samples, unusable = read_samples(executions)
    return executions, samples, unusable


def failing_rows(options: Options) -> tuple[Source, dict[str, Sample], Removed]:
    """The failures to mend as a source, their samples by id, and what was left out; UserError if there are none."""
    executions, samples, unusable = judged(options)
    chosen, left_out = failures_of(samples, options.failures, options.attempts_per_task, options.seed)
    left_out = {why: number for why, number in (unusable | left_out).items() if number}
    if not chosen:
        why = ", ".join(f"{number} {name}" for name, number in left_out.items())
        raise UserError(f"{options.input} has no failure to mend ({why})")
    # Progress is recorded by position in this table, so a different choice is a different run.
    pin = executions.pin | {"attempts": content_id(*(sample.id for sample in chosen))}
    rows = executions.rows.select([sample.position for sample in chosen])
    return replace(executions, rows=rows, pin=pin), {sample.id: sample for sample in chosen}, Removed(left_out)


async def feedback_from(sandbox: Sandbox, row: Row) -> str:
    """What the tests of a failing row say when they run once more, or what was recorded if they tell nothing."""
    code, tests = programs_of(row)
    asked = FEEDBACK[language_of(row)]
    result = await result_in(sandbox, code, asked.telling(tests) or tests)
    if result.passed:  # now, perhaps by chance
        return recorded(row)
    return asked.feedback_of(result.outcome, result.detail)


def recorded(row: Row) -> str:
    """What is known of a failing row without running it."""
    return FEEDBACK[language_of(row)].feedback_of(row.get("outcome") or "failed", row.get("detail"))


def to_repair(row: Row, number: int, answer: Completion, said: str) -> Row:
    """A failing row and the model's answer as a repair."""
    language = language_of(row)
    explanation, response, error = split_answer(answer.text, language)
    code, tests = programs_of(row)
    if response and not error:
        error = fault_of_repair(code, code_in(response, language) or "", tests, language)
    return row | {
        "id": content_id(row["id"], number, answer.text),
        "attempt_id": row["id"],
        "attempt": row["response"],
        "attempt_outcome": row.get("outcome") or "failed",
        "attempt_detail": row.get("detail"),
        "feedback": said,
        "sample": number,
        "completion": answer.text,
        "explanation": explanation,
        "response": response,
        "generated_tokens": answer.generated_tokens,
        "finish_reason": answer.finish_reason,
        "error": error and answer.failure(error),
    }


def tried_prompts(prompt: PromptTemplate, failures: Source, shots: list[Any]) -> list[str]:
    """The prompts of the first failures, with what was recorded of them in place of feedback."""
    rows = failures.rows.select(range(min(TRIED, len(failures)))).to_list()
    return [prompt.render(row=row, shots=shots, feedback=recorded(row)) for row in rows]


def main(options: Options) -> None:
    """Have the model explain and mend each failure, several times."""
    language = language_asked(options)
    examples = load_examples(prompt_file(options.examples, language), Repair)
    prompt = load_prompt(prompt_file(options.template, language), examples)
    check_prompt(options, prompt, examples)
    shots = examples.pool[: options.shots]  # the same for all, so that a server computes this part of the prompt once
    try:
        limits = {"timeout": options.timeout, "memory": options.memory << 20}
        sandbox = Sandbox(workers=options.sandboxes, language=language, **limits)
    except (SandboxUnavailable, ValueError) as error:
        raise UserError(str(error)) from None
    with sandbox:
        # What is wrong with the server is said before consensus takes its time.
        endpoint = Endpoint(options, samples_a_row=options.samples)
        failures, samples, removed = failing_rows(options)
        rates = {} if has_pass_rates(failures) else RATE_COLUMNS
        keeps = options.reasoning == "keep"
        # That of the attempt would be taken for the repair's.
        reasoning = {"reasoning": str} if keeps or "reasoning" in failures.rows.column_names else {}

        async def repairs_of(row: Row) -> Done:
            said = await feedback_from(sandbox, row)
            text = prompt.render(row=row, shots=shots, feedback=said)
            sampling_seed = draws_of(options.seed, row["id"]).getrandbits(31)
            answers = await endpoint.sample(
                text,
                options.samples,
                max_new_tokens=options.max_new_tokens,
                seed=sampling_seed,
                stop=prompt.stop or STOP,
            )
            known = {name: getattr(samples[row["id"]], name) for name in rates} | {"prompt_hash": content_id(text)}
            return Done(
                [
                    to_repair(row, number, answer, said)
                    | known
                    | dict.fromkeys(reasoning, answer.reasoning if keeps else None)
                    for number, answer in enumerate(answers)
                ]
            )

        endpoint.check_room(tried_prompts(prompt, failures, shots), options.max_new_tokens)
        table = Table(failures, repairs_of, COLUMNS | rates | reasoning, count_by="error")
        run_step(options, table, endpoint=endpoint, prompts=prompt.hash, removed=removed)


if __name__ == "__main__":
    run_script(main, Options, __doc__)
