"""Does a server do what it is asked to do? It is probed before the run, and its answers are watched during the run.

Servers that claim to speak an interface have been seen to return one greedy text whatever the temperature, seed and `n`
(`transformers serve`), to crash on requests with a seed (vLLM's CPU build), and to miss stop sequences (TGI).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from selfalign.errors import tell
from selfalign.llm.client import Busy, Client, RequestRefused, ServerFault, Unfit
from selfalign.llm.completion import Completion, CompletionRequest
from selfalign.options import GenerationOptions

# Texts that can go on in many ways. A model that is sure of itself may still continue one of them in one way only:
# Qwen2.5-Coder-0.5B-Instruct writes "1, 2, 3, 4, 5, 6" for the digits. So one pair of equal samples proves nothing.
PROBES = (
    "Here are forty random digits, each drawn by rolling a die with ten sides: ",
    "Once upon a time, in a strange city,",
    "Nobody could have guessed what was in the box: ",
    "A list of unusual names for a boat:\n",
)
PROBE_TOKENS = 16
SHORT_QUESTION, SHORT_ANSWER_TOKENS = "Reply with the word yes, and with nothing else.", 256  # some think first
# Of an --api, and the one to try instead.
ROUTES = {"completions": ("/v1/completions", "chat"), "chat": ("/v1/chat/completions", "completions")}
HOT = 2.0  # a temperature at which even a confident model varies; the highest that OpenAI's interface takes
CERTAIN = 5.0  # nats for all probes: a text that is likelier than this comes twice by itself
TELLING_TOKENS = 8  # equal samples shorter than this prove nothing
MIN_SAMPLES = 50  # before their lengths are judged
EMPTY_IN_A_ROW = 20
NEARLY_ALL = 0.95
EQUAL_PROMPTS = 5  # prompts whose samples are all equal


async def probe(client: Client, options: GenerationOptions) -> list[str]:
    """Probe a server that has described itself. Returns remarks that the user should see.

    A few requests of 16 tokens find out whether it generates, whether samples of a prompt differ, whether a seed
    reproduces a text, and whether it takes `n` and seeds (`client.takes_n`, `client.takes_seeds`); if need be, one of
    256 whether its model thinks before it answers.

    Raises:
        ServerFault: it does not answer.
        Unfit: it refuses the request, or does not sample although `options` ask for sampling.
    """
    sampled = options.temperature > 0
    request = CompletionRequest(PROBES[0], PROBE_TOKENS, seed=1, temperature=1.0 if sampled else 0.0)
    try:
        if sampled:
            return [*await _probe_sampling(client, request), *await _probe_reasoning(client)]
        first, second = [(await client.ask(request))[0].whole for _ in range(2)]
        remark = "two greedy answers to the same prompt differ: the server ignores the temperature, or rounding varies"
        return [*([] if first == second else [remark]), *await _probe_reasoning(client)]
    except Busy:
        return ["it is busy, so it was not tested"]
    except RequestRefused as error:
        if error.kind == "404" and options.api != "tgi":
            route, other = ROUTES[options.api]
            raise Unfit(
                f"{client.url} does not find what is asked of {route} ({error}): if it has no {route}, use --api tgi "
                f"or --api {other}"
            ) from None
        raise Unfit(f"{client.url} refuses a request: {error}") from None


async def _probe_sampling(client: Client, request: CompletionRequest) -> list[str]:
    # Without seeds where `n` is taken: a server that dies of a seed is to fail on the next request and not on this one.
    takes_seeds, client.takes_seeds = client.takes_seeds, client.takes_seeds and not client.takes_n
    try:
        equal = await _equal_samples(client, request)
    finally:
        client.takes_seeds = takes_seeds
    remarks = await _probe_seeds(client, request) if takes_seeds else []
    if not equal:
        return remarks
    pairs = [equal]
    for prompt in PROBES[1:]:
        equal = await _equal_samples(client, replace(request, prompt=prompt, temperature=HOT))
        if not equal:
            return remarks  # a confident model
        pairs.append(equal)
    logprobs = [completion.logprob for completion in pairs]
    if None not in logprobs and -sum(filter(None, logprobs)) < CERTAIN:
        return [*remarks, "its model is so sure of every token that equal samples tell nothing about the temperature"]
    raise Unfit(
        f"{client.url} gives the same text twice for {len(pairs)} different prompts, even at temperature {HOT:g} "
        f"({pairs[0].whole[:30]!r}): it ignores the temperature, or there is a cache in front of it. All samples of a "
        "prompt would be the same (`transformers serve` does this)"
    )


async def _probe_reasoning(client: Client) -> list[str]:
    """Have one whole answer, from which the client sees whether the model thinks, if it can't know otherwise."""
    if not client.may_open_reasoning:
        return []
    request = CompletionRequest(SHORT_QUESTION, SHORT_ANSWER_TOKENS, seed=1)
    (answer, *_) = await client.ask(request)
    if not answer.is_cut_off or answer.reasoning is not None:
        return []
    return [
        f"it needs more than {SHORT_ANSWER_TOKENS} tokens to say yes ({answer.text[:30]!r}): if its model thinks "
        "before it answers, start the server with its parser for reasoning, or the reasoning is taken for the answer"
    ]


