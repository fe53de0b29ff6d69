"""The page: its counts are the table's, it shows what is asked for, and it asks for nothing."""

import csv
import io
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import composed
from tests.curate.tables import fill, many
from videomae.config import ConfigError, CurateStage
from videomae.curate import page as pages
from videomae.curate import stages
from videomae.curate.corpus import Corpus
from videomae.curate.judging import Judged, agreements, allotted, draw
from videomae.curate.shards import Shards, write_measured
from videomae.curate.stages import ORDER, _run, run_stages
from videomae.curate.table import write_stage

NUM = 40
HOSTILE = ["<script>alert(1)</script>", "رقص", "🔥", "a\u202eb\u0007", '"><img src=x onerror=y>']


def run(out: Path, *overrides: str) -> Path:
    """Run stages in this process; return the folder of the page."""
    run_stages(composed("curate", f"out={out}", *overrides), out)
    return out / "page"


def jpeg(colour: int) -> bytes:
    """A small picture."""
    content = io.BytesIO()
    Image.new("RGB", (16, 9), (colour, 0, 0)).save(content, "JPEG")
    return content.getvalue()


def corpus(out: Path, **columns: Any) -> Path:
    """A table of clips with scores, hashtags, licences, errors, thumbnails, and relations."""
    given = {
        "sharpness": [float(n) for n in range(NUM)],
        "luma_mean": [None if n % 10 == 9 else 5.0 * n for n in range(NUM)],
        "hashtags": [HOSTILE[: n % 6] for n in range(NUM)],
        "licence": [[None, "CC <b>BY</b>"][n % 2] for n in range(NUM)],
        "platform": ["tiktok"] * NUM,
        "source_path": [f"v/<u>{n}&'.mp4" for n in range(NUM)],
        "error": ["cannot <b>be</b> opened" if n in (3, 4) else None for n in range(NUM)],
    }
    fill(out, **given | columns)
    rows = pq.read_table(out / "clips.parquet", columns=["clip_id", "source_sha256"]).to_pylist()
    for number, row in enumerate(rows[:-1]):  # the last one has no thumbnail
        write_measured(Shards(out).file(f"{number:040}"), [row | {"thumbnail": jpeg(number)}])
    ids = [row["clip_id"] for row in rows]
    relations = {
        "clip_id": ids,
        "duplicate_group": [ids[0] if n < 3 else each for n, each in enumerate(ids)],
        "duplicate_of": [ids[0] if 0 < n < 3 else None for n in range(NUM)],
        "duplicate_distance": [n if n < 3 else None for n in range(NUM)],
        "contaminates": [["test/<u>.avi"] if n == 7 else [] for n in range(NUM)],
    }
    kinds = {"duplicate_of": pa.string(), "contaminates": pa.list_(pa.string())}
    write_stage(
        out,
        "relations",
        pa.table({name: pa.array(each, kinds.get(name)) for name, each in relations.items()}),
    )
    return out


RULES = (
    *("rules.sharpness_min=10", "rules.luma_min=60", "rules.duplicates=true"),
    "rules.contaminated=true",
)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A judged corpus."""
    run(corpus(tmp_path / "out"), "stage=select", *RULES)
    return tmp_path / "out"


class Reader(HTMLParser):
    """The elements and the addresses of a file."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]


def texts(folder: Path) -> dict[str, str]:
    """The text of each file of the page."""
    return {file.name: file.read_text() for file in sorted(folder.iterdir())}


