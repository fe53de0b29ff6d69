"""docs/extending.md shows the files beside this one, from first line to last; its settings work."""

import re
from pathlib import Path

import pytest

from tests.conftest import write_list
from tests.pages import PAGES
from tests.test_commands import call
from tests.train import NUM_VIDEOS, json_lines

HERE = Path(__file__).parent
BLOCKS = re.findall(r"```(?:python|yaml)\n(.*?)```", PAGES["docs/extending.md"], flags=re.DOTALL)
QUOTED = [
    (found[1], block)
    for block in BLOCKS
    if (found := re.search(r"^# ((?:mine|settings)/\S+)$", block, flags=re.MULTILINE))
]
SETTINGS = f"--config-dir={HERE / 'settings'}"


def test_the_page_quotes_every_file() -> None:
    files = [*HERE.glob("mine/*.py"), *HERE.glob("settings/*/*.yaml")]
    names = {path.relative_to(HERE).as_posix() for path in files} - {"mine/__init__.py"}
    assert {name for name, _ in QUOTED} == names


@pytest.mark.parametrize(("name", "text"), QUOTED, ids=[name for name, _ in QUOTED])
def test_a_file_is_as_the_page_quotes_it(name: str, text: str) -> None:
    """From the first line to the last: a comment before "# @package" makes another file of it."""
    assert (HERE / name).read_text() == text


def test_a_data_set_a_model_and_a_recipe_of_ones_own_are_used(videos: Path, place: Path) -> None:
    listed = write_list(place / "list.txt", [f"{n}.mp4 {n % 12}" for n in range(NUM_VIDEOS)])
    lists = [f"data.train_list={listed}", f"data.test_list={listed}", f"data.root={videos}"]
    small = ["run=debug", "optim.global_batch=4", "max_steps=1", "data.clip.frames=4"]
    few = ["data.segments=1", "data.crops=1", "weights=scratch", "output_dir=run"]
    assert call("finetune", SETTINGS, "+exp=gestures", *lists, *small, *few) == 0
    config = (place / "run" / "config.yaml").read_text()
    assert "name: vit_nano" in config
    assert "classes: 12" in config
    assert len(json_lines(place / "run" / "metrics.jsonl")) == 1


def test_they_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("finetune", SETTINGS, "--help") == 0
    shown = capsys.readouterr().out
    assert "vit_nano" in shown
    assert "gestures" in shown


@pytest.mark.parametrize("folder", [SETTINGS, f"hydra.searchpath=[file://{HERE / 'settings'}]"])
def test_recipes_lists_an_exp_of_ones_own(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("recipes", folder, "match=gestures") == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if "gestures" in line]
    assert len(rows) == 1
    cells = [cell.strip() for cell in rows[0].strip(" |").split("|")]
    assert cells[:7] == ["gestures", "finetune", "vit_nano", "gestures", "16", "6.25e-05", "50"]
    assert cells[-1] == "our own trials"


@pytest.mark.parametrize("command", ["recipes", "finetune"])
def test_a_folder_of_settings_that_is_not_there_is_named(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(command, f"--config-dir={tmp_path / 'nowhere'}") == 2
    said = capsys.readouterr().err
    assert f"--config-dir={tmp_path / 'nowhere'} is no folder" in said
