#!/usr/bin/env bash
# One accelerate launch over all nodes of a SLURM allocation; train.slurm and `rlcomm pipeline --launch` call it.
#   bash launch/srun.sh -m rlcomm train RECIPE [--key value ...]
# CONFIG names the accelerate configuration (launch/zero2.yaml). One task a node starts the processes of its GPUs; when one
# of them fails, srun ends all.
set -euo pipefail
config="${CONFIG:-$(dirname "${BASH_SOURCE[0]}")/zero2.yaml}"
per_node="${PROCESSES_PER_NODE:-${SLURM_GPUS_ON_NODE:-1}}"
nodes="$(scontrol show hostnames "$SLURM_JOB_NODELIST")"
address="${nodes%%$'\n'*}"  # the first one's
port=$((20000 + SLURM_JOB_ID % 20000))
# The node's own number is known to the task alone, so it is read there.
exec srun --kill-on-bad-exit=1 --wait=60 --nodes="$SLURM_NNODES" --ntasks="$SLURM_NNODES" --ntasks-per-node=1 \
    bash -c 'exec python -m accelerate.commands.launch --machine_rank "$SLURM_NODEID" "$@"' task \
    --config_file "$config" --num_machines "$SLURM_NNODES" --num_processes "$((SLURM_NNODES * per_node))" \
    --main_process_ip "$address" --main_process_port "$port" "$@"
