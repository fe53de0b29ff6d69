"""docs/extending.md quotes the files that the tests beside this one run; its settings work."""

import re
from pathlib import Path

import pytest

from tests.conftest import write_list
from tests.pages import PAGES
from tests.test_commands import call
from tests.train import NUM_VIDEOS, json_lines

HERE = Path(__file__).parent
QUOTED = re.findall(
    r"```(?:python|yaml)\n# (\S+)\n(.*?)```", PAGES["docs/extending.md"], flags=re.DOTALL
)
SETTINGS = f"--config-dir={HERE / 'settings'}"


def test_the_page_quotes_every_file() -> None:
    files = [*HERE.glob("mine/*.py"), *HERE.glob("settings/*/*.yaml")]
    names = {path.relative_to(HERE).as_posix() for path in files} - {"mine/__init__.py"}
    assert {name for name, _ in QUOTED} == names


@pytest.mark.parametrize(("name", "text"), QUOTED, ids=[name for name, _ in QUOTED])
def test_a_file_is_as_the_page_quotes_it(name: str, text: str) -> None:
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
