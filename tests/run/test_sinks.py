"""Weights & Biases, offline: the real package, and no server."""

import json
import re
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from tests.train import metrics, pretraining, train
from videomae.config import ConfigError
from videomae.run import sinks
from videomae.run.sinks import WeightsAndBiases


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "settings"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.long
def test_a_run_and_what_goes_on_from_it_are_one_run_there(videos: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    overrides = ("run.wandb=project", "run.image_every=1")
    train(pretraining(videos, directory, *overrides, max_steps=2))
    name = (directory / "wandb" / "id.txt").read_text()
    train(pretraining(videos, directory, *overrides, resume="auto", max_steps=3))
    files = sorted((directory / "wandb").glob("offline-run-*/*.wandb"))
    assert [file.name for file in files] == [f"run-{name}.wandb"] * 2
    written = b"".join(file.read_bytes() for file in files)
    for row in metrics(directory):
        for key in ("loss", "grad_norm"):
            assert json.dumps(row[key]).encode() in written
    assert b"reconstruction" in written
    straight = train(pretraining(videos, tmp_path / "straight", max_steps=3))
    assert metrics(directory) == metrics(straight)


def test_without_the_package_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(sinks.importlib, "import_module", absent)
    with pytest.raises(ConfigError, match=r"run\.wandb=project .*pip install wandb"):
        WeightsAndBiases(tmp_path / "wandb", "project", "name")
    assert not (tmp_path / "wandb").exists()


def test_a_damaged_name_of_the_run_there_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = list[str]()

    def init(**settings: Any) -> Any:
        names.append(settings["id"])
        return SimpleNamespace(define_metric=lambda *_, **__: None)

    package = SimpleNamespace(Image=None, init=init, Settings=lambda **_: None)
    monkeypatch.setattr(sinks.importlib, "import_module", lambda _: package)
    (tmp_path / "id.txt").write_bytes(b"\xff/../x")
    for _ in range(2):
        WeightsAndBiases(tmp_path, "project", "name")
    assert names[0] == names[1] == (tmp_path / "id.txt").read_text()
    assert re.fullmatch(r"[0-9a-f]{8}", names[0])
    assert (tmp_path / "id.txt.damaged").read_bytes() == b"\xff/../x"


def test_a_service_that_does_not_answer_stops_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    never = Event()
    package = SimpleNamespace(Image=None, init=lambda **_: never.wait(), Settings=lambda **_: None)
    monkeypatch.setattr(sinks.importlib, "import_module", lambda _: package)
    monkeypatch.setattr(sinks, "ANSWERS_S", 0.1)
    monkeypatch.setattr(sinks, "ENDS_S", 0.1)
    sink = WeightsAndBiases(tmp_path, "project", "name")
    sink.numbers({"loss": 1.0}, 1)
    sink.close()
    said = "\n".join(caplog.messages)
    assert "has not answered for 0 s: training goes on" in said
    assert "has not ended within 0 s" in said
    never.set()


def test_what_it_refuses_ends_the_run_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> Any:
        raise PermissionError("no API key")

    package = SimpleNamespace(Image=None, init=refuse, Settings=lambda **_: None)
    monkeypatch.setattr(sinks.importlib, "import_module", lambda _: package)
    with pytest.raises(PermissionError, match="no API key"):
        WeightsAndBiases(tmp_path, "project", "name")


def test_what_the_package_says_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = type("UsageError", (Exception,), {"__module__": "wandb.errors"})

    def refuse(**_: Any) -> Any:
        raise refusal("no API key configured\nuse wandb login")

    package = SimpleNamespace(Image=None, init=refuse, Settings=lambda **_: None)
    monkeypatch.setattr(sinks.importlib, "import_module", lambda _: package)
    with pytest.raises(ConfigError, match=r"^run\.wandb=project: no API key configured$"):
        WeightsAndBiases(tmp_path, "project", "name")
