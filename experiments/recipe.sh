# What the recipes of the paper share. Sourced by them with their own arguments:
#
#     . experiments/recipe.sh "$@"
#
# Options of every recipe:
#
#     --out FOLDER     where everything goes (./runs/out); paper_tables.py reads it
#     --seeds DATASET  seeds from elsewhere than FOLDER/seeds, which experiments/seeds.sh makes
#     --endpoint URL   a server that has the generating model already; repeat it for several. Without it, vLLM is started
#                      on the GPUs of this machine for the time that it is needed (pip install vllm)
#     --gpus N         how many GPUs to use; all of this machine's otherwise, or of CUDA_VISIBLE_DEVICES
#
# FOLDER/data/NAME       what a model generated: concepts, tasks, responses, executions, instructions
# FOLDER/SYSTEM/model    what was fine-tuned
# FOLDER/SYSTEM/NAME     its results on the benchmark NAME
#
# Killed or preempted, the same command goes on where it stopped: steps that are complete take a second each.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. experiments/serving/models.sh

out=./runs/out seeds='' machine_gpus='' given=() positional=()
while [ $# -gt 0 ]; do
    case $1 in
        --out) out=$2; shift 2 ;;
        --seeds) seeds=$2; shift 2 ;;
        --gpus) machine_gpus=$2; shift 2 ;;
        --endpoint) given+=(--endpoint "$2"); shift 2 ;;
        -h | --help) grep '^#' "experiments/${0##*/}" | tail -n +2 | cut -c 3-; exit ;;
        *) positional+=("$1"); shift ;;
    esac
done
case $out in /* | ./*) ;; *) out=./$out ;; esac # a folder, never a Hub id
seeds=${seeds:-$out/seeds}
. runs/setup.sh
if [ -n "${CUDA_VISIBLE_DEVICES:-}" ]; then # these are ours, and no others
    IFS=, read -ra devices <<<"$CUDA_VISIBLE_DEVICES"
    machine_gpus=${machine_gpus:-${#devices[@]}}
else
    machine_gpus=${machine_gpus:-$(nvidia-smi -L 2>/dev/null | wc -l || true)}
    mapfile -t devices < <(seq 0 $((machine_gpus - 1)))
fi
mkdir -p "$out/logs"

# only WORD ...: ends the recipe if it was given another argument than these, before hours are spent on it.
only() {
    local word
    for word in ${positional[@]+"${positional[@]}"}; do
        case " $* " in *" $word "*) ;; *) echo "${0##*/}: no argument is called $word${*:+: there are $*}" >&2; exit 2 ;; esac
    done
}

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

# Whether a step has nothing left to do: FOLDER/run.json says so.
is_complete() { grep -qs '"complete": true' "$1/run.json"; }

# Serving --------------------------------------------------------------------------------------------------------------

servers=() server=() served_model=''

