#!/usr/bin/env bash
# Several rounds of the method, each with the model that the round before has trained:
#
#     bash runs/rounds.sh MODEL [--rounds 3] [--seeds DATASET] [--out FOLDER] [--draw N]
#
# MODEL is a Hub id, a model folder, a .gguf file, or smollm2. Relative paths begin at the project's folder. Concepts are
# drawn for each round, rather those whose tasks were solved sometimes than those whose tasks were always or never
# solved. After each round, a table shows how diverse its instructions are, how strong its tests, how many of its
# instructions repeat earlier ones, and how the model does on HumanEval. If these say that the model feeds on itself,
# the rounds end with a sentence and status 4. If the run is killed or interrupted, the same command continues where it
# stopped. --help lists all options; docs/rounds.md says what the limits are and how they were tried.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case ${1:-} in
    '' | -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' runs/rounds.sh; [ -x .venv/bin/python ] || exit 0 ;;
esac
. runs/setup.sh scripts
exec python -m runs.rounds "$@"
