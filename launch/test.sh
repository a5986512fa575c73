#!/usr/bin/env bash
# Runs the test suite in .venv, making it if it is missing.
#   bash launch/test.sh          the quick suite, lint and types
#   bash launch/test.sh --all    adds the slow, distributed and real-media tests
#   bash launch/test.sh PATH ... anything else goes to pytest
# The tests run on all cores, at most eight, a process and a thread each (TEST_WORKERS sets another number; 0: in
# this process).
source "$(dirname "${BASH_SOURCE[0]}")/install.sh"
export TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 WANDB_MODE=offline OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
workers=$(nproc)
# a worker loads torch and transformers for itself, about 1 GB: more than eight cost memory and win little
workers=${TEST_WORKERS:-$((workers < 8 ? workers : 8))}
# worksteal keeps neighbours together, so that what a file's tests share is made once, and evens out the end
set -- "$@" -n "$workers" --dist worksteal
ruff check rlcomm tests
mypy
if [ "${1:-}" = "--all" ]; then
    shift
    python tests/real_media/fetch.py || echo "recorded clips cannot be had here; their tests will say so"
    exec pytest "$@"
fi
exec pytest -m "not slow and not distributed and not real_media" "$@"
