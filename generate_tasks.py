"""Step 3: concepts -> tasks. The model writes a coding task from the concepts, a kind of program and a difficulty.

Paper: section 2.2 and appendix C.1. Category, difficulty and 8 worked examples are drawn for each row. With
`--template prompts/tasks_from_seed.jinja`, the input is the seeds themselves and the task is written from their code:
the ablation "seed -> instruction" of Table 10.

    python generate_tasks.py ./concepts ./tasks --endpoint http://127.0.0.1:8080

Columns in:  id, concepts (or whichever columns the template uses)

Columns out: those of the input, and

    concepts_id    id of the concepts; `id` is now the id of this row
    category, language, difficulty    what was asked for
    instruction    the task; null if none was written
    prompt_hash, finish_reason        as in step 2
    error          null, or why later steps cannot use the row: no_instruction, unfinished, prompt_too_long,
                   copied_example (it is the task of a worked example)
    instruction_reasoning    with --reasoning keep: what the model wrote before the task; null if nothing

Input rows with an error are counted and left out.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfalign.data.copies import copies
from selfalign.data.languages import check_examples, check_language, prompt_file
from selfalign.errors import UserError
from selfalign.ids import content_id, draws_of
from selfalign.llm.endpoint import Endpoint
from selfalign.llm.prompts import (
    TRIED,
    Examples,
    check_prompt,
    draw_examples,
    in_words_of,
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
    LanguageOptions,
    StepOptions,
    run_script,
)
from selfalign.runner.source import read_input, usable_rows
from selfalign.runner.step import run_step
from selfalign.runner.table import Done, Table

STOP = ["## Example", "\n###", "\n[Response]"]
# Functions are twice as likely, because most seeds and benchmark problems are functions.
CATEGORIES = ("function", "function", "class", "program")
DIFFICULTIES = ("easy", "medium", "hard")
COLUMNS: dict[str, type] = dict.fromkeys(
    ("concepts_id", "category", "language", "difficulty", "instruction", "prompt_hash", "finish_reason", "error"), str
)


@dataclass(frozen=True, kw_only=True)
class Options(LanguageOptions, GenerationOptions, StepOptions):
    """Options of this step; the defaults are the paper's."""

    shots: CountOrZero = 8
    """Number of worked examples in each prompt (paper, C.1)."""

    max_new_tokens: Count = 512
    """Maximum length of a task, in tokens; a longer one counts as unfinished."""

    categories: tuple[str, ...] = CATEGORIES
    """Kinds of program to draw from. One that is listed twice is twice as likely."""

    difficulties: tuple[str, ...] = DIFFICULTIES
    """Difficulties to draw from (paper, 2.2)."""

    similar_shots: bool = field(default=False, metadata=LATER)
    """Draw worked examples of the task's own category first, nearest in difficulty. Helps small models."""

    template: Path = field(default=PROMPTS / "tasks.jinja", metadata=OPERATIONAL)
    """Jinja template of the prompt. `{% set stop = ["## Example"] %}` in it says where an answer ends."""


def check_properties(options: Options, examples: Examples) -> None:
    """UserError if a kind of program or a difficulty is none of the paper's and none of a worked example."""
    for option, names, known in (
        ("--categories", options.categories, {*CATEGORIES, *(example.category for example in examples.pool)}),
        ("--difficulties", options.difficulties, {*DIFFICULTIES, *(example.difficulty for example in examples.pool)}),
    ):
        if not names:
            raise UserError(f"{option} needs at least one name")
        if unknown := [name for name in names if name not in known]:
            raise UserError(
                f"{option} {unknown[0]} is none of {', '.join(sorted(known))}: names are separated by spaces, and a "
                "new one needs a worked example in --examples"
            )


def draw_properties(draws: random.Random, options: Options, examples: Examples) -> dict[str, str]:
    """The kind of task to ask for, in the words of the worked examples (paper, 2.2: category and difficulty are drawn
    at random)."""
    drawn = {
        "category": draws.choice(options.categories),
        "language": options.language,
        "difficulty": draws.choice(options.difficulties),
    }
    return {column: in_words_of(examples, column, name) for column, name in drawn.items()}


def main(options: Options) -> None:
    """Draw properties and worked examples for each row, and have the model write the task."""
    examples = load_examples(prompt_file(options.examples, options.language))
    check_examples([shot.language for shot in examples.pool], options.examples, options.language)
    check_properties(options, examples)
    prompt = load_prompt(prompt_file(options.template, options.language), examples)
    check_prompt(options, prompt, examples)
    concepts = read_input(options, "id", *sorted(prompt.columns))
    check_language(concepts, options.language)
    tried = usable_rows(concepts, TRIED)
    properties = draw_properties(random.Random(options.seed), options, examples)
    warn_if_alike(prompt, tried, shots=examples.pool[: options.shots], **properties)
    endpoint = Endpoint(options)
    kept = {"instruction_reasoning": str} if options.reasoning == "keep" else {}

    def prompt_for(row: dict[str, Any]) -> tuple[str, dict[str, str], int]:
        draws = draws_of(options.seed, row["id"])
        properties = draw_properties(draws, options, examples)
        shots = draw_examples(draws, examples, options.shots, like=properties if options.similar_shots else None)
        text = prompt.render(row=row, shots=shots, **properties)
        return text, properties, draws.getrandbits(31)

    async def task_of(row: dict[str, Any]) -> dict[str, Any] | Done:
        if row.get("error"):
            return Done([], {row["error"]: 1})
        text, properties, sampling_seed = prompt_for(row)
        answer = await endpoint.generate(
            text, max_new_tokens=options.max_new_tokens, seed=sampling_seed, stop=prompt.stop or STOP
        )
        instruction = answer.text.strip()
        error = None if instruction else answer.failure("no_instruction")
        if instruction and copies(instruction, [example.instruction for example in examples.pool]):
            error = "copied_example"
        task = {
            "id": content_id(row["id"], instruction),
            "concepts_id": row["id"],
            "instruction": instruction or None,
            "prompt_hash": content_id(text),
            "finish_reason": answer.finish_reason,
            "error": error or ("unfinished" if answer.is_cut_off else None),
            **dict.fromkeys(kept, answer.reasoning),
        }
        return row | properties | task

    endpoint.check_room([prompt_for(row)[0] for row in tried], options.max_new_tokens)
    run_step(
        options, Table(concepts, task_of, COLUMNS | kept, count_by="error"), endpoint=endpoint, prompts=prompt.hash
    )


if __name__ == "__main__":
    run_script(main, Options, __doc__)
