"""python -m videomae.predict: the classes it tells, the views it takes, what it refuses."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch

from tests.conftest import TINY, composed, write_list, write_video
from tests.miniatures import odd_folder
from tests.test_commands import call
from tests.train import CLASSES, FINETUNE
from videomae.config import ClipConfig
from videomae.data.dataset import EvaluationClips
from videomae.lists.clips import read_clips
from videomae.model.classifier import VideoClassifier
from videomae.model.mae import VideoMAE
from videomae.model.pixels import normalise
from videomae.weights.load import load_model
from videomae.weights.weights import Kind, WeightsInfo, save_weights

MODEL = composed("pretrain", *TINY).model
CLIP = ClipConfig(frames=4, stride=2, size=32)
NAMES = ["jump", "run", "swim"]


def classifier(path: Path, names: list[str] | None = NAMES) -> Path:
    """Random weights whose predictions differ from video to video."""
    torch.manual_seed(5)
    model = VideoClassifier(MODEL, CLIP, CLASSES)
    torch.nn.init.normal_(model.head.weight, std=1.0)
    info = WeightsInfo(Kind.classifier, "tiny", MODEL, CLIP, classes=CLASSES, class_names=names)
    save_weights(path, model.state_dict(), info)
    return path


def encoder_of_pretraining(path: Path) -> Path:
    torch.manual_seed(3)
    model = VideoMAE(MODEL, CLIP)
    save_weights(path, model.state_dict(), WeightsInfo(Kind.pretrain, "tiny", MODEL, CLIP))
    return path


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return classifier(tmp_path / "weights.safetensors")


def predicted(*overrides: str, pictures: bool = False) -> list[dict[str, Any]]:
    """The videos of predictions.json after a run that succeeds."""
    assert call("predict", "run=debug", *overrides, pictures=pictures) == 0
    return json.loads(Path("predictions.json").read_text())["videos"]


def test_the_probabilities_are_the_mean_over_the_views(
    weights: Path, videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (row,) = predicted(f"weights={weights}", f"video={videos / '3.mp4'}", "segments=2", "crops=2")
    data = composed("evaluate", *FINETUNE, f"data.root={videos}", "data.segments=2", "data.crops=2")
    (clip,) = read_clips(write_list(Path("list.txt"), ["3.mp4"]), data.data, labelled=False)
    views = EvaluationClips([clip], data.data)[0].clip
    with torch.inference_mode():
        probs = load_model(weights, verbose=False)(normalise(views)).softmax(1).mean(0)
    order = probs.argsort(descending=True).tolist()
    assert [guess["label"] for guess in row["top"]] == order
    assert [guess["class"] for guess in row["top"]] == [NAMES[label] for label in order]
    expected = [float(probs[label]) for label in order]
    np.testing.assert_allclose([guess["prob"] for guess in row["top"]], expected, rtol=1e-6)
    first = capsys.readouterr().out.splitlines()[1]
    assert first.split() == ["3.mp4", NAMES[order[0]], f"{100 * expected[0]:.1f}"]


def test_it_agrees_with_evaluate(weights: Path, videos: Path, tmp_path: Path) -> None:
    """The list's labels are the predictions: then evaluate finds all of them right."""
    views = ("segments=2", "crops=3")
    rows = predicted(f"weights={weights}", f"video={videos}", *views, "top=1")
    assert [row["video"] for row in rows] == sorted(f"{number}.mp4" for number in range(12))
    labels = [row["top"][0]["label"] for row in rows]
    assert len(set(labels)) > 1
    lines = [f"{row['video']} {label}" for row, label in zip(rows, labels, strict=True)]
    names = write_list(tmp_path / "names.txt", NAMES)
    given = (
        f"weights={weights}",
        f"data.test_list={write_list(tmp_path / 'test.txt', lines)}",
        f"data.root={videos}",
        f"data.class_names={names}",
        *(f"data.{view}" for view in views),
        "output_dir=evaluation",
    )
    fine = [each for each in FINETUNE if not each.startswith(("data.segments", "data.crops"))]
    assert call("evaluate", *fine, *given) == 0
    assert json.loads(Path("evaluation/results.json").read_text())["top1"] == 100


