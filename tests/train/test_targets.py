"""Fine-tuning for several classes, and for numbers: every command that comes after knows it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import videomae
from tests.conftest import composed, write_list
from tests.model import CLIP, CONFIG, randomise
from tests.test_commands import call
from tests.train import FINETUNE, assert_same_run, json_lines, weights
from videomae.config import AugmentConfig, CropKind
from videomae.data.dataset import EvaluationClips
from videomae.data.loader import Batch
from videomae.data.mix import Mixing, mixed
from videomae.evaluation.heads import RegressionHead
from videomae.lists.clips import read_clips
from videomae.model import VideoClassifier
from videomae.model.pixels import normalise
from videomae.train.objective import Classify
from videomae.weights.formats import read_weights

NUM = 11
LABELS = ("-", "0", "1,2", "0,2", "2", "0,1", "1")
SEVERAL = ("data.target=multilabel", "data.list_format=video_labels")
NUMBERS = ("data.target=regression", "data.list_format=video_values")


def labels(number: int) -> str:
    return LABELS[number % len(LABELS)]


def values(number: int) -> str:
    return f"{100 + 7 * number},{number % 5 / 10}"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with both kinds of lists."""
    for name, target in (("labels", labels), ("values", values)):
        write_list(tmp_path / f"{name}.txt", [f"{n}.mp4 {target(n)}" for n in range(NUM)])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def overrides(videos: Path, name: str, *more: str) -> list[str]:
    keys = ("train_list", "val_list", "test_list")
    kind = SEVERAL if name == "labels" else (*NUMBERS, "optim.label_smoothing=0")
    lists = [f"data.{key}={name}.txt" for key in keys]
    return [*FINETUNE, *kind, f"data.root={videos}", *lists, "eval_every=1", *more]


def results(directory: str) -> dict[str, object]:
    return json.loads((Path(directory) / "results.json").read_text())


