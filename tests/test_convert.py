"""What `convert` must not do: harm the files that it reads from or finds where it is to write, and
turn what it assumed into facts."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import composed
from tests.model import CLIP, CONFIG, randomise
from videomae.config import ClipConfig, ConfigError, WeightsFormat
from videomae.convert import convert
from videomae.weights.formats import read_weights, write_weights
from videomae.weights.load import build_model
from videomae.weights.tensors import WeightsError
from videomae.weights.weights import Kind, WeightsInfo


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A folder with the same pre-training model in every format."""
    info = WeightsInfo(Kind.pretrain, "p", CONFIG, CLIP)
    model = build_model(info)
    randomise(model)
    for kind, name in (
        (WeightsFormat.videomae, "run/weights.safetensors"),
        (WeightsFormat.huggingface, "hf"),
        (WeightsFormat.official, "official.pth"),
    ):
        write_weights(tmp_path / name, kind, model.state_dict(), info)
    (tmp_path / "link").symlink_to(tmp_path / "hf")
    return tmp_path


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("weights", "target", "format"),
    [
        ("run", "run/weights.safetensors", "videomae"),
        ("hf/model.safetensors", "hf", "huggingface"),
        ("hf", "hf/model.safetensors", "videomae"),
        ("hf", "link/model.safetensors", "videomae"),
        ("link", "hf", "huggingface"),
        ("official.pth", "official.pth", "official"),
        ("hf", "run", "huggingface"),  # a run's own weights are what its directory means
    ],
)
def test_nothing_is_converted_onto_itself_or_into_a_run(
    there: Path, weights: str, target: str, format: str
) -> None:
    before = contents(there)
    paths = (f"weights={there / weights}", f"target={there / target}")
    heads = ("num_heads=2", "decoder_num_heads=4")
    with pytest.raises(ConfigError, match=f"target={there / target} "):
        convert(composed("convert", *paths, f"format={format}", "overwrite=true", *heads))
    assert contents(there) == before


TARGETS = {
    WeightsFormat.videomae: "next.safetensors",
    WeightsFormat.official: "next.pth",
    WeightsFormat.huggingface: "next",
}
HEADS = ("num_heads=2", "decoder_num_heads=4")


def converted(source: Path, target: Path, format: WeightsFormat, *words: str) -> WeightsInfo:
    """The description of converted weights, as they are read again."""
    paths = (f"weights={source}", f"out={target}")
    convert(composed("convert", *paths, f"format={format.name}", *HEADS, "overwrite=true", *words))
    return read_weights(target, num_heads=2, decoder_num_heads=4).info


@pytest.mark.parametrize("format", list(WeightsFormat))
def test_what_is_assumed_stays_assumed_and_what_is_given_is_written(
    there: Path, format: WeightsFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = read_weights(there / "run").tensors
    for args, assumed in (
        ({}, {"frames", "size", "stride"}),
        ({"num_frames": CLIP.frames, "input_size": CLIP.size}, {"stride"}),
    ):
        torch.save({"model": tensors, "args": args}, there / "bare.pth")
        target, given = there / TARGETS[format], f"stride={CLIP.stride + 1}"
        info = converted(there / "bare.pth", target, format)
        assert set(info.assumed) == assumed
        assert "assumed, so not written as known: " in capsys.readouterr().out
        again = converted(target, there / "back.pth", WeightsFormat.official)
        assert set(again.assumed) == assumed
        written = torch.load(there / "back.pth")["args"]
        assert {"num_frames", "input_size", "sampling_rate"} & written.keys() == args.keys()
        known = converted(there / "bare.pth", target, format, given)
        assert set(known.assumed) == assumed - {"stride"}
        assert known.clip.stride == CLIP.stride + 1
    capsys.readouterr()
    assert converted(there / "run", target, format).assumed == ()
    assert "not written as known" not in capsys.readouterr().out


def test_transformers_is_told_no_stride_that_nobody_said(there: Path) -> None:
    torch.save(read_weights(there / "run").tensors, there / "bare.pth")
    for words, expected in (
        ((), {"num_frames": 16, "image_size": 224, "assumed": ["num_frames", "image_size"]}),
        (
            ("frames=4", "size=32", "stride=3"),
            {"num_frames": 4, "image_size": 32, "frame_sampling_rate": 3},
        ),
    ):
        info = converted(there / "bare.pth", there / "next", WeightsFormat.huggingface, *words)
        config = json.loads((there / "next" / "config.json").read_text())
        names = ("num_frames", "image_size", "frame_sampling_rate", "assumed")
        assert {name: config[name] for name in names if name in config} == expected
    assert info.clip == ClipConfig(frames=4, stride=3, size=32)


@pytest.mark.parametrize(
    "path",
    [lambda folder: folder / ("x" * 300), lambda folder: folder / "official.pth" / "x"],
    ids=["long", "below_a_file"],
)
def test_names_that_no_file_can_have(there: Path, path: Callable[[Path], Path]) -> None:
    with pytest.raises(WeightsError, match=str(path(there))):
        read_weights(path(there))


def test_what_no_permission_lets_read(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(WeightsError, match=r"run cannot be read: .*Permission denied"):
        read_weights(there / "run")
