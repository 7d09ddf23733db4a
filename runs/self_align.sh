#!/usr/bin/env bash
# The whole method with any model, from seeds to the table of before and after:
#
#     bash runs/self_align.sh MODEL [--seeds DATASET] [--out FOLDER | --hub ORG/NAME] [--endpoint URL] [--max-seeds N]
#
# MODEL is a Hub id, a model folder, a .gguf file, or smollm2. Relative paths begin at the project's folder. With
# --endpoint, the model is asked there; else it is served by vLLM on this machine's GPUs, or by serve.py without them.
# What will be done is printed first: rows, requests, tokens, hours (the server is measured), disk, and the cost if you
# give a price (--price-per-hour, --price-per-million-tokens). --plan-only ends there. If the run is killed or
# interrupted, the same command continues where it stopped. --help lists all options; runs/self_align.py has the steps.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case ${1:-} in
    '' | -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' runs/self_align.sh; [ -x .venv/bin/python ] || exit 0 ;;
esac
. runs/setup.sh scripts
exec python -m runs.self_align "$@"
