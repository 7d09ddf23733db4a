"""Step 4: tasks -> responses. For each task, several responses are sampled from the model, each with its own tests.

Paper: section 2.3 and appendix C.1. After one worked example, the model writes response and tests as one completion,
which is then split at the heading "Tests". The next step runs each response against its tests.

    python sample_responses.py ./tasks ./responses --endpoint http://127.0.0.1:8080 --samples 10

Columns in:  id, instruction, and perhaps language

Columns out: those of the input, and

    task_id           id of the task; `id` is now the id of this sample
    sample            number of the sample, from 0
    completion        what the model wrote, unchanged but for its reasoning
    response, tests   the two parts of the completion; null if missing. With --trim-tests, those that were cut off end
                      with the last whole test, as a block of their own
    generated_tokens  length of the completion, in tokens
    prompt_hash, finish_reason    as in step 2
    error             null, or why the sample cannot be executed: no_code, no_tests, unfinished, prompt_too_long,
                      copied_example (its code or tests are those of a worked example)
    reasoning         with --reasoning keep: what the model wrote before its answer; null if nothing
    language          "javascript", with --language javascript

Tasks with an error are counted and left out. Where the tasks are instructions, what they say of their own responses,
such as pass_rate, becomes null.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfalign.code.markdown import code_blocks, split_at_heading
from selfalign.data.copies import copies, copies_code
from selfalign.data.cut_off import tests_before_cut
from selfalign.data.languages import check_examples, check_language, code_in, prompt_file
from selfalign.ids import content_id, draws_of
from selfalign.llm.completion import UNFINISHED
from selfalign.llm.endpoint import Endpoint
from selfalign.llm.prompts import (
    TRIED,
    Examples,
    check_prompt,
    draw_examples,
    load_examples,
    load_prompt,
    warn_if_alike,
)
from selfalign.options import (
    LATER,
    OPERATIONAL,
    PROMPTS,
    Count,
    CountOrZero,
    GenerationOptions,
    Language,
    LanguageOptions,
    StepOptions,
    run_script,
)
from selfalign.runner.source import Source, read_input, usable_rows
from selfalign.runner.step import run_step
from selfalign.runner.table import Done, Table

TESTS_HEADING = "### Tests"
# Where the layout of the reference implementation has tags instead of headings (prompts/reference/responses.jinja).
TAGS = re.compile(r"^(?P<response>.*?)\s*</response>\s*<tests>(?P<tests>.*?)(</tests>.*)?\Z", re.DOTALL)
STOP = ["\n## Example", "\n### Task", "\n### Response", "</tests>"]
# The space before a part; not that right before a fence, by which the lines of its block are indented, too.
SPACE_BEFORE = re.compile(r"\A(\s*\n)?(\s*(?!\s|```|~~~))?")
CUT_HEADING = re.compile(r"\s*^#+[^\n]*\Z", re.MULTILINE)  # at which, or right after which, the text was cut
COLUMNS = {
    "task_id": str,
    "sample": int,
    "completion": str,
    "response": str,
    "tests": str,
    "generated_tokens": int,
    "prompt_hash": str,
    "finish_reason": str,
    "error": str,
}

# What later steps and `--reasoning keep` say of a response: tasks that were instructions have it of another one.
OF_A_RESPONSE = (
    *("program", "outcome", "passed", "detail", "seconds", "vacuous", "mutation_score"),
    *("messages", "shown_tests", "pass_rate", "judged_samples", "reasoning"),
    *("attempt_id", "attempt", "attempt_outcome", "attempt_detail", "feedback", "explanation"),
)


@dataclass(frozen=True, kw_only=True)
class Options(LanguageOptions, GenerationOptions, StepOptions):
    """Options of this step; the defaults are the paper's."""

    samples: Count = 10
    """Number of responses per task (StarCoder2-Instruct, in the paper's appendix A, uses 10)."""

    shots: CountOrZero = 1
    """Number of worked examples in each prompt (paper, C.1)."""

    max_new_tokens: Count = 1024
    """Maximum length of a response with its tests, in tokens. Together with the prompt, the paper's context is about
    3000 tokens (section 6)."""

    similar_shots: bool = field(default=False, metadata=LATER)
    """Draw worked examples of the task's own category first, nearest in difficulty. Helps small models."""

    trim_tests: bool = field(default=False, metadata=LATER)
    """Where an answer is cut off in its tests, leave out the test in which it ends instead of the whole answer. The
    paper has no such rule."""

    template: Path = field(default=PROMPTS / "responses.jinja", metadata=OPERATIONAL)
    """Jinja template of the prompt. `{% set stop = ["## Example"] %}` in it says where an answer ends."""


