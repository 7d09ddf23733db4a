"""Direct distillation: the same instructions, with the responses of a stronger model.

Paper: section 4, Table 11. GPT-4o answers the instructions of SelfCodeAlign's own dataset greedily; nothing is executed
and nothing is filtered. Any chat endpoint can be the teacher.

    python -m experiments.baselines.distill ./instructions ./distilled \\
        --endpoint https://router.huggingface.co/v1 --model ID

Columns in:  id, instruction

Columns out:

    id                     hash of the instruction's id and the response
    task_id                id of the input row
    instruction, response
    license                the value of --license: the teacher's terms
    prompt_hash, finish_reason, generated_tokens

Responses that are empty or were cut off are counted and left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfalign.ids import content_id, draws_of
from selfalign.llm.endpoint import Endpoint
from selfalign.llm.prompts import TRIED, Examples, load_prompt
from selfalign.options import (
    LATER,
    OPERATIONAL,
    PROMPTS,
    Count,
    PositiveOrZero,
    StepOptions,
    TeacherOptions,
    run_script,
)
from selfalign.runner.source import read_input, usable_rows
from selfalign.runner.step import run_step
from selfalign.runner.table import Done, Table

COLUMNS = {
    **{name: str for name in ("id", "task_id", "instruction", "response", "license", "prompt_hash", "finish_reason")},
    "generated_tokens": int,
}


@dataclass(frozen=True, kw_only=True)
class Options(TeacherOptions, StepOptions):
    """Options of this step; the defaults are the paper's."""

    temperature: PositiveOrZero = 0.0
    """Sampling temperature (paper, Table 11: 0)."""

    max_new_tokens: Count = 1024
    """Maximum length of a response, in tokens. Fine-tuning cuts it at 1280, together with the instruction."""

    shown_tests: bool = field(default=False, metadata=LATER)
    """Ask what the student of the input reads, which is the instruction and, in some rows, tests that the code has to
    pass (column messages). By default, the instruction alone."""

    template: Path = field(default=PROMPTS / "distill.jinja", metadata=OPERATIONAL)
    """Jinja template of the prompt, which is the instruction unchanged."""


def main(options: Options) -> None:
    """Have the teacher answer every instruction."""
    prompt = load_prompt(options.template, Examples([]))
    messages = ("messages",) if options.shown_tests else ()
    instructions = read_input(options, "id", *prompt.columns | {"instruction"}, *messages)
    endpoint = Endpoint(options)
    kept = {"reasoning": str} if options.reasoning == "keep" else {}

    async def answer_to(row: dict[str, Any]) -> Done:
        if options.shown_tests:
            row = row | {"instruction": row["messages"][0]["content"]}
        text = prompt.render(row=row)
        seed = draws_of(options.seed, row["id"]).getrandbits(31)
        answer = await endpoint.generate(text, max_new_tokens=options.max_new_tokens, seed=seed)
        response = answer.text.strip()
        if not response or answer.is_cut_off:
            return Done([], {answer.failure("unfinished" if response else "empty"): 1})
        ids = {"id": content_id(row["id"], response), "task_id": row["id"]}
        texts = {"instruction": row["instruction"], "response": response, "license": options.license}
        how = {"finish_reason": answer.finish_reason, "generated_tokens": answer.generated_tokens}
        how |= dict.fromkeys(kept, answer.reasoning)
        return Done([ids | texts | how | {"prompt_hash": content_id(text)}], {"ok": 1})

    prompts = [prompt.render(row=row) for row in usable_rows(instructions, TRIED)]
    endpoint.check_room(prompts, options.max_new_tokens)
    run_step(
        options, Table(instructions, answer_to, COLUMNS | kept, carry=False), endpoint=endpoint, prompts=prompt.hash
    )


if __name__ == "__main__":
    run_script(main, Options, __doc__)
