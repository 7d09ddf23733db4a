"""Step 1: Python files -> seeds. High-quality functions, from which everything else is made.

Paper: section 2.1 and appendix B. Top-level functions with a docstring are extracted from The Stack V1, and their
missing imports are inferred. Functions of benchmarks are removed. Those are kept that return something, pass a type
checker and have a docstring that a model finds good, and one of each group of near-duplicates: 5,359,051 functions
become 248,934 seeds.

    python collect_seeds.py stdlib ./seeds                              # the running Python's standard library
    python collect_seeds.py installed ./seeds                           # that, and the packages installed for it
    python collect_seeds.py ~/code/my_project ./seeds                   # a folder of Python files
    python collect_seeds.py hf://datasets/bigcode/the-stack-dedup/data/python org/seeds \\
        --judge-docstrings --endpoint http://127.0.0.1:8080

With only one argument, this is OUTPUT, and the standard library is read. Every stage is a step of its own, at which a
run that was stopped continues, and whose output says what became of each function:

    OUTPUT-candidates  the functions that pass the filters of selfalign/data/seeds.py, each of which is counted, and
                       `contamination`: null, or the item of a benchmark that the function contains
    OUTPUT-checked     those without contamination, each once, and `type_error`: null, or the rule of the first error
    OUTPUT-judged      those without a type error, and `verdict` on the docstring: good, bad, unclear, prompt_too_long
    OUTPUT             those with a good docstring, one of each group of near-duplicates

Seeds are in the order of their ids: a random order that is the same everywhere, so that `--max-samples 37000` of a
later step is a random sample (the paper's component analysis, section 4).

Columns out:

    id          hash of the content
    content     source of the function, below the imports that it needs
    name        of the function
    docstring   of the function, without its indentation
    repository, path, license    where the function comes from, as far as that is known
"""

from __future__ import annotations

import ast
import dataclasses
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from selfalign.code.contamination import Decontaminator
from selfalign.code.functions import functions_of
from selfalign.code.near_duplicates import near_duplicates
from selfalign.code.type_checkers import TypeChecker
from selfalign.data.decontamination import decontaminator_of, record_of
from selfalign.data.duplicates import near_duplicates_by_step
from selfalign.data.python_files import open_python_files
from selfalign.data.seeds import MAX_FILE_BYTES, filtered
from selfalign.errors import UserError
from selfalign.ids import content_id, draws_of
from selfalign.llm.completion import Completion
from selfalign.llm.endpoint import Endpoint
from selfalign.llm.prompts import JudgedDocstring, load_examples, load_prompt
from selfalign.options import (
    OPERATIONAL,
    PROMPTS,
    Count,
    DecontaminationOptions,
    GenerationOptions,
    PositiveOrZero,
    ShareAboveZero,
    StepOptions,
    run_script,
)
from selfalign.runner.hub import is_hub_id
from selfalign.runner.source import Source, open_source, read_input
from selfalign.runner.step import run_step
from selfalign.runner.table import Done, Removed, Table

COLUMNS = {name: str for name in ("id", "content", "name", "docstring", "repository", "path", "license")}

MAX_LINES = 150  # longer functions fill the prompt
NEAR_DUPLICATES = 0.5  # Jaccard similarity (paper, B)
VERDICT_TOKENS = 8  # "Yes" or "No", and the punctuation that some models put around it


@dataclass(frozen=True, kw_only=True)
class Options(GenerationOptions, DecontaminationOptions, StepOptions):
    """Options of this step; the defaults are the paper's."""

    output: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUTPUT")] = field(
        default="", metadata=OPERATIONAL
    )
    """Dataset to write: a Hub id, a local folder, or an fsspec URL. If it is left out, INPUT is the output, and the
    standard library is read."""

    text_column: str = "content"
    """Column that contains the files, if the input is a dataset."""

    repository_column: str = "max_stars_repo_name"
    """Column with the repository's name, if there is one (the default is The Stack's)."""

    path_column: str = "max_stars_repo_path"
    """Column with the file's path, if there is one."""

    license_column: str = "max_stars_repo_licenses"
    """Column with the file's licence or licences, if there is one."""

    max_lines: Count = MAX_LINES
    """Longest function, in lines."""

    type_checker: Literal["basedpyright", "pyright", "pyrefly", "none"] = "basedpyright"
    """What checks the types. The paper uses Pyright. basedpyright gives the same verdicts and is installed from PyPI
    alone; pyrefly is many times faster and agrees somewhat less."""

    type_checker_python: str | None = None
    """Python interpreter whose packages the type checker finds; the one that runs this script otherwise."""

    type_checker_processes: Count | None = field(default=None, metadata=OPERATIONAL)
    """How many type checkers run at a time, with 1 to 3 GB each; one for each processor otherwise, up to 8."""

    judge_docstrings: bool = False
    """Let the model behind --endpoint judge each docstring, as in the paper. Off by default: nothing else in this step
    needs a model, and the verdicts of a small one are random."""

    examples: Path = field(default=PROMPTS / "docstrings.yaml", metadata=OPERATIONAL)
    """Worked examples for judging docstrings (StarCoder2-Instruct: 7)."""

    template: Path = field(default=PROMPTS / "docstrings.jinja", metadata=OPERATIONAL)
    """Jinja template of the prompt for judging docstrings."""

    temperature: PositiveOrZero = 0.0
    """Sampling temperature of the verdicts; greedy by default, since a filter should say the same twice."""

    near_duplicates: ShareAboveZero = NEAR_DUPLICATES
    """Jaccard similarity from which functions are near-duplicates, of which one is kept."""


