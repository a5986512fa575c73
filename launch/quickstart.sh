#!/usr/bin/env bash
# The whole method on the embedded world, from an empty machine to runs/quickstart/report.html.
#   bash launch/quickstart.sh                  8 minutes on 2 CPU cores after the install
#   bash launch/quickstart.sh --from_scratch   trains the base and the reference as well, 22 minutes in all
source "$(dirname "${BASH_SOURCE[0]}")/install.sh"
exec rlcomm quickstart "$@"
