# What the paper's recipes share. Each recipe sources it with its own arguments:
#
#     . experiments/recipe.sh "$@"
#
# Every recipe takes these options:
#
#     --out FOLDER     where everything is written, and where paper_tables.py looks; ./runs/out by default
#     --seeds DATASET  the seeds to start from; FOLDER/seeds by default, which experiments/seeds.sh makes
#     --endpoint URL   a server that already serves the generating model; repeat the option for several servers. Without
#                      it, vLLM (pip install vllm) runs on the GPUs of this machine for as long as it is needed
#     --examples FILE  worked examples for the generating model, such as the reference implementation's own prompt file,
#                      whose layout the prompts then have; prompts/examples.yaml by default
#     --benchmark-data NAME=FILE  problems from a file instead of the Hub, for measuring and for keeping them out of the
#                      data; repeat the option for several benchmarks. NAME may also be the part before a hyphen:
#                      classeval for its three strategies. The paper's MBPP+ is v0.1.0 with 399 tasks, which EvalPlus
#                      has among its releases: --benchmark-data mbppplus=MbppPlus-v0.1.0.jsonl
#     --gpus N         how many GPUs to use; by default all GPUs of this machine, or those in CUDA_VISIBLE_DEVICES
#     --dry-run        print the commands, and what they need and take, instead of running them: GPUs and their memory,
#                      sizes of models, free disk, packages, repos that this token can't read, hours. With
#                      --tokens-per-second N the hours are those of such servers, and with --price P their price is added
#
# FOLDER/data/NAME       what a model generated: concepts, tasks, responses, executions, instructions
# FOLDER/SYSTEM/model    a fine-tuned model
# FOLDER/SYSTEM/NAME     its results on the benchmark NAME
#
# A recipe that was killed or preempted continues where it stopped when the same command is run again; a step that is
# already complete takes a second.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. experiments/serving/models.sh

out=./runs/out seeds='' examples='' machine_gpus='' given_endpoints=() positional=() planned='' pricing=() benchmark_files=()
while [ $# -gt 0 ]; do
    case $1 in
        --out | --seeds | --benchmark-data | --examples | --gpus | --endpoint | --tokens-per-second | --price)
            [ -n "${2:-}" ] || { echo "${0##*/}: $1 needs a value" >&2; exit 2; } ;;
    esac
    case $1 in
        --out) out=$2; shift 2 ;;
        --seeds) seeds=$2; shift 2 ;;
        --benchmark-data) benchmark_files+=("$2"); shift 2 ;;
        --examples) examples=$2; shift 2 ;;
        --gpus) machine_gpus=$2; shift 2 ;;
        --endpoint) given_endpoints+=(--endpoint "$2"); shift 2 ;;
        --dry-run) planned=yes; shift ;;
        --tokens-per-second | --price) pricing+=("$1" "$2"); shift 2 ;;
        -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "experiments/${0##*/}"; exit ;;
        *) positional+=("$1"); shift ;;
    esac
done
case $machine_gpus in *[!0-9]*) echo "${0##*/}: --gpus $machine_gpus is not a number" >&2; exit 2 ;; esac
case $out in /* | ./*) ;; *) out=./$out ;; esac # without ./ it could be taken for a Hub id
seeds=${seeds:-$out/seeds}

. runs/setup.sh scripts
if [ -v CUDA_VISIBLE_DEVICES ]; then # the GPUs that this recipe may use: -1 or an empty name hides all from there on
    mapfile -t devices < <(tr , '\n' <<<"${CUDA_VISIBLE_DEVICES// /}" | sed -E '/^(-1)?$/,$d')
    machine_gpus=${machine_gpus:-${#devices[@]}}
else
    # It also lists the parts that a GPU is divided into, and says in a line if there is none.
    machine_gpus=${machine_gpus:-$(nvidia-smi -L 2>/dev/null | grep -c '^GPU ' || true)}
    mapfile -t devices < <(seq 0 $((machine_gpus - 1)))
fi
if [ -n "$planned" ]; then planned=$(mktemp); else mkdir -p "$out/logs"; fi

# With --dry-run, the commands are written down instead of being run, and experiments/plan.py prints them at the end.
if [ -n "$planned" ]; then
    plan() { (IFS=$'\x1f' && printf '%s\n' "$*" >>"$planned"); }
    accelerate() { plan accelerate "$@"; }
    python() {
        plan python "$@"
        [ "${2:-}" != selfalign.benchmarks.harness.environment ] || echo ".environments/${3%%-*}/bin/python"
    }
    print_plan() {
        local status=$?
        [ $status -ne 0 ] ||
            command python -m experiments.plan "$planned" --out "$out" --gpus "$machine_gpus" \
                ${pricing[@]+"${pricing[@]}"}
        rm -f "$planned"
    }
fi

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

# fail MESSAGE: ends a recipe that was called wrongly.
fail() {
    echo "${0##*/}: $*" >&2
    exit 2
}

