"""Every recipe from its first to its last step, killed within generating, training and measuring on the way.

A recipe that was killed goes on by the same command, does nothing again that was complete, and prints its table.
"""

import json
import re

import pytest

from tests.experiments.walking import EVOL, OSS, STACK, Project, moments, teacher
from tests.fakes.hub import LocalHub
from tests.fakes.vllm import SOLUTIONS, TASKS
from tests.helpers import read_rows, run_json, write_rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
SECONDS = 1500  # at most, for each start of a recipe; it takes a tenth of that unless others use the machine
STEPS = ("sample_responses.py", "finetune.py", "benchmark.py")
ALL = {"humanevalplus", "mbppplus", "livecodebench", "evalperf", "ds1000", "canitedit"}
ALL |= {f"evoeval-{name}" for name in ("difficult", "creative", "subtle", "combine", "tool_use")}
ALL |= {f"classeval-{name}" for name in ("holistic", "incremental", "compositional")}
CHAT = "{% for message in messages %}<|im_start|>{{ message.content }}<|im_end|>\n{% endfor %}"


@pytest.fixture
def hub():
    with LocalHub() as hub:
        yield hub


@pytest.fixture
def project(tmp_path, hub, tiny_model):
    project = Project(tmp_path / "project", hub, tiny_model)
    project.add_models("Qwen/CodeQwen1.5-7B")
    return project


def walk(project, recipe, *arguments, steps=STEPS, status=0):
    """Kill a recipe within each of the steps, and let it end: what it wrote the last time."""
    written = {}
    for step, after in moments(recipe, steps).items():
        written |= project.kill_within(step, recipe, *arguments, after=after, seconds=SECONDS)
    ended, said = project.run(recipe, *arguments, seconds=SECONDS)
    assert ended == status, project.end_of_log()
    assert all(path.stat().st_mtime_ns == then for path, then in written.items()), "work was done again"
    return said


def results(project, system):
    """The results.json of each benchmark that was measured of a system."""
    return {path.parent.name: json.loads(path.read_text()) for path in project.out.glob(f"{system}/*/results.json")}


def scores(project, system):
    """pass@1 of each benchmark that was measured of a system."""
    return {name: result["scores"]["pass@1"] for name, result in results(project, system).items()}


def table(said, number):
    """The lines of a printed table."""
    return re.split(r"\n(?=#)", said.partition(f"## Table {number}")[2])[0]


def test_table9(project):
    said = walk(project, "table9")
    for strategy in ("random", "random-subset", "failures"):
        folder = project.out / "table9" / strategy
        assert run_json(folder / "instructions")["rows_out"] == len(TASKS)
        assert run_json(folder / "model")["complete"]
        assert scores(project, f"table9/{strategy}") == {"humanevalplus": 1}
    assert table(said, 9).count("100.0") >= 3
    (row,) = read_rows(folder / "humanevalplus")
    assert row["prompt"].startswith("You are an exceptionally intelligent") and row["prompt"].endswith("```python")


def test_selfcodealign_measures_everything_with_two_gpus(tmp_path, hub, tiny_model):
    project = Project(tmp_path / "project", hub, tiny_model, gpus=2)
    project.add_models("Qwen/CodeQwen1.5-7B")
    project.install_pandas()
    said = walk(project, "selfcodealign_cq_7b")
    measured = results(project, "selfcodealign-cq-7b")
    assert measured.keys() == ALL
    assert measured["ds1000"]["decoding"]["prompt_style"] == "reference"
    assert measured["evalperf"]["scores"]["measured"] == 1
    passed = {name for name, score in scores(project, "selfcodealign-cq-7b").items() if score > 0}
    assert passed >= {"humanevalplus", "mbppplus", "livecodebench", "evalperf", "ds1000", "canitedit"}
    for number in (1, 2, 3, 4, 5, 6, 7, 11):
        assert f"## Table {number}" in said


def test_base_models(project):
    project.add_models("meta-llama/Meta-Llama-3-8B")
    project.install_pandas()
    words = "llama-3-8b", "codeqwen1.5-7b"
    walk(project, "base_models", *words, steps=("benchmark.py",))
    assert results(project, "base/codeqwen1.5-7b").keys() == ALL - {"evalperf"}
    assert results(project, "base/llama-3-8b").keys() == {"humanevalplus"}


def test_compared_models_go_on_without_those_that_fail(project):
    project.add_models("meta-llama/Llama-3.1-8B-Instruct", template=CHAT)
    project.add_models("ise-uiuc/Magicoder-S-DS-6.7B")
    names = "codegemma-7b-it", "magicoder-s-ds-6.7b", "llama-3.1-8b-instruct"
    said = walk(project, "compared_models", *names, steps=("benchmark.py",), status=1)
    assert scores(project, "compared/magicoder-s-ds-6.7b") == {"humanevalplus": 1, "mbppplus": 1}
    assert results(project, "compared/llama-3.1-8b-instruct").keys() == {"evalperf"}
    end = said.partition("by the same command:")[2]
    assert "codegemma-7b-it" in end and "google/codegemma-7b-it" in end and "magicoder" not in end


