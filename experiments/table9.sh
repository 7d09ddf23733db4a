#!/usr/bin/env bash
# Table 9, which responses to train on: bash experiments/table9.sh [STRATEGY ...] [options of experiments/recipe.sh]
#
# The same executions of CodeQwen1.5-7B on 37k seeds, four ways to choose from them: `random` responses for all tasks
# (27.7k examples), `random-subset` of as many as pass (15.6k), `failures` of the same number, and `passes`, which is the
# pair codeqwen1.5-7b codeqwen1.5-7b of Table 8.
#
# Needs     4 GPUs of 80 GB
# Takes     the data, 7 h, unless experiments/table8.sh has made them; then 30 min a strategy (Table 12), random 30 x 27.7 / 16
# Skip      no executions are published: nothing

. "$(dirname "${BASH_SOURCE[0]}")/recipe.sh" "$@"
only passes random random-subset failures

strategies=(random random-subset failures)
[ ${#positional[@]} -eq 0 ] || strategies=("${positional[@]}")
data=$out/data/codeqwen1.5-7b-37k
make_data codeqwen1.5-7b "$data" "$seeds" --max-samples 37000
for strategy in "${strategies[@]}"; do
    system=table9/$strategy
    say "$system"
    python select.py "$data/executions" "$out/$system/instructions" --strategy "$strategy"
    train codeqwen1.5-7b "$out/$system/instructions" "$system" --learning-rate 1e-5
    evaluate "$system" "$out/$system/model" chat 1 humanevalplus
done
python paper_tables.py "$out" --tables 9
