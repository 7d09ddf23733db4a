"""What users get wrong, as commands: one sentence that says what to do, a status that is not 0, and nothing is lost.

python -m tests.scripts.test_wrong_inputs      # prints all of them as a table
"""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.data.tools import sample
from tests.fakes.server import simulated
from tests.helpers import ROOT, command, read_rows, write_rows
from tests.scripts.test_generating import CONCEPTS, SEEDS

ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
FULL_AT = 1000  # bytes in a file, for the disk that is full


@dataclass(frozen=True)
class Case:
    """A command, which runs in the folder of `prepare`, and what it says."""

    words: str
    says: str
    status: int = 2


CONCEPTS_FROM = "generate_concepts {} out --endpoint URL"
SEEDS_WITH = "generate_concepts seeds.jsonl out --endpoint URL "
CASES = {
    # paths
    "no such folder": Case(CONCEPTS_FROM.format("nowhere"), "there is no dataset nowhere"),
    "a wrong name": Case("collect_seeds stdlb out", "did you mean stdlib"),
    "the output is forgotten": Case("collect_seeds code", "Required options.*OUTPUT"),
    "an output with own files": Case("collect_seeds code mine", r"contains thesis.txt.*choose another output"),
    "a file of another kind": Case(CONCEPTS_FROM.format("notes.txt"), r"no file that ends in .parquet"),
    "a Hub id without a network": Case(CONCEPTS_FROM.format("org/seeds"), "org/seeds"),
    "no such model": Case(
        "finetune seeds.jsonl out --column instruction=id response=content --model ./m", "./m .* no such file or folder"
    ),
    # columns
    "another column": Case(CONCEPTS_FROM.format("code.jsonl"), "--column content=func_source"),
    "a column that is not there": Case(
        CONCEPTS_FROM.format("code.jsonl") + " --column content=func", r"content=func_source\?"
    ),
    "the output of another step": Case(
        "execute seeds.jsonl out", "no column response, tests; its columns are id, content"
    ),
    # types and ids
    "numbers for code": Case(CONCEPTS_FROM.format("numbers.jsonl"), "content of .* holds int64"),
    "lists for code": Case(CONCEPTS_FROM.format("lists.jsonl"), "content of .* holds list"),
    "lists for ids": Case(CONCEPTS_FROM.format("list_ids.jsonl"), "ids must be text or whole numbers"),
    "text for concepts": Case("generate_tasks texts.jsonl out --endpoint URL", "must hold lists of text"),
    "duplicate ids": Case(CONCEPTS_FROM.format("twice.jsonl"), "the id 1 in more than one row"),
    "two tasks with one id": Case("select executions.jsonl out --decontaminate", "and different instructions"),
    # files
    "an empty file": Case(CONCEPTS_FROM.format("empty.jsonl"), "has no rows"),
    "not UTF-8": Case(CONCEPTS_FROM.format("latin.jsonl"), "is not UTF-8 text: convert it"),
    "half a file": Case(CONCEPTS_FROM.format("half.parquet"), "^generate_concepts.py: .*half.parquet can't be read"),
    "a configuration of a file": Case(
        "export executions.jsonl out --to openai --config preferences", "leave out --config"
    ),
    # templates and examples
    "a template without a row": Case(SEEDS_WITH + "--template no_row.jinja", "uses no column of the input"),
    "a name that is not defined": Case(
        SEEDS_WITH + "--template typo.jinja", "'content' is undefined; columns of the input are written as"
    ),
    "no template": Case(SEEDS_WITH + "--template none.jinja", "none.jinja can't be read"),
    "too many worked examples": Case(SEEDS_WITH + "--shots 50", "more than the 21 worked examples"),
    "examples that are no list": Case(SEEDS_WITH + "--examples notes.txt", "should be a YAML list of mappings"),
    # options
    "no such kind of program": Case(
        "generate_tasks concepts.jsonl out --categories functions", "none of class, function"
    ),
    "a number out of range": Case(SEEDS_WITH + "--temperature -1.0", "must be at least 0"),
    "no such option": Case(SEEDS_WITH + "--tempereture 1", "Unrecognized options: --tempereture"),
    "no such shard": Case(SEEDS_WITH + "--shard 4/4", "the first of four shards is 0/4"),
    "no such benchmark": Case(
        "benchmark m out --samples seeds.jsonl --benchmark humanevel", r"did you mean humaneval\?"
    ),
    "other options than before": Case(
        "generate_concepts seeds.jsonl begun --endpoint URL --temperature 0.2", "temperature was 0.7, is 0.2"
    ),
    "the output of a step before": Case(
        "generate_tasks concepts.jsonl begun --endpoint URL", "holds what generate_concepts wrote, not generate_tasks"
    ),
    # servers
    "no server": Case("generate_concepts seeds.jsonl out --endpoint http://127.0.0.1:9", "no endpoint answers at"),
    "not a server of models": Case(
        "generate_concepts seeds.jsonl out --endpoint OTHER", "not a text-generation-inference"
    ),
    # what is done with data beside the steps
    "no tests for a reward": Case("reinforce seeds.jsonl out --column instruction=content", "no column tests"),
    "no such format": Case("export seeds.jsonl out --to trl", "invalid choice 'trl'"),
    "nothing to check": Case("verify code.jsonl", "no column instruction|has no column"),
    "nothing to audit": Case("audit seeds.jsonl out", "python -m experiments.problem_tasks"),
    "nothing to look at": Case("selfalign.report nowhere --output out", "nowhere"),
    "results in no folder": Case("code_eval samples.jsonl --results no/out", "no is no folder that you may write to"),
    "another model": Case(SEEDS_WITH + "--model org/other", "not org/other"),
    # disks
    "a disk that is full": Case(
        "generate_concepts seeds.jsonl full --endpoint URL", "can't be written: .* before is kept"
    ),
    "a read-only disk": Case("generate_concepts seeds.jsonl /proc/self/out --endpoint URL", "can't be written"),
}


