"""Stage select: planted clips are dropped by the rules that they break, and by no other."""

import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.conftest import composed
from tests.curate.tables import fill
from videomae.config import ConfigError, RulesConfig
from videomae.curate.rules import BOUNDS
from videomae.curate.selection import select_clips
from videomae.curate.table import read_clips_table, write_stage


def selected(out: Path, *overrides: str) -> list[dict[str, Any]]:
    """The rows of clips.parquet after stage select, in the order in which they were planted."""
    select_clips(composed("curate", f"out={out}", *overrides), out)
    rows = pq.read_table(out / "clips.parquet").to_pylist()
    return sorted(rows, key=lambda row: row["source_path"])


def used(out: Path) -> dict[str, Any]:
    """The content of rules_used.yaml."""
    return yaml.safe_load((out / "rules_used.yaml").read_text())


def reasons(rows: list[dict[str, Any]]) -> list[list[str]]:
    """The reasons of all rows."""
    return [row["reasons"] for row in rows]


def test_every_reason_against_a_clip_is_told(tmp_path: Path) -> None:
    scores = {"luma_mean": [100, 5, 5, 100], "sharpness": [50.0, 50.0, 1.0, 9.9]}
    rows = selected(fill(tmp_path, **scores), "rules.luma_min=20", "rules.sharpness_min=10")
    assert reasons(rows) == [[], ["luma_min"], ["sharpness_min", "luma_min"], ["sharpness_min"]]
    assert [row["keep"] for row in rows] == [True, False, False, False]
    counts = {each["name"]: each for each in used(tmp_path)["rules"]}
    assert (counts["luma_min"]["dropped"], counts["luma_min"]["alone"]) == (2, 1)
    assert (counts["sharpness_min"]["dropped"], counts["sharpness_min"]["alone"]) == (2, 1)
    assert used(tmp_path)["num_kept"] == 1


@pytest.mark.parametrize("name", BOUNDS)
def test_each_rule_drops_what_lies_beyond_its_threshold_only(tmp_path: Path, name: str) -> None:
    column, at_least = BOUNDS[name]
    planted: dict[str, list[Any]] = {column: [1, 2, 3]}
    if column == "duration_s":
        planted = {"end_s": [1.0, 2.0, 3.0]}
    if column == "short_side_px":
        planted = {"width_px": [1, 2, 9], "height_px": [9, 2, 3]}
    if column == "num_hashtags":
        planted = {"hashtags": [["a"], ["a", "b"], ["a", "b", "c"]]}
    measured = column not in ("text_fraction", "person_frames_fraction", "person_max_height")
    out = fill(tmp_path, **planted) if measured else fill(tmp_path, luma_mean=[1, 2, 3])
    if not measured:
        ids = read_clips_table(out).sort_by("source_path")["clip_id"]
        write_stage(out, "model", pa.table({"clip_id": ids, column: [1.0, 2.0, 3.0]}))
    rows = selected(out, f"rules.{name}=2")
    dropped = [True, False, False] if at_least else [False, False, True]
    assert [row["reasons"] == [name] for row in rows] == dropped
    assert [row["keep"] is False for row in rows] == dropped


def test_a_missing_score_is_neither_kept_nor_dropped(tmp_path: Path) -> None:
    fill(tmp_path, luma_mean=[100, None, None], sharpness=[50.0, 50.0, 1.0])
    rules = ("rules.luma_min=20", "rules.sharpness_min=10")
    rows = selected(tmp_path, *rules)
    assert [row["keep"] for row in rows] == [True, None, False]
    missing = "luma_min:not_measured"
    assert reasons(rows) == [[], [missing], ["sharpness_min", missing]]
    assert used(tmp_path)["num_undecided"] == 1
    rows = selected(tmp_path, *rules, "rules.unmeasured=drop")
    assert [row["keep"] for row in rows] == [True, False, False]
    assert rows[1]["reasons"] == ["luma_min"]
    rows = selected(tmp_path, *rules, "rules.unmeasured=keep")
    assert [row["keep"] for row in rows] == [True, True, False]
    assert used(tmp_path)["rules"][1]["not_measured"] == 0


