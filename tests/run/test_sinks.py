"""Weights & Biases, offline, and MLflow: the real packages, and no server."""

import json
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.train import metrics, pretraining, train
from videomae.config import ConfigError
from videomae.run import sinks
from videomae.run.sinks import MLflow, WeightsAndBiases


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "settings"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))


def wait_for(words: bytes, files: Iterable[Path]) -> None:
    """Wait until one of the files holds these words: the package's own process writes them some
    time after the run has ended."""
    files, end = list(files), time.monotonic() + 60
    while not any(words in file.read_bytes() for file in files):
        assert time.monotonic() < end, f"{words!r} is in none of {files}"
        time.sleep(0.1)


@pytest.mark.long
def test_a_run_and_what_goes_on_from_it_are_one_run_there(videos: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    overrides = ("run.wandb=project", "run.image_every=1")
    train(pretraining(videos, directory, *overrides, max_steps=2))
    name = (directory / "wandb" / "id.txt").read_text()
    train(pretraining(videos, directory, *overrides, resume="auto", max_steps=3))
    files = sorted((directory / "wandb").glob("offline-run-*/*.wandb"))
    assert [file.name for file in files] == [f"run-{name}.wandb"] * 2
    for row in metrics(directory):
        for key in ("loss", "grad_norm"):
            wait_for(json.dumps(row[key]).encode(), files)
    wait_for(b"reconstruction", files)
    straight = train(pretraining(videos, tmp_path / "straight", max_steps=3))
    assert metrics(directory) == metrics(straight)


def test_without_the_package_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(sinks.importlib, "import_module", absent)
    with pytest.raises(ConfigError, match=r'run\.wandb=project .*pip install "videomae\[wandb\]"'):
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
    sink._sender._thread.join(60)  # no thread of this test writes into the log of another


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


def test_a_warning_stands_in_the_summary_there(tmp_path: Path) -> None:
    (tmp_path / "wandb").mkdir()
    sink = WeightsAndBiases(tmp_path / "wandb", "project", "name")
    sink.text("warnings/chance", "the loss stays at chance", 7)
    sink.close()
    wait_for(b"the loss stays at chance", (tmp_path / "wandb").glob("offline-run-*/*.wandb"))


# MLflow


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package, which uses the store that a test names."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    return pytest.importorskip("mlflow", reason="the extra mlflow is not installed")


def logged_runs(store: Any, address: str, experiment: str = "tiny") -> tuple[Any, list[Any]]:
    """A client, and the runs of an experiment."""
    client = store.MlflowClient(tracking_uri=address)
    found = client.get_experiment_by_name(experiment)
    return client, client.search_runs([found.experiment_id])


@pytest.mark.long
def test_mlflow_holds_the_numbers_of_a_run_and_of_what_goes_on_from_it(
    store: Any, videos: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "a run"
    overrides = ("run.mlflow=tiny", "run.image_every=1")
    train(pretraining(videos, directory, *overrides, max_steps=2))
    train(pretraining(videos, directory, *overrides, resume="auto", max_steps=3))
    client, (run,) = logged_runs(store, f"sqlite:///{directory}/mlflow/mlflow.db")
    assert run.info.status == "FINISHED"
    rows = metrics(directory)
    assert len(rows) == 3
    for key in ("loss", "grad_norm", "lr"):
        there = client.get_metric_history(run.info.run_id, key)
        assert [(each.step, each.value) for each in there] == [(r["step"], r[key]) for r in rows]
    pictures = client.list_artifacts(run.info.run_id, "images")
    assert any("reconstruction" in picture.path for picture in pictures)
    assert {path.name for path in tmp_path.iterdir()} == {"a run"}
    straight = train(pretraining(videos, tmp_path / "straight", max_steps=3))
    assert rows == metrics(straight)


@pytest.mark.long
def test_mlflow_writes_into_its_folder_whatever_its_name_is(
    store: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number, name in enumerate(("a b [x=1] $é", "a?b", "a%20b", "a#b")):
        (tmp_path / name).mkdir()
        sink = MLflow(tmp_path / name, "tiny", "name")
        sink.numbers({"loss": 1.5}, 7)
        sink.image("picture", np.zeros((8, 8, 3), dtype=np.uint8), 7)
        sink.text("warnings/chance", "the loss stays at chance", 7)
        sink.close()
        there = {path.name for path in (tmp_path / name).iterdir()}
        assert there == ({"mlflow.db", "artifacts", "id.txt"} if number == 0 else set())
    _, (run,) = logged_runs(store, f"sqlite:///{tmp_path}/a b [x=1] $é/mlflow.db")
    assert run.data.tags["warnings/chance"] == "the loss stays at chance"
    assert {path.name for path in tmp_path.iterdir()} == {"a b [x=1] $é", "a?b", "a%20b", "a#b"}
    assert sum("set MLFLOW_TRACKING_URI" in each for each in caplog.messages) == 3


@pytest.mark.long
def test_mlflow_takes_the_store_of_the_environment_and_reports_nothing(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"sqlite:///{tmp_path}/all.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        sink = MLflow(tmp_path / name, "tiny", name)
        sink.numbers({"loss": 1.5}, 7)
        sink.close()
    client, runs = logged_runs(store, address)
    assert {run.info.run_name for run in runs} == {"one", "two"}
    assert all(run.data.metrics == {"loss": 1.5} for run in runs)
    assert not (tmp_path / "one" / "mlflow.db").exists()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    client.delete_run((tmp_path / "one" / "id.txt").read_text())
    (tmp_path / "two" / "id.txt").write_text("0" * 32)  # of another store
    for name in ("one", "two"):
        sink = MLflow(tmp_path / name, "tiny", name)
        sink.numbers({"loss": 2.5}, 8)
        sink.close()
    values = sorted(run.data.metrics["loss"] for run in logged_runs(store, address)[1])
    assert values == [1.5, 2.5, 2.5]


@pytest.mark.long
def test_a_store_that_cannot_be_used_ends_no_training(
    store: Any,
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nothing://known")
    directory = train(pretraining(videos, tmp_path / "run", "run.mlflow=tiny", max_steps=2))
    assert len(metrics(directory)) == 2
    said = capsys.readouterr().err
    assert said.count("run.mlflow=tiny: MLflow cannot be used, and training goes on") == 1


def package_of(client: Any) -> Any:
    """A package like MLflow, whose clients are `client`."""
    entities = SimpleNamespace(Metric=lambda *values: values)
    return SimpleNamespace(
        MlflowClient=lambda **_: client, MlflowException=ValueError, entities=entities
    )


def test_a_store_that_does_not_answer_or_fails_later_stops_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:1")
    never = Event()
    client = SimpleNamespace(get_experiment_by_name=lambda _: never.wait())
    monkeypatch.setattr(sinks.importlib, "import_module", lambda _: package_of(client))
    monkeypatch.setattr(sinks, "ANSWERS_S", 0.1)
    monkeypatch.setattr(sinks, "ENDS_S", 0.1)
    sink = MLflow(tmp_path, "tiny", "name")
    sink.numbers({"loss": 1.0}, 1)
    sink.close()
    said = "\n".join(caplog.messages)
    assert "MLflow has not answered for 0 s: training goes on" in said
    assert "MLflow has not ended within 0 s: metrics.jsonl" in said
    never.set()
    sink._sender._thread.join(60)  # what it answers then is of no use, and that is told
    assert caplog.messages[-1].startswith("MLflow gets no more: AttributeError")

    monkeypatch.setattr(sinks, "ANSWERS_S", 60)
    monkeypatch.setattr(sinks, "ENDS_S", 60)

    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    found = SimpleNamespace(experiment_id="1", info=SimpleNamespace(run_id="a"))
    client.get_experiment_by_name = client.create_run = lambda *_, **__: found
    client.log_batch = full
    caplog.clear()
    sink = MLflow(tmp_path, "tiny", "name")
    for step in range(3):
        sink.numbers({"loss": 1.0}, step)
    sink.close()
    assert caplog.messages == ["MLflow gets no more: OSError: no space left"]


def test_without_mlflow_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(sinks.importlib, "import_module", absent)
    with pytest.raises(ConfigError, match=r'run\.mlflow=tiny .*pip install "videomae\[mlflow\]"'):
        MLflow(tmp_path / "mlflow", "tiny", "name")
