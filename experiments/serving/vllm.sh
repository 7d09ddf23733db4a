#!/usr/bin/env bash
# vLLM (pip install vllm), for one of the paper's models:
#
#     bash experiments/serving/vllm.sh starcoder2-15b                # on port 8080
#     bash experiments/serving/vllm.sh deepseek-coder-33b 8081 --gpus 4
#     CUDA_VISIBLE_DEVICES=1 bash experiments/serving/vllm.sh starcoder2-3b 8082    # a second replica on the second GPU
#
#     python sample_responses.py ./tasks ./responses --api completions --endpoint http://127.0.0.1:8080
#
# What follows the port goes to vLLM. Samples of one prompt are one request here and share the work on the prompt.

set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/models.sh"
arguments "$@"

# --generation-config vllm: otherwise vLLM takes top_p, top_k and the like from the model's generation_config.json where
# a request does not say them, and the samples are not what was asked for. --max-num-seqs is what the client takes for
# the limit of an OpenAI server, which does not tell it (--concurrency says another).
exec vllm serve "$model" --port "$port" --tensor-parallel-size "$gpus" --dtype bfloat16 --max-model-len "$context" \
    --max-num-seqs 256 --generation-config vllm ${more[@]+"${more[@]}"}
