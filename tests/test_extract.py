"""python -m videomae.extract: the numbers, the windows, going on, several processes, refusals."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from tests.conftest import write_list
from tests.miniatures import odd_folder
from tests.test_commands import call
from tests.test_predict import CLIP, MODEL, classifier, encoder_of_pretraining
from tests.train import json_lines
from tests.train.processes import Job, in_processes
from videomae.config import ClipConfig
from videomae.data.augment import evaluation_crops
from videomae.data.sliding_windows import window_starts
from videomae.evaluation.extracted import FeatureDirectory
from videomae.model.pixels import normalise
from videomae.video.decord import DecordVideo
from videomae.weights.load import load_model

TOKENS = (CLIP.frames // MODEL.tubelet) * (CLIP.size // MODEL.patch) ** 2


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return encoder_of_pretraining(tmp_path / "weights.safetensors")


def extracted(*overrides: str) -> dict[str, dict[str, Any]]:
    """The manifest's rows by path, after a run that succeeds."""
    assert call("extract", "run=debug", "output_dir=out", *overrides) == 0
    return {row["path"]: row for row in json_lines(Path("out/manifest.jsonl"))}


def window(video: Path, start: int) -> Tensor:
    """(1, 3, T, H, W): a window cut by hand."""
    frames = torch.from_numpy(DecordVideo(video).read([start + 2 * i for i in range(4)]))
    return normalise(evaluation_crops(frames, (32, 32), 1)[0][None])


@pytest.mark.parametrize("make", [encoder_of_pretraining, classifier])
def test_features_are_those_of_hand_cut_windows(make: Any, weights: Path, videos: Path) -> None:
    weights = make(weights)
    video = videos / "5.mp4"  # of 12 frames; a window takes 8
    row = extracted(f"weights={weights}", f"video={video}", "pool=none", "hop=3")["5.mp4"]
    assert row["starts"] == [0, 3, 4]
    features = load_file(Path("out") / row["file"])["features"]
    assert list(features.shape) == row["shape"] == [3, TOKENS, MODEL.dim]
    model = load_model(weights, verbose=False)
    with torch.inference_mode():
        for index, start in enumerate(row["starts"]):
            expected = model.features(window(video, start))[0]
            torch.testing.assert_close(features[index], expected, rtol=1e-5, atol=1e-5)
    assert (row["frames"], row["stride"], row["num_frames"], row["fps"]) == (4, 2, 12, 25)