# only WORD ...: fails now, and not after hours, if the recipe was given any other argument than these.
only() {
    local word
    for word in ${positional[@]+"${positional[@]}"}; do
        case " $* " in *" $word "*) ;; *) fail "unknown argument $word${*:+ (known: $*)}" ;; esac
    done
}

# is_complete FOLDER: whether the run.json in FOLDER says that its step has nothing left to do.
is_complete() { grep -qs '"complete": true' "$1/run.json"; }

# Serving --------------------------------------------------------------------------------------------------------------

# A server ends with its recipe, even if that is killed outright: otherwise the next run would find its port taken.
tied=()
if command -v setpriv >/dev/null; then tied=(setpriv --pdeathsig TERM); fi
servers=() server=() served_model=''

# What is kept out of all data: every benchmark that is measured here (EvalPerf's problems are those of HumanEval+ and
# MBPP+), and GSM8K, which the reference implementation removes as well. A recipe ends if one of them can't be read.
kept_out=(--decontaminate humaneval mbpp humanevalplus mbppplus evoeval livecodebench livecodebench-execution
    livecodebench-test-output classeval ds1000 canitedit gsm8k)
data_files=()
for file in ${benchmark_files[@]+"${benchmark_files[@]}"}; do
    case $file in evalperf=*) ;; *) data_files+=("$file") ;; esac
done
[ ${#data_files[@]} -eq 0 ] || kept_out+=(--benchmark-data "${data_files[@]}")

# file_of BENCHMARK: the file that was given for a benchmark, or else for the part of its name before a hyphen, such as
# `classeval` for classeval-holistic. Two scenarios of LiveCodeBench have problems of their own.
file_of() {
    local wanted=$1 file
    while true; do
        for file in ${benchmark_files[@]+"${benchmark_files[@]}"}; do
            [ "${file%%=*}" != "$wanted" ] || { echo "${file#*=}"; return; }
        done
        case $wanted in
            livecodebench-execution | livecodebench-test-output) return ;;
            *-*) wanted=${wanted%-*} ;;
            *) return ;;
        esac
    done
}