async def _equal_samples(client: Client, request: CompletionRequest) -> Completion | None:
    """One of two samples of a prompt if they are equal, and long enough for that to tell something."""
    samples = await (_samples_at_once(client, request) if client.takes_n else client.ask(request))
    if len(samples) == 1:
        samples += await client.ask(replace(request, seed=2))
    first, second = samples[:2]
    telling = min(first.generated_tokens, second.generated_tokens) >= TELLING_TOKENS
    return first if first.whole == second.whole and telling else None


async def _samples_at_once(client: Client, request: CompletionRequest) -> list[Completion]:
    """Two samples from one request, or one where the server does not take `n`, which is noted."""
    try:
        samples = await client.ask(replace(request, n=2))
    except ServerFault as fault:
        if not (isinstance(fault, RequestRefused) or fault.kind == "500"):  # llama.cpp answers 500
            raise
        samples = await client.ask(request)
    client.takes_n = len(samples) > 1
    return samples


async def _probe_seeds(client: Client, request: CompletionRequest) -> list[str]:
    """Send the same seed twice. A server that fails or crashes on it gets no seeds from then on."""
    try:
        texts = {(await client.ask(request))[0].whole for _ in range(2)}
    except Busy:
        return []
    except ServerFault as fault:
        client.takes_seeds = False
        return [f"it fails on requests with a seed ({fault}), so none are sent; samples cannot be reproduced"]
    return ["the same seed does not give the same text again"] if len(texts) > 1 else []


class Suspicions:
    """Warns once about each kind of suspicious answers, and names the likely cause."""

    def __init__(self, temperature: float) -> None:
        self.sampled = temperature > 0
        self.samples = self.cut_off = self.empty_in_a_row = self.thoughts_in_a_row = 0
        self.prompts_with_several = self.prompts_with_equal = 0
        self.warned: set[str] = set()

    def look_at(self, samples: Sequence[Completion]) -> None:
        """Note the samples of one prompt."""
        for sample in samples:
            self.samples += 1
            self.cut_off += sample.finish_reason == "length" and not sample.in_reasoning
            self.thoughts_in_a_row = self.thoughts_in_a_row + 1 if sample.in_reasoning else 0
            self.empty_in_a_row = 0 if sample.text.strip() or sample.failure("") else self.empty_in_a_row + 1
        if len(samples) > 1 and samples[0].generated_tokens >= TELLING_TOKENS:
            self.prompts_with_several += 1
            self.prompts_with_equal += len({sample.whole for sample in samples}) == 1
        if self.empty_in_a_row >= EMPTY_IN_A_ROW:
            self._warn(
                "empty",
                f"the last {self.empty_in_a_row} answers are empty: check that the model can continue from the end of "
                "the prompt (no trailing space, the right chat template), and that no answer begins with a stop "
                "sequence",
            )
        if self.thoughts_in_a_row >= EMPTY_IN_A_ROW:
            self._warn(
                "in reasoning",
                f"the last {self.thoughts_in_a_row} answers ended while the model was still thinking, so there is "
                "nothing to use in them: raise --max-new-tokens, or turn the thinking off, for many models with "
                "--chat-template-kwargs enable_thinking=false (if it is off, start the server without its reasoning "
                "parser, which takes everything for reasoning)",
            )
        if self.samples >= MIN_SAMPLES and self.cut_off >= NEARLY_ALL * self.samples:
            self._warn(
                "cut off",
                f"{self.cut_off} of {self.samples} answers were cut off by --max-new-tokens: either the limit is too "
                "low or the model does not stop (does the server honour stop sequences, and is the prompt meant for "
                "this model?)",
            )
        equal, several = self.prompts_with_equal, self.prompts_with_several
        if self.sampled and equal >= EQUAL_PROMPTS and 2 * equal > several:
            self._warn(
                "equal",
                f"for {equal} of {several} prompts, all samples are the same: the server ignores the temperature or "
                "the seed, or a cache answers for it",
            )

    def _warn(self, kind: str, sentence: str) -> None:
        if kind not in self.warned:
            self.warned.add(kind)
            tell(f"warning: {sentence}")
