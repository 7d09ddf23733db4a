"""Step 2: seeds -> concepts. The model names the coding concepts that each seed function demonstrates.

Paper: section 2.1 and appendix C.1. For each seed, 8 worked examples are drawn from a pool, and the model continues the
prompt with a comma-separated list of concepts. The next step writes its task from these concepts rather than from the
seed itself, which makes the tasks more diverse (Table 10: 65.2 versus 59.8 on HumanEval+).

    python generate_concepts.py ./seeds ./concepts --endpoint http://127.0.0.1:8080

Columns in:  id, content; ids are made where there are none, and --column content=func_source reads another column

Columns out: those of the input, and

    seed_id        id of the seed; `id` is now the id of this row
    concepts       list of strings; null if none could be read
    prompt_hash    hash of the prompt that was sent
    finish_reason  why generation ended
    error          null, or why later steps cannot use the row: no_concepts, prompt_too_long, unfinished (the answer
                   ended while the model was still thinking); of seeds that no step collected, also no_python,
                   no_javascript and no_function, for which the model is not asked
    concepts_reasoning    with --reasoning keep: what the model wrote before its answer; null if nothing

Seeds without content, and with an error that says why, are counted and left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfalign.code.javascript import check_parser
from selfalign.data.javascript_seeds import fault_of_javascript
from selfalign.data.languages import check_examples, check_language, prompt_file
from selfalign.data.seeds import fault_of_seed
from selfalign.ids import content_id, draws_of
from selfalign.llm.endpoint import Endpoint
from selfalign.llm.prompts import TRIED, check_prompt, draw_examples, load_examples, load_prompt, warn_if_alike
from selfalign.options import (
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

STOP = ["\n", "## Example", "###"]
COLUMNS = {"seed_id": str, "concepts": list[str], "prompt_hash": str, "finish_reason": str, "error": str}
MAX_CONCEPT_CHARACTERS = 100  # anything longer is prose


@dataclass(frozen=True, kw_only=True)
class Options(LanguageOptions, GenerationOptions, StepOptions):
    """Options of this step; the defaults are the paper's."""

    shots: CountOrZero = 8
    """Number of worked examples in each prompt (paper, C.1)."""

    max_new_tokens: Count = 128
    """Maximum length of the answer, in tokens."""

    template: Path = field(default=PROMPTS / "concepts.jinja", metadata=OPERATIONAL)
    """Jinja template of the prompt. `{% set stop = ["## Example"] %}` in it says where an answer ends."""


def parse_concepts(text: str, cut_off: bool = False) -> list[str]:
    """The distinct concepts in a comma-separated line. Those too long to be a concept are left out, and so is the last
    one if the line was `cut_off`."""
    concepts = [concept.strip(" \t\n.`*-") for concept in text.split(",")[: -1 if cut_off else None]]
    return list(dict.fromkeys(c for c in concepts if c and len(c) <= MAX_CONCEPT_CHARACTERS))


def main(options: Options) -> None:
    """Draw worked examples for each seed, and have the model name its concepts."""
    examples = load_examples(prompt_file(options.examples, options.language))
    check_examples([shot.language for shot in examples.pool], options.examples, options.language)
    prompt = load_prompt(prompt_file(options.template, options.language), examples)
    check_prompt(options, prompt, examples)
    seeds = read_input(options, "id", *sorted(prompt.columns))
    check_language(seeds, options.language)
    tried = usable_rows(seeds, TRIED)
    warn_if_alike(prompt, tried, shots=examples.pool[: options.shots])
    endpoint = Endpoint(options)

    def prompt_for(seed: dict[str, Any]) -> tuple[str, int]:
        draws = draws_of(options.seed, seed["id"])
        return prompt.render(row=seed, shots=draw_examples(draws, examples, options.shots)), draws.getrandbits(31)

    kept = {"concepts_reasoning": str} if options.reasoning == "keep" else {}
    columns = COLUMNS | kept
    is_checked = bool(seeds.run) or "content" not in prompt.columns  # seeds of step 1 are functions
    if not is_checked and options.language == "javascript":
        check_parser()
    fault_of = fault_of_seed if options.language == "python" else fault_of_javascript

    async def concepts_of(seed: dict[str, Any]) -> dict[str, Any] | Done:
        if seed.get("error") and any(seed[name] is None for name in prompt.columns):
            return Done([], {seed["error"]: 1})
        if not is_checked and (fault := fault_of(seed["content"])):
            unasked = dict.fromkeys(columns) | {"id": content_id(seed["id"], fault), "seed_id": seed["id"]}
            return seed | unasked | {"error": fault}
        text, sampling_seed = prompt_for(seed)
        answer = await endpoint.generate(
            text, max_new_tokens=options.max_new_tokens, seed=sampling_seed, stop=prompt.stop or STOP
        )
        concepts = parse_concepts(answer.text, answer.is_cut_off)
        return seed | {
            "id": content_id(seed["id"], answer.text),
            "seed_id": seed["id"],
            "concepts": concepts or None,
            "prompt_hash": content_id(text),
            "finish_reason": answer.finish_reason,
            "error": None if concepts else answer.failure("no_concepts"),
            **dict.fromkeys(kept, answer.reasoning),
        }

    endpoint.check_room([prompt_for(row)[0] for row in tried], options.max_new_tokens)
    run_step(options, Table(seeds, concepts_of, columns, count_by="error"), endpoint=endpoint, prompts=prompt.hash)


if __name__ == "__main__":
    run_script(main, Options, __doc__)
