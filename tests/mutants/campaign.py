"""Make each mistake in a copy of the tree, and see whether its test fails."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from pathlib import Path
from queue import SimpleQueue

from tests.conftest import ROOT
from tests.mutants.mistakes import MISTAKES, Mistake

COPIED = ("videomae", "configs", "tests", "scripts", "data_lists", "pyproject.toml", "README.md")
"""What tests need of a checkout."""
TIMEOUT_S = 600


class Status(IntEnum):
    """What pytest ends with."""

    passed = 0
    failed = 1


def copy_tree(target: Path) -> Path:
    """Copy what tests need, without what was compiled."""
    leave = shutil.ignore_patterns("__pycache__")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=leave)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    return target


def status_of(tree: Path, tests: Sequence[str]) -> tuple[int, str]:
    """What pytest ends with on some tests of a tree, and the end of what it says.

    Nothing compiled is kept: a file of the same size, changed twice in a second, would go by what
    was compiled of it before.
    """
    environment = {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
        + [f"tests/{test}" for test in tests],
        cwd=tree,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return done.returncode, done.stdout[-2000:]


def changed(text: str, mistake: Mistake) -> str:
    """The text of a file with the mistake in it.

    Raises:
        ValueError: what is to be replaced does not stand there once.
    """
    if (count := text.count(mistake.old)) != 1:
        raise ValueError(f"{mistake.file} holds {mistake.old!r} {count} times: mend the list")
    return text.replace(mistake.old, mistake.new)


def try_mistake(tree: Path, mistake: Mistake) -> tuple[int, str]:
    """What the mistake's test ends with under it. The tree is then as it was."""
    file = tree / mistake.file
    right = file.read_text()
    file.write_text(changed(right, mistake))
    try:
        return status_of(tree, [mistake.test])
    finally:
        file.write_text(right)


def outcomes(folder: Path, workers: int) -> Iterator[tuple[Mistake, int, str]]:
    """Each mistake, what its test ended with and said; so many at a time, each in a copy."""
    trees: SimpleQueue[Path] = SimpleQueue()
    for number in range(workers):
        trees.put(copy_tree(folder / str(number)))

    def tried(mistake: Mistake) -> tuple[Mistake, int, str]:
        tree = trees.get()
        try:
            return mistake, *try_mistake(tree, mistake)
        finally:
            trees.put(tree)

    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(tried, MISTAKES)


def main_run(folder: Path, workers: int) -> bool:
    """Whether all tests pass without a mistake, and the right one fails under each."""
    began = time.monotonic()
    tests = list(dict.fromkeys(mistake.test for mistake in MISTAKES))
    status, said = status_of(copy_tree(folder / "right"), tests)
    if status != Status.passed:
        print(f"FAILED: without a mistake the tests end with status {status}:\n{said}")
        return False
    print(
        f"{len(tests)} tests pass without a mistake, {time.monotonic() - began:.0f} s", flush=True
    )
    alive = []
    for mistake, status, said in outcomes(folder, workers):
        noticed = status == Status.failed
        alive += [] if noticed else [mistake]
        print(f"{'noticed' if noticed else 'ALIVE'}: {mistake.what} ({mistake.file})", flush=True)
        if status not in (Status.passed, Status.failed):
            print(f"pytest ended with status {status}:\n{said}")
    print(f"{len(MISTAKES) - len(alive)} of {len(MISTAKES)} mistakes noticed")
    return not alive
