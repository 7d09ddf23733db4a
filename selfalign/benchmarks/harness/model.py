"""The model that a benchmark measures: how a problem becomes the prompt that it sees, and what is its answer."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

from selfalign.benchmarks.harness.benchmark import FIRST_ANSWER, Benchmark, Problem, Row
from selfalign.benchmarks.harness.judging import Judge
from selfalign.llm.chat_template import ChatTemplate
from selfalign.llm.completion import Completion
from selfalign.llm.endpoint import Endpoint
from selfalign.options import GenerationOptions


class Model:
    """The model behind the server of `options`.

    Chat models are asked through `template`; without one, the server has messages and applies its own. The beginning of
    the answer (`Benchmark.beginning`) is given to them where there is a template, unless the model thinks before it
    answers: then it would stand in the reasoning, or take its place.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        options: GenerationOptions,
        *,
        style: Literal["completion", "chat"],
        max_new_tokens: int,
        template: ChatTemplate | None = None,
    ) -> None:
        self.benchmark, self.max_new_tokens, self.template = benchmark, max_new_tokens, template
        self.style: Literal["completion", "chat"] = style
        self.thinks = template is not None and template.thinks
        self.stop = tuple(benchmark.completion_stop if style == "completion" else ())
        if template and not self.thinks:
            self.stop = tuple(benchmark.chat_stop)
        self.endpoint = Endpoint(options)

    async def answer(self, problem: Problem, draws: random.Random, judge: Judge, first: str | None = None) -> Row:
        """The columns of the answer to a problem, and of its verdict; `first` is the first answer if it is known.

        An answer that fails may be revised once, if the benchmark lets it.
        """
        prompts: list[str] = []
        generations: list[Completion] = []
        beginning = self.benchmark.beginning(problem) if self.template and not self.thinks else ""

        async def ask(prompt: str, stop: Sequence[str] | None = None) -> str:
            prompts.append(self.template(prompt) + beginning if self.template else prompt)
            generation = await self.endpoint.generate(
                prompts[-1],
                max_new_tokens=self.max_new_tokens,
                seed=draws.getrandbits(31),
                stop=self.stop if stop is None else stop,
            )
            generations.append(generation)
            return beginning + generation.text

        answer = await self.benchmark.answer(problem, ask, self.style) if first is None else beginning + first
        is_unfinished = bool(generations) and all(generation.in_reasoning for generation in generations)
        verdict = await judge(problem, None if is_unfinished else answer, self.style)
        if not verdict["passed"] and not is_unfinished:
            revised = await self.benchmark.revise(problem, answer, verdict, ask, self.style)
            if revised is not None:
                checks = [{"name": FIRST_ANSWER, "outcome": verdict["outcome"]}]
                judged = None if generations[-1].in_reasoning else revised
                answer, verdict = revised, await judge(problem, judged, self.style) | {"checks": checks}
        return verdict | {
            "prompt": "\n\n".join(prompts),
            "completion": answer.removeprefix(beginning),
            "reasoning": "\n\n".join(filter(None, (generation.reasoning for generation in generations))) or None,
            "generated_tokens": sum(generation.generated_tokens for generation in generations),
            "finish_reason": generations[-1].finish_reason if generations else None,
        }
