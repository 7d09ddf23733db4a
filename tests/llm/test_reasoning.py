"""Models that think before they answer: the reasoning is told from the answer, however a server gives the two."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from selfalign.errors import UserError
from selfalign.llm.chat_template import template_arguments
from selfalign.llm.completion import Completion
from selfalign.llm.endpoint import Endpoint
from selfalign.llm.probe import Suspicions
from selfalign.llm.reasoning import BEGIN, END, Parts, split_reasoning
from tests.fakes.server import simulated
from tests.fakes.thinking import OPENED_TOKENS, WAYS, thinking, thoughts_on
from tests.llm.asking import options, prompt, samples_of

CODE = "```python\nprint('<think>')\n```"
UNFINISHED = Parts("", "so\n```python\nx\n```", unfinished=True)
TEXTS = {
    "no reasoning": ("an answer", False, Parts("an answer")),
    "reasoning": ("<think>\nso\n</think>\n\n    an answer\n", False, Parts("    an answer\n", "so")),
    "none, said so": ("<think>\n\n</think>\n\nan answer", False, Parts("an answer")),
    "begun by the prompt": ("\nso\n</think>\n\nan answer", True, Parts("an answer", "so")),
    "begun by the prompt, which is not known": ("so\n</think>an answer", False, Parts("an answer", "so")),
    "begun twice": ("<think>so</think>an answer", True, Parts("an answer", "so")),
    "twice": ("<think>so</think>\n<think>or so</think>an answer", False, Parts("an answer", "so\n\nor so")),
    "between paragraphs": ("First.\n<think>so</think>\nSecond.", False, Parts("First.\nSecond.", "so")),
    "unfinished": ("<think>so\n```python\nx\n```", False, UNFINISHED),
    "unfinished, begun by the prompt": ("so\n```python\nx\n```", True, UNFINISHED),
    "unfinished between paragraphs": ("First.\n<think>so\n```python\nx\n```", False, UNFINISHED),
    "in code": (f"<think>so</think>{CODE}", False, Parts(CODE, "so")),
    "in code, at the beginning of a line": ("```\n<think>\n```", False, Parts("```\n<think>\n```")),
    "the end quoted": ('text.split("</think>")', False, Parts('text.split("</think>")')),
}


@pytest.mark.parametrize(("text", "opened", "parts"), TEXTS.values(), ids=TEXTS)
def test_the_answer_is_what_follows_the_reasoning(text, opened, parts):
    assert split_reasoning(text, opened=opened) == parts


@given(st.lists(st.sampled_from([BEGIN, END, "\n", "```", "word", '"', " "])).map("".join), st.booleans())
@example("word\n<think>", False)
def test_nothing_is_lost_and_nothing_that_is_unfinished_is_an_answer(text, opened):
    parts = split_reasoning(text, opened=opened)
    # But what stands before an unfinished thought.
    assert parts.unfinished or "word" not in text or "word" in (parts.reasoning or "") + parts.answer
    assert not (parts.unfinished and parts.answer)


def endpoint_of(server, **more):
    return Endpoint(options(server, api="chat", **more), samples_a_row=2)


def thinking_server(way, *answer):
    return simulated(thinking(way, *answer), template_tokens=OPENED_TOKENS if way == "opened" else ())


@pytest.mark.parametrize("way", WAYS)
def test_answers_come_without_their_reasoning(way, capsys):
    with thinking_server(way) as server:
        samples = samples_of(endpoint_of(server), 2, max_new_tokens=60)
    for sample in samples:
        assert (sample.text, sample.finish_reason) == (f"the answer to {prompt(0)}", "eos_token")
        assert "assert 0" in (sample.reasoning or "") and not sample.is_cut_off
    assert samples[0].reasoning != samples[1].reasoning
    assert capsys.readouterr().err == "", "a model that thinks in the probe is nothing to remark on"


@pytest.mark.parametrize("way", WAYS)
def test_what_is_cut_off_while_thinking_is_unfinished(way):
    """Also with the code that the reasoning has at this point."""
    with thinking_server(way) as server:
        (sample,) = samples_of(endpoint_of(server), 1, max_new_tokens=14)
    assert (sample.text, sample.finish_reason, sample.is_cut_off) == ("", "length", True)
    assert "assert 0" in (sample.reasoning or "") and sample.failure("no_code") == "unfinished"
    assert sample.generated_tokens == 14


def test_a_chat_server_that_never_comes_to_an_end_is_remarked_on(capsys):
    with simulated(median_tokens=10_000) as server:
        endpoint_of(server)
    assert "needs more than 256 tokens to say yes" in capsys.readouterr().err


@pytest.mark.parametrize("way", WAYS)
def test_stop_sequences_are_for_the_answer(way):
    """The reasoning has line breaks, and the step wants one line."""
    with thinking_server(way, lambda prompt: "one\ntwo") as server:
        endpoint = endpoint_of(server)
        first, second = (samples_of(endpoint, 2, max_new_tokens=60, stop=["\n"]) for _ in range(2))
        stops = [body.get("stop") for body in server.bodies if body["max_tokens"] == 60]
    for sample in (*first, *second):
        assert (sample.text, sample.finish_reason) == ("one", "stop_sequence") and "assert 0" in (
            sample.reasoning or ""
        )
    assert stops[-1] is None and len(stops) <= 3, "such a model is not asked twice for ever"


def test_a_model_that_does_not_think_is_sent_stop_sequences():
    with simulated() as server:
        endpoint = endpoint_of(server)
        server.bodies.clear()
        samples_of(endpoint, 2, stop=["a", "b"])
        assert [body["stop"] for body in server.bodies] == [["a", "b"]]


def test_thinking_is_turned_off_by_an_argument_for_the_template():
    with thinking_server("reasoning") as server:
        endpoint = endpoint_of(server, temperature=0.0, chat_template_kwargs=("enable_thinking=false",))
        (sample,) = samples_of(endpoint, 1)
        assert all(body["chat_template_kwargs"] == {"enable_thinking": False} for body in server.bodies)
    assert sample.reasoning is None and sample.text == f"the answer to {prompt(0)}"


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        (["enable_thinking=false", "n=3"], {"enable_thinking": False, "n": 3}),
        (["thinking=True", "effort=low"], {"thinking": True, "effort": "low"}),
        (['{"enable_thinking": false}'], {"enable_thinking": False}),
    ],
)
def test_arguments_for_the_template_are_values_of_json(words, arguments):
    assert template_arguments(words) == arguments


@pytest.mark.parametrize(
    ("api", "word", "said"),
    [("chat", "enable_thinking", "not of the form name=value"), ("completions", "a=1", "needs --api chat")],
)
def test_arguments_without_effect_are_refused(api, word, said):
    with simulated() as server, pytest.raises(UserError, match=said):
        Endpoint(options(server, api=api, chat_template_kwargs=(word,)))


def test_completions_whose_prompt_begins_the_reasoning():
    """As when benchmark.py applies a chat template that does so: TGI, serve.py, and vLLM's completions."""
    with simulated() as server:
        (sample,) = samples_of(Endpoint(options(server)), 1, text="why?<think>\n")
    assert sample.text == "" and sample.in_reasoning and sample.reasoning


def test_tokens_of_reasoning_are_counted_and_do_not_break_the_limit():
    """Some providers limit the answer alone."""

    def unlimited(request, body, number):
        return thinking("reasoning")(request, body | {"max_tokens": 10**6}, number)

    with simulated(unlimited) as server:
        endpoint = endpoint_of(server)
        (sample,) = samples_of(endpoint, 1, max_new_tokens=8)
        assert sample.text == f"the answer to {prompt(0)}" and not endpoint.usage.faults
        assert endpoint.usage.tokens == sample.generated_tokens > len(thoughts_on("", 0).split())


def test_answers_that_all_end_in_the_reasoning_are_warned_of_once(capsys):
    suspicions = Suspicions(0.7)
    for n in range(60):
        suspicions.look_at([Completion("", "length", 16, reasoning=f"so {n}", in_reasoning=True)] * 2)
    said = capsys.readouterr().err
    assert said.count("warning: ") == 2 and "still thinking" in said and "all samples are the same" in said
