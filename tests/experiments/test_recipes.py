"""The recipes, run with stand-ins for python, accelerate and vllm that only note how they were called."""

import os
import shutil
import socket
import subprocess
from functools import cache

import jinja2
import pytest
import tyro

from experiments.plan import expanded
from selfalign.benchmarks import benchmark_names
from selfalign.data.decontamination import REPEATED, sets_by_family
from selfalign.report.paper import load_table, system_of, table_names
from tests.helpers import ROOT, load_script

# Stands in for python, accelerate, vllm and the rest: notes its arguments, and prints what the recipes wait for.
NOTE = r"""#!/usr/bin/env bash
name=${0##*/}
line=$(printf '%s\x1f' "$name" "$@")
printf '%s\n' "$line" >>"$NOTED"  # in one write, since several commands may run at the same time
case "$name ${1:-}" in
    nvidia-smi*) printf 'GPU %s\n' 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 ;;
    "python select.py") mkdir -p "$3" && echo '  "complete": true' >"$3/run.json" ;;
    "python -m")
        [ "${2##*.}" != environment ] || echo "/environments/$3/bin/python"
        all="$*"
        case $all in
            *"--until instructions")
                out=${all##*--out } && out=${out%% *}/instructions
                mkdir -p "$out" && echo '  "complete": true' >"$out/run.json" ;;
        esac ;;
    vllm*) exec sleep 20 ;;
esac
"""
TEACHER = ("--teacher", "https://example.org/v1", "some/model")
RECIPES = {
    "seeds": [(), ("--published",), ("--endpoint", "http://a:1", "--endpoint", "http://b:1")],
    "base_models": [()],
    "compared_models": [()],
    "selfcodealign_cq_7b": [(), ("--endpoint", "http://a:1", "--seeds", "org/seeds", "--out", "there")],
    "table8": [()],
    "table9": [()],
    "table10": [()],
    "starcoder2_15b_instruct": [(), ("--published",), ("--samples", "samples")],
    "octopack": [()],
    "table11": [(), ("direct-distillation", *TEACHER), (*TEACHER, "--api-key", "key")],
}


def copy_of_the_project(folder):
    """A copy of the recipes and of what they source, with commands that note their calls in bin/."""
    for name in ("runs", "experiments"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("out"))
    (folder / "runs" / "setup.sh").write_text("")
    (folder / "bin").mkdir()
    for name in ("python", "accelerate", "vllm", "curl", "nvidia-smi"):
        (folder / "bin" / name).write_text(NOTE)
        (folder / "bin" / name).chmod(0o755)
    return folder


@pytest.fixture
def project(tmp_path):
    return copy_of_the_project(tmp_path)


@pytest.fixture(scope="session")
def noted(tmp_path_factory):
    """A function that runs a recipe with arguments, once, and gives the script and arguments of each call of ours."""
    project = copy_of_the_project(tmp_path_factory.mktemp("recipes"))

    @cache
    def calls(recipe, *arguments):
        shutil.rmtree(project / "runs" / "out", ignore_errors=True)
        return list(scripts_called(commands(project, recipe, *arguments)))

    return calls


