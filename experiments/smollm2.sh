#!/usr/bin/env bash
# Self-alignment on a small scale: bash experiments/smollm2.sh [SEEDS [STRATEGY ...]] [--mbpp FILE] [--out FOLDER]
#
# SmolLM2-135M-Instruct generates data from SEEDS functions, and is fine-tuned on it once for each strategy of choosing
# responses (Table 9): `passes`, `failures` and `random-subset`, which give equally many, and on request also `random`,
# which takes one for every task. HumanEval and MBPP (the 257 verified problems of its test split) are measured before
# and after, and the table at the end shows 95 % intervals and paired tests, whichever way they come out.
#
# Needs     nothing but this machine; a GPU is used if there is one. MBPP is read from the Hub, or from --mbpp FILE
#           (sanitized-mbpp.json of google-research)
# Takes     30 minutes on 2 cores for 100 seeds, 16 of them for the benchmarks of four models. Another 100 seeds take
#           some 10 minutes, so 3,000 take a night. With a GPU the default is 4,000 seeds

. "$(dirname "${BASH_SOURCE[0]}")/recipe.sh" "$@"

mbpp=() arguments=()
for ((i = 0; i < ${#positional[@]}; i++)); do
    case ${positional[i]} in
        --mbpp) mbpp=(--data "${positional[++i]}") ;;
        *) arguments+=("${positional[i]}") ;;
    esac
done
size=${arguments[0]:-$([ "$machine_gpus" -gt 0 ] && echo 4000 || echo 100)}
case $size in *[!0-9]*) fail "SEEDS, the first argument, must be a number and not $size" ;; esac
strategies=(passes failures random-subset)
[ ${#arguments[@]} -lt 2 ] || strategies=("${arguments[@]:1}")
positional=("${strategies[@]}")
only passes failures random random-subset
kept_out=(--decontaminate humaneval mbpp-sanitized) # what is measured
[ ${#mbpp[@]} -eq 0 ] || kept_out+=(--benchmark-data "mbpp-sanitized=${mbpp[1]}")
[ ${#mbpp[@]} -eq 0 ] || export HF_HUB_OFFLINE=1 # otherwise the libraries wait for an answer from the Hub
export HF_DATASETS_DISABLE_PROGRESS_BARS=1
here=$out/smollm2
[ -n "$planned" ] || mkdir -p "$here"
started=$SECONDS

# measure MODEL SYSTEM: HumanEval and MBPP, greedily. The model continues the prompt, before and after fine-tuning
# alike. 160 tokens are enough instead of 512, since the problems that this model can solve have short solutions.
measure() {
    python benchmark.py "$1" "$out/$2/humaneval" --benchmark humaneval --max-new-tokens 160
    python benchmark.py "$1" "$out/$2/mbpp-sanitized" --benchmark mbpp-sanitized --max-new-tokens 160 \
        ${mbpp[@]+"${mbpp[@]}"}
}

say "The endpoint: SmolLM2-135M-Instruct behind the interface of text-generation-inference"
if [ -n "$planned" ]; then
    python serve.py
    endpoint=http://127.0.0.1:8080
else
    python serve.py --port 0 >"$out/logs/serve.url" 2>"$out/logs/serve.log" &
    servers=($!)
    until grep -q http "$out/logs/serve.url"; do
        kill -0 "${servers[0]}" 2>/dev/null || { tail -n 3 "$out/logs/serve.log" >&2; exit 1; }
        sleep 0.2
    done
    endpoint=$(grep -o 'http://.*' "$out/logs/serve.url")
fi

say "Before"
measure "$endpoint" smollm2/base

# The settings differ from the paper's as in runs/quickstart.sh, and for the same reasons: short and similar worked
# examples, easy functions only, a lower temperature, 6 samples. The standard library has some 200 functions that are
# good seeds; for more than that, those of the installed packages are used.
say "Data: $size seeds, 6 responses for each task"
small=(--examples prompts/examples_small.yaml --endpoint "$endpoint")
files=stdlib
[ "$size" -le 200 ] || files=$(command python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
python collect_seeds.py "$files" "$here/seeds" --max-lines 20 "${kept_out[@]}"
python generate_concepts.py "$here/seeds" "$here/concepts" "${small[@]}" --max-samples "$size" \
    --shots 4 --max-new-tokens 40 --temperature 0.5
python generate_tasks.py "$here/concepts" "$here/tasks" "${small[@]}" \
    --shots 6 --max-new-tokens 80 --temperature 0.3 --categories function --difficulties easy
python sample_responses.py "$here/tasks" "$here/responses" "${small[@]}" \
    --samples 6 --shots 4 --max-new-tokens 140 --temperature 0.3
stop_serving
python execute.py "$here/responses" "$here/executions" --timeout 3

# The paper's learning rate and 2 epochs. Batches of 4 for a few dozen examples, or of 32 for a thousand, give some 20
# to 80 steps.
batch=4
[ "$size" -lt 1000 ] || batch=32
for strategy in "${strategies[@]}"; do
    say "Fine-tuned on: $strategy"
    system=smollm2/$strategy
    python select.py "$here/executions" "$out/$system/instructions" --strategy "$strategy" \
        "${kept_out[@]}"
    python finetune.py "$out/$system/instructions" "$out/$system/model" --model smollm2 \
        --batch-size $batch --epochs 2 --max-length 512
    measure "$out/$system/model" "$system"
done

say "Done in $(((SECONDS - started) / 60)) min $(((SECONDS - started) % 60)) s"
python paper_tables.py "$out" --tables small --figures "$out/smollm2/figures"