# serve MODEL [REPLICAS [GPUS]]: vLLM with a model of experiments/serving/models.sh, a Hub id or a folder, GPUS for each of REPLICAS
# (as many as fit otherwise). `server` then holds the options that a step needs.
serve() {
    local name=$1 replicas=${2:-999} number port
    choose "$name"
    gpus=${3:-$gpus} served_model=$model server=(--api completions)
    for ((number = 0; number < replicas && (number + 1) * gpus <= machine_gpus; number++)); do
        port=$((8100 + number))
        # Another recipe's server would be taken for ours, and its model for the one that is asked for.
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "${0##*/}: another server has port $port of this machine: end it first" >&2
            exit 2
        fi
        CUDA_VISIBLE_DEVICES=$(IFS=, && echo "${devices[*]:number * gpus:gpus}") \
            bash experiments/serving/vllm.sh "$name" $port --gpus "$gpus" >"$out/logs/vllm-$port.log" 2>&1 &
        servers+=($!)
        server+=(--endpoint "http://127.0.0.1:$port")
    done
    [ ${#servers[@]} -gt 0 ] || {
        echo "$name needs $gpus GPUs, and $machine_gpus are here: see experiments/serving/, and give --endpoint URL" >&2
        exit 2
    }
    # A replica that comes later is used as soon as it answers.
    until curl --silent --fail --max-time 5 http://127.0.0.1:8100/health >/dev/null; do
        kill -0 "${servers[0]}" 2>/dev/null || { tail -n 5 "$out/logs/vllm-8100.log" >&2; exit 1; }
        sleep 5
    done
}

stop_serving() {
    [ ${#servers[@]} -eq 0 ] || { kill "${servers[@]}" 2>/dev/null || true; wait "${servers[@]}" 2>/dev/null || true; }
    servers=() server=()
}
trap stop_serving EXIT

# The endpoint that generates: the one that was given, else vLLM here.
serve_generator() {
    if [ ${#given[@]} -gt 0 ]; then server=(--api completions "${given[@]}"); else serve "$1"; fi
}

# The parts of a recipe ------------------------------------------------------------------------------------------------

# make_data MODEL FOLDER SEEDS [options of generate_concepts.py]: the paper's sections 2.1 to 2.3. The defaults of the
# scripts are the paper's: 8, 8 and 1 worked examples, temperature 0.7, one random passing response a task. How many
# responses a task gets is not in the paper; StarCoder2-Instruct has 10, and so have we.
make_data() {
    local model=$1 data=$2 from=$3
    shift 3
    is_complete "$data/instructions" && return
    serve_generator "$model"
    python generate_concepts.py "$from" "$data/concepts" "${server[@]}" "$@"
    python generate_tasks.py "$data/concepts" "$data/tasks" "${server[@]}"
    responses_to_instructions "$data"
}

# The second half, from tasks on, with the model that is being served.
responses_to_instructions() {
    local data=$1
    python sample_responses.py "$data/tasks" "$data/responses" "${server[@]}" --samples 10
    stop_serving
    python execute.py "$data/responses" "$data/executions"
    python select.py "$data/executions" "$data/instructions"
}

# train BASE INSTRUCTIONS SYSTEM [options of finetune.py]: section C.3. Batches of 64 sequences of 1280 tokens, Adafactor,
# linear schedule with 5 % warm-up; 1e-5, and 2e-5 for what another model or a person wrote (the caller says which). The
# paper does not say how many epochs; StarCoder2-Instruct has 4, and so have we.
#
# Hardware as in C.4: a copy of the model on each GPU; StarCoder2-15B on one A100 of 80 GB; DeepSeek-Coder-33B on eight
# H100 with ZeRO-3.
train() {
    local base=$1 instructions=$2 system=$3
    shift 3
    choose "$base"
    local launch=(accelerate launch --config_file experiments/accelerate/ddp.yaml --num_processes "$machine_gpus") more=()
    case $base in
        starcoder2-15b) launch=(python) more=(--gradient-checkpointing) ;;
        deepseek-coder-33b)
            launch=(accelerate launch --config_file experiments/accelerate/zero3.yaml --num_processes "$machine_gpus")
            more=(--gradient-checkpointing)
            ;;
    esac
    [ "$machine_gpus" -gt 1 ] || launch=(python)
    local done_before='' started=$SECONDS
    is_complete "$out/$system/model" && done_before=1
    "${launch[@]}" finetune.py "$instructions" "$out/$system/model" --model "$model" --epochs 4 \
        ${more[@]+"${more[@]}"} "$@"
    # For Table 12; of a run that was killed and went on, the last part.
    [ -n "$done_before" ] || { mkdir -p "$out/$system" && echo $((SECONDS - started)) >"$out/$system/training_seconds"; }
}

# evaluate SYSTEM MODEL STYLE GPUS BENCHMARK ...: section 3. Each benchmark has the paper's decoding by default. STYLE is
# `completion` for base models and `chat` for those that follow instructions.
evaluate() {
    local system=$1 evaluated=$2 style=$3 gpus_each=$4 name todo=()
    shift 4
    for name in "$@"; do [ -e "$out/$system/$name/results.json" ] || todo+=("$name"); done
    [ ${#todo[@]} -gt 0 ] || return 0
    serve "$evaluated" 1 "$gpus_each"
    for name in "${todo[@]}"; do
        say "$system: $name"
        if [ "$style" = chat ]; then
            python benchmark.py http://127.0.0.1:8100 "$out/$system/$name" --benchmark "$name" --api completions \
                --prompt-style chat --tokenizer "$served_model"
        else
            python benchmark.py http://127.0.0.1:8100 "$out/$system/$name" --benchmark "$name" --api completions
        fi
    done
    stop_serving
}

# GPUs that a model of experiments/serving/models.sh needs to be served.
gpus_of() { (choose "$1" && echo "$gpus"); }

evalplus=(humanevalplus mbppplus)                                                                # Table 1
evoeval=(evoeval-difficult evoeval-creative evoeval-subtle evoeval-combine evoeval-tool_use)     # Table 3
classeval=(classeval-holistic classeval-incremental classeval-compositional)                     # Table 5
# Tables 1 to 7. LiveCodeBench is a download of 1.3 GB; the programs of DS-1000 need an environment of their own (see
# selfalign/benchmarks/ds1000.py); EvalPerf and DS-1000 have 12,000 and 40,000 samples.
all_benchmarks=("${evalplus[@]}" livecodebench "${evoeval[@]}" evalperf "${classeval[@]}" ds1000 canitedit)
