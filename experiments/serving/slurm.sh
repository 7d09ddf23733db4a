#!/usr/bin/env bash
#SBATCH --job-name=selfalign
#SBATCH --nodes=4
#SBATCH --gpus-per-node=1
#SBATCH --ntasks-per-node=1
#SBATCH --time=12:00:00
#SBATCH --requeue
# Starts a replica of a model on every node of a Slurm job, passes their addresses to a step, and ends with the step:
#
#     sbatch experiments/serving/slurm.sh starcoder2-15b sample_responses.py ./tasks ./responses --samples 10
#     sbatch --nodes 8 --gpus-per-node 2 experiments/serving/slurm.sh deepseek-coder-33b \
#         generate_concepts.py ./seeds ./concepts
#
# This is a template: add the --partition and --account of your cluster, and whatever puts `vllm` and `python` on the
# PATH. Submit it from the project's folder. If the job is killed, preempted or out of time, the same command continues
# where it stopped. If a node fails, only its replica is lost: the step continues with the others.

set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"
[ $# -ge 4 ] || { grep '^#  ' "$0" >&2; exit 2; }
name=$1
shift
port=$((20000 + SLURM_JOB_ID % 10000)) # a different port for another job on the same node
hours_of_loading=1                     # for 33B from a slow disk

# --kill-on-bad-exit=0, since a replica that dies must not take the others with it.
srun --kill-on-bad-exit=0 bash experiments/serving/vllm.sh "$name" "$port" &
replicas=$!
trap 'kill $replicas 2>/dev/null || true; wait $replicas 2>/dev/null || true' EXIT

# Only one replica is waited for: the step uses the others as soon as they answer.
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
    kill -0 $replicas 2>/dev/null || { echo "slurm.sh: every replica has exited, see above" >&2; exit 1; }
    [ $SECONDS -lt $((3600 * hours_of_loading)) ] || { echo "slurm.sh: no replica answers" >&2; exit 1; }
    sleep 5
done

python "$@" --api completions "${endpoints[@]}"
