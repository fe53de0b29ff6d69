#!/usr/bin/env bash
# Long randomised campaigns, run by hand (about an hour and a half): runs, workers and packs that are killed
# at random moments and go on, damaged videos through everything that reads videos, and an hour of decoding.
# Arguments go to scripts/soak.py (--help).
set -euo pipefail
source "$(dirname "$0")/environment.sh" dev
exec python scripts/soak.py "$@"
