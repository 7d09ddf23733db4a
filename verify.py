"""Check a published dataset: does it say of itself what is true, and do its programs still pass?

Four things are checked. Hashes and lineage: parts are named by a hash of their content, ids are hashes of the content
that they stand for, and run.json says of the rows what they are. Execution: a random sample of the rows runs anew in
the sandbox, with the tests that the row has. Contamination: no row contains a problem of a benchmark that can be read,
or its solution. The share of the executed rows that agree with what the dataset says is printed with its 95 % interval.

    python verify.py your-org/instructions
    python verify.py bigcode/self-oss-instruct-sc2-exec-filter-50k --samples 1000

Columns in:  one of content, instruction and response; if present, id, tests, passed, and those that ids are hashes of

The output of any step can be checked. Rows are executed if they have a response and say whether it passed.

In a dataset that no step of this project wrote, a row that does not say so claims to have passed. Where tests are no
column of their own, as in bigcode/self-oss-instruct-sc2-exec-filter-50k, a row is executed if its instruction or the
end of its response has assertions; of the others, nothing can be said. There, `sha1` is checked to be that of `seed`.

Exit status: 0 if everything agrees, 1 if anything does not, 2 if the dataset can't be checked or no row could be
executed. Executions agree if the interval reaches --min-agreement.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from code_eval.sandbox import Program, Sandbox, SandboxUnavailable
from selfalign.code.contamination import Decontaminator
from selfalign.data.conversations import CONVERSATION, texts_of
from selfalign.data.decontamination import decontaminator_of
from selfalign.data.languages import KNOWN, language_of
from selfalign.data.verification import (
    CHOSEN,
    TEXTS,
    Check,
    check_input,
    check_parts,
    check_record,
    check_rows,
    has_old_verdicts,
    program_in,
)
from selfalign.errors import UserError
from selfalign.options import (
    Count,
    DatasetName,
    DecontaminationOptions,
    Positive,
    SandboxOptions,
    Seed,
    Share,
    run_script,
)
from selfalign.runner.columns import missing_columns, with_columns
from selfalign.runner.source import MAIN_TABLE, open_source
from selfalign.statistics import wilson_interval

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Options(DecontaminationOptions, SandboxOptions):
    """Options of the check."""

    dataset: DatasetName
    """Dataset to check: a Hub id (org/name or org/name@revision), a local folder or file, or an fsspec URL."""

    config: str | None = None
    """Configuration of the dataset."""

    split: str = "train"
    """Split of the dataset."""

    column: tuple[str, ...] = ()
    """Columns that have other names there, such as instruction=prompt."""

    samples: Count = 500
    """Number of rows to execute, drawn at random; 500 give an interval of about 2 points."""

    min_agreement: Share = field(default=0.99)
    """Share of the executed rows that must agree. Less than all, because some programs depend on time or chance; the
    check fails only if the whole interval lies below."""

    sandbox_mode: Literal["isolated", "strict"] = "isolated"
    """How programs are isolated; see code_eval/SECURITY.md."""

    timeout: Positive = 10.0
    """CPU seconds that a program may use."""

    memory: Count = 1024
    """Memory that a program may use, in MiB."""

    seed: Seed = 0
    """Decides which rows are executed."""

    hf_token: str | None = None
    """Hugging Face token. By default, the one from `hf auth login` or HF_TOKEN."""


def check_executions(rows: list[Row], options: Options) -> Check:
    """Run the rows that have tests, and compare how they end with what they say."""
    check = Check("executions", "rows end as the dataset says")
    for language in KNOWN:
        chosen = [(row, program) for row in rows if language_of(row) == language and (program := program_in(row))]
        if not chosen and language != "python":
            continue
        try:
            limits = {"language": language, "memory": options.memory << 20}
            sandbox = Sandbox(options.sandbox_mode, options.sandboxes, options.timeout, **limits)
        except (SandboxUnavailable, ValueError) as error:
            raise UserError(str(error)) from None
        with sandbox:
            results = sandbox.run(Program(code, tests) for _, (code, tests, _) in chosen)
            for (row, (_, _, claim)), result in zip(chosen, results, strict=True):
                if result.outcome != "sandbox_error":  # which says nothing about the row
                    said = row.get("outcome") or ("passed" if claim else "not passed")
                    fault = f"row {row['id']}: {said} there, {result.outcome} here {result.detail}".rstrip()
                    check.add(result.passed == claim, fault)
    if untested := len(rows) - check.checked:
        check.what += f"; {untested:,} more of the {len(rows):,} that were drawn have no tests, or none could be run"
    return check


def check_contamination(rows: Iterable[Row], decontaminator: Decontaminator, cleaned: bool) -> Check:
    """Look for problems of benchmarks in all texts. They are a fault where a step should have removed them."""
    check, found = Check("contamination", f"rows have nothing of {', '.join(decontaminator.counts)}"), Counter()
    for row in rows:
        match = next(filter(None, (decontaminator.match(text) for text in texts_of(row, TEXTS))), None)
        check.add(match is None or not cleaned, f"row {row['id']} matches {match}")
        found[str(match)] += match is not None
    if found.total() and not cleaned:
        check.what += f", or are left to select.py to remove, or were removed by it ({found.total():,} rows)"
    return check


def verdict(checks: list[Check], executions: Check | None, least: float) -> tuple[str, bool]:
    """The last line, and whether the dataset holds."""
    failed = [check.name for check in checks if check.failed]
    if executions is None:
        line, agrees = "no row says that it passed, so nothing was executed", True
    elif not executions.checked:
        line, agrees = "no row could be executed, so nothing is known of the programs; otherwise", True
    else:
        low, high = wilson_interval(executions.agreeing, executions.checked)
        share, agrees = executions.agreeing / executions.checked, high >= least
        line = f"{share:.1%} of {executions.checked:,} executed rows agree, 95 % interval {low:.1%} to {high:.1%}"
    failed += [] if agrees else ["executions"]
    return f"{line}: {'the dataset holds' if not failed else 'wrong are ' + ', '.join(failed)}", not failed


def main(options: Options) -> None:
    """Check hashes, lineage, contamination and a sample of the executions, and print what agrees."""
    source = open_source(options.dataset, config=options.config, split=options.split, token=options.hf_token)
    there = {*source.rows.column_names, *(pair.partition("=")[0] for pair in options.column)}
    needed = ("id", *(name for name in TEXTS if name in there))
    if len(needed) == 1:
        raise missing_columns(source.name, ["response"], source.rows, "--column")
    source = replace(source, rows=with_columns(source.rows, source.name, needed, options.column))
    options, decontaminator = decontaminator_of(options)
    hashes, parts = check_parts(source, options.dataset, options.hf_token)
    # Of datasets that no step wrote, each configuration stands for itself.
    table = options.config if options.config and source.run else MAIN_TABLE
    checks = [hashes, check_record(source, parts, table), check_input(source, options.hf_token)]
    checks.append(check_rows(source, (row for _, row in source.read(title="ids"))))
    if decontaminator:
        looked_at = (*needed, *({*CONVERSATION} & {*source.rows.column_names}))
        texts = (row for _, row in source.read(None, looked_at, "contamination"))
        cleaned = source.run.get("step") in CHOSEN and table == MAIN_TABLE
        checks.append(check_contamination(texts, decontaminator, cleaned))
    drawn = random.Random(options.seed).sample(range(len(source)), min(options.samples, len(source)))
    # What a step wrote before the executions does not say yet whether it passes.
    claims = "response" in there and ("passed" in there or not source.run) and not has_old_verdicts(source.run)
    rows = (row for _, row in source.read(sorted(drawn)))
    executions = check_executions(list(rows), options) if claims else None
    line, holds = verdict(checks, executions, options.min_agreement)
    print(*checks, *([executions] if executions else []), line, sep="\n")
    if not holds:
        raise SystemExit(1)
    if executions and not executions.checked:
        raise SystemExit(2)


if __name__ == "__main__":
    run_script(main, Options, __doc__)
