"""Cards and lineage: what a dataset says of where it comes from."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import datasets
import pytest
from huggingface_hub import DatasetCard

from selfalign.options import SandboxOptions, StepOptions, command_of
from selfalign.runner import card as cards
from selfalign.runner import writer
from selfalign.runner.folder_output import FolderOutput
from selfalign.runner.provenance import licenses_of_models, models_of, without_local_paths
from selfalign.runner.source import Source, open_source
from selfalign.runner.step import run_step
from selfalign.runner.table import Done, Table
from tests.helpers import read_rows, run_json
from tests.runner.doubling import double_all, options

MIXED = [("MIT", "a/b")] * 3 + [("Apache-2.0", "c/d")] * 2 + [(None, "e/f")]


def seeds(*lineages):
    columns = {"license": [one for one, _ in lineages], "repository": [one for _, one in lineages]}
    numbers = list(range(len(lineages)))
    rows = datasets.Dataset.from_dict({"id": list(map(str, numbers)), "number": numbers, **columns})
    return Source("seeds", {"fingerprint": "seeds"}, rows, {})


def card_of(folder):
    return DatasetCard.load(folder / "out" / "README.md")


@pytest.fixture
def card(tmp_path):
    """The path of the card of `tmp_path`/out."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "README.md"


def test_licences_and_repositories_are_carried_through_the_steps(tmp_path, monkeypatch):
    """Each row counts with its own: the second step drops one, and makes two of another."""
    monkeypatch.setattr(writer, "PART_ROWS", 2)
    double_all(tmp_path, seeds(*MIXED))
    some = lambda row: Done([] if row["number"] == 0 else [row] * (1 + (row["number"] == 5)))  # noqa: E731
    wanted = options(tmp_path, output=str(tmp_path / "next" / "out"))
    run_step(wanted, Table(open_source(str(tmp_path / "out")), some, {}))
    assert run_json(tmp_path / "next" / "out")["lineage"] == {
        "license": {"MIT": 2, "Apache-2.0": 2, "unknown": 2},
        "repository": {"a/b": 2, "c/d": 2, "e/f": 2},
    }
    text = card_of(tmp_path / "next").text
    assert "## Licences of the seeds" in text and "| MIT | 2 |" in text and "| e/f | 2 |" in text


def test_licences_in_long_strings_count_too(tmp_path):
    """The type that Polars writes."""
    source = seeds(*MIXED)
    rows = source.rows.cast_column("license", datasets.Value("large_string"))
    double_all(tmp_path, replace(source, rows=rows))
    assert run_json(tmp_path / "out")["lineage"]["license"] == {"MIT": 3, "Apache-2.0": 2, "unknown": 1}


LICENSES = {
    "a mixture has its own name": (MIXED, ("other", "Apache-2.0, MIT")),
    "the Hub's own word": (MIXED[:3], ("mit", None)),
    "none is made up": ([(None, None)] * 3, (None, None)),
}


@pytest.mark.parametrize(("lineages", "said"), LICENSES.values(), ids=LICENSES)
def test_the_licence_of_the_card(tmp_path, lineages, said):
    double_all(tmp_path, seeds(*lineages))
    card = card_of(tmp_path)
    assert (card.data.license, card.data.get("license_name")) == said
    assert ("of the seeds" in card.text) == (said[0] is not None)


@pytest.mark.parametrize("chosen", ["cc-by-4.0", "other", None])
def test_a_licence_that_a_person_chose_stays(tmp_path, chosen):
    double_all(tmp_path, seeds(*MIXED), max_samples=2)
    mine = card_of(tmp_path)
    mine.data.license, mine.data.license_name = chosen, chosen and "Mine"
    mine.save(tmp_path / "out" / "README.md")
    for rows in (5, None):
        double_all(tmp_path, seeds(*MIXED), max_samples=rows)
        data = card_of(tmp_path).data
        assert (data.license, data.get("license_name")) == (chosen, chosen and "Mine")


@pytest.mark.parametrize("max_samples", [5, None])
def test_killed_between_card_and_run_json_the_next_run_mends_both(tmp_path, monkeypatch, max_samples):
    """The licence of the card follows all the same: it is not taken for a person's choice."""
    double_all(tmp_path, seeds(*MIXED), max_samples=2)
    assert card_of(tmp_path).data.license == "mit"
    write, written = FolderOutput.write, []

    def killed(output, file, content):
        if file in ("README.md", "run.json"):
            written.append(file)
            if len(written) % 2 == 0 and output.parts()[-1].covered[-1][1] == (max_samples or 6) - 1:
                raise KeyboardInterrupt
        write(output, file, content)

    monkeypatch.setattr(FolderOutput, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        double_all(tmp_path, seeds(*MIXED), max_samples=max_samples)
    monkeypatch.undo()
    double_all(tmp_path, seeds(*MIXED))
    record, card = run_json(tmp_path / "out"), card_of(tmp_path)
    assert record["complete"] and record["rows_in"] == 6
    assert "| 6 | 6 |" in card.text and card.data.license == "other"


def test_what_a_person_wrote_is_kept_and_what_we_wrote_replaced(tmp_path, card):
    card.write_text("# Mine")
    double_all(tmp_path, 5, max_samples=2)
    card.write_text("---\npretty_name: Mine\n---\n" + card.read_text().split("---\n", 2)[2] + "\nMy remarks.\n")
    double_all(tmp_path, 5)
    said = card.read_text()
    assert all(text in said for text in ("# Mine", "pretty_name: Mine", "My remarks.", "| 5 | 5 |"))
    assert "| 2 | 2 |" not in said


DAMAGED = {
    "no YAML": b"---\nlicense: [mit\n---\n# Mine",
    "a list": b"---\n- mine\n---\n# Mine",
    "a number as a key": b"---\n3: mine\n---\n# Mine",
    "tags of mixed types": b"---\ntags: [Mine, 3, null, [a], {b: c}]\n---\n# Mine",
    "one tag": b"---\ntags: Mine\n---\n",
    "configs that are none": b"---\nconfigs: 3\n---\n# Mine",
    "configs without names": b"---\nconfigs: [{data_files: 3}]\n---\n# Mine",
    "Latin-1": "---\npretty_name: Caf\xe9\n---\n# Mine".encode("latin-1"),
    "no text": b"# Mine \xff\x00\x81",
    "no end of the YAML": b"---\nlicense: mit\n# Mine",
    "a mark that a person removed": f"{cards.BEGIN}\n# Mine".encode(),
    "marks the other way round": f"# A\n{cards.END}\n# B\n{cards.BEGIN}\n# Mine".encode(),
}


@pytest.mark.parametrize("damaged", DAMAGED.values(), ids=DAMAGED)
def test_a_card_that_is_damaged_loses_nothing_and_can_be_read(tmp_path, card, damaged):
    card.write_bytes(damaged)
    double_all(tmp_path, 3, max_samples=2)
    double_all(tmp_path, 3)
    written = card.read_text()
    words = damaged.decode("latin-1").replace("---", "").replace("tags: Mine", "- Mine").split("\n")
    assert not [line for line in words if "tags: [" not in line and line not in written], written
    assert len(read_rows(tmp_path / "out")) == 3 and "| 3 | 3 |" in written
    tags = card_of(tmp_path).data.tags
    assert {"selfcodealign", "synthetic"} <= set(tags) and ("Mine" in tags) == (b"tags" in damaged)


def test_many_repositories_are_counted_in_the_card_and_listed_in_run_json(tmp_path):
    double_all(tmp_path, seeds(*(("MIT", f"a/{i}") for i in range(50))))
    assert f"and {50 - cards.REPOSITORIES_SHOWN} more, in `run.json`" in card_of(tmp_path).text
    assert len(run_json(tmp_path / "out")["lineage"]["repository"]) == 50


def test_a_card_has_what_it_takes_to_do_it_again(tmp_path):
    double_all(tmp_path, 3, seed=7)
    text = card_of(tmp_path).text
    for said in ("--seed 7", "`numbers` at `numbers`", "| factor | `2` |", "python 3.", "datasets "):
        assert said in text
    assert card_of(tmp_path).data.size_categories == ["n<1K"]


def test_run_json_is_the_same_whoever_writes_it(tmp_path, monkeypatch):
    """No clock and no counter of the process is in it, so a commit that is tried again changes nothing."""
    monkeypatch.setattr(writer, "PART_ROWS", 2)
    double_all(tmp_path, 6)
    run = tmp_path / "out" / "run.json"
    before = run.read_text()
    run.write_text(json.dumps(json.loads(before) | {"complete": False}))  # killed before it was written
    double_all(tmp_path, 6)
    assert run.read_text() == before and len(read_rows(tmp_path / "out")) == 6


# ---- models, licences and paths ----


@pytest.fixture
def written_by_a_model(tmp_path):
    """A source that a model generated, from a run.json of before `models` was in it, in the folder `generated`."""
    double_all(tmp_path / "generated", seeds(*MIXED))
    source = open_source(str(tmp_path / "generated" / "out"))
    run = {name: value for name, value in source.run.items() if name not in ("models", "sources")}
    identity = run["identity"] | {"model": "org/model", "revision": "abc"}
    return replace(source, run=run | {"identity": identity})


def test_what_a_model_generated_has_its_licence_and_its_name(tmp_path, written_by_a_model):
    """The seeds' licences are told, but they are not the data's. The step itself asks no model."""
    double_all(tmp_path, written_by_a_model)
    card = card_of(tmp_path)
    assert (card.data.license, card.data.license_name) == ("other", "that of org/model")
    assert "| model | `org/model` at `abc` |" in card.text and "## Licences of the seeds" in card.text
    models = [{"model": "org/model", "revision": "abc", "license": None}]
    assert run_json(tmp_path / "out")["models"] == models


def test_a_licence_that_was_given_for_a_teacher_counts():
    teacher = {"identity": {"model": "a/b", "options": {"license": "cc-by-4.0"}}}
    assert licenses_of_models(models_of(teacher), None, ask=False) == ["cc-by-4.0"]


def test_a_card_lists_the_datasets_that_it_was_made_from(tmp_path, written_by_a_model):
    double_all(tmp_path, written_by_a_model)
    rows = card_of(tmp_path).text.partition("## Lineage")[2].splitlines()[4:6]
    first, second = (row.split("|")[2].strip() for row in rows)
    assert first == "`seeds` at `seeds`" and second.startswith("`…/out` at `")


def test_empty_configurations_are_not_listed(tmp_path):
    empty = Table(replace(seeds(*MIXED), pin={"fingerprint": "other"}), lambda row: Done([]), {})
    full = replace(empty, row_function=lambda row: row)
    table = Table(seeds(*MIXED), lambda row: row, {})
    run_step(options(tmp_path), table, tables={"preferences": full, "rejected": empty})
    text = card_of(tmp_path).text
    assert "| preferences | 6 |" in text and "| rejected |" not in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("python x.py /home/me/in --f=/mnt/d/y", "python x.py ~/in --f=…/y"),
        ("`/home/me/project/a/b` at", "`./a/b` at"),
        ("http://host:80/v1 s3://b/c [/INST] </s> 1/2 tokens/s ./a /", None),
    ],
)
def test_no_absolute_path_of_this_machine_is_shown(monkeypatch, text, shown):
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    monkeypatch.setattr(Path, "cwd", lambda: Path("/home/me/project"))
    assert without_local_paths(text) == (shown or text)


def test_the_command_names_no_option_that_was_not_given(monkeypatch):
    @dataclass(frozen=True, kw_only=True)
    class Options(SandboxOptions, StepOptions):
        pass

    monkeypatch.setattr("sys.argv", ["step.py"])
    assert command_of(Options(input="./a", output="./b")) == "python step.py ./a ./b"
