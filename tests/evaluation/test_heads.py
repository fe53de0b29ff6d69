"""What data.target means: losses, predictions and metrics of each head, against others' numbers."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from tests.conftest import composed, write_list
from videomae.config import (
    MULTILABEL,
    REGRESSION,
    ClipConfig,
    ConfigError,
    DataConfig,
    ListFormat,
    UserError,
)
from videomae.evaluation.head import Predictions, measured, results
from videomae.evaluation.head_choice import new_head, target_of
from videomae.evaluation.heads import MultilabelHead, RegressionHead
from videomae.evaluation.metrics import average_precision
from videomae.lists.clips import ClipList, read_clips
from videomae.lists.formats import ClipListError
from videomae.weights.tensors import WeightsError
from videomae.weights.weights import Kind, WeightsInfo

DATA = DataConfig(clip=ClipConfig(frames=4, stride=2, size=32), classes=3)
LABELS = DataConfig(
    clip=DATA.clip, classes=3, target=MULTILABEL, list_format=ListFormat.video_labels
)
VALUES = DataConfig(clip=DATA.clip, target=REGRESSION, list_format=ListFormat.video_values)
NAMES = ["run", "jump", "swim"]


def clips_of(tmp_path: Path, data: DataConfig, *lines: str) -> ClipList:
    return read_clips(write_list(tmp_path / "list.txt", list(lines)), data, labelled=True)


SCORES = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9]), st.booleans()), min_size=1, max_size=30
).filter(lambda rows: any(positive for _, positive in rows))


@settings(max_examples=200)
@given(SCORES)
def test_average_precision_is_that_of_scikit_learn(rows: list[tuple[float, bool]]) -> None:
    """With equal scores among them."""
    scores = np.array([score for score, _ in rows], np.float32)
    positive = np.array([positive for _, positive in rows])
    expected = average_precision_score(positive, scores)
    assert average_precision(scores, positive) == pytest.approx(expected, abs=1e-9)


def test_the_mean_of_average_precisions_leaves_out_classes_without_a_video(tmp_path: Path) -> None:
    clips = clips_of(tmp_path, LABELS, "a.mp4 0", "b.mp4 -", "c.mp4 0,1", "d.mp4 1")
    head = MultilabelHead(NAMES, None, {})
    predicted = np.array([[0.9, 0.1, 0.5], [0.8, 0.2, 0.5], [0.7, 0.3, 0.5], [0.1, 0.05, 0.5]])
    found = results(head, predicted.astype(np.float32), clips, {"segments": 1, "crops": 1})
    first, second = (
        100 * average_precision_score(truth, predicted[:, place])
        for place, truth in enumerate(([1, 0, 1, 0], [0, 0, 1, 1]))
    )
    assert found["per_class"] == {"run": first, "jump": pytest.approx(second), "swim": None}
    assert found["mean_average_precision"] == pytest.approx((first + second) / 2)
    assert list(found) == [
        *("mean_average_precision", "num_videos", "num_unreadable", "views", "per_class"),
    ]


def test_an_unreadable_video_never_makes_a_result_better(tmp_path: Path) -> None:
    clips = clips_of(tmp_path, LABELS, "a.mp4 0", "b.mp4 1", "c.mp4 0,2")
    head = MultilabelHead(NAMES, None, {})
    right = np.array([[0.9, 0.1, 0.2], [0.1, 0.8, 0.1], [0.9, 0.0, 0.9]], np.float32)
    assert head.metrics(right, clips)["mean_average_precision"] == 100
    lost = right.copy()
    lost[2] = np.nan
    assert head.metrics(lost, clips)["per_class"] == {
        "run": pytest.approx(100 * (1 / 2 + 1 / 2 * 2 / 3)),
        "jump": 100,
        "swim": pytest.approx(100 / 3),
    }
    numbers = clips_of(tmp_path, VALUES, "a.mp4 1", "b.mp4 3")
    regression = RegressionHead(["0"], numbers, {})
    near = np.array([[1.5], [np.nan]], np.float32)
    assert regression.metrics(near, numbers)["mean_absolute_error"] == (0.5 + 1) / 2  # the mean, 2


def test_the_error_with_several_classes_is_the_binary_cross_entropy(tmp_path: Path) -> None:
    clips = clips_of(tmp_path, LABELS, "a.mp4 0,2", "b.mp4 -")
    head = new_head(LABELS, clips)
    target = torch.stack([head.target(clip) for clip in clips])
    assert target.tolist() == [[1, 0, 1], [0, 0, 0]]
    outputs = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, -3.0]])
    probs = outputs.double().sigmoid()
    soft = 0.8 * target.double() + 0.1
    expected = -(soft * probs.log() + (1 - soft) * (1 - probs).log()).mean(1)
    torch.testing.assert_close(
        head.errors(outputs, target, 0.2).double(), expected, rtol=1e-5, atol=0
    )
    torch.testing.assert_close(head.predictions(outputs), probs.float())


def test_numbers_are_learned_standardised_and_told_in_their_units(tmp_path: Path) -> None:
    clips = clips_of(tmp_path, VALUES, "a.mp4 100,-0.5", "b.mp4 300,0.5", "c.mp4 200,0.3")
    head = new_head(VALUES, clips)
    target = torch.stack([head.target(clip) for clip in clips])
    torch.testing.assert_close(target.mean(0), torch.zeros(2), rtol=0, atol=1e-6)
    torch.testing.assert_close(target.std(0, correction=0), torch.ones(2))
    told = head.predictions(target).numpy()
    np.testing.assert_allclose(told, [[100, -0.5], [300, 0.5], [200, 0.3]], rtol=1e-5)
    errors = head.errors(target + torch.tensor([[0.5, 3.0]]), target, 0.0)
    torch.testing.assert_close(errors, torch.full((3,), (0.5 * 0.5**2 + 3 - 0.5) / 2))
    found = head.metrics(told + np.array([[10, 0.1]], np.float32), clips)
    assert found["per_value"] == {"0": pytest.approx(10), "1": pytest.approx(0.1, rel=1e-4)}
    assert found["mean_absolute_error"] == pytest.approx(5.05, rel=1e-4)
    again = RegressionHead(head.names, None, head.state())
    np.testing.assert_array_equal(again.predictions(target).numpy(), told)


@pytest.mark.parametrize(
    ("data", "lines", "said"),
    [
        (LABELS, ["a.mp4 0", "b.mp4 0,3"], "list.txt:2: 0,3 of 'b.mp4' lies outside the 3 classes"),
        (LABELS, ["a.mp4 -", "b.mp4 -"], "name no class"),
        (LABELS, ["a.mp4 0", "b.mp4 0, 1"], "list.txt:2: 1 of"),
        (LABELS, ["a.mp4 0", "b.mp4 1.5"], r"list.txt:2: expected 'path 3,17', numbers of classes"),
        (LABELS, ["a.mp4"], "list.txt:1: expected 'path 3,17'"),
        (VALUES, ["a.mp4 1,2", "", "b.mp4 1"], "list.txt:3: 1 of 'b.mp4' are 1 numbers, the first"),
        (
            VALUES,
            ["a.mp4 1", "b.mp4 nan"],
            "list.txt:2: expected 'path 0.5,-2', numbers",
        ),
        (VALUES, ["a.mp4 1", "b.mp4 1e40"], "list.txt:2: 1e40 of 'b.mp4' holds a number beyond"),
    ],
)
def test_a_line_that_does_not_fit_is_named(
    tmp_path: Path, data: DataConfig, lines: list[str], said: str
) -> None:
    if said == "list.txt:2: 1 of":  # after a blank it is a path "b.mp4 0," of class 1
        assert clips_of(tmp_path, data, *lines)[1].path == "b.mp4 0,"
        return
    with pytest.raises(ClipListError, match=said):
        clips_of(tmp_path, data, *lines)


@pytest.mark.parametrize(
    ("target", "form", "said"),
    [
        (MULTILABEL, "auto", "data.target=multilabel needs data.list_format=video_labels"),
        (REGRESSION, "video_labels", "data.target=regression needs data.list_format=video_values"),
        ("class", "video_labels", "one class of each video is needed here, which lists of"),
    ],
)
def test_a_format_is_never_guessed(tmp_path: Path, target: str, form: str, said: str) -> None:
    data = DataConfig(clip=DATA.clip, target=target, list_format=ListFormat[form])
    with pytest.raises(ConfigError, match=said):
        clips_of(tmp_path, data, "a.mp4 0")


def test_a_value_that_never_changes_is_refused(tmp_path: Path) -> None:
    clips = clips_of(tmp_path, VALUES, "a.mp4 1,5", "b.mp4 2,5")
    with pytest.raises(ConfigError, match="value 1 is the same on every line"):
        new_head(VALUES, clips)
    tenths = clips_of(tmp_path, VALUES, *(f"{n}.mp4 0.1" for n in range(12)))
    with pytest.raises(ConfigError, match="value 0 is the same on every line"):
        new_head(VALUES, tenths)  # their standard deviation is 1e-17


def test_a_value_that_float32_cannot_tell_apart_is_refused(tmp_path: Path) -> None:
    """The error of dates in seconds was 16 where that of their mean is 9."""
    clips = clips_of(tmp_path, VALUES, *(f"{n}.mp4 {1_700_000_000 + 3 * n}" for n in range(12)))
    with pytest.raises(ConfigError, match=r"is 1700000016\.5 ± 10\.36, .* subtract 1700000016\.5"):
        new_head(VALUES, clips)
    years = clips_of(tmp_path, VALUES, *(f"{n}.mp4 {2000 + n}" for n in range(4)))
    head = new_head(VALUES, years)
    found = head.predictions(torch.stack([head.target(clip) for clip in years]))
    assert found[:, 0].tolist() == pytest.approx([2000, 2001, 2002, 2003], abs=2e-3)
    assert head.shown(found[3].numpy(), 5) == [("0", "2003")]


def test_another_head_than_that_of_the_weights_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clip = ClipConfig(frames=4, stride=2, size=32)
    info = WeightsInfo(Kind.classifier, "x", composed("pretrain").model, clip, target="mine:H")
    assert target_of(info, "mine:H", "target") == "mine:H"
    assert caplog.text == ""
    assert target_of(info, "mine:Other", "target") == "mine:Other"
    assert (
        "target=mine:Other, but the weights were fine-tuned with data.target=mine:H" in caplog.text
    )


class Odd(RegressionHead):
    """A head with names and a state that tests give."""

    given: ClassVar[dict[str, Any]] = {}

    def __init__(self, names: Any, clips: Any, state: Any) -> None:
        if "names" in self.given:
            self.names = self.given["names"]

    def state(self) -> Any:
        return self.given.get("state", {})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, r"`names` are \[\]"),
        ({"names": [1, 2]}, r"`names` are \[1, 2\]; they must be texts"),
        ({"names": ["a", "a"]}, "`names` are .*, all different"),
        ({"names": ["a"], "state": None}, "`state` returns None, and must return a dict"),
        ({"names": ["a"], "state": {"x": np.float32(1)}}, "`state` returns"),
        ({"names": ["a"], "state": {"x": float("nan")}}, "`state` returns .* finite numbers"),
    ],
)
def test_what_weights_could_not_hold_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], said: str
) -> None:
    monkeypatch.setattr(Odd, "given", given)
    data = replace(VALUES, target=f"{__name__}:Odd")
    with pytest.raises(ConfigError, match=rf"data\.target={__name__}:Odd: its {said}"):
        new_head(data, clips_of(tmp_path, VALUES, "a.mp4 1", "b.mp4 2"))


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"mean": [0.0], "std": [0.0]},
        {"mean": [0.0], "std": [1.0, 1.0]},
        {"mean": [True], "std": [1.0]},
        {"mean": [float("nan")], "std": [1.0]},
        {"mean": "0", "std": [1.0]},
    ],
)
def test_what_weights_of_others_say_of_numbers_is_checked(state: dict[str, object]) -> None:
    with pytest.raises(WeightsError, match="metadata"):
        RegressionHead(["0"], None, state)


class Measures(RegressionHead):
    """A head whose metrics are given."""

    def __init__(self, found: object) -> None:
        self.found = found

    def metrics(self, predicted: Predictions, clips: ClipList) -> Any:
        return self.found


def test_metrics_of_numpy_and_torch_become_those_of_python() -> None:
    """Else results.json could not be written after a whole training."""
    found = {"a": np.float32(0.5), "b": torch.tensor(2), 3: {"c": np.int64(4)}, "d": np.arange(2)}
    plain = measured(Measures(found), np.zeros((1, 1), np.float32), ClipList.of([]))
    assert json.loads(json.dumps(plain)) == {"a": 0.5, "b": 2, "3": {"c": 4}, "d": [0, 1]}
    assert isinstance(plain["a"], float)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, "metrics of .*Measures returns None: it must return numbers by name"),
        ({}, "returns {}"),
        ({"a": {"b": object()}}, "metrics of .*Measures: a: b is <object"),
    ],
)
def test_metrics_that_are_no_numbers_are_named(found: object, said: str) -> None:
    with pytest.raises(UserError, match=said):
        measured(Measures(found), np.zeros((1, 1), np.float32), ClipList.of([]))
