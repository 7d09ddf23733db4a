"""Prompts: Jinja templates, and the worked examples that fill them.

Examples come from YAML (`prompts/examples.yaml`) or from a text file in the format of the paper's reference
implementation, so that who has the paper's own prompts can use them.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from selfalign.errors import UserError

TEXT_SECTIONS = ("Code", "Property", "Instruction", "Response", "Tests")


@dataclass(frozen=True)
class Example:
    """A worked example: a seed with its property, and a task with response and tests (paper, C.1)."""

    seed: str
    concepts: list[str]
    category: str
    language: str
    difficulty: str
    instruction: str
    response: str
    tests: str


@dataclass(frozen=True)
class JudgedDocstring:
    """A function, whether its docstring is good, and why (paper, B: 7 of them)."""

    seed: str
    good: bool
    reason: str


@dataclass(frozen=True)
class Examples:
    """The pool of worked examples, and system texts by stage ("S->C", "C->I", "S->I", "I->R") if the file has any."""

    pool: list[Any]
    system: dict[str, str] = field(default_factory=dict)


def load_examples(path: str | Path, kind: type = Example) -> Examples:
    """Examples from a YAML list of mappings with the fields of `kind`, or from the reference implementation's text
    format.

    Raises:
        UserError: the file is not there, or is in neither format.
    """
    path = Path(path)
    try:
        text = path.read_text()
    except OSError as error:
        raise UserError(f"examples {path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"examples {path} can't be read: not a text in UTF-8") from None
    is_text = re.search(r"^### Example \d+", text, re.MULTILINE)
    examples = _from_text(text, path) if is_text and kind is Example else _from_yaml(text, path, kind)
    if not examples.pool:
        raise UserError(f"examples {path} holds no example")
    return examples


def _from_yaml(text: str, path: Path, kind: type) -> Examples:
    import yaml

    names = [f.name for f in fields(kind)]
    try:
        entries = yaml.safe_load(text)
        pool = [kind(**{name: _stripped(entry[name]) for name in names}) for entry in entries]
    except (yaml.YAMLError, TypeError, KeyError) as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"examples {path} should be a YAML list of mappings with {', '.join(names)}: {what}") from None
    return Examples(pool)


def _stripped(value: Any) -> Any:
    return value.strip("\n") if isinstance(value, str) else value


def _from_text(text: str, path: Path) -> Examples:
    """`### System: NAME` texts, then `### Example N` with `[Code] [Property] [Instruction] [Response] [Tests]`."""
    head, *bodies = re.split(r"^### Example \d+[^\n]*$", text, flags=re.MULTILINE)
    _, *titled = re.split(r"^### System: *([^\n]+)$", head, flags=re.MULTILINE)
    system = {name.strip(): body.strip() for name, body in zip(titled[::2], titled[1::2], strict=True)}
    pool = []
    for number, body in enumerate(bodies, 1):
        _, *parts = re.split(rf"^\[({'|'.join(TEXT_SECTIONS)})\][ \t]*$", body, flags=re.MULTILINE)
        sections = {name: part.strip() for name, part in zip(parts[::2], parts[1::2], strict=True)}
        missing = [name for name in TEXT_SECTIONS if name not in sections]
        if missing:
            raise UserError(f"examples {path}: example {number} has no [{missing[0]}]")
        # "key: value" lines in any order; the reference's own files differ in it
        pairs = (line.partition(":") for line in sections["Property"].splitlines() if ":" in line)
        prop = {key.strip().lower(): value.strip() for key, _, value in pairs}
        if absent := {"category", "language", "difficulty", "concepts"} - prop.keys():
            raise UserError(f"examples {path}: the [Property] of example {number} has no {', '.join(sorted(absent))}")
        seed = re.sub(r"\A```\w*\n|\n```\Z", "", sections["Code"])
        concepts = [concept.strip() for concept in prop["concepts"].split(",")]
        texts = (sections["Instruction"], sections["Response"], sections["Tests"])
        pool.append(Example(seed, concepts, prop["category"], prop["language"], prop["difficulty"], *texts))
    return Examples(pool, system)


@dataclass(frozen=True)
class Prompt:
    """A template with its examples: `render` gives the text for its variables, `columns` are those of the row that it
    uses, and `hash` is that of template and examples, and so names what the model was asked with.
    """

    render: Callable[..., str]
    columns: set[str]
    hash: str


def load_prompt(template: str | Path, examples: Examples) -> Prompt:
    """The Jinja template at `template`. It sees `row`, `shots`, what the step draws, and `system`: the system texts
    that the examples may bring, by stage.

    Raises:
        UserError: the file is not there, or not a template; `render`: it uses what is not there, or fails.
    """
    import jinja2
    from jinja2 import nodes

    path = Path(template)
    try:
        source = path.read_text()
    except OSError as error:
        raise UserError(f"template {path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"template {path} can't be read: not a text in UTF-8") from None
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    try:
        tree = environment.parse(source)
        compiled = environment.from_string(source, globals={"system": examples.system})
    except jinja2.TemplateError as error:
        raise UserError(f"template {path}: {error}") from None

    def render(**variables: Any) -> str:
        try:
            return compiled.render(**variables)
        except Exception as error:  # what a template computes can raise anything
            raise UserError(f"template {path} can't be filled: {error}") from None

    columns = {
        node.attr
        for node in tree.find_all(nodes.Getattr)
        if isinstance(node.node, nodes.Name) and node.node.name == "row"
    }
    digest = hashlib.sha256(f"{source}\x1f{examples!r}".encode()).hexdigest()[:16]
    return Prompt(render, columns, digest)


def draw_examples(draws: random.Random, examples: Examples, shots: int) -> list[Example]:
    """`shots` examples in random order (paper, C.1: 8 for concepts and instructions, 1 for responses)."""
    return draws.sample(examples.pool, min(shots, len(examples.pool)))
