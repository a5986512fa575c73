#!/usr/bin/env bash
# Makes .venv in the repository and installs the tested set into it; does nothing where that is done already.
# Sourced by quickstart.sh and test.sh. PYTHON names another interpreter (3.10 or newer).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
want="$(cat pyproject.toml launch/constraints.txt | cksum)"
if [ ! -f .venv/.installed ] || [ "$(cat .venv/.installed)" != "$want" ]; then
    "${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
        || { echo "rlcomm needs Python 3.10 or newer; set PYTHON to one." >&2; exit 2; }
    # Debian's python3 alone makes a .venv without pip and says so once: the next run would find it made.
    { [ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv; } &&
        { .venv/bin/python -m pip --version > /dev/null 2>&1 || .venv/bin/python -m ensurepip; } ||
        { echo ".venv has no pip and cannot get one; install it (Debian, Ubuntu: apt-get install python3-venv)," \
               "remove .venv and run the same command again." >&2; exit 2; }
    echo "Installing the tested set into .venv (once, a few minutes)"
    .venv/bin/python -m pip install -q --upgrade pip
    # torch first and alone: an open range would pull a newer build with several GB more.
    .venv/bin/python -m pip install -q -c launch/constraints.txt torch
    .venv/bin/python -m pip install -q -c launch/constraints.txt -e '.[dev,real-media]'
    echo "$want" > .venv/.installed
fi
export PATH="$PWD/.venv/bin:$PATH"