def test_octopack(project):
    project.edit(
        "octopack", {'"$out/octopack-cq-7b/instructions"\n': '"$out/octopack-cq-7b/instructions" --commits 6\n'}
    )
    for language in ("python", "javascript", "java", "go", "c++", "rust"):
        commit = {"old_contents": "x = 1\n", "new_contents": "y = 1\n", "subject": f"Rename x ({language})"}
        commit |= {"lang": language, "license": "mit", "repos": "one/two"}
        project.add_data("bigcode/commitpackft", [commit], f"data/{language}/data.jsonl")
    project.pin("bigcode/commitpackft", "fc56fe33c030c6daa414c2b112c932b8eed085e6")
    texts = [{"role": "prompter", "text": "Why?"}, {"role": "assistant", "text": "Because."}]
    project.add_data("bigcode/oasst-octopack", [{"conversations": texts, "lang": "en"}])
    project.pin("bigcode/oasst-octopack", "1f5db3451c66a64e37158fcdf8c1951db8e90b33")
    project.install_pandas()
    walk(project, "octopack", steps=STEPS[1:])
    assert run_json(project.out / "octopack-cq-7b" / "instructions")["counts"] == {"commitpackft": 6, "oasst": 1}
    assert results(project, "octopack-cq-7b").keys() == ALL


def test_table8_makes_the_data_of_each_model_once(project):
    models = "models=(starcoder2-3b llama-3-8b starcoder2-15b deepseek-coder-33b codeqwen1.5-7b)"
    left = ("starcoder2-15b", "codeqwen1.5-7b")
    project.edit("table8", {models: f"models=({' '.join(left)})"})
    project.add_models("bigcode/starcoder2-15b")
    said = walk(project, "table8")
    pairs = {path.parent.name for path in project.out.glob("table8/*/model")}
    assert pairs == {
        f"{a}-on-{b}" for a in ("starcoder2-15b", "codeqwen1.5-7b") for b in ("starcoder2-15b", "codeqwen1.5-7b")
    }
    assert {path.name for path in (project.out / "data").iterdir()} == {"starcoder2-15b-37k", "codeqwen1.5-7b-37k"}
    assert all(scores(project, f"table8/{pair}") == {"humanevalplus": 1} for pair in pairs)
    assert table(said, 8).count("100.0") >= 4 and "## Table 12" in said


def test_table10(project):
    project.add_data("bigcode/the-stack-dedup", STACK, "data/python/data.jsonl")
    said = walk(project, "table10")
    for row in ("seed-to-instruction", "snippets"):
        assert run_json(project.out / "table10" / row / "instructions")["rows_out"] > 2
        assert scores(project, f"table10/{row}") == {"humanevalplus": 1}
    assert table(said, 10).count("100.0") >= 2


def test_table11_from_published_data(project):
    project.edit("table11", {"--size 74000": "--size 4"})
    project.add_data("nickrosh/Evol-Instruct-Code-80k-v1", EVOL)
    project.add_data("ise-uiuc/Magicoder-OSS-Instruct-75K", OSS)
    said = walk(project, "table11", steps=STEPS[1:])
    for row in ("evol-instruct", "oss-instruct"):
        assert run_json(project.out / "table11" / row / "instructions")["rows_out"] == 4
        assert scores(project, f"table11/{row}") == {"humanevalplus": 1}
    assert table(said, 11).count("100.0") >= 2


def test_table11_with_a_teacher(project):
    project.edit("table11", {"--max-samples 80000": "--max-samples 4"})
    project.add_data("sahil2801/CodeAlpaca-20k", EVOL[:2])
    project.add_data("bigcode/the-stack-dedup", STACK, "data/python/data.jsonl")
    with teacher() as url:
        steps = (f"experiments.baselines.{name}" for name in ("evol_instruct", "oss_instruct", "distill"))
        walk(project, "table11", "--teacher", url, "simulated/model", steps=steps)
    for row in ("direct-distillation", "evol-instruct", "oss-instruct"):
        assert run_json(project.out / "table11" / row / "instructions")["rows_out"] > 2
        assert scores(project, f"table11/{row}") == {"humanevalplus": 1}


def test_starcoder2_instruct_from_published_data(project):
    project.add_models("bigcode/starcoder2-15b")
    pairs = [{"instruction": row["instruction"], "response": row["output"]} for row in EVOL]
    project.add_data("bigcode/self-oss-instruct-sc2-exec-filter-50k", pairs)
    project.install_pandas()
    said = walk(project, "starcoder2_15b_instruct", "--published", steps=STEPS[1:])
    measured = {"humaneval", "humanevalplus", "mbppplus-base", "mbppplus", "ds1000", "livecodebench"}
    measured |= {f"livecodebench-{name}" for name in ("repair", "test-output", "execution")}
    assert results(project, "starcoder2-15b-instruct").keys() == measured
    assert "100.0" in said


def test_released_samples_are_scored(project):
    (project.folder / "samples").mkdir()
    for name, task, words in (("humaneval", "HumanEval/900", "Twice x"), ("mbpp", "Mbpp/8", "square the numbers")):
        sample = {"task_id": task, "solution": SOLUTIONS[words]}
        write_rows(project.folder / "samples" / f"{name}.jsonl", [sample])
    status, _ = project.run("starcoder2_15b_instruct", "--samples", "./samples", seconds=SECONDS)
    assert status == 0, project.end_of_log()
    names = "humaneval", "humanevalplus", "mbppplus-base", "mbppplus"
    assert scores(project, "published/starcoder2-15b-instruct") == dict.fromkeys(names, 1)


@pytest.mark.parametrize("published", [True, False])
def test_seeds(project, published):
    functions = [
        f'def {name}(words):\n    """The function {what}, and returns the result."""\n    {code}\n'
        for name, (what, code, _) in TASKS.items()
    ]
    if published:
        rows = [{"content": function, "sha1": str(number)} for number, function in enumerate(functions)]
        project.add_data("bigcode/python-stack-v1-functions-filtered-sc2", rows)
        words = ("--published",)
    else:
        project.add_models("bigcode/starcoder2-15b")
        project.add_data("bigcode/the-stack-dedup", [{"content": "\n\n".join(functions)}], "data/python/data.jsonl")
        words = ()
    walk(project, "seeds", *words, steps=("collect_seeds.py",))
    assert run_json(project.out / "seeds")["rows_out"] > 0
