"""The baselines: published datasets in their own layouts, and teachers played by a server without a model."""

import pytest
from aiohttp import web

from selfalign.errors import UserError
from selfalign.llm.prompts import Examples, load_prompt
from selfalign.options import PROMPTS
from tests.fakes.server import simulated
from tests.helpers import load_script, read_rows, run_json, write_rows
from tests.training.tools import finetune, prepared, tokenizer_of


def done(name, source, folder, **options):
    """The rows that a script writes into a folder, and the counts of its run. `source` is a place or rows."""
    folder.mkdir(exist_ok=True)
    if isinstance(source, list):
        source = write_rows(folder / "in.jsonl", source)
    script = load_script(f"experiments/baselines/{name}")
    script.main(script.Options(input=str(source), output=str(folder / "out"), **options))
    return read_rows(folder / "out"), run_json(folder / "out")["counts"]


# Published ------------------------------------------------------------------------------------------------------------

# The columns of Magicoder-OSS-Instruct-75K, and more of them than are used.
PUBLISHED = [{"lang": "python", "index": i, "problem": f"Problem {i}", "solution": f"Solution {i}"} for i in range(40)]
OSS = {"instruction_column": "problem", "response_column": "solution", "license": "mit"}


def test_a_random_subset_that_does_not_depend_on_the_order(tmp_path):
    rows, counts = done("published", PUBLISHED, tmp_path / "a", size=10, **OSS)
    assert len(rows) == 10 and counts["not_drawn"] == 30
    assert {tuple(row) for row in rows} == {("id", "instruction", "response", "license")}
    assert all(row["response"] == row["instruction"].replace("Problem", "Solution") for row in rows)
    assert done("published", PUBLISHED[::-1], tmp_path / "b", size=10, **OSS)[0] == rows


def test_empty_texts_are_counted(tmp_path):
    rows = [*PUBLISHED[:3], {**PUBLISHED[3], "solution": " "}, {**PUBLISHED[4], "problem": None}]
    rows, counts = done("published", rows, tmp_path, **OSS)
    assert len(rows) == 3 and counts["empty"] == 2


@pytest.mark.parametrize(("license", "expected"), [(None, "terms of the teacher"), ("mit", "mit")])
def test_rows_keep_their_licence_unless_another_is_given(tmp_path, license, expected):
    rows = [{"instruction": "I", "response": "R", "license": "terms of the teacher"}]
    rows, _ = done("published", rows, tmp_path, license=license)
    assert [row["license"] for row in rows] == [expected]


def test_a_subset_larger_than_the_dataset_is_refused(tmp_path):
    with pytest.raises(UserError, match="40 usable rows, fewer than --size 50"):
        done("published", PUBLISHED, tmp_path, size=50, **OSS)


@pytest.fixture
def octopack(tmp_path):
    """CommitPackFT and OASST as they are laid out on the Hub."""
    for language in ("python", "go"):
        (tmp_path / "commits" / "data" / language).mkdir(parents=True)
        commits = [
            {"commit": f"{i:040d}", "old_file": "a", "new_file": "a", "old_contents": f"x = {i}\n"}
            | {"new_contents": f"y = {i}\n", "subject": f"Rename x to y ({language})", "message": "Rename x to y\n"}
            | {"lang": language.title(), "license": "mit", "repos": f"one/{language},two/{language}"}
            for i in range(10)
        ]
        write_rows(tmp_path / "commits" / "data" / language / "data.jsonl", commits)
    texts = {"Why?": "prompter", "Because.": "assistant", "Really?": "prompter", "Yes.": "assistant"}
    messages = [{"role": role, "text": text} for text, role in texts.items()]
    conversations = [{"conversations": messages, "lang": "en"}, {"conversations": messages[:1], "lang": "de"}]
    write_rows(tmp_path / "oasst.jsonl", conversations)
    return {"languages": ("python", "go"), "conversations": str(tmp_path / "oasst.jsonl"), "commits": 8}


