#!/usr/bin/env bash
# Long randomised campaigns, run by hand, all of them (some hours) or those that are named: runs, workers, packs,
# curations and launchers that are killed at random moments and go on, every sharding, damaged videos through all
# that reads videos, an hour of decoding, the tests that are marked soak, and mistakes that the tests must notice.
# Arguments go to scripts/soak.py (--help).
set -euo pipefail
source "$(dirname "$0")/environment.sh" dev
exec python scripts/soak.py "$@"
