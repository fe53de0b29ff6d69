"""Forgetting: nothing that names or shows a forgotten clip is left, and it does not come back."""

import json
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests.conftest import composed, soaked
from tests.curate.footage import panned, render
from tests.curate.tables import write_info
from videomae.config import ConfigError
from videomae.curate.engine import LocalEngine, Totals
from videomae.curate.measurement import measure_sources
from videomae.curate.model_results import ModelResults
from videomae.curate.shards import Shards, schema
from videomae.curate.stages import run_stages
from videomae.curate.subsets import read_record
from videomae.curate.table import write_table
from videomae.pack import pack
from videomae.run.files import sha256

NUM_VIDEOS = 6


def run(out: Path, *overrides: str) -> None:
    """Run stages in this process."""
    out.mkdir(exist_ok=True)
    run_stages(composed("curate", f"out={out}", "engine.workers=1", *overrides), out)


@pytest.fixture
def corpus(tmp_path: Path) -> tuple[Path, Path]:
    """Raw videos, one of them twice, and what curate makes of them."""
    raw, out = tmp_path / "raw", tmp_path / "out"
    for number in range(NUM_VIDEOS):
        write_info(render(raw / f"{number}.mp4", panned(number, 8, 2.0)), id=f"id{number}")
    (raw / "copy of 0.mp4").write_bytes((raw / "0.mp4").read_bytes())
    run(out, f"source={raw}", "engine.shard=3", "sizes=[3,all]")
    return raw, out


def forget(out: Path, *names: str, used_by: str = "null") -> None:
    """Forget what these names name."""
    (out.parent / "deletions.txt").write_text("# asked for\n" + "\n".join(names))
    run(out, f"forget={out.parent / 'deletions.txt'}", "reason=asked", f"used_by={used_by}")


def ids(out: Path) -> dict[str, str]:
    """The id of the clip of each video."""
    rows = pq.read_table(out / "clips.parquet").to_pylist()
    return {row["source_path"]: row["clip_id"] for row in rows}


def contents(out: Path) -> dict[str, str]:
    """The text, or all values, of each file besides the tombstones."""
    found = {}
    for file in out.rglob("*"):
        if file.suffix == ".parquet":
            found[file.name] = str(pq.read_table(file).to_pylist())
        elif file.is_file() and file.name != "tombstones.jsonl":
            found[file.name] = file.read_bytes().decode(errors="replace")
    return found


@pytest.mark.long
@pytest.mark.parametrize("by", ["path", "copy", *soaked("sha256", "video_id")])
def test_a_forgotten_video_is_nowhere(corpus: tuple[Path, Path], by: str) -> None:
    raw, out = corpus
    known, source = ids(out), sha256(raw / "0.mp4")
    clip = known.get("0.mp4") or known["copy of 0.mp4"]
    named = {"path": "0.mp4", "sha256": source, "video_id": "id0", "copy": "copy of 0.mp4"}
    assert any(clip in text for text in contents(out).values())
    forget(out, named[by])
    for name, text in contents(out).items():
        assert clip not in text, name
        assert source not in text, name
        assert "0.mp4" not in text, name
    assert len(ids(out)) == NUM_VIDEOS - 1
    stones = [json.loads(line) for line in (out / "tombstones.jsonl").read_text().splitlines()]
    assert {stone["path"] for stone in stones} == {"0.mp4", "copy of 0.mp4"}
    assert {(stone["source_sha256"], stone["reason"]) for stone in stones} == {(source, "asked")}
    run(out, f"source={raw}", "sizes=[all]")
    assert len(ids(out)) == NUM_VIDEOS - 1
    assert (raw / "0.mp4").exists()


