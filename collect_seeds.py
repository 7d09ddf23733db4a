"""Step 1: Python files -> seeds. It collects high-quality functions, from which everything else is made.

Paper: section 2.1 and appendix B. The paper extracts top-level functions with docstrings from The Stack V1, infers
missing imports, and removes functions that occur in benchmarks. It keeps those that return a value, pass a type checker
and have a docstring that a model judges to be good, and one function from each group of near-duplicates: 5,359,051
functions become 248,934 seeds.

    python collect_seeds.py stdlib ./seeds                              # the running Python's standard library
    python collect_seeds.py installed ./seeds                           # the same, and the packages installed for it
    python collect_seeds.py ~/code/my_project ./seeds                   # a folder of Python files
    python collect_seeds.py ~/app/node_modules ./seeds --language javascript
    python collect_seeds.py hf://datasets/bigcode/the-stack-dedup/data/python org/seeds \\
        --judge-docstrings --endpoint http://127.0.0.1:8080

Each stage is a step of its own: a run that was stopped resumes from it, and its output shows what became of each
function:

    OUTPUT-candidates  the functions that pass the filters of selfalign/data/seeds.py (what each drops is counted), with
                       `contamination`: the benchmark item that the function contains, or null
    OUTPUT-checked     those without contamination, each only once, with `type_error`: the rule of the first error, or
                       null
    OUTPUT-judged      those without a type error, with `verdict`: whether the docstring is good, bad, unclear, or
                       prompt_too_long
    OUTPUT             those with a good docstring, one from each group of near-duplicates

Seeds are sorted by id. This order is random but the same everywhere, so `--max-samples 37000` in a later step takes a
random sample (as in the paper's component analysis, section 4).

Columns out:

    id          hash of the content
    content     source code of the function, preceded by the imports that it needs
    name        name of the function
    docstring   docstring of the function, without its indentation
    repository, path, license    where the function comes from, null if unknown
    language    "javascript", with --language javascript

For JavaScript (see docs/javascript.md), `content` begins with the comment that documents the function, and `docstring`
is its text. Nothing is type-checked or judged, so OUTPUT-candidates is the only stage besides OUTPUT.
"""

from __future__ import annotations

import ast
import dataclasses
import re
from collections import Counter
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from selfalign.code.contamination import Decontaminator
from selfalign.code.functions import functions_of, parts_that_parse
from selfalign.code.javascript import check_parser
from selfalign.code.near_duplicates import near_duplicates
from selfalign.code.type_checkers import TypeChecker
from selfalign.data.decontamination import decontaminator_of, record_of
from selfalign.data.duplicates import near_duplicates_by_step
from selfalign.data.javascript_seeds import is_javascript_folder, open_javascript_files, seeds_of_javascript
from selfalign.data.python_files import INSTALLED, STDLIB, open_python_files
from selfalign.data.seeds import MAX_FILE_BYTES, UNSAFE_IMPORTS, UNSAFE_IMPORTS_OF_REFERENCE, filtered
from selfalign.errors import UserError
from selfalign.ids import content_id, draws_of
from selfalign.llm.completion import Completion
from selfalign.llm.endpoint import Endpoint
from selfalign.llm.prompts import TRIED, JudgedDocstring, load_examples, load_prompt
from selfalign.options import (
    LATER,
    OPERATIONAL,
    PROMPTS,
    Count,
    DecontaminationOptions,
    GenerationOptions,
    LanguageOptions,
    Positional,
    PositiveOrZero,
    ShareAboveZero,
    StepOptions,
    argument,
    run_script,
)
from selfalign.runner.columns import check_text
from selfalign.runner.hub import is_hub_id
from selfalign.runner.source import Source, open_source, read_input, usable_rows
from selfalign.runner.step import check_growth, check_output, run_step
from selfalign.runner.table import Done, Removed, Table

COLUMNS = {name: str for name in ("id", "content", "name", "docstring", "repository", "path", "license")}
# Step -> the end of its output's name, and the column that says what became of each function.
STAGES = {
    "extract_functions": ("candidates", "contamination"),
    "check_types": ("checked", "type_error"),
    "judge_docstrings": ("judged", "verdict"),
}

UNSAFE = {"ours": UNSAFE_IMPORTS, "reference": UNSAFE_IMPORTS_OF_REFERENCE}
NAMES = (STDLIB, INSTALLED)

MAX_LINES = 150  # longer functions fill the prompt
NEAR_DUPLICATES = 0.5  # Jaccard similarity (paper, B)
VERDICT_TOKENS = 8  # "Yes" or "No", and the punctuation that some models put around it


