#!/usr/bin/env bash
# Set up and check everything: format, lint, types, tests. Arguments go to pytest:
#   scripts/test.sh                 all of it, as CI does
#   scripts/test.sh -m quick        two minutes: some of every room, and the golden numbers
#   scripts/test.sh -m "not long"   without the tests that take more than ten seconds
# Tests that are marked soak are left out: scripts/soak.sh tests
set -euo pipefail
if [[ "${1:-}" == --help || "${1:-}" == -h ]]; then sed -n '2,6s/^# //p' "$0"; exit; fi
source "$(dirname "$0")/environment.sh" dev

ruff format --check .
ruff check .
mypy &  # which keeps one core busy, while the tests are collected
types=$!
pytest -n 3 --dist loadfile --no-loadscope-reorder "$@"
wait "$types" || { echo "mypy has found what it names above" >&2; exit 1; }
