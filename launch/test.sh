#!/usr/bin/env bash
# Runs the test suite in .venv, making it if it is missing.
#   bash launch/test.sh          the quick suite, lint and types
#   bash launch/test.sh --all    adds the slow, distributed and real-media tests
#   bash launch/test.sh PATH ... anything else goes to pytest
source "$(dirname "${BASH_SOURCE[0]}")/install.sh"
export TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 WANDB_MODE=offline
ruff check rlcomm tests
mypy
if [ "${1:-}" = "--all" ]; then
    shift
    python tests/real_media/fetch.py || echo "recorded clips cannot be had here; their tests will say so"
    exec pytest "$@"
fi
exec pytest -m "not slow and not distributed and not real_media" "$@"