@dataclass(frozen=True, kw_only=True)
class Options(LanguageOptions, GenerationOptions, DecontaminationOptions, StepOptions):
    """Options of this step; the defaults are the paper's."""

    input: Annotated[str, Positional, argument(metavar="INPUT")] = field(metadata=OPERATIONAL)
    """`stdlib`, `installed`, a folder of Python files, or a dataset with a column of their texts: a Hub id (org/name or
    org/name@revision), a local folder or file, or an fsspec URL."""

    max_samples: Count | None = field(default=None, metadata=OPERATIONAL)
    """Read only this many files, the first ones. A later run with a larger number needs another output."""

    text_column: str = "content"
    """Column that holds the text of the files, if the input is a dataset."""

    repository_column: str = "max_stars_repo_name"
    """Column with the name of the repository, if there is one. The default is The Stack's."""

    path_column: str = "max_stars_repo_path"
    """Column with the file's path, if there is one."""

    license_column: str = "max_stars_repo_licenses"
    """Column with the file's licence or licences, if there is one."""

    max_lines: Count = MAX_LINES
    """Maximum length of a function, in lines."""

    type_checker: Literal["basedpyright", "pyright", "pyrefly", "none"] = "basedpyright"
    """Which type checker to use. The paper uses Pyright. basedpyright gives the same verdicts and installs from PyPI
    alone; pyrefly is many times faster, but agrees less often."""

    type_checker_python: str | None = None
    """Python interpreter whose packages the type checker can import. By default, the one that runs this script."""

    type_checker_processes: Count | None = field(default=None, metadata=OPERATIONAL)
    """Number of type checkers that run at the same time; each takes 1 to 3 GB. By default, one per CPU, at most 8."""

    judge_docstrings: bool = False
    """Let the model behind --endpoint judge each docstring, as in the paper. This is off by default, because nothing
    else in this step needs a model and a small model judges at random."""

    examples: Path = field(default=PROMPTS / "docstrings.yaml", metadata=OPERATIONAL)
    """Worked examples for judging docstrings (StarCoder2-Instruct uses 7)."""

    template: Path = field(default=PROMPTS / "docstrings.jinja", metadata=OPERATIONAL)
    """Jinja template of the prompt for judging docstrings."""

    temperature: PositiveOrZero = 0.0
    """Sampling temperature for the verdicts. Decoding is greedy by default, because a filter should give the same
    answer twice."""

    unsafe_imports: Literal["ours", "reference"] = field(default="ours", metadata=LATER)
    """Which imports make a function unsafe to run: any of 89 modules, or of the 8 of the reference implementation."""

    broken_files: Literal["drop", "salvage"] = field(default="drop", metadata=LATER)
    """What to do with files that are not Python 3 as a whole, such as those with a `print` statement of Python 2: drop
    them, or take the top-level functions that are Python 3 by themselves, as the paper's parser does."""

    duplicates: Literal["last", "first"] = field(default="last", metadata=LATER)
    """Whether near-duplicates are dropped after all other filters, so that one of each group is left, or before the
    type checker and the judge, as in the paper, where a group is lost if the one that was kept fails later."""

    shuffle_shots: bool = field(default=False, metadata=LATER)
    """Show the judge its worked examples in another random order for each function (reference implementation)."""

    near_duplicates: ShareAboveZero = NEAR_DUPLICATES
    """Functions that share at least this proportion of their shingles (Jaccard similarity) are near-duplicates; one of
    them is kept."""


def seeds_of_file(file: dict[str, Any], options: Options, decontaminator: Decontaminator | None = None) -> Done:
    """The functions of one file that pass every filter, and how many each filter dropped.

    `file` has `text` (None if it could not be read), `repository`, `path` and `license`. A function that contains a
    benchmark's problem is included; its `contamination` says so.
    """
    if options.language == "javascript":
        return Done(*seeds_of_javascript(file, options.max_lines, decontaminator))
    if file["text"] is None or len(file["text"]) > MAX_FILE_BYTES:
        return Done([], {"files_unreadable": 1})
    functions = functions_of(file["text"])
    if functions is None and options.broken_files == "salvage":
        functions = functions_of(parts_that_parse(file["text"]))
    if functions is None:
        return Done([], {"files_that_do_not_parse": 1})
    seeds, counts = [], Counter()
    for function in functions:
        function, failed = filtered(function, options.max_lines, UNSAFE[options.unsafe_imports])
        match = decontaminator.match(function.content) if decontaminator and not failed else None
        counts[failed or ("contaminated" if match else "ok")] += 1
        if not failed:
            seeds.append(
                {
                    "id": content_id(function.content),
                    "content": function.content,
                    "name": function.node.name,
                    # An escape such as "\ud83d" is half a character, which no dataset can store, so it stays an escape.
                    "docstring": (ast.get_docstring(function.node) or "").encode(errors="backslashreplace").decode(),
                    **{name: file[name] for name in ("repository", "path", "license")},
                    "contamination": str(match) if match else None,
                }
            )
    return Done(seeds, counts)


