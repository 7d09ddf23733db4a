"""Tasks with tests as environments of other projects: a `verifiers` environment, and Harbor's task folders."""

from __future__ import annotations

import ast
import inspect
import json
import shlex
import sys
from collections.abc import Iterable
from typing import Any

from code_eval.assertions import text_without_main_block, what_runs
from selfalign.code.markdown import python_code
from selfalign.code.parsing import parsed
from selfalign.data.exports import WITH_TESTS, Files, Format, prompt_of
from selfalign.data.python_files import origin_of

Row = dict[str, Any]

# For verifiers 0.4, whose environments are packages with a taskset.
VERIFIERS_TASKSET = '''"""Tasks that a reply solves if its code passes their tests, which code_eval's sandbox runs."""

import asyncio
from functools import cache
from pathlib import Path

import verifiers.v1 as vf
from code_eval.reward import CodeReward

FILE = Path(__file__).parent / "tasks.jsonl"


@cache
def code_reward():
    """One sandbox for all tasks; each batch is one program, so that a slow one holds up no other."""
    return CodeReward()


async def share_of_tests(text: str, tests: str) -> float:
    """The reward of a reply: mostly the share of its tests that pass. What was never judged is an error, and no 0."""
    (earned,) = await asyncio.to_thread(code_reward(), [text], [tests])
    if earned is None:
        raise vf.TaskError("the reply could not be judged")
    return earned


class SelfalignData(vf.TaskData):
    """A task with its tests, and a response that passed them."""

    tests: str
    response: str


class SelfalignTask(vf.Task[SelfalignData]):
    @vf.reward(weight=1.0)
    async def passes_tests(self, trace: vf.Trace) -> float:
        return await share_of_tests(trace.last_reply, self.data.tests)

    async def validate(self, runtime: vf.Runtime) -> bool:
        return await share_of_tests(self.data.response, self.data.tests) == 1.0


class SelfalignTaskset(vf.Taskset[SelfalignTask, vf.TasksetConfig]):
    def load(self) -> list[SelfalignTask]:
        lines = FILE.read_text(encoding="utf-8").split("\\n")
        return [SelfalignTask(SelfalignData.model_validate_json(line), self.config.task) for line in lines if line]
'''
VERIFIERS_INIT = """from selfalign_tasks.taskset import SelfalignTaskset

__all__ = ["SelfalignTaskset"]
"""
# code-eval-sandbox is the folder code_eval of this project: `pip install ./code_eval`.
VERIFIERS_PROJECT = """[project]
name = "selfalign-tasks"
version = "0.1.0"
description = "Coding tasks whose tests run in a sandbox"
requires-python = ">=3.11"
dependencies = ["verifiers>=0.4", "code-eval-sandbox"]

[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[tool.hatch.build.targets.wheel]
packages = ["selfalign_tasks"]
"""

HARBOR_TOML = """schema_version = "1.1"

[task]
name = "selfalign/{name}"
description = "Write the Python code that the instruction asks for."

[metadata]
id = {id}
category = "programming"

[verifier]
timeout_sec = 120.0

[agent]
timeout_sec = 600.0

[environment]
build_timeout_sec = 600.0
cpus = 1
memory_mb = 2048
"""
HARBOR_DOCKERFILE = "FROM python:3.12-slim\n{install}WORKDIR /app\n"
HARBOR_WHERE = "\n\nWrite the Python code to the file `/app/solution.py`.\n"
# The reward is 0 unless all tests have run to their end: code that exits early earns nothing.
HARBOR_TEST = """#!/bin/bash
mkdir -p /logs/verifier
if python3 /tests/run_tests.py; then reward=1; else reward=0; fi
echo "$reward" > /logs/verifier/reward.txt
"""
# What leaves out the main block, which may wait for input: the tests have passed without it, in execute.py.
MAIN_BLOCK = "\n\n".join(map(inspect.getsource, (what_runs, text_without_main_block)))
HARBOR_RUN = f'''"""The solution and its tests as one program; the exit status is 0 only if it runs to its end."""

import ast
import os
import subprocess
import sys
import warnings


{MAIN_BLOCK}

MARK = os.urandom(16).hex()  # written after the tests, so that a solution that exits early has not passed
with open("/app/solution.py", encoding="utf-8") as file:
    solution = text_without_main_block(file.read())
with open("/tests/solution_tests.py", encoding="utf-8") as file:
    tests = file.read()
program = f"{{solution}}\\n\\n{{tests}}\\n\\nprint({{MARK!r}}, flush=True)\\n"
done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
sys.stdout.write(done.stdout[-2000:].replace(MARK, ""))
sys.stderr.write(done.stderr[-2000:])
sys.exit(0 if done.returncode == 0 and done.stdout.rstrip().endswith(MARK) else 1)
'''


