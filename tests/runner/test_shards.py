"""Shards on many machines: real local pools, a real Ray of two nodes, Slurm's script run by a stand-in, Jobs' call.

The step is a script of its own, started from a folder that is not the project, as nodes would have it.
"""

import io
import os
import re
import signal
import stat
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import filelock
import fsspec
import huggingface_hub
import psutil
import pytest

from selfalign.errors import UserError
from selfalign.options import Shard, StepOptions
from selfalign.runner import shards as executors
from tests.code_eval.tools import descendants
from tests.helpers import ROOT, read_rows, run_json, write_rows

N = 60
JOBS = StepOptions(input="org/in", output="org/out", executor="jobs", shards=3)
SCRIPT = """
import os
from selfalign.options import StepOptions, run_script
from selfalign.runner import writer
from selfalign.runner.source import read_input
from selfalign.runner.step import run_step
from selfalign.runner.table import Table

async def double(row):
    import asyncio
    if row["number"] == 31 and os.path.exists("fault"):
        raise ValueError("a bad row")
    await asyncio.sleep(float(os.environ.get("ROW_SECONDS", 0)))
    with open("asked", "a") as asked:
        print(row["number"], file=asked)
    return row | {"double": 2 * row["number"]}

def main(options):
    writer.PART_ROWS = int(os.environ.get("PART_ROWS", 5))
    run_step(options, Table(read_input(options, "id"), double, {"double": int}))

if __name__ == "__main__":
    run_script(main, StepOptions, "")
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "doubling.py").write_text(SCRIPT)
    write_rows(tmp_path / "in.jsonl", [{"id": f"{i:03d}", "number": i} for i in range(N)])
    return tmp_path


def start(folder, *arguments, **environment):
    command = [sys.executable, "doubling.py", "in.jsonl", "./out", *arguments]
    known = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "home")}
    return subprocess.Popen(
        command, cwd=folder, env=known | environment, stdout=-1, stderr=subprocess.STDOUT, text=True
    )


def run(folder, *arguments, status=0, **environment):
    process = start(folder, *arguments, **environment)
    said = process.communicate(timeout=200)[0]
    assert process.returncode == status, said
    return said


def all_done(folder):
    numbers = [row["double"] for row in read_rows(folder / "out")]
    return numbers == list(range(0, 2 * N, 2)) and run_json(folder / "out")["complete"]


def test_shards_cover_every_row_once():
    for rows in (0, 1, 7, 100):
        for of in (1, 3, 8):
            assert [i for number in range(of) for i in range(rows)[Shard(number, of).span(rows)]] == list(range(rows))


@pytest.mark.parametrize("text", ["4/4", "1", "a/b", "-1/4", "1/0"])
def test_what_is_not_a_shard_is_refused(text):
    with pytest.raises(UserError, match="is not a shard"):
        Shard.parse(text)


def test_ray_that_is_not_installed_is_said(monkeypatch):
    monkeypatch.setattr(executors.importlib.util, "find_spec", lambda name: None)
    wanted = StepOptions(input="in", output="out", executor="ray", shards=2)
    with pytest.raises(UserError, match="--executor ray needs ray: pip install ray"):
        executors.run_shards(wanted, "run", [True, True])


def test_all_that_a_step_imports_travels_with_its_shards():
    """Also what it starts: benchmark.py serves a model folder with serve.py."""
    shipped = set(zipfile.ZipFile(io.BytesIO(executors._project())).namelist())
    rooms = ("selfalign", "code_eval", "server", "experiments/baselines")
    ours = {path.relative_to(ROOT).as_posix() for room in rooms for path in (ROOT / room).rglob("*.py")}
    assert ours | {"serve.py", "prompts/chat.jinja", "selfalign/report/page.js"} <= shipped


def test_a_bad_row_leaves_the_other_shards_alone_and_is_done_by_the_next_run(folder):
    (folder / "fault").touch()
    said = run(folder, "--executor", "local", "--shards", "3", "--workers", "2", status=3)
    assert "a bad row" in said and f"1 of {N} rows are still to do" in said
    assert len(read_rows(folder / "out")) == N - 1
    (folder / "fault").unlink()
    (folder / "asked").unlink()
    run(folder, "--executor", "local", "--shards", "3", "--workers", "2")
    assert all_done(folder) and (folder / "asked").read_text() == "31\n"


def test_another_number_of_shards_continues_where_the_first_one_stopped(folder):
    run(folder, "--shard", "1/4")
    run(folder, "--executor", "local", "--shards", "2", "--workers", "1")
    assert all_done(folder)
    assert sorted(map(int, (folder / "asked").read_text().split())) == list(range(N)), "none was done twice"
    assert run_json(folder / "out")["command"].startswith("python doubling.py in.jsonl ./out")


def test_shards_of_two_divisions_are_refused_at_the_same_time(folder):
    first = start(folder, "--shard", "0/2", ROW_SECONDS="0.5")
    while not (folder / "asked").exists():
        time.sleep(0.1)
    assert "another run is writing" in run(folder, "--shard", "3/4", status=2)
    run(folder, "--shard", "1/2")
    first.terminate()
    first.communicate(timeout=30)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_launcher_that_is_killed_takes_its_shards_with_it(folder, number):
    launcher = start(folder, "--executor", "local", "--shards", "2", ROW_SECONDS="1.5", PART_ROWS="1")
    while not list(folder.glob("out/data/train-*")):
        time.sleep(0.1)
    started = descendants(launcher.pid)
    launcher.send_signal(number)
    launcher.wait(60)
    for shard in range(2):
        with filelock.FileLock(folder / "out" / ".locks" / f"{shard}-of-2", timeout=15):
            pass  # its process has let go, whose rows take 45 s
    deadline = time.monotonic() + 15
    while any(map(psutil.pid_exists, started)):  # datatrove's pool and manager too
        assert time.monotonic() < deadline, [psutil.Process(pid).cmdline() for pid in started if psutil.pid_exists(pid)]
        time.sleep(0.1)
    run(folder, "--executor", "local", "--shards", "2")
    assert all_done(folder)
    assert len((folder / "asked").read_text().split()) < N + 2 * 6, "at most a part was done again by each"


def test_ray_on_two_nodes(folder):
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        run(folder, "--shard", "1/3")
        options = ["--executor-options", "mem_per_cpu_gb=0.1"]
        said = run(folder, "--executor", "ray", "--shards", "3", *options, RAY_ADDRESS=cluster.address)
    finally:
        cluster.shutdown()
    assert all_done(folder), said


SLURM = {
    # Runs an array job at once, task after task, in a bare environment, as on another node.
    "sbatch": """#!/bin/bash
