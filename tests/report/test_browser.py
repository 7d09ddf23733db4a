"""The report in a real browser: it looks, searches and sorts as it should, by mouse, by keyboard and on a phone."""

import random
import re

import pytest

from selfalign.report.page import page_of, write_report
from selfalign.report.runs import open_run
from tests.report.browser import BROWSERS, Browser, browser
from tests.report.examples import EXECUTIONS, RUN, write_dataset

PHONE = {"width": 390, "height": 844}
COUNT = "document.getElementById('count').textContent"
SHOWN = "[...document.querySelectorAll('article .first')].map(each => each.textContent)"
MANY = 20_000
QUICK = 4  # seconds of CPU to load and to search so many rows, on a slow machine
# The lowest contrast of a text with what is behind it, by WCAG 2.2, and the text.
LOWEST_CONTRAST = """(() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const over = (colors) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const color of colors) { canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (color) => {
    const [r, g, b] = color.map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let lowest = [99, ""];
  const look = (element, color, text) => {
    const behind = [];
    for (let at = element; at; at = at.parentElement) behind.unshift(getComputedStyle(at).backgroundColor);
    const [a, b] = [light(over(behind)), light(over([...behind, color]))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < lowest[0]) lowest = [contrast, `${element.tagName}.${element.className}: ${text.slice(0, 40)}`];
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const { parentElement: element, data } = texts.currentNode;
    if (data.trim() && element.checkVisibility() && !["SCRIPT", "NOSCRIPT", "OPTION"].includes(element.tagName))
      look(element, getComputedStyle(element).color, data);
  }
  for (const field of document.querySelectorAll("input, select")) look(field, getComputedStyle(field).color, field.id);
  const search = document.getElementById("search");
  look(search, getComputedStyle(search, "::placeholder").color, "placeholder");
  return lowest;
})()"""

