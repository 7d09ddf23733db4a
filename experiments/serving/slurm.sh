#!/usr/bin/env bash
#SBATCH --job-name=selfalign
#SBATCH --nodes=4
#SBATCH --gpus-per-node=1
#SBATCH --ntasks-per-node=1
#SBATCH --time=12:00:00
#SBATCH --requeue
# Starts a replica of a model on every node of a Slurm job, hands their addresses to a step, and ends with the step:
#
#     sbatch experiments/serving/slurm.sh starcoder2-15b sample_responses.py ./tasks ./responses --samples 10
#     sbatch --nodes 8 --gpus-per-node 2 experiments/serving/slurm.sh deepseek-coder-33b generate_concepts.py ./seeds ./concepts
#
# A template: add your cluster's --partition and --account, and what makes `vllm` and `python` be found. Submit it from
# the project's folder. Killed, preempted or out of time, the same command goes on where it stopped. A node that fails
# costs its replica only: the step goes on with the others.

set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"
[ $# -ge 4 ] || { grep '^#  ' "$0" >&2; exit 2; }
name=$1
shift
port=$((20000 + SLURM_JOB_ID % 10000)) # another job on the same node has another
hours_of_loading=1                     # 33B from a slow disk

# --kill-on-bad-exit=0: a replica that dies must not take the others along.
srun --kill-on-bad-exit=0 bash experiments/serving/vllm.sh "$name" "$port" &
replicas=$!
trap 'kill $replicas 2>/dev/null || true; wait $replicas 2>/dev/null || true' EXIT

# The step uses a replica that is not there yet as soon as it answers: only one is waited for.
endpoints=()
for node in $(scontrol show hostnames "$SLURM_JOB_NODELIST"); do
    endpoints+=(--endpoint "http://$node:$port")
done
answers() {
    local i
    for ((i = 1; i < ${#endpoints[@]}; i += 2)); do
        curl --silent --fail --max-time 5 "${endpoints[i]}/health" >/dev/null && return
    done
    return 1
}
until answers; do
    kill -0 $replicas 2>/dev/null || { echo "slurm.sh: every replica has ended, see above" >&2; exit 1; }
    [ $SECONDS -lt $((3600 * hours_of_loading)) ] || { echo "slurm.sh: no replica answers" >&2; exit 1; }
    sleep 5
done

python "$@" --api completions "${endpoints[@]}"