# serve MODEL [REPLICAS [GPUS]]: starts vLLM with MODEL, which is a model of experiments/serving/models.sh, a Hub id or
# a folder. Starts as many replicas as fit, or REPLICAS, on GPUS each. Afterwards `server` holds the options for a step.
serve() {
    local name=$1 replicas=${2:-999} number port
    choose "$name"
    gpus=${3:-$gpus} served_model=$model server=(--api completions)
    if [ -n "$planned" ]; then
        number=$((machine_gpus / gpus < replicas ? machine_gpus / gpus : replicas))
        plan model "$model" "$gpus" $((number > 0 ? number : 1))
        server+=(--endpoint http://127.0.0.1:8100)
        return
    fi
    for ((number = 0; number < replicas && (number + 1) * gpus <= machine_gpus; number++)); do
        port=$((8100 + number))
        # The server of another recipe would be mistaken for ours, and its model for the one that is wanted.
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            fail "another server is using port $port of this machine: stop it first"
        fi
        CUDA_VISIBLE_DEVICES=$(IFS=, && echo "${devices[*]:number * gpus:gpus}") \
            ${tied[@]+"${tied[@]}"} bash experiments/serving/vllm.sh "$name" $port --gpus "$gpus" >"$out/logs/vllm-$port.log" 2>&1 &
        servers+=($!)
        server+=(--endpoint "http://127.0.0.1:$port")
    done
    [ ${#servers[@]} -gt 0 ] ||
        fail "$name needs $gpus GPUs, and this machine has $machine_gpus: see experiments/serving/ and --endpoint URL"
    # Waits for the first replica only: the others are used as soon as they answer.
    until curl --silent --fail --max-time 5 http://127.0.0.1:8100/health >/dev/null; do
        kill -0 "${servers[0]}" 2>/dev/null || server_died "$name" "$out/logs/vllm-8100.log"
        sleep 5
    done
}

# server_died MODEL LOG: shows how the log ends, and as the last line the cause, which vLLM often reports far above.
server_died() {
    tail -n 5 "$2" >&2
    grep -m 1 -iE 'gated repo|access to (model|repo)|unauthorized|out of memory|no space left|does not exist' "$2" >&2 ||
        echo "$1 could not be served: see $2" >&2
    exit 1
}

stop_serving() {
    [ ${#servers[@]} -eq 0 ] || { kill "${servers[@]}" 2>/dev/null || true; wait "${servers[@]}" 2>/dev/null || true; }
    servers=() server=()
}
if [ -n "$planned" ]; then trap print_plan EXIT; else trap stop_serving EXIT; fi

# serve_generator MODEL: uses the endpoints that were given, or else starts vLLM here.
serve_generator() {
    if [ ${#given_endpoints[@]} -gt 0 ]; then server=(--api completions "${given_endpoints[@]}"); else serve "$1"; fi
}

# Settings of the paper or its reference implementation that are not the scripts' defaults (docs/fidelity.md). Those of
# the data are `reference` in runs/settings.py, but Table 9 selects by itself: our rules that the reference does not have
# are left out, and random assertions are shown, in its words.
plain=(--skip vacuous stub tests_do_not_call --shown-tests reference)
# The reference's chat template and the loss of the transformers of 2024:
training=(--chat-template prompts/reference/chat.jinja --average-loss-over sequences)

# The parts of a recipe ------------------------------------------------------------------------------------------------

# make_data MODEL FOLDER SEEDS [options of runs/self_align.py]: sections 2.1 to 2.3 of the paper, by the same chain as
# runs/self_align.sh. The defaults of the scripts are the paper's: 8, 8 and 1 worked examples, temperature 0.7, one random
# passing response per task. The paper does not say how many responses are sampled for a task; StarCoder2-Instruct
# sampled 10, and so do we.
make_data() {
    local name=$1 data=$2 from=$3
    shift 3
    is_complete "$data/instructions" && return
    choose "$name"
    local chain=(python -m runs.self_align "$model" --settings reference --seeds "$from" --out "$data")
    chain+=(${examples:+--examples "$examples"} "$@")
    serve_generator "$name"
    "${chain[@]}" "${server[@]}" "${kept_out[@]}" --until responses
    stop_serving
    "${chain[@]}" "${kept_out[@]}" --until instructions
}

# train_and_evaluate BASE INSTRUCTIONS SYSTEM RATE BENCHMARK ...: section C.3. Batches of 64 sequences of 1280 tokens,
# Adafactor, and a linear schedule with 5 % warm-up. The learning RATE is 1e-5 for the model's own data, and 2e-5 for data
# that another model or people wrote. The paper does not say how many epochs; StarCoder2-Instruct was trained for 4, and
# so are ours.
#
# The hardware is that of section C.4: one copy of the model per GPU, StarCoder2-15B on a single A100 of 80 GB, and
# DeepSeek-Coder-33B on eight H100 with ZeRO-3.
train_and_evaluate() {
    local base=$1 instructions=$2 system=$3 rate=$4
    shift 4
    choose "$base"
    local config=ddp more=() launch processes=1
    case $base in
        starcoder2-15b) config='' more=(--gradient-checkpointing) ;;
        deepseek-coder-33b) config=zero3 more=(--gradient-checkpointing) ;;
    esac
    # As many GPUs as the 64 sequences can be divided among: 4 of 6.
    while [ -n "$config" ] && [ $((2 * processes)) -le "$machine_gpus" ] && [ "$processes" -lt 64 ]; do
        processes=$((2 * processes))
    done
    launch=(accelerate launch --config_file "experiments/accelerate/$config.yaml" --num_processes "$processes")
    [ "$processes" -gt 1 ] || launch=(python)
    local was_complete='' started=$SECONDS
    is_complete "$out/$system/model" && was_complete=1
    # The other GPUs are hidden, as finetune.py refuses to be one process that sees several.
    CUDA_VISIBLE_DEVICES=$(IFS=, && echo "${devices[*]:0:processes}") \
        "${launch[@]}" finetune.py "$instructions" "$out/$system/model" --model "$model" --epochs 4 \
        ${more[@]+"${more[@]}"} --learning-rate "$rate" "${training[@]}"
    # Table 12 shows these seconds. If the training was killed and continued, they are those of its last part.
    if [ -z "$was_complete" ] && [ -z "$planned" ]; then
        mkdir -p "$out/$system"
        echo $((SECONDS - started)) >"$out/$system/training_seconds"
    fi
    evaluate "$system" "$out/$system/model" chat "$(gpus_of "$base")" "$@"
}

# environments BENCHMARK ...: makes environments for those whose programs need the packages of their era, each once.
# `pythons` then has the interpreter for each. Called at the start of a recipe, so that it does not fail after days.
declare -A pythons=()
environments() {
    local name
    for name in "$@"; do
        case $name in
            ds1000 | canitedit | classeval-* | bigcodebench-*)
                [ -n "${pythons[$name]:-}" ] ||
                    pythons[$name]=$(python -m selfalign.benchmarks.harness.environment "$name")
                ;;
        esac
    done
}

template='' # of experiments/serving/templates, for a model that was published without a chat template
# evaluate SYSTEM MODEL STYLE GPUS BENCHMARK ...: section 3. The paper's decoding is the default of each benchmark.
# STYLE is `completion` for base models and `chat` for models that follow instructions. Where the reference
# implementation published its prompt, it is used, with its 1024 tokens.
evaluate() {
    local system=$1 evaluated=$2 style=$3 gpus_each=$4 name file todo=() options=()
    shift 4
    for name in "$@"; do [ -e "$out/$system/$name/results.json" ] || todo+=("$name"); done
    [ ${#todo[@]} -gt 0 ] || return 0
    environments "${todo[@]}"
    serve "$evaluated" 1 "$gpus_each"
    for name in "${todo[@]}"; do
        case $style,$name in
            completion,*) options=() ;;
            chat,humaneval* | chat,mbpp* | chat,evoeval-* | chat,evalperf)
                options=(--prompt-style reference --max-new-tokens 1024 --tokenizer "$served_model") ;;
            chat,ds1000) options=(--prompt-style reference --tokenizer "$served_model") ;;
            chat,*) options=(--prompt-style chat --tokenizer "$served_model") ;;
        esac
        # As in LiveCodeBench, the answers of code generation are repaired.
        if [ "$name" = livecodebench-repair ] && [ -e "$out/$system/livecodebench/results.json" ]; then
            options+=(--first-answers "$out/$system/livecodebench")
        fi
        [ -z "$template" ] || options+=(--chat-template "experiments/serving/templates/$template.jinja")
        file=$(file_of "$name")
        options+=(${file:+--data "$file"})
        options+=(${pythons[$name]:+--python "${pythons[$name]}"})
        say "$system: $name"
        python benchmark.py http://127.0.0.1:8100 "$out/$system/$name" --benchmark "$name" --api completions \
            ${options[@]+"${options[@]}"}
    done
    stop_serving
}

# attempt NAME COMMAND ...: runs COMMAND; if it fails, notes NAME with the last line of its errors, and goes on.
failures=()
attempt() {
    local name=$1 status log=$out/logs/attempt-${1//\//-}.log
    shift
    if [ -n "$planned" ]; then "$@" && return; fi
    # Not as a condition, within which bash would ignore `set -e`. The errors are shown and kept.
    set +e
    {
        (set -e && trap stop_serving EXIT && "$@") 2>&1 >&3 | tee "$log" >&2
        status=${PIPESTATUS[0]}
    } 3>&1
    set -e
    case $status in
        0) ;;
        130 | 143) exit "$status" ;; # interrupted by the user, or by the system
        *) failures+=("$name: $(grep -v '^$' "$log" | tail -n 1)") ;;
    esac
}