def table_of(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading."""
    body = text.partition(f"<h2>{heading}</h2>")[2].partition("<tbody>")[2].partition("</tbody>")[0]
    rows = [re.findall(r"<td.*?</td>", row, re.DOTALL) for row in body.split("</tr>")]
    return [
        [unescape(re.sub(r"<[^>]*>", " ", cell)).strip() for cell in row] for row in rows if row
    ]


def test_its_counts_are_those_of_the_table(made: Path) -> None:
    index = (run(made, "stage=page") / "index.html").read_text()
    rows = pq.read_table(made / "clips.parquet").to_pylist()
    steps = {cells[0].split()[0]: cells for cells in table_of(index, "From files to kept clips")}
    for reason in ("error", "sharpness_min", "luma_min", "duplicate", "contaminates"):
        dropped = [row for row in rows if reason in row["reasons"]]
        against = [[r for r in row["reasons"] if ":" not in r] for row in dropped]
        alone = sum(each == [reason] for each in against)
        assert [steps[reason][3], steps[reason][4]] == [f"{len(dropped)}", f"{alone}"]
    kept = sum(row["keep"] is True for row in rows)
    assert steps["kept:"][1] == str(kept)
    undecided = sum(row["keep"] is None for row in rows)
    assert re.findall(r"<div><b>([\d,]+)</b>([\w ]+)</div>", index) == [
        (f"{NUM}", "files"),
        (f"{NUM}", "clips"),
        (f"{kept}", "kept"),
        (f"{NUM - kept - undecided}", "dropped"),
        (f"{undecided}", "undecided"),
    ]
    assert 0 < undecided < kept
    licences = {cells[0]: cells[1] for cells in table_of(index, "Licences and platforms")}
    assert licences == {"unknown": str(NUM // 2), "CC <b>BY</b>": str(NUM // 2)}
    assert table_of(index, "Errors") == [["cannot <b>be</b> opened", "2"]]


def test_every_reason_has_its_clips_and_every_link_leads_somewhere(made: Path) -> None:
    folder = run(made, "stage=page")
    rows = pq.read_table(made / "clips.parquet").to_pylist()
    found = texts(folder)
    reasons = {reason for row in rows for reason in row["reasons"]}
    listed = dict(
        re.findall(r'<a href="(reason[\w-]+\.html)"><bdi>(.*?)</bdi>', found["index.html"])
    )
    assert set(listed.values()) == reasons
    for file, reason in listed.items():
        assert {row["clip_id"] for row in rows if reason in row["reasons"]} == {
            *re.findall(r"<code>([0-9a-f]{64})</code>", found[file])
        }
    kept = set(re.findall(r"<code>([0-9a-f]{64})</code>", found["kept-1.html"]))
    assert kept == {row["clip_id"] for row in rows if row["keep"]}
    linked = {"index.html"}
    for name, text in found.items():
        if name.endswith(".html"):
            linked |= {each for each in Reader(text).addresses if not each.startswith("data:")}
    assert linked == found.keys()


def test_nothing_is_asked_of_any_network_and_names_are_text(made: Path) -> None:
    for name, text in texts(run(made, "stage=page")).items():
        if name.endswith(".html"):
            reader = Reader(text)
            scripts = 1 if name == "judge.html" else 0
            assert reader.tags.count("script") == scripts, name
            assert not {"u", "iframe", "link", "object"} & set(reader.tags)
            assert not re.search(r"https?:|//[a-z]|url\(|@import", re.sub('base64,[^"]*', "", text))
            assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", text)
            assert "default-src 'none'" in text
    assert "<bdi>رقص</bdi>" in (made / "page" / "balance.html").read_text()


def test_many_clips_are_some_files_and_the_number_of_all_is_told(made: Path) -> None:
    folder = run(made, "stage=page", "page.per_page=4", "page.most_pages=2")
    assert {"kept-1.html", "kept-2.html"} <= {file.name for file in folder.iterdir()}
    assert not (folder / "kept-3.html").exists()
    kept = sum(row["keep"] is True for row in pq.read_table(made / "clips.parquet").to_pylist())
    assert f"{kept} clips. 8 of them, drawn at random, are shown." in texts(folder)["kept-2.html"]


def test_the_clips_on_either_side_of_a_threshold_are_the_nearest(tmp_path: Path) -> None:
    size = 100
    values = np.random.default_rng(0).permutation(size).astype(float)
    out = fill(tmp_path, sharpness=values.tolist(), error=[None] * size)
    folder = run(out, "stage=select", "rules.sharpness_min=50")
    run(out, "stage=page")
    text = (folder / "threshold00.html").read_text()
    shown = [float(each) for each in re.findall(r"<bdi>sharpness ([\d.]+)</bdi>", text)]
    assert shown == [*range(49, 29, -1), *range(50, 70)]


def test_groups_of_duplicates_begin_with_what_stands_for_them(made: Path) -> None:
    text = (run(made, "stage=page") / "duplicates-1.html").read_text()
    ids = re.findall(r"<code>([0-9a-f]{64})</code>", text)
    rows = {row["clip_id"]: row for row in pq.read_table(made / "clips.parquet").to_pylist()}
    assert [rows[each]["duplicate_of"] for each in ids] == [None, ids[0], ids[0]]
    assert ">1 group.<" in text
    assert "shows test/&lt;u&gt;.avi" in (made / "page" / "contaminated-1.html").read_text()


def test_equal_tables_make_equal_pages_and_a_failure_leaves_the_old_one(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = texts(run(made, "stage=page"))
    assert texts(run(made, "stage=page")) == first
    run(made, "stage=select", "rules=none")

    def fails(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pages, "_index", fails)
    with pytest.raises(OSError, match="No space"):
        run(made, "stage=page")
    assert texts(made / "page") == first
    assert not list(made.glob(".page*"))
    monkeypatch.undo()
    (made / ".page.new").mkdir()
    (made / "page").rename(made / ".page.old")  # killed between two renames
    assert texts(run(made, "stage=page")) != first
    assert not list(made.glob(".page*"))


def test_the_last_stage_of_all_writes_it(made: Path) -> None:
    assert ORDER[-1] is CurateStage.page
    assert set(ORDER) == set(CurateStage) - {CurateStage.all}


def test_it_is_written_also_where_no_clip_is_kept_for_a_list(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(made, "stage=select", "rules=none", "rules.duration_min_s=1e6")
    config = composed("curate", f"out={made}", "stage=subset", "sizes=[all]")
    with pytest.raises(ConfigError, match="is kept"):
        run_stages(config, made)
    ran = []

    def ran_only(stage: CurateStage, *_: Any) -> None:
        ran.append(stage)
        if stage in (CurateStage.subset, CurateStage.page):
            _run(stage, config, made)

    monkeypatch.setattr(stages, "_run", ran_only)
    with pytest.raises(ConfigError, match="is kept"):
        run_stages(replace(config, stage=CurateStage.all), made)
    assert ran[-2:] == [CurateStage.subset, CurateStage.page]
    assert (made / "page" / "index.html").is_file()


def test_a_forgotten_clip_is_on_no_file(made: Path) -> None:
    folder = run(made, "stage=page")
    judge(folder / "labels.csv", "keep")
    rows = pq.read_table(made / "clips.parquet").to_pylist()
    single, source = rows[1], rows[8]
    everything = "".join(texts(folder).values())
    assert single["clip_id"] in everything
    (made / "gone.txt").write_text(f"{single['clip_id']}\n{source['source_sha256']}\n")
    run(made, f"forget={made / 'gone.txt'}")
    everything = "".join(texts(folder).values())
    pictures = [Shards(made).side({row["clip_id"]}, ["thumbnail"]) for row in (single, source)]
    assert all(each.num_rows == 0 for each in pictures)
    for row in (single, source):
        assert row["clip_id"] not in everything
        assert unescape(everything).count(row["source_path"] + "<") == 0
    assert len(texts(folder)) > 5
    assert "keep" in texts(folder)["labels.csv"].splitlines()[1]  # judgements of others stay


def test_what_tombstones_name_is_not_shown_by_a_table_that_was_not_joined_yet(made: Path) -> None:
    clip = pq.read_table(made / "clips.parquet")["clip_id"].to_pylist()[5]
    (made / "tombstones.jsonl").write_text(f'{{"clip_id": "{clip}"}}\n')
    assert clip not in "".join(texts(run(made, "stage=page")).values())


def judge(file: Path, *words: str) -> list[dict[str, str]]:
    """Fill in labels.csv with words by turns; return its lines."""
    with file.open() as lines:
        rows = list(csv.DictReader(lines))
    for number, row in enumerate(rows):
        row["keep"] = words[number % len(words)]
    with file.open("w") as target:
        writer = csv.DictWriter(target, ["clip_id", "keep", "weight"])
        writer.writeheader()
        writer.writerows(rows)
    return rows


def test_labels_stand_for_all_clips_that_rules_decide_about(tmp_path: Path) -> None:
    """The weights of each decision add up to its clips, and the seed decides who is drawn."""
    out = many(tmp_path, 5000)
    run(out, "stage=select", "rules.sharpness_min=100", "rules.motion_min=0.01")
    found = Corpus.read(out)
    rows, weights = draw(found, 100, 0)
    assert len(set(rows.tolist())) == len(rows) == 100
    decided = found.candidates
    for flags in (found.kept & decided, found.undecided & decided, ~found.kept & decided):
        assert weights[flags[rows]].sum() == pytest.approx(flags.sum())
    assert found.kept[rows].sum() == 50
    again, other = draw(found, 100, 0)[0], draw(found, 100, 1)[0]
    assert again.tolist() == rows.tolist()
    assert other.tolist() != rows.tolist()


@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=9), number=st.integers(0, 200))
def test_a_draw_is_as_even_as_the_groups_allow(sizes: list[int], number: int) -> None:
    found = allotted(sizes, number)
    assert all(1 <= each <= size for each, size in zip(found, sizes, strict=True))
    assert sum(found) <= max(number, len(sizes))
    if number >= len(sizes):
        assert sum(found) == min(number, sum(sizes))
    full = [each for each, size in zip(found, sizes, strict=True) if each < size]
    assert max(full, default=0) - min(full, default=0) <= 1


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_precision_and_recall_are_those_of_the_judged_clips(
    made: Path, tmp_path: Path, delimiter: str
) -> None:
    """All candidates are judged: right but for one kept and two dropped clips."""
    folder = run(made, "stage=page", "page.to_judge=1000")
    rows = {row["clip_id"]: row for row in pq.read_table(made / "clips.parquet").to_pylist()}
    judged = [row for row in rows.values() if not row["error"]]
    kept = [row for row in judged if row["keep"]]
    wrong = {row["clip_id"] for row in (kept[0], *[r for r in judged if not r["keep"]][:2])}
    lines = [delimiter.join(("Clip_ID", "note", "KEEP"))]
    for row in judged:
        word = ["No", "YES"][bool(row["keep"]) ^ (row["clip_id"] in wrong)]
        lines.append(delimiter.join((row["clip_id"], "", word)))
    file = tmp_path / "my labels.csv"
    file.write_text("\ufeff" + "\r\n".join(lines) + "\r\n\r\n")
    index = (run(made, "stage=page", f"judged={file}") / "index.html").read_text()
    table = {cells[0]: cells[1:] for cells in table_of(index, "How well the rules agree with you")}
    right = len(kept) - 1
    precision, recall = table["the selection"]
    assert precision.startswith(f"{100 * right / len(kept):.0f} %")
    assert precision.endswith(f"{right} of {len(kept)}")
    assert recall.startswith(f"{100 * right / (right + 2):.0f} %")
    assert recall.endswith(f"{right} of {right + 2}")
    dropped = [row for row in judged if "sharpness_min" in row["reasons"]]
    fair = [row for row in dropped if row["clip_id"] not in wrong]
    assert table["sharpness_min"][0].endswith(f"{len(fair)} of {len(dropped)}")
    disagree = (folder / "judged.html").read_text()
    assert set(re.findall(r"<code>([0-9a-f]{64})</code>", disagree)) == wrong


def test_weights_count(made: Path, tmp_path: Path) -> None:
    rows = pq.read_table(made / "clips.parquet").to_pylist()
    kept = [row["clip_id"] for row in rows if row["keep"]][:2]
    file = tmp_path / "j.csv"
    file.write_text(f"clip_id,keep,weight\n{kept[0]},1,30\n{kept[1]},0,10\n")
    index = (run(made, "stage=page", f"judged={file}") / "index.html").read_text()
    table = {cells[0]: cells[1:] for cells in table_of(index, "How well the rules agree with you")}
    assert table["the selection"][0].startswith("75 %")


def test_labels_that_are_filled_in_stay_and_count(made: Path) -> None:
    folder = run(made, "stage=page")
    empty = (folder / "labels.csv").read_text()
    assert all(line.split(",")[1] == "" for line in empty.splitlines()[1:])
    judge(folder / "labels.csv", "keep", "")
    filled = (folder / "labels.csv").read_text()
    run(made, "stage=page", "seed=1")
    assert (folder / "labels.csv").read_text() == filled.replace("\r\n", "\n")
    assert "precision" in (folder / "index.html").read_text()
    chosen = (folder / "judge.html").read_text().count('value="keep" checked')
    assert chosen == filled.count(",keep,") - 1  # that of the heading


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "its first line must name the columns clip_id and keep"),
        ("id,keep\n", "its first line must name"),
        ("clip_id,keep\nID,maybe\n", "line 2: keep is keep or drop .or empty., not 'maybe'"),
        ("clip_id,keep\n\nnobody,keep\n", "line 3: no clip of the table has the id 'nobody'"),
        ("clip_id,keep,weight\nID,keep,-1\n", "line 2: weight is a number above 0, not '-1'"),
        ("clip_id,keep,weight\nID,keep,nan\n", "line 2: weight is a number"),
        ("clip_id,keep\nID,keep\nID,drop\n", "line 3 judges the clip of line 2 otherwise"),
        ("clip_id,keep\nID,\n", "no clip that the rules decide about is judged"),
        ('clip_id,keep\n"ID,keep\n', "unexpected end of data"),
        ("clip_id,keep\nID,keep\0\n", "line 2"),
    ],
)
def test_a_judged_file_that_is_wrong_is_named_by_its_line(
    made: Path, tmp_path: Path, text: str, said: str
) -> None:
    rows = pq.read_table(made / "clips.parquet").to_pylist()
    clip = next(row["clip_id"] for row in rows if not row["error"])
    file = tmp_path / "judged.csv"
    file.write_text(text.replace("ID", clip))
    with pytest.raises(ConfigError, match=said):
        run(made, "stage=page", f"judged={file}")
    assert not (made / "page").exists()


def test_bytes_that_are_no_text_are_named(made: Path, tmp_path: Path) -> None:
    (tmp_path / "judged.csv").write_bytes(b"clip_id,keep\n\xff\xfe\n")
    with pytest.raises(ConfigError, match=r"judged\.csv: line 2 is not UTF-8"):
        run(made, "stage=page", f"judged={tmp_path / 'judged.csv'}")


def test_a_table_without_a_decision_or_with_an_older_one_is_named(tmp_path: Path) -> None:
    out = corpus(tmp_path / "out")
    with pytest.raises(ConfigError, match="run stage=select first"):
        run(out, "stage=page")
    run(out, "stage=select", "rules.sharpness_min=10")
    before = (out / "rules_used.yaml").read_text()
    run(out, "stage=select", "rules.sharpness_min=11")
    (out / "rules_used.yaml").write_text(before)
    with pytest.raises(ConfigError, match="run stage=select again"):
        run(out, "stage=page")


def test_a_table_that_has_changed_is_told_of(made: Path) -> None:
    ids = pq.read_table(made / "clips.parquet")["clip_id"]
    write_stage(made, "own", pa.table({"clip_id": ids, "my_score": np.arange(float(NUM))}))
    index = (run(made, "stage=page") / "index.html").read_text()
    assert "The table has changed since stage=select judged it" in index
    assert "my_score" in index


def test_an_empty_table_and_one_without_thumbnails_have_a_page(tmp_path: Path) -> None:
    out = fill(tmp_path / "bare", sharpness=[1.0, None])
    run(out, "stage=select", "rules=none")
    assert "no thumbnail" in (run(out, "stage=page") / "kept-1.html").read_text()
    out = fill(tmp_path / "empty", sharpness=[])
    run(out, "stage=select", "rules=tiktok")
    assert "<b>0</b>clips" in (run(out, "stage=page") / "index.html").read_text()


def test_it_says_of_how_many_thumbnails_faces_are_blurred(tmp_path: Path) -> None:
    """Stage persons blurs those of the clips that it looked at."""
    out = fill(tmp_path, sharpness=[1.0, 2.0, 3.0])
    ids = pq.read_table(out / "clips.parquet")["clip_id"]
    run(out, "stage=select", "rules=none")
    said = re.compile(r"<b>faces are (.*?)</b>")
    assert said.findall((run(out, "stage=page") / "index.html").read_text()) == ["not blurred"]
    write_stage(out, "persons", pa.table({"clip_id": ids, "faces_max": [0, 2, None]}))
    (out / "stages" / "persons.json").write_text('{"blur_faces": true}')
    index = (run(out, "stage=page") / "index.html").read_text()
    assert said.findall(index) == ["blurred in 2 of them, and in the others not blurred"]
    assert "Of 2 clips that were looked through, a face was found in 1." in index
    (out / "stages" / "persons.json").write_text('{"blur_faces": false}')
    assert said.findall((run(out, "stage=page") / "index.html").read_text()) == ["not blurred"]


def test_intervals_of_drawn_labels_hold_the_truth(tmp_path: Path) -> None:
    """A person keeps 90 % of what is kept and 15 % of the rest; 60 draws of 100 of 4,000 clips."""
    out = many(tmp_path, 4000)
    run(out, "stage=select", "rules.sharpness_min=400", "rules.motion_min=0.05")
    found = Corpus.read(out)
    chance = np.where(found.kept, 0.9, 0.15)
    wanted = np.random.default_rng(0).random(found.num_clips) < chance
    decided, sharp = found.candidates, found.flags(found.dropping["sharpness_min"])
    truth = [
        wanted[found.kept].mean(),
        (wanted & found.kept).sum() / (wanted & decided).sum(),
        (~wanted)[sharp & decided].mean(),
        (~wanted & sharp & decided).sum() / (~wanted & decided).sum(),
    ]
    held = np.zeros(len(truth))
    for seed in range(60):
        rows, weights = draw(found, 100, seed)
        both = agreements(Judged(rows, wanted[rows], weights, 0), found)[:2]
        shares = [share for each in both for share in (each.precision, each.recall)]
        for n, (share, true) in enumerate(zip(shares, truth, strict=True)):
            assert share is not None
            held[n] += share.least <= 100 * true <= share.most
    assert both[1].name == "sharpness_min"
    assert (held / 60 >= 0.88).all(), held / 60


def test_a_clip_of_several_reasons_is_drawn_for_the_rarest(tmp_path: Path) -> None:
    """A rare reason beside a frequent one, which all of its clips have too."""
    out = fill(
        tmp_path, sharpness=[float(n < 8) for n in range(400)], luma_mean=[1.0] * 8 + [0] * 392
    )
    run(out, "stage=select", "rules.sharpness_min=2", "rules.luma_max=0.5")
    found = Corpus.read(out)
    rows, _ = draw(found, 12, 0)
    assert len(set(rows.tolist()) & set(found.dropping["luma_max"].tolist())) == 6


def test_clips_that_came_after_the_decision_are_counted_apart(made: Path) -> None:
    file = made / "stages" / "select.parquet"
    decided = pq.read_table(file)
    write_stage(made, "select", decided.slice(0, NUM - 5))
    index = (run(made, "stage=page") / "index.html").read_text()
    totals = {name: int(number) for number, name in re.findall(r"<b>(\d+)</b>([\w ]+)<", index)}
    rows = pq.read_table(made / "clips.parquet").to_pylist()
    assert totals["not judged yet"] == 5
    assert totals["kept"] == sum(row["keep"] is True for row in rows)
    parts = ("kept", "dropped", "undecided", "not judged yet")
    assert sum(totals[name] for name in parts) == totals["clips"] == NUM
    clips = pq.read_table(made / "clips.parquet")["clip_id"].to_pylist()[NUM - 5 :]
    assert not any(clip in (made / "page" / "labels.csv").read_text() for clip in clips)
