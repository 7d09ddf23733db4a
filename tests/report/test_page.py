"""The report of a dataset: its files, and the page in a real browser."""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import datasets
import pyarrow as pa
import pytest

from selfalign.errors import UserError
from selfalign.report.__main__ import Options, main
from selfalign.report.charts import Chart, wilson_interval
from selfalign.report.page import EXAMPLES, TEXT_LIMIT, card_section, choose_examples, shortened, write_report
from selfalign.runner.output import open_output
from selfalign.runner.source import Source
from tests.fakes.hub import LocalHub
from tests.helpers import ROOT, read_rows, run_json

HOSTILE = """</pre></article><script>document.title = "owned"</script>
<img src="http://planted.example/a.png" onerror="document.title = 'owned'"> ${1} {{ 7 * 7 }} {% raw %} & < " '"""
OUTCOMES = ["passed", "failed", "error", "passed"]


def execution(number):
    """A sample; two in four pass. Those of number 0 and 1 are hostile."""
    outcome = OUTCOMES[number % 4]
    text = HOSTILE if number < 2 else f"Sort the {number}th list"
    return {
        "id": f"id-{number:03}",
        "task_id": f"task-{number // 2}",
        "instruction": text,
        "response": f"```python\n# {text}\ndef f(x):\n    return {number}\n```",
        "tests": "```python\nassert f(1)\n```",
        "category": ["function", "class"][number % 2],
        "difficulty": ["easy", "medium", "hard"][number % 3],
        "concepts": ["sorting", "Sorting ", "$x_$ {", "排序"][: 1 + number % 4],
        "outcome": outcome,
        "passed": outcome == "passed",
        "detail": None if outcome == "passed" else "AssertionError",
        "vacuous": False if outcome == "passed" else None,
        "mutation_score": number / 100 if outcome == "passed" else None,
    }


EXECUTIONS = [execution(number) for number in range(60)]
FUNNEL = [
    {"step": "execute", "rows_in": 60, "rows_out": 60, "counts": {"passed": 30, "failed": 15, "error": 15}},
    {"step": "select", "rows_in": 60, "rows_out": 29, "counts": {"same_instruction": 1, "did_not_pass": 30}},
]
RUN = FUNNEL[1] | {"command": "python select.py in out", "funnel": FUNNEL}


def source(rows):
    return Source("rows", {}, datasets.Dataset.from_list(rows), {})


def write_dataset(folder, rows=EXECUTIONS[::4] + EXECUTIONS[3::4], run=RUN):
    """A dataset as a step leaves it."""
    with open_output(str(folder)) as output:
        output.write_part(pa.Table.from_pylist(rows), {"covered": [(0, len(rows) - 1)]})
        output.write("run.json", json.dumps(run))
        output.write("README.md", "---\ntags: [x]\n---\n\nA person's words.\n")
    return str(folder)


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
    """The start tags of a page, with their attributes, and what its script shows."""

    def __init__(self, page):
        super().__init__()
        self.text, self.found = page, []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def of(self, tag):
        return [attributes for name, attributes in self.found if name == tag]

    @property
    def examples(self):
        return [article for article in self.of("article") if "hidden" not in article]

    @property
    def count(self):
        return re.search(r'<output id="count"[^>]*>([^<]*)<', self.text).group(1)


# ---- the files ----