def seeds_of_file(file: dict[str, Any], options: Options, decontaminator: Decontaminator | None = None) -> Done:
    """The functions of one file that pass every filter, and how many each filter dropped.

    `file` has `text` (None if it could not be read), `repository`, `path` and `license`. A function that contains a
    benchmark's problem is among them, and says so in `contamination`.
    """
    if file["text"] is None or len(file["text"]) > MAX_FILE_BYTES:
        return Done([], {"files_unreadable": 1})
    functions = functions_of(file["text"])
    if functions is None:
        return Done([], {"files_that_do_not_parse": 1})
    seeds, counts = [], Counter()
    for function in functions:
        function, failed = filtered(function, options.max_lines)
        match = decontaminator.match(function.content) if decontaminator and not failed else None
        counts[failed or ("contaminated" if match else "ok")] += 1
        if not failed:
            seeds.append(
                {
                    "id": content_id(function.content),
                    "content": function.content,
                    "name": function.node.name,
                    # An escape such as "\ud83d" is half a character, which no dataset can hold: it stays an escape.
                    "docstring": (ast.get_docstring(function.node) or "").encode(errors="backslashreplace").decode(),
                    **{name: file[name] for name in ("repository", "path", "license")},
                    "contamination": str(match) if match else None,
                }
            )
    return Done(seeds, counts)


def open_files(options: Options) -> Source:
    """The input: the standard library, a folder of Python files, or a dataset with a column of their texts."""
    files = None if is_hub_id(options.input) else open_python_files(options.input)
    return files or read_input(options, options.text_column)


def as_file(row: dict[str, Any], options: Options) -> dict[str, Any]:
    """A row of the input in the form that `seeds_of_file` takes."""
    if "file" in row and options.text_column not in row:  # a dataset may have a column of that name
        try:
            return row | {"text": Path(row["file"]).read_text(encoding="utf-8")}
        except (OSError, UnicodeDecodeError):
            return row | {"text": None}
    license = row.get(options.license_column)
    return {
        "text": row[options.text_column],
        "repository": row.get(options.repository_column),
        "path": row.get(options.path_column),
        "license": ", ".join(license) if isinstance(license, list) else license,
    }


def extract_functions(options: Options, decontaminator: Decontaminator | None) -> Source:
    """The functions of all files that pass the filters: OUTPUT-candidates."""
    output = options.output.rstrip("/") + "-candidates"
    run_step(
        dataclasses.replace(options, output=output),
        Table(
            open_files(options),
            lambda row: seeds_of_file(as_file(row, options), options, decontaminator),
            COLUMNS | {"contamination": str},
            carry=False,
        ),
        title="extract_functions",
    )
    return open_source(output, columns=("contamination", *COLUMNS), token=options.hf_token)


def check_types(options: Options, functions: Source, dropped: dict[str, int], checker: TypeChecker) -> Source:
    """The functions in which the type checker finds no error (paper, B: Pyright). OUTPUT-checked has all of them."""

    async def checked(function: dict[str, Any]) -> dict[str, Any]:
        return function | {"type_error": await checker.check(function["content"])}

    output = options.output.rstrip("/") + "-checked"
    run_step(
        dataclasses.replace(options, output=output, max_samples=None),
        Table(
            in_order(functions, "content"),  # imports come first: functions that need the same packages share a process
            checked,
            {"type_error": str},
            count_by="type_error",
            around=(checker,),
        ),
        window=checker.window,
        removed=Removed(dropped),
        title="check_types",
    )
    return open_source(output, columns=("type_error", *COLUMNS), token=options.hf_token)


def parse_verdict(answer: Completion) -> str:
    """ "good" or "bad" by the first word of an answer; "unclear" if it is neither yes nor no."""
    word = re.match(r"\W*(yes|no)\b", answer.text, re.IGNORECASE)
    return {"yes": "good", "no": "bad"}[word[1].lower()] if word else answer.failure("unclear")