def prepare(folder, url):
    """What the commands read, and a run that is finished."""
    (folder / "code").mkdir()
    (folder / "code" / "a.py").write_text("def f(x):\n    return x\n")
    (folder / "mine").mkdir()
    (folder / "mine" / "thesis.txt").write_text("precious")
    (folder / "notes.txt").write_text("no data")
    (folder / "empty.jsonl").touch()
    (folder / "latin.jsonl").write_bytes('{"id": "a", "content": "def f(): return \'é\'"}\n'.encode("latin-1"))
    (folder / "half.parquet").write_bytes(b"PAR1 and no more")
    (folder / "no_row.jinja").write_text("Name the concepts. {{ shots | length }}")
    (folder / "typo.jinja").write_text("{{ row.id }}: {{ content }}")
    tasks = [sample("sort") | {"task_id": 1}, sample("count", 1, passed=False) | {"task_id": 1}]
    for name, rows in {
        "seeds": SEEDS,
        "concepts": CONCEPTS,
        "samples": [{"code": "def f(): return 4", "tests": "assert f() == 4"}],
        "code": [{"id": 1, "func_source": "def f(x): return x"}],
        "numbers": [{"id": 1, "content": 3}],
        "lists": [{"id": 1, "content": ["def f(x):", "    return x"]}],
        "list_ids": [{"id": [1], "content": "def f(x): return x"}],
        "texts": [{"id": 1, "concepts": "sorting, lists"}],
        "twice": [{"id": 1, "content": text} for text in ("a", "b")],
        "executions": tasks,
    }.items():
        write_rows(folder / f"{name}.jsonl", rows)
    ask = command("generate_concepts", "seeds.jsonl", "begun", "--endpoint", url)
    subprocess.run(ask, cwd=folder, env=ENVIRONMENT, check=True, capture_output=True)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and ".locks" not in path.parts}


def fill_up():
    resource.setrlimit(resource.RLIMIT_FSIZE, (FULL_AT, resource.RLIM_INFINITY))


def outcome(name, folder, url, other):
    """The status of a case's command, and what it said last, as one line."""
    case = CASES[name]
    words = [{"URL": url, "OTHER": other}.get(word, word) for word in case.words.split()]
    full = {"preexec_fn": fill_up} if name == "a disk that is full" else {}
    script = command(*words)
    words = script if Path(script[1]).exists() else [sys.executable, "-m", *words]
    result = subprocess.run(words, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, **full)
    assert "Traceback" not in result.stderr, result.stderr
    lines = [line.strip("╭╮╰╯│─ ") for line in result.stderr.splitlines()]
    sentence = " ".join(line for line in lines if line and not line.startswith("warning"))
    return result.returncode, sentence


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with simulated() as server, simulated(has_info=False) as other:
        folder = tmp_path_factory.mktemp("wrong")
        prepare(folder, server.url)
        yield folder, server.url, other.url


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_wrong_input_gives_a_sentence_and_costs_nothing(place, name):
    folder = place[0]
    before = contents(folder)
    status, sentence = outcome(name, *place)
    assert status == CASES[name].status and re.search(CASES[name].says, sentence), sentence
    after = contents(folder)
    assert before == {path: after.get(path) for path in before}, "nothing is lost"
    assert not (folder / "out").exists(), "nothing is left behind"


def stopped(folder):
    """The status after Ctrl-C in the middle of a run, what it said, and how many of 40 rows the next run ends with."""
    rows = [{"id": n, "content": f"def f{n}(x): return x"} for n in range(40)]
    write_rows(folder / "many.jsonl", rows)
    with simulated(seconds_per_token=0.1) as server:
        words = command("generate_concepts", "many.jsonl", "stopped", "--endpoint", server.url, "--concurrency", "4")
        process = subprocess.Popen(words, cwd=folder, env=ENVIRONMENT, stderr=-1, stdout=-1, text=True)
        while len(server.bodies) < 12:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        server.options.seconds_per_token = 0.0
        subprocess.run(words, cwd=folder, env=ENVIRONMENT, check=True, capture_output=True)
    return process.returncode, errors.splitlines()[-1], len(read_rows(folder / "stopped"))


@pytest.mark.slow
def test_ctrl_c_costs_nothing(tmp_path):
    status, sentence, rows = stopped(tmp_path)
    assert status == 130 and sentence.endswith("run the same command again") and rows == 40


def main():
    """Run all cases, and print them as a Markdown table."""
    print("| what is wrong | command | status | what is said |\n|---|---|---:|---|")
    with tempfile.TemporaryDirectory() as name, simulated() as server, simulated(has_info=False) as other:
        folder = Path(name)
        prepare(folder, server.url)
        before = contents(folder)
        for case in CASES:
            status, sentence = outcome(case, folder, server.url, other.url)
            sentence = sentence.replace(f"{folder}/", "").replace("|", "\\|")
            print(f"| {case} | `{CASES[case].words}` | {status} | {sentence} |", flush=True)
        status, sentence, rows = stopped(folder)
        print(f"| Ctrl-C in the middle | `generate_concepts many.jsonl stopped` | {status} | {sentence} |")
        after = contents(folder)
        lost = [str(path) for path, content in before.items() if after.get(path) != content]
        print(f"\nLost or changed: {json.dumps(lost)}; rows after Ctrl-C and the same command again: {rows} of 40")
    return bool(lost)


if __name__ == "__main__":
    sys.exit(main())
