"""OctoPack's data in our columns: commits whose messages read like instructions, and conversations of volunteers.

Paper: Table 1, "CodeQwen1.5-7B-OctoPack". The data is that of OctoCoder (arXiv:2308.07124, section 3): 5,000 commits of
CommitPackFT in six languages, and the 8,587 conversations of OASST that its authors kept. Which 5,000 commits they took
is not published; here they are drawn at random from all six languages together.

    python -m experiments.baselines.octopack \\
        bigcode/commitpackft@fc56fe33c030c6daa414c2b112c932b8eed085e6 ./instructions

INPUT is CommitPackFT on the Hub, or another dataset with files `data/LANGUAGE/data.jsonl`. From a conversation the
first two messages are taken, as OctoPack's authors do.

Columns out:

    id                     hash of the two texts
    instruction, response  the commit's subject above the old file, and the new file; or question and answer
    source                 commitpackft or oasst
    language               that of the file or of the conversation
    repository, license    those of the commit; OASST is Apache-2.0
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from selfalign.errors import UserError
from selfalign.ids import content_id
from selfalign.options import CountOrZero, StepOptions, run_script
from selfalign.runner.hub import hub_name, is_hub_id
from selfalign.runner.source import Source, open_source
from selfalign.runner.step import run_step
from selfalign.runner.table import Removed, Table

COLUMNS = {name: str for name in ("id", "instruction", "response", "source", "language", "repository", "license")}


@dataclass(frozen=True, kw_only=True)
class Options(StepOptions):
    """Options of this step; the defaults are OctoCoder's."""

    conversations: str = "bigcode/oasst-octopack@1f5db3451c66a64e37158fcdf8c1951db8e90b33"
    """Dataset of conversations, each a list `conversations` of messages with `role` and `text`."""

    languages: tuple[str, ...] = ("python", "javascript", "java", "go", "c++", "rust")
    """Folders of INPUT/data to draw commits from."""

    commits: CountOrZero = 5000
    """How many commits to draw from all languages together."""


def commits_of(options: Options, language: str) -> Source:
    """The commits in one language, read from their file: the Hub repo has a loading script, which `datasets` no longer
    runs."""
    place = f"hf://datasets/{hub_name(options.input)}" if is_hub_id(options.input) else options.input.rstrip("/")
    needed = ("subject", "old_contents", "new_contents", "lang", "license", "repos")
    return open_source(f"{place}/data/{language}/data.jsonl", columns=needed, token=options.hf_token)


def from_commit(commit: dict[str, Any]) -> dict[str, Any]:
    """A commit as an instruction, as OctoPack writes it: the subject, which says what to change, and the old file."""
    return {
        "instruction": f"{commit['subject']}\n{commit['old_contents']}",
        "response": commit["new_contents"],
        "source": "commitpackft",
        "language": commit["lang"],
        "repository": (commit["repos"] or "").split(",")[0] or None,
        "license": commit["license"],
    }


def from_conversation(conversation: dict[str, Any]) -> dict[str, Any] | None:
    """The first question of a conversation and its answer; None if there is no such pair."""
    first = [message["text"] for message in conversation["conversations"][:2]]
    if len(first) < 2 or not all(text and text.strip() for text in first):
        return None
    origin = {"source": "oasst", "language": conversation.get("lang"), "repository": None, "license": "apache-2.0"}
    return {"instruction": first[0], "response": first[1], **origin}


def main(options: Options) -> None:
    """Draw commits from all languages, and add the conversations."""
    import datasets

    sources = {language: commits_of(options, language) for language in options.languages}
    oasst = open_source(options.conversations, columns=("conversations",), token=options.hf_token)

    # Hashes decide which commits are drawn, so that neither the order of the files nor that of the languages matters.
    lots = []
    for language, commits in sources.items():
        texts = zip(*(commits.rows[name] for name in ("subject", "old_contents", "new_contents")), strict=True)
        lots += [(content_id(options.seed, *text), language, i) for i, text in enumerate(texts)]
    if options.commits > len(lots):
        raise UserError(f"{options.input} has {len(lots)} commits, fewer than --commits {options.commits}")
    drawn = sorted(lots)[: options.commits]
    rows = [from_commit(sources[language].rows[i]) for _, language, i in drawn]
    conversations = [row for conversation in oasst.rows if (row := from_conversation(dict(conversation)))]

    pin = {name: " ".join(source.pin.values()) for name, source in (*sources.items(), ("oasst", oasst))}
    together = datasets.Dataset.from_list(rows + conversations)
    source = Source(f"{options.input} and {options.conversations}", pin, together, {})

    def with_id(row: dict[str, Any]) -> dict[str, Any]:
        return {"id": content_id(row["instruction"], row["response"]), **row}

    left_out = {"not_drawn": len(lots) - len(drawn), "no_answer": len(oasst) - len(conversations)}
    table = Table(source, with_id, COLUMNS, carry=False, count_by="source")
    run_step(options, table, removed=Removed(left_out))


if __name__ == "__main__":
    run_script(main, Options, __doc__)
