#!/usr/bin/env bash
# Serves one of the paper's models with text-generation-inference (TGI), in Docker:
#
#     bash experiments/serving/tgi.sh starcoder2-15b                 # on port 8080
#     bash experiments/serving/tgi.sh deepseek-coder-33b 8081 --gpus 4
#     CUDA_VISIBLE_DEVICES=1 bash experiments/serving/tgi.sh starcoder2-3b 8082     # a second replica on the second GPU
#
#     python generate_concepts.py ./seeds ./concepts --endpoint http://127.0.0.1:8080
#
# Further options are passed to text-generation-launcher. TGI has been in maintenance mode since December 2025, and its
# authors recommend vLLM (experiments/serving/vllm.sh) for new work. The paper's models were sampled with TGI.

set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/models.sh"
arguments "$@"
if [ -v CUDA_VISIBLE_DEVICES ] && [ -z "$CUDA_VISIBLE_DEVICES" ]; then # Docker would give it all of them
    echo "tgi.sh: CUDA_VISIBLE_DEVICES is empty, which leaves no GPU to serve $1 with" >&2
    exit 2
fi

# The weights are kept in the host's Hub cache. TGI answers 429 to more than --max-concurrent-requests; our client reads
# this number from /info and stays just below it. Shards communicate through shared memory, which needs 1 GB.
cache=${HF_HOME:-$HOME/.cache/huggingface}
exec docker run --rm --shm-size 1g -p "$port:80" -v "$cache:/data" -e HF_TOKEN \
    --gpus "${CUDA_VISIBLE_DEVICES:+\"device=}${CUDA_VISIBLE_DEVICES:-$gpus}${CUDA_VISIBLE_DEVICES:+\"}" \
    ghcr.io/huggingface/text-generation-inference:3.3.5 \
    --model-id "$model" --num-shard "$gpus" --dtype bfloat16 --max-concurrent-requests 128 \
    --max-input-tokens $((context - 1)) --max-total-tokens "$context" ${more[@]+"${more[@]}"}
