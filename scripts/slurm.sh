#!/usr/bin/env bash
# Trains a run under SLURM, on one node or several: one task per node, which starts Composer's launcher.
#
#   sbatch --nodes 2 --gpus-per-node 4 scripts/slurm.sh yamls/base_clm_detour.yaml [key=value ...]
#
# Submit from the repository root, with the environment active (or set VENV below). Add your site's --account,
# --partition and so on, on the command line or here.
#
# Four minutes before the time limit the run saves and ends with exit code 75, and the job requeues itself; it does the
# same after any other early stop of the run. If the run has not ended two minutes before the limit, the job is
# requeued anyway, and steps after the latest checkpoint are trained again; the same happens when SLURM requeues the job
# after a node failure. A job that ends with an error is not requeued. Submitting the same command again resumes the run.
#
#SBATCH --job-name=detour
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=20:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.out
set -euo pipefail

if [[ $# -eq 0 ]]; then
    echo "usage: sbatch [options] scripts/slurm.sh CONFIG [key=value ...]" >&2
    exit 2
fi

cd "$SLURM_SUBMIT_DIR"
if [[ -n ${VENV:-} ]]; then
    # shellcheck disable=SC1091
    source "$VENV/bin/activate"
fi

# a count (4), or a type and a count (h100:4)
gpus=${SLURM_GPUS_PER_NODE:-${SLURM_GPUS_ON_NODE:-1}}
export GPUS=${gpus##*:}
export WORLD_SIZE=$((SLURM_JOB_NUM_NODES * GPUS))
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR
export MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000)) # two jobs that share a node need two ports
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
export LOGS=logs/$SLURM_JOB_ID # the other processes' output; process 0 of each node writes to slurm-JOB.out
mkdir -p "$LOGS"

requeue() {
    echo "$1: requeueing job $SLURM_JOB_ID"
    scontrol requeue "$SLURM_JOB_ID"
}
trap 'requeue "time limit is near"' USR1

# minutes until four before the end, if SLURM reports it; overrides of the user come later and win
limit=()
if [[ -n ${SLURM_JOB_END_TIME:-} ]]; then
    left=$(((SLURM_JOB_END_TIME - $(date +%s)) / 60 - 4))
    limit=("system.max_minutes=$((left > 1 ? left : 1))")
fi

# SLURM_NODEID is set inside each task only, hence the inner shell. A run that stopped early counts as a success there:
# otherwise srun would kill the tasks of the other nodes. The shell survives the SIGTERM that makes the run save.
rm -f "$LOGS/stopped"
# shellcheck disable=SC2016
srun --kill-on-bad-exit=1 bash -c '
    trap : TERM
    composer -n "$GPUS" --world_size "$WORLD_SIZE" --node_rank "$SLURM_NODEID" \
        --master_addr "$MASTER_ADDR" --master_port "$MASTER_PORT" \
        --stdout "$LOGS/rank{rank}.out" --stderr "$LOGS/rank{rank}.err" \
        main.py "$@" || code=$?
    if [[ ${code:-0} -eq 75 ]]; then
        touch "$LOGS/stopped"
        exit 0
    fi
    exit "${code:-0}"' bash "$1" "${limit[@]}" "${@:2}" &
wait $! # in the background, so that the trap runs while srun does
if [[ -e $LOGS/stopped ]]; then
    requeue "the run saved and stopped early"
fi
