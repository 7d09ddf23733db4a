#!/usr/bin/env bash
# SelfCodeAlign from end to end on a laptop: bash runs/quickstart.sh [folder] [--model MODEL]
#
# A small language model reads functions of Python's standard library, names the concepts in them, writes coding tasks
# from the concepts, and solves each task several times, with tests. The solutions run in a sandbox, one solution per
# task is kept of those that pass their own tests, and the model is fine-tuned on what was kept. HumanEval is measured
# before and after. This needs no GPU, no account and no download except those of pip, and takes under 20 minutes on 2
# cores. MODEL may be a Hub id, a folder or a .gguf file instead of SmolLM2-135M-Instruct. Relative paths begin at the
# project's folder.
#
# If it is killed or interrupted, the same command continues where it stopped. With a model of 135M parameters it shows
# how the parts work together, not what the method can achieve: the recipes with the paper's settings are in
# experiments/. The steps and their settings are in runs/self_align.py.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=./runs/out/quickstart model=smollm2 more=()
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' runs/quickstart.sh; exit ;;
        --model) [ $# -gt 1 ] || { echo "quickstart.sh: --model needs a model" >&2; exit 2; }; model=$2; shift ;;
        --model=*) model=${1#*=} ;;
        --*=* | --plan-only | --without-concepts) more+=("$1") ;;
        --decontaminate | --benchmark-data) # up to the next option
            more+=("$1")
            while [ $# -gt 1 ] && [ "${2#-}" = "$2" ]; do more+=("$2") && shift; done ;;
        -*) more+=("${@:1:2}"); [ $# -eq 1 ] || shift ;; # with its value; self_align.py knows whether it takes one
        *) out=$1 ;;
    esac
    shift
done
. runs/setup.sh
exec python -m runs.self_align "$model" --settings small --out "$out" ${more[@]+"${more[@]}"}