def run_recipe(project, recipe, *arguments, visible=None):
    """Run a recipe of the copied project. What its commands note is in project / "noted"; `visible` are the GPUs of
    CUDA_VISIBLE_DEVICES."""
    (project / "noted").write_text("")
    environment = os.environ | {"PATH": f"{project / 'bin'}:{os.environ['PATH']}", "NOTED": str(project / "noted")}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    environment |= {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    (script,) = project.glob(f"*/{recipe}.sh")
    words = ["bash", str(script), *arguments]
    return subprocess.run(words, capture_output=True, text=True, env=environment, timeout=60)


def commands(project, recipe, *arguments, **more):
    """The commands that a recipe runs, as lists of words."""
    result = run_recipe(project, recipe, *arguments, **more)
    assert result.returncode == 0, result.stderr
    return [line.split("\x1f")[:-1] for line in (project / "noted").read_text().splitlines()]


def scripts_called(called):
    """The script and the arguments of each call of one of our scripts, whether python or accelerate runs it."""
    for words in (words for line in called for words in expanded(line)):
        scripts = [i for i, word in enumerate(words) if word.endswith(".py") or word.startswith("experiments.")]
        if scripts and words[0] in ("python", "accelerate"):
            yield words[scripts[0]].removesuffix(".py").replace(".", "/"), words[scripts[0] + 1 :]


def options_from(name, words):
    """The options that a script makes of its arguments; SystemExit if it refuses them."""
    return tyro.cli(load_script(name).Options, args=words)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_command_is_one_that_its_script_takes(noted, recipe, capsys):
    for arguments in RECIPES[recipe]:
        called = noted(recipe, *arguments)
        assert called
        for name, words in called:
            try:
                options = options_from(name, words)
            except SystemExit:
                pytest.fail(f"{name}.py {' '.join(words)}: {capsys.readouterr()}")
            for file in (getattr(options, field, None) for field in ("template", "examples")):
                assert file is None or (ROOT / file).is_file()
            if "--benchmark" in words:
                assert words[words.index("--benchmark") + 1] in benchmark_names()


def test_what_the_recipes_write_is_where_the_tables_look(noted):
    calls = [call for recipe in RECIPES for arguments in RECIPES[recipe] for call in noted(recipe, *arguments)]
    written = {words[1].removeprefix("./runs/out/") for name, words in calls if name == "benchmark"}
    for table in (load_table(name) for name in table_names()):
        for cell in (cell for row in table.cells for cell in row.values()):
            if cell.published is None or system_of(cell.system).command is None:
                continue
            if cell.system == "published/starcoder2-15b-instruct" and "mbpp" in cell.benchmarks[0]:
                continue  # the released samples are for other problems
            assert {f"{cell.system}/{name}" for name in cell.benchmarks} <= written, cell


def test_evalperf_takes_hours_and_is_measured_only_of_the_rows_of_its_table(noted):
    calls = [call for recipe in RECIPES for call in noted(recipe)]
    measured = {words[1].removeprefix("./runs/out/") for name, words in calls if name == "benchmark"}
    rows = {cell.system for row in load_table("4").cells for cell in row.values()}
    assert {name.removesuffix("/evalperf") for name in measured if name.endswith("/evalperf")} == rows


def test_whatever_a_recipe_measures_is_kept_out_of_its_data(noted):
    sets = sets_by_family()
    for recipe in RECIPES:
        calls = [call for arguments in RECIPES[recipe] for call in noted(recipe, *arguments)]
        measured = {words[words.index("--benchmark") + 1] for _, words in calls if "--benchmark" in words}
        for name, words in calls:
            if name in ("collect_seeds", "select"):
                kept_out = {s for n in options_from(name, words).decontaminate for s in sets.get(n, [n])}
                assert measured - {"evalperf", *REPEATED} <= kept_out  # whose problems are those of others
                assert {"humaneval", "mbpp-full", "ds1000", "gsm8k"} <= kept_out


def test_each_model_makes_its_data_once_and_learns_from_it_at_half_the_rate(noted):
    rates = {}
    for name, words in noted("table8"):
        if name == "finetune":
            base, generator = words[1].split("/")[-2].split("-on-")
            rates.setdefault(base == generator, []).append(options_from(name, words).learning_rate)
    assert rates == {True: [1e-5] * 5, False: [2e-5] * 14}, "the paper has 5 models and 14 other pairs"
    made = [words[1] for name, words in noted("table8") if name == "sample_responses"]
    assert len(made) == len(set(made)) == 5


def test_the_33b_model_is_trained_with_zero_3_and_the_15b_one_on_one_gpu(project):
    launchers = {"deepseek-coder-33b": "zero3.yaml", "starcoder2-15b": "python", "llama-3-8b": "ddp.yaml"}
    for base, launcher in launchers.items():
        (words,) = [words for words in commands(project, "table8", base, base) if "finetune.py" in words]
        launch = words[: words.index("finetune.py")]
        assert any(word.endswith(launcher) for word in launch)
        assert all((ROOT / word).is_file() for word in launch if word.endswith(".yaml"))


def test_the_component_analysis_has_37k_seeds_and_the_main_model_all(noted):
    def seeds_of(recipe):
        return {options_from(name, words).max_samples for name, words in noted(recipe) if name == "generate_concepts"}

    assert seeds_of("table9") == {37_000} and seeds_of("selfcodealign_cq_7b") == {None}


def test_complete_steps_are_not_repeated(project):
    data = project / "runs" / "out" / "data" / "codeqwen1.5-7b-full" / "instructions"
    data.mkdir(parents=True)
    (data / "run.json").write_text('  "complete": true')
    names = [name for name, _ in scripts_called(commands(project, "selfcodealign_cq_7b"))]
    assert "generate_concepts" not in names and "finetune" in names


def test_replicas_share_the_gpus_and_are_stopped(project):
    called = commands(project, "table8", "starcoder2-3b", "deepseek-coder-33b")
    (sampled,) = [words for name, words in scripts_called(called) if name == "sample_responses"]
    assert sampled.count("--endpoint") == 8, "16 GPUs hold 8 replicas on 2 each"
    assert any(words[:3] == ["vllm", "serve", "deepseek-ai/deepseek-coder-33b-base"] for words in called)
    left = subprocess.run(["pgrep", "-f", str(project / "bin")], capture_output=True, text=True).stdout
    assert not left.strip()


@pytest.mark.parametrize(
    ("recipe", "arguments", "sentence"),
    [
        ("base_models", ("gpt-5",), "there is no model gpt-5"),
        ("compared_models", ("gpt-5",), "there is no model gpt-5"),
        ("table8", ("starcoder2-3B",), "unknown argument starcoder2-3B"),
        ("table9", ("pases",), "unknown argument pases (known: passes random random-subset failures)"),
        ("table10", ("snippets", "row"), "unknown argument row"),
        ("table11", ("evol-instruct", "--teacher", "http://a:1"), "--teacher takes a URL and a MODEL"),
        ("table11", ("direct-distillation",), "needs a teacher"),
        ("table11", ("evol_instruct", *TEACHER), "unknown argument evol_instruct"),
        ("seeds", ("--publshed",), "unknown argument --publshed (known: --published)"),
        ("starcoder2_15b_instruct", ("--publshed",), "unknown argument --publshed"),
        ("selfcodealign_cq_7b", ("--endpont", "http://a:1"), "unknown argument --endpont"),
        ("selfcodealign_cq_7b", ("--out",), "--out needs a value"),
        ("selfcodealign_cq_7b", ("--seeds", ""), "--seeds needs a value"),
        ("table8", ("--dry-run", "--tokens-per-second"), "--tokens-per-second needs a value"),
        ("table8", ("--dry-run", "--gpus", "two"), "--gpus two is not a number"),
        ("selfcodealign_cq_7b", ("--gpus", "0"), "needs 1 GPUs, and this machine has 0"),
    ],
)
def test_wrong_arguments_end_a_recipe_with_one_sentence(project, recipe, arguments, sentence):
    result = run_recipe(project, recipe, *arguments)
    assert result.returncode == 2 and sentence in result.stderr


def test_seeds_are_type_checked_with_the_packages_of_a_given_python(noted):
    ((name, words),) = noted("seeds", "--type-checker-python", "/p/bin/python", "--endpoint", "http://a:1")
    assert (name, options_from(name, words).type_checker_python) == ("collect_seeds", "/p/bin/python")


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_dry_run_does_nothing_but_print_the_plan(project, recipe):
    before = {path: path.stat().st_mtime_ns for path in project.rglob("*")}
    for arguments in RECIPES[recipe]:
        called = [words for words in commands(project, recipe, *arguments, "--dry-run") if words[0] != "nvidia-smi"]
        assert [words[:3] for words in called if words[1] != "-c"] == [["python", "-m", "experiments.plan"]]
    after = {path: path.stat().st_mtime_ns for path in project.rglob("*") if path.name != "noted"}
    assert after == {path: time for path, time in before.items() if path.name != "noted"}


def test_a_model_that_fails_does_not_stop_the_others(project):
    """The third one has no licence granted; what is left out is listed at the end, with the reason."""
    python = project / "bin" / "python"
    fails = """case "$*" in *compared/octocoder*) echo a bar >&2; echo "no access to it" >&2; exit 2 ;; esac\n"""
    python.write_text(NOTE + fails)
    result = run_recipe(project, "compared_models", "--gpus", "2")
    called = [line.split("\x1f")[:-1] for line in (project / "noted").read_text().splitlines()]
    done = {words[1].split("/")[-2] for name, words in scripts_called(called) if name == "benchmark"}
    assert {"magicoder-s-ds-6.7b", "octocoder-16b", "llama-3.1-8b-instruct"} <= done
    assert result.returncode == 1
    end = result.stdout.partition("by the same command:")[2]
    assert "octocoder-16b: no access to it" in end and "command-r-plus: it needs 4 GPUs" in end
    assert "magicoder" not in end


def test_why_a_server_died_is_its_last_word(project):
    log = "Cannot access gated repo for url x\nTraceback\n" + "line\n" * 20 + "RuntimeError: see above"
    (project / "bin" / "vllm").write_text(f"#!/bin/sh\necho '{log}'\nexit 1\n")
    (project / "bin" / "curl").write_text("#!/bin/sh\nexit 1\n")
    result = run_recipe(project, "compared_models", "codegemma-7b-it")
    assert result.returncode == 1
    assert "codegemma-7b-it: Cannot access gated repo" in result.stdout.partition("by the same command:")[2]


def test_programs_run_with_the_packages_of_their_benchmark(noted):
    for name, words in noted("selfcodealign_cq_7b"):
        if name == "benchmark":
            benchmark = words[words.index("--benchmark") + 1]
            needs = benchmark.startswith(("ds1000", "classeval", "canitedit"))
            assert options_from(name, words).python == (f"/environments/{benchmark}/bin/python" if needs else None)


def test_chat_templates_that_models_lack_are_there_and_used(noted):
    used = {
        words[1].split("/")[-2]: options_from(name, words).chat_template
        for name, words in noted("compared_models")
        if name == "benchmark"
    }
    given = {name: template for name, template in used.items() if template}
    assert given.keys() == {"octocoder-16b", "wizardcoder-33b-v1.1", "magicoder-s-ds-6.7b"}
    chat = [{"role": "user", "content": "Add."}, {"role": "assistant", "content": "Yes."}]
    for template in given.values():
        text = jinja2.Template((ROOT / template).read_text()).render
        asked = text(messages=chat[:1], add_generation_prompt=True, eos_token="</s>")
        assert "Add." in asked and text(messages=chat, eos_token="</s>").startswith(asked)


def test_worked_examples_of_ones_own_reach_every_step_that_generates(noted):
    for name, words in noted("selfcodealign_cq_7b", "--examples", "fewshot.txt"):
        if name in ("generate_concepts", "generate_tasks", "sample_responses"):
            options = options_from(name, words)
            assert str(options.examples) == "fewshot.txt" and options.template.parent.name == "reference"
            assert options.max_new_tokens == 1536


def test_a_file_of_problems_is_measured_and_kept_out(noted):
    calls = noted(
        "table9", "passes", "--benchmark-data", "humanevalplus=plus.jsonl", "--benchmark-data", "mbpp=m.jsonl"
    )
    (measured,) = [options_from(name, words) for name, words in calls if name == "benchmark"]
    assert measured.data == "plus.jsonl"
    for name, words in calls:
        if name == "select":
            assert options_from(name, words).benchmark_data == ("humanevalplus=plus.jsonl", "mbpp=m.jsonl")


def test_a_file_for_a_kind_of_benchmark_is_that_of_each_of_its_sets(noted):
    files = {"classeval": "all.jsonl", "classeval-holistic": "whole.jsonl", "evalperf": "a,b,c"}
    words = [word for name, file in files.items() for word in ("--benchmark-data", f"{name}={file}")]
    calls = noted("octopack", *words)
    measured = [options_from(name, words) for name, words in calls if name == "benchmark"]
    data = {options.benchmark: options.data for options in measured if options.data}
    others = dict.fromkeys(("classeval-incremental", "classeval-compositional"), "all.jsonl")
    assert data == {"classeval-holistic": "whole.jsonl", "evalperf": "a,b,c", **others}
    selected = [call for name, call in noted("table9", "passes", *words) if name == "select"]
    assert all("evalperf=a,b,c" not in call for call in selected), "its problems are those of two others"


def test_released_samples_of_mbpp_need_the_problems_that_they_are_for(noted):
    for words, number in (((), 2), (("--benchmark-data", "mbppplus=v0.1.0.jsonl"), 4)):
        calls = [words for _, words in noted("starcoder2_15b_instruct", "--samples", "there", *words)]
        assert len(calls) == number
        assert all(("there/mbpp.jsonl" in call) == ("v0.1.0.jsonl" in call) for call in calls)


def test_only_the_gpus_of_cuda_visible_devices_are_used(project):
    (project / "bin" / "vllm").write_text(NOTE.replace('"$name" "$@"', '"$name" "$CUDA_VISIBLE_DEVICES"'))
    called, used = [], set()
    for _ in range(5):  # a replica may be stopped before it notes its call; all of them hardly ever are
        called = (
            called if used else commands(project, "table8", "starcoder2-3b", "deepseek-coder-33b", visible="4,5,6,7")
        )
        used = {words[1] for words in called if words[0] == "vllm"}
    assert used and used <= {"4,5", "6,7", "4"}
    (launch,) = [words for words in called if words[0] == "accelerate"]
    assert launch[launch.index("--num_processes") + 1] == "4"


@pytest.mark.parametrize("visible", ["", "-1", "-1,0"])
def test_hidden_gpus_do_not_count(project, visible):
    result = run_recipe(project, "table8", "starcoder2-3b", "starcoder2-3b", visible=visible)
    assert result.returncode == 2 and "starcoder2-3b needs 1 GPUs, and this machine has 0" in result.stderr


def test_another_recipes_server_is_not_mistaken_for_ours(project):
    recipe = project / "experiments" / "recipe.sh"
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        recipe.write_text(recipe.read_text().replace("8100", str(port)))
        result = run_recipe(project, "table8", "starcoder2-3b", "starcoder2-3b")
    assert result.returncode == 2 and f"another server is using port {port}" in result.stderr


@pytest.mark.parametrize("recipe", ["runs/quickstart.sh", "experiments/table9.sh"])
def test_help_can_be_had_from_any_folder_and_installs_nothing(project, recipe):
    (project / "runs" / "setup.sh").write_text("exit 1")
    folder, name = recipe.split("/")
    words = ["bash", name, "--help"]
    result = subprocess.run(words, capture_output=True, text=True, cwd=project / folder, timeout=60)
    assert result.returncode == 0 and f"bash {recipe}" in result.stdout


def test_the_quickstart_is_a_call_of_the_whole_chain(project):
    for words, model, out in (
        ((), "smollm2", "./runs/out/quickstart"),
        (("there", "--model", "m.gguf"), "m.gguf", "there"),
    ):
        (called,) = commands(project, "quickstart", *words)
        assert called == ["python", "-m", "runs.self_align", model, "--settings", "small", "--out", out]


def test_every_recipe_is_tried_and_says_what_it_needs_and_how_long_it_takes():
    assert {path.stem for path in (ROOT / "experiments").glob("*.sh")} == {*RECIPES, "recipe"}
    for recipe in RECIPES:
        head = (ROOT / "experiments" / f"{recipe}.sh").read_text().split("\n. ")[0]
        assert f"bash experiments/{recipe}.sh" in head and "# Needs " in head and "# Takes " in head


@pytest.mark.parametrize(
    ("listed", "gpus"),
    [("No devices found.", "0"), ("GPU 0: H100\n  MIG 3g.40gb Device 0:\n  MIG 3g.40gb Device 1:", "1")],
)
def test_only_whole_gpus_that_are_there_count(project, listed, gpus):
    (project / "bin" / "nvidia-smi").write_text(f"#!/bin/sh\necho '{listed}'\n")
    (planned,) = (words for words in commands(project, "octopack", "--dry-run") if "experiments.plan" in words)
    assert planned[planned.index("--gpus") + 1] == gpus


def test_a_model_is_trained_on_gpus_among_which_its_batch_can_be_divided(project):
    called = commands(project, "octopack", "--gpus", "6")
    (launch,) = [words for words in called if words[0] == "accelerate"]
    assert launch[launch.index("--num_processes") + 1] == "4", "finetune.py refuses 64 examples a step on 6"


def test_a_model_that_is_trained_on_one_gpu_sees_no_other(project):
    """finetune.py refuses to be one process that sees several."""
    (project / "bin" / "python").write_text(NOTE.replace('"$name" "$@"', '"$name" "$CUDA_VISIBLE_DEVICES" "$@"'))
    called = commands(project, "table8", "starcoder2-15b", "starcoder2-15b", visible="4,5")
    assert {words[1] for words in called if "finetune.py" in words} == {"4"}
