"""Small things of the page: digits of probabilities, line breaks of paths."""

from pathlib import Path

import numpy as np
import pytest

from tests.test_report import ABOUT, Tags, result
from videomae.pictures.html import breakable
from videomae.report.gather import RunRecord
from videomae.report.page import page
from videomae.report.predicted import ClassProbability, Prediction
from videomae.report.samples import Sample
from videomae.report.summary import rows


def words_of(text: str) -> str:
    """The text of a page in one line."""
    return " ".join(" ".join(Tags(text).words).split())


@pytest.mark.parametrize(
    ("probs", "shown"),
    [
        ((0.252, 0.2505, 0.2488), ("25.2 %", "25.1 %", "24.9 %")),
        ((0.2502, 0.2501, 0.2499), ("25.02 %", "25.01 %", "24.99 %")),
        ((0.250002, 0.250001, 0.2), ("25.000 %", "25.000 %", "20.000 %")),
        ((0.25, 0.25, 0.25), ("25.0 %", "25.0 %", "25.0 %")),
    ],
)
def test_different_probabilities_are_told_apart(
    probs: tuple[float, ...], shown: tuple[str, ...]
) -> None:
    guesses = [ClassProbability(n, f"c{n}", prob) for n, prob in enumerate(probs)]
    prediction = Prediction(1, "v.mp4", 0, "c0", True, guesses)
    run = RunRecord(Path("x"), results=[result(classes=3)], predictions=[prediction])
    sample = Sample(prediction, [np.zeros((8, 8, 3), np.uint8)], "")
    text = page([run], rows([run]), [], {}, {run.directory: [sample]}, ABOUT)
    assert " ".join(f"c{n} {percent}" for n, percent in enumerate(shown)) in words_of(text)


def test_paths_of_the_table_break_after_slashes_and_stay_escaped() -> None:
    run = RunRecord(Path("outputs/<b>/evaluation"), {"name": "a", "weights": "x/<q>"})
    run.results = [result()]
    text = page([run], rows([run]), [], {}, {}, ABOUT)
    assert "outputs/<wbr>&lt;b&gt;/<wbr>evaluation" in text
    assert "x/<wbr>&lt;q&gt;" in text
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert "overflow-wrap: break-word" in style.partition(".runs td:not(.num)")[2].partition("}")[0]
    assert '<table class="wide runs">' in text
    assert not {tag for tag, _ in Tags(text).tags} & {"q"}
    assert breakable("a\x1b<wbr>/b") == "a\\x1b&lt;wbr&gt;/<wbr>b"


def test_the_picture_of_attention_fits_its_card_and_its_caption_stands_once() -> None:
    """The picture itself says what its colours mean."""
    run = RunRecord(Path("x"), {"name": "a"}, results=[result()])
    run.pictures = {"attention": b"\x89PNG"}
    text = page([run], rows([run]), [], {}, {}, ABOUT)
    card = text.partition("<h3>Attention of the last block</h3>")[2].partition("<details")[0]
    assert '<div class="scroll">' not in card
    assert "yellow" not in card
    assert "where the model looks, not why it decides" in words_of(card)
