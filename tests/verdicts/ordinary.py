"""Do ordinary programs pass? Right programs of many kinds, with tests that hold, in `isolated` and in `strict`.

    python -m tests.verdicts.ordinary               # how many pass, and which do not
    python -m tests.verdicts.ordinary asyncio json  # those whose name contains one of these words

The programs stand in ordinary.txt: files, processes, threads, sockets, scripts, kinds of tests, data, packages. Those
known not to pass are named in FAILING, with the reason that code_eval/README.md gives. The exit status is 1 if another
one fails, or if one of these passes.
"""

import argparse
import re
import sys
from pathlib import Path

from code_eval.sandbox import Program, Sandbox

PROGRAMS = Path(__file__).with_name("ordinary.txt")
TIMEOUT = 10.0  # seconds of CPU time
CLASSES = "objects of a class that the code defines stay in its process"
PATCHED = "what tests replace inside the code, or look for in its logs and warnings, lies in another process"
FAILING = {
    "isolated": {"pytest_main": "pytest collects tests from files, and there is none"},
    "strict": {
        "pytest_main": "pytest collects tests from files, and there is none",
        "file_of_the_tests": "code and tests have a /tmp each",
        **dict.fromkeys(["dataclass_between", "class_with_methods", "enum", "operator_overloading"], CLASSES),
        **dict.fromkeys(["pandas_between", "context_manager_tested", "zoneinfo_result"], CLASSES),
        **dict.fromkeys(["mocked_request", "mock_of_a_helper", "logging_asserted", "warnings"], PATCHED),
        "cache_info": "a function has no attributes of its own",
        "global_list_changed": "names that are no functions are copied once, before the tests",
    },
}


def programs() -> dict[str, Program]:
    """The programs of ordinary.txt, by name."""
    found = {}
    for part in re.split(r"^#### ", PROGRAMS.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        part = re.sub(r"^#{8} .*\n", "", part, flags=re.MULTILINE)
        name, _, text = part.partition("\n")
        code, _, tests = text.partition("\n## tests\n")
        found[name] = Program(code, tests)
    return found


def surprises(mode: str, chosen: dict[str, Program]) -> list[str]:
    """Prints how the programs end in this mode, and returns a line for each that does not end as it is known to."""
    with Sandbox(mode, workers=2, timeout=TIMEOUT) as sandbox:
        results = dict(zip(chosen, sandbox.run(chosen.values()), strict=True))
    print(f"{mode}: {sum(result.passed for result in results.values())} of {len(results)} pass")
    lines = []
    for name, result in results.items():
        reason = FAILING[mode].get(name)
        if not result.passed and reason:
            print(f"    {name}: {reason}")
        elif not result.passed or reason:
            lines.append(f"{mode}: {name} ends as {result.outcome}: {result.detail}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="run only programs whose name contains one of them")
    words = parser.parse_args().words
    chosen = {name: one for name, one in programs().items() if not words or any(word in name for word in words)}
    unexpected = [line for mode in FAILING for line in surprises(mode, chosen)]
    print(*unexpected, sep="\n", end="\n" if unexpected else "")
    return bool(unexpected)


if __name__ == "__main__":
    sys.exit(main())
