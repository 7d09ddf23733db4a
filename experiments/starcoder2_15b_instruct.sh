#!/usr/bin/env bash
# StarCoder2-15B-Instruct-v0.1 (appendix A): bash experiments/starcoder2_15b_instruct.sh [--published | --samples FOLDER]
#
# The first model made this way: StarCoder2-15B answers 238k tasks 10 times each, of the 2.4M responses 500k pass, and 50k
# are left after duplicates are dropped. HumanEval 72.6, HumanEval+ 63.4.
#
# --published       trains on the published 50k, bigcode/self-oss-instruct-sc2-exec-filter-50k, and makes no data
# --samples FOLDER  trains nothing: scores the released samples of the published model, FOLDER/humaneval.jsonl in the
#                   form of EvalPlus (evaluation/evalplus_results of the authors' repository), as a check of our scoring.
#                   Their MBPP samples are of the 399 tasks of MBPP+ v0.1.0; today's 378 are others
#
# Needs     4 GPUs of 80 GB for the data, one for the model: batches of 64 as 64 steps of one sequence
# Takes     data    12 h for 37k seeds (Table 12), so 12 h x 250 / 37 = 81 h
#           model   2.5 h for 15k examples (Table 12), so 2.5 h x 50 / 15 = 8 h

. "$(dirname "${BASH_SOURCE[0]}")/recipe.sh" "$@"

system=starcoder2-15b-instruct data=$out/data/starcoder2-15b-full
instructions=$data/instructions
case ${positional[0]:-} in
    --samples)
        for name in humaneval humanevalplus; do
            python benchmark.py bigcode/starcoder2-15b-instruct-v0.1 "$out/published/$system/$name" \
                --benchmark $name --samples "${positional[1]}/humaneval.jsonl"
        done
        exit
        ;;
    --published) instructions=bigcode/self-oss-instruct-sc2-exec-filter-50k ;;
    '') make_data starcoder2-15b "$data" "$seeds" ;;
    *) echo "starcoder2_15b_instruct.sh: no option ${positional[0]}" >&2; exit 2 ;;
esac

# bf16, dropout 0, no clipping of gradients and no packing are finetune.py's defaults.
train starcoder2-15b "$instructions" $system --learning-rate 1e-5
evaluate $system "$out/$system/model" chat 1 humaneval humanevalplus mbppplus-base mbppplus livecodebench ds1000
python paper_tables.py "$out" --tables starcoder2_instruct
