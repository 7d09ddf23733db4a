"""Every script as a command: help at once, from anywhere, with no import at the top that takes long."""

import signal
import subprocess
import sys

import pytest

from selfalign import installed
from selfalign.options import StepOptions, command_of, filled, identity_of, parse_command_line, run_script
from tests.helpers import ROOT, SCRIPTS, command, load_script

each_script = pytest.mark.parametrize("name", SCRIPTS)
# Packages that take from a tenth of a second to many seconds to import. perf/help.py measures what --help takes.
HEAVY = {"accelerate", "aiohttp", "datasets", "evaluate", "fsspec", "httpx", "huggingface_hub", "jinja2", "numpy"}
HEAVY |= {"pandas", "peft", "pyarrow", "requests", "tokenizers", "torch", "transformers", "tree_sitter", "trl"}


@each_script
@pytest.mark.parametrize("elsewhere", [False, True], ids=["from_the_root", "from_another_folder"])
def test_help_comes_from_anywhere_without_heavy_packages(name, elsewhere, tmp_path):
    words, folder = (command(name), tmp_path) if elsewhere else ([sys.executable, f"{name}.py"], ROOT)
    words = [words[0], "-X", "importtime", *words[1:], "--help"]
    result = subprocess.run(words, capture_output=True, text=True, cwd=folder)
    assert result.returncode == 0 and "usage:" in result.stdout, result.stderr
    imported = {line.split("|")[-1].strip().partition(".")[0] for line in result.stderr.splitlines()}
    assert "tyro" in imported and not imported & HEAVY


@each_script
def test_a_python_without_the_packages_is_one_sentence(name):
    """-S leaves the installed packages out."""
    result = subprocess.run([sys.executable, "-S", f"{name}.py", "--help"], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and ". .venv/bin/activate" in result.stderr


def run_into(error, monkeypatch):
    """A script of no options that ends with `error`."""

    def main(options):
        raise error

    monkeypatch.setattr(sys, "argv", ["finetune.py", "in", "out"])
    run_script(main, load_script("finetune").Options, "")


def test_an_error_with_packages_of_other_versions_is_one_sentence_that_names_them(tmp_path, monkeypatch, capsys):
    (tmp_path / "trl-0.12.2.dist-info").mkdir()
    (tmp_path / "trl-0.12.2.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: trl\nVersion: 0.12.2\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        run_into(TypeError("unexpected keyword argument 'loss_type'"), monkeypatch)
    sentence = capsys.readouterr().err
    assert sentence.count("\n") == 1 and "'loss_type'" in sentence and "tested with: trl 0.12.2 instead of" in sentence
    with pytest.raises(ValueError):  # which has nothing to do with them
        run_into(ValueError("7"), monkeypatch)


def test_an_error_with_the_packages_of_requirements_txt_keeps_its_traceback(tmp_path, monkeypatch):
    (tmp_path / "requirements.txt").write_text(
        f"# tested\npytest=={pytest.__version__}\nnothing==1; python_version < '3'\n"
    )
    monkeypatch.setattr(installed, "REQUIREMENTS", tmp_path / "requirements.txt")
    with pytest.raises(TypeError):
        run_into(TypeError("ours"), monkeypatch)


@pytest.fixture
def said(monkeypatch, capsys):
    """What a script prints if `words` are its arguments, which end it with `status` before it does anything."""

    def said(name, words, status):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *words.split()])
        with pytest.raises(SystemExit) as stop:
            run_script(pytest.fail, load_script(name).Options, "")
        assert stop.value.code == status
        return "".join(capsys.readouterr())

    return said


@each_script
def test_help_shows_what_a_user_would_type(name, said):
    """Neither None, nor a default that is nothing, nor a path of this machine."""
    said = said(name, "--help", status=0)
    assert "--" in said and not [text for text in ("None", "(default: )", str(ROOT)) if text in said]