def verifiers_row(row: Row) -> Row:
    """The fields of a task's data; a system message has a field of its own."""
    *system, asked = [turn["content"] for turn in prompt_of(row)]
    task = {"id": row["id"], "prompt": asked, "tests": python_code(row["tests"]), "response": row["response"]}
    return task | ({"system_prompt": system[0]} if system else {})


def verifiers_files(rows: int) -> Files:
    return {
        "selfalign_tasks/__init__.py": VERIFIERS_INIT,
        "selfalign_tasks/taskset.py": VERIFIERS_TASKSET,
        "pyproject.toml": VERIFIERS_PROJECT,
    }


def verifiers_refusal(rows: Iterable[Row]) -> str | None:
    """Why rows can't be tasks of verifiers, which have one question, and perhaps a system message."""
    for row in rows:
        if [turn["role"] for turn in prompt_of(row)] not in (["user"], ["system", "user"]):
            return f"row {row['id']} is a chat of several turns, and a task of verifiers has one question"
    return None


def harbor_name(id: str) -> str:
    """The name of a task's folder: letters, digits and hyphens."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in id.lower())


def harbor_dockerfile(*programs: str) -> str:
    """A container with the packages that programs import, in the versions that are installed here.

    What is not installed here is left out: the programs have passed without it, and PyPI might have something else
    under the name of a module that a model has made up.
    """
    nodes = [node for program in programs for node in ast.walk(parsed(program) or ast.Module([], []))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    modules = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
    packages = filter(None, (origin_of(module)["repository"] for module in modules))
    # Where a version says how it was built, as in 2.13.0+cpu, PyPI has it without that.
    wanted = sorted({package.replace("@", "==").partition("+")[0] for package in packages})
    install = f"RUN pip install --no-cache-dir {shlex.join(wanted)}\n" if wanted else ""
    return HARBOR_DOCKERFILE.format(install=install)


def harbor_files(row: Row) -> Files:
    """The folder of one task, named by its id."""
    name = harbor_name(row["id"])
    prompt = "\n\n".join(turn["content"] for turn in prompt_of(row))
    code, tests = (python_code(row[column]) or "" for column in ("response", "tests"))
    lines = code if code.endswith("\n") else code + "\n"
    files = {
        "instruction.md": prompt.rstrip() + HARBOR_WHERE,
        "task.toml": HARBOR_TOML.format(name=name, id=json.dumps(row["id"])),
        "environment/Dockerfile": harbor_dockerfile(code, tests),
        "solution/solve.sh": f"#!/bin/bash\nprintf %s {shlex.quote(lines)} > /app/solution.py\n",
        "tests/test.sh": HARBOR_TEST,
        "tests/run_tests.py": HARBOR_RUN,
        "tests/solution_tests.py": tests,
    }
    return {f"{name}/{file}": text for file, text in files.items()}


def harbor_refusal(rows: Iterable[Row]) -> str | None:
    """Why rows can't be task folders, which have one text as instruction, code as solution and a name of their own."""
    names: dict[str, str] = {}
    for row in rows:
        if other := names.get(name := harbor_name(row["id"])):
            return f"the ids {other} and {row['id']} would both become the folder {name}"
        names[name] = row["id"]
        if fault := _harbor_fault(row):
            return fault
    return None


def _harbor_fault(row: Row) -> str | None:
    if [turn["role"] for turn in prompt_of(row)] != ["user"]:
        return f"row {row['id']} is a chat of several turns, and a task of harbor has one instruction"
    if not python_code(row["response"]):
        return f"row {row['id']} has a response without a closed Python block, so harbor would have no solution"
    return None


REFUSALS = {"verifiers": verifiers_refusal, "harbor": harbor_refusal}
ENVIRONMENTS = {
    "verifiers": Format(WITH_TESTS, verifiers_row, tasks=True, beside=verifiers_files),
    "harbor": Format(WITH_TESTS, lambda row: row, tasks=True),
}
