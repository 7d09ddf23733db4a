"""Executions as a model could have written them, hostile ones among them, and datasets as a step leaves them."""

import json

import pyarrow as pa

from selfalign.runner.output import open_output

HOSTILE = """</pre></article><script>document.title = "owned"</script>
<img src="http://planted.example/a.png" onerror="document.title = 'owned'"> ${1} {{ 7 * 7 }} {% raw %} & < " '"""
OUTCOMES = ["passed", "failed", "error", "passed"]


def execution(number):
    """A sample; two in four pass. Those of number 0 and 1 are hostile."""
    outcome = OUTCOMES[number % 4]
    text = HOSTILE if number < 2 else f"Sort the {number}th list"
    return {
        "id": f"id-{number:03}",
        "task_id": f"task-{number // 2}",
        "instruction": text,
        "response": f"Use `f`:\n```python\n# {text}\ndef f(x):\n    return {number}\n```\nDone.",
        "tests": "```python\nassert f(1)\n```",
        "category": ["function", "class"][number % 2],
        "difficulty": ["easy", "medium", "hard"][number % 3],
        "concepts": ["sorting", "Sorting ", "$x_$ {", "排序"][: 1 + number % 4],
        "outcome": outcome,
        "passed": outcome == "passed",
        "detail": None if outcome == "passed" else "AssertionError",
        "vacuous": False if outcome == "passed" else None,
        "mutation_score": number / 100 if outcome == "passed" else None,
    }


EXECUTIONS = [execution(number) for number in range(60)]
FUNNEL = [
    {"step": "execute", "rows_in": 60, "rows_out": 60, "counts": {"passed": 30, "failed": 15, "error": 15}},
    {"step": "select", "rows_in": 60, "rows_out": 29, "counts": {"same_instruction": 1, "did_not_pass": 30}},
]
RUN = FUNNEL[1] | {"command": "python select.py in out", "funnel": FUNNEL}
CARD = "---\ntags: [x]\n---\n\nA person's words.\n\n<!-- selfalign: begin -->\n# select\n<!-- selfalign: end -->\n"


def write_dataset(folder, rows=EXECUTIONS[::4] + EXECUTIONS[3::4], run=RUN, preferences=()):
    """A dataset as a step leaves it."""
    with open_output(str(folder)) as output:
        output.write_part(pa.Table.from_pylist(rows), {"covered": [(0, len(rows) - 1)]})
        if preferences:
            output.write_part(
                pa.Table.from_pylist(preferences), {"covered": [(0, len(preferences) - 1)]}, "preferences"
            )
            run = run | {"tables": {"preferences": {"rows_out": len(preferences)}}}
        output.write("run.json", json.dumps(run))
        output.write("README.md", CARD)
    return str(folder)
