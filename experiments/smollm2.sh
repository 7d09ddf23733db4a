#!/usr/bin/env bash
# Self-alignment in small, for real: bash experiments/smollm2.sh [SEEDS [STRATEGY ...]] [--mbpp FILE] [--out FOLDER]
#
# SmolLM2-135M-Instruct generates data from SEEDS functions and is fine-tuned on them once for each way to choose the
# responses (Table 9): `passes`, `failures` and `random-subset`, which are of equal size, or also `random`, which takes
# one for every task. HumanEval and MBPP (the 257 verified problems of its test split) are measured before and after, and
# the table at the end has the 95 % intervals and paired tests. Whatever comes out is what it prints.
#
# Needs     nothing but this machine, and a GPU if there is one; MBPP comes from the Hub, or from --mbpp FILE
#           (sanitized-mbpp.json of google-research)
# Takes     100 seeds: 30 minutes on 2 cores, of which 16 are the benchmarks of four models. Each 100 seeds more take some
#           10 minutes, so 3,000 are a night. With a GPU the default is 4,000

. "$(dirname "${BASH_SOURCE[0]}")/recipe.sh" "$@"

mbpp=() arguments=()
for ((i = 0; i < ${#positional[@]}; i++)); do
    case ${positional[i]} in
        --mbpp) mbpp=(--data "${positional[++i]}") ;;
        *) arguments+=("${positional[i]}") ;;
    esac
done
size=${arguments[0]:-$([ "$machine_gpus" -gt 0 ] && echo 4000 || echo 100)}
case $size in *[!0-9]*) echo "smollm2.sh: SEEDS, the first argument, is a number and not $size" >&2; exit 2 ;; esac
strategies=(passes failures random-subset)
[ ${#arguments[@]} -lt 2 ] || strategies=("${arguments[@]:1}")
positional=("${strategies[@]}")
only passes failures random random-subset
[ ${#mbpp[@]} -eq 0 ] || export HF_HUB_OFFLINE=1 # or the libraries ask the Hub for news and wait for its answer
export HF_DATASETS_DISABLE_PROGRESS_BARS=1
here=$out/smollm2
mkdir -p "$here"
started=$SECONDS

# both MODEL SYSTEM: HumanEval and MBPP, greedy, the prompt continued, so that before and after are asked alike. 160
# tokens and not 512, since what this model can solve is shorter.
both() {
    python benchmark.py "$1" "$out/$2/humaneval" --benchmark humaneval --max-new-tokens 160
    python benchmark.py "$1" "$out/$2/mbpp-sanitized" --benchmark mbpp-sanitized --max-new-tokens 160 \
        ${mbpp[@]+"${mbpp[@]}"}
}

say "The endpoint: SmolLM2-135M-Instruct behind the interface of text-generation-inference"
python serve.py --port 0 >"$out/logs/serve.url" 2>"$out/logs/serve.log" &
servers=($!)
until grep -q http "$out/logs/serve.url"; do
    kill -0 "${servers[0]}" 2>/dev/null || { tail -n 3 "$out/logs/serve.log" >&2; exit 1; }
    sleep 0.2
done
endpoint=$(grep -o 'http://.*' "$out/logs/serve.url")

say "Before"
both "$endpoint" smollm2/base

# What differs from the paper is what differs in runs/quickstart.sh, for the same reasons: worked examples that are short
# and alike, easy functions only, a lower temperature, 6 samples. The standard library has some 200 functions that do;
# above that, they come from the packages that are installed.
say "Data: $size seeds, 6 responses a task"
small=(--examples prompts/examples_small.yaml --endpoint "$endpoint")
files=stdlib
[ "$size" -le 200 ] || files=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
python collect_seeds.py "$files" "$here/seeds" --max-lines 20
python generate_concepts.py "$here/seeds" "$here/concepts" "${small[@]}" --max-samples "$size" \
    --shots 4 --max-new-tokens 40 --temperature 0.5
python generate_tasks.py "$here/concepts" "$here/tasks" "${small[@]}" \
    --shots 6 --max-new-tokens 80 --temperature 0.3 --categories function --difficulties easy
python sample_responses.py "$here/tasks" "$here/responses" "${small[@]}" \
    --samples 6 --shots 4 --max-new-tokens 140 --temperature 0.3
stop_serving
python execute.py "$here/responses" "$here/executions" --timeout 3

# The paper's learning rate and 2 epochs. Batches of 4 for some dozen examples, of 32 for a thousand: some 20 to 80 steps.
batch=4
[ "$size" -lt 1000 ] || batch=32
for strategy in "${strategies[@]}"; do
    say "Fine-tuned on: $strategy"
    system=smollm2/$strategy
    python select.py "$here/executions" "$out/$system/instructions" --strategy "$strategy"
    python finetune.py "$out/$system/instructions" "$out/$system/model" --model smollm2 \
        --batch-size $batch --epochs 2 --max-length 512
    both "$out/$system/model" "$system"
done

say "Done in $(((SECONDS - started) / 60)) min $(((SECONDS - started) % 60)) s"
python paper_tables.py "$out" --tables small --figures "$out/smollm2/figures"
