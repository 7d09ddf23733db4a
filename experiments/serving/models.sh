# The models of the paper, and how many GPUs each needs. Sourced by the recipes, tgi.sh and vllm.sh, which call
# `choose NAME`.
#
# Weights in bfloat16 take 2 bytes per parameter. The rest of 90 % of the GPUs' memory holds the tokens of the requests
# in flight: layers x KV heads x 128 x 2 (keys and values) x 2 bytes for each token. A prompt with 8 worked examples and
# its answer has about 3,000 tokens (paper, section 6), so 128 requests need 384,000 tokens. With GPUs of 80 GB:
#
#   name                  GPUs   weights   bytes per token                      room for
#   starcoder2-3b            1      6 GB   30 x 2 x 128 x 2 x 2 =  31 kB   2,100,000 tokens
#   codeqwen1.5-7b           1     15 GB   32 x 4 x 128 x 2 x 2 =  66 kB     870,000
#   llama-3-8b               1     16 GB   32 x 8 x 128 x 2 x 2 = 131 kB     430,000
#   starcoder2-15b           1     32 GB   40 x 4 x 128 x 2 x 2 =  82 kB     490,000
#   deepseek-coder-33b       2     67 GB   62 x 8 x 128 x 2 x 2 = 254 kB     300,000   (on one: 20,000)
#
# With GPUs of 24 GB it takes 1, 1, 1, 2 and 4 of them; --gpus N overrides the table. A model that fits on one GPU is
# faster as one replica per GPU than spread over several: start more replicas, and pass the address of each to the step
# with --endpoint.

context=8192 # tokens of prompt and answer, which all five models support; the steps need about 3,000

choose() {
    gpus=1
    case $1 in
        starcoder2-3b) model=bigcode/starcoder2-3b ;;
        codeqwen1.5-7b) model=Qwen/CodeQwen1.5-7B ;;
        llama-3-8b) model=meta-llama/Meta-Llama-3-8B ;; # gated: accept its licence on the Hub, and set HF_TOKEN
        starcoder2-15b) model=bigcode/starcoder2-15b ;;
        deepseek-coder-33b) model=deepseek-ai/deepseek-coder-33b-base gpus=2 ;;
        # Two of Table 1 have positions for no more than this, and vLLM refuses to serve a longer context than a model has.
        codellama/CodeLlama-70b-Instruct-hf | Snowflake/snowflake-arctic-instruct) model=$1 context=4096 ;;
        */*) model=$1 ;; # any other Hub id or folder; --gpus if it needs several
        *)
            echo "there is no model $1: see experiments/serving/models.sh, or give a Hub id" >&2
            exit 2
            ;;
    esac
}

# NAME [PORT] [--gpus N] [options of the server ...]
arguments() {
    case ${1:-} in
        '') grep '^#  ' "$0" >&2; exit 2 ;;
        -h | --help) sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; exit ;;
    esac
    choose "$1"
    shift
    port=8080
    case ${1:-} in [0-9]*) port=$1; shift ;; esac
    if [ "${1:-}" = --gpus ]; then
        case ${2:-} in '' | *[!0-9]*) echo "${0##*/}: --gpus needs a number" >&2; exit 2 ;; esac
        gpus=$2
        shift 2
    fi
    more=("$@")
}
