"""Pictures: what they show, and that they are pictures."""

import json
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor

from videomae.config import ClipConfig, ModelConfig, Precision
from videomae.model import VideoMAE
from videomae.model.mae import MaskIndices
from videomae.model.pixels import normalise
from videomae.pictures.figures import (
    GREY,
    filmstrip,
    reconstruction_rows,
    save_confusion,
    save_contact_sheet,
    save_curves,
    save_loss_curve,
    save_reconstructions,
    sheet_layout,
)

MODEL = ModelConfig(
    name="tiny",
    dim=16,
    depth=1,
    heads=2,
    mlp_dim=32,
    patch=8,
    decoder_dim=16,
    decoder_heads=2,
    decoder_mlp_dim=32,
    decoder_depth=1,
)
CLIP = ClipConfig(frames=4, stride=1, size=32)
TOKENS = 2 * 4 * 4
FLOAT32 = Precision.float32


@pytest.fixture
def model() -> VideoMAE:
    torch.manual_seed(0)
    return VideoMAE(MODEL, CLIP).eval()


@pytest.fixture
def frames() -> Tensor:
    """Two clips as decoded, one of which has flat tubelets."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, 4, 32, 32, 3), dtype=np.uint8)
    pixels[1, :, :16] = 200
    return torch.from_numpy(pixels)


@pytest.fixture
def mask() -> Tensor:
    """Another half of the tokens of each clip."""
    rng = np.random.default_rng(1)
    return torch.from_numpy(np.stack([rng.permutation(TOKENS) < TOKENS // 2 for _ in range(2)]))


def hidden_pixels(mask: Tensor) -> Tensor:
    """(B, T, H, W, 3) bool, written out by loops: token n is time-major, then row by row."""
    hidden = torch.zeros(len(mask), 4, 32, 32, 3, dtype=torch.bool)
    for clip in range(len(mask)):
        for token in range(TOKENS):
            t, rest = divmod(token, 16)
            row, column = divmod(rest, 4)
            places = (slice(2 * t, 2 * t + 2), slice(8 * row, 8 * row + 8))
            hidden[(clip, *places, slice(8 * column, 8 * column + 8))] = mask[clip, token]
    return hidden


def test_visible_places_are_the_original_and_hidden_ones_grey(
    model: VideoMAE, frames: Tensor, mask: Tensor
) -> None:
    original, masked, rebuilt = reconstruction_rows(
        model, normalise(frames), mask, Precision.float32
    )
    hidden = hidden_pixels(mask)
    assert original.shape == masked.shape == rebuilt.shape == frames.shape
    torch.testing.assert_close(original, frames.float() / 255, rtol=0, atol=1e-6)
    assert (masked[hidden] == GREY).all()
    assert masked[~hidden].equal(original[~hidden])
    assert rebuilt[~hidden].equal(original[~hidden])
    changed = (rebuilt - original).abs()[hidden]
    assert changed.mean() > 0.05  # an untrained model rebuilds nothing
    assert rebuilt.min() >= 0
    assert rebuilt.max() <= 1


def test_a_perfect_prediction_rebuilds_the_original(
    model: VideoMAE, frames: Tensor, mask: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    rebuild = model.rebuild

    def perfect(clip: Tensor, masks: MaskIndices) -> tuple[Tensor, Tensor]:
        _, target = rebuild(clip, masks)
        return target, target

    monkeypatch.setattr(model, "rebuild", perfect)
    original, masked, rebuilt = reconstruction_rows(
        model, normalise(frames), mask, Precision.float32
    )
    torch.testing.assert_close(rebuilt, original, rtol=0, atol=1e-5)
    assert not torch.allclose(masked, original, atol=0.1)


def test_a_prediction_of_zero_is_the_mean_colour_of_each_tubelet(
    model: VideoMAE, frames: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = torch.ones(2, TOKENS, dtype=torch.bool)
    mask[:, 5] = False

    def nothing(clip: Tensor, masks: MaskIndices) -> tuple[Tensor, Tensor]:
        prediction = torch.zeros(2, masks.decoded.shape[1], 2 * 8 * 8 * 3)
        return prediction, prediction

    monkeypatch.setattr(model, "rebuild", nothing)
    original, _, rebuilt = reconstruction_rows(model, normalise(frames), mask, FLOAT32)
    first = original[0, :2, :8, :8].mean((0, 1, 2))  # token 0
    torch.testing.assert_close(rebuilt[0, :2, :8, :8], first.expand(2, 8, 8, 3))


def test_drawing_leaves_the_model_as_it_was(model: VideoMAE, frames: Tensor, mask: Tensor) -> None:
    reconstruction_rows(model.train(), normalise(frames), mask, FLOAT32)
    assert model.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_a_filmstrip_puts_frames_beside_and_rows_below_each_other() -> None:
    rows = [torch.full((3, 4, 5, 3), 0.0), torch.rand(3, 4, 5, 3)]
    strip = filmstrip(rows, gap=2)
    assert strip.shape == (2 * (4 + 2), 3 * (5 + 2), 3)
    assert strip.dtype == np.uint8
    assert (strip[:4, :5] == 0).all()
    assert (strip[4:6] == 255).all()
    assert (strip[:, 5:7] == 255).all()
    second = (rows[1][1] * 255).round().byte().numpy()
    np.testing.assert_array_equal(strip[6:10, 7:12], second)


def picture(path: Path, least: tuple[int, int] = (200, 300)) -> NDArray[np.float32]:
    """A PNG that is one, and shows something."""
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    image: NDArray[np.float32] = matplotlib.image.imread(path)
    assert image.shape[0] >= least[0]
    assert image.shape[1] >= least[1]
    assert len(np.unique((image[::2, ::2, :3] @ [1, 300, 90_000]).round(2))) > 20  # colours
    return image


@pytest.mark.parametrize(("clips", "frames"), [(1, 4), (2, 16), (3, 8), (4, 16)])
def test_reconstructions_are_drawn(tmp_path: Path, clips: int, frames: int) -> None:
    torch.manual_seed(0)
    original, hidden, rebuilt = torch.rand(3, clips, frames, 32, 32, 3)
    path = tmp_path / "new" / "reconstruction.png"
    save_reconstructions(path, (original, hidden, rebuilt), "title")
    first = picture(path)
    assert first.shape[0] <= 1000  # fits a screen
    save_reconstructions(path, (original, hidden, 1 - rebuilt), "title")
    assert not np.array_equal(picture(path), first)
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # no temporary file is left


@pytest.mark.parametrize(
    ("segments", "crops", "size", "number"),
    [
        (5, 3, (32, 32), 16),
        (10, 3, (32, 32), 16),
        (4, 3, (32, 32), 16),
        (1, 1, (32, 32), 4),
        (15, 1, (32, 32), 8),
        (2, 3, (64, 32), 16),
        (2, 3, (32, 64), 16),
        (16, 3, (32, 32), 32),
    ],
)
def test_a_contact_sheet_fits_a_screen(
    tmp_path: Path, segments: int, crops: int, size: tuple[int, int], number: int
) -> None:
    torch.manual_seed(0)
    frames = torch.randint(0, 256, (segments * crops, number, *size, 3), dtype=torch.uint8)
    save_contact_sheet(tmp_path / "sheet.png", frames, segments, crops, "title $^{")
    sheet = picture(tmp_path / "sheet.png", least=(100, 200))
    assert sheet.shape[0] <= 1000
    assert sheet.shape[1] <= 1400


def test_a_contact_sheet_of_15_views_has_a_row_for_each_segment_and_frames_that_are_seen() -> None:
    rows, columns, frames, wide = sheet_layout(5, 3, 8, 1.0)
    assert (rows, columns) == (5, 3)
    assert frames >= 4
    assert wide >= 0.6
    assert sheet_layout(1, 1, 8, 1.0)[2] == 8


def test_curves_are_drawn_even_of_a_single_step(tmp_path: Path) -> None:
    steps = list(range(1, 60))
    curves = {"a": (steps, [1 / s for s in steps]), "b": (steps, [2 / s for s in steps])}
    save_curves(tmp_path / "two.png", curves, "loss", "title")
    save_curves(tmp_path / "point.png", {"a": ([1], [1.0])}, "loss", "title")
    two, point = picture(tmp_path / "two.png"), picture(tmp_path / "point.png")
    assert not np.array_equal(two, point)


def test_the_loss_curve_comes_from_the_metrics(tmp_path: Path) -> None:
    def draw(name: str, losses: list[float | None]) -> NDArray[np.float32]:
        (tmp_path / name).mkdir()
        rows = [json.dumps({"step": step, "loss": loss}) for step, loss in enumerate(losses, 1)]
        (tmp_path / name / "metrics.jsonl").write_text("\n".join(rows) + "\n")
        save_loss_curve(tmp_path / name)
        return picture(tmp_path / name / "figures" / "loss.png")

    falling = draw("falling", [3.0, 2.0, 1.5, 1.2])
    assert not np.array_equal(draw("rising", [1.2, 1.5, 2.0, 3.0]), falling)
    draw("gap", [3.0, None, 1.5, 1.2])
    (tmp_path / "nothing").mkdir()
    save_loss_curve(tmp_path / "nothing")  # every step was left out
    assert (tmp_path / "nothing" / "figures" / "loss.png").is_file()


def confusion(classes: int) -> tuple[NDArray[np.int64], list[str]]:
    rng = np.random.default_rng(0)
    table = np.zeros((classes, classes + 1), dtype=np.int64)
    np.fill_diagonal(table, 5)
    table[:, 0] += rng.integers(0, 3, classes)
    return table, [f"class {number}" for number in range(classes)]


def test_confusion_is_drawn_with_a_column_for_unreadable_videos(tmp_path: Path) -> None:
    table, names = confusion(3)
    save_confusion(tmp_path / "confusion.png", table, names, "title")
    readable = picture(tmp_path / "confusion.png")
    table[1, -1] = 4
    save_confusion(tmp_path / "confusion.png", table, names, "title")
    unreadable = picture(tmp_path / "confusion.png")
    assert readable.shape != unreadable.shape or not np.array_equal(readable, unreadable)


def test_a_class_may_be_named_like_a_broken_formula(tmp_path: Path) -> None:
    table, _ = confusion(2)
    save_confusion(tmp_path / "confusion.png", table, [r"$\frac{1$", "_^{"], r"$\title{$")
    picture(tmp_path / "confusion.png")


def test_control_characters_in_names_of_classes_are_drawn_as_escapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, _ = confusion(2)
    drawn: list[str] = []
    labels = Axes.set_yticks

    def noted(axes: Axes, ticks: Any, names: Any = None, **settings: Any) -> Any:
        drawn.extend(names or ())
        return labels(axes, ticks, names, **settings)

    monkeypatch.setattr(Axes, "set_yticks", noted)
    save_confusion(tmp_path / "confusion.png", table, ["a\x1b[31m\nb", "\u202egnp.\x00"], "title")
    picture(tmp_path / "confusion.png")
    assert drawn == ["a\\x1b[31m\nb", "\\u202egnp.\\x00"]


def test_confusion_of_many_classes_is_drawn(tmp_path: Path) -> None:
    save_confusion(tmp_path / "confusion.png", *confusion(61), "title")
    picture(tmp_path / "confusion.png")