def test_octopack_is_commits_and_conversations(tmp_path, octopack):
    rows, counts = done("octopack", tmp_path / "commits", tmp_path / "a", **octopack)
    assert counts == {"commitpackft": 8, "oasst": 1, "not_drawn": 12, "no_answer": 1}
    (answer,) = [row for row in rows if row["source"] == "oasst"]
    assert (answer["instruction"], answer["response"], answer["license"]) == ("Why?", "Because.", "apache-2.0")
    commit = next(row for row in rows if row["source"] == "commitpackft")
    subject, old_file = commit["instruction"].split("\n", 1)
    assert subject.startswith("Rename x to y") and old_file == "x = " + commit["response"][4:]
    assert commit["repository"] == f"one/{commit['language'].lower()}"
    octopack["languages"] = ("go", "python")
    assert done("octopack", tmp_path / "commits", tmp_path / "b", **octopack)[0] == rows, "drawn in any order"


# Snippets -------------------------------------------------------------------------------------------------------------


def test_a_snippet_is_some_lines_of_its_file(tmp_path):
    files = [
        {"content": "\n".join(f"    line {n} of {i}" for n in range(60)), "max_stars_repo_licenses": ["MIT"]}
        for i in range(30)
    ]
    rows, counts = done("snippets", [*files, {"content": " \n", "max_stars_repo_licenses": []}], tmp_path)
    lengths = []
    for row in rows:
        lines = row["content"].split("\n")
        first, file = (int(word) for word in lines[0].split() if word.isdecimal())
        assert lines == [f"line {first + n} of {file}" for n in range(len(lines))] and row["license"] == "MIT"
        lengths.append(len(lines))
    assert counts == {"ok": 30, "empty_files": 1} and max(lengths) <= 15 and min(lengths) < 5


def test_files_with_the_same_snippet_are_seeds_of_their_own(tmp_path):
    files = [{"content": f"import os{' ' * n}"} for n in range(2)]
    files += [{"content": "import os", "max_stars_repo_path": path} for path in ("a.py", "b.py")]
    rows, _ = done("snippets", files, tmp_path)
    assert len({row["id"] for row in rows}) == 4, "or the next step refuses them"
    assert len({row["content"].strip() for row in rows}) == 1


# Teachers -------------------------------------------------------------------------------------------------------------


def teacher(answers):
    """A chat server that answers a prompt with what `answers` returns for it: a text, or a text and its finish reason,
    or None for the simulation's own answer."""

    async def hook(request, body, number):
        answer = answers(body["messages"][0]["content"]) if "messages" in body else None
        if answer is None:
            return None
        text, reason = answer if isinstance(answer, tuple) else (answer, "stop")
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
        usage = {"completion_tokens": len(text.split()), "prompt_tokens": 1, "total_tokens": 1}
        return web.json_response({"choices": [choice], "usage": usage, "model": body["model"], "id": "1", "created": 0})

    return simulated(hook)


def test_direct_distillation_answers_each_instruction_greedily(tmp_path):
    student = {"response": "of the student", "messages": []}
    tasks = [{"id": f"t{i}", "instruction": f"Task {i}", **student} for i in range(6)]
    unusable = {"Task 3": ("too lo", "length"), "Task 4": " ", "Task 5": ("mode", "content_filter")}

    def answers(prompt):
        return unusable.get(prompt, f"Answer to {prompt}") if "Task" in prompt else None

    with teacher(answers) as server:
        rows, counts = done("distill", tasks, tmp_path, endpoint=(server.url,))
        asked = [body for body in server.bodies if "Task" in body["messages"][0]["content"]]
    assert {row["task_id"]: row["response"] for row in rows} == {f"t{i}": f"Answer to Task {i}" for i in range(3)}
    assert counts == {"ok": 3, "unfinished": 2, "empty": 1} and "messages" not in rows[0]
    assert {body["temperature"] for body in asked} == {0}


