"""Instructions, executions and preferences as other trainers take them: the rows of each format, and what stands beside
them.

A format takes what it can hold without loss. Anything else is refused by `refusal`, in one sentence, before a file is
written: failing samples where nothing says that they fail, several rows of a task where each row is a task, tests where
there are none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from selfalign.code.markdown import python_code
from selfalign.data.examples import CHAT, chat

Row = dict[str, Any]
Files = dict[str, str]  # path in the output -> text
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Format:
    """How a trainer takes its data.

    Attributes:
        needs: the columns that the input must have.
        row: input row -> row of the format, with the columns `columns` if these are a table.
        columns: of a dataset, which is written like the output of any step; None: files in a folder.
        tasks: whether each row stands for a task, so that no task may have two.
        learns: whether a model learns to write the response, so that it must not be a failing one.
        beside: number of rows -> further files of the folder.
    """

    needs: tuple[str, ...]
    row: Callable[[Row], Row]
    columns: dict[str, Any] | None = None
    tasks: bool = False
    learns: bool = False
    beside: Callable[[int], Files] = lambda rows: {}


def messages_of(row: Row) -> list[dict[str, str]]:
    """The chat of a row: its own, or one of its instruction and its response."""
    if row.get("messages"):
        return [{"role": turn["role"], "content": turn["content"]} for turn in row["messages"]]
    return chat("user", row["instruction"]) + chat("assistant", row["response"])


def prompt_of(row: Row) -> list[dict[str, str]]:
    """What the model is asked: the chat without its last turn."""
    return messages_of(row)[:-1]


def refusal(format: str, how: Format, rows: Iterable[Row]) -> str | None:
    """Why rows can't be exported without loss; None if they can."""
    tasks: set[str] = set()
    for row in rows:
        name = f"row {row.get('id')}"
        if null := next((column for column in how.needs if row[column] in (None, "", [])), None):
            return f"{name} has no {null}, and {format} has no place for a row without one: leave such rows out first"
        if row.get("passed") is False and (how.learns or how.tasks):
            return (
                f"{name} did not pass its tests, and {format} has no place for that: a model would learn from it as "
                "from one that passed; export what select.py chose"
            )
        if how.tasks and (task := row.get("task_id")):
            if task in tasks:
                return f"task {task} has several rows, and {format} has one a task: export what select.py chose"
            tasks.add(task)
        if fault := _fault_of_columns(row, how):
            return f"{name} has {fault}, and {format} takes nothing else"
        if "prompt" not in how.needs and (fault := _fault_of_chat(messages_of(row))):
            return f"{name} has {fault}, which {format} would lose or get wrong"
        if "tests" in how.needs and not python_code(row["tests"]):
            return f"{name} has tests without a closed Python block, so {format} would have nothing to run"
    return None


def _fault_of_columns(row: Row, how: Format) -> str | None:
    """What a column holds instead of a chat, or instead of one answer where files take a single one."""
    preferences = "prompt" in how.needs
    for column in how.needs[1:] if preferences else ("messages",):
        if row.get(column) and not _is_chat(row[column]):
            return f"a column {column} that is no list of turns with a role and a text as content"
        roles = [turn["role"] for turn in row.get(column) or ()]
        if preferences and how.columns is None and column != "prompt" and roles != ["assistant"]:
            return f"a column {column} that is not one answer of the assistant"
    return None


def _is_chat(value: Any) -> bool:
    """Whether a value of a column is a chat, and not a text or a chat of another form."""
    return isinstance(value, list) and all(
        isinstance(turn, dict) and isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str)
        for turn in value
    )


def _fault_of_chat(messages: list[dict[str, str]]) -> str | None:
    roles = [turn["role"] for turn in messages]
    if other := next((role for role in roles if role not in ROLES), None):
        return f"a turn with the role {other}"
    if len(roles) < 2 or roles[-1] != "assistant":
        return "a chat that does not end with an answer of the assistant"
    return None


# TRL, as datasets --------------------------------------------------------------------------------------------------


def trl_sft(row: Row) -> Row:
    """`prompt` and `completion` as chats: TRL then takes the loss of the completion alone."""
    messages = messages_of(row)
    return {"id": row["id"], "prompt": messages[:-1], "completion": messages[-1:]}


def trl_dpo(row: Row) -> Row:
    return {"id": row["id"], **{name: row[name] for name in ("prompt", "chosen", "rejected")}}


