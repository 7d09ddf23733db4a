#!/usr/bin/env bash
# Table 8, who learns from whom: bash experiments/table8.sh [BASE [GENERATOR]] [options of experiments/recipe.sh]
#
# Each of five base models generates data from the same 37k seeds, and base models are fine-tuned on their own data and
# on that of the others. Without arguments, the 19 pairs of the paper are run; with BASE, this model with all five
# generators, including those that the authors left out. A model paired with itself is self-aligned.
#
# Needs     4 GPUs of 80 GB, and 8 to train DeepSeek-Coder-33B (section C.4)
# Takes     on 4 A100, from end to end (Table 12), where the data of a generator is made once for all pairs:
#
#               generator            data    examples     fine-tuning on its own data
#               starcoder2-3b         6 h     12k          16 min
#               llama-3-8b            7 h     11k          20 min
#               codeqwen1.5-7b        7 h     16k          30 min
#               starcoder2-15b       12 h     15k         2.5 h (one GPU)
#               deepseek-coder-33b   83 h     15k         3.5 h (8 H100)
#
# Shortcut  data of StarCoder2-15B is published as bigcode/self-oss-instruct-sc2-exec-filter-50k: 50k examples from all
#           seeds and not 15k from 37k, so the scores will not be those of the table

. "$(dirname "${BASH_SOURCE[0]}")/recipe.sh" "$@"

models=(starcoder2-3b llama-3-8b starcoder2-15b deepseek-coder-33b codeqwen1.5-7b) # from the weakest to the strongest
only "${models[@]}"
bases=("${models[@]}") generators=("${models[@]}")
[ ${#positional[@]} -lt 1 ] || bases=("${positional[0]}")
[ ${#positional[@]} -lt 2 ] || generators=("${positional[1]}")

# The paper leaves out generators that are weaker than the base, except for the strongest base: CodeQwen1.5-7B learns
# from all of them.
in_the_paper() {
    [ "$1" = codeqwen1.5-7b ] && return
    local name
    for name in "${models[@]}"; do
        [ "$name" = "$1" ] && return       # the base comes first: the generator is the base or stronger
        [ "$name" = "$2" ] && return 1
    done
}

for base in "${bases[@]}"; do
    for generator in "${generators[@]}"; do
        [ ${#positional[@]} -gt 0 ] || in_the_paper "$base" "$generator" || continue
        system=table8/$base-on-$generator data=$out/data/$generator-37k
        say "$system"
        make_data "$generator" "$data" "$seeds" --max-seeds 37000
        rate=2e-5 # for data of another model (section C.3)
        [ "$base" != "$generator" ] || rate=1e-5
        train_and_evaluate "$base" "$data/instructions" "$system" $rate humanevalplus
    done
done
python paper_tables.py "$out" --tables 8 12
