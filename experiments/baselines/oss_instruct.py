"""OSS-Instruct with any teacher, who writes a coding problem inspired by a random snippet, and its solution.

Paper: section 4, Table 11, where the official dataset is used (published.py). The method is that of Magicoder
(arXiv:2312.02120): the teacher sees a snippet of 1 to 15 lines and greedily writes problem and solution in one answer.

    python -m experiments.baselines.snippets bigcode/the-stack-dedup ./snippets --max-samples 80000
    python -m experiments.baselines.oss_instruct ./snippets ./instructions --endpoint URL --model ID

Columns in:  id, content

Columns out:

    id                     hash of the snippet's id and the answer
    seed_id                id of the snippet
    instruction, response  problem and solution, as the teacher wrote them
    license                the value of --license: the teacher's terms
    prompt_hash, finish_reason, generated_tokens

Answers that lack a heading or a code block, or were cut off, are counted and left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfalign.code.markdown import code_blocks, split_at_heading
from selfalign.ids import content_id, draws_of
from selfalign.llm.endpoint import Endpoint
from selfalign.llm.prompts import TRIED, Examples, load_prompt
from selfalign.options import OPERATIONAL, PROMPTS, Count, PositiveOrZero, StepOptions, TeacherOptions, run_script
from selfalign.runner.source import read_input, usable_rows
from selfalign.runner.step import run_step
from selfalign.runner.table import Done, Table

PROBLEM_HEADING, SOLUTION_HEADING = "## Problem", "## Solution"
COLUMNS = {
    **{name: str for name in ("id", "seed_id", "instruction", "response", "license", "prompt_hash", "finish_reason")},
    "generated_tokens": int,
}


@dataclass(frozen=True, kw_only=True)
class Options(TeacherOptions, StepOptions):
    """Options of this step; the defaults are Magicoder's."""

    temperature: PositiveOrZero = 0.0
    """Sampling temperature (Magicoder: greedy decoding)."""

    max_new_tokens: Count = 2048
    """Maximum length of an answer, a problem with its solution, in tokens."""

    template: Path = field(default=PROMPTS / "oss_instruct.jinja", metadata=OPERATIONAL)
    """Jinja template of the prompt."""


def split_answer(answer: str) -> tuple[str | None, str | None, str | None]:
    """The problem and the solution in an answer, and what is wrong with it, None if nothing is."""
    _, rest = split_at_heading(answer, PROBLEM_HEADING)
    problem, solution = split_at_heading(rest or "", SOLUTION_HEADING)
    if not problem.strip():
        return None, None, "no_problem"
    if not solution or not code_blocks(solution):
        return problem.strip(), None, "no_solution"
    if not all(block.closed for block in code_blocks(solution)):
        return problem.strip(), solution.strip(), "unfinished"
    return problem.strip(), solution.strip(), None


def main(options: Options) -> None:
    """Have the teacher write a problem and its solution for each snippet."""
    prompt = load_prompt(options.template, Examples([]))
    snippets = read_input(options, "id", *prompt.columns)
    endpoint = Endpoint(options)
    kept = {"reasoning": str} if options.reasoning == "keep" else {}

    async def pair_from(snippet: dict[str, Any]) -> Done:
        text = prompt.render(row=snippet)
        seed = draws_of(options.seed, snippet["id"]).getrandbits(31)
        answer = await endpoint.generate(text, max_new_tokens=options.max_new_tokens, seed=seed)
        problem, solution, error = split_answer(answer.text)
        if error or answer.is_cut_off:
            return Done([], {answer.failure(error or "unfinished"): 1})
        ids = {"id": content_id(snippet["id"], answer.text), "seed_id": snippet["id"]}
        texts = {"instruction": problem, "response": solution, "license": options.license}
        how = {"finish_reason": answer.finish_reason, "generated_tokens": answer.generated_tokens}
        how |= dict.fromkeys(kept, answer.reasoning)
        return Done([ids | texts | how | {"prompt_hash": content_id(text)}], {"ok": 1})

    prompts = [prompt.render(row=row) for row in usable_rows(snippets, TRIED)]
    endpoint.check_room(prompts, options.max_new_tokens)
    run_step(options, Table(snippets, pair_from, COLUMNS | kept, carry=False), endpoint=endpoint, prompts=prompt.hash)


if __name__ == "__main__":
    run_script(main, Options, __doc__)
