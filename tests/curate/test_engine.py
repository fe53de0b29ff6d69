"""The engine: which deaths count against a video, shards, and going on after kills."""

import fcntl
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.conftest import composed, run_command
from tests.curate.doubled import DOUBLES, errors, jobs, tries
from tests.curate.footage import panned, render
from tests.curate.tables import write_info
from videomae.config import EngineConfig, UserError
from videomae.curate import engine
from videomae.curate.engine import LocalEngine
from videomae.curate.measuring import error_row
from videomae.curate.shards import Shards, write_measured
from videomae.curate.stages import run_stages


@pytest.fixture
def measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., engine.Totals]:
    """Measure names with the program that does as they say."""
    monkeypatch.setattr(engine, "PROGRAM", DOUBLES)

    def measured(*names: str, timeout_s: float = 120, shard: int = 4) -> engine.Totals:
        config = EngineConfig(workers=2, shard=shard, timeout_s=timeout_s)
        return LocalEngine(config, {}, Shards(tmp_path)).measure(jobs(tmp_path, *names), 0)

    return measured


def test_a_crash_counts_and_the_second_one_gives_a_row_with_the_error(
    tmp_path: Path, measure: Callable[..., engine.Totals]
) -> None:
    names = ("a", "crash", "b", "unlucky")
    totals = measure(*names)
    assert errors(tmp_path, *names) == {
        "a": None,
        "b": None,
        "unlucky": None,
        "crash": "decoder crashed (SIGABRT)",
    }
    assert [tries(tmp_path / name) for name in names] == [1, 2, 1, 2]
    assert totals.failed == {tmp_path / "crash": "decoder crashed (SIGABRT)"}
    assert totals.videos == 4
    assert (totals.total_s, totals.decode_s) == (6.0, 3.0)
    assert totals.note().endswith("videos/s, 50% decoding")


def test_a_video_that_takes_too_long_is_named(
    tmp_path: Path, measure: Callable[..., engine.Totals]
) -> None:
    measure("hang", timeout_s=1)  # which the start of the program may take, too
    assert errors(tmp_path, "hang") == {"hang": "not measured in time (1 s)"}


def test_a_video_that_lacks_memory_in_a_used_process_is_measured_in_a_fresh_one(
    tmp_path: Path, measure: Callable[..., engine.Totals]
) -> None:
    names = ("a", "b", "c", "hungry", "d")
    totals = measure(*names)
    assert errors(tmp_path, *names) == dict.fromkeys(names)
    assert [tries(tmp_path / name) for name in names] == [1, 1, 1, 2, 1]
    assert (totals.videos, totals.failed) == (len(names), {})


@pytest.mark.long
def test_a_kill_from_outside_does_not_count(
    tmp_path: Path, measure: Callable[..., engine.Totals]
) -> None:
    names = ("killed", "a", "late")
    measure(*names)
    assert errors(tmp_path, *names) == dict.fromkeys(names)
    assert tries(tmp_path / "killed") == 3
    assert tries(tmp_path / "late") == 1


@pytest.mark.long
def test_a_video_whose_process_is_killed_for_ever_stops_the_command(
    tmp_path: Path, measure: Callable[..., engine.Totals], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "MOST_KILLS", 3)
    with pytest.raises(UserError, match="cursed: its process was killed 3 times"):
        measure("a", "cursed")
    assert errors(tmp_path, "a", "cursed") == {"a": None}  # nothing is lost


def test_a_full_disk_stops_the_command_and_loses_nothing(
    tmp_path: Path, measure: Callable[..., engine.Totals]
) -> None:
    with pytest.raises(OSError, match="No space left on device"):
        measure("a", "full")
    assert errors(tmp_path, "a", "full") in ({"a": None}, {})
    assert len(Shards(tmp_path).loose()) == len(errors(tmp_path, "a"))


def test_measured_videos_are_put_together_into_shards(
    tmp_path: Path, measure: Callable[..., engine.Totals]
) -> None:
    names = [f"v{number}" for number in range(10)]
    measure(*names)
    shards = Shards(tmp_path)
    assert sorted(pq.read_metadata(file).num_rows for file in shards.shards()) == [2, 4, 4]
    assert not shards.loose()
    assert shards.in_shards() == {job.key for job in jobs(tmp_path, *names)}


def test_files_of_killed_processes_are_cleaned_up(tmp_path: Path) -> None:
    shards = Shards(tmp_path)
    for name in ("a", "b", "c"):
        write_measured(shards.file(name), [error_row(name, "e")])
    kept = shards.file("a").read_bytes()
    (shards.folder / ".a.123.arrow").write_bytes(b"half")
    shards.compact({"a", "b"})
    shards.file("a").write_bytes(kept)  # as if a kill came before it was removed
    assert shards.read({"a", "b", "c"}).num_rows == 3
    shards.clean_up()
    assert sorted(path.suffix for path in shards.folder.iterdir()) == [".arrow", ".parquet"]
    assert shards.loose() == {"c"}
    assert shards.read({"a", "c"}).num_rows == 2


def raw_corpus(root: Path, count: int = 12) -> Path:
    """Videos of one scene and of two, copies, and files that are damaged, empty or no video."""
    for number in range(count):
        frames = chain(panned(number, 60, 2.0), panned(number + 100, 20 + number, 1.0))
        video = render(root / f"{number % 3}" / f"{number}.mp4", frames)
        write_info(video, view_count=number, description=f"#tag{number % 3}")
    whole = (root / "0/0.mp4").read_bytes()
    (root / "copy.mp4").write_bytes(whole)
    (root / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (root / "empty.mp4").touch()
    (root / "text.mkv").write_text("no video")
    mkv = render(root / "damaged.mkv", panned(50, 60, 2.0)).read_bytes()
    (root / "damaged.mkv").write_bytes(mkv[: len(mkv) * 2 // 3])
    (root / "salt").write_text("salt")
    return root


def children(parent: int) -> list[int]:
    """Ids of the processes that a process has started."""
    files = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(number) for file in files for number in file.read_text().split()]


def killed_once(arguments: list[str], cwd: Path, rng: random.Random, after_s: float) -> int | None:
    """Start a command, kill it or one of its processes, and return its status; None: it was killed
    itself."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(arguments, cwd=cwd, stdout=quiet, stderr=quiet)
    time.sleep(after_s)
    victims = [process.pid, *children(process.pid)]
    victim = rng.choice(victims)
    os.kill(victim, signal.SIGKILL)
    status = process.wait(120)
    return None if victim == process.pid else status


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="kills processes that /proc lists")
@pytest.mark.long
@pytest.mark.soak
def test_the_table_after_kills_is_that_of_an_undisturbed_run(tmp_path: Path) -> None:
    raw = raw_corpus(tmp_path / "raw")
    given = [f"source={raw}", f"salt={raw / 'salt'}", "engine.shard=4", "rules=loose"]
    done = run_command("curate", *given, "out=straight", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rng = random.Random(0)
    command = [sys.executable, "-m", "videomae.curate", *given, "out=killed"]
    for _ in range(4):
        status = killed_once(command, tmp_path, rng, rng.uniform(2, 4))
        assert status in (None, 0)  # the death of a process that measures stops nothing
    done = run_command("curate", *given, "out=killed", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("clips.parquet", "sources.parquet", "rules_used.yaml", "stages/measure.parquet"):
        assert (tmp_path / "killed" / name).read_bytes() == (
            tmp_path / "straight" / name
        ).read_bytes()
    rows = pq.read_table(tmp_path / "killed/clips.parquet").to_pylist()
    failed = {row["source_path"] for row in rows if row["error"]}
    assert failed == {"cut.mp4", "empty.mp4", "text.mkv", "damaged.mkv"}
    assert sum(row["is_longest"] is True for row in rows) == 13


@pytest.mark.long
def test_two_curates_in_one_directory(tmp_path: Path) -> None:
    raw = raw_corpus(tmp_path / "raw", 1)
    (tmp_path / "out").mkdir()
    handle = os.open(tmp_path / "out", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    done = run_command("curate", f"source={raw}", "out=out", cwd=tmp_path)
    os.close(handle)
    assert done.returncode == 2
    assert "out=out: another process is curating there right now" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_each_stage_runs_alone_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    raw, out = raw_corpus(tmp_path / "raw", 4), tmp_path / "out"
    out.mkdir()

    def run(*overrides: str) -> str:
        caplog.clear()
        given = (f"out={out}", f"salt={tmp_path / 'salt'}", "engine.workers=2", *overrides)
        with caplog.at_level("INFO"):
            run_stages(composed("curate", *given), out)
        return caplog.text

    (raw / "salt").rename(tmp_path / "salt")
    run(f"source={raw}", "stage=sources")
    assert "measured now" in run("stage=measure")
    again = run("stage=measure")
    assert "8 of 8 videos are measured already" in again
    assert "measured now" not in again
    (raw / "1/1.mp4").unlink()
    render(raw / "2/2.mp4", panned(70, 30, 2.0))
    render(raw / "new.mp4", panned(71, 30, 2.0))
    assert "6 of 8 videos are measured already" in run(f"source={raw}")
    paths = {row["source_path"] for row in pq.read_table(out / "clips.parquet").to_pylist()}
    assert paths >= {"new.mp4", "2/2.mp4"}
    assert "1/1.mp4" not in paths
    shutil.rmtree(raw)
    run("stage=select", "rules.luma_min=10%")
    assert "lists/quality-2-seed0.parquet" in run("stage=subset", "sizes=[2]", "by=quality")


@pytest.mark.long
def test_a_file_that_changes_between_stages_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    for name in ("a", "b"):
        render(raw / f"{name}.mp4", panned(1 + (name == "b"), 8))
    out.mkdir()

    def rows(*overrides: str) -> dict[str, str | None]:
        given = (f"source={raw}", f"out={out}", "engine.workers=1", *overrides)
        run_stages(composed("curate", *given), out)
        table = pq.read_table(out / "clips.parquet").to_pylist()
        return {row["source_path"]: row["error"] for row in table}

    run_stages(composed("curate", f"source={raw}", f"out={out}", "stage=sources"), out)
    content = (raw / "a.mp4").read_bytes()
    render(raw / "a.mp4", panned(9, 8))
    found = rows("stage=measure")
    assert found["b.mp4"] is None
    assert "run stage=sources again" in str(found["a.mp4"])
    assert rows() == {"a.mp4": None, "b.mp4": None}
    (raw / "a.mp4").write_bytes(content)
    assert rows() == {"a.mp4": None, "b.mp4": None}


def test_a_disk_that_is_full_loses_nothing(tmp_path: Path) -> None:
    """The limit of the size of files stands for a full disk: clips.parquet does not fit."""
    raw, out = tmp_path / "raw", tmp_path / "out"
    render(raw / "a.mp4", panned(1, 8))
    out.mkdir()
    config = composed("curate", f"source={raw}", f"out={out}", "engine.workers=1")
    run_stages(config, out)
    before = (out / "clips.parquet").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            run_stages(composed("curate", f"out={out}", "stage=select", "rules.luma_min=5"), out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert (out / "clips.parquet").read_bytes() == before
    assert not list(out.rglob(".*"))