echo "$@" >>calls
script=${{@: -1}}
cp "$script" script-$(grep -c . calls)
array=$(grep -o 'array=0-[0-9]*' "$script" | head -1)
if grep -q launch_pickled_pipeline "$script"; then
    for i in $(seq 0 ${{array#array=0-}}); do
        env -i HOME=$HOME PATH={path} HF_HUB_OFFLINE=1 SLURM_ARRAY_TASK_ID=$i SLURM_NODELIST=node bash "$script" \\
            >>slurm.log 2>&1
    done
fi
echo Submitted batch job 17
""",
    "srun": '#!/bin/bash\nshift 3; exec "$@"\n',  # -l -n 1
    "scontrol": "#!/bin/bash\necho node\n",
    "squeue": "#!/bin/bash\ncat queue 2>/dev/null\n",
}


@pytest.fixture
def slurm(folder):
    """Runs a step under Slurm as `run` does, with more arguments and variables."""
    bin = folder / "bin"
    bin.mkdir()
    main = f"#!{sys.executable}\nfrom datatrove.tools.launch_pickled_pipeline import main\nmain()\n"
    for name, text in {**SLURM, "launch_pickled_pipeline": main}.items():
        (bin / name).write_text(text.format(path=f"{bin}:/usr/bin:/bin") if name == "sbatch" else text)
        (bin / name).chmod(stat.S_IRWXU)
    arguments = ("--executor", "slurm", "--shards", "3", "--workers", "2")
    options = ("--executor-options", "partition=cpu", "time=20:00:00", "cpus_per_task=8")
    return partial(run, folder, *arguments, *options, PATH=f"{bin}:{os.environ['PATH']}")


def test_slurm(folder, slurm):
    said = slurm("--hf-token", "hf_secret")
    assert "Slurm job 17 has 3 shards" in said and "run the same command again" in said
    script = (folder / "script-1").read_text()
    for line in ("partition=cpu", "time=20:00:00", "cpus-per-task=8", "array=0-2%2", "job-name=doubling", "requeue"):
        assert f"#SBATCH --{line}\n" in script
    assert re.search(r"srun .* launch_pickled_pipeline .*/out/\.shards/[0-9a-f]{16}-of-3/executor\.pik", script)
    assert len(read_rows(folder / "out")) == N, (folder / "slurm.log").read_text()
    slurm()  # completes the card; nothing is left for Slurm
    assert all_done(folder) and "launch_pickled" not in (folder / "calls").read_text().split("\n", 2)[-1]
    assert not [file for file in folder.rglob("*") if file.is_file() and b"hf_secret" in file.read_bytes()]


def test_slurm_is_not_asked_twice_while_its_job_is_there(folder, slurm):
    (folder / "bin" / "sbatch").write_text("#!/bin/bash\necho job 17\n")
    slurm()
    (folder / "queue").write_text("17 cpu doubling\n")
    assert "Slurm job 17 is still" in slurm(status=2)


def test_the_call_of_hugging_face_jobs(folder, capsys, monkeypatch):
    """The jobs end at once, and do nothing."""
    calls = []
    done = SimpleNamespace(id="job", url="", status=SimpleNamespace(stage="COMPLETED"))
    monkeypatch.setattr(huggingface_hub, "run_uv_job", lambda script, **call: calls.append(call) or done)
    monkeypatch.setattr(huggingface_hub, "inspect_job", lambda **_: done)
    monkeypatch.setattr(sys, "argv", [str(folder / "doubling.py"), "org/in", "org/out", "--hf-token", "hf_secret"])
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setenv("SELFALIGN_API_KEY", "key_secret")
    executor_options = ("logging_dir=memory://logs", "flavor=cpu-upgrade", "poll_interval=0")
    options = replace(JOBS, hf_token="hf_secret", executor_options=executor_options)
    executors.run_shards(options, "0123", [True, True, False])
    assert len(calls) == 2, "the last shard has nothing to do"
    secrets = {"HF_TOKEN": "hf_secret", "SELFALIGN_API_KEY": "key_secret"}
    assert all(call["flavor"] == "cpu-upgrade" and call["secrets"] == secrets for call in calls)
    assert any(each.startswith("datatrove==") for each in calls[0]["dependencies"])
    assert not any(each.startswith("torch") for each in calls[0]["dependencies"])
    pickled = fsspec.filesystem("memory").cat_file("/logs/executor.pik")
    assert b"_secret" not in pickled and b"selfalign/runner/step.py" in pickled, "the project goes along, the token not"
    assert "shards 0, 1 of 3 were" in capsys.readouterr().err


def test_run_and_number_of_shards_are_in_the_name_of_the_logs():
    assert executors._logging_folder(JOBS, "0123") == "hf://buckets/org/out-shards/0123-of-3"
    local = replace(JOBS, output="./out", executor="local")
    assert executors._logging_folder(local, "0123") == os.path.abspath("out/.shards/0123-of-3")


@pytest.mark.parametrize("option", ["nonsense", "no_such_argument=1"])
def test_a_wrong_option_is_said(folder, option):
    said = run(folder, "--executor", "local", "--executor-options", option, status=2)
    assert option.split("=")[0] in said and "Traceback" not in said


def test_no_secret_is_in_the_command_of_a_shard(monkeypatch):
    secrets = ["--api-key", "secret", "--hf_token=secret", "--executor-options", "token=secret", "a=secret"]
    monkeypatch.setattr(sys, "argv", ["step.py", "in", "out", *secrets, "--api_key=secret", "--seed", "7"])
    assert executors._arguments(JOBS) == ["step.py", "in", "out", "--seed", "7"]
    monkeypatch.setattr(sys, "argv", ["step.py", "in", "out", "--endpoint", "http://user:secret@host"])
    with pytest.raises(UserError, match="//host contains a password or a key"):
        executors._arguments(JOBS)
