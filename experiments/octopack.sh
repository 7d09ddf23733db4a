#!/usr/bin/env bash
# CodeQwen1.5-7B-OctoPack, the baseline of Tables 1 to 7: bash experiments/octopack.sh [options of experiments/recipe.sh]
#
# The same base model on data that people wrote: 5,000 commits of CommitPackFT and 8,587 conversations of OASST. Both are
# published; which 5,000 commits OctoPack took is not.
#
# Needs     4 GPUs of 80 GB to train in minutes; one is enough
# Takes     30 min x 13.6k / 16k = 26 min (Table 12), and the benchmarks

. "$(dirname "${BASH_SOURCE[0]}")/recipe.sh" "$@"
only

python -m experiments.baselines.octopack bigcode/commitpackft@fc56fe33c030c6daa414c2b112c932b8eed085e6 \
    "$out/octopack-cq-7b/instructions"
train codeqwen1.5-7b "$out/octopack-cq-7b/instructions" octopack-cq-7b --learning-rate 2e-5
evaluate octopack-cq-7b "$out/octopack-cq-7b/model" chat 1 "${all_benchmarks[@]}"
python paper_tables.py "$out" --tables 1 2 3 4 5 6 7