def judge_docstrings(options: Options, functions: Source, dropped: dict[str, int], endpoint: Endpoint) -> Source:
    """The functions whose docstring the model finds good (paper, B, with StarCoder2-15B). OUTPUT-judged has all."""
    examples = load_examples(options.examples, JudgedDocstring)
    prompt = load_prompt(options.template, examples)

    async def judged(function: dict[str, Any]) -> dict[str, Any]:
        text = prompt.render(row=function, shots=examples.pool)
        seed = draws_of(options.seed, function["id"]).getrandbits(31)
        answer = await endpoint.generate(text, max_new_tokens=VERDICT_TOKENS, seed=seed, stop=["\n"])
        return function | {"verdict": parse_verdict(answer)}

    output = options.output.rstrip("/") + "-judged"
    endpoint.check_room(prompt.render(row=functions.rows[0], shots=examples.pool), VERDICT_TOKENS)
    run_step(
        dataclasses.replace(options, output=output, max_samples=None),
        Table(functions, judged, {"verdict": str}, count_by="verdict"),
        prompts=prompt.hash,
        endpoint=endpoint,
        removed=Removed(dropped),
        title="judge_docstrings",
    )
    return open_source(output, columns=("verdict", *COLUMNS), token=options.hf_token)


def without_duplicates(functions: Source) -> tuple[Source, int]:
    """The functions without those that repeat another, in the order of their ids, and how many were dropped.

    Of equal functions, the one with the first repository and path is kept: the order of the files does not matter.
    """
    rows = functions.rows.select_columns(["id", "repository", "path"]).to_list()
    keys = [(row["id"], row["repository"] or "", row["path"] or "", i) for i, row in enumerate(rows)]
    first = {key[0]: key for key in sorted(keys, reverse=True)}  # the smallest key of an id is written last
    return selected(functions, [key[3] for key in first.values()]), len(keys) - len(first)


def without_near_duplicates(functions: Source, options: Options) -> tuple[Source, int]:
    """The same for near-duplicates: the function with the smallest id of each group is kept (paper, B).

    With `--executor`, signatures are computed by a step that is divided, OUTPUT-signatures-content, and only a few
    bytes a function are held in memory. Without it, all functions are.
    """
    ids, threshold = functions.rows["id"][:], options.near_duplicates
    if options.executor:
        whole = dataclasses.replace(options, max_samples=None)
        repeats = near_duplicates_by_step(whole, functions, lambda row: row["content"], threshold, "content")
        kept = [i for i, id in enumerate(ids) if id not in repeats]
    else:
        stands_for = near_duplicates(functions.rows["content"][:], ids, threshold, "near-duplicates")
        kept = [i for i, other in enumerate(stands_for) if other == i]
    return selected(functions, kept), len(ids) - len(kept)


def passing(functions: Source, column: str, value: str | None) -> tuple[Source, int]:
    """The functions with `value` in `column`, in the order of their ids, and how many others were dropped.

    Raises:
        UserError: no function is left.
    """
    values = functions.rows[column][:]
    kept = [i for i, other in enumerate(values) if other == value]
    if not kept:
        raise UserError(f"{functions.name}: no function is left, see its column {column}")
    return selected(functions, kept), len(values) - len(kept)


def selected(functions: Source, positions: list[int]) -> Source:
    """The rows at `positions`, in the order of their ids."""
    return in_order(dataclasses.replace(functions, rows=functions.rows.select(positions)), "id")


def in_order(functions: Source, column: str) -> Source:
    """The rows in the order of a column."""
    values = functions.rows[column][:]
    order = sorted(range(len(values)), key=values.__getitem__)
    return dataclasses.replace(functions, rows=functions.rows.select(order))


def main(options: Options) -> None:
    """Extract functions, leave out what benchmarks hold, check types, judge docstrings, and drop near-duplicates."""
    if not options.output:
        options = dataclasses.replace(options, input="stdlib", output=options.input)
    if options.endpoint and not options.judge_docstrings:
        raise UserError("--endpoint is for --judge-docstrings, which is not given")
    endpoint = Endpoint(options) if options.judge_docstrings else None
    checker = None
    if options.type_checker != "none":
        checker = TypeChecker(
            options.type_checker, python=options.type_checker_python, processes=options.type_checker_processes
        )

    decontaminator = decontaminator_of(options)
    candidates = extract_functions(options, decontaminator)
    found = record_of(decontaminator, filter(None, candidates.rows["contamination"]))
    functions, contaminated = passing(candidates, "contamination", None)
    functions, repeated = without_duplicates(functions)
    dropped = {"contaminated": contaminated, "exact_duplicates": repeated}
    if checker:
        functions, faulty = passing(check_types(options, functions, dropped, checker), "type_error", None)
        dropped = {"type_error": faulty}
    if endpoint:
        functions, rejected = passing(judge_docstrings(options, functions, dropped, endpoint), "verdict", "good")
        dropped = {"docstring_not_good": rejected}
    seeds, similar = without_near_duplicates(functions, options)
    run_step(
        dataclasses.replace(options, max_samples=None),
        Table(seeds, lambda function: {name: function[name] for name in COLUMNS}, COLUMNS, carry=False),
        removed=Removed(dropped | {"near_duplicates": similar}, decontamination=found),
    )


if __name__ == "__main__":
    run_script(main, Options, __doc__)
