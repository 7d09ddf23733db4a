"""Whether a server does what it is asked: a probe before the run, and an eye on the answers during it.

Seen in servers that say they speak the interface: one greedy text whatever temperature, seed and `n` are asked for
(`transformers serve`), a crash on a request with a seed (vLLM's CPU build), stop sequences that are missed (TGI).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from selfalign.llm.clients import Busy, Generation, Refused, Request, Server, ServerFault, Unfit
from selfalign.options import GenerationOptions

# Any model finds many ways to go on from here, so two samples at temperature 1 that are equal were not drawn.
PROBE = "Here are forty random digits, each drawn by rolling a die with ten sides: "
PROBE_TOKENS = 16
TELLING_TOKENS = 8  # equal samples shorter than this prove nothing
MIN_ANSWERS = 50  # before the answers are judged
EMPTY_IN_A_ROW = 20
NEARLY_ALL = 0.95
EQUAL_PROMPTS = 5  # prompts all of whose samples are equal


async def probe(server: Server, options: GenerationOptions) -> list[str]:
    """Try out a server that has described itself; the remarks are what the user should know.

    A few requests of 16 tokens: whether it generates, whether two samples at temperature 1 differ, whether a seed
    brings back the same text, and whether `n` and seeds are taken (`server.takes_n`, `server.takes_seeds`).

    Raises:
        ServerFault: it does not answer.
        Unfit: it refuses the request, or does not sample though `options` want samples.
    """
    sampled = options.temperature > 0
    request = Request(PROBE, PROBE_TOKENS, seed=1, temperature=1.0 if sampled else 0.0)
    remarks: list[str] = []
    try:
        if not sampled:
            first, second = [(await server.complete(request))[0] for _ in range(2)]
            same = first.text == second.text
            return (
                []
                if same
                else ["two greedy answers to one prompt differ: it ignores the temperature, or rounding does"]
            )
        takes_seeds, server.takes_seeds = server.takes_seeds, False if server.takes_n else server.takes_seeds
        drawn = await server.complete(replace(request, n=2 if server.takes_n else 1))
        if len(drawn) == 1:
            server.takes_n = False
            drawn += await server.complete(replace(request, seed=2))
        server.takes_seeds = takes_seeds
        if takes_seeds:
            remarks += await _try_seeds(server, request)
    except Busy:
        return ["it is busy: not tried out"]
    except Refused as error:
        raise Unfit(f"{server.url} refuses a request: {error}") from None
    if drawn[0].text == drawn[1].text and min(answer.generated_tokens for answer in drawn) >= TELLING_TOKENS:
        raise Unfit(
            f"{server.url} gives the same text twice at temperature 1 ({drawn[0].text[:30]!r}): it ignores the "
            "temperature, or a cache stands before it; its samples would all be one (`transformers serve` does this)"
        )
    return remarks


async def _try_seeds(server: Server, request: Request) -> list[str]:
    """Ask twice with one seed; a server that fails on it, or dies of it, is asked without seeds from then on."""
    try:
        texts = {(await server.complete(request))[0].text for _ in range(2)}
    except Busy:
        return []
    except ServerFault as fault:
        server.takes_seeds = False
        return [f"it fails on a request with a seed ({fault}): asked without; samples can't be repeated"]
    return ["the same seed does not bring back the same text"] if len(texts) > 1 else []


class Suspicions:
    """Says once, with the likely cause, when the answers look as if something were wrong."""

    def __init__(self, temperature: float) -> None:
        self.sampled = temperature > 0
        self.answers = self.lengths = self.empty_in_a_row = self.several = self.equal = 0
        self.said: set[str] = set()

    def look_at(self, samples: Sequence[Generation]) -> None:
        """The samples of one prompt."""
        for sample in samples:
            self.answers += 1
            self.lengths += sample.finish_reason == "length"
            self.empty_in_a_row = 0 if sample.text.strip() or sample.failure("") else self.empty_in_a_row + 1
        if len(samples) > 1 and samples[0].generated_tokens >= TELLING_TOKENS:
            self.several += 1
            self.equal += len({sample.text for sample in samples}) == 1
        if self.empty_in_a_row >= EMPTY_IN_A_ROW:
            self._say(
                "empty",
                f"the last {self.empty_in_a_row} answers are empty: does the prompt end where the model can go on "
                "(no trailing space, the chat template), or does a stop sequence begin every answer?",
            )
        if self.answers >= MIN_ANSWERS and self.lengths >= NEARLY_ALL * self.answers:
            self._say(
                "length",
                f"{self.lengths} of {self.answers} answers were cut off by --max-new-tokens: the model finds no end "
                "(are the stop sequences honoured, is it the model that the prompt is for?), or the limit is too low",
            )
        if self.sampled and self.equal >= EQUAL_PROMPTS and 2 * self.equal > self.several:
            self._say(
                "equal",
                f"all samples of a prompt are equal for {self.equal} of {self.several} prompts: the server ignores "
                "temperature or seed, or a cache answers in its place",
            )

    def _say(self, kind: str, sentence: str) -> None:
        from tqdm import tqdm

        if kind not in self.said:
            self.said.add(kind)
            tqdm.write(f"warning: {sentence}", file=sys.stderr)
