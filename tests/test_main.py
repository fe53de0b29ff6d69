"""`videomae VERB`, the same as `python -m videomae.VERB`."""

import subprocess
import sys

import pytest

import videomae
from videomae.run.schema import COMMANDS


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Call `python -m videomae`, which the program of that name calls."""
    return subprocess.run(
        [sys.executable, "-m", "videomae", *words], capture_output=True, text=True, check=False
    )


def test_alone_it_lists_every_command() -> None:
    done = run()
    assert done.returncode == 0
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("    ")]
    assert listed[-len(COMMANDS) :] == list(COMMANDS)
    assert run("--help").stdout == done.stdout


def test_the_version_is_the_package_s() -> None:
    assert run("--version").stdout == f"{videomae.__version__}\n"


@pytest.mark.parametrize("words", [("recipes", "match=demo"), ("recipes", "--help")])
def test_a_verb_is_its_module(words: tuple[str, ...]) -> None:
    verb, *rest = words
    module = [sys.executable, "-m", f"videomae.{verb}", *rest]
    other = subprocess.run(module, capture_output=True, text=True, check=True)
    assert run(*words).stdout == other.stdout


def test_a_misspelt_verb_is_answered_by_the_nearest() -> None:
    done = run("pretain")
    assert done.returncode == 2
    assert done.stderr == "error: there is no command 'pretain'; did you mean pretrain?\n"
    assert "there are pretrain finetune" in run("xyzzy").stderr
