#!/usr/bin/env bash
# Set up and check everything: format, lint, types, tests. Arguments go to pytest:
#   scripts/test.sh                 all but the tests that are marked long: eleven minutes on two slow cores
#   scripts/test.sh -m "not soak"   the long ones too, as CI does: twenty
#   scripts/test.sh -m quick        two minutes: some of every room, and the golden numbers
#   scripts/test.sh tests/train     one room, less its long ones
# Tests that are marked soak are left out: scripts/soak.sh tests
set -euo pipefail
if [[ "${1:-}" == --help || "${1:-}" == -h ]]; then sed -n '2,7s/^# //p' "$0"; exit; fi
source "$(dirname "$0")/environment.sh" dev

ruff format --check .
ruff check .
mypy &  # which keeps one core busy, while the tests are collected
types=$!
pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not long and not soak" "$@"  # the last -m counts
wait "$types" || { echo "mypy has found what it names above" >&2; exit 1; }
