"""Stage text: rendered text is found where it is, and pictures without text have none."""

import json
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from tests.conftest import composed
from tests.curate.footage import edited, panned, render
from videomae.config import ConfigError, TextConfig
from videomae.curate.stages import run_stages
from videomae.curate.text_in_frames import TextModel, model_files

pytestmark = pytest.mark.skipif(find_spec("rapidocr") is None, reason="needs rapidocr")
FONT = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
WORDS = "POV: my dog finds\nthe kitchen at 3 am"


def captioned(picture: Any, size: int = 26, place: tuple[int, int] = (20, 90)) -> tuple[Any, float]:
    """A picture with a caption as apps write it, and the share of it that the caption's box has."""
    image = Image.fromarray(picture)
    draw, font = ImageDraw.Draw(image), ImageFont.truetype(str(FONT), size)
    draw.multiline_text(place, WORDS, font=font, fill="white", stroke_width=2, stroke_fill="black")
    left, top, right, bottom = draw.multiline_textbbox(place, WORDS, font=font, stroke_width=2)
    share = (right - left) * (bottom - top) / (image.width * image.height)
    return np.asarray(image), share


@pytest.fixture(scope="module")
def model() -> TextModel:
    return TextModel(TextConfig())


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "rocket"])
def test_a_caption_on_a_photograph_is_found(model: TextModel, name: str) -> None:
    picture = np.asarray(Image.fromarray(getattr(data, name)()).resize((400, 300)))
    with_text, share = captioned(picture)
    assert model.covered(picture) < 0.02
    assert model.covered(with_text) == pytest.approx(share, rel=0.35)


def test_a_page_of_text_is_mostly_text(model: TextModel) -> None:
    page = np.stack([data.page()] * 3, axis=2)
    assert 0.4 < model.covered(page) < 0.95


def test_a_plain_picture_has_no_text(model: TextModel) -> None:
    assert model.covered(np.full((90, 160, 3), 128, np.uint8)) == 0.0


def test_two_characters_in_a_box_as_large_as_the_picture_are_no_text(
    model: TextModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RapidOCR answered so about rendered pictures without text."""

    def answer(height: int) -> SimpleNamespace:
        corners = [[0, 0], [425, 0], [425, height], [0, height]]
        return SimpleNamespace(boxes=np.array([corners], np.float32), txts=("-d",))

    frame = np.zeros((360, 640, 3), np.uint8)
    monkeypatch.setattr(model, "engine", lambda _: answer(355))
    assert model.covered(frame) == 0.0
    monkeypatch.setattr(model, "engine", lambda _: answer(120))
    assert model.covered(frame) == pytest.approx(425 * 120 / (640 * 360), rel=0.02)


@pytest.mark.long
def test_the_column_is_the_median_over_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text in most of the frames counts, text in one of four does not."""

    def caption(frame: Any) -> Any:
        return captioned(frame)[0]

    scene = list(panned(0, 40, 1.0, 240, 360))
    always = list(edited(scene, caption))
    render(tmp_path / "raw/always.mp4", always)
    render(tmp_path / "raw/once.mp4", [*always[:10], *scene[10:]])
    out = tmp_path / "out"
    out.mkdir()
    for more in (f"source={tmp_path / 'raw'}", "stage=sources"), ("scenes=fixed", "stage=measure"):
        run_stages(composed("curate", f"out={out}", "engine.workers=1", *more), out)
    run_stages(composed("curate", f"out={out}", "engine.workers=1", "stage=text"), out)
    rows = pq.read_table(out / "clips.parquet").to_pylist()
    found = {row["source_path"]: row["text_fraction"] for row in rows}
    assert found["once.mp4"] == 0.0
    assert found["always.mp4"] == pytest.approx(captioned(scene[0])[1], rel=0.35)
    record = json.loads((out / "stages/text.json").read_text())
    assert sorted(record["files"]) == sorted(file.name for file in model_files().values())
    assert sorted(record["versions"][0]) == ["onnxruntime", "rapidocr"]


def test_without_rapidocr_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'videomae\[curate-models\]'"):
        model_files()
