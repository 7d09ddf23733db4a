#!/usr/bin/env bash
# Table 10, seeds and pipeline: bash experiments/table10.sh [ROW ...] [options of experiments/recipe.sh]
#
# What do concepts contribute, and what do filtered functions?
#
#     seed-to-instruction  tasks are written from the seeds directly, without concepts (59.8)
#     snippets             the whole pipeline, from random snippets of different documents (64.0)
#
# The third row (65.2) is CodeQwen1.5-7B trained on its own data in Table 8.
#
# Needs     4 GPUs of 80 GB, and access to bigcode/the-stack-dedup for the snippets
# Takes     7 h for the data and 30 min for the model of each row (Table 12)
# Shortcut  none: no suitable data is published

. "$(dirname "${BASH_SOURCE[0]}")/recipe.sh" "$@"

rows=(seed-to-instruction snippets)
only "${rows[@]}"
[ ${#positional[@]} -eq 0 ] || rows=("${positional[@]}")
for row in "${rows[@]}"; do
    system=table10/$row data=$out/table10/$row
    say "$system"
    case $row in
        seed-to-instruction)
            make_data codeqwen1.5-7b "$data" "$seeds" --max-seeds 37000 --without-concepts
            ;;
        snippets)
            python -m experiments.baselines.snippets hf://datasets/bigcode/the-stack-dedup/data/python "$data/seeds" \
                --max-samples 37000
            make_data codeqwen1.5-7b "$data" "$data/seeds"
            ;;
    esac
    train_and_evaluate codeqwen1.5-7b "$data/instructions" "$system" 1e-5 humanevalplus
done
python paper_tables.py "$out" --tables 10
