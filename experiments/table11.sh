#!/usr/bin/env bash
# Table 11, distillation from a stronger model:
#
#     bash experiments/table11.sh [ROW ...] [--teacher URL MODEL [OPTION ...]] [options of experiments/recipe.sh]
#
# CodeQwen1.5-7B is fine-tuned on 74k examples that another model had a hand in. SelfCodeAlign itself, the fourth row
# (67.1), is experiments/selfcodealign_cq_7b.sh.
#
#     evol-instruct        instructions that GPT-3.5-Turbo made harder and answered: a random subset of the open-source
#                          reproduction (59.1)
#     oss-instruct         problems and solutions that GPT-3.5-Turbo wrote, inspired by random snippets of code: a
#                          random subset of the official data (61.6)
#     direct-distillation  the instructions of SelfCodeAlign-CQ-7B, answered greedily by GPT-4o; nothing is executed
#                          (65.9)
#
# The data of the first two is published. With --teacher it is made anew by the chat model MODEL at URL: from the 20k
# instructions of Code Alpaca in three rounds, or from 80k snippets of The Stack, some of which yield nothing usable.
# Direct distillation always needs a teacher: GPT-4o with its key (--api-key KEY), or any chat model on the Hub through
# Inference Providers (https://router.huggingface.co/v1, with your Hugging Face token). What follows MODEL is passed to
# the script that asks the teacher, such as experiments/baselines/distill.py.
#
# Without ROW, all three are run; direct distillation only if there is a teacher.
#
# Needs     4 GPUs of 80 GB to train. Direct distillation needs the data of experiments/selfcodealign_cq_7b.sh, and
#           oss-instruct with a teacher needs access to bigcode/the-stack-dedup
# Takes     30 min x 74 / 16 = 2.3 h of training for each row (Table 12). Before that, a teacher writes 20k x 4 answers
#           and 20k x 3 instructions for evol-instruct, 80k answers for oss-instruct, and 74k for direct-distillation

. "$(dirname "${BASH_SOURCE[0]}")/recipe.sh" "$@"

rows=() teacher=()
for ((i = 0; i < ${#positional[@]}; i++)); do
    if [ "${positional[i]}" = --teacher ]; then
        [ $((i + 2)) -lt ${#positional[@]} ] || fail "--teacher takes a URL and a MODEL"
        teacher=(--endpoint "${positional[i + 1]}" --model "${positional[i + 2]}" "${positional[@]:i + 3}")
        break
    fi
    rows+=("${positional[i]}")
done
positional=(${rows[@]+"${rows[@]}"})
only evol-instruct oss-instruct direct-distillation
if [ ${#teacher[@]} -eq 0 ]; then
    [ ${#rows[@]} -gt 0 ] || rows=(evol-instruct oss-instruct)
    case " ${rows[*]} " in
        *" direct-distillation "*) fail "direct-distillation needs a teacher: --teacher URL MODEL" ;;
    esac
fi
[ ${#rows[@]} -gt 0 ] || rows=(evol-instruct oss-instruct direct-distillation)

for row in "${rows[@]}"; do
    system=table11/$row data=$out/table11/$row
    say "$system"
    case $row in
        direct-distillation)
            make_data codeqwen1.5-7b "$out/data/codeqwen1.5-7b-full" "$seeds"
            python -m experiments.baselines.distill "$out/data/codeqwen1.5-7b-full/instructions" "$data/instructions" \
                --shown-tests "${teacher[@]}"
            ;;
        evol-instruct)
            published=(nickrosh/Evol-Instruct-Code-80k-v1 "$data/instructions" --response-column output \
                --size 74000 --license cc-by-nc-sa-4.0)
            if [ ${#teacher[@]} -gt 0 ]; then
                python -m experiments.baselines.evol_instruct sahil2801/CodeAlpaca-20k "$data/taught" "${teacher[@]}"
                published=("$data/taught" "$data/instructions")
            fi
            python -m experiments.baselines.published "${published[@]}"
            ;;
        oss-instruct)
            published=(ise-uiuc/Magicoder-OSS-Instruct-75K "$data/instructions" --instruction-column problem \
                --response-column solution --size 74000 --license mit)
            if [ ${#teacher[@]} -gt 0 ]; then
                python -m experiments.baselines.snippets hf://datasets/bigcode/the-stack-dedup/data/python \
                    "$data/snippets" --max-samples 80000
                python -m experiments.baselines.oss_instruct "$data/snippets" "$data/taught" "${teacher[@]}"
                published=("$data/taught" "$data/instructions")
            fi
            python -m experiments.baselines.published "${published[@]}"
            ;;
    esac
    train_and_evaluate codeqwen1.5-7b "$data/instructions" "$system" 2e-5 humanevalplus
done
python paper_tables.py "$out" --tables 11
