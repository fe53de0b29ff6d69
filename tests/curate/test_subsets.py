"""Stage subset: nested lists, at random, by quality, and balanced over hashtags."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.conftest import composed
from tests.curate.tables import fill
from videomae.config import ConfigError
from videomae.curate.selection import select_clips
from videomae.curate.subsets import read_record, write_lists
from videomae.curate.table import clip_id
from videomae.run.files import sha256

HASHTAGS = [["common"]] * 30 + [["rare", "common"]] * 6 + [["middle"]] * 10 + [[]] * 4


def lists(out: Path, *overrides: str) -> dict[str, list[str]]:
    """The paths in each list, by its name."""
    config = composed("curate", f"out={out}", *overrides)
    select_clips(config, out)
    write_lists(config, out)
    return {
        file.stem: pq.read_table(file)["path"].to_pylist()
        for file in sorted((out / "lists").glob("*.parquet"))
    }


def filled(out: Path, **columns: list[Any]) -> Path:
    """A table of 50 clips with hashtags and sharpness."""
    scores = {"sharpness": [float(number) for number in range(50)], "hashtags": HASHTAGS}
    scores |= {"bars_fraction": [0.0] * 50, "frozen_fraction": [0.0] * 50}
    return fill(out, **(scores | columns))


def test_each_list_holds_the_smaller_ones(tmp_path: Path) -> None:
    found = lists(filled(tmp_path), "sizes=[5,20,all]", "by=[random,quality,balanced]")
    assert len(found) == 9
    for order in ("random", "quality", "balanced"):
        small, large, all_ = (found[f"{order}-{size}-seed0"] for size in (5, 20, "all"))
        assert (len(small), len(large), len(all_)) == (5, 20, 50)
        assert small == large[:5] == all_[:5]
        assert large == all_[:20]
        assert len(set(all_)) == 50


def test_rows_of_a_list_are_ranges_of_videos(tmp_path: Path) -> None:
    lists(filled(tmp_path), "sizes=all")
    table = pq.read_table(tmp_path / "lists/random-all-seed0.parquet")
    names = ["path", "start_frame", "end_frame", "source_sha256", "clip_id"]
    assert table.column_names == names
    row = table.to_pylist()[0]
    source = row["source_sha256"]
    assert row["path"] == f"v/{source}.mp4"
    assert row["clip_id"] == clip_id(source, row["start_frame"], row["end_frame"])
    record = read_record(tmp_path)["random-all-seed0.parquet"]
    assert record["sha256"] == [sha256(tmp_path / "lists/random-all-seed0.parquet")]


def test_only_kept_clips_are_listed(tmp_path: Path) -> None:
    found = lists(filled(tmp_path), "sizes=all", "rules.sharpness_min=40")
    assert sorted(found["random-all-seed0"]) == [f"v/{number:03}.mp4" for number in range(40, 50)]
    with pytest.raises(ConfigError, match="10 clips are kept, 11 are asked for"):
        lists(tmp_path, "sizes=[11]", "rules.sharpness_min=40")
    with pytest.raises(ConfigError, match=r"no clip of .* is kept"):
        lists(tmp_path, "sizes=all", "rules.sharpness_min=99")


def test_the_seed_chooses_and_other_clips_do_not(tmp_path: Path) -> None:
    first = lists(filled(tmp_path / "a"), "sizes=all")["random-all-seed0"]
    again = lists(filled(tmp_path / "b"), "sizes=all")["random-all-seed0"]
    assert first == again
    assert lists(tmp_path / "b", "sizes=all", "seed=1")["random-all-seed1"] != first
    fewer = lists(tmp_path / "a", "sizes=all", "rules.sharpness_min=25")["random-all-seed0"]
    assert fewer == [path for path in first if path >= "v/025.mp4"]


def test_quality_is_the_mean_rank(tmp_path: Path) -> None:
    found = lists(filled(tmp_path), "sizes=all", "by=quality")["quality-all-seed0"]
    assert found == [f"v/{number:03}.mp4" for number in reversed(range(50))]
    bars = [0.5] * 25 + [0.0] * 25
    found = lists(filled(tmp_path, bars_fraction=bars[::-1]), "sizes=all", "by=quality")
    ranks = found["quality-all-seed0"]
    assert ranks.index("v/024.mp4") < ranks.index("v/025.mp4")
    with pytest.raises(ConfigError, match="50 kept clips have no text_fraction"):
        lists(tmp_path, "sizes=all", "by=quality", "quality=[-text_fraction]")
    with pytest.raises(ConfigError, match="no column beauty"):
        lists(tmp_path, "sizes=all", "by=quality", "quality=[beauty]")


def test_balanced_lists_have_as_many_clips_of_each_hashtag_as_can_be(tmp_path: Path) -> None:
    found = lists(filled(tmp_path), "sizes=all", "by=balanced")["balanced-all-seed0"]
    kind = {
        f"v/{number:03}.mp4": "rare" if "rare" in tags else (tags or [""])[0]
        for number, tags in enumerate(HASHTAGS)
    }
    for size, most in ((4, 1), (8, 2), (16, 4)):
        assert set(Counter(kind[path] for path in found[:size]).values()) == {most}
    assert Counter(kind[path] for path in found[:22]) == {
        "": 4,
        "rare": 6,
        "middle": 6,
        "common": 6,
    }


def test_labels_by_hashtag(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="4 kept clips have no hashtag"):
        lists(filled(tmp_path), "sizes=all", "labels=hashtags")
    lists(tmp_path, "sizes=all", "labels=hashtags", "rules.hashtags_min=1")
    names = (tmp_path / "lists/classes.txt").read_text().split()
    assert names == ["common", "middle", "rare"]
    table = pq.read_table(tmp_path / "lists/random-all-seed0.parquet").to_pylist()
    assert Counter(names[row["label"]] for row in table) == {"common": 30, "rare": 6, "middle": 10}


def test_a_table_that_has_changed_since_it_was_judged_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lists(filled(tmp_path), "sizes=all")
    assert "the table has changed" not in caplog.text
    filled(tmp_path, sharpness=[1.0] * 50)
    write_lists(composed("curate", f"out={tmp_path}", "sizes=all"), tmp_path)
    assert "the table has changed since stage=select judged it" in caplog.text


@pytest.mark.parametrize("given", ["sizes=0", "sizes=[1,none]", "sizes=[-1]", "sizes=true"])
def test_wrong_sizes_are_refused(given: str) -> None:
    with pytest.raises(ConfigError, match="sizes must be numbers of clips or all"):
        composed("curate", given)


def test_a_wrong_order_is_refused() -> None:
    with pytest.raises(ConfigError, match="by=best must be of random, quality, balanced"):
        composed("curate", "by=best")