def open_files(options: Options) -> Source:
    """The input: the standard library, a folder of Python files, or a dataset with a column of their texts."""
    if options.language == "javascript":
        check_parser()
        if not is_hub_id(options.input) and is_javascript_folder(options.input):
            return open_javascript_files(options.input)
        if options.input in NAMES:
            raise UserError(
                f"{options.input} stands for Python files: name a folder of JavaScript, such as node_modules"
            )
    elif files := None if is_hub_id(options.input) else open_python_files(options.input):
        return files
    name = options.input.lower()
    if name not in NAMES and not Path(name).exists() and (near := get_close_matches(name, NAMES, cutoff=0.8)):
        raise UserError(f"there is no dataset {options.input}: did you mean {near[0]}?")
    source = read_input(options, options.text_column)
    check_text(source.rows, source.name, options.text_column)
    return source


def as_file(row: dict[str, Any], options: Options) -> dict[str, Any]:
    """A row of the input in the form that `seeds_of_file` takes."""
    if "file" in row and options.text_column not in row:  # a dataset may have a column of that name
        try:
            return row | {"text": Path(row["file"]).read_text(encoding="utf-8")}
        except (OSError, UnicodeDecodeError):
            return row | {"text": None}
    repository, path = row.get(options.repository_column), row.get(options.path_column)
    license = row.get(options.license_column)
    license = ", ".join(map(str, filter(None, license))) or None if isinstance(license, list) else license
    origin = {"repository": repository, "path": path, "license": license}
    return {"text": row[options.text_column]} | {name: v if v is None else str(v) for name, v in origin.items()}


def columns_for(options: Options) -> dict[str, type]:
    """The columns of seeds in the language of `options`."""
    return COLUMNS | ({} if options.language == "python" else {"language": str})


def stage(options: Options, title: str, table: Table, **settings: Any) -> Source:
    """Runs one of STAGES, and returns all functions with its verdict on each."""
    name, column = STAGES[title]
    output = f"{options.output.rstrip('/')}-{name}"
    run_step(dataclasses.replace(options, output=output), table, title=title, **settings)
    return open_source(output, columns=(column, *COLUMNS), token=options.hf_token)


def extract_functions(options: Options, files: Source, decontaminator: Decontaminator | None) -> Source:
    """The functions of all files that pass the filters."""
    table = Table(
        files,
        lambda row: seeds_of_file(as_file(row, options), options, decontaminator),
        columns_for(options) | {"contamination": str},
        carry=False,
    )
    return stage(options, "extract_functions", table)


def check_types(options: Options, functions: Source, dropped: dict[str, int], checker: TypeChecker) -> Source:
    """The functions with the first error that the type checker finds in each (paper, B: Pyright)."""

    async def checked(function: dict[str, Any]) -> dict[str, Any]:
        return function | {"type_error": await checker.check(function["content"])}

    # Imports come first: functions that need the same packages stay together.
    functions = in_order(functions, "content")
    table = Table(functions, checked, {"type_error": str}, count_by="type_error", around=(checker,))
    return stage(options, "check_types", table, window=checker.window, removed=Removed(dropped))


def parse_verdict(answer: Completion) -> str:
    """ "good" or "bad", depending on the first word of an answer; "unclear" if that is neither yes nor no."""
    word = re.match(r"\W*(yes|no)\b", answer.text, re.IGNORECASE)
    return {"yes": "good", "no": "bad"}[word[1].lower()] if word else answer.failure("unclear")


def judge_docstrings(options: Options, functions: Source, dropped: dict[str, int], endpoint: Endpoint) -> Source:
    """The functions with the model's verdict on the docstring of each (paper, B: StarCoder2-15B)."""
    examples = load_examples(options.examples, JudgedDocstring)
    prompt = load_prompt(options.template, examples)

    async def judged(function: dict[str, Any]) -> dict[str, Any]:
        draws = draws_of(options.seed, function["id"])
        seed, shots = draws.getrandbits(31), examples.pool
        if options.shuffle_shots:
            shots = draws.sample(shots, len(shots))
        text = prompt.render(row=function, shots=shots)
        answer = await endpoint.generate(text, max_new_tokens=VERDICT_TOKENS, seed=seed, stop=["\n"])
        return function | {"verdict": parse_verdict(answer)}

    tried = usable_rows(functions, TRIED)
    endpoint.check_room([prompt.render(row=row, shots=examples.pool) for row in tried], VERDICT_TOKENS)
    table = Table(functions, judged, {"verdict": str}, count_by="verdict")
    return stage(options, "judge_docstrings", table, prompts=prompt.hash, endpoint=endpoint, removed=Removed(dropped))