@pytest.mark.long
def test_a_forgotten_clip_stays_away_and_is_not_measured_again(
    corpus: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, out = corpus
    clip = ids(out)["3.mp4"]
    forget(out, clip, "no such thing")
    assert not any(clip in text for text in contents(out).values())
    (stone,) = map(json.loads, (out / "tombstones.jsonl").read_text().splitlines())
    assert (stone["path"], stone["source_sha256"], stone["clip_id"]) == (None, None, clip)
    monkeypatch.setattr("videomae.curate.engine.PROGRAM", "no.such.program")
    measure_sources(composed("curate", f"source={raw}", f"out={out}"), out)
    assert "3.mp4" not in ids(out)


@pytest.mark.long
def test_lists_lose_their_lines_and_keep_the_others_in_order(corpus: tuple[Path, Path]) -> None:
    _, out = corpus
    file = out / "lists/random-all-seed0.parquet"
    before, earlier = pq.read_table(file)["path"].to_pylist(), sha256(file)
    forget(out, "2.mp4")
    after = pq.read_table(file)["path"].to_pylist()
    assert after == [path for path in before if path != "2.mp4"]
    record = read_record(out)[file.name]
    assert record == {"clips": NUM_VIDEOS - 1, "sha256": [earlier, sha256(file)]}


@pytest.mark.long
def test_packs_and_runs_that_used_it_are_named(
    corpus: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    raw, out = corpus
    places = {name: out.parent / name for name in ("pack", "other_pack", "run", "other_run")}
    for place in (places["run"], places["other_run"], out.parent / "neither"):
        place.mkdir()

    def environment(place: str, value: Any) -> None:
        (places[place] / "environment.json").write_text(json.dumps(value))

    used = sha256(out / "lists/random-all-seed0.parquet")
    environment("run", {"sha256": {}, "before": [{"sha256": {"data.train_list": used}}]})
    environment("other_run", {"sha256": {"data.train_list": "0" * 64}})
    for name, path in (("pack", "2.mp4"), ("other_pack", "1.mp4")):
        (out.parent / f"{name}.txt").write_text(f"{path}\n")
        given = (f"list={out.parent / name}.txt", f"root={raw}", f"out={places[name]}")
        pack(composed("pack", *given, "workers=1"))
    forget(out, "2.mp4", used_by=f"[{','.join(map(str, places.values()))},{out.parent}/neither]")
    said = caplog.text
    assert f"{places['pack']}: the pack holds 1 forgotten clips" in said
    assert f"{places['run']}: its weights were trained on forgotten clips (random-" in said
    assert str(places["other_pack"]) not in said
    assert str(places["other_run"]) not in said
    assert "neither is neither a pack nor a run directory" in said


def test_forgetting_twice_changes_nothing_more(corpus: tuple[Path, Path]) -> None:
    _, out = corpus
    forget(out, "2.mp4")
    before = contents(out), (out / "tombstones.jsonl").read_text()
    forget(out, "2.mp4")
    assert (contents(out), (out / "tombstones.jsonl").read_text()) == before


def test_thumbnails_are_in_the_side_files_by_clip(corpus: tuple[Path, Path]) -> None:
    _, out = corpus
    known = set(ids(out).values())
    table = Shards(out).side(known, ["thumbnail"])
    assert table["clip_id"].to_pylist() == sorted(known)
    assert all(each.startswith(b"\xff\xd8") for each in table["thumbnail"].to_pylist())
    assert Shards(out).side({"none"}, ["thumbnail"]).num_rows == 0
    gone = ids(out)["4.mp4"]
    forget(out, gone)
    assert Shards(out).side({gone}, ["thumbnail"]).num_rows == 0


class Killed(BaseException):
    """Stands for the death of the command."""


class Killer:
    """Counts the changes of files that a command makes, and ends it after one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self.last = 0, 0
        for name in ("replace", "rename", "unlink"):
            monkeypatch.setattr(Path, name, self.counted(getattr(Path, name)))

    def counted(self, change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(path: Path, *args: Any, **kwargs: Any) -> Any:
            done = change(path, *args, **kwargs)
            self.count += not path.name.endswith(".html")
            if self.count == self.last:
                self.last = 0
                raise Killed
            return done

        return changed

    def after(self, changes: int) -> None:
        """End the command after so many changes; 0: never."""
        self.count, self.last = 0, changes


def files_of(out: Path) -> dict[str, bytes]:
    """The bytes of each file."""
    return {str(each.relative_to(out)): each.read_bytes() for each in out.rglob("*.*")}


def with_everything(corpus: tuple[Path, Path]) -> Path:
    """The corpus with the files of the other stages: test videos, results of models, features."""
    raw, out = corpus
    tests = out.parent / "tests.txt"
    tests.write_text("0.mp4\n4.mp4\n")
    given = (f"tests=[{tests}]", f"tests_root={raw}", "contamination_recall=0")
    run(out, *given, "stage=contamination")
    rows = pq.read_table(out / "clips.parquet", columns=["clip_id", "source_sha256"]).to_pylist()
    results = ModelResults(out, "text", {"text_fraction": pa.float64()}, 3)
    for row in rows:
        results.add({"key": "key", **row, "error": None, "versions": "", "text_fraction": 0.5})
    results.flush()
    features = [{"clip_id": row["clip_id"], "features": [1.0, 2.0]} for row in rows]
    write_table(out / "embeddings.parquet", pa.Table.from_pylist(features))
    run(out, "stage=page")
    return out


@pytest.mark.long
@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.soak)])
def test_a_forgetting_that_is_killed_anywhere_is_finished_by_the_same_command(
    corpus: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    every: int,
) -> None:
    """What it forgets is a video of two names, one that is a test video too, and a single clip."""
    monkeypatch.setattr("videomae.curate.overview.charts", lambda corpus: [])  # they take long
    out = with_everything(corpus)
    names = ("id0", "4.mp4", ids(out)["3.mp4"])
    used = out.parent / "run"
    used.mkdir()
    trained = {"data.train_list": sha256(out / "lists/random-all-seed0.parquet")}
    (used / "environment.json").write_text(json.dumps({"sha256": trained}))
    saved = out.rename(out.parent / "saved")
    killer = Killer(monkeypatch)
    shutil.copytree(saved, out)
    forget(out, *names)
    straight, changes = files_of(out), killer.count
    assert changes > 30
    assert "forgetting.json" not in straight
    for last in range(1, changes, every):
        shutil.rmtree(out)
        shutil.copytree(saved, out)
        killer.after(last)
        with pytest.raises(Killed):
            forget(out, *names)
        caplog.clear()
        forget(out, *names, used_by=f"[{used}]")
        assert files_of(out) == straight, f"after change {last} of {changes}"
        assert f"{used}: its weights were trained on forgotten clips" in caplog.text, last


@pytest.mark.long
def test_temporary_files_of_killed_commands_do_not_keep_it(corpus: tuple[Path, Path]) -> None:
    out = with_everything(corpus)
    (out / "tests/copies").mkdir()
    places = ["results/text/.shard-a", "tests/copies/.a", "measured/.a", "tests/measured/.a"]
    places += [".embeddings", "stages/.text", "lists/.random"]
    for place in places:
        suffix = "arrow" if place.endswith("/.a") else "parquet"
        (out / f"{place}.123.{suffix}").write_text("0.mp4")
    forget(out, "0.mp4")
    assert [path for path in out.rglob(".*") if path.is_file()] == []


@pytest.mark.long
def test_the_next_command_finishes_a_forgetting_that_was_killed(
    corpus: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, out = corpus
    clip = ids(out)["2.mp4"]
    killer = Killer(monkeypatch)
    killer.after(5)
    with pytest.raises(Killed):
        forget(out, "2.mp4")
    assert any(clip in text for text in contents(out).values())
    run(out, "stage=select")
    for name, text in contents(out).items():
        assert clip not in text, name
        assert "2.mp4" not in text, name


def test_a_damaged_plan_of_a_forgetting_is_named(corpus: tuple[Path, Path]) -> None:
    _, out = corpus
    (out / "forgetting.json").write_text('{"names": []}')
    with pytest.raises(ConfigError, match="is no plan of a forgetting"):
        forget(out, "2.mp4")


def loose_rows(out: Path, videos: Collection[str]) -> dict[str, Any]:
    """Rows of measured videos, with thumbnail and fingerprint, by the name of a file of their
    own."""
    sources = pq.read_table(out / "sources.parquet").to_pylist()
    known = {each["source_sha256"] for each in sources if each["source_path"] in videos}
    rows = pa.concat_tables(pq.read_table(file) for file in Shards(out).shards())
    rows = rows.replace_schema_metadata(schema().metadata)
    keys = {row["key"] for row in rows.to_pylist() if row["source_sha256"] in known}
    return {f"{key}.arrow": rows.filter(pc.equal(rows["key"], key)) for key in keys}


def write_late(out: Path, rows: dict[str, Any]) -> None:
    """Write files of measured videos as a task does that should have ended."""
    for name, table in rows.items():
        with (
            pa.OSFile(str(out / "measured" / name), "wb") as sink,
            pa.ipc.new_file(sink, table.schema) as writer,
        ):
            writer.write_table(table)


@pytest.mark.long
@pytest.mark.parametrize("when", ["while", *soaked("before", "after")])
def test_what_a_late_task_writes_of_a_forgotten_video_does_not_stay(
    corpus: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """A task of a killed command may go on for a while on a node that is cut off."""
    _, out = corpus
    known, rows = ids(out), loose_rows(out, ["2.mp4", "3.mp4"])
    source = sha256(corpus[0] / "2.mp4")
    assert len(rows) == 2
    forget(out, "2.mp4", known["3.mp4"])
    if when == "while":

        def measured(engine: LocalEngine, jobs: Any, done: int) -> Totals:
            write_late(out, rows)
            return engine.totals

        monkeypatch.setattr(LocalEngine, "measure", measured)
    else:
        write_late(out, rows)
    if when == "after":
        monkeypatch.setattr(LocalEngine, "measure", lambda engine, jobs, done: engine.totals)
        for name in rows:  # as if they had been put into a shard before
            Shards(out).compact([Path(name).stem])
    run(out, "stage=measure")
    for name, text in contents(out).items():
        for gone in (known["2.mp4"], known["3.mp4"], source):
            assert gone not in text, name
    assert set(ids(out)) == set(known) - {"2.mp4", "3.mp4"}


@pytest.mark.long
def test_a_forgotten_clip_of_a_video_that_is_measured_again_does_not_come_back(
    corpus: tuple[Path, Path],
) -> None:
    _, out = corpus
    clip = ids(out)["3.mp4"]
    forget(out, clip)
    for file in Shards(out).shards():  # as another version does with them
        file.unlink()
    run(out, "stage=measure")
    assert len(ids(out)) == NUM_VIDEOS - 1
    assert not any(clip in text for text in contents(out).values())
