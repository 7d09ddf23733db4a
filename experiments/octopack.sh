#!/usr/bin/env bash
# CodeQwen1.5-7B-OctoPack, a baseline in Tables 1 to 7: bash experiments/octopack.sh [options of experiments/recipe.sh]
#
# The same base model, trained on data that people wrote: 5,000 commits of CommitPackFT and 8,587 conversations of
# OASST. Both datasets are published, but not which 5,000 commits OctoPack took.
#
# Needs     one GPU of 80 GB; with 4, training takes minutes
# Takes     30 min x 13.6k / 16k = 26 min of training on 4 GPUs (Table 12), and the benchmarks

. "$(dirname "${BASH_SOURCE[0]}")/recipe.sh" "$@"
only
environments "${all_benchmarks[@]}"

python -m experiments.baselines.octopack bigcode/commitpackft@fc56fe33c030c6daa414c2b112c932b8eed085e6 \
    "$out/octopack-cq-7b/instructions"
train_and_evaluate codeqwen1.5-7b "$out/octopack-cq-7b/instructions" octopack-cq-7b 2e-5 "${all_benchmarks[@]}"
python paper_tables.py "$out" --tables 1 2 3 4 5 6 7
