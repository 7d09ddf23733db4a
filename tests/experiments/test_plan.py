"""What --dry-run of a recipe prints: commands, needs, and hours from published or measured speeds."""

import json

import pytest

from experiments.plan import Options, hours_of, main, measured_speed, read_commands, replicas_of, steps_of

COMMANDS = [
    "model org/big 2 4",
    "python generate_concepts.py ./out/seeds ./out/codeqwen1.5-7b/concepts --max-samples 37000",
    "python generate_tasks.py ./out/codeqwen1.5-7b/concepts ./out/codeqwen1.5-7b/tasks",
    "python sample_responses.py ./out/codeqwen1.5-7b/tasks ./out/codeqwen1.5-7b/responses --samples 10",
    "python execute.py ./out/codeqwen1.5-7b/responses ./out/codeqwen1.5-7b/executions",
    "python select.py ./out/codeqwen1.5-7b/executions ./out/codeqwen1.5-7b/instructions",
    "accelerate launch --config_file experiments/accelerate/zero3.yaml finetune.py "
    "./out/codeqwen1.5-7b/instructions ./out/x/model --model Qwen/CodeQwen1.5-7B",
    "python benchmark.py http://127.0.0.1:8100 ./out/x/humanevalplus --benchmark humanevalplus",
]


@pytest.fixture
def planned(tmp_path):
    lines = [command.replace(" ", "\x1f") for command in [*COMMANDS, COMMANDS[-1]]]
    (tmp_path / "plan").write_text("\n".join(lines))
    return tmp_path / "plan"


def test_without_a_measured_speed_the_hours_are_the_papers(planned):
    data, training = hours_of(list(steps_of(read_commands(planned))), None, 4)
    assert (round(data.hours, 2), data.gpus) == (7.0, 4), "Table 12: 37k seeds take CodeQwen1.5-7B 7 hours"
    assert training.hours == pytest.approx(0.5, abs=0.01), "and 30 minutes of training on 16k examples"


SNIPPETS = [
    "python -m experiments.baselines.snippets org/stack ./out/table10/snippets/seeds --max-samples 37000",
    "python generate_concepts.py ./out/table10/snippets/seeds ./out/table10/snippets/concepts",
    "python generate_tasks.py ./out/table10/snippets/concepts ./out/table10/snippets/tasks",
    "python sample_responses.py ./out/table10/snippets/tasks ./out/table10/snippets/responses --samples 10",
    "python execute.py ./out/table10/snippets/responses ./out/table10/snippets/executions",
    "python select.py ./out/table10/snippets/executions ./out/table10/snippets/instructions",
    "python select.py ./out/table10/snippets/executions ./out/random --strategy random",
]
TRAINED_ON = {
    "./out/table10/snippets/instructions": 16_000,
    "./out/random": 27_700,
    "bigcode/self-oss-instruct-sc2-exec-filter-50k": 50_000,
    "./out/unknown": 74_000,
}


def test_training_takes_as_long_as_there_will_be_examples():
    trainings = [f"python finetune.py {data} ./m --model Qwen/CodeQwen1.5-7B" for data in TRAINED_ON]
    steps = list(steps_of([command.split() for command in [*SNIPPETS, *trainings]]))
    data, *hours = hours_of(steps, None, 4)
    assert data.what == "data from 37,000 seeds", "of the model that is trained, where no folder names another"
    assert [each.what for each in hours] == [f"finetune: {examples:,} examples" for examples in TRAINED_ON.values()]


def test_a_model_is_trained_on_the_gpus_of_the_paper():
    models = ("Qwen/CodeQwen1.5-7B", "bigcode/starcoder2-15b", "deepseek-ai/deepseek-coder-33b-base")
    steps = steps_of([f"python finetune.py ./data ./m --model {model}".split() for model in models])
    assert [each.gpus for each in hours_of(list(steps), None, 4)] == [4, 1, 8]


def test_hours_that_are_not_known_are_not_said_to_be_none(tmp_path, capsys):
    (tmp_path / "plan").write_text("python\x1fcollect_seeds.py\x1forg/stack\x1f./out/seeds")
    main(Options(commands=tmp_path / "plan", out=tmp_path / "out", gpus=0))
    said = capsys.readouterr().out
    assert "in all     not known" in said and "Without collecting seeds" in said


def test_with_a_speed_the_hours_are_those_of_the_tokens(planned):
    hours = hours_of(list(steps_of(read_commands(planned))), 10_000.0, 8)
    by_what = {each.what.partition(":")[0]: each for each in hours}
    assert by_what["sample_responses"].hours == pytest.approx(37_000 * 10 * 400 / 10_000 / 3600)
    assert by_what["sample_responses"].gpus == 8 and by_what["benchmark humanevalplus"].gpus == 1


def test_a_benchmark_has_the_speed_of_the_one_replica_that_serves_its_model(planned):
    commands = read_commands(planned)
    *_, benchmark = hours_of(list(steps_of(commands)), 10_000.0, 8, replicas_of(commands))
    assert benchmark.hours == pytest.approx(164 * 250 / (10_000 / 4) / 3600), "four replicas generate the data"


def test_servers_that_were_given_have_the_speed_together_as_well():
    asking = ["python", "sample_responses.py", "in", "out", "--endpoint", "http://a:1", "--endpoint", "http://b:1"]
    assert replicas_of([asking, ["model", "org/measured", "1", "1"]]) == 2
    assert replicas_of([]) == 1


def test_the_speed_of_earlier_runs_is_measured(tmp_path):
    assert measured_speed(tmp_path) is None
    for name, seconds in (("a", 10), ("b", 30)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps({"generation": {"tokens": 2000, "seconds": seconds}}))
    assert measured_speed(tmp_path) == 100


def test_the_plan_says_what_is_needed_and_what_it_costs(planned, tmp_path, capsys):
    main(Options(commands=planned, out=tmp_path / "out", gpus=4, tokens_per_second=10_000.0, price=2.0))
    said = capsys.readouterr().out
    assert said.count("python benchmark.py") == 1 and "serve org/big (2 GPUs x 4)" in said
    for word in (
        "org/big: not checked",
        "Qwen/CodeQwen1.5-7B",
        "GB are free",
        "package    vllm",
        "package    deepspeed",
    ):
        assert word in said
    assert "GPU hours" in said and "at 2 an hour" in said
