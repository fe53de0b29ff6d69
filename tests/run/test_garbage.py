"""Garbage collection is off while a command starts, and on while it works and afterwards."""

import gc
import sys

import pytest

from videomae.config import RecipesConfig, UserError
from videomae.run import command
from videomae.run.garbage import collection


def fail_without_collection() -> None:
    with collection(on=False):
        assert not gc.isenabled()
        with collection(on=True):
            assert gc.isenabled()
        assert not gc.isenabled()
        raise KeyError


def test_it_is_as_before_after_the_block() -> None:
    with pytest.raises(KeyError):
        fail_without_collection()
    assert gc.isenabled()


@pytest.mark.parametrize("fails", [False, True])
def test_a_command_starts_without_and_works_with_it(
    monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    seen = []

    @command.command("recipes")
    def main(config: RecipesConfig) -> None:
        seen.append(gc.isenabled())
        if fails:
            raise UserError("no")

    def composing(words: list[str], config_class: type) -> None:
        seen.append(gc.isenabled())

    monkeypatch.setattr(command, "check_names", composing)
    monkeypatch.setattr(sys, "argv", ["recipes"])
    if fails:
        with pytest.raises(SystemExit):
            main()
    else:
        main()
    assert seen == [False, True]
    assert gc.isenabled()
