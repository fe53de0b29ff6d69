# Sourced by the demos, test.sh and soak.sh: a .venv in the checkout with this package and its pinned dependencies.
# usage: source scripts/environment.sh EXTRA      (EXTRA: demo, dev, or several with commas)
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
PYTHON=${PYTHON:-python3}
if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "Python 3.11 or newer is needed, $PYTHON is older: set PYTHON=/path/to/python3.11" >&2
  exit 1
fi
stamp=".venv/installed-$1-$(cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)"
if [ ! -e "$stamp" ]; then
  echo "installing into .venv (about 6 GB, some minutes) ..." >&2
  [ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$1]"
  touch "$stamp"
fi
export PATH="$PWD/.venv/bin:$PATH"
# Large blocks that go back to the kernel after each use cost a third of a CPU step.
export MALLOC_MMAP_THRESHOLD_=4000000000 MALLOC_TRIM_THRESHOLD_=4000000000 MALLOC_TOP_PAD_=100000000
# The tests start hundreds of processes: each would compile the package again, a quarter of what it takes.
unset PYTHONDONTWRITEBYTECODE
