#!/usr/bin/env bash
# Table 10, seeds and pipeline: bash experiments/table10.sh [seed-to-instruction] [snippets] [options of experiments/recipe.sh]
#
# What the concepts are good for, and what the filtered functions: tasks written from the seeds themselves (59.8), and
# the whole pipeline from random snippets of different documents (64.0). The third row, 65.2, is the pair
# codeqwen1.5-7b codeqwen1.5-7b of Table 8.
#
# Needs     4 GPUs of 80 GB; for the snippets, access to bigcode/the-stack-dedup
# Takes     per row 7 h for the data and 30 min for the model (Table 12)
# Skip      nothing is published that would do

. "$(dirname "${BASH_SOURCE[0]}")/recipe.sh" "$@"

rows=(seed-to-instruction snippets)
only "${rows[@]}"
[ ${#positional[@]} -eq 0 ] || rows=("${positional[@]}")
for row in "${rows[@]}"; do
    system=table10/$row data=$out/table10/$row
    say "$system"
    case $row in
        seed-to-instruction)
            if ! is_complete "$data/instructions"; then
                serve_generator codeqwen1.5-7b
                python generate_tasks.py "$seeds" "$data/tasks" "${server[@]}" --max-samples 37000 \
                    --template prompts/tasks_from_seed.jinja
                responses_to_instructions "$data"
            fi
            ;;
        snippets)
            python -m experiments.baselines.snippets hf://datasets/bigcode/the-stack-dedup/data/python "$data/seeds" \
                --max-samples 37000
            make_data codeqwen1.5-7b "$data" "$data/seeds"
            ;;
    esac
    train codeqwen1.5-7b "$data/instructions" "$system" --learning-rate 1e-5
    evaluate "$system" "$out/$system/model" chat 1 humanevalplus
done
python paper_tables.py "$out" --tables 10
