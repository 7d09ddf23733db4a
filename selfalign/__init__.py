"""What the scripts share. What each step of the paper does is in the scripts; each package says what belongs to it."""

import importlib.util
import sys

# Every script imports this first, so a Python without the packages ends here, and not in a traceback.
if importlib.util.find_spec("tyro") is None:
    _sentence = f"{sys.executable} lacks the packages of requirements.txt: run `. .venv/bin/activate` first"
    print(f"{_sentence} (if there is no .venv, `bash runs/setup.sh` makes it)", file=sys.stderr)
    raise SystemExit(2)