def test_lists_with_other_counts_of_numbers_are_refused(
    videos: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_list(place / "three.txt", [f"{n}.mp4 1,2,{n}" for n in range(NUM)])
    given = [*overrides(videos, "values"), "weights=scratch", "output_dir=run"]
    for key in ("val_list", "test_list"):
        assert call("finetune", *given, f"data.{key}={other}") == 2
        said = " ".join(capsys.readouterr().err.split())
        assert f"each line of data.train_list ends in 2 numbers, of data.{key} in 3" in said
    assert not (place / "run").exists()


@pytest.mark.long
def test_several_classes_are_learned_evaluated_predicted_and_reported(
    videos: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = overrides(videos, "labels", "augment.mixup=0.8", "augment.cutmix=1.0")
    assert call("finetune", *given, "weights=scratch", "output_dir=run", "test_weights=best") == 0
    said = capsys.readouterr()
    assert "1.27 classes each" in said.out + said.err
    rows = json_lines(place / "run" / "metrics.jsonl")
    tried = {r["step"]: r["val_mean_average_precision"] for r in rows if len(r) == 2}
    assert len(tried) == 3
    best = json.loads((place / "run" / "best.json").read_text())
    assert best["val_mean_average_precision"] == max(tried.values())
    assert rows[0]["loss"] == pytest.approx(np.log(2), abs=0.05)  # yes or no, at the start

    info = read_weights(place / "run").info
    assert (info.target, info.head, info.class_names) == ("multilabel", {}, ["0", "1", "2"])
    found = results("run")
    assert 0 < found["mean_average_precision"] <= 100  # type: ignore[operator]
    first = json_lines(place / "run" / "predictions.jsonl")[2]
    assert (first["labels"], first["classes"]) == ([1, 2], ["1", "2"])
    assert len(first["top"]) == 3

    assert call("evaluate", *given, "weights=run/best.safetensors", "output_dir=eval") == 0
    again = results("eval")
    assert list(again.pop("shared_with").values()) == [NUM]
    assert all(again[key] == found[key] for key in again)
    capsys.readouterr()
    words = ["weights=run", f"video={videos / '3.mp4'}", "segments=1", "crops=1"]
    assert call("predict", "run=debug", *words) == 0
    assert "class" in capsys.readouterr().out
    (video,) = json.loads((place / "predictions.json").read_text())["videos"]
    shown = {guess["class"]: guess["prob"] for guess in video["top"]}
    assert set(shown) == {"0", "1", "2"}
    assert sum(shown.values()) != pytest.approx(1, abs=0.01)  # each has a chance of its own

    assert call("report", "runs=[run,eval]", "out=report") == 0
    table = capsys.readouterr().out
    value = found["mean_average_precision"]
    assert table.count(f"mean average precision, % {value:.4g}") == 2
    page = (place / "report" / "report.html").read_text()
    assert f"{value:.4g}" in page
    assert "Validation mean average precision, %" in page


@pytest.mark.long
def test_numbers_are_learned_evaluated_predicted_and_reported(
    videos: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = write_list(place / "names.txt", ["speed", "angle"])
    given = overrides(videos, "values", f"data.class_names={names}")
    assert call("finetune", *given, "weights=scratch", "output_dir=run", "test_weights=best") == 0
    capsys.readouterr()
    rows = json_lines(place / "run" / "metrics.jsonl")
    tried = {r["step"]: r["val_mean_absolute_error"] for r in rows if len(r) == 2}
    best = json.loads((place / "run" / "best.json").read_text())
    assert best["val_mean_absolute_error"] == min(tried.values())
    info = read_weights(place / "run").info
    expected = np.array([[float(x) for x in values(n).split(",")] for n in range(NUM)])
    assert info.class_names == ["speed", "angle"]
    np.testing.assert_allclose(info.head["mean"], expected.mean(0))
    np.testing.assert_allclose(info.head["std"], expected.std(0))

    plain = [word for word in given if not word.startswith("data.class_names")]
    assert call("evaluate", *plain, "weights=run/best.safetensors", "output_dir=eval") == 0
    found, again = results("run"), results("eval")
    assert list(again.pop("shared_with").values()) == [NUM]
    assert all(again[key] == found[key] for key in again)
    predicted = np.array(
        [list(row["values"].values()) for row in json_lines(place / "eval" / "predictions.jsonl")]
    )
    errors = np.abs(predicted - expected).mean(0)
    assert found["per_value"] == pytest.approx({"speed": errors[0], "angle": errors[1]}, rel=1e-4)
    assert found["mean_absolute_error"] == pytest.approx(errors.mean(), rel=1e-4)

    # The model's own outputs, by hand
    data = composed("evaluate", *plain, "weights=x").data
    views = EvaluationClips(read_clips("values.txt", data, labelled=True), data)[4].clip
    with torch.no_grad():
        outputs = videomae.load_model("run/best.safetensors")(normalise(views)).mean(0)  # type: ignore[operator]
    units = outputs.numpy() * info.head["std"] + info.head["mean"]
    np.testing.assert_allclose(predicted[4], units, rtol=1e-4)

    capsys.readouterr()
    words = ["weights=run", f"video={videos / '3.mp4'}", "segments=1", "crops=1", "sheet=3.png"]
    assert call("predict", "run=debug", *words) == 0
    assert "speed" in capsys.readouterr().out
    (video,) = json.loads((place / "predictions.json").read_text())["videos"]
    assert video["values"].keys() == {"speed", "angle"}
    assert call("report", "runs=[run,eval]", "out=report") == 0
    table = capsys.readouterr().out
    assert table.count(f"mean absolute error {found['mean_absolute_error']:.4g}") == 2
    assert "angle" in (place / "report" / "report.html").read_text()


@pytest.mark.soak
def test_a_regression_goes_on_as_if_it_had_never_stopped(videos: Path, place: Path) -> None:
    given = [*overrides(videos, "values"), "weights=scratch"]
    assert call("finetune", *given, "output_dir=whole") == 0
    assert call("finetune", *given, "output_dir=parts", "max_steps=3") == 0
    assert call("finetune", *given, "output_dir=parts", "resume=auto", "run.workers=2") == 0
    assert_same_run(place / "whole", place / "parts")


@pytest.mark.long
def test_a_head_travels_only_to_what_it_was_trained_for(
    videos: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = overrides(videos, "labels")
    assert call("finetune", *given, "weights=scratch", "output_dir=first") == 0
    capsys.readouterr()
    assert call("finetune", *given, "weights=first", "output_dir=same", "max_steps=1") == 0
    assert "head: new" not in capsys.readouterr().err
    write_list(place / "classes.txt", [f"{n}.mp4 {n % 3}" for n in range(NUM)])
    classes = [*FINETUNE, f"data.root={videos}"]
    classes += [f"data.{key}=classes.txt" for key in ("train_list", "test_list")]
    assert call("finetune", *classes, "weights=first", "output_dir=other", "max_steps=1") == 0
    said = capsys.readouterr()
    assert "head: new, for 3 classes in place of 3 others" in said.out + said.err
    assert weights(place / "other").keys() == weights(place / "first").keys()


def test_the_targets_of_mixed_views_are_mixed() -> None:
    """Which the errors with both of them are not, as the smooth L1 error is not linear."""
    config = AugmentConfig(CropKind.random_resized, antialias=False, mixup=0.8)
    model = VideoClassifier(CONFIG, CLIP, classes=2).eval()
    randomise(model)
    frames = torch.randint(0, 256, (4, 4, 12, 12, 3), dtype=torch.uint8)
    target, valid = torch.randn(4, 2), torch.tensor([True, True, True, True])
    batch = Batch(frames, torch.arange(4), target, valid, None, None, 0, [])
    mixing = Mixing(config, block=2, frame=(12, 12), repeats=2, seed=0)
    errors = RegressionHead(["0", "1"], None, {"mean": [0, 0], "std": [1, 1]}).errors
    inputs = Classify(model, 0.0, mixing, errors).inputs(batch, 1, 0)
    drawn = mixing.draw(1, 0, valid)
    share = drawn.label[:, None]
    assert 0 < share[0] < 1
    soft = share * target + (1 - share) * target.flip(0)
    expected = errors(model(mixed(normalise(frames), drawn)), soft, 0.0).sum()
    torch.testing.assert_close(Classify(model, 0.0, mixing, errors)(*inputs.tensors), expected)


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        ("pretrain", ["data.target=multilabel"], "data.target=multilabel has no meaning in pre-tr"),
        ("probe", ["data.target=regression"], "a probe needs one class of each video"),
        ("finetune", [*NUMBERS, "optim.label_smoothing=0.1"], "give optim.label_smoothing=0"),
        ("finetune", ["data.target=many"], "data.target must be one of class, multilabel, regr"),
        ("finetune", [*SEVERAL, "data.prepared=x", "data.split=all"], "data.split=all takes the m"),
        ("predict", ["target=multilabel"], "is not of the form package.module:Name"),
    ],
)
def test_settings_that_cannot_be_together_are_named(
    place: Path, capsys: pytest.CaptureFixture[str], command: str, words: list[str], said: str
) -> None:
    assert call(command, *words) == 2
    assert said in capsys.readouterr().err


def test_weights_are_not_taken_for_what_they_are_not(
    videos: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = overrides(videos, "labels", "max_steps=1")
    assert call("finetune", *given, "weights=scratch", "output_dir=run") == 0
    values = overrides(videos, "values")
    assert call("evaluate", *values, "weights=run", "output_dir=e") == 2
    assert "the weights were fine-tuned with data.target=multilabel" in capsys.readouterr().err
    target = ["weights=run", "target=out.pth", "format=official"]
    assert call("convert", *target) == 2
    assert "data.target=multilabel, which format=official cannot say" in capsys.readouterr().err
    assert not (place / "out.pth").exists()