def test_unreadable_files_are_named_and_counted_and_the_rest_goes_on(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "seen" / "deep" / "b.mp4")
    (tmp_path / "seen" / "a.MP4").write_bytes(b"no video")
    (tmp_path / "seen" / "notes.txt").write_text("no video either")
    given = (f"weights={weights}", "video=seen", "segments=1", "crops=1")
    assert call("predict", "run=debug", *given) == 0
    document = json.loads(Path("predictions.json").read_text())
    assert (document["num_videos"], document["num_unreadable"]) == (2, 1)
    bad, good = document["videos"]
    assert (bad["video"], good["video"]) == ("a.MP4", "deep/b.mp4")
    assert "a.MP4" in bad["error"]
    assert len(good["top"]) == CLASSES
    printed = capsys.readouterr()
    assert "cannot be read" in printed.out
    assert "1 of 2 videos: predictions.json, 1 cannot be read" in printed.err


def test_where_nothing_can_be_read_the_status_is_2(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    assert call("predict", "run=debug", f"weights={weights}", "video=a.mp4") == 2
    said = capsys.readouterr().err
    assert "none of the 1 videos can be read; predictions.json says why" in said
    (row,) = json.loads(Path("predictions.json").read_text())["videos"]
    assert "a.mp4" in row["error"]


def test_files_go_to_output_dir(weights: Path, videos: Path, tmp_path: Path) -> None:
    given = (f"weights={weights}", f"video={videos / '0.mp4'}", "segments=1", "crops=1")
    for number, (words, files) in enumerate(
        (
            (["output_dir=uses/x", "sheet=s.png"], ["uses/x/predictions.json", "uses/x/s.png"]),
            (["output_dir=uses", "output=deep/p.json"], ["uses/deep/p.json"]),
            (["output=alone.json"], ["alone.json"]),
            ([f"output={tmp_path}/whole.json", "output_dir=uses"], ["whole.json"]),
        )
    ):
        assert call("predict", "run=debug", *given, *words) == 0, number
        for file in files:
            assert Path(file).is_file(), file
    assert not Path("predictions.json").exists()


def test_what_cannot_be_used_in_a_folder_is_named_and_the_rest_goes_on(
    weights: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = odd_folder(tmp_path / "seen", videos / "0.mp4")
    given = (f"weights={weights}", "video=seen", "segments=1", "crops=1")
    assert call("predict", "run=debug", *given) == 0
    rows = {row["video"]: row for row in json.loads(Path("predictions.json").read_text())["videos"]}
    assert list(rows) == ["deep/ Übung 1.MP4", "good.mp4", *odd]
    assert [name for name, row in rows.items() if "error" in row] == odd
    assert rows["gone.mp4"]["error"] == "a link that leads nowhere: mend or remove it"
    printed = capsys.readouterr()
    assert all(name in printed.out for name in odd)
    words = " ".join(printed.err.split())
    assert "left out: 1 hidden file or folder (1 .mp4), such as ._good.mp4" in words
    assert "left out: 1 file that is no video (1 .txt), such as notes.txt" in words
    assert "2 of 5 videos: predictions.json, 3 cannot be read" in words


def test_a_video_shorter_than_a_clip_is_classified(weights: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "short.mp4", frames=1)
    (row,) = predicted(f"weights={weights}", f"video={video}")
    assert sum(guess["prob"] for guess in row["top"]) == pytest.approx(1)


def test_sheets_show_the_frames_that_were_seen(weights: Path, videos: Path, tmp_path: Path) -> None:
    video = videos / "0.mp4"
    given = (f"weights={weights}", "crops=1")
    predicted(*given, f"video={video}", "segments=2", "sheet=one.png", pictures=True)
    picture = matplotlib.image.imread("one.png")
    assert picture.shape[1] > picture.shape[0] > 100
    (tmp_path / "two" / "deep").mkdir(parents=True)
    for name in ("a.mp4", "deep/$^{b.mp4"):  # no formula
        (tmp_path / "two" / name).write_bytes(video.read_bytes())
    predicted(*given, "video=two", "segments=1", "sheet=sheets", pictures=True)
    assert Path("sheets/a.mp4.png").is_file()
    assert Path("sheets/deep/$^{b.mp4.png").is_file()


def test_classes_go_by_a_file_of_names_or_by_number(videos: Path, tmp_path: Path) -> None:
    weights = classifier(tmp_path / "nameless.safetensors", names=None)
    output = f"output={tmp_path / 'out.json'}"
    given = ("run=debug", f"weights={weights}", f"video={videos / '0.mp4'}", "segments=1", output)
    for extra, expected in (
        ((), {"0", "1", "2"}),
        ((f"class_names={write_list(tmp_path / 'names.txt', NAMES)}",), set(NAMES)),
    ):
        assert call("predict", *given, *extra) == 0
        (row,) = json.loads((tmp_path / "out.json").read_text())["videos"]
        assert {guess["class"] for guess in row["top"]} == expected


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], ["weights is not set", "video is not set"]),
        (["video=nowhere.mp4"], ["video=nowhere.mp4 does not exist"]),
        (["video=empty"], ["video=empty holds no video", ".mp4"]),
        (["video={videos}", "sheet=one.png"], ["one picture, for 12 videos", "sheet=DIR"]),
        (["video={videos}", "output=empty"], ["output=empty is a directory"]),
        (["video={videos}", "output=file/x.json"], ["output=file", "is a file"]),
        (["video={videos}", "sheet=file/x"], ["sheet=file/x", "is a file"]),
        (["video={videos}", "class_names=file"], ["class_names=file names 1 different classes"]),
        (["video={videos}", "segments=0"], ["segments must be at least 1"]),
        (["video={videos}", "decoder=eye"], ["no decoder 'eye'"]),
    ],
)
def test_what_cannot_work_is_refused(
    weights: Path,
    videos: Path,
    overrides: list[str],
    words: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("empty").mkdir()
    Path("file").write_text("one name")
    given = [f"weights={weights}"] * bool(overrides)
    given += [override.format(videos=videos) for override in overrides]
    assert call("predict", "run=debug", *given) == 2
    said = capsys.readouterr().err
    for word in words:
        assert word in said
    assert not Path("predictions.json").exists()


def test_a_pretraining_model_is_told_to_be_fine_tuned_first(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = encoder_of_pretraining(tmp_path / "weights.safetensors")
    assert call("predict", "run=debug", f"weights={weights}", f"video={videos / '0.mp4'}") == 2
    said = capsys.readouterr().err
    assert "is a pre-training model" in said
    assert "python -m videomae.finetune weights=" in said


@pytest.mark.parametrize("what", ["weights", "video", "pipe", "text"])
def test_predictions_replace_predictions_alone(
    weights: Path, videos: Path, tmp_path: Path, what: str
) -> None:
    place = {"weights": weights, "video": tmp_path / "x.mp4"}.get(what, tmp_path / "other")
    video = shutil.copy(videos / "0.mp4", tmp_path / "x.mp4")
    if what == "pipe":
        os.mkfifo(place)
    elif what == "text":
        place.write_text("mine")
    before = place.read_bytes() if place.is_file() else None
    given = (f"weights={weights}", f"video={video}")
    assert call("predict", *given, f"output={place}") == 2
    assert (place.read_bytes() if place.is_file() else None) == before
    for _ in range(2):  # its own it replaces
        assert call("predict", *given, f"output={tmp_path / 'p.json'}") == 0
