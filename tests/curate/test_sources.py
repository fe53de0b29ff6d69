"""Stage sources: files, hashes, metadata (whole, missing, malformed), and rules for hashtags."""

import json
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.conftest import composed
from tests.curate.tables import write_info
from videomae.config import ConfigError
from videomae.curate import sources
from videomae.curate.hashtags import HashtagRules, read_rules, with_enough_views
from videomae.curate.metadata import hashtags_in, normalised, read_metadata
from videomae.curate.sources import find_sources
from videomae.run.files import sha256


def files(root: Path, *names: str) -> Path:
    """Files that hold their names."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def rows(source: Path, out: Path, *overrides: str) -> list[dict[str, Any]]:
    """The rows of sources.parquet."""
    out.mkdir(exist_ok=True)
    find_sources(composed("curate", f"source={source}", f"out={out}", *overrides), out)
    return pq.read_table(out / "sources.parquet").to_pylist()


def test_every_video_below_the_folder_has_a_row_with_its_hash(tmp_path: Path) -> None:
    raw = files(tmp_path / "raw", "b.mp4", "a/x [1], c=d.webm", "ü/é.MOV", "notes.txt", ".h.mp4")
    found = rows(raw, tmp_path / "out")
    assert [row["source_path"] for row in found] == ["a/x [1], c=d.webm", "b.mp4", "ü/é.MOV"]
    for row in found:
        assert row["source_sha256"] == sha256(raw / row["source_path"])
        assert row["size_bytes"] == (raw / row["source_path"]).stat().st_size
        assert row["metadata_problems"] == ["missing"]
        assert row["hashtags"] is row["views"] is row["licence"] is None


def test_a_list_of_paths_and_one_file(tmp_path: Path) -> None:
    raw = files(tmp_path, "a.mp4", "b c.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "list.txt").write_text("# mine\nb c.mp4\n\nnot there.mp4\nb c.mp4\npipe.mp4\n/\n")
    folder, listed, missing, pipe = rows(tmp_path / "list.txt", tmp_path / "out")
    assert "cannot be read" in pipe["error"]
    assert "cannot be read" in folder["error"]
    assert listed["source_path"] == "b c.mp4"
    assert missing["error"] == "cannot be read (No such file or directory)"
    assert missing["source_sha256"] is None
    (one,) = rows(raw / "a.mp4", tmp_path / "out2")
    assert one["source_path"] == "a.mp4"


def test_a_folder_without_videos_is_refused(tmp_path: Path) -> None:
    raw = files(tmp_path / "raw", "notes.txt")
    with pytest.raises(ConfigError, match="holds no video"):
        rows(raw, tmp_path / "out")


def test_a_copy_names_the_file_that_counts(tmp_path: Path) -> None:
    raw = files(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    for name in ("a.mp4", "b.mp4"):
        (raw / name).write_bytes(b"the same")
    write_info(raw / "b.mp4", view_count=3, upload_date="20240131", license="CC BY")
    found = {row["source_path"]: row for row in rows(raw, tmp_path / "out")}
    assert found["a.mp4"]["copy_of"] == "b.mp4"  # whose metadata is whole
    assert found["b.mp4"]["copy_of"] is found["c.mp4"]["copy_of"] is None
    assert (found["b.mp4"]["views"], found["b.mp4"]["uploaded"]) == (3, "2024-01-31")
    assert found["b.mp4"]["licence"] == "CC BY"


def test_files_that_have_not_changed_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw, out = files(tmp_path / "raw", "a.mp4", "b.mp4"), tmp_path / "out"
    before = rows(raw, out)
    read: list[str] = []

    def counted(path: Path) -> str:
        read.append(path.name)
        return sha256(path)

    monkeypatch.setattr(sources, "sha256", counted)
    assert rows(raw, out) == before
    assert read == []
    (raw / "b.mp4").write_bytes(b"something else")
    assert rows(raw, out)[1]["source_sha256"] != before[1]["source_sha256"]
    assert read == ["b.mp4"]


def test_uploaders_are_hashed_with_a_salt_that_is_kept(tmp_path: Path) -> None:
    raw, out = files(tmp_path / "raw", "a.mp4", "b.mp4", "c.mp4"), tmp_path / "out"
    for name, uploader in (("a.mp4", "Jane Doe"), ("b.mp4", "Jane Doe"), ("c.mp4", "John")):
        write_info(raw / name, uploader=uploader)
    a, b, c = (row["uploader_hash"] for row in rows(raw, out))
    assert a == b != c
    assert [row["uploader_hash"] for row in rows(raw, out)] == [a, b, c]
    assert rows(raw, tmp_path / "other")[0]["uploader_hash"] != a
    assert os.stat(out / "salt").st_mode & 0o077 == 0
    for file in out.iterdir():
        assert b"Jane" not in file.read_bytes(), file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#Dance #fyp", ["dance", "fyp"]),
        ("so much #fun!#more, (#three)", ["fun", "more", "three"]),
        ("#\u8df3\u821e #\u0442\u0430\u043d", ["\u8df3\u821e", "\u0442\u0430\u043d"]),
        ("#\u0631\u0642\u0635", ["\u0631\u0642\u0635"]),
        ("#\U0001f483 #\u2764\ufe0f", ["\U0001f483", "\u2764"]),
        ("#\U0001f469\u200d\U0001f4bbcoding", ["\U0001f469\u200d\U0001f4bbcoding"]),
        ("\uff03\uff44ance", ["dance"]),
        ("#Stra\u00dfe #STRASSE", ["strasse", "strasse"]),
        ("no tag, # neither, 1#", []),
        ("#half\ud83d", ["half"]),
    ],
)
def test_hashtags_of_any_script_and_emoji(text: str, expected: list[str]) -> None:
    assert [normalised(each) for each in hashtags_in(text)] == expected


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "malformed"),
        ("{", "malformed"),
        ("[1]", "malformed"),
        ("[" * 100_000, "malformed"),
        ('{"view_count": "12k"}', "view_count"),
        ('{"view_count": -1}', "view_count"),
        ('{"view_count": true}', "view_count"),
        ('{"upload_date": "yesterday"}', "upload_date"),
        ('{"upload_date": 20240131}', "upload_date"),
        ('{"uploader": ["a"]}', "uploader"),
        ('{"tags": "dance"}', "tags"),
        ('{"description": 7}', "description"),
        ('{"license": {"a": 1}}', "license"),
        ('{"id": "' + "x" * 600 + '"}', "id"),
    ],
)
def test_malformed_metadata_is_named_and_leaves_nulls(
    tmp_path: Path, content: str, problem: str
) -> None:
    file = tmp_path / "v.info.json"
    file.write_text(content)
    found = read_metadata(file, "salt")
    assert found.problems == [problem]
    assert found.views is found.uploaded is found.uploader_hash is found.licence is None


def test_large_metadata_is_not_parsed(tmp_path: Path) -> None:
    file = tmp_path / "v.info.json"
    file.write_bytes(b'{"x": "' + b"y" * (2**24) + b'"}')
    assert read_metadata(file, "salt").problems == ["too large"]


def test_metadata_of_several_platforms(tmp_path: Path) -> None:
    file = tmp_path / "v.info.json"
    given = {
        "id": 7311,
        "extractor_key": "Youtube",
        "title": "A #First",
        "description": "#second #first",
        "tags": ["Third", "two words", "#second"],
        "view_count": 5.0,
        "channel_id": "UC1",
    }
    file.write_text(json.dumps(given))
    found = read_metadata(file, "salt")
    assert (found.platform, found.video_id, found.views) == ("youtube", "7311", 5)
    assert found.hashtags == ["first", "second", "third"]
    assert not found.problems


def test_rules_merge_split_and_include(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(
        'include: ["#Basketball", piano]\n'
        "merge: {basketball: [dunking, BBall], piano: [pianoplaying]}\n"
        "split: {ballroomdance: [salsa, tango]}\n"
    )
    rules = read_rules(file)
    assert rules.applied(["dunking", "bball", "fyp", "pianoplaying"]) == ["basketball", "piano"]
    assert rules.applied(["ballroomdance", "tango"]) == ["tango"]
    assert rules.applied(["ballroomdance"]) == []
    assert HashtagRules().applied(["anything"]) == ["anything"]


def test_hashtags_with_few_views_do_not_count() -> None:
    tags = [["a", "b"], ["a"], ["b"], None]
    views = [6, 4, None, 100]
    found = with_enough_views(tags, views, HashtagRules(min_views=10))
    assert found == [["a"], ["a"], [], None]
    assert with_enough_views(tags, views, HashtagRules()) == tags


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "no YAML file"),
        ("[1]", "must be of the keys"),
        ("includes: []", "must be of the keys"),
        ("include: dance", "include must be a list"),
        ("include: [#dance]\n", "no YAML file"),
        ("merge: [a]", "merge must be lists"),
        ("merge: {a: [x], b: [x]}", "merge has x below a and b"),
        ("min_views: many", "min_views must be a number"),
    ],
)
def test_wrong_rules_for_hashtags_are_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_rules(file)


def test_rules_and_folders_make_the_hashtags_that_count(tmp_path: Path) -> None:
    raw = files(tmp_path / "raw", "#Salsa/a.mp4", "b.mp4")
    write_info(raw / "b.mp4", description="#salsa #fyp")
    (tmp_path / "rules.yaml").write_text("include: [salsa]")
    given = (f"hashtags={tmp_path / 'rules.yaml'}", "folder_hashtags=true")
    a, b = rows(raw, tmp_path / "out", *given)
    assert a["hashtags"] == b["hashtags"] == ["salsa"]
    assert b["hashtags_given"] == ["salsa", "fyp"]
