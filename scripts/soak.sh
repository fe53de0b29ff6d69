#!/usr/bin/env bash
# Long randomised campaigns, run by hand (about two hours): runs, workers, packs, launchers and jobs that are
# killed at random moments and go on, every sharding in 1, 2 and 4 processes, also under CUDA's rules, damaged
# videos through everything that reads videos, and an hour of decoding.
# Arguments go to scripts/soak.py (--help).
set -euo pipefail
source "$(dirname "$0")/environment.sh" dev
exec python scripts/soak.py "$@"
