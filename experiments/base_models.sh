#!/usr/bin/env bash
# The base models themselves: bash experiments/base_models.sh [MODEL ...] [options of experiments/recipe.sh]
#
# The number beside each model's name in Table 8: HumanEval+ of the model as it is, which continues the prompt. Two of
# the models are also rows of Tables 1 to 3 and 5 to 7, and run their benchmarks.
#
# Needs     one GPU of 80 GB, and two for DeepSeek-Coder-33B
# Takes     minutes for HumanEval+, hours for DS-1000

. "$(dirname "${BASH_SOURCE[0]}")/recipe.sh" "$@"

models=(starcoder2-3b llama-3-8b starcoder2-15b deepseek-coder-33b codeqwen1.5-7b)
[ ${#positional[@]} -eq 0 ] || models=("${positional[@]}")
for name in "${models[@]}"; do gpus_of "$name" >/dev/null; done # ends here if there is no such model
for name in "${models[@]}"; do
    case $name in
        codeqwen1.5-7b | starcoder2-15b) benchmarks=("${all_but_evalperf[@]}") ;;
        *) benchmarks=(humanevalplus) ;;
    esac
    attempt "$name" evaluate "base/$name" "$name" completion "$(gpus_of "$name")" "${benchmarks[@]}"
done
list_failures
