"""Pages of runs whose results are no accuracies: those of a head of one's own."""

from pathlib import Path
from typing import Any

from tests.report.test_details import words_of
from tests.test_report import ABOUT, Tags, result
from videomae.report.gather import RunRecord
from videomae.report.page import page
from videomae.report.results import Result
from videomae.report.summary import COLUMNS, TOP1, fitted, markdown, rows

OWN = {
    "mean_steps_off": 0.25,
    "exact": 75.0,
    "lost": float("nan"),
    "num_videos": 8,
    "num_unreadable": 0,
    "views": {"segments": 5, "crops": 3},
    "per_level": {"<easy>": 100.0, "hard": 50, "odd": "text"},
    "weights": {"chosen": "last", "step": 150},
    "sha256": {"weights": "a"},
}


def own(name: str = "own", **changed: Any) -> RunRecord:
    """A run with a head of one's own, which has two metrics and a mapping of them."""
    return RunRecord(Path(name), {"name": name, **changed}, results=[Result.of(OWN)])


def test_a_table_of_other_results_has_no_column_of_accuracies() -> None:
    columns, table = fitted(COLUMNS, rows([own()]))
    assert columns == ["run", "result", *COLUMNS[4:]]
    assert table[0].cells[:2] == ("own", "mean_steps_off 0.25")
    text = page([own()], rows([own()]), [], {}, {}, ABOUT)
    for absent in ("top-1", "0 to 100 %", "mean of classes", "interval", "counts as wrong"):
        assert absent not in words_of(text)
    assert "<h3>Classes" not in text
    top1 = RunRecord(Path("x"), {"name": "x"}, results=[result()])
    assert fitted(COLUMNS, rows([top1]))[0] == [name for name in COLUMNS if name != "top-5 %"]


def test_in_a_table_of_both_each_result_has_its_name() -> None:
    seeds = [
        RunRecord(Path(f"s{seed}"), {"name": "a", "seed": seed}, data="d", results=[result()])
        for seed in (0, 1)
    ]
    columns, table = fitted(COLUMNS, rows([own(), *seeds]))
    assert columns[TOP1] == "result"
    tops = [row.cells[TOP1] for row in table]
    assert tops[0] == "mean_steps_off 0.25"
    assert tops[1:3] == ["top-1 50.00 (45.00 to 55.00)"] * 2
    assert tops[3] == "top-1 50.00 ± 0.00"
    assert "| result | mean of classes % |" in markdown(columns, table)
    text = page([own(), *seeds], rows([own(), *seeds]), [], {}, {}, ABOUT)
    assert words_of(text).count("0 to 100 %") == 1
    assert "95 % interval" in words_of(text)


def test_the_mean_of_seeds_of_a_head_of_ones_own_fills_no_column() -> None:
    columns, table = fitted(COLUMNS, rows([own(seed=0), own(seed=1)]))
    assert columns == ["run", "result", *COLUMNS[4:]]
    assert table[-1].cells[TOP1] == "mean_steps_off 0.25 ± 0"


def test_the_footnote_is_of_what_is_there() -> None:
    run = RunRecord(Path("x"), {"name": "x"}, results=[result()])
    assert "MOVER" not in page([run], rows([run]), [], {}, {}, ABOUT)
    before = Result(50, 90, 50, 10, 0, "1 x 1", {"a": 50.0, "b": 50.0}, None)
    run.results = [before]
    text = words_of(page([run], rows([run]), [], {}, {}, ABOUT))
    assert "interval of the top-1" not in text
    assert "A video that cannot be read counts as wrong." in text


def test_the_section_shows_every_metric_of_the_head() -> None:
    text = page([own()], rows([own()]), [], {}, {}, ABOUT)
    section = words_of(text.partition("<section")[2])
    for shown in ("mean_steps_off 0.25", "exact 75", "per_level: <easy> 100", "per_level: hard 50"):
        assert shown in section
    assert "lost" not in section
    assert "<easy>" not in [f"<{tag}>" for tag, _ in Tags(text).tags]
    many = OWN | {"per_level": {str(n): 1.0 for n in range(10_000)}}
    assert len(Result.of(many).metrics) == 50