def test_an_error_is_a_reason_under_any_rules(tmp_path: Path) -> None:
    rows = selected(fill(tmp_path, error=[None, "damaged (x)"], luma_mean=[9, None]))
    assert [row["keep"] for row in rows] == [True, False]
    rows = selected(tmp_path, "rules.luma_min=1")
    assert reasons(rows) == [[], ["error"]]


def test_only_the_longest_scene_counts_unless_all_do(tmp_path: Path) -> None:
    fill(tmp_path, is_longest=[True, False, None])  # the last one is a piece of a fixed duration
    assert reasons(selected(tmp_path)) == [[], ["not_longest"], []]
    assert reasons(selected(tmp_path, "scenes=all")) == [[], [], []]


def test_a_quantile_is_computed_once_and_stays(tmp_path: Path) -> None:
    values = [float(number) for number in range(1, 101)]
    rows = selected(fill(tmp_path, sharpness=values), "rules.sharpness_min=5%")
    assert sum(row["keep"] for row in rows) == 96
    (rule,) = used(tmp_path)["rules"]
    assert rule["threshold"] == 5.0
    first = rule["frozen_from"]
    assert first == used(tmp_path)["table_hash"]

    fill(tmp_path, sharpness=[value + 50 for value in values])  # the table has changed
    rows = selected(tmp_path, "rules.sharpness_min=5%")
    (rule,) = used(tmp_path)["rules"]
    assert (rule["threshold"], rule["frozen_from"]) == (5.0, first)
    assert used(tmp_path)["table_hash"] != first
    assert all(row["keep"] for row in rows)

    rows = selected(tmp_path, "rules.sharpness_min=5%", "rules.freeze_again=true")
    assert used(tmp_path)["rules"][0]["threshold"] == 55.0
    assert used(tmp_path)["rules"][0]["frozen_from"] == used(tmp_path)["table_hash"]
    rows = selected(tmp_path, "rules.sharpness_min=10%")  # another quantile is another rule
    assert used(tmp_path)["rules"][0]["threshold"] == 60.0


def test_quantiles_are_of_the_clips_that_can_be_kept(tmp_path: Path) -> None:
    scores = {
        "sharpness": [1.0, 2.0, 3.0, 4.0, None],
        "is_longest": [False, True, True, True, True],
    }
    selected(fill(tmp_path, **scores), "rules.sharpness_min=50%")
    assert used(tmp_path)["rules"][0]["threshold"] == 3.0


def test_the_decision_is_a_function_of_table_and_rules(tmp_path: Path) -> None:
    scores = {"sharpness": [1.0, 20.0, None], "luma_mean": [1, 20, 30]}
    rules = ("rules.sharpness_min=10", "rules.luma_min=25%")
    contents = []
    for name in ("a", "b"):
        out = fill(tmp_path / name, **scores)
        selected(out)
        selected(out, *rules)
        selected(out, *rules)
        files = ("clips.parquet", "rules_used.yaml", "stages/select.parquet")
        contents.append([(out / file).read_bytes() for file in files])
    assert contents[0] == contents[1]
    before = pq.read_table(tmp_path / "a/clips.parquet")["rules_hash"][0]
    selected(tmp_path / "a", "rules.sharpness_min=11")
    assert pq.read_table(tmp_path / "a/clips.parquet")["rules_hash"][0] != before


def test_no_stage_removes_a_row_or_changes_a_measurement(tmp_path: Path) -> None:
    before = pq.read_table(fill(tmp_path, sharpness=[1.0, None]) / "clips.parquet")
    selected(tmp_path, "rules.sharpness_min=10")
    after = pq.read_table(tmp_path / "clips.parquet")
    decided = ["keep", "reasons", "rules_hash"]
    assert after.drop_columns(decided) == before.drop_columns(decided)


def test_a_rule_on_a_column_that_is_not_there_names_the_columns(tmp_path: Path) -> None:
    fill(tmp_path, sharpness=[1.0])
    with pytest.raises(ConfigError, match=r"no column beauty: .*duration_s.*sharpness.*luma_mean"):
        selected(tmp_path, "+rules.limits.beauty.at_least=1")
    with pytest.raises(ConfigError, match="no numbers are in column codec"):
        selected(tmp_path, "+rules.limits.codec.at_most=1")
    rows = selected(tmp_path, "rules.limits.bitrate_kbps.at_most=1")
    assert reasons(rows) == [["bitrate_kbps_max:not_measured"]]


