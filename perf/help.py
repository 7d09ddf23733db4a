"""How long each script takes for --help, beside the commands of the libraries that its users know, in one run.

    python -m perf.help
    python -m perf.help --rounds 10

The first line is Python itself, which does nothing. Rounds alternate between all commands, so that other load on the
machine affects them alike; the best round of each counts.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from selfalign.options import ROOT

PEERS = ("hf", "datasets-cli", "accelerate", "trl", "transformers")


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    commands = {"python -c pass": [sys.executable, "-c", "pass"]}
    commands |= {path.name: [sys.executable, str(path), "--help"] for path in sorted(ROOT.glob("*.py"))}
    folder = Path(sys.executable).parent
    commands |= {f"{name} --help": [str(folder / name), "--help"] for name in PEERS if (folder / name).exists()}
    best = dict.fromkeys(commands, float("inf"))
    for _ in range(rounds):
        for name, command in commands.items():
            best[name] = min(best[name], seconds(command))
    print(f"{'seconds, the best of ' + str(rounds) + ' rounds':40}")
    for name, took in best.items():
        print(f"{name:40}{took:6.2f}")


if __name__ == "__main__":
    main()