def test_every_figure_is_a_picture_in_page_and_card(folder, page):
    pictures = {path.name for path in (folder / "figures").iterdir()}
    assert pictures >= {"funnel.png", "outcomes.png", "passed_by_category.png", "concepts.png", "mutation_scores.png"}
    assert all((folder / "figures" / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    assert set(re.findall(r"figures/(\w+\.png)", (folder / "README.md").read_text())) == pictures
    assert len(Elements(page).of("img")) == len(pictures)


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


def test_what_a_model_wrote_is_text_and_nothing_comes_from_outside(page):
    elements = Elements(page)
    assert not elements.of("link") and not elements.of("a") and elements.of("script") == [{}]
    assert all(set(image) == {"alt", "src"} and image["src"].startswith("data:") for image in elements.of("img"))
    assert len(elements.of("article")) == len(EXECUTIONS)


def test_captions_say_what_the_figures_show(page):
    captions = " ".join(image["alt"] for image in Elements(page).of("img"))
    assert "50.0% of all" in captions and "30 examples, which have 3 distinct ones" in captions


@pytest.mark.parametrize(("passed", "interval"), [(5, (23.66, 76.34)), (0, (0, 27.75))])
def test_rates_of_few_samples_have_wide_intervals(passed, interval):
    assert wilson_interval(passed, 10) == pytest.approx(interval, abs=0.01)


def test_a_card_of_an_odd_number_of_figures_is_a_table():
    chart = Chart("a", "A caption.", None)
    assert card_section([chart] * 3).endswith("|\n| ![A caption.](figures/a.png) |  |")


def test_long_texts_are_cut_and_say_so():
    assert shortened("x" * (TEXT_LIMIT + 1234)).endswith("x\n[… 1,234 more characters]")


# ---- which examples ----


def test_examples_come_evenly_from_the_reasons():
    rows = [{"id": str(i), "outcome": "error" if i < 3 else "failed", "passed": False} for i in range(2 * EXAMPLES)]
    found = choose_examples(source(rows), None, source(rows))
    reasons = [row["reason"] for row in found]
    assert [reasons.count(reason) for reason in ("accepted", "error", "failed")] == [EXAMPLES, 3, EXAMPLES - 3]


def test_which_examples_depends_on_their_ids_alone():
    rows = [{"id": str(i), "outcome": "failed", "passed": False} for i in range(3 * EXAMPLES)]
    ids = [{row["id"] for row in choose_examples(source(r), None, source(r))} for r in (rows, rows[::-1])]
    assert ids[0] == ids[1] and len(ids[0]) < len(rows)


def test_what_a_rule_dropped_has_its_reason():
    rejected = source([{"id": "r", "reason": "near_duplicate", "instruction": "again"}])
    accepted, dropped = choose_examples(source([{"id": "a"}]), rejected, None)
    assert (accepted["reason"], dropped["reason"], dropped["tests"]) == ("accepted", "near_duplicate", None)


# ---- as a command, and on the Hub ----


def test_a_dataset_without_run_json_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"id": "a", "instruction": "b", "response": "c"}\n')
    with pytest.raises(UserError, match=r"has no run\.json"):
        main(Options(instructions=str(tmp_path)))


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


# ---- in a browser ----

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")


@pytest.fixture(scope="module")
def browse(folder, tmp_path_factory):
    """The page in a browser, after its script ran: its elements, what it shows, the console and the network's log."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not browser:
        pytest.skip(f"no browser is installed: one of {', '.join(BROWSERS)}")
    place = tmp_path_factory.mktemp("browser")

    def browse(fragment="", page=folder / "report.html"):
        log = place / "network.json"
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        flags += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={place / 'user'}"]
        flags += ["--enable-logging=stderr", f"--log-net-log={log}", "--dump-dom"]
        words = [browser, *flags, f"{page.as_uri()}#{fragment}"]
        result = subprocess.run(words, capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, result.stderr
        console = [line for line in result.stderr.splitlines() if "CONSOLE" in line]
        return Elements(result.stdout), console, log.read_text()

    return browse


def test_the_browser_shows_all_asks_for_nothing_and_complains_of_nothing(browse):
    shown, console, network = browse()
    assert len(shown.examples) == len(EXECUTIONS) and shown.count == "60 of 60 examples"
    assert "<title>instructions: report</title>" in shown.text  # no planted script has changed it
    assert console == []
    assert "planted.example" not in network and "report.html" in network


@pytest.mark.parametrize(
    ("fragment", "fits"),
    [
        ("reason=rejected", lambda row: not row["passed"]),
        ("category=class&reason=accepted", lambda row: row["passed"] and row["category"] == "class"),
        ("search=SORT+7th", lambda row: "7th" in row["instruction"]),
    ],
)
def test_reason_category_and_search_filter(browse, fragment, fits):
    shown, console, _ = browse(fragment)
    expected = sum(map(fits, EXECUTIONS))
    assert len(shown.examples) == expected and shown.count == f"{expected} of 60 examples" and not console


@pytest.fixture
def typing(page, tmp_path):
    """The page with a script of ours that types a word into the search."""
    script = "search.value = '7th'; search.dispatchEvent(new Event('input')); document.title = location.hash"
    path = tmp_path / "typing.html"
    path.write_text(page.replace("</body>", f"<script>{script}</script></body>"))
    return path


def test_typing_filters_and_the_address_remembers(browse, typing):
    typing.write_text(re.sub("<meta http-equiv=[^>]*>", "", typing.read_text()))  # the policy would stop the script
    shown, console, _ = browse(page=typing)
    expected = sum("7th" in row["instruction"] for row in EXECUTIONS)
    assert shown.count == f"{expected} of 60 examples" and not console
    assert "<title>#search=7th</title>" in shown.text


def test_the_policy_of_the_page_lets_no_other_script_run(browse, typing):
    shown, console, _ = browse(page=typing)
    assert shown.count == "60 of 60 examples" and "Content Security Policy" in " ".join(console)
