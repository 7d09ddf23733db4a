"""What the README, docs/ and CONTRIBUTING.md mention exists: links, paths, commands and their options."""

import dataclasses
import re
import shlex

import pytest

from experiments import compare
from runs import rounds, self_align, small
from tests.helpers import ROOT, SCRIPTS, load_script

README_LINES = 167  # one more for each script
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^(```|~~~)(\w*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")
ANCHOR = re.compile(r"\]\((?!https?://)([^)#\s]*)#([^)\s]+)\)")
# A path of the project begins with one of its folders, or is a script or a page in its root. What a run leaves in
# runs/out does not have to exist.
PATH = re.compile(
    r"(?<![\w./-])(?:(?:\.ci|code_eval|docs|experiments|perf|prompts|runs(?!/out)|selfalign|server|tests)/[\w./-]*"
    r"|\w+\.(?:py|md)(?![\w/]))"
)
MODULE = re.compile(r"python -m ((?:experiments|perf|selfalign|tests)[\w.]*)")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def commands_and_code(text):
    """The lines of shell blocks, joined where they continue, and what stands between backticks in the prose."""
    shell = [body.replace("\\\n", " ") for _, language, body in FENCE.findall(text) if language == "bash"]
    return [line for body in shell for line in body.splitlines()] + INLINE.findall(FENCE.sub("", text))


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


@each_page
def test_links_lead_somewhere(page):
    links = LINK.findall(FENCE.sub("", page.read_text()))
    assert [link for link in links if not (page.parent / link).exists()] == []


def anchors_of(page):
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_anchors_are_headings(page):
    links = ANCHOR.findall(FENCE.sub("", page.read_text()))
    assert [(to, anchor) for to, anchor in links if anchor not in anchors_of(page.parent / to if to else page)] == []


@each_page
def test_paths_exist(page):
    named = {path for code in commands_and_code(page.read_text()) for path in PATH.findall(code)}
    assert sorted(path for path in named if not (ROOT / path).exists()) == []


@each_page
def test_modules_exist(page):
    named = {module.replace(".", "/") for module in MODULE.findall(page.read_text())}
    assert [m for m in sorted(named) if not any((ROOT / f"{m}{end}").exists() for end in (".py", "/__main__.py"))] == []


@each_page
def test_scripts_take_the_options_that_are_shown(page):
    unknown = []
    for code in commands_and_code(page.read_text()):
        words = shlex.split(code, comments=True) if ".py " in code else []
        script = next((word.removesuffix(".py") for word in words if word.removesuffix(".py") in SCRIPTS), None)
        if script:
            fields = {field.name.replace("_", "-") for field in dataclasses.fields(load_script(script).Options)}
            given = words[words.index(f"{script}.py") :]
            options = [word[2:] for word in given if word.startswith("--") and word != "--help"]
            unknown += [
                f"{script}.py --{o}" for o in options if o not in fields and o.removeprefix("no-") not in fields
            ]
    assert unknown == []


@each_page
def test_options_in_the_prose_exist(page):
    scripts = [*map(load_script, SCRIPTS), compare, rounds, self_align, small]
    known = {f"--{f.name.replace('_', '-')}" for script in scripts for f in dataclasses.fields(script.Options)}
    recipes = "".join(path.read_text() for path in (ROOT / "experiments").rglob("*.sh"))  # these have more of their own
    shown = {code.split()[0] for code in INLINE.findall(FENCE.sub("", page.read_text())) if code.startswith("--")}
    unknown = {o for o in shown - known - {"--help"} if o not in recipes and o.replace("--no-", "--", 1) not in known}
    assert sorted(unknown) == []


def test_every_page_can_be_reached_from_the_readme():
    text = (ROOT / "README.md").read_text()
    assert [page.name for page in PAGES[1:] if f"({page.relative_to(ROOT)})" not in text] == []
