"""How consensus reads and writes the programs of each language: one `Dialect` for Python, one for JavaScript."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from selfalign.data import inputs, javascript_inputs, javascript_observing, observing
from selfalign.data.inputs import Input


@dataclass(frozen=True)
class Dialect:
    """What consensus has to know of a language; programs and tests are its source.

    Attributes:
        definitions_in: code -> the names of the functions and classes that it defines.
        inputs_in: tests and these names -> the calls in the tests' assertions, with what these claim.
        imports_for: claims and the samples' code -> a program that imports what the claims may need of it.
        observing: inputs -> tests that tell the mark of the output of each.
        observing_briefly: the same, for programs that do not end on some inputs; None where no call can be left.
        showing: an input -> tests that tell its output as source.
        can_be_stated: whether such an output can stand in a test.
        stating: an input and its output as source -> a test that states it.
        joined: tests -> one program.
        stubs_of: code -> programs that tests must not accept.
    """

    definitions_in: Callable[[str], set[str]]
    inputs_in: Callable[[str, Collection[str]], Iterator[Input]]
    imports_for: Callable[[Collection[Input], Sequence[str]], str]
    observing: Callable[[Sequence[Input]], str]
    observing_briefly: Callable[[Sequence[Input]], str] | None
    showing: Callable[[Input], str]
    can_be_stated: Callable[[str], bool]
    stating: Callable[[Input, str], str]
    joined: Callable[[Sequence[str]], str]
    stubs_of: Callable[[str], list[str]]


PYTHON = Dialect(
    inputs.definitions_in,
    inputs.inputs_in,
    inputs.imports_for,
    observing.observing,
    observing.observing_briefly,
    observing.showing,
    observing.can_be_stated,
    observing.stating,
    observing.joined,
    observing.stubs_of,
)
JAVASCRIPT = Dialect(
    javascript_inputs.definitions_in,
    javascript_inputs.inputs_in,
    lambda _claims, _codes: "",
    javascript_observing.observing,
    None,
    javascript_observing.showing,
    javascript_observing.is_literal,
    javascript_observing.stating,
    javascript_observing.joined,
    javascript_observing.stubs_of,
)
DIALECTS = {"python": PYTHON, "javascript": JAVASCRIPT}
