#!/usr/bin/env bash
# Table 9, which responses to train on: bash experiments/table9.sh [STRATEGY ...] [options of experiments/recipe.sh]
#
# Four ways to choose from the same responses of CodeQwen1.5-7B to 37k seeds:
#
#     random         a random response for every task (27.7k examples)
#     random-subset  as many of these as there are passing ones (15.6k)
#     failures       the same number of responses that fail their tests
#     passes         responses that pass. This row is CodeQwen1.5-7B trained on its own data in Table 8, so it is run
#                    here only on request
#
# Needs     4 GPUs of 80 GB
# Takes     7 h for the data, unless experiments/table8.sh has made it already; then 30 min of training for each
#           strategy (Table 12), and 30 min x 27.7 / 16 = 52 min for random
# Shortcut  none: no executions are published

. "$(dirname "${BASH_SOURCE[0]}")/recipe.sh" "$@"
only passes random random-subset failures

strategies=(random random-subset failures)
[ ${#positional[@]} -eq 0 ] || strategies=("${positional[@]}")
data=$out/data/codeqwen1.5-7b-37k
make_data codeqwen1.5-7b "$data" "$seeds" --max-seeds 37000
for strategy in "${strategies[@]}"; do
    system=table9/$strategy
    say "$system"
    python select.py "$data/executions" "$out/$system/instructions" --strategy "$strategy" \
        "${kept_out[@]}" "${plain[@]}"
    train_and_evaluate codeqwen1.5-7b "$out/$system/instructions" "$system" 1e-5 humanevalplus
done
python paper_tables.py "$out" --tables 9