def test_evol_instruct_makes_each_instruction_harder_round_by_round(tmp_path):
    def answers(prompt):
        if "Task:\n" in prompt:
            return prompt.rsplit("Task:\n", 1)[1].strip() + " harder"
        return f"Solution of: {prompt}" if prompt.startswith("Sort") else None

    seeds = [{"instruction": "Sort it.", "input": "3 1 2"}, {"instruction": "Sort them.", "input": ""}]
    with teacher(answers) as server:
        rows, counts = done("evol_instruct", seeds, tmp_path, endpoint=(server.url,))
    assert counts == {"ok": 8}
    chain = sorted((row["round"], row["instruction"]) for row in rows if "them" in row["instruction"])
    assert chain == [(n, "Sort them." + n * " harder") for n in range(4)]
    assert all(row["response"] == f"Solution of: {row['instruction']}" for row in rows)
    script = load_script("experiments/baselines/evol_instruct")
    assert all((row["way"] in script.WAYS) == (row["round"] > 0) for row in rows)


def test_an_instruction_that_does_not_change_ends_its_chain(tmp_path):
    with teacher(lambda prompt: "Sort it." if "Sort it." in prompt else None) as server:
        rows, counts = done("evol_instruct", [{"instruction": "Sort it."}], tmp_path, endpoint=(server.url,))
    assert len(rows) == 1 and counts == {"ok": 1, "no_harder_instruction": 1}


def test_refusals_of_the_teacher_are_neither_instructions_nor_responses(tmp_path):
    def answers(prompt):
        if "Task:\n" in prompt:
            return "Sort it fast." if prompt.strip().endswith("Sort it.") else "I'm sorry, but I can't do that."
        return ("Sorry, no." if prompt == "Sort it." else "Done.") if prompt.startswith("Sort") else None

    with teacher(answers) as server:
        rows, counts = done("evol_instruct", [{"instruction": "Sort it."}], tmp_path, endpoint=(server.url,))
    assert [row["instruction"] for row in rows] == ["Sort it fast."] and counts == {"ok": 1, "refused": 2}


def test_every_way_has_a_sentence_of_its_own():
    render = load_prompt(PROMPTS / "evolve.jinja", Examples([])).render
    texts = {render(instruction="x", way=way) for way in load_script("experiments/baselines/evol_instruct").WAYS}
    assert len(texts) == 5 and min(map(len, texts)) > len(render(instruction="x", way="none")) + 40


SOLUTION = "Add.\n\n```python\nf = sum\n```"


def test_oss_instruct_makes_problem_and_solution_of_a_snippet(tmp_path):
    snippets = [{"id": f"s{i}", "content": f"x = {i}"} for i in range(2)]

    def answers(prompt):
        if "x = 0" in prompt:
            return f"## Problem\nWrite `f`.\n\n## Solution\n{SOLUTION}"
        return "I can't." if "x = 1" in prompt else None

    with teacher(answers) as server:
        rows, counts = done("oss_instruct", snippets, tmp_path, endpoint=(server.url,))
    assert [(row["seed_id"], row["instruction"], row["response"]) for row in rows] == [("s0", "Write `f`.", SOLUTION)]
    assert counts == {"ok": 1, "no_problem": 1}


@pytest.mark.parametrize(
    ("answer", "error"),
    {
        "both": (f"## Problem\nP\n## Solution\n{SOLUTION}", None),
        "bold": (f"### Problem:\nP\n### Solution:\n{SOLUTION}", None),
        "no solution": ("## Problem\nP", "no_solution"),
        "no code": ("## Problem\nP\n## Solution\nEasy.", "no_solution"),
        "cut off": (f"## Problem\nP\n## Solution\n{SOLUTION[:-4]}", "unfinished"),
        "no problem": (f"## Problem\n## Solution\n{SOLUTION}", "no_problem"),
    }.values(),
)
def test_answers_are_split(answer, error):
    assert load_script("experiments/baselines/oss_instruct").split_answer(answer)[2] == error


def test_what_baselines_write_is_what_finetune_reads(tmp_path, tiny_model):
    done("published", PUBLISHED, tmp_path, size=4, **OSS)
    options = finetune.Options(input=str(tmp_path / "out"), output=str(tmp_path / "model"), model=str(tiny_model))
    examples, _, counts = prepared(options)
    assert counts == {"examples": 4}
    learned = [token for token in examples[0]["labels"] if token != finetune.NO_LOSS]
    assert tokenizer_of(options).decode(learned).startswith("Solution")
