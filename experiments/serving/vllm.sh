#!/usr/bin/env bash
# Serves one of the paper's models with vLLM (pip install vllm):
#
#     bash experiments/serving/vllm.sh starcoder2-15b                # on port 8080
#     bash experiments/serving/vllm.sh deepseek-coder-33b 8081 --gpus 4
#     CUDA_VISIBLE_DEVICES=1 bash experiments/serving/vllm.sh starcoder2-3b 8082    # a second replica on the second GPU
#
#     python sample_responses.py ./tasks ./responses --api completions --endpoint http://127.0.0.1:8080
#
# Further options are passed to vLLM. The samples of one prompt are a single request to it, and share the work on the
# prompt.

set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/models.sh"
arguments "$@"

# Without --generation-config vllm, vLLM would take top_p, top_k and the like from the model's generation_config.json
# wherever a request doesn't set them. --max-num-seqs is the limit that our client assumes for an OpenAI server, which
# doesn't announce one (--concurrency overrides it).
exec vllm serve "$model" --port "$port" --tensor-parallel-size "$gpus" --dtype bfloat16 --max-model-len "$context" \
    --max-num-seqs 256 --generation-config vllm ${more[@]+"${more[@]}"}