def test_a_threshold_that_drops_everything_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, sharpness=[1.0, 2.0], luma_mean=[9, 99])
    with caplog.at_level(logging.WARNING):
        selected(tmp_path, "rules.sharpness_min=1000", "rules.luma_min=10")
    assert "sharpness_min drops every clip" in caplog.text
    assert "luma_min drops every clip" not in caplog.text
    assert "no clip is kept" in caplog.text


def test_a_rule_whose_stage_has_not_run_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        rows = selected(fill(tmp_path, luma_mean=[9]), "rules.duplicates=true")
    assert "rules.duplicates does not count" in caplog.text
    assert rows[0]["keep"]


def with_copies(out: Path, groups: list[str | None], of: list[str | None]) -> None:
    """Write the columns of stage duplicates, in the order in which the clips were planted."""
    ids = read_clips_table(out).sort_by("source_path")["clip_id"]
    columns = {"duplicate_group": pa.array(groups), "duplicate_of": pa.array(of, pa.string())}
    write_stage(out, "duplicates", pa.table({"clip_id": ids, **columns}))


def test_of_copies_the_best_that_no_other_rule_drops_is_kept(tmp_path: Path) -> None:
    out = fill(
        tmp_path,
        luma_mean=[5, 100, 100, 100, None, 100],
        sharpness=[9.0, 9.0, 9.0, 1.0, 9.0, 1.0],
        width_px=[900, 300, 400, 400, 800, 100],
    )
    with_copies(out, ["a"] * 5 + ["b"], [None, "a", "a", "a", "a", None])
    rows = selected(out, "rules.duplicates=true", "rules.luma_min=20")
    assert reasons(rows) == [
        ["luma_min", "duplicate"],
        ["duplicate"],
        [],
        ["duplicate"],
        ["duplicate", "luma_min:not_measured"],
        [],
    ]
    rows = selected(out, "rules.duplicates=true")
    assert [row["keep"] for row in rows] == [True, False, False, False, False, True]
    rows = selected(out)
    assert all(row["keep"] for row in rows)


@pytest.mark.parametrize(
    ("unmeasured", "keep", "said"),
    [
        ("undecided", None, ["duplicate:not_measured"]),
        ("drop", False, ["duplicate"]),
        ("keep", True, []),
    ],
)
def test_a_clip_that_was_not_compared(
    tmp_path: Path, unmeasured: str, keep: bool | None, said: list[str]
) -> None:
    out = fill(tmp_path, luma_mean=[1, 2])
    with_copies(out, [None, "a"], [None, None])
    rows = selected(out, "rules.duplicates=true", f"rules.unmeasured={unmeasured}")
    assert [row["keep"] for row in rows] == [keep, True]
    assert reasons(rows) == [said, []]


def test_damaged_rules_used_are_named(tmp_path: Path) -> None:
    fill(tmp_path, sharpness=[1.0])
    (tmp_path / "rules_used.yaml").write_text("rules: [{name: 3}]")
    with pytest.raises(ConfigError, match=r"rules_used\.yaml cannot be read"):
        selected(tmp_path)


@pytest.mark.parametrize("value", ["abc", "101%", "true", "[1]"])
def test_a_wrong_threshold_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="luma_min must be a number, a quantile"):
        composed("curate", f"rules.luma_min={value}")


@pytest.mark.parametrize("name", ["none", "loose", "tiktok"])
def test_the_rule_sets_that_come_along(tmp_path: Path, name: str) -> None:
    config = composed("curate", f"rules={name}")
    assert (config.rules == RulesConfig()) == (name == "none")
    good = {"sharpness": 99.0, "luma_mean": 90, "luma_std": 40, "bars_fraction": 0.0}
    good |= {"motion_px_per_s": 0.05, "frozen_fraction": 0.0, "end_s": 5.0}
    rows = selected(
        fill(tmp_path, **{key: [value] for key, value in good.items()}), f"rules={name}"
    )
    assert rows[0]["keep"] is True
    bad = good | {"frozen_fraction": 1.0, "luma_std": 1.0}
    rows = selected(fill(tmp_path, **{key: [value] for key, value in bad.items()}), f"rules={name}")
    assert rows[0]["keep"] is (name == "none")