def without_duplicates(functions: Source) -> tuple[Source, int]:
    """The functions without exact duplicates, sorted by id, and how many were dropped.

    Of several duplicates, the one whose repository and path sort first is kept: the order of the files does not matter.
    """
    rows = functions.rows.select_columns(["id", "repository", "path"]).to_list()
    keys = [(row["id"], row["repository"] or "", row["path"] or "", i) for i, row in enumerate(rows)]
    first = {key[0]: key for key in sorted(keys, reverse=True)}  # the smallest key of an id is written last
    return selected(functions, [key[3] for key in first.values()])


def without_near_duplicates(functions: Source, options: Options) -> tuple[Source, int]:
    """The functions without near-duplicates: the one with the smallest id of each group is kept (paper, B).

    With `--executor`, signatures are computed by a step of their own, OUTPUT-signatures-content, and memory holds only
    a few bytes per function. Without it, all functions are read into memory.
    """
    ids, threshold = functions.rows["id"][:], options.near_duplicates
    if options.executor:
        repeats = near_duplicates_by_step(options, functions, lambda row: row["content"], threshold, "content")
        return selected(functions, [i for i, id in enumerate(ids) if id not in repeats])
    stands_for = near_duplicates(functions.rows["content"][:], ids, threshold, "near-duplicates")
    return selected(functions, [i for i, other in enumerate(stands_for) if other == i])


def passing(functions: Source, column: str, value: str | None) -> tuple[Source, int]:
    """The functions that have `value` in `column`, sorted by id, and how many do not.

    Raises:
        UserError: there is none.
    """
    kept = [i for i, other in enumerate(functions.rows[column][:]) if other == value]
    if not kept:
        raise UserError(f"no function in {functions.name} is left: its column {column} says why")
    return selected(functions, kept)


def selected(functions: Source, positions: list[int]) -> tuple[Source, int]:
    """The functions at `positions`, sorted by id, and how many others there are."""
    kept = dataclasses.replace(functions, rows=functions.rows.select(positions))
    return in_order(kept, "id"), len(functions) - len(kept)


def in_order(functions: Source, column: str) -> Source:
    """The functions sorted by a column."""
    values = functions.rows[column][:]
    order = sorted(range(len(values)), key=values.__getitem__)
    return dataclasses.replace(functions, rows=functions.rows.select(order))


def main(options: Options) -> None:
    """Extract functions, remove those found in benchmarks, check types, judge docstrings, and drop near-duplicates."""
    if options.endpoint and not options.judge_docstrings:
        raise UserError("--endpoint has no effect without --judge-docstrings")
    if options.judge_docstrings and options.language != "python":
        raise UserError("--judge-docstrings is only for Python: its worked examples are")
    files, columns = open_files(options), columns_for(options)
    check_output(options)
    later = [f"{options.output.rstrip('/')}-{STAGES[title][0]}" for title in ("check_types", "judge_docstrings")]
    rows = min(len(files), options.max_samples or len(files))
    check_growth(options, rows, "extract_functions", [options.output, *later])
    endpoint = Endpoint(options) if options.judge_docstrings else None
    checker = None
    if options.type_checker != "none" and options.language == "python":
        python, processes = options.type_checker_python, options.type_checker_processes
        checker = TypeChecker(options.type_checker, python=python, processes=processes)

    options, decontaminator = decontaminator_of(options)
    candidates = extract_functions(options, files, decontaminator)
    found = record_of(decontaminator, filter(None, candidates.rows["contamination"]))
    options = dataclasses.replace(options, max_samples=None)  # counts files
    functions, contaminated = passing(candidates, "contamination", None)
    functions, repeated = without_duplicates(functions)
    dropped = {"contaminated": contaminated, "exact_duplicates": repeated}
    if options.duplicates == "first":
        functions, similar = without_near_duplicates(functions, options)
        dropped["near_duplicates"] = similar
    if checker:
        functions, faulty = passing(check_types(options, functions, dropped, checker), "type_error", None)
        dropped = {"type_error": faulty}
    if endpoint:
        functions, rejected = passing(judge_docstrings(options, functions, dropped, endpoint), "verdict", "good")
        dropped = {"docstring_not_good": rejected}
    if options.duplicates == "last":
        functions, similar = without_near_duplicates(functions, options)
        dropped["near_duplicates"] = similar
    run_step(
        options,
        Table(functions, lambda function: {name: function[name] for name in columns}, columns, carry=False),
        removed=Removed(dropped, decontamination=found),
    )


if __name__ == "__main__":
    run_script(main, Options, __doc__)
