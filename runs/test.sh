#!/usr/bin/env bash
# Runs the tests, and first installs what they need: bash runs/test.sh [arguments of pytest]
#
#     bash runs/test.sh                     # everything that CI runs: formatter, linter, type checker, tests
#     bash runs/test.sh -m slow             # only the tests that take minutes
#     bash runs/test.sh -k select           # only some of the tests

set -euo pipefail
cd "$(dirname "$0")/.."
. runs/setup.sh dev

if [ $# -eq 0 ]; then
    ruff format --check --quiet . && ruff check --quiet .
    basedpyright --level error
fi
exec python -m pytest "$@"
