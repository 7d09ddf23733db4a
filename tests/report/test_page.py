"""The report of datasets and runs: which rows it holds, its files, and what it says of them."""

import base64
import json
import re
import shutil
import subprocess
import sys
import zlib
from html.parser import HTMLParser

import datasets
import pyarrow as pa
import pytest

from selfalign.errors import UserError
from selfalign.report.__main__ import Options, main
from selfalign.report.charts import Bars, Chart, draw_charts, rates_of
from selfalign.report.page import card_section, write_report
from selfalign.report.rows import TEXT_LIMIT, Group, groups_of, shortened, spread
from selfalign.report.runs import Run, open_run
from selfalign.runner.source import Source
from tests.fakes.hub import LocalHub
from tests.helpers import ROOT, read_rows, run_json
from tests.report.examples import EXECUTIONS, HOSTILE, RUN, write_dataset


def source(rows):
    return Source("rows", {}, datasets.Dataset.from_list(rows), {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A dataset with its report."""
    folder = tmp_path_factory.mktemp("report") / "instructions"
    write_report(write_dataset(folder), source(EXECUTIONS))
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return (folder / "report.html").read_text()


class Elements(HTMLParser):
    """The start tags of a page, with their attributes."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def of(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def unpacked(page):
    """The index of a page and the bodies of its rows."""
    packed = re.findall(r'<script type="text/plain"[^>]*>([^<]*)</script>', page)
    index, *chunks = (json.loads(zlib.decompress(base64.b64decode(text))) for text in packed)
    return index, [body for chunk in chunks for body in chunk]


def words(page):
    """The groups of the rows on a page, in order."""
    index, _ = unpacked(page)
    return [index["names"]["group"][number] for number in index["rows"]["group"]]


def report_of(place, folder, *more):
    """The page about a place, as the command writes it."""
    main(Options(runs=(str(place), *map(str, more)), output=folder / "page.html"))
    return (folder / "page.html").read_text()


# ---- the files ----


def test_every_figure_is_a_picture_in_page_and_card(folder, page):
    pictures = {path.name for path in (folder / "figures").iterdir()}
    assert pictures >= {"funnel.png", "outcomes.png", "passed_by_category.png", "concepts.png", "mutation_scores.png"}
    assert all((folder / "figures" / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    assert set(re.findall(r"figures/(\w+\.png)", (folder / "README.md").read_text())) == pictures
    assert len(Elements(page).of("figure")) == len(pictures)


def test_the_dataset_reads_as_before(folder):
    assert [row["id"] for row in read_rows(folder)] == [row["id"] for row in EXECUTIONS if row["passed"]]
    assert run_json(folder) == RUN


def test_writing_it_again_changes_nothing(folder, tmp_path):
    """Neither the files, nor what a person wrote into the card, nor the number of our sections in it."""
    again = shutil.copytree(folder, tmp_path / "instructions")
    write_report(str(again), source(EXECUTIONS))
    for path in [folder / "report.html", folder / "README.md", *(folder / "figures").iterdir()]:
        assert path.read_bytes() == (again / path.relative_to(folder)).read_bytes()
    card = (again / "README.md").read_text()
    assert card.startswith("---\ntags: [x]\n---\n\nA person's words.") and card.count("## Report") == 1


def test_figures_that_lack_their_columns_are_left_out(tmp_path):
    rows = [{"id": "a", "instruction": "do", "response": "done"}]
    write_report(write_dataset(tmp_path / "out", rows), source([{"id": "a", "passed": True}]))
    names = sorted(path.stem for path in (tmp_path / "out/figures").iterdir())
    assert names == ["funnel", "left_out", "words_of_instructions", "words_of_responses"]


OTHER_TYPES = {
    "tests": ["assert f(1)", "assert f(2)"],
    "concepts": "loops, sums",
    "pass_rate": "0.5",
    "instruction": None,
    "mutation_score": float("nan"),
    "category": ["a"],
}


@pytest.mark.parametrize("column", OTHER_TYPES)
def test_a_column_of_another_type_costs_only_its_figure(tmp_path, column):
    """A dataset that no step wrote may have any."""
    row = {"id": "a", "response": "done", "passed": True, "outcome": "passed", column: OTHER_TYPES[column]}
    datasets.Dataset.from_list([row] * 2).to_parquet(tmp_path / "rows.parquet")
    assert 'aria-label="How many words the responses' in (page := report_of(tmp_path / "rows.parquet", tmp_path))
    assert unpacked(page)[0]["rows"]["score"] == [None, None]


def test_what_a_model_wrote_is_text_and_nothing_comes_from_outside(page):
    elements = Elements(page)
    assert (
        not elements.of("a") and not elements.of("img") and elements.of("link") == [{"rel": "icon", "href": "data:,"}]
    )
    assert [script for script in elements.of("script") if script.get("type") != "text/plain"] == [{}]
    _, bodies = unpacked(page)
    assert bodies[0]["parts"][0] == ["Instruction", "markdown", HOSTILE] and len(bodies) == len(EXECUTIONS)


def test_captions_say_what_the_figures_show(page):
    captions = " ".join(figure["aria-label"] for figure in Elements(page).of("figure"))
    assert "50.0% of all" in captions and "30 rows, which have 3 distinct ones" in captions


@pytest.mark.parametrize(("passed", "interval"), [(5, (23.66, 76.34)), (0, (0, 27.75))])
def test_rates_of_few_samples_have_wide_intervals(passed, interval):
    whiskers = list(rates_of("", ["a"], [passed], [10]).whiskers or ())
    assert whiskers[0] == pytest.approx(interval, abs=0.01)


def test_many_samples_of_few_tasks_have_wide_intervals():
    """Where it is known which task a sample is of: of 100 samples of two tasks, one always passes and one never."""
    samples = {"passed": [True] * 50 + [False] * 50, "outcome": ["passed"] * 50 + ["failed"] * 50}
    samples |= {"category": ["function"] * 100, "task_id": ["a"] * 50 + ["b"] * 50}

    def whiskers(columns):
        table = pa.table({name: samples[name] for name in columns})
        charts = {chart.name: chart.plot for chart in draw_charts({"counts": {}}, pa.table({}), table)}
        return next(iter(charts["passed_by_category"].whiskers))

    assert whiskers(samples) == pytest.approx((0, 100))
    over_samples = pytest.approx((40.4, 59.6), abs=0.1)
    assert whiskers(samples.keys() - {"task_id"}) == over_samples
    samples["task_id"] = [None, *samples["task_id"][1:]]
    assert whiskers(samples) == over_samples


def test_the_pass_rates_of_tasks_are_a_figure():
    (chart,) = draw_charts({"counts": {}}, pa.table({"pass_rate": [0.25, 1.0, None]}), None)
    assert "of 2 examples, on average 0.62; 1 of these tasks were always solved" in chart.caption
    assert chart.plot.counts[2] == chart.plot.counts[9] == 1


def test_a_card_of_an_odd_number_of_figures_is_a_table():
    chart = Chart("a", "A caption.", Bars("", [], [], []))
    assert card_section([chart] * 3, []).endswith("|\n| ![A caption.](figures/a.png) |  |")


def test_a_card_begins_with_three_examples_and_the_funnel(folder):
    """After what a person wrote. What a model wrote can't end the fence that it stands in."""
    card = (folder / "README.md").read_text()
    places = [card.index(text) for text in ("A person's words.", "## Example 3", "![Rows into and out of", "# select")]
    assert places == sorted(places)
    fenced = card_section([], [{"parts": [["Response", "markdown", "a\n~~~~\nb"]]}])
    assert "~~~~~markdown\na\n~~~~\nb\n~~~~~\n" in fenced


def test_long_texts_are_cut_and_say_so():
    assert shortened("x" * (TEXT_LIMIT + 1234)).endswith("x\n[… 1,234 more characters]")


# ---- which rows ----


def run_of(accepted, rejected=None, samples=None):
    return Run("a", "a", {}, source(accepted), rejected and source(rejected), samples and source(samples))


def test_all_rows_are_there_by_the_reason_why_they_were_not_chosen():
    """A sample that passed and that no rule rejected was not drawn."""
    samples = [{"id": id, "passed": id in "abd", "outcome": "passed" if id in "abd" else "failed"} for id in "abcd"]
    run = run_of([{"id": "a"}], [{"id": "b", "reason": "near_duplicate"}], samples)
    found = {group.word: [group.source.rows[n]["id"] for n in group.positions] for group in groups_of(run)}
    assert found == {"accepted": ["a"], "near_duplicate": ["b"], "failed": ["c"], "not_drawn": ["d"]}


def test_where_not_all_fit_each_group_gets_its_share():
    rows = source([{"id": str(n)} for n in range(1000)])
    groups = [Group("accepted", rows, list(range(600))), Group("a", rows, [1, 2]), Group("b", rows, list(range(300)))]
    assert [len(group.positions) for group in spread(groups, 100)] == [50, 2, 48]
    assert [len(group.positions) for group in spread(groups, 902)] == [600, 2, 300]


def test_which_rows_depends_on_their_ids_alone():
    rows = [{"id": str(n)} for n in range(100)]
    chosen = [spread([Group("a", source(r), list(range(100)))], 10)[0] for r in (rows, rows[::-1])]
    ids = [{group.source.rows[n]["id"] for n in group.positions} for group in chosen]
    assert ids[0] == ids[1] and len(ids[0]) == 10


def test_a_page_says_when_it_has_not_all_rows(tmp_path):
    dataset = write_dataset(tmp_path / "out", EXECUTIONS, RUN | {"step": "execute"})
    main(Options(runs=(dataset,), output=tmp_path / "page.html", rows=10))
    page = (tmp_path / "page.html").read_text()
    assert len(words(page)) == 10 and "10 of 60 rows are on this page" in page and "--rows 60" in page


ROW = {"id": "a", "instruction": "do", "response": "done"}
OUTPUTS = {
    "seeds": ({"id": "a", "content": "def f(): ...", "name": "f", "license": "mit"}, "row", ["Seed"]),
    "concepts": ({"id": "a", "content": "x = 1", "concepts": ["b", "c"], "error": None}, "row", ["Seed"]),
    "tasks": ({"id": "a", "instruction": "do", "error": "unfinished"}, "unfinished", ["Instruction"]),
    "responses": (ROW | {"completion": "as it came", "finish_reason": "length"}, "length", ["Instruction", "Response"]),
    "executions": (ROW | {"outcome": "timeout", "passed": False}, "timeout", ["Instruction", "Response"]),
    "an audit": (ROW | {"outcome": "passed", "passed": True, "right": False, "support": 0.5}, "passed, wrong", None),
    "a benchmark": ({"task_id": "a", "code": "x = 1", "outcome": "passed", "passed": True}, "passed", ["Code"]),
    "a chat": ({"id": "a", "messages": [{"role": "user", "content": "do"}]}, "row", []),
}


@pytest.mark.parametrize(("row", "word", "headings"), OUTPUTS.values(), ids=OUTPUTS)
def test_the_output_of_any_step_has_a_report(tmp_path, row, word, headings):
    page = report_of(write_dataset(tmp_path / "out", [row], RUN | {"step": "x"}), tmp_path)
    (body,) = unpacked(page)[1]
    assert words(page) == [word]
    assert headings is None or [heading for heading, _, _ in body["parts"]] == headings


def test_the_pass_rate_of_a_task_is_that_of_its_samples(page):
    index, _ = unpacked(page)
    rates = dict(zip(index["rows"]["id"], index["rows"]["rate"], strict=True))
    assert (rates["id-000"], rates["id-002"], rates["id-003"]) == (0.5, 0.5, 0.5)


# ---- several runs ----


@pytest.fixture
def two_runs(tmp_path):
    """Folders of two runs: one with instructions, a benchmark and an audit, one with executions only."""
    write_dataset(tmp_path / "a" / "executions", EXECUTIONS, RUN | {"step": "execute", "funnel": RUN["funnel"][:1]})
    write_dataset(tmp_path / "a" / "instructions")
    write_dataset(tmp_path / "a" / "after" / "humaneval")
    result = {"benchmark": "humaneval", "scores": {"pass@1": 0.25}, "intervals": {"pass@1": [0.125, 0.5]}}
    (tmp_path / "a" / "after" / "humaneval" / "results.json").write_text(json.dumps(result))
    write_dataset(tmp_path / "a" / "audit")
    rule = {"kept": 3, "precision": [0.5, 0.25, 0.75], "recall": [float("nan")] * 3, "coverage": [1, 1, 1]}
    (tmp_path / "a" / "audit" / "audit.json").write_text(json.dumps({"rules": {"passes": rule}}))
    write_dataset(
        tmp_path / "b" / "executions", EXECUTIONS[:20], RUN | {"step": "execute", "funnel": RUN["funnel"][:1]}
    )
    return tmp_path


def test_runs_stand_side_by_side(two_runs):
    page = report_of(f"first={two_runs / 'a'}", two_runs, two_runs / "b")
    for text in (
        "after: humaneval pass@1",
        "25.0 % [12.5, 50.0]",
        "50.0 % [37.7, 62.3]",
        "50.0 [25.0, 75.0]",
        "60 → 29",
    ):
        assert text in page
    index, _ = unpacked(page)
    assert index["names"]["run"] == ["first", "b"]
    assert open_run(str(two_runs / "a")).record["step"] == "select"


def test_a_step_that_was_taken_twice_is_in_the_funnel_twice(tmp_path):
    """What repair.py has mended is executed again."""
    repaired = [RUN["funnel"][0], {"step": "repair", "rows_in": 60, "rows_out": 17, "counts": {}}]
    funnel = [*repaired, {"step": "execute", "rows_in": 17, "rows_out": 13, "counts": {}}]
    page = report_of(write_dataset(tmp_path / "mended", run=RUN | {"step": "execute", "funnel": funnel}), tmp_path)
    table = page[page.index('<table id="funnel"') :]
    rows = re.findall(r"<tr><th>(\w+)</th>\s*<td[^>]*>(\d+)</td>", table[: table.index("</table>")])
    assert rows == [("execute", "60"), ("repair", "60"), ("execute", "17")]


def test_executions_are_found_beside_instructions_that_were_moved(tmp_path):
    """Only those that the instructions were selected from."""
    write_dataset(tmp_path / "executions", EXECUTIONS, RUN | {"step": "execute"})
    pin = open_run(str(tmp_path / "executions")).rows.pin
    chosen = RUN | {"step": "select", "input": {"name": "./elsewhere/executions", **pin, "selection": "x"}}
    assert len(open_run(write_dataset(tmp_path / "a", run=chosen)).samples) == 60
    chosen["input"]["fingerprint"] = "of another run"
    assert open_run(write_dataset(tmp_path / "b", run=chosen)).samples is None


def test_two_runs_of_one_name_are_refused(two_runs):
    with pytest.raises(UserError, match="two runs are called a"):
        report_of(two_runs / "a", two_runs, f"a={two_runs / 'b'}")


# ---- as a command, and on the Hub ----


def test_what_has_no_run_json_gets_no_report_into_it(tmp_path):
    """It can have one beside it."""
    (tmp_path / "rows.jsonl").write_text(json.dumps(ROW) + "\n")
    with pytest.raises(UserError, match=r"has no run\.json.*--output report\.html"):
        main(Options(runs=(str(tmp_path),)))
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]
    assert words(report_of(tmp_path / "rows.jsonl", tmp_path)) == ["row"]


def test_a_file_that_is_no_report_is_not_overwritten(tmp_path, two_runs):
    mine = tmp_path / "page.html"
    mine.write_text("mine")
    with pytest.raises(UserError, match="is no report: it is not overwritten"):
        report_of(two_runs / "a", tmp_path)
    assert mine.read_text() == "mine"
    mine.unlink()
    assert report_of(two_runs / "a", tmp_path) == report_of(two_runs / "a", tmp_path)


def test_a_space_is_made_by_one_command_and_what_a_person_wrote_there_stays(tmp_path, two_runs):
    with LocalHub() as hub:
        command = [sys.executable, "-m", "selfalign.report", str(two_runs / "a"), "--space", "org/look"]
        environment = hub.environment(tmp_path)
        subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=120)
        there = hub.files("org/look", "space")
        assert b"<!doctype html>" in there["index.html"] and b"sdk: static" in there["README.md"]
        hub.add("org/look", {"README.md": there["README.md"] + b"\nMy words.\n"}, repo_type="space")
        subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=120)
        assert b"My words." in hub.files("org/look", "space")["README.md"]
        hub.add("org/look", {"index.html": b"<p>my page</p>"}, repo_type="space")
        refused = subprocess.run(command, cwd=ROOT, env=environment, timeout=120, capture_output=True, text=True)
        assert refused.returncode == 2 and "is no report" in refused.stderr


def test_the_report_goes_to_the_hub_in_one_commit(tmp_path):
    local = tmp_path / "instructions"
    write_dataset(local)
    files = {str(path.relative_to(local)): path.read_bytes() for path in local.rglob("*.*") if path.is_file()}
    with LocalHub() as hub:
        hub.add("org/instructions", files)
        before = len(hub.commits("org/instructions"))
        command = [sys.executable, "-m", "selfalign.report", "org/instructions"]
        subprocess.run(command, cwd=ROOT, env=hub.environment(tmp_path), check=True, timeout=120)
        there = hub.files("org/instructions")
        assert len(hub.commits("org/instructions")) == before + 1
    assert there["figures/funnel.png"].startswith(b"\x89PNG") and b"figures/funnel.png" in there["README.md"]
    assert b"<!doctype html>" in there["report.html"] and there["run.json"] == files["run.json"]
