#!/usr/bin/env bash
# Direct distillation of Table 11: bash experiments/direct_distillation.sh --teacher URL MODEL [options of experiments/recipe.sh]
#
# The 74k instructions of SelfCodeAlign-CQ-7B, answered by a stronger chat model, greedily; nothing is executed. The
# paper's teacher is GPT-4o, with its key: --api-key of experiments/baselines/distill.py, or any chat model on the Hub through
# Inference Providers (https://router.huggingface.co/v1, with your Hugging Face token).
#
# Needs     4 GPUs of 80 GB to train, the data of experiments/selfcodealign_cq_7b.sh
# Takes     74k answers of the teacher, then 30 min x 74 / 16 = 2.3 h (Table 12)

. "$(dirname "${BASH_SOURCE[0]}")/recipe.sh" "$@"

system=table11/direct-distillation data=$out/table11/direct-distillation
[ "${positional[0]:-}" = --teacher ] && [ ${#positional[@]} -ge 3 ] || {
    echo "direct_distillation.sh: who is the teacher? --teacher URL MODEL" >&2
    exit 2
}
make_data codeqwen1.5-7b "$out/data/codeqwen1.5-7b-full" "$seeds"
python -m experiments.baselines.distill "$out/data/codeqwen1.5-7b-full/instructions" "$data/instructions" \
    --endpoint "${positional[1]}" --model "${positional[2]}" "${positional[@]:3}"
train codeqwen1.5-7b "$data/instructions" $system --learning-rate 2e-5
evaluate $system "$out/$system/model" chat 1 humanevalplus
python paper_tables.py "$out" --tables 11