# list_failures: says what failed and why, and ends the recipe with status 1 if anything did.
list_failures() {
    [ ${#failures[@]} -gt 0 ] || return 0
    say "Left out, and to be run again by the same command:"
    printf '  %s\n' "${failures[@]}"
    [ -n "$planned" ] || exit 1
}

# How many GPUs it takes to serve a model of experiments/serving/models.sh.
gpus_of() { (choose "$1" && echo "$gpus"); }

evalplus=(humanevalplus mbppplus)                                                                # Table 1
evoeval=(evoeval-difficult evoeval-creative evoeval-subtle evoeval-combine evoeval-tool_use)     # Table 3
livecodebench=(livecodebench livecodebench-repair livecodebench-test-output livecodebench-execution) # appendix A
classeval=(classeval-holistic classeval-incremental classeval-compositional)                     # Table 5
# Tables 1 to 7. LiveCodeBench is a download of 1.3 GB. The programs of DS-1000 need an environment of their own (see
# selfalign/benchmarks/ds1000.py). EvalPerf has 12,000 samples and DS-1000 has 40,000. Table 4, which is EvalPerf, has
# fewer rows than the others.
all_but_evalperf=("${evalplus[@]}" livecodebench "${evoeval[@]}" "${classeval[@]}" ds1000 canitedit)
all_benchmarks=("${all_but_evalperf[@]}" evalperf)
