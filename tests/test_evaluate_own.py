"""Evaluations of a run on own videos: where they lie, how they are named, what is advised."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import write_list, write_video
from tests.test_commands import call
from videomae.report.gather import read_run
from videomae.report.summary import rows

Error = Callable[..., str]
PREPARED = "data.prepared=outputs/mine/prepared"
ONE_VIEW = ("data.segments=1", "data.crops=1", "run=debug")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the folder `dance clips` and outputs/mine, fine-tuned on it."""
    place = tmp_path_factory.mktemp("own")
    for number in range(10):
        path = place / "dance clips" / "ab"[number % 2] / f"{number}.mp4"
        write_video(path, seed=number, frames=10, height=48, width=64)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        given = ("data.videos=dance clips", "weights=scratch", "name=mine", "max_steps=1")
        assert call("finetune", *given, *ONE_VIEW) == 0
    return place


@pytest.fixture
def place(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That working directory, as the current one."""
    monkeypatch.chdir(trained)
    return trained


@pytest.fixture
def error_of(capsys: pytest.CaptureFixture[str]) -> Error:
    """A function that returns the error of an evaluation."""

    def error(*words: str) -> str:
        assert call("evaluate", *words, *ONE_VIEW) == 2
        return capsys.readouterr().err

    return error


def evaluated(directory: str, *words: str) -> dict[str, Any]:
    """results.json of an evaluation that is written to a directory."""
    assert call("evaluate", "weights=outputs/mine", *words, *ONE_VIEW) == 0
    found: dict[str, Any] = json.loads(Path(directory, "results.json").read_text())
    return found


@pytest.mark.long
def test_it_lies_below_the_run_and_has_its_name(place: Path, error_of: Error) -> None:
    assert evaluated("outputs/mine/evaluation", PREPARED)["data"] == "dance clips"
    assert not Path("outputs/finetune").exists()
    assert not Path("outputs/evaluate").exists()
    record = read_run(Path("outputs/mine/evaluation"))
    assert (record.name, record.data) == ("mine", "dance clips")
    assert read_run(Path("outputs/mine")).data == "dance clips"  # one group of the table
    said = error_of("weights=outputs/mine", PREPARED)
    assert "outputs/mine/evaluation already holds" in said
    assert "overwrite=true" in said
    assert "name" in said
    assert "resume" not in said


@pytest.mark.long
def test_a_run_that_max_steps_ended_is_marked(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("data.videos=dance clips", "weights=scratch", "optim.epochs=3", *ONE_VIEW)
    assert call("finetune", *given, "name=short", "max_steps=1") == 0
    assert "unfinished: max_steps=1 ended training at step 1 of " in capsys.readouterr().err
    (row,) = rows([read_run(Path("outputs/short"))])
    assert [text for text in row.remarks if text.startswith("ended by max_steps=1: step 1,")]
    assert call("finetune", *given, "name=short", "resume=auto", "max_steps=null") == 0
    assert "unfinished" not in capsys.readouterr().err
    (row,) = rows([read_run(Path("outputs/short"))])
    assert "max_steps" not in " ".join(row.remarks)


def test_test_videos_that_were_trained_on_are_said_beside_the_result(place: Path) -> None:
    lists = ("data.test_list=outputs/mine/prepared/train.txt", "data.root=dance clips")
    results = evaluated("seen", *lists, "output_dir=seen")
    run = next(iter(results["shared_with"]))
    assert results["shared_with"] == {run: 8}
    assert run.startswith("the training list of ")
    assert run.endswith("outputs/mine")
    (row,) = rows([read_run(Path("seen"))])
    assert f"8 of 8 videos are in {run} too" in row.remarks
    assert "shared_with" not in evaluated("unseen", PREPARED, "output_dir=unseen")


def test_a_name_or_a_place_of_ones_own_is_kept(place: Path) -> None:
    evaluated("outputs/other/evaluation", PREPARED, "name=other")
    evaluated("there", PREPARED, "output_dir=there")
    assert read_run(Path("outputs/other/evaluation")).name == "other"
    weights = "weights=outputs/mine/weights.safetensors"
    evaluated("outputs/third/evaluation", PREPARED, "name=third", weights)


def test_weights_without_a_run_touch_no_run_of_the_default_name(place: Path) -> None:
    Path("w.safetensors").write_bytes(Path("outputs/mine/weights.safetensors").read_bytes())
    evaluated("outputs/evaluate/evaluation", PREPARED, "weights=w.safetensors")
    assert not Path("outputs/finetune").exists()


def test_the_data_of_an_exp_are_not_named_where_others_are_evaluated_on(place: Path) -> None:
    given = ("+exp=ucf101", "overwrite=true")
    assert evaluated("outputs/ucf101/evaluation", *given, PREPARED)["data"] == "dance clips"
    Path("steps").mkdir()
    write_list(place / "steps" / "test.txt", ["a/0.mp4 0", "b/1.mp4 1"])
    own = ("data.test_list=steps/test.txt", "data.root=dance clips")
    assert evaluated("outputs/ucf101/evaluation", *given, *own)["data"] == "steps"
    assert read_run(Path("outputs/ucf101/evaluation")).data == "steps"
    assert evaluated("there2", *own, "output_dir=there2")["data"] == "steps"


def test_lists_of_the_run_are_named_where_none_are_given(place: Path, error_of: Error) -> None:
    said = error_of("weights=outputs/mine")
    assert "data.test_list is not set" in said
    assert f"made lists: {PREPARED}\n" in said
    assert "--help" not in said
    assert "outputs/mine/prepared" not in error_of("weights=w.safetensors")
