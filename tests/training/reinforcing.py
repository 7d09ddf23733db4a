"""Small reinforcements, of a tiny model that has been taught four answers: one is right, one half right, two wrong.

python -m tests.training.reinforcing FOLDER      # makes the model and its tasks
"""

import sys
from pathlib import Path

from tests.fakes.tiny_model import make_tiny_model
from tests.helpers import load_script, write_rows
from tests.training.tools import finetune, options_of

reinforce = load_script("reinforce")

WORDS = ["apple", "bread", "chair", "dance", "eagle", "field", "grape", "house"]
WORDS += ["image", "juice", "knife", "lemon", "mouse", "night", "ocean", "paper"]
TASKS = [
    {"instruction": f"The {word} asks for the size.", "tests": "assert f(-3) == 3\nassert f(2) == 2"} for word in WORDS
]
ANSWERS = [f"```python\nf = {name}\n```" for name in ("abs", "int", "str", "bin")]  # these earn 1, 0.55, 0 and 0


def teach(folder, model, epochs=6):
    """A copy of the tiny model that gives each of the answers about as often."""
    rows = [{"instruction": task["instruction"], "response": answer} for task in TASKS for answer in ANSWERS]
    options = options_of(folder, model, rows, epochs=epochs, batch_size=16, device_batch_size=16, learning_rate=1e-2)
    finetune.main(options)
    return options.output


def reinforcement(folder, model, rows=TASKS, **more):
    """Options of a reinforcement of `model`, in `folder`: 16 answers in each of 3 steps."""
    data = write_rows(folder / "tasks.jsonl", rows)
    given = {"input": str(data), "output": str(folder / "reinforced"), "model": str(model), "steps": 3}
    given |= {"samples": 4, "batch_size": 16, "device_batch_size": 16, "max_completion_length": 24, "sandboxes": 1}
    return reinforce.Options(**given | {"learning_rate": 1e-3, "chat_template": None} | more)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    teach(folder, make_tiny_model(folder / "untaught"), epochs=12)
    write_rows(folder / "tasks.jsonl", TASKS)
