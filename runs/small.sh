#!/usr/bin/env bash
# What self-validation buys with a model of yours: bash runs/small.sh [MODEL] [options]
#
# MODEL (SmolLM2-135M-Instruct by default) writes data from functions of Python's standard library, and is fine-tuned on
# it once for each way to select: random samples, failures, passes (the paper), and what other samples agree with. All
# get the same number of examples, and are trained with two seeds. HumanEval(+) and MBPP(+) are measured before and
# after, as far as their problems can be read, and the table at the end shows intervals and paired tests, whichever way
# they come out, and which effect this size could have shown.
#
#     bash runs/small.sh                                                     # 135M, half an hour on 2 cores
#     bash runs/small.sh Qwen/Qwen2.5-Coder-0.5B-Instruct --settings plain --max-seeds 1000
#     bash runs/small.sh MODEL --executions ./mine/executions                # from data that is there already
#     bash runs/small.sh MODEL --benchmark-data humanevalplus=HumanEvalPlus.jsonl mbppplus=MbppPlus.jsonl
#
# What it will take is printed first; --plan-only ends there. Relative paths begin at the project's folder. If the run is
# killed or interrupted, the same command continues where it stopped. --help lists all options; runs/small.py has the
# steps.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case ${1:-} in
    -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' runs/small.sh; [ -x .venv/bin/python ] || exit 0 ;;
esac
. runs/setup.sh scripts
exec python -m runs.small "$@"
