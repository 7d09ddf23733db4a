#!/usr/bin/env bash
# OSS-Instruct of Table 11: bash experiments/oss_instruct.sh [--teacher URL MODEL] [options of experiments/recipe.sh]
#
# CodeQwen1.5-7B on 74k problems with solutions that GPT-3.5-Turbo wrote with random snippets before its eyes: a random
# subset of the official data, as in the paper. With --teacher they are made again by whatever chat model answers at URL,
# from 80k snippets of The Stack, of which some give nothing that can be used.
#
# Needs     4 GPUs of 80 GB to train; with a teacher, access to bigcode/the-stack-dedup
# Takes     30 min x 74 / 16 = 2.3 h (Table 12); with a teacher, 80k answers before that

. "$(dirname "${BASH_SOURCE[0]}")/recipe.sh" "$@"

system=table11/oss-instruct data=$out/table11/oss-instruct
if [ "${positional[0]:-}" = --teacher ] && [ ${#positional[@]} -eq 3 ]; then
    python -m experiments.baselines.snippets hf://datasets/bigcode/the-stack-dedup/data/python "$data/snippets" --max-samples 80000
    python -m experiments.baselines.oss_instruct "$data/snippets" "$data/taught" \
        --endpoint "${positional[1]}" --model "${positional[2]}"
    python -m experiments.baselines.published "$data/taught" "$data/instructions"
else
    only
    python -m experiments.baselines.published ise-uiuc/Magicoder-OSS-Instruct-75K "$data/instructions" \
        --instruction-column problem --response-column solution --size 74000 --license mit
fi
train codeqwen1.5-7b "$data/instructions" $system --learning-rate 2e-5
evaluate $system "$out/$system/model" chat 1 humanevalplus
python paper_tables.py "$out" --tables 11
