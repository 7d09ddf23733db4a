#!/usr/bin/env bash
# SelfCodeAlign-CQ-7B, the paper's model: bash experiments/selfcodealign_cq_7b.sh [options of experiments/recipe.sh]
#
# CodeQwen1.5-7B writes concepts, tasks and responses for all 250k seeds, and is fine-tuned on the 74k responses that
# pass (section 3). Tables 1 to 7 and 11: HumanEval+ rises from 45.7 to 67.1.
#
# Needs     4 GPUs of 80 GB (the paper: A100), and seeds from experiments/seeds.sh
# Takes     data    7 h for 37k seeds (Table 12), so 7 h x 250 / 37 = 47 h
#           model   30 min for 16k examples (Table 12), so 30 min x 74 / 16 = 2.3 h
#           tables  hours, most of them for EvalPerf and DS-1000
# Shortcut  none: CodeQwen1.5-7B's own data is not published. Fine-tuning it on
#           bigcode/self-oss-instruct-sc2-exec-filter-50k gives a different model: that of CodeQwen1.5-7B trained on
#           data from StarCoder2-15B in Table 8, except for the number of seeds

. "$(dirname "${BASH_SOURCE[0]}")/recipe.sh" "$@"
only
environments "${all_benchmarks[@]}"

say "Data: CodeQwen1.5-7B's own, from all seeds"
make_data codeqwen1.5-7b "$out/data/codeqwen1.5-7b-full" "$seeds"

say "The model, with a learning rate of 1e-5 since the data is its own, and Tables 1 to 7"
train_and_evaluate codeqwen1.5-7b "$out/data/codeqwen1.5-7b-full/instructions" selfcodealign-cq-7b 1e-5 \
    "${all_benchmarks[@]}"
python paper_tables.py "$out" --tables 1 2 3 4 5 6 7 11
