"""The course of the stages that need a model: resume, processes that die, which clips, the table.

A program without a model stands in for the real one: see tests/curate/model_doubles.py.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.conftest import ROOT, composed
from tests.curate.tables import fill
from videomae.config import CurateStage, UserError
from videomae.curate import model_stage, stages
from videomae.curate.clip_models import ModelSpec
from videomae.curate.model_results import ModelResults
from videomae.curate.model_stage import ModelStage, jobs_of, look_at_clips, write_columns
from videomae.curate.stages import run_stages
from videomae.curate.text_in_frames import COLUMNS

DOUBLE = (sys.executable, "-m", "tests.curate.model_doubles")
TAKES_TEXT = """
import sys
from pathlib import Path
from tests.curate import test_model_stage as tests
from videomae.curate import model_stage
from videomae.run.console import log_to_console

model_stage.PROGRAM = tests.DOUBLE
with log_to_console():
    tests.take_text(Path(sys.argv[1]), *sys.argv[2:])
"""


def names(*some: str, plain: int = 0) -> list[str]:
    return [f"v/{name}.mp4" for name in (*some, *(f"plain{i}" for i in range(plain)))]


def take_text(out: Path, *overrides: str, version: int = 1) -> None:
    """Run a stage that fills text_fraction, with the double as its program."""
    config = composed(
        "curate", f"out={out}", "stage=text", "engine.shard=3", "engine.timeout_s=4", *overrides
    )
    stage = ModelStage("text", ModelSpec("text", {}, "cpu"), COLUMNS, {"v": version}, {"some": "1"})
    table = look_at_clips(config, out, stage, jobs_of(config, out))
    write_columns(out, "text", table, list(COLUMNS), dict(stage.settings))


def texts(out: Path) -> dict[str, Any]:
    rows = pq.read_table(out / "clips.parquet").to_pylist()
    return {Path(row["source_path"]).stem: row["text_fraction"] for row in rows}


def tries(out: Path, name: str) -> int:
    file = out / f"v/{name}.mp4.tries"
    return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.fixture(autouse=True)
def double(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(model_stage, "PROGRAM", DOUBLE)
    caplog.set_level("INFO", "videomae")


@pytest.mark.long
def test_one_bad_clip_costs_itself_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bad = ("crash", "stuck", "broken", "changed")
    out = fill(tmp_path / "out", source_path=names(*bad, "unlucky", "killed", plain=4))
    take_text(out, "engine.workers=2")
    found = texts(out)
    assert {name for name, value in found.items() if value is None} == set(bad)
    assert (tries(out, "crash"), tries(out, "killed"), tries(out, "unlucky")) == (2, 3, 2)
    for word in ("SIGABRT", "in time (4 s)", "cannot be decoded", "not the file that"):
        assert word in caplog.text
    take_text(out, "engine.workers=2")
    assert (tries(out, "crash"), tries(out, "plain0"), tries(out, "broken")) == (2, 1, 1)
    assert tries(out, "changed") == 2  # the next run looks whether it is as it was
    take_text(out, "engine.workers=2", "engine.timeout_s=3.5")
    assert tries(out, "crash") == 4  # with another limit it may work


@pytest.mark.long
def test_a_clip_whose_process_is_killed_again_and_again_ends_the_stage(tmp_path: Path) -> None:
    out = fill(tmp_path / "out", source_path=names("cursed"))
    with pytest.raises(UserError, match="was killed 20 times"):
        take_text(out, "engine.workers=1")


@pytest.mark.long
def test_a_model_that_never_answers_ends_the_stage_soon(tmp_path: Path) -> None:
    """A million clips must not each start a process that dies."""
    out = fill(tmp_path / "out", source_path=names(*(f"crash{i}" for i in range(60))))
    with pytest.raises(UserError, match=r"no clip could be computed.*SIGABRT"):
        take_text(out, "engine.workers=1")
    assert sum(tries(out, f"crash{i}") for i in range(60)) <= 25


@pytest.mark.long
@pytest.mark.soak
def test_the_table_does_not_depend_on_processes_or_kills(tmp_path: Path) -> None:
    """Byte for byte, and no clip that is written is computed again."""
    some = names(*(f"slow{i}" for i in range(12)), "broken")
    whole, killed = (fill(tmp_path / name, source_path=some) for name in ("whole", "killed"))
    take_text(whole, "engine.workers=3")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", TAKES_TEXT, str(killed), "engine.workers=1"], env=environment
        )
        before = len(list((killed / "results").rglob("shard-*.parquet")))
        end = time.monotonic() + 60
        while time.monotonic() < end and process.poll() is None:
            if len(list((killed / "results").rglob("shard-*.parquet"))) > before:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    take_text(killed, "engine.workers=2")
    for name in ("clips.parquet", "stages/text.parquet", "stages/text.json"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes()
    assert sum(tries(killed, f"slow{i}") for i in range(12)) <= 12 + 3 * 3


def test_other_settings_are_computed_again_and_results_are_kept(tmp_path: Path) -> None:
    out = fill(tmp_path / "out", source_path=names(plain=2))
    take_text(out)
    take_text(out, version=2)
    assert tries(out, "plain0") == 2
    take_text(out)
    assert tries(out, "plain0") == 2


def test_clips_that_a_rule_dropped_are_not_looked_at(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = fill(tmp_path / "out", source_path=names(plain=4), luma_mean=[5.0, 50, 60, 70])
    take_text(out)
    assert "4 of 4 clips are left to look at, as stage=select has not run" in caplog.text
    rules = [f"out={out}", "stage=select", "rules.luma_min=20", "rules.text_max=0.1"]
    run_stages(composed("curate", *rules), out)
    take_text(out, version=2)
    assert "3 of 4 clips are left to look at, by the last stage=select" in caplog.text
    assert texts(out)["plain0"] is None
    assert None not in [texts(out)[f"plain{i}"] for i in (1, 2, 3)]


def test_what_the_model_said_is_no_reason_not_to_look(tmp_path: Path) -> None:
    """A clip that text_max dropped by one model is looked at with another."""
    out = fill(tmp_path / "out", source_path=names(plain=2))
    take_text(out)
    run_stages(composed("curate", f"out={out}", "stage=select", "rules.text_max=0.0001"), out)
    assert not any(row["keep"] for row in pq.read_table(out / "clips.parquet").to_pylist())
    take_text(out, version=2)
    assert None not in texts(out).values()


def test_all_stages_look_at_what_the_rules_leave(tmp_path: Path) -> None:
    """Also at what a rule about models, which has nothing to go by yet, cannot judge."""
    out = fill(tmp_path / "out", source_path=names(plain=3), luma_mean=[5.0, 50, 60])
    rules = [
        "rules.luma_min=20",
        "rules.text_max=95%",
        "rules.persons_min=0.5",
        "rules.persons=true",
    ]
    config = composed("curate", f"out={out}", *rules)
    assert {job.path.stem for job in jobs_of(config, out)} == {"plain1", "plain2"}
    assert not (out / "rules_used.yaml").exists()


def test_tombstones_are_looked_at(tmp_path: Path) -> None:
    out = fill(tmp_path / "out", source_path=names(plain=3))
    rows = pq.read_table(out / "clips.parquet").to_pylist()
    stones = [{"source_sha256": rows[0]["source_sha256"]}, {"clip_id": rows[1]["clip_id"]}]
    (out / "tombstones.jsonl").write_text("".join(json.dumps(each) + "\n" for each in stones))
    jobs = jobs_of(composed("curate", f"out={out}", "stage=text"), out)
    assert [job.clip_id for job in jobs] == [rows[2]["clip_id"]]


def test_forgotten_clips_are_in_no_result(tmp_path: Path) -> None:
    out = fill(tmp_path / "out", source_path=names(plain=5))
    take_text(out)
    rows = pq.read_table(out / "clips.parquet").to_pylist()
    gone = [rows[0]["clip_id"], rows[1]["source_sha256"]]
    (tmp_path / "gone.txt").write_text("\n".join(gone))
    run_stages(composed("curate", f"out={out}", f"forget={tmp_path / 'gone.txt'}"), out)
    for file in out.rglob("*.parquet"):
        text = str(pq.read_table(file).to_pylist())
        assert rows[0]["clip_id"] not in text, file
        assert rows[1]["clip_id"] not in text, file
    left = {row["clip_id"] for row in rows[2:]}
    results = ModelResults(out, "text", COLUMNS, 3)
    (key,) = {
        key for file in results.folder.iterdir() for key in pq.read_table(file)["key"].to_pylist()
    }
    assert results.done({key}) == left


def test_stages_without_a_model_are_named_with_what_runs_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = fill(tmp_path / "out", source_path=names(plain=1))
    run_stages(composed("curate", f"out={out}", "stage=select", "rules=tiktok"), out)
    last = caplog.records[-1].getMessage()
    assert last.startswith("rules.persons does not count, so that clips without people are kept")
    assert "run stage=persons with persons.weights=" in last
    monkeypatch.setattr(stages, "ORDER", (CurateStage.select,))
    run_stages(composed("curate", f"out={out}"), out)
    assert "left out: stage persons; persons.weights=, persons.detector=" in caplog.text
    assert "left out: stage text; text.model=rapidocr makes it run" in caplog.text
    assert "left out: stage embed; embed.weights= makes it run" in caplog.text


@pytest.mark.parametrize(
    ("stage", "says"),
    [("persons", "persons.weights=FILE"), ("embed", "embed.weights=FILE")],
)
def test_a_stage_without_its_model_says_what_to_give(tmp_path: Path, stage: str, says: str) -> None:
    out = fill(tmp_path / "out", source_path=names(plain=1))
    with pytest.raises(UserError, match=says):
        run_stages(composed("curate", f"out={out}", f"stage={stage}"), out)