pytestmark = pytest.mark.skipif(not browser(), reason=f"no browser is installed: one of {', '.join(BROWSERS)}")


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    tab = Browser(tmp_path_factory.mktemp("browser"))
    yield tab
    tab.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of instructions with all that a report can have."""
    folder = tmp_path_factory.mktemp("report")
    executions = write_dataset(folder / "executions", EXECUTIONS, RUN | {"step": "execute"})
    pair = {
        "chosen_id": "id-004",
        "rejected": [{"role": "assistant", "content": "Use `f`:\n```python\nx = 1\n```\nDone."}],
    }
    chosen = [row for row in EXECUTIONS[::4] if row["id"] != "id-008"]
    instructions = write_dataset(folder / "instructions", chosen, preferences=[pair])
    write_report(instructions, open_run(executions).rows)
    return folder / "instructions" / "report.html"


def type_into(tab, text):
    tab.run("document.getElementById('search').focus()")
    for character in text:
        tab.press(character)


def test_all_rows_are_shown_nothing_is_asked_for_and_nothing_complains(tab, page):
    tab.open(page)
    assert tab.run(COUNT) == "60 of 60 rows" and len(tab.run(SHOWN)) == 50
    assert tab.run("document.title") == "instructions: report"  # no planted script has changed it
    tab.run("document.getElementById('open').click()")
    tab.wait_for("document.querySelectorAll('.body').length == 50")
    assert not tab.console and {url for url in tab.requests if not url.startswith("data:")} == {page.as_uri()}
    assert tab.run("document.querySelectorAll('#list img, #list script').length") == 0


@pytest.mark.parametrize(
    ("fragment", "fits"),
    [
        (
            "group=accepted",
            lambda row: row["outcome"] == "passed" and int(row["id"][3:]) % 4 == 0 and row["id"] != "id-008",
        ),
        ("group=not+drawn", lambda row: row["passed"] and (int(row["id"][3:]) % 4 == 3 or row["id"] == "id-008")),
        ("group=-accepted&category=class", lambda row: row["category"] == "class"),
        ("difficulty=hard&group=failed", lambda row: row["outcome"] == "failed" and row["difficulty"] == "hard"),
        ("search=SORT+7th", lambda row: "7th" in row["instruction"]),
        ("search=return+41", lambda row: "return 41" in row["response"]),
        ("search=.*", lambda row: False),
    ],
)
def test_search_and_filters_choose_rows(tab, page, fragment, fits):
    tab.open(page, fragment)
    assert tab.run(COUNT) == f"{sum(map(fits, EXECUTIONS))} of 60 rows" and not tab.console


@pytest.mark.parametrize(("order", "first"), [("score", "Sort the 3th list"), ("-score", "Sort the 59th list")])
def test_rows_are_sorted_by_mutation_score(tab, page, order, first):
    tab.open(page, f"sort={order}&search=sort+list")
    assert tab.run(SHOWN)[0] == first


def test_typing_filters_and_the_address_remembers(tab, page):
    tab.open(page)
    type_into(tab, "7th")
    tab.wait_for(f"/^\\d+ of/.test({COUNT}) && !{COUNT}.startsWith('60')")
    assert tab.run("location.hash") == "#search=7th"
    assert tab.run(COUNT) == f"{sum('7th' in row['instruction'] for row in EXECUTIONS)} of 60 rows"


def test_escape_leaves_the_search_and_keeps_it(tab, page):
    tab.open(page, "search=7th")
    found = tab.run(COUNT)
    tab.press("/")
    tab.press("Escape")
    assert (
        tab.run("document.activeElement.id") != "search" and tab.run("document.getElementById('search').value") == "7th"
    )
    assert tab.run(COUNT) == found


def test_everything_can_be_done_by_keyboard(tab, page):
    tab.open(page)
    tab.press("j")
    tab.press("j")
    tab.press("Enter")
    tab.wait_for("document.querySelectorAll('details')[1].open && !!document.querySelector('.body')")
    tab.press("k")
    assert tab.run("document.activeElement === document.querySelector('summary')")
    tab.press("n")
    assert tab.run("document.getElementById('page').textContent") == "page 2 of 2" and len(tab.run(SHOWN)) == 10
    tab.press("/")
    assert tab.run("document.activeElement.id") == "search" and tab.run("document.activeElement.value") == ""


def test_a_link_leads_to_its_row_on_whatever_page(tab, page):
    tab.open(page, "id=id-059")
    tab.wait_for("document.querySelector('[open] .facts a')?.textContent == 'id-059'")
    assert tab.run("document.querySelector('details[open]').getBoundingClientRect().top < innerHeight")
    tab.run("document.querySelectorAll('[open] .facts')[1].querySelector('a').click()")  # another row of its task
    tab.wait_for("document.querySelector('[open] .facts a')?.textContent == 'id-058'")


def test_links_tell_runs_with_the_same_ids_apart(tab, tmp_path):
    runs = [open_run(f"{name}={write_dataset(tmp_path / name, EXECUTIONS, RUN | {'step': 'x'})}") for name in "ab"]
    (tmp_path / "report.html").write_text(page_of(runs))
    tab.open(tmp_path / "report.html", "id=id-004&run=b")
    assert tab.wait_for("document.querySelector('[open] .facts a')?.hash") == "#id=id-004&run=b"
    others = "[...document.querySelectorAll('[open] .facts')[1].querySelectorAll('a')].map(link => link.hash)"
    assert tab.run(others) == ["#id=id-004&run=a", "#id=id-005&run=a", "#id=id-005&run=b"]


def test_prose_and_code_are_told_apart_and_code_has_colors(tab, page):
    tab.open(page, "id=id-004")
    tab.wait_for("!!document.querySelector('.body')")
    assert "```" not in tab.run("document.querySelector('.body').textContent.split('Difference')[0]")
    assert tab.run("document.querySelectorAll('.body h3 + p.prose code')[0].textContent") == "f"
    spans = tab.run(
        "[...document.querySelectorAll('.body pre')[0].querySelectorAll('span')].map(s => s.className + s.textContent)"
    )
    assert spans == ["c# Sort the 4th list", "kdef", "df", "kreturn", "n4"]


def test_the_difference_of_chosen_and_rejected_is_shown(tab, page):
    tab.open(page, "id=id-004")
    lines = tab.wait_for("[...document.querySelectorAll('.diff span')].map(s => s.textContent)")
    signs = "".join(line[0] for line in lines)
    assert re.fullmatch(r"  -\+\+\+  ", signs) and "- x = 1" in lines and "+     return 4" in lines


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [{}, PHONE], ids=["wide", "phone"])
def test_text_has_contrast_and_nothing_is_wider_than_the_window(tab, page, size, dark):
    tab.open(page, dark=dark, **size)
    tab.run("document.getElementById('open').click()")
    tab.wait_for("document.querySelectorAll('.body').length == 50")
    contrast, text = tab.run(LOWEST_CONTRAST)
    assert contrast >= 4.5, text
    assert tab.run("document.documentElement.scrollWidth <= innerWidth")
    background = tab.run("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") != dark


def test_a_page_of_many_rows_is_quick(tab, tmp_path):
    """All texts are different, and of the length that models write; the search looks through all of them."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randrange(3, 10))) for _ in range(20_000)]
    rows = [
        {
            "id": f"{n:06}",
            "instruction": " ".join(draw.choices(words, k=60)),
            "response": " ".join(draw.choices(words, k=180)),
        }
        for n in range(MANY - 1)
    ]
    rows.append({"id": "last", "instruction": "find me", "response": "the needle"})
    write_report(write_dataset(tmp_path / "rows", rows, RUN | {"step": "x"}))
    before = tab.busy()
    tab.open(tmp_path / "rows" / "report.html")
    assert tab.run(COUNT) == "20,000 of 20,000 rows"
    type_into(tab, "needle")
    tab.wait_for(f"{COUNT}.startsWith('1 of')", 120)
    assert tab.run(SHOWN) == ["find me"] and tab.busy() - before < QUICK


def test_the_policy_of_the_page_lets_no_other_script_run(tab, page, tmp_path):
    planted = tmp_path / "planted.html"
    planted.write_text(page.read_text().replace("</body>", "<script>document.title = 'owned'</script></body>"))
    tab.open(planted)
    assert tab.run("document.title") == "instructions: report" and "Content Security Policy" in " ".join(tab.console)