def trl_grpo(row: Row) -> Row:
    """The columns beside `prompt` are given to the reward: `code_eval`'s reads `tests`."""
    return {"id": row["id"], "prompt": prompt_of(row), "tests": python_code(row["tests"]), "response": row["response"]}


# Files -------------------------------------------------------------------------------------------------------------


def openai(row: Row) -> Row:
    """Fine-tuning by OpenAI refuses any other key; the ids stand in ids.txt, in the same order.

    It trains on all answers of a chat but those with the weight 0. The earlier ones of a repair failed.
    """
    return {"messages": with_earlier_answers(row, weight=0)}


def axolotl(row: Row) -> Row:
    """As `with_id`; `train` says for earlier answers that they are not learnt."""
    return {"id": row["id"], "messages": with_earlier_answers(row, train=False)}


def with_earlier_answers(row: Row, **marks: Any) -> list[Row]:
    """The chat of a row, in which all answers but the last are marked."""
    *earlier, last = messages_of(row)
    return [turn | marks if turn["role"] == "assistant" else turn for turn in earlier] + [last]


def openai_preferences(row: Row) -> Row:
    return {
        "input": {"messages": row["prompt"]},
        "preferred_output": row["chosen"],
        "non_preferred_output": row["rejected"],
    }


def with_id(row: Row) -> Row:
    return {"id": row["id"], "messages": messages_of(row)}


def preference_with_id(row: Row) -> Row:
    """The chat so far, and each of the two answers as one turn."""
    return {"id": row["id"], "messages": row["prompt"], "chosen": row["chosen"][-1], "rejected": row["rejected"][-1]}


AXOLOTL = """# The part of a configuration that reads these data; a base_model and the rest are up to you.
chat_template: tokenizer_default
datasets:
  - path: {path}
    ds_type: json
    split: train
    type: {type}
    field_messages: messages
    message_property_mappings:
      role: role
      content: content
"""


def axolotl_files(rows: int) -> Files:
    text = AXOLOTL.format(path="train.jsonl", type="chat_template")
    return {"axolotl.yaml": text + "    roles_to_train: [assistant]\n    message_field_training: train\n"}


def axolotl_preference_files(rows: int) -> Files:
    text = AXOLOTL.format(path="train.jsonl", type="chat_template.default")
    return {"axolotl.yaml": "rl: dpo\n" + text + "    field_chosen: chosen\n    field_rejected: rejected\n"}


LLAMA_FACTORY = """# The part of a configuration that reads these data; a model and the rest are up to you.
dataset: selfalign
dataset_dir: .
mask_history: true  # only the last answer of a chat is learnt: the earlier ones of a repair failed
"""
TAGS = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}


def llama_factory_files(rows: int, **more: Any) -> Files:
    columns = {"messages": "messages", **({"chosen": "chosen", "rejected": "rejected"} if more else {})}
    about = {"file_name": "train.jsonl", "formatting": "sharegpt", **more, "columns": columns}
    about["tags"] = TAGS | {"system_tag": "system"}
    files: Files = {"dataset_info.json": json.dumps({"selfalign": about}, indent=2) + "\n"}
    return files if more else files | {"llama_factory.yaml": LLAMA_FACTORY}


def llama_factory_preference_files(rows: int) -> Files:
    return llama_factory_files(rows, ranking=True)


INSTRUCTIONS = ("id", "instruction", "response")
PREFERENCES = ("id", "prompt", "chosen", "rejected")
WITH_TESTS = (*INSTRUCTIONS, "tests")
ID = {"id": str}

FORMATS = {
    "trl-sft": Format(INSTRUCTIONS, trl_sft, ID | {"prompt": CHAT, "completion": CHAT}, learns=True),
    "trl-dpo": Format(PREFERENCES, trl_dpo, ID | {"prompt": CHAT, "chosen": CHAT, "rejected": CHAT}),
    "trl-grpo": Format(WITH_TESTS, trl_grpo, ID | {"prompt": CHAT, "tests": str, "response": str}, tasks=True),
    "openai": Format(INSTRUCTIONS, openai, learns=True),
    "axolotl": Format(INSTRUCTIONS, axolotl, learns=True, beside=axolotl_files),
    "llama-factory": Format(INSTRUCTIONS, with_id, learns=True, beside=llama_factory_files),
}
# The same for an input of preferences, which these formats also take.
OF_PREFERENCES = {
    "openai": Format(PREFERENCES, openai_preferences),
    "axolotl": Format(PREFERENCES, preference_with_id, beside=axolotl_preference_files),
    "llama-factory": Format(PREFERENCES, preference_with_id, beside=llama_factory_preference_files),
}
