#!/usr/bin/env bash
# Runs the tests, and first installs what they need: bash runs/test.sh [arguments of pytest]
#
#     bash runs/test.sh                     # everything that CI runs: formatter, linter, type checker, tests
#     bash runs/test.sh -m slow             # only the tests that take minutes
#     bash runs/test.sh -k select           # only some of the tests

set -euo pipefail
cd "$(dirname "$0")/.."
. runs/setup.sh dev

if [ $# -gt 0 ]; then exec python -m pytest "$@"; fi
ruff format --check --quiet .
ruff check --quiet .
basedpyright --level error
# Several files of tests at a time, each by one process, as its fixtures are its own.
exec python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile
