"""The table of exps."""

from pathlib import Path

import pytest

from tests.test_commands import call
from videomae.config import ConfigError
from videomae.train.recipes import COLUMNS, exps, read_header

NAMES = [exp.stem for exp in exps()]


def table(capsys: pytest.CaptureFixture[str], *overrides: str) -> list[dict[str, str]]:
    """What `python -m videomae.recipes` prints into a pipe, row by row."""
    assert call("recipes", *overrides) == 0
    said = capsys.readouterr().out
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    assert all(line.startswith("|") and line.endswith("|") for line in lines)  # it is Markdown
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows[0] == list(COLUMNS)
    assert set("".join(rows[1])) == {"-"}
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows[2:]]


@pytest.mark.long
def test_every_exp_is_a_row_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row.pop("exp"): row for row in table(capsys)}
    assert list(rows) == NAMES
    assert rows["ucf101"] == {
        "stage": "finetune",
        "model": "vit_giant",
        "data": "ucf101",
        "batch": "8",
        "lr": "3.125e-05",
        "epochs": "20",
        "steps": "23,840",  # 20 x (9,537 // 8)
        "views": "5 x 3",
        "weights": "tiktok_vitg -> k400",
        "reported": "99.05 % top-1 (arXiv 2402.08875)",
        "source": "the log beside the weights of arXiv 2402.08875 (batch, lr, layer decay, weight "
        "decay, epochs); VideoMAE V2, vit_g_k710_it_ucf101_ft.sh, for the rest",
    }
    assert rows["hybrid_vitg"] == {
        "stage": "pretrain",
        "model": "vit_giant",
        "data": "hybrid",
        "batch": "2,048",
        "lr": "0.0048",
        "epochs": "300",
        "steps": "?",
        "views": "",
        "weights": "random weights",
        "reported": "nothing for the pre-training alone",
        "source": "VideoMAE V2, scripts/pretrain/vit_g_hybrid_pt.sh",
    }


def test_the_rows_are_chosen_by_stage_and_name(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = table(capsys, "stage=pretrain", "match=ucf101")
    assert [row["exp"] for row in chosen] == ["ucf101_pretrain_vitb_v1"]
    assert call("recipes", "match=nonesuch") == 2
    assert "no exp has 'nonesuch' in its name" in capsys.readouterr().err
    assert call("recipes", "stage=pretrain", "match=hmdb51") == 2
    assert "stage=pretrain" in capsys.readouterr().err


def test_an_exp_without_a_command_line_is_named(tmp_path: Path) -> None:
    exp = tmp_path / "mine.yaml"
    exp.write_text("# @package _global_\n# Source: me.\nname: mine\n")
    with pytest.raises(
        ConfigError, match=r"mine\.yaml does not say .*videomae.finetune \+exp=mine"
    ):
        read_header(exp)
