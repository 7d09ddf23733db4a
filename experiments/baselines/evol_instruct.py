"""Evol-Instruct with any teacher, who makes instructions harder round by round and answers each of them.

Paper: section 4, Table 11, where a published dataset of this kind is used (published.py). The method is that of
WizardCoder (arXiv:2306.08568): it starts from the 20k instructions of Code Alpaca, and in each of three rounds makes
every instruction harder in one of five ways.

    python -m experiments.baselines.evol_instruct sahil2801/CodeAlpaca-20k ./instructions --endpoint URL --model ID

Columns in:  instruction, and input if there is one

Columns out:

    id                     hash of the instruction and the response
    instruction, response
    round, way             how often it was made harder (0: not at all), and in which way the last time
    license                the value of --license: the teacher's terms
    prompt_hash, finish_reason, generated_tokens    of the response

An instruction that comes back empty, cut off, unchanged or as a refusal of the teacher ends its chain of rounds.
Responses that are empty, were cut off or are refusals are left out. All of these are counted.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfalign.ids import content_id, draws_of
from selfalign.llm.endpoint import Completion, Endpoint
from selfalign.llm.prompts import TRIED, Examples, load_prompt
from selfalign.options import (
    OPERATIONAL,
    PROMPTS,
    Count,
    CountOrZero,
    PositiveOrZero,
    ShareAboveZero,
    StepOptions,
    TeacherOptions,
    run_script,
)
from selfalign.runner.source import read_input, usable_rows
from selfalign.runner.step import run_step
from selfalign.runner.table import Done, Table

REFUSAL_WORDS = 80  # "sorry" in fewer words than these (Evol-Instruct, arXiv:2304.12244, 3.2)
# The five ways of WizardCoder, section 3.1; prompts/evolve.jinja has a sentence for each.
WAYS = ("constraint", "rarer_requirement", "more_steps", "misleading_code", "complexity")
COLUMNS = {
    **{name: str for name in ("id", "instruction", "response", "way", "license", "prompt_hash", "finish_reason")},
    **{"round": int, "generated_tokens": int},
}


@dataclass(frozen=True, kw_only=True)
class Options(TeacherOptions, StepOptions):
    """Options of this step; the defaults are WizardCoder's where they are published."""

    temperature: PositiveOrZero = 1.0
    """Sampling temperature (Evol-Instruct, arXiv:2304.12244: 1)."""

    top_p: ShareAboveZero | None = 0.9
    """Nucleus sampling (Evol-Instruct: 0.9)."""

    rounds: CountOrZero = 3
    """How often an instruction is made harder (WizardCoder: 3)."""

    max_new_tokens: Count = 2048
    """Maximum length of an instruction or a response, in tokens (Evol-Instruct: 2048)."""

    template: Path = field(default=PROMPTS / "evolve.jinja", metadata=OPERATIONAL)
    """Jinja template of the request for a harder instruction; it sees `instruction` and `way`."""


def first_instruction(row: dict[str, Any]) -> str:
    """The instruction of a row, with its input below it (Alpaca's format)."""
    return "\n\n".join(text.strip() for text in (row["instruction"], row.get("input")) if text and text.strip())


def is_refusal(text: str) -> bool:
    """Whether the teacher refuses instead of answering (the rule of Evol-Instruct, section 3.2)."""
    return "sorry" in text.lower() and len(text.split()) < REFUSAL_WORDS


def main(options: Options) -> None:
    """Have the teacher answer each instruction, make it harder, answer the result, and so on."""
    prompt = load_prompt(options.template, Examples([]))
    seeds = read_input(options, "instruction")
    endpoint = Endpoint(options)
    kept = {"reasoning": str} if options.reasoning == "keep" else {}

    async def ask(text: str, draws: random.Random) -> Completion:
        return await endpoint.generate(text, max_new_tokens=options.max_new_tokens, seed=draws.getrandbits(31))

    async def chain_of(row: dict[str, Any]) -> Done:
        instruction, way = first_instruction(row), None
        draws = draws_of(options.seed, content_id(instruction))
        rows, counts = [], Counter[str]()
        for number in range(options.rounds + 1):
            if number:
                way = draws.choice(WAYS)
                harder = await ask(prompt.render(instruction=instruction, way=way), draws)
                if is_refusal(harder.text):
                    counts["refused"] += 1
                    break
                if harder.is_cut_off or harder.text.strip() in ("", instruction):
                    counts[harder.failure("no_harder_instruction")] += 1
                    break
                instruction = harder.text.strip()
            answer = await ask(instruction, draws)
            response = answer.text.strip()
            if is_refusal(response):
                counts["refused"] += 1
                continue
            if not response or answer.is_cut_off:
                counts[answer.failure("response_unfinished" if response else "no_response")] += 1
                continue
            texts = {"instruction": instruction, "response": response, "license": options.license}
            how = {"finish_reason": answer.finish_reason, "generated_tokens": answer.generated_tokens}
            how |= dict.fromkeys(kept, answer.reasoning)
            ids = {"id": content_id(instruction, response), "prompt_hash": content_id(instruction)}
            rows.append(ids | texts | how | {"round": number, "way": way})
        if rows:
            counts["ok"] = len(rows)
        return Done(rows, dict(counts))

    instructions = [first_instruction(row) for row in usable_rows(seeds, TRIED)]
    prompts = [prompt.render(instruction=instruction, way=WAYS[0]) for instruction in instructions]
    endpoint.check_room(prompts, options.max_new_tokens)
    run_step(options, Table(seeds, chain_of, COLUMNS | kept, carry=False), endpoint=endpoint, prompts=prompt.hash)


if __name__ == "__main__":
    run_script(main, Options, __doc__)
