"""Heads fitted on features made by hand, and the probe of a pre-training under way."""

import math
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.conftest import write_list
from tests.test_commands import call
from tests.train import (
    CLASSES,
    PRETRAIN,
    STEPS_PER_EPOCH,
    json_lines,
    metrics,
    pretraining,
    train,
    video_list,
    weights,
)
from tests.train.processes import Job, in_processes
from videomae.config import ConfigError
from videomae.data.dataset import EvaluationClips
from videomae.evaluation.probes import AttentiveProbe, LinearProbe
from videomae.evaluation.probing import (
    EpochProbe,
    ProbeError,
    Recipe,
    Views,
    choose_and_fit,
    fit,
    logits_of,
)
from videomae.lists.clips import read_clips
from videomae.lists.formats import ClipListError
from videomae.model.pixels import normalise
from videomae.pretrain import pretrain
from videomae.weights.load import load_model

RECIPE = Recipe(epochs=30, batch=16, weight_decay=0.01, seed=0)
CPU = torch.device("cpu")
LRS = [1e-3, 1e-2]


def separable(count: int = 90, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features (count, 6), whose first three tell the class, amid noise; and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    features = torch.randn(count, 6, generator=generator)
    features[:, :3] = 4 * torch.eye(3)[labels] + 0.2 * features[:, :3]
    return features, labels


def test_a_linear_probe_separates_what_is_separable() -> None:
    features, labels = separable()
    views = Views(features.__getitem__, labels)
    videos = torch.arange(len(labels))
    chosen = choose_and_fit(lambda: LinearProbe(features, 3), views, videos, LRS, RECIPE, CPU)
    others, their_labels = separable(seed=1)
    logits = logits_of(chosen.head, others.__getitem__, videos, 16, CPU)
    assert (logits.argmax(1) == their_labels).all()
    assert set(chosen.held_out_top1) == set(LRS)
    assert chosen.held_out_top1[chosen.lr] == 100
    assert chosen.num_held_out == len(labels) // 5


def test_only_attention_finds_what_one_token_says() -> None:
    """The mean of the tokens says nothing: the class is in which of two vectors is there at all."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 2
    tokens = 0.1 * torch.randn(120, 5, 8, generator=generator)
    tokens[:, 0, 0] += 3 * (2.0 * labels - 1)
    tokens[:, 1, 0] -= 3 * (2.0 * labels - 1)
    tokens[:, 0, 1] += 3
    tokens -= tokens.mean(1, keepdim=True)
    views = Views(tokens.__getitem__, labels)
    (head,) = fit(lambda: AttentiveProbe(8, 2, 2), views, torch.arange(80), [1e-2], RECIPE, CPU)
    logits = logits_of(head, tokens.__getitem__, torch.arange(80, 120), 16, CPU)
    assert (logits.argmax(1) == labels[80:]).float().mean() > 0.95


def test_fitting_says_how_long_it_takes(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("videomae.run.console.LOG_EVERY_S", 0.0)
    features, labels = separable()
    recipe = replace(RECIPE, name="linear probe")
    views, rows = Views(features.__getitem__, labels), torch.arange(60)
    with caplog.at_level("INFO", logger="videomae"):
        fit(lambda: LinearProbe(features, 3), views, rows, [1e-3, 1e-2], recipe, CPU)
    first, *later = [record.getMessage() for record in caplog.records]
    assert first == "linear probe: fitting on 60 views, 120 steps, 2 learning rates at once"
    assert len(later) == 120
    assert "linear probe: fitting 60 of 120" in later[59]
    assert later[59].endswith(" left")


def test_each_rate_is_fitted_as_if_alone() -> None:
    features, labels = separable()
    views, rows = Views(features.__getitem__, labels), torch.arange(60)
    together = fit(lambda: LinearProbe(features, 3), views, rows, [1e-3, 1e-2, 1e5], RECIPE, CPU)
    for head, lr in zip(together[:2], (1e-3, 1e-2), strict=True):
        (alone,) = fit(lambda: LinearProbe(features, 3), views, rows, [lr], RECIPE, CPU)
        for ours, theirs in zip(head.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_the_views_of_a_video_are_held_out_together() -> None:
    """The features are noise that all views of a video share: whoever knows one knows them all."""
    generator = torch.Generator().manual_seed(0)
    videos = torch.arange(30).repeat_interleave(4)
    features = torch.randn(30, 40, generator=generator)[videos]
    labels = torch.randint(2, (30,), generator=generator)[videos]
    views = Views(features.__getitem__, labels)
    chosen = choose_and_fit(lambda: LinearProbe(features, 2), views, videos, LRS, RECIPE, CPU)
    assert chosen.num_held_out == 6
    assert max(chosen.held_out_top1.values()) < 100
    logits = logits_of(chosen.head, features.__getitem__, torch.arange(120), 16, CPU)
    assert (logits.argmax(1) == labels).all()


def test_one_rate_needs_no_choice_and_one_video_allows_none() -> None:
    features, labels = separable(3)
    views, videos = Views(features.__getitem__, labels), torch.zeros(3, dtype=torch.int64)

    def chosen(lrs: list[float]) -> float:
        return choose_and_fit(lambda: LinearProbe(features, 3), views, videos, lrs, RECIPE, CPU).lr

    assert chosen([0.5]) == 0.5
    with pytest.raises(ProbeError, match=r"1 readable training videos.*probe\.lrs="):
        chosen(LRS)


# During pre-training


def probe_overrides(videos: Path, folder: Path, every: int = 1) -> list[str]:
    folder.mkdir(exist_ok=True)
    neighbours = write_list(folder / "near.txt", [f"{n}.mp4 {n % CLASSES}" for n in range(8)])
    tested = write_list(folder / "far.txt", [f"{n}.mp4 {n % CLASSES}" for n in range(6)])
    return [
        f"probe.every_epochs={every}",
        f"probe.train_list={neighbours}",
        f"probe.test_list={tested}",
        f"probe.root={videos}",
        f"probe.classes={CLASSES}",
        "probe.k=1",
    ]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_probe_changes_nothing_of_the_training(
    videos: Path, tmp_path: Path, workers: int
) -> None:
    run = f"run.workers={workers}"
    plain = train(pretraining(videos, tmp_path / "plain", run))
    probed = train(
        pretraining(videos, tmp_path / "probed", run, *probe_overrides(videos, tmp_path / "lists"))
    )
    ours, theirs = weights(plain), weights(probed)
    assert all(ours[name].equal(theirs[name]) for name in ours)
    rows = metrics(probed)
    assert [row for row in rows if "knn_top1" not in row] == metrics(plain)
    assert [row for row in rows if "knn_top1" in row] == [
        # Each tested video is its own nearest neighbour.
        {"step": step, "epoch": step / STEPS_PER_EPOCH, "knn_top1": 100.0}
        for step in (2, 4, 6)
    ]
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)


def test_a_run_goes_on_with_another_probe_or_none(videos: Path, tmp_path: Path) -> None:
    probe = probe_overrides(videos, tmp_path / "lists", every=2)
    plain = train(pretraining(videos, tmp_path / "plain"))
    directory = train(pretraining(videos, tmp_path / "run", max_steps=3))
    train(pretraining(videos, directory, *probe, resume="auto"))
    ours, theirs = weights(plain), weights(directory)
    assert all(ours[name].equal(theirs[name]) for name in ours)
    probed = [row["step"] for row in json_lines(directory / "metrics.jsonl") if "knn_top1" in row]
    assert probed == [4]


def test_an_unreadable_test_video_counts_as_wrong_and_is_named_once(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    probe = probe_overrides(videos, tmp_path / "lists")
    write_list(tmp_path / "lists" / "far.txt", ["0.mp4 0", "gone.mp4 1"])
    write_list(tmp_path / "lists" / "near.txt", ["gone.mp4 1", "0.mp4 0"])
    directory = train(pretraining(videos, tmp_path / "run", *probe))
    found = [row.get("knn_top1") for row in metrics(directory)]
    assert [value for value in found if value is not None] == [50.0] * 3
    said = capsys.readouterr().err
    assert said.count("line 2 of probe.test_list") + said.count("line 1 of probe.train_list") == 1
    assert not (directory / "bad_files.jsonl").exists()


def test_the_probe_is_of_the_encoder_as_it_is(videos: Path, tmp_path: Path) -> None:
    """Against features computed from the finished weights."""
    probe = probe_overrides(videos, tmp_path / "lists", every=3)
    labels = {n: int(n % 2 == 0) for n in range(12)}
    write_list(tmp_path / "lists" / "near.txt", [f"{n}.mp4 {labels[n]}" for n in range(6)])
    write_list(tmp_path / "lists" / "far.txt", [f"{n}.mp4 {labels[n]}" for n in range(6, 12)])
    config = pretraining(videos, tmp_path / "run", *probe)
    directory = train(config)
    model = load_model(directory, verbose=False)
    data = replace(config.data, segments=1, crops=1)
    everything = video_list(tmp_path / "all.txt", [f"{number}.mp4" for number in range(12)])
    examples = EvaluationClips(read_clips(everything, data, labelled=False), data)
    views = torch.cat([examples[index].clip for index in range(12)])
    with torch.inference_mode():
        means = torch.nn.functional.normalize(model.features(normalise(views)).mean(1), dim=1)
    nearest = (means[6:] @ means[:6].T).argmax(1).tolist()
    right = sum(labels[near] == labels[n] for n, near in enumerate(nearest, start=6))
    (found,) = [row["knn_top1"] for row in metrics(directory) if "knn_top1" in row]
    assert math.isclose(found, 100 * right / 6)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"train_list": None}, ConfigError, "probe.train_list is not set"),
        ({"test_list": "/nowhere"}, ConfigError, "probe.test_list=/nowhere does not exist"),
        ({"classes": None}, ConfigError, "probe.classes is not set"),
        ({"classes": 2}, ClipListError, "label 2 of '2.mp4' lies outside"),
        ({"root": "/"}, ConfigError, "Are probe.root=/ and probe.list_format=auto right?"),
    ],
)
def test_a_probe_that_cannot_work_is_refused_at_the_start(
    videos: Path, tmp_path: Path, change: dict[str, object], error: type[Exception], words: str
) -> None:
    config = pretraining(videos, tmp_path / "run", *probe_overrides(videos, tmp_path / "lists"))
    with pytest.raises(error) as raised:
        pretrain(replace(config, probe=replace(config.probe, **change)))
    assert words in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_the_settings_of_the_probe_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("pretrain", *PRETRAIN, "probe.every_epochs=-1") == 2
    assert "probe.every_epochs must be at least 0" in capsys.readouterr().err


@pytest.mark.long
def test_several_processes_probe_together(videos: Path, tmp_path: Path) -> None:
    """Unequal shares of the lists, and as the same row as of one process."""
    probe = probe_overrides(videos, tmp_path / "lists")
    plain = train(pretraining(videos, tmp_path / "plain", *probe))
    trained = video_list(tmp_path / "train.txt")
    here = [*PRETRAIN, *probe, f"output_dir={tmp_path / 'run'}"]
    data = [f"data.root={videos}", f"data.train_list={trained}"]
    assert in_processes(2, Job("pretrain", [*here, *data])) == [0, 0]
    ours, theirs = (
        [row for row in metrics(directory) if "knn_top1" in row]
        for directory in (plain, tmp_path / "run")
    )
    assert len(ours) == 3
    assert ours == theirs


def test_a_signal_ends_a_probe(videos: Path, tmp_path: Path) -> None:
    probe = probe_overrides(videos, tmp_path / "lists")
    features = EpochProbe.__call__
    asked = []

    def interrupted(self: EpochProbe, model: nn.Module, stop: Callable[[], bool]) -> float | None:
        assert not stop()
        signal.raise_signal(signal.SIGTERM)
        assert stop()
        asked.append(features(self, model, stop))
        return asked[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EpochProbe, "__call__", interrupted)
        with pytest.raises(SystemExit) as end:
            train(pretraining(videos, tmp_path / "run", *probe))
    assert end.value.code == 128 + signal.SIGTERM
    assert asked == [None]
    directory = train(pretraining(videos, tmp_path / "run", *probe, resume="auto"))
    plain = train(pretraining(videos, tmp_path / "plain"))
    ours, theirs = weights(plain), weights(directory)
    assert all(ours[name].equal(theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("rows", "batch", "epochs", "min_steps", "passes"),
    [(200, 64, 20, 1, 20), (200, 64, 20, 1000, 250), (64, 64, 20, 21, 21), (65, 64, 20, 21, 20)],
)
def test_short_lists_are_passed_over_more_often(
    rows: int, batch: int, epochs: int, min_steps: int, passes: int
) -> None:
    assert Recipe(epochs, batch, 0.0, 0, min_steps).passes(rows) == passes
