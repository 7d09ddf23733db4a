"""Runs that an earlier version of this project began, at commit f0bf58f: continued, with no row done again.

`tests/fixtures` has the input and the output of each step, as that version left them after `--shard 0/2` of the rows.
The training was killed after its first checkpoint, of step 2.
"""

import re
import shutil

import pyarrow.parquet as pq
import pytest

from tests.fakes.server import simulated
from tests.helpers import ROOT, run, run_json

BEGUN = ROOT / "tests" / "fixtures" / "runs_begun_at_f0bf58f.tar.gz"
GENERATING = ("--examples", "../examples.yaml", "--shots", "2", "--max-new-tokens", "12")
ARGUMENTS = {
    "generate_concepts": ("input.jsonl", "output", "--template", "../concepts.jinja", *GENERATING),
    "generate_tasks": ("input.jsonl", "output", "--template", "../tasks.jinja", *GENERATING),
    "sample_responses": ("input.jsonl", "output", "--template", "../responses.jinja", *GENERATING, "--samples", "3"),
    "collect_seeds": ("input.jsonl", "output", "--type-checker", "none"),
    "execute": ("input.jsonl", "output", "--sandboxes", "2"),
    "select": ("input.jsonl", "output"),
    "benchmark": ("somebody", "output", "--samples", "input.jsonl", "--sandboxes", "2"),
}


@pytest.fixture
def begun(tmp_path):
    """The begun runs, unpacked; steps refer to templates in the folder above their own."""
    shutil.unpack_archive(BEGUN, tmp_path)
    return tmp_path / "begun"


@pytest.mark.parametrize("step", ARGUMENTS)
def test_a_begun_run_is_continued(begun, step):
    folder = begun / step
    before = {path: path.read_bytes() for path in folder.rglob("*.parquet")}
    with simulated() as server:
        endpoint = ("--endpoint", server.url) if step.startswith(("generate", "sample")) else ()
        result = run(step, *ARGUMENTS[step], *endpoint, cwd=folder)
        asked = {body.get("inputs") for body in server.bodies}
    assert result.returncode == 0, result.stderr
    assert before and all(path.read_bytes() == content for path, content in before.items()), "a part was rewritten"
    assert run_json(folder / "output")["complete"]
    for table in {path.parent for path in before}:
        ids = [id for path in table.rglob("*.parquet") for id in pq.read_table(path)["id"].to_pylist()]
        assert len(ids) == len(set(ids)) > sum(len(pq.read_table(path)) for path in before if path.parent == table)
        columns = {tuple(pq.read_schema(path).names) for path in table.rglob("*.parquet")}
        assert len(columns) == 1, "load_dataset refuses parts whose columns differ"
    if endpoint:
        assert sum("concept 0" in str(text) or "f0(x)" in str(text) for text in asked) == 0, "a row was done again"


def test_a_begun_training_is_resumed(begun):
    folder = begun / "finetune"
    options = ("--batch-size", "2", "--epochs", "10", "--max-length", "128", "--chat-template", "chat.jinja")
    result = run("finetune", "input.jsonl", "output", "--model", "model", *options, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert run_json(folder / "output")["complete"]
    steps = [int(step) for step in re.findall(r"\| (\d+)/40 ", result.stderr)]  # of the progress bar, which begins at 0
    assert min(step for step in steps if step) > 2, "a step was trained again"
