#!/usr/bin/env bash
# Other people's instruction-tuned models in Tables 1 to 7: bash experiments/compared_models.sh [NAME ...]
#
# Nothing is trained: the published weights answer through their own chat templates. OctoCoder, WizardCoder and
# Magicoder get the formats on their cards, from experiments/serving/templates. Three models of Table 1 are closed
# (GPT-4-Turbo, Mistral Large, Gemini Pro) and can't be run. A model that fails is left out: the others are still run,
# and the end lists what failed and why.
#
# Needs     the number of GPUs of 80 GB in the list below: 2 bytes per parameter, with a tenth of the memory left free
# Takes     minutes to an hour for Tables 1, 3 and 5; hours each for EvalPerf and DS-1000
# Gated     Llama, CodeGemma and Command-R+: accept their licences on the Hub, and set HF_TOKEN

. "$(dirname "${BASH_SOURCE[0]}")/recipe.sh" "$@"

#   name                          GPUs  tables      Hub id
list="
    llama-3-70b-instruct           4    1           meta-llama/Meta-Llama-3-70B-Instruct
    codellama-70b-instruct         4    1           codellama/CodeLlama-70b-Instruct-hf
    wizardcoder-33b-v1.1           2    1           WizardLMTeam/WizardCoder-33B-V1.1
    opencodeinterpreter-ds-33b     2    1           m-a-p/OpenCodeInterpreter-DS-33B
    magicoder-s-ds-6.7b            1    1           ise-uiuc/Magicoder-S-DS-6.7B
    deepseek-coder-33b-instruct    2    1           deepseek-ai/deepseek-coder-33b-instruct
    codeqwen1.5-7b-chat            1    1-7         Qwen/CodeQwen1.5-7B-Chat
    snowflake-arctic-instruct     16    1           Snowflake/snowflake-arctic-instruct
    mixtral-8x22b-instruct         8    1           mistralai/Mixtral-8x22B-Instruct-v0.1
    command-r-plus                 4    1           CohereLabs/c4ai-command-r-plus
    mixtral-8x7b-instruct          2    1           mistralai/Mixtral-8x7B-Instruct-v0.1
    octocoder-16b                  1    1-3,5-7     bigcode/octocoder
    deepseek-coder-6.7b-instruct   1    2-7         deepseek-ai/deepseek-coder-6.7b-instruct
    codegemma-7b-it                1    2-3,5-7     google/codegemma-7b-it
    llama-3-8b-instruct            1    2-7         meta-llama/Meta-Llama-3-8B-Instruct
    llama-3.1-8b-instruct          1    4           meta-llama/Llama-3.1-8B-Instruct
"

names=("${positional[@]}")
[ ${#names[@]} -gt 0 ] || mapfile -t names < <(awk 'NF {print $1}' <<<"$list")
for name in "${names[@]}"; do
    read -r needed tables model < <(awk -v name="$name" '$1 == name {print $2, $3, $4}' <<<"$list") ||
        fail "there is no model $name in its list"
    if [ "$needed" -gt "$machine_gpus" ] && [ ${#positional[@]} -eq 0 ] && [ -z "$planned" ]; then
        failures+=("$name: it needs $needed GPUs, and there are $machine_gpus here")
        continue
    fi
    case $tables in
        1) benchmarks=("${evalplus[@]}") ;;
        4) benchmarks=(evalperf) ;;
        *5-7) benchmarks=("${all_but_evalperf[@]}") ;;
        *) benchmarks=("${all_benchmarks[@]}") ;;
    esac
    case $name in
        octocoder-*) template=octocoder ;;
        wizardcoder-*) template=wizardcoder ;;
        magicoder-*) template=magicoder ;;
        *) template='' ;;
    esac
    attempt "$name" evaluate "compared/$name" "$model" chat "$needed" "${benchmarks[@]}"
done
list_failures
