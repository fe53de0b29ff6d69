"""The demonstration, with few videos: what its table says of each stage, and two steps of training.

The truth is known, so that this is a test of all stages together over one corpus.
"""

import importlib
import json
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.conftest import ROOT, TINY
from tests.test_commands import call
from videomae.run.files import sha256

pytestmark = pytest.mark.long


def main_of(name: str, *arguments: object) -> None:
    """Run a script of the demonstration in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "scripts")
        patch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        importlib.import_module(name).main()


def test_every_stage_finds_what_is_there_and_the_list_trains(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo, out = tmp_path / "demo", tmp_path / "corpus"
    main_of("make_raw_corpus", "--out", demo, "--few", "--workers", 2)
    made = importlib.import_module("make_raw_corpus")
    plan = made.Plan(made.FEW, 23, [])
    plan.draw()
    for video in plan.videos[:4]:
        made.make(tmp_path / "again", video)
        assert sha256(tmp_path / "again" / video.path) == sha256(demo / "raw" / video.path)
    raw = {path: path.stat().st_mtime_ns for path in (demo / "raw").rglob("*")}
    given = (f"source={demo / 'raw'}", f"out={out}", f"tests=[{demo / 'tests/test.txt'}]")
    given += (f"persons.detections={demo / 'detections.jsonl'}", "contamination_recall=0")
    assert call("curate", *given, "rules=tiktok", "sizes=[all]", "engine.workers=2") == 0
    assert {path: path.stat().st_mtime_ns for path in (demo / "raw").rglob("*")} == raw

    capsys.readouterr()
    main_of("demo_curate_table", demo, "--out", out)
    said = capsys.readouterr().out
    lines = (out / "precision_recall.md").read_text().splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    found = {(stage, what): shares for stage, what, *shares, _ in cells}
    assert {stage for stage, _ in found} == {
        *("sources", "measure", "duplicates", "contamination", "persons", "select")
    }
    for (stage, what), shares in found.items():
        assert what in said
        for each in shares:
            assert each == "-" or each.startswith("1.000 "), (stage, what, each)
    assert found["select", "kept clips"][1] == "1.000 (5 of 5; 0.57 to 1.00)"
    truth = json.loads((demo / "truth.json").read_text())
    assert len(truth["videos"]) == pq.read_metadata(out / "sources.parquet").num_rows == 18

    steps = ("optim.global_batch=2", "run.device_batch=2", "max_steps=2")
    training = (f"data.train_list={out / 'lists/random-all-seed0.parquet'}", "data=custom")
    where = (f"data.root={demo / 'raw'}", f"output_dir={tmp_path / 'pretrain'}")
    assert call("pretrain", *training, *where, *TINY, *steps) == 0
