"""The commands of the README compose, and the files it names exist."""

import re
import shlex

import pytest
from hydra import compose, initialize_config_dir

from tests.conftest import ROOT
from videomae.config import config_dir
from videomae.schema import COMMANDS, config_object, register

README = (ROOT / "README.md").read_text()


def commands() -> list[list[str]]:
    """Every `python -m videomae...` of the README, also under torchrun, as words."""
    text = README.replace("\\\n", " ")
    found = re.findall(r"^ +((?:python|torchrun) .*-m videomae\..*)$", text, flags=re.MULTILINE)
    return [shlex.split(line, comments=True) for line in found]


def test_the_readme_shows_every_command() -> None:
    shown = {word.removeprefix("videomae.") for words in commands() for word in words}
    assert set(COMMANDS) - {"evaluate"} <= shown
    assert "python -m videomae.evaluate" in README


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_each_command_composes(words: list[str]) -> None:
    module = words.index("-m") + 1
    overrides = [word for word in words[module + 1 :] if word != "..."]
    register()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        name = words[module].removeprefix("videomae.")
        config_object(compose(name, overrides=overrides), name)


def test_files_that_the_readme_names_exist() -> None:
    for script in re.findall(r"scripts/\w+\.\w+", README):
        assert (ROOT / script).is_file(), script
    for row in re.findall(r"\| `(videomae/\w+/)`: ([^|]*)\|", README):
        for module in re.findall(r"`(\w+)`", row[1]):
            assert (ROOT / row[0] / f"{module}.py").is_file(), module