@each_script
def test_help_is_broken_into_lines(name, said, monkeypatch):
    """Of the terminal's width; a command to copy stays on its own line or lines, however long."""
    monkeypatch.setenv("COLUMNS", "100")
    lines = said(name, "--help", status=0).splitlines()
    assert not [line for line in lines if len(line) > 100 and not line.startswith(" ")]


def test_the_help_of_a_script_shows_what_its_docstring_shows():
    description = load_script("serve").__doc__
    command = [line for line in description.splitlines() if line.startswith("    ")]
    assert "\n".join(command) in filled(description, 80) and command[-1].startswith("        -d")


def test_training_offers_no_shards(said):
    for name in ("finetune", "reinforce"):
        assert "--shard" not in said(name, "--help", status=0)
        assert "--shard" in said(name, "a b --shard 0/2", status=2)


def test_what_the_help_leaves_out_is_still_understood(monkeypatch):
    words = "a b --max-samples None --executor None --config c"
    monkeypatch.setattr(sys, "argv", ["step.py", *words.split()])
    assert parse_command_line(StepOptions, "") == StepOptions(input="a", output="b", config="c")


@pytest.mark.parametrize("name", ["select", "paper_tables"])
def test_a_reader_that_has_read_enough_is_no_error(name):
    """As in `--help | head`."""
    process = subprocess.Popen(command(name, "--help"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout and process.stderr
    process.stdout.close()  # before anything is written
    assert process.stderr.read() == ""
    assert process.wait() == 128 + signal.SIGPIPE


BASELINES = [f"experiments/baselines/{path.stem}" for path in (ROOT / "experiments/baselines").glob("[!_]*.py")]


@pytest.mark.parametrize("name", [*SCRIPTS, *sorted(BASELINES)])
def test_its_docstring_shows_the_command_to_copy(name):
    shown = f"-m {name.replace('/', '.')}" if name in BASELINES else f"{name}.py"
    assert f"python {shown}" in (load_script(name).__doc__ or "")


@each_script
def test_an_unknown_option_is_refused(name, said):
    assert "no-such-option" in said(name, "a b --no-such-option", status=2)


OUT_OF_RANGE = {
    "generate_concepts": ["--max-samples 0", "--max-samples -1", "--shots -1"],
    "generate_tasks": ["--max-new-tokens 0", "--temperature -1.0", "--temperature nan"],
    "sample_responses": ["--samples 0", "--top-p 2.0", "--concurrency 0"],
    "execute": ["--shards 0", "--workers 0", "--sandboxes 0", "--timeout 0.0"],
    "select": ["--seed -1"],
    "collect_seeds": ["--near-duplicates 0.0"],
    "finetune": ["--epochs 0.0", "--warmup 5.0"],
    "reinforce": ["--samples 0", "--temperature 0.0", "--format-weight 2.0"],
    "benchmark": ["--samples-per-problem 0"],
    "serve": ["--max-batch-size 0", "--port 70000"],
}


@pytest.mark.parametrize(("name", "words"), [(name, words) for name, some in OUT_OF_RANGE.items() for words in some])
def test_a_number_that_is_out_of_range_is_said_before_anything_is_done(said, name, words):
    positional = "" if name == "serve" else "in out "
    assert said(name, positional + words, status=2).startswith(f"{name}.py: {words} is out of range: it must be ")


@pytest.mark.parametrize("name", sorted({path.stem for path in (ROOT / "perf").glob("*.py")} - {"__init__"}))
def test_a_benchmark_shows_the_command_to_copy(name):
    command = [sys.executable, "-m", f"perf.{name}", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert f"python -m perf.{name}" in result.stdout


def test_the_token_is_in_no_identity_and_no_command(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["select.py"])
    options = StepOptions(input="a", output="b", hf_token="hf_secret", seed=3)
    assert "hf_secret" not in str(identity_of(options)) + command_of(options)
    assert command_of(options) == "python select.py a b --seed 3"