def split_completion(completion: str, language: Language = "python") -> tuple[str | None, str | None, str | None]:
    """Split a completion into response and tests, and say what is wrong with it (None if both contain a closed block in
    the language)."""
    tagged = TAGS.match(completion)
    response, tests = tagged.group("response", "tests") if tagged else split_at_heading(completion, TESTS_HEADING)
    response = SPACE_BEFORE.sub("", response.rstrip()) or None
    tests = CUT_HEADING.sub("", SPACE_BEFORE.sub("", tests.rstrip())) if tests else None
    if any(not block.closed for block in code_blocks(completion)):
        return response, tests, UNFINISHED
    if not response or code_in(response, language) is None:
        return response, tests, "no_code"
    return response, tests, None if tests and code_in(tests, language) else "no_tests"


def is_copied(response: str, tests: str, examples: Examples) -> bool:
    """Whether the tests or the code are those of a worked example."""
    pool = examples.pool
    return copies(tests, [shot.tests for shot in pool]) or copies_code(response, [shot.response for shot in pool])


def said_of_responses(tasks: Source) -> dict[str, None]:
    """The columns of OF_A_RESPONSE that the tasks have from being executed, as nulls."""
    executed = any(entry["step"] == "execute" for entry in tasks.run.get("funnel", ()))
    return {name: None for name in OF_A_RESPONSE if executed and name in tasks.rows.column_names}


def main(options: Options) -> None:
    """Sample responses with tests for each task, and split each completion into the two."""
    examples = load_examples(prompt_file(options.examples, options.language))
    check_examples([shot.language for shot in examples.pool], options.examples, options.language)
    prompt = load_prompt(prompt_file(options.template, options.language), examples)
    check_prompt(options, prompt, examples)
    like = ("category", "difficulty") if options.similar_shots else ()
    tasks = read_input(options, "id", *sorted(prompt.columns), *like)
    check_language(tasks, options.language)
    tried = usable_rows(tasks, TRIED)
    warn_if_alike(prompt, tried, shots=examples.pool[: options.shots])
    endpoint = Endpoint(options, samples_a_row=options.samples)
    kept = {"reasoning": str} if options.reasoning == "keep" else {}
    # Rows without a language are Python's, so only the other one has to be said.
    language = {} if options.language == "python" else {"language": options.language}
    forgotten = said_of_responses(tasks)

    def prompt_for(task: dict[str, Any]) -> tuple[str, int]:
        draws = draws_of(options.seed, task["id"])
        shots = draw_examples(draws, examples, options.shots, like=task if options.similar_shots else None)
        return prompt.render(row=task, shots=shots), draws.getrandbits(31)

    async def responses_to(task: dict[str, Any]) -> Done:
        if task.get("error"):
            return Done([], {f"task_{task['error']}": options.samples})
        text, sampling_seed = prompt_for(task)
        answers = await endpoint.sample(
            text, options.samples, max_new_tokens=options.max_new_tokens, seed=sampling_seed, stop=prompt.stop or STOP
        )
        rows, trimmed = [], 0
        for number, answer in enumerate(answers):
            response, tests, error = split_completion(answer.text, options.language)
            can_trim = error == UNFINISHED and options.trim_tests
            if can_trim and (whole := tests_before_cut(response, tests, options.language)):
                tests, error, trimmed = whole, None, trimmed + 1
            if response and tests and is_copied(response, tests, examples):
                error = error or "copied_example"
            sample = {
                "id": content_id(task["id"], number, answer.text),
                "task_id": task["id"],
                "sample": number,
                "completion": answer.text,
                "response": response,
                "tests": tests,
                "generated_tokens": answer.generated_tokens,
                "prompt_hash": content_id(text),
                "finish_reason": answer.finish_reason,
                "error": error and answer.failure(error),
                **dict.fromkeys(kept, answer.reasoning),
                **language,
            }
            rows.append(task | forgotten | sample)
        return Done(rows, {"trimmed": trimmed} if trimmed else {})

    endpoint.check_room([prompt_for(row)[0] for row in tried], options.max_new_tokens)
    run_step(
        options,
        Table(tasks, responses_to, COLUMNS | kept | dict.fromkeys(language, str), count_by="error"),
        endpoint=endpoint,
        prompts=prompt.hash,
    )


if __name__ == "__main__":
    run_script(main, Options, __doc__)
