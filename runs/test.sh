#!/usr/bin/env bash
# The tests, on a bare machine: bash runs/test.sh [arguments of pytest]
#
#     bash runs/test.sh                     # all that CI runs: tests, linter, type checker
#     bash runs/test.sh -m slow             # the longer proofs
#     bash runs/test.sh -k select           # some of them

set -euo pipefail
cd "$(dirname "$0")/.."
. runs/setup.sh dev

if [ $# -eq 0 ]; then
    ruff format --check --quiet . && ruff check --quiet .
    basedpyright --level error
fi
exec python -m pytest "$@"
