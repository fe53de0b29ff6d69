#!/usr/bin/env bash
# Long randomised campaigns, run by hand (about 15 minutes): runs that are killed at random moments and
# go on, and damaged videos through the data path. Arguments go to scripts/soak.py (--help).
set -euo pipefail
source "$(dirname "$0")/environment.sh" dev
exec python scripts/soak.py "$@"
