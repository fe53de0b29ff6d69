"""What `convert` must not do to the files that it reads from, or finds where it is to write."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import composed
from tests.model import CLIP, CONFIG, randomise
from videomae.config import ConfigError, WeightsFormat
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
