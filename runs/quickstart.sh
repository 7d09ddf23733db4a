#!/usr/bin/env bash
# SelfCodeAlign from end to end on a laptop: bash runs/quickstart.sh [folder]
#
# A small language model reads functions of Python's standard library, names the concepts in them, writes coding tasks
# from the concepts, and solves each task several times, with tests. The solutions run in a sandbox, one solution per
# task is kept of those that pass their own tests, and the model is fine-tuned on what was kept. HumanEval is measured
# before and after. This needs no GPU, no account and no download except those of pip, and takes under 20 minutes on 2
# cores.
#
# If it is killed or interrupted, the same command continues where it stopped. With a model of 135M parameters it shows
# how the parts work together, not what the method can achieve: the recipes with the paper's settings are in
# experiments/.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out=${1:-./runs/out/quickstart}
case $out in
    -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' runs/quickstart.sh; exit ;;
    /* | ./*) ;;
    *) out=./$out ;; # without ./ it could be taken for a Hub id
esac
. runs/setup.sh
mkdir -p "$out"
started=$SECONDS

# Everything is read from this machine. Without HF_HUB_OFFLINE the libraries would wait for an answer from the Hub.
export HF_HUB_OFFLINE=1 HF_DATASETS_DISABLE_PROGRESS_BARS=1

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

# The endpoint: SmolLM2-135M-Instruct behind the interface of text-generation-inference (TGI).
say "Starting the model's endpoint (the first time, half a minute to convert the weights)"
python serve.py --port 0 >"$out/serve.url" 2>"$out/serve.log" &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
until grep -q http "$out/serve.url"; do
    kill -0 $server 2>/dev/null || { tail -n 3 "$out/serve.log" >&2; exit 1; }
    sleep 0.2
done
endpoint=$(grep -o 'http://.*' "$out/serve.url")
echo "$endpoint"

# The settings differ from the paper's, whose models have 3B to 33B parameters, because this model has only 135M:
#   examples    8 worked examples that are short, easy and similar: a small model copies form before content
#   functions   only easy functions as tasks: classes and programs hardly ever pass
#   0.3         temperature: at the paper's 0.7, one sample in fifty passes its tests
#   64 x 6      seeds and samples per task: some 30 % of the tasks get a passing sample, and at least ten are needed
#   140 tokens  per response, enough for a short function with its tests; longer ones repeat themselves
small=(--examples prompts/examples_small.yaml --endpoint "$endpoint")

say "1. Seeds: functions of the standard library with docstring, argument and return value"
python collect_seeds.py stdlib "$out/seeds" --max-lines 20 --decontaminate humaneval

say "2. Concepts: what 64 of the seeds are about"
python generate_concepts.py "$out/seeds" "$out/concepts" "${small[@]}" --max-samples 64 \
    --shots 4 --max-new-tokens 40 --temperature 0.5

say "3. Tasks: written from the concepts"
python generate_tasks.py "$out/concepts" "$out/tasks" "${small[@]}" \
    --shots 6 --max-new-tokens 80 --temperature 0.3 --categories function --difficulties easy

say "4. Responses: 6 samples per task, each with tests"
python sample_responses.py "$out/tasks" "$out/responses" "${small[@]}" \
    --samples 6 --shots 4 --max-new-tokens 140 --temperature 0.3

say "5. Executions: every sample is run against its own tests, in a sandbox"
python execute.py "$out/responses" "$out/executions" --timeout 3

say "6. Instructions: one passing response for each task"
python select.py "$out/executions" "$out/after/instructions" --decontaminate humaneval

# Greedy as in the paper, with 160 tokens instead of 512, since what this model can solve has short solutions.
say "HumanEval before"
python benchmark.py "$endpoint" "$out/before/humaneval" --max-new-tokens 160
kill $server && wait $server 2>/dev/null || true

# A batch of 4 instead of 64: there are a few dozen examples, not 74,000.
say "7. Fine-tuning on the model's own instructions"
python finetune.py "$out/after/instructions" "$out/after/model" --model smollm2 \
    --batch-size 4 --epochs 2 --max-length 512

say "HumanEval after"
python benchmark.py "$out/after/model" "$out/after/humaneval" --max-new-tokens 160

say "Done in $(((SECONDS - started) / 60)) min $(((SECONDS - started) % 60)) s"
python -m runs.summary "$out"
echo
python paper_tables.py "quickstart/before=$out/before" "quickstart/after=$out/after" --tables quickstart
