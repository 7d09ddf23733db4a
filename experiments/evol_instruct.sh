#!/usr/bin/env bash
# Evol-Instruct of Table 11: bash experiments/evol_instruct.sh [--teacher URL MODEL] [options of experiments/recipe.sh]
#
# CodeQwen1.5-7B on 74k instructions that GPT-3.5-Turbo made harder and answered: a random subset of the open-source
# reproduction, as in the paper. With --teacher they are made again by whatever chat model answers at URL, from the 20k
# instructions of Code Alpaca in three rounds.
#
# Needs     4 GPUs of 80 GB to train
# Takes     30 min x 74 / 16 = 2.3 h (Table 12); with a teacher, 20k x 4 answers and 20k x 3 new instructions before that

. "$(dirname "${BASH_SOURCE[0]}")/recipe.sh" "$@"

system=table11/evol-instruct data=$out/table11/evol-instruct
if [ "${positional[0]:-}" = --teacher ] && [ ${#positional[@]} -eq 3 ]; then
    python -m experiments.baselines.evol_instruct sahil2801/CodeAlpaca-20k "$data/taught" \
        --endpoint "${positional[1]}" --model "${positional[2]}"
    python -m experiments.baselines.published "$data/taught" "$data/instructions"
else
    only
    python -m experiments.baselines.published nickrosh/Evol-Instruct-Code-80k-v1 "$data/instructions" \
        --response-column output --size 74000 --license cc-by-nc-sa-4.0
fi
train codeqwen1.5-7b "$data/instructions" $system --learning-rate 2e-5
evaluate $system "$out/$system/model" chat 1 humanevalplus
python paper_tables.py "$out" --tables 11
