"""The first walk: from a folder of one's own videos to predictions and a page, in four commands."""

import json
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.conftest import soaked, write_video
from tests.test_commands import call
from tests.train.processes import Job, in_processes

SHORT = ("run=debug", "max_steps=3")
"""What makes a training a matter of seconds."""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 clips in a folder per class, of 5 places as their names tell, and one that is broken."""
    root = tmp_path_factory.mktemp("phone") / "my videos"
    for number in range(40):
        name = ("run", "jump", "跳ぶ", "прыжок")[number % 4]
        path = root / name / f"place{number // 8}_{number % 8 // 4:03}.mp4"
        write_video(path, seed=number, frames=16 + number % 5, height=72, width=96)
    (root / "run" / "cut off.mp4").write_bytes(path.read_bytes()[:1000])
    (root / "run" / "thumbnail.jpg").write_bytes(b"x")
    return root


@pytest.mark.soak
def test_from_a_folder_to_predictions_and_a_page(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my videos").symlink_to(clips)
    assert call("pretrain", "data.videos=my videos", *SHORT, pictures=True) == 0
    said = capsys.readouterr().err
    assert said.index("left out: run/cut off.mp4: cannot be opened") < said.index("step 1/3")
    assert "a GPU would take vit_base" in " ".join(said.split())
    given = ("data.videos=my videos", "weights=outputs/pretrain")
    assert call("finetune", *given, *SHORT, "data.segments=1", "data.crops=1", pictures=True) == 0
    new = "my videos/jump"
    assert (
        call("predict", "weights=outputs/finetune", f"video={new}", "run=debug", pictures=True) == 0
    )
    assert call("report", "runs=outputs/*", "out=outputs/report") == 0
    assert (tmp_path / "outputs/report/report.html").is_file()
    predicted = json.loads((tmp_path / "predictions.json").read_text())
    assert "прыжок" in json.dumps(predicted, ensure_ascii=False)

    lists = [
        set((tmp_path / "outputs" / run / "prepared" / f"{part}.txt").read_text().splitlines())
        for run in ("pretrain", "finetune")
        for part in ("train", "test")
    ]
    assert lists[:2] == lists[2:]
    assert len(lists[2] | lists[3]) == 40
    places = [{line.split("/")[1].split("_")[0] for line in lines} for lines in lists[2:]]
    assert [len(each) for each in places] == [4, 1]  # of five places one is new to the model
    assert not places[0] & places[1]
    results = json.loads((tmp_path / "outputs/finetune/results.json").read_text())
    assert results["num_videos"] == len(lists[3])
    record = json.loads((tmp_path / "outputs/finetune/prepared/folder.json").read_text())
    assert record["labelled"]
    kept = OmegaConf.load(tmp_path / "outputs/finetune/config.yaml")
    assert kept.data.train_list == "outputs/finetune/prepared/train.txt"
    assert kept.data.clip.size == 64


@pytest.mark.long
def test_a_run_goes_on_with_its_own_lists_and_numbers(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "videos"
    shutil.copytree(clips, own)
    given = (f"data.videos={own}", f"output_dir={tmp_path / 'run'}", "run=debug")
    assert call("pretrain", *given, "max_steps=2") == 0
    before = OmegaConf.load(tmp_path / "run/config.yaml")
    for number in range(30):  # which would make another batch
        write_video(own / "run" / f"new {number}.mp4", seed=100 + number)
    capsys.readouterr()
    assert call("pretrain", *given, "max_steps=4", "resume=auto") == 0
    said = capsys.readouterr().err
    assert "the run goes on with its own lists and settings" in said
    assert "step 3/4" in said
    after = OmegaConf.load(tmp_path / "run/config.yaml")
    for section in ("model", "data", "optim", "augment", "mask"):
        assert after[section] == before[section]


@pytest.mark.long
def test_a_run_that_began_without_a_validation_list_goes_on_without_one(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    given = (f"data.videos={clips}", "weights=scratch", f"output_dir={run}", "run=debug")
    assert call("finetune", *given, "max_steps=1", "data.segments=1", "data.crops=1") == 0
    assert call("finetune", *given, "max_steps=2", "resume=auto", "eval_every=1") == 2
    said = capsys.readouterr().err
    assert f"eval_every=1: the run in {run} began without a validation list" in said
    assert not (run / "prepared" / "val.txt").exists()


@pytest.mark.long
def test_a_run_is_not_begun_over_another(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (f"data.videos={clips}", f"output_dir={tmp_path / 'run'}", *SHORT)
    assert call("pretrain", *given) == 0
    assert call("pretrain", *given) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert call("pretrain", *given, "overwrite=true") == 0
    assert "the folder has not changed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "more", "said"),
    [
        ("pretrain", ["data.train_list=x.txt"], "but there is data.train_list=x.txt"),
        ("finetune", [], "weights is not set"),
        ("evaluate", ["weights=x"], "data.prepared=RUN/prepared"),
        ("probe", ["weights=x"], "data.prepared=RUN/prepared"),
    ],
)
def test_settings_that_do_not_go_together(
    clips: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    more: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(command, f"data.videos={clips}", *more) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()


def test_one_video_can_be_pre_trained_on(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    shutil.copyfile(next(clips.rglob("place0*.mp4")), tmp_path / "one" / "1.mp4")
    given = (f"data.videos={tmp_path / 'one'}", f"output_dir={tmp_path / 'run'}")
    assert call("pretrain", *given, *SHORT) == 0


@pytest.mark.parametrize("good", [*soaked(True), False])
def test_of_two_processes_one_scans_and_the_other_waits(
    clips: Path, tmp_path: Path, good: bool
) -> None:
    if not good:
        clips = clips / "run"
    given = (f"data.videos={clips}", "weights=scratch", "output_dir=run", *SHORT)
    more = ("data.segments=1", "data.crops=1", "run.device=cpu")
    job = Job("finetune", [*given, *more], str(tmp_path / "said"), directory=str(tmp_path))
    assert in_processes(2, job) == ([0, 0] if good else [1, 1])
    said = [(tmp_path / f"said{rank}").read_text() for rank in (0, 1)]
    if good:
        assert "".join(said).count("scanning them") == 1
        assert (tmp_path / "run/results.json").is_file()
    else:
        assert "fine-tuning needs two classes" in said[0]
        assert "the main process could not make the lists, and says why" in said[1]
