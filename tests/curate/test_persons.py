"""Stage persons on real videos with real, tiny models: columns, thumbnails, exported detections."""

import json
import shutil
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.conftest import composed
from tests.curate.detectors import (
    ARCHITECTURE,
    torchvision_weights,
    transformers_directory,
    write_lines,
)
from tests.curate.footage import panned, render
from videomae.config import ConfigError
from videomae.curate.clip_frames import read_frames, sampled_numbers
from videomae.curate.clip_models import answering
from videomae.curate.detections import scores_of
from videomae.curate.persons import FaceThumbnails
from videomae.curate.shards import Shards
from videomae.curate.stages import run_stages
from videomae.curate.torchvision_detectors import TorchvisionDetector
from videomae.run.files import sha256

LENGTH = 30


def run(out: Path, *overrides: str) -> None:
    """Run stages in this process."""
    run_stages(composed("curate", f"out={out}", "engine.workers=1", *overrides), out)


@pytest.fixture
def corpus(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Path:
    """Two measured videos of two scenes each, and a third, of one, which is broken now."""
    raw, out = tmp_path / "raw", tmp_path / "out"
    for number in range(2):
        scenes = [*panned(2 * number, LENGTH, 2.0), *panned(2 * number + 1, LENGTH + 10, 2.0)]
        render(raw / f"{number}.mp4", scenes)
    out.mkdir()
    run(out, f"source={raw}", "stage=sources")
    run(out, "stage=measure")
    caplog.set_level("INFO", "videomae")
    return out


def clips(out: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """The rows of the table by path and first frame."""
    rows = pq.read_table(out / "clips.parquet").to_pylist()
    return {(row["source_path"], row["start_frame"]): row for row in rows}


def thumbnails(out: Path) -> dict[str, bytes]:
    ids = {row["clip_id"] for row in clips(out).values()}
    table = Shards(out).side(ids, ["thumbnail"])
    return dict(zip(table["clip_id"].to_pylist(), table["thumbnail"].to_pylist(), strict=True))


def test_frames_are_those_of_the_clip_in_the_video(tmp_path: Path) -> None:
    video = render(tmp_path / "x.mp4", [*panned(0, LENGTH, 2.0), *panned(1, LENGTH, 2.0)])
    numbers = sampled_numbers(LENGTH, 4)
    assert numbers == [3, 11, 18, 26]
    found = read_frames(video, (LENGTH, 2 * LENGTH), numbers, 2**31)
    with av.open(str(video)) as container:
        every = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for place, number in enumerate(numbers):
        difference = np.abs(found[place].astype(int) - every[LENGTH + number].astype(int))
        assert difference.mean() < 2


@pytest.mark.parametrize(
    ("length", "count", "numbers"), [(1, 4, [0]), (3, 4, [0, 1, 2]), (100, 2, [25, 75])]
)
def test_short_clips_have_fewer_frames(length: int, count: int, numbers: list[int]) -> None:
    assert sampled_numbers(length, count) == numbers


@pytest.mark.long
def test_columns_thumbnails_and_records_of_a_detector(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = torchvision_weights(tmp_path / "model")
    before = thumbnails(corpus)
    run(corpus, "stage=persons", *given)
    config = composed("curate", *given).persons
    detector = TorchvisionDetector(config, torch.device("cpu"))
    for (path, _), row in clips(corpus).items():
        span = row["start_frame"], row["end_frame"]
        numbers = sampled_numbers(span[1] - span[0], 4)
        found = detector.detect(read_frames(tmp_path / "raw" / path, span, numbers, 2**31))
        expected = scores_of(found, config, faces=True)
        assert {name: row[name] for name in expected} == expected
        assert row["person_frames_fraction"] is not None
    after = thumbnails(corpus)
    assert before.keys() == after.keys()
    assert all(before[clip] != after[clip] for clip in before)
    assert f"faces are blurred in the thumbnails of {len(before)} of {len(before)}" in caplog.text
    record = json.loads((corpus / "stages/persons.json").read_text())
    assert record["weights"] == {
        "detector.safetensors": sha256(tmp_path / "model/detector.safetensors")
    }
    assert [sorted(each) for each in record["versions"]] == [["torch", "torchvision"]]
    assert record["architecture"] == ARCHITECTURE
    assert str(tmp_path) not in json.dumps(record)
    table = (corpus / "clips.parquet").read_bytes()
    run(corpus, "stage=persons", *given, "engine.workers=2")
    assert (corpus / "clips.parquet").read_bytes() == table
    assert thumbnails(corpus) == after


@pytest.mark.soak
@pytest.mark.long
def test_a_detector_of_transformers_and_a_video_that_has_changed(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = transformers_directory(tmp_path / "yolos", ("person", "dog"))
    video = tmp_path / "raw/1.mp4"
    video.write_bytes(video.read_bytes()[:4000])
    before = thumbnails(corpus)
    run(corpus, "stage=persons", f"persons.detector={folder}", "persons.score=0.1")
    rows = clips(corpus)
    measured = {key: row["person_frames_fraction"] is not None for key, row in rows.items()}
    assert measured == {key: key[0] == "0.mp4" for key in rows}
    assert all(row["faces_max"] is None for row in rows.values())
    assert "1.mp4: it is not the file that stage=sources saw" in caplog.text
    assert "faces in thumbnails are not blurred" in caplog.text
    assert thumbnails(corpus) == before


def line(path: str, boxes: list[list[float]], labels: list[str], **place: Any) -> dict[str, Any]:
    scores = [0.9] * len(boxes)
    return {"path": path, "boxes": boxes, "labels": labels, "scores": scores, **place}


@pytest.mark.long
def test_exported_detections_by_hand(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Pictures are of 128 x 96 pixels and of 25 frames a second."""
    person, face = [10, 24, 40, 72], [20, 24, 40, 44]
    rows = [
        line("0.mp4", [person, face], ["person", "face"], frame=3),
        line("0.mp4", [], [], frame=20),
        line("0.mp4", [[0, 0, 64, 96]], ["person"], time_s=LENGTH / 25 + 0.5),
        {
            "path": "1.mp4",
            "frame": 2,
            "relative_boxes": [[0, 0, 1, 0.25], [0, 0, 1, 1]],
            "labels": ["person", "person"],
            "scores": [0.7, 0.3],
        },
        line("none.mp4", [], [], frame=0),
        line("0.mp4", [], [], frame=10_000),
        "{not json",
        line("0.mp4", [[1, 2, 3]], ["person"], frame=1),
        line("0.mp4", [[1, 2, float("nan"), 4]], ["person"], frame=1),
        line("0.mp4", [[5, 2, 3, 4]], ["person"], frame=1),
        line("0.mp4", [person], [], frame=1),
        line("0.mp4", [person], ["person"], frame=-1),
    ]
    file = write_lines(tmp_path / "found.jsonl", rows)
    before = thumbnails(corpus)
    run(corpus, "stage=persons", f"persons.detections={file}")
    found = {
        key: (row["person_frames_fraction"], row["person_max_height"], row["faces_max"])
        for key, row in clips(corpus).items()
    }
    assert found == {
        ("0.mp4", 0): (0.5, 0.5, 1),
        ("0.mp4", LENGTH): (1.0, 1.0, 0),
        ("1.mp4", 0): (1.0, 0.25, 0),
        ("1.mp4", LENGTH): (None, None, None),
    }
    for problem in (
        f"no clip of the table has this path: {file}:5",
        f"no clip of the table has this frame: {file}:6",
        f"no JSON object: {file}:7",
        f"a box is not left, top, right, bottom: {file}:8, {file}:9, {file}:10",
        f"boxes, labels and scores are no lists of one length: {file}:11",
    ):
        assert problem in caplog.text
    assert "faces are blurred in the thumbnails of 3 of 4 clips" in caplog.text
    after, rows_now = thumbnails(corpus), clips(corpus)
    same = {key for key, row in rows_now.items() if before[row["clip_id"]] == after[row["clip_id"]]}
    assert same == {("1.mp4", LENGTH)}
    clip = rows_now["0.mp4", 0]["clip_id"]  # frame 20 is nearer to the middle than frame 3
    shown = cv2.imdecode(np.frombuffer(after[clip], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    frame = read_frames(tmp_path / "raw/0.mp4", (0, LENGTH), [20], 2**31)[0]
    own = cv2.resize(frame, shown.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(shown.astype(int) - own).mean() < 8


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "has 0 lines, and none is about a frame"),
        ([line("other.mp4", [], [], frame=0)], "has 1 lines, and none is about a frame"),
        ([line("0.mp4", [[0, 0, 9, 9]], ["0"], frame=0)], "persons.label=person is none of .*: 0$"),
    ],
)
def test_detections_of_no_use_are_refused(
    corpus: Path, tmp_path: Path, rows: list[Any], says: str
) -> None:
    file = write_lines(tmp_path / "found.jsonl", rows)
    with pytest.raises(ConfigError, match=says):
        run(corpus, "stage=persons", f"persons.detections={file}")


def test_frames_in_which_nothing_was_found_count(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_lines(tmp_path / "found.jsonl", [line("0.mp4", [], [], frame=0)])
    run(corpus, "stage=persons", f"persons.detections={file}")
    assert clips(corpus)["0.mp4", 0]["person_frames_fraction"] == 0.0
    assert "nothing was found in any frame" in caplog.text
    run(corpus, "stage=select", "rules.persons=true", "scenes=all")
    rows = clips(corpus)
    assert rows["0.mp4", 0]["reasons"] == ["no_person"]
    assert rows["1.mp4", 0]["reasons"] == ["no_person:not_measured"]
    assert rows["1.mp4", 0]["keep"] is None


def test_detections_of_a_file_of_the_same_content_count(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A detector looks at files, of which only one of the same content has clips."""
    shutil.copy(tmp_path / "raw/0.mp4", tmp_path / "raw/copy.mp4")
    run(corpus, f"source={tmp_path / 'raw'}", "stage=sources")
    run(corpus, "stage=measure")
    file = write_lines(
        tmp_path / "found.jsonl", [line("copy.mp4", [[0, 0, 9, 9]], ["person"], frame=0)]
    )
    run(corpus, "stage=persons", f"persons.detections={file}")
    assert clips(corpus)["0.mp4", 0]["person_frames_fraction"] == 1.0
    assert "no clip of the table" not in caplog.text


@pytest.mark.long
def test_forgotten_clips_leave_no_thumbnail_behind(corpus: Path, tmp_path: Path) -> None:
    face = line("0.mp4", [[0, 0, 9, 9]], ["face"], frame=0) | {"labels": ["face"]}
    person = line("1.mp4", [[0, 0, 9, 9]], ["person"], frame=0)
    file = write_lines(tmp_path / "found.jsonl", [face, person])
    run(corpus, "stage=persons", f"persons.detections={file}")
    source = clips(corpus)["0.mp4", 0]["source_sha256"]
    assert any(source in str(pq.read_table(each).to_pylist()) for each in corpus.rglob("faces/*"))
    (tmp_path / "gone.txt").write_text("0.mp4\n")
    run(corpus, f"forget={tmp_path / 'gone.txt'}")
    for each in corpus.rglob("*.parquet"):
        assert source not in str(pq.read_table(each).to_pylist()), each


def test_a_range_that_cannot_be_decoded_is_an_answer_and_the_program_goes_on(
    tmp_path: Path,
) -> None:
    video = render(tmp_path / "x.mp4", panned(0, 20, 2.0))
    answer, limit = answering(FaceThumbnails()), 2**31
    given = [0, []]
    bad = answer(str(video), sha256(video), 10, 50, given, limit, limit)
    assert bad.columns is None
    assert "outside of the video, which has 20" in str(bad.error)
    assert answer(str(video), sha256(video), 10, 20, given, limit, limit).columns is not None
    assert answer(str(video), "0" * 64, 10, 20, given, limit, limit).changed
    assert answer(str(tmp_path / "none.mp4"), "0" * 64, 0, 2, given, limit, limit).changed
