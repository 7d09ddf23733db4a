"""Prompts: Jinja templates, and the worked examples that fill them.

Examples come from YAML (`prompts/examples.yaml`), or from a text file in the format of the paper's reference
implementation, so that the paper's own prompts can be used.

`PromptTemplate.hash`, and with it the identity of a run, covers the repr of `Examples`: renaming `Example`,
`JudgedDocstring`, `Repair`, `Examples` or one of their fields would make every run that was begun before impossible to
resume.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfalign.errors import UserError, warn

if TYPE_CHECKING:
    from jinja2 import nodes

TRIED = 20  # rows whose prompts are looked at before a step begins
TEXT_SECTIONS = ("Code", "Property", "Instruction", "Response", "Tests")


@dataclass(frozen=True)
class Example:
    """A worked example: a seed with its properties, and a task with its response and tests (paper, C.1)."""

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
    """A function, whether its docstring is good, and why (paper, B: 7 of these)."""

    seed: str
    good: bool
    reason: str


@dataclass(frozen=True)
class Repair:
    """A failing attempt at a task, what its tests say, and how it is mended (repair.py)."""

    instruction: str
    attempt: str
    tests: str
    feedback: str
    explanation: str
    response: str


@dataclass(frozen=True)
class Examples:
    """The pool of worked examples, and the system texts by stage ("S->C", "C->I", "S->I", "I->R"), if there are any."""

    pool: list[Any]
    system: dict[str, str] = field(default_factory=dict)


def load_examples(path: str | Path, kind: type = Example) -> Examples:
    """Read examples from a YAML list of mappings with the fields of `kind`, or from the reference's text format.

    Raises:
        UserError: the file can't be read, is in neither format, or has a value of the wrong type.
    """
    path = Path(path)
    text = _read("examples", path)
    is_text = re.search(r"^### Example \d+", text, re.MULTILINE)
    examples = _from_text(text, path) if is_text and kind is Example else _from_yaml(text, path, kind)
    if not examples.pool:
        raise UserError(f"examples {path} holds no example")
    return examples


def _read(what: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # editors on Windows put a mark first
    except OSError as error:
        raise UserError(f"{what} {path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{what} {path} can't be read: it is not UTF-8 text") from None


def _from_yaml(text: str, path: Path, kind: type) -> Examples:
    import yaml

    names = [f.name for f in fields(kind)]
    try:
        entries = yaml.safe_load(text)
        pool = [kind(**{name: _stripped(entry[name]) for name in names}) for entry in entries]
    except (yaml.YAMLError, TypeError, KeyError, ValueError) as error:  # a ValueError for a date such as 2024-13-45
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"examples {path} should be a YAML list of mappings with {', '.join(names)}: {what}") from None
    for number, example in enumerate(pool, 1):
        for name in names:
            if wanted := _fault_of(name, value := getattr(example, name)):
                raise UserError(f"examples {path}: {name} of example {number} must be {wanted}, and not {value!r:.60}")
    return Examples(pool)


def _fault_of(name: str, value: Any) -> str | None:
    """What the field of an example must hold instead of `value`, or None if it may hold that."""
    if name == "good":
        return None if isinstance(value, bool) else "true or false"
    if name == "concepts":
        is_list = isinstance(value, list) and value and all(isinstance(each, str) and each.strip() for each in value)
        return None if is_list else "a list of texts"
    return None if isinstance(value, str) and value.strip() else "a text"


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
        # A snippet may begin in the middle of a function: its first line keeps its indentation.
        snippets = {name: part.strip("\n").rstrip() for name, part in zip(parts[::2], parts[1::2], strict=True)}
        missing = [name for name in TEXT_SECTIONS if name not in sections]
        if missing:
            raise UserError(f"examples {path}: example {number} has no [{missing[0]}]")
        # "key: value" lines in any order, since the reference's own files differ in this
        pairs = (line.partition(":") for line in sections["Property"].splitlines() if ":" in line)
        prop = {key.strip().lower(): value.strip() for key, _, value in pairs}
        if absent := {"category", "language", "difficulty", "concepts"} - prop.keys():
            raise UserError(f"examples {path}: the [Property] of example {number} has no {', '.join(sorted(absent))}")
        seed = re.sub(r"\A```\w*\n|\n```\Z", "", snippets["Code"])
        concepts = [concept.strip() for concept in prop["concepts"].split(",")]
        texts = (sections["Instruction"], sections["Response"], sections["Tests"])
        pool.append(Example(seed, concepts, prop["category"], prop["language"], prop["difficulty"], *texts))
    return Examples(pool, system)


@dataclass(frozen=True)
class PromptTemplate:
    """A Jinja template with its examples.

    `render` takes the template's variables and returns the prompt; `columns` are the columns of the row that the
    template is known to use; `hash` covers the template and the examples, so it identifies what the model saw. `stop`
    is where the answer ends: what the template says by `{% set stop = ["## Example"] %}`, None if it says nothing.
    """

    render: Callable[..., str]
    columns: set[str]
    hash: str
    uses_row: bool = True
    stop: list[str] | None = None


def load_prompt(template: str | Path, examples: Examples) -> PromptTemplate:
    """Load a Jinja template. Its variables are what the step passes to `render`, and `system`: the examples' system
    texts by stage.

    Raises:
        UserError: the file can't be read or is not a template. `render` raises it, too, if a variable is undefined or
            an expression fails.
    """
    import jinja2
    from jinja2 import nodes

    path = Path(template)
    source = _read("template", path)
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
        except jinja2.UndefinedError as error:
            raise UserError(
                f"template {path} can't be filled: {error}; columns of the input are written as {{{{ row.content }}}}"
            ) from None
        except Exception as error:  # a template's expressions can raise anything
            raise UserError(f"template {path} can't be filled: {error}") from None

    columns, stop = _columns_in(tree), _stop_in(tree, path)
    uses_row = any(node.name == "row" for node in tree.find_all(nodes.Name))
    digest = hashlib.sha256(f"{source}\x1f{examples!r}".encode()).hexdigest()[:16]
    return PromptTemplate(render, columns, digest, uses_row, stop)


def _columns_in(tree: nodes.Template) -> set[str]:
    """The columns of `row` that a template names: row.content, row["content"] or row.get("content")."""
    from jinja2 import nodes

    columns: set[str] = set()
    for node in tree.find_all((nodes.Getattr, nodes.Getitem)):
        if not (isinstance(node.node, nodes.Name) and node.node.name == "row"):
            continue
        if isinstance(node, nodes.Getattr) and not hasattr(dict, node.attr):
            columns.add(node.attr)
        elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
            columns.add(node.arg.value)
    return columns


def _stop_in(tree: nodes.Template, path: Path) -> list[str] | None:
    """The list of strings to which a template sets `stop`; UserError if it is anything else."""
    from jinja2 import nodes

    for node in tree.find_all(nodes.Assign):
        if isinstance(node.target, nodes.Name) and node.target.name == "stop":
            try:
                stop = node.node.as_const() if isinstance(node.node, nodes.Expr) else None
            except nodes.Impossible:
                stop = None
            if not (isinstance(stop, list) and stop and all(isinstance(text, str) and text for text in stop)):
                raise UserError(f'template {path}: stop should be a list of strings, such as ["## Example"]')
            return stop
    return None


def check_prompt(options: Any, prompt: PromptTemplate, examples: Examples) -> None:
    """UserError if the prompts of a step would be alike, or are to have more worked examples than there are.

    `options` has `template`, `examples` and `shots`; the default of `shots` takes what is there.
    """
    if not prompt.uses_row:
        raise UserError(
            f"template {options.template} uses no column of the input, so that all prompts would be alike: it needs "
            "something like {{ row.content }}"
        )
    if options.shots > (there := len(examples.pool)) and options.shots != type(options).shots:
        raise UserError(f"--shots {options.shots} is more than the {there} worked examples in {options.examples}")


def warn_if_alike(prompt: PromptTemplate, rows: Sequence[dict[str, Any]], **variables: Any) -> None:
    """Warn if several rows all give the same prompt: the model would be asked the same thing again and again."""
    if len(rows) > 1 and len({prompt.render(row=row, **variables) for row in rows}) == 1:
        warn(f"the first {len(rows)} rows give the same prompt: the template may not show what differs between them")


def draw_examples(
    draws: random.Random, examples: Examples, shots: int, like: Mapping[str, Any] | None = None
) -> list[Example]:
    """`shots` examples in random order (paper, C.1: 8 for concepts and instructions, 1 for responses).

    With `like`, a task, those of its category are drawn first, and of these the ones nearest to its difficulty. The
    most similar example then comes last, right before the task.
    """
    drawn = draws.sample(examples.pool, min(shots, len(examples.pool)) if like is None else len(examples.pool))
    if like is None:
        return drawn

    def distance(example: Example) -> tuple[bool, int]:
        return example.category != like["category"], abs(_rank(example.difficulty) - _rank(like["difficulty"]))

    return sorted(drawn, key=distance)[:shots][::-1]


def _rank(difficulty: str | None) -> int:
    return {"easy": 0, "hard": 2}.get(difficulty or "", 1)


def in_words_of(examples: Examples, column: str, name: str) -> str:
    """The word for `name` that the examples use in `column`: "function implementation" for "function", or `name`.

    A query in other words than its worked examples would be the odd one out among them.
    """
    words = {getattr(example, column) for example in examples.pool}
    alike = sorted(word for word in words if word.lower().split()[:1] == [name.lower()])
    return name if name in words or len(alike) != 1 else alike[0]