def test_pooled_half_precision_arrays(weights: Path, videos: Path) -> None:
    given = (f"weights={weights}", f"video={videos / '5.mp4'}")
    row = extracted(*given, "dtype=float16", "format=npy")["5.mp4"]
    assert row["file"] == "5.mp4.npy"
    features = np.load("out/5.mp4.npy")
    assert features.dtype == np.float16
    model = load_model(weights, verbose=False)
    with torch.inference_mode():
        means = torch.cat([model.features(window(videos / "5.mp4", s)).mean(1) for s in (0, 4)])
    np.testing.assert_allclose(features, means.numpy(), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(
    ("num_frames", "hop", "starts"),
    [
        (16, 8, [0, 8]),  # nothing is left over
        (20, 8, [0, 8, 12]),  # the last window ends with the video
        (20, 4, [0, 4, 8, 12]),
        (10, 16, [0, 2]),
        (8, 1, [0]),
        (3, 8, [0]),  # shorter than a window
        (1, 8, [0]),
    ],
)
def test_windows_cover_the_video(num_frames: int, hop: int, starts: list[int]) -> None:
    assert window_starts(num_frames, ClipConfig(frames=4, stride=2, size=32), hop) == starts


def test_batches_of_windows_and_decoding_processes_change_nothing(
    weights: Path, videos: Path
) -> None:
    given = (f"weights={weights}", f"video={videos}", "hop=1")
    rows = extracted(*given, "run.device_batch=16")
    assert list(rows) == sorted(rows)
    again = extracted(*given, "run.device_batch=2", "run.workers=2", "output_dir=again")
    assert again == rows
    for row in rows.values():
        ours, theirs = (load_file(Path(folder) / row["file"]) for folder in ("out", "again"))
        torch.testing.assert_close(ours["features"], theirs["features"], rtol=1e-5, atol=1e-5)


def test_what_is_done_is_left_alone_and_the_unreadable_is_tried_again(
    weights: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    for name, source in (("a/0.mp4", "0.mp4"), ("1.mp4", "1.mp4")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes((videos / source).read_bytes())
    listed = write_list(tmp_path / "list.txt", ["a/0.mp4", "1.mp4", "a/0.mp4", "gone.mp4"])
    given = (f"weights={weights}", f"list={listed}", f"root={root}")
    rows = extracted(*given)
    assert list(rows) == ["a/0.mp4", "1.mp4", "gone.mp4"]
    assert "gone.mp4" in rows["gone.mp4"]["error"]
    assert "2 of 3 videos, 1 unreadable" in capsys.readouterr().err

    times = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.safetensors")}
    assert set(times) == {Path("out/a/0.mp4.safetensors"), Path("out/1.mp4.safetensors")}
    Path("out/1.mp4.safetensors").unlink()
    (root / "gone.mp4").write_bytes((videos / "2.mp4").read_bytes())
    with Path("out/manifest.jsonl").open("a") as file:
        file.write('{"path": "cut o')  # by a kill
    Path("out/a/.0.mp4.77.safetensors").write_bytes(b"half")
    rows = extracted(*given)
    assert all("file" in row for row in rows.values())
    assert len(json_lines(Path("out/manifest.jsonl"))) == 3
    assert not Path("out/a/.0.mp4.77.safetensors").exists()
    assert Path("out/1.mp4.safetensors").exists()
    kept = Path("out/a/0.mp4.safetensors")
    assert kept.stat().st_mtime_ns == times[kept]
    assert "1 are done" in capsys.readouterr().err


def test_features_of_other_settings_are_not_mixed(
    weights: Path, videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (f"weights={weights}", f"video={videos / '0.mp4'}")
    extracted(*given)
    assert call("extract", "run=debug", "output_dir=out", *given, "hop=3") == 2
    said = capsys.readouterr().err
    assert "hop: 8 there, 3 here" in said
    assert "choose another output_dir" in said


def test_features_of_a_folder_and_of_packs_are_not_mixed(
    weights: Path, videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And features that an earlier version wrote, which do not name a pack, go on."""
    write_list(Path("list.txt"), ["0.mp4", "1.mp4"])
    for name, crf in (("first", 22), ("second", 40)):
        given = (f"root={videos}", "list=list.txt", f"out={name}", f"crf={crf}", "workers=1")
        assert call("pack", *given) == 0
    extracted(f"weights={weights}", "list=list.txt", "root=first")
    for root in (str(videos), "second"):
        given = (f"weights={weights}", "list=list.txt", f"root={root}", "output_dir=out")
        assert call("extract", "run=debug", *given) == 2
        assert "made with other settings (pack: " in capsys.readouterr().err
    settings = json.loads(Path("out/extract.json").read_text())
    del settings["pack"]
    Path("out/extract.json").write_text(json.dumps(settings))
    extracted(f"weights={weights}", "list=list.txt", "root=first")


def launch(*arguments: str) -> subprocess.Popen[str]:
    """In a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.long
def test_a_killed_run_leaves_whole_files_and_is_gone_on_with(
    weights: Path, videos: Path, tmp_path: Path
) -> None:
    for number in range(200):
        (tmp_path / "many" / f"{number:03}.mp4").parent.mkdir(exist_ok=True)
        (tmp_path / "many" / f"{number:03}.mp4").symlink_to(videos / f"{number % 12}.mp4")
    given = (f"weights={weights}", "video=many", "hop=1")
    process = launch("-m", "videomae.extract", "run=debug", "output_dir=out", *given)
    while len(list(Path("out").rglob("[!.]*.safetensors"))) < 5:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    whole = list(Path("out").rglob("[!.]*.safetensors"))
    assert 5 <= len(whole) < 200
    for path in whole:
        assert load_file(path)["features"].shape == (5, MODEL.dim)
    rows = extracted(*given)
    assert len(rows) == 200
    assert len(list(Path("out").rglob("*.safetensors"))) == 200


@pytest.mark.long
def test_two_processes_share_the_list(weights: Path, videos: Path) -> None:
    given = ("run=debug", "run.sharding=ddp", f"weights={weights}", f"video={videos}")
    assert in_processes(2, Job("extract", [*given, f"output_dir={Path.cwd() / 'out'}"])) == [0, 0]
    rows = json_lines(Path("out/manifest.jsonl"))
    assert [row["path"] for row in rows] == sorted(f"{number}.mp4" for number in range(12))
    assert [path.name for path in Path("out").glob("manifest*")] == ["manifest.jsonl"]
    assert call("extract", *given, "output_dir=alone") == 0
    alone = {row["path"]: row for row in json_lines(Path("alone/manifest.jsonl"))}
    for row in rows:
        assert row == alone[row["path"]]
        ours, theirs = (load_file(Path(folder) / row["file"]) for folder in ("out", "alone"))
        assert ours["features"].equal(theirs["features"])


def test_what_cannot_be_used_in_a_folder_is_named_and_the_rest_goes_on(
    weights: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = odd_folder(tmp_path / "seen", videos / "0.mp4")
    for _ in range(2):  # the same command goes on, and names them again
        rows = extracted(f"weights={weights}", "video=seen")
        assert list(rows) == ["deep/ Übung 1.MP4", "good.mp4", *odd]
        assert [name for name, row in rows.items() if "error" in row] == odd
        words = " ".join(capsys.readouterr().err.split())
        assert "2 of 5 videos, 3 unreadable" in words
        assert "left out: 1 pipe or device (1 .mp4), such as pipe.mp4" in words
    assert all((Path("out") / row["file"]).is_file() for row in list(rows.values())[:2])


@pytest.mark.parametrize("name", ["manifest.jsonl", "manifest.3.jsonl", "0.mp4.safetensors"])
def test_files_of_others_are_not_replaced(
    weights: Path, videos: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    mine = Path("out") / name
    mine.parent.mkdir()
    mine.write_text("mine")
    given = ("run=debug", f"weights={weights}", f"video={videos}", "output_dir=out")
    assert call("extract", *given) == 2
    said = capsys.readouterr().err
    assert f"output_dir=out holds {name}, and no extract.json" in said
    assert "choose another output_dir, or move it away" in said
    assert [path.read_text() for path in Path("out").iterdir()] == ["mine"]
    mine.rename("out/manifest.old.jsonl")  # a name that no features have
    assert call("extract", *given) == 0
    assert Path("out/manifest.old.jsonl").read_text() == "mine"


def test_what_the_manifest_does_not_know_is_kept_under_another_name(
    weights: Path, videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extracted(f"weights={weights}", f"video={videos / '0.mp4'}")
    mine = Path("out/1.mp4.safetensors")
    mine.write_text("mine")
    extracted(f"weights={weights}", f"video={videos}")
    assert "1.mp4.safetensors, is kept as 1.mp4.safetensors.damaged" in capsys.readouterr().err
    assert Path("out/1.mp4.safetensors.damaged").read_text() == "mine"
    assert load_file(mine)["features"].shape == (2, MODEL.dim)


def test_what_a_killed_process_wrote_last_is_known(
    weights: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the features and the row that tells of them."""
    given = (f"weights={weights}", f"video={videos}")
    add = FeatureDirectory.add

    def killed(directory: FeatureDirectory, row: dict[str, Any], rank: int) -> None:
        if "file" in row:
            raise KeyboardInterrupt
        add(directory, row, rank)

    with monkeypatch.context() as patch:
        patch.setattr(FeatureDirectory, "add", killed)
        assert call("extract", "run=debug", "output_dir=out", *given) == 130
    assert [path.name for path in Path("out").glob("*.safetensors")] == ["0.mp4.safetensors"]
    assert all("file" in row for row in extracted(*given).values())
    assert not list(Path("out").glob("*.damaged"))


def test_a_folder_of_frames_without_end_is_a_bad_file(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("long", "good"):
        for number in range(1, 11):
            path = tmp_path / "frames" / name / f"img_{number:05}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (64, 48)).save(path)
    listed = write_list(tmp_path / "list.txt", ["long 1 100000000000000000", "good 1 10"])
    given = (f"list={listed}", f"root={tmp_path / 'frames'}", "list_format=frames_start_total")
    rows = extracted(f"weights={weights}", *given, "frame_template='img_{:05}.jpg'")
    assert "memory does not suffice" in rows["long"]["error"]
    assert "file" in rows["good"]
    assert "1 of 2 videos, 1 unreadable" in capsys.readouterr().err


def test_features_that_are_not_finite_are_refused(
    weights: Path,
    videos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = importlib.import_module("videomae.evaluation.features")
    monkeypatch.setattr(
        module.FeatureExtractor, "tokens", lambda self, x: torch.full((len(x), 2, 3), 1e6)
    )
    given = ("run=debug", f"weights={weights}", f"video={videos / '0.mp4'}", "output_dir=out")
    assert call("extract", *given, "dtype=float16") == 2
    assert "not finite in float16" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], ["video is not set"]),
        (["list=list.txt"], ["root is not set"]),
        (["list=list.txt", "root=empty", "video=empty"], ["give one of the two"]),
        (["list=nowhere.txt", "root=empty"], ["list=nowhere.txt does not exist"]),
        (["list=list.txt", "root=empty"], ["none of the first 1 videos of list", "Are root=empty"]),
        (["list=above.txt", "root={videos}"], ["lies outside root"]),
        (["list=folders.txt", "root={videos}"], ["set list_format to one of"]),
        (["video=empty"], ["video=empty holds no video"]),
        (["video=list.txt"], ["none of the 1 videos can be read", "says why"]),
        (["video={videos}", "output_dir=list.txt"], ["output_dir=list.txt", "is a file"]),
        (["video={videos}", "hop=0"], ["hop must be at least 1"]),
        (["video={videos}", "pool=max"], ["pool"]),
    ],
)
def test_what_cannot_work_is_refused(
    weights: Path,
    videos: Path,
    overrides: list[str],
    words: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("empty").mkdir()
    write_list(Path("list.txt"), ["1.mp4"])
    write_list(Path("above.txt"), [f"../{videos.name}/1.mp4"])
    write_list(Path("folders.txt"), ["a 1 2"])
    given = [override.format(videos=videos) for override in overrides]
    code = call("extract", "run=debug", "output_dir=out", f"weights={weights}", *given)
    said = capsys.readouterr().err
    assert code != 0
    for word in words:
        assert word in said
    assert not list(Path("out").rglob("*.safetensors"))
