#!/usr/bin/env bash
# Trains a run with torchrun, on one machine or several.
#
#   scripts/torchrun.sh yamls/base_clm_detour.yaml [key=value ...]
#
# Environment, all optional on one machine:
#   NPROC        processes on this machine; default: its GPUs, or 1 without any
#   NODES        machines; default 1
#   NODE_RANK    this machine's number, 0 to NODES - 1; default 0
#   MASTER_ADDR  address of machine 0; default 127.0.0.1
#   MASTER_PORT  a free port there, the same on every machine; default 29500
#
# Start it on every machine with its own NODE_RANK. The same command again resumes from the latest checkpoint.
set -euo pipefail

if [[ $# -eq 0 ]]; then
    echo "usage: scripts/torchrun.sh CONFIG [key=value ...]" >&2
    exit 2
fi

gpus() { if command -v nvidia-smi >/dev/null; then nvidia-smi --list-gpus | wc -l; else echo 0; fi; }

NPROC=${NPROC:-$(gpus)}
if [[ $NPROC -eq 0 ]]; then NPROC=1; fi
export NODE_RANK=${NODE_RANK:-0} # Composer reads it; torchrun does not set it
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec torchrun \
    --nnodes "${NODES:-1}" \
    --node-rank "$NODE_RANK" \
    --nproc-per-node "$NPROC" \
    --master-addr "${MASTER_ADDR:-127.0.0.1}" \
    --master-port "${MASTER_PORT:-29500}" \
    main.py "$@"
