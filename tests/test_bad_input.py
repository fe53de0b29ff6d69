"""What a user got wrong ends a command with one message that says where, what and what to do."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import write_list
from tests.test_commands import call
from tests.train import (
    FINETUNE,
    PRETRAIN,
    finetuning,
    labelled_list,
    pretraining,
    train,
    video_list,
)


class Place(NamedTuple):
    """Where a wrong command is given, and what is there."""

    videos: Path
    here: Path
    pretrained: Path
    classifier: Path


@pytest.fixture(scope="module")
def weights(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A pre-training run and a fine-tuning run, one step each."""
    root = tmp_path_factory.mktemp("weights")
    return (
        train(pretraining(videos, root / "pretrained", max_steps=1)),
        train(finetuning(videos, root / "classifier", max_steps=1)),
    )


@pytest.fixture
def place(
    videos: Path,
    weights: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Place:
    """An empty directory, which is the working directory, and the runs."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return Place(videos, here, *weights)


def refused(capsys: pytest.CaptureFixture[str], here: Path, command: str, *overrides: str) -> str:
    """The message of a command that fails and leaves everything as it was."""
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
    capsys.readouterr()
    status = call(command, *overrides)
    said = capsys.readouterr().err
    assert status == 2
    assert "Traceback" not in said
    error = said[said.index("error: ") :]
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before
    return error.strip()


def pretrain_overrides(place: Place, train_list: Path | str) -> list[str]:
    return [*PRETRAIN, f"data.root={place.videos}", f"data.train_list={train_list}"]


def finetune_overrides(place: Place, train_list: Path | None = None) -> list[str]:
    labelled = labelled_list(place.here / "labelled.txt")
    return [
        *FINETUNE,
        "weights=scratch",
        f"data.root={place.videos}",
        f"data.train_list={train_list or labelled}",
        f"data.test_list={labelled}",
    ]


# Clip lists


def test_a_list_that_is_not_there(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, place.here, "pretrain", *pretrain_overrides(place, "no.txt"))
    assert "data.train_list=no.txt does not exist" in said


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n"])
def test_an_empty_list(place: Place, capsys: pytest.CaptureFixture[str], text: str) -> None:
    path = place.here / "empty.txt"
    path.write_text(text)
    said = refused(capsys, place.here, "pretrain", *pretrain_overrides(place, path))
    assert f"data.train_list={path} lists no clip" in said
    assert "video_label" in said  # the forms that a line may have


def test_a_list_that_is_a_folder_or_no_text(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    binary = place.here / "list.bin"
    binary.write_bytes(b"\xff\xfe\x00videos")
    for path in (place.videos, binary):
        said = refused(capsys, place.here, "pretrain", *pretrain_overrides(place, path))
        assert f"data.train_list={path} cannot be read" in said


@pytest.mark.parametrize(
    ("lines", "overrides", "words"),
    [
        (["0.mp4 1", "1.mp4 3 4"], (), [":2:", "'1.mp4 3 4'", "data.list_format"]),
        (["0.mp4 1", "1.mp4"], (), [":2:", "expected 'path label'", "'1.mp4'"]),
        (["# c", "0.mp4 x"], ("data.list_format=video_label",), [":2:", "'0.mp4 x'"]),
        (["0.mp4 1", "", "1.mp4 3"], (), [":3:", "label 3", "3 classes 0..2", "data.classes"]),
        (["0.mp4 -1"], (), [":1:", "label -1", "3 classes 0..2"]),
        (
            ["folder 30 1"],
            ("data.list_format=frames_total_label",),
            ["data.list_format=frames_total_label", "data.frame_template"],
        ),
    ],
)
def test_a_malformed_line(
    place: Place,
    capsys: pytest.CaptureFixture[str],
    lines: list[str],
    overrides: tuple[str, ...],
    words: list[str],
) -> None:
    path = write_list(place.here / "bad.txt", lines)
    given = [*finetune_overrides(place), *overrides, f"data.train_list={path}"]
    said = refused(capsys, place.here, "finetune", *given)
    for word in words:
        assert word in said
    if ":" in words[0]:
        assert f"{path}{words[0]}" in said


def test_a_malformed_line_of_the_test_list(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_list(place.here / "bad.txt", ["0.mp4 1", "1.mp4 3"])
    given = [*finetune_overrides(place), f"data.test_list={path}", f"weights={place.classifier}"]
    for command in ("finetune", "evaluate"):
        said = refused(capsys, place.here, command, *given)
        assert f"{path}:2: label 3 of '1.mp4'" in said


def test_a_root_under_which_nothing_is(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    given = [
        *pretrain_overrides(place, video_list(place.here / "l.txt")),
        f"data.root={place.here}",
    ]
    said = refused(capsys, place.here, "pretrain", *given)
    for words in ("none of the first 11 videos", "line 1", f"data.root={place.here}"):
        assert words in said


def test_test_videos_of_which_none_can_be_read(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(11):
        (place.here / f"{number}.mp4").write_text("no video")
    given = [*finetune_overrides(place), f"data.root={place.here}", f"weights={place.classifier}"]
    assert call("evaluate", *given, "output_dir=out") == 2
    assert "none of the 11 test videos can be read" in capsys.readouterr().err
    assert not Path("out/results.json").exists()
    assert len(Path("out/bad_files.jsonl").read_text().splitlines()) == 11


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("optim.base_lr=inf", "optim.base_lr must be finite, got inf"),
        ("optim.betas=[0.9,-inf]", "optim.betas must be finite"),
        ("optim.lr=1e-3", "optim.lr=0.001 and optim.base_lr=0.2 both say the learning rate"),
        ("optim.lr=0", "optim.lr must be more than 0, or null for base_lr * global_batch / 256;"),
        ("seed=100000000000000000000", "seed must lie in [0, 2**63)"),
        ("output_dir=file.txt/run", "file.txt is a file; choose another output_dir"),
    ],
)
def test_values_that_no_run_can_work_with(
    place: Place, capsys: pytest.CaptureFixture[str], setting: str, words: str
) -> None:
    (place.here / "file.txt").touch()
    given = [*pretrain_overrides(place, video_list(place.here / "list.txt")), setting]
    assert words in refused(capsys, place.here, "pretrain", *given)


def test_a_picture_that_cannot_be_written(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    (place.here / "file.txt").touch()
    for output in ("folder", "file.txt/x.png", "x.jpg", ""):
        given = [f"weights={place.pretrained}", f"video={place.videos / '0.mp4'}"]
        said = refused(capsys, place.here, "reconstruct", *given, f"output={output}")
        assert "output=" in said


def test_weights_that_the_new_run_would_replace(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(pretraining(place.videos, place.here / "run", max_steps=1))
    given = [*pretrain_overrides(place, video_list(place.here / "list.txt")), "overwrite=true"]
    for weights in (run, run / "weights.safetensors"):
        here = [f"weights={weights}", f"output_dir={run}"]
        said = refused(capsys, place.here, "pretrain", *given, *here)
        assert f"weights={weights} lies in output_dir={run}" in said


@pytest.mark.long
def test_a_run_may_start_from_weights_below_its_own_directory(place: Place) -> None:
    train(pretraining(place.videos, place.here / "earlier", max_steps=1))
    given = pretrain_overrides(place, video_list(place.here / "list.txt"))
    assert call("pretrain", *given, "weights=earlier", "output_dir=.", "max_steps=1") == 0
    assert Path("earlier/weights.safetensors").is_file()
    given = [*finetune_overrides(place), "weights=scratch", "output_dir=.", "overwrite=true"]
    assert call("finetune", *given, "max_steps=1") == 0


def test_fewer_videos_than_a_step_takes(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    path = video_list(place.here / "short.txt", ["0.mp4", "1.mp4", "2.mp4"])
    said = refused(capsys, place.here, "pretrain", *pretrain_overrides(place, path))
    assert "the list holds 3 videos" in said
    assert "optim.global_batch=4" in said


def test_class_names_that_do_not_fit(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    missing, few = place.here / "no.txt", write_list(place.here / "names.txt", ["a", "b"])
    same = write_list(place.here / "same.txt", ["a", "b", "a"])
    shifted = write_list(place.here / "shifted.txt", ["a", "", "b", "c"])
    for path, words in (
        (missing, "cannot be read"),
        (few, "names 2 different classes on 2 lines, data.classes is 3"),
        (same, "names 2 different classes on 3 lines, data.classes is 3"),
        (shifted, "names 3 different classes on 4 lines, data.classes is 3"),
    ):
        given = [*finetune_overrides(place), f"data.class_names={path}"]
        said = refused(capsys, place.here, "finetune", *given)
        assert f"data.class_names={path}" in said
        assert words in said


# Weights


def cut_off(path: Path, place: Place) -> None:
    path.write_bytes((place.pretrained / "weights.safetensors").read_bytes()[:-100])


def of_another_project(path: Path, _: Place) -> None:
    save_file({"a": torch.zeros(1)}, path)


def no_weights_at_all(path: Path, _: Place) -> None:
    path.write_text("weights\n")


def of_a_later_version(path: Path, place: Place) -> None:
    save_file(load_file(place.pretrained / "weights.safetensors"), path, {"videomae": "9"})


@pytest.mark.parametrize(
    ("make", "words", "command"),
    [
        (cut_off, "cannot be read as a safetensors file", "pretrain"),
        (cut_off, "cannot be read as a safetensors file", "evaluate"),
        (no_weights_at_all, "is no checkpoint: neither a safetensors file nor", "finetune"),
        (of_another_project, "so it is no VideoMAE; its tensors are a ...", "finetune"),
        (of_another_project, "so it is no VideoMAE; its tensors are a ...", "reconstruct"),
        (of_a_later_version, "its metadata cannot be understood", "evaluate"),
    ],
)
def test_weights_that_are_none(
    place: Place,
    capsys: pytest.CaptureFixture[str],
    make: Callable[[Path, Place], None],
    words: str,
    command: str,
) -> None:
    path = place.here / "some.safetensors"
    make(path, place)
    given = {
        "pretrain": pretrain_overrides(place, video_list(place.here / "list.txt")),
        "finetune": finetune_overrides(place),
        "evaluate": finetune_overrides(place),
        "reconstruct": [f"video={place.videos / '0.mp4'}"],
    }
    said = refused(capsys, place.here, command, *given[command], f"weights={path}")
    assert str(path) in said
    assert words in said


@pytest.mark.parametrize("command", ["pretrain", "finetune", "evaluate"])
def test_a_directory_without_weights(
    place: Place, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    given = finetune_overrides(place)
    if command == "pretrain":
        given = pretrain_overrides(place, video_list(place.here / "list.txt"))
    said = refused(capsys, place.here, command, *given, f"weights={place.videos}")
    assert f"no weights at {place.videos}: give weights= a weights.safetensors or" in said
    assert "a Hugging Face directory" in said


@pytest.mark.parametrize(
    ("command", "source"),
    [("pretrain", "pretrained"), ("finetune", "pretrained"), ("evaluate", "classifier")],
)
def test_weights_of_another_size(
    place: Place, capsys: pytest.CaptureFixture[str], command: str, source: str
) -> None:
    given = finetune_overrides(place)
    if command == "pretrain":
        given = pretrain_overrides(place, video_list(place.here / "list.txt"))
    path = getattr(place, source)
    wider = ("model.dim=64", "model.name=wider", f"weights={path}")
    said = refused(capsys, place.here, command, *given, *wider)
    assert str(path / "weights.safetensors") in said
    assert "holds vit_tiny, the model is wider" in said
    assert "dim is 32 there, 64 here" in said
    assert "Choose model=vit_tiny (their clip: data.clip.frames=" in said


@pytest.mark.parametrize(("command", "depth"), [("finetune", 1), ("finetune", 3), ("evaluate", 1)])
def test_weights_of_another_depth(
    place: Place, capsys: pytest.CaptureFixture[str], command: str, depth: int
) -> None:
    path = place.pretrained if command == "finetune" else place.classifier
    given = [*finetune_overrides(place), f"model.depth={depth}", f"weights={path}"]
    said = refused(capsys, place.here, command, *given)
    assert str(path) in said
    assert f"depth is 2 there, {depth} here. Choose model.depth=2 (their clip: " in said


@pytest.mark.parametrize(
    ("command", "source", "words"),
    [
        (
            "pretrain",
            "classifier",
            "is a fine-tuned classifier, without a decoder; a pre-training model is needed",
        ),
        ("evaluate", "pretrained", "is a pre-training model, with a decoder"),
        ("reconstruct", "classifier", "is a fine-tuned classifier, without a decoder"),
    ],
)
def test_weights_of_another_kind(
    place: Place, capsys: pytest.CaptureFixture[str], command: str, source: str, words: str
) -> None:
    given = {
        "pretrain": pretrain_overrides(place, video_list(place.here / "list.txt")),
        "evaluate": finetune_overrides(place),
        "reconstruct": [f"video={place.videos / '0.mp4'}"],
    }
    path = getattr(place, source)
    said = refused(capsys, place.here, command, *given[command], f"weights={path}")
    assert str(path / "weights.safetensors") in said
    assert words in said


def test_a_classifier_of_other_classes(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    given = [*finetune_overrides(place), "data.classes=5", f"weights={place.classifier}"]
    said = refused(capsys, place.here, "evaluate", *given)
    assert "knows 3 classes, data.classes is 5" in said


def test_scratch_is_nothing_to_evaluate(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, place.here, "evaluate", *finetune_overrides(place))
    assert "no weights at scratch" in said


# Places to write and to go on from


@pytest.mark.parametrize("command", ["pretrain", "finetune", "evaluate"])
def test_an_output_dir_that_holds_a_run(
    place: Place, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    given = finetune_overrides(place)
    if command == "pretrain":
        given = pretrain_overrides(place, video_list(place.here / "list.txt"))
    if command == "evaluate":
        given = [*given, f"weights={place.classifier}"]
    run = place.classifier
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    said = refused(capsys, place.here, command, *given, f"output_dir={run}")
    assert f"output_dir={run} already holds a run" in said
    other = "another name or output_dir" if command == "evaluate" else "another output_dir"
    for words in ("weights.safetensors", "overwrite=true", other):
        assert words in said
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


@pytest.mark.parametrize("command", ["pretrain", "evaluate"])
def test_an_output_dir_that_is_a_file(
    place: Place, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    (place.here / "file").write_text("in the way\n")
    given = [*finetune_overrides(place), f"weights={place.classifier}"]
    if command == "pretrain":
        given = pretrain_overrides(place, video_list(place.here / "list.txt"))
    said = refused(capsys, place.here, command, *given, "output_dir=file")
    assert "file" in said


@pytest.mark.parametrize("resume", ["{videos}", "always"])
def test_a_checkpoint_that_is_not_there(
    place: Place, capsys: pytest.CaptureFixture[str], resume: str
) -> None:
    resume = resume.format(videos=place.videos)
    given = pretrain_overrides(place, video_list(place.here / "list.txt"))
    said = refused(capsys, place.here, "pretrain", *given, f"resume={resume}")
    assert f"resume={resume} is no complete checkpoint" in said
    assert "resume=auto" in said


def test_a_checkpoint_of_another_recipe(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    given = pretrain_overrides(place, video_list(place.here / "list.txt"))
    resume = f"resume={place.pretrained}"
    said = refused(capsys, place.here, "pretrain", *given, resume, "model.depth=3", "seed=7")
    assert "model.depth: 2 there, 3 here" in said
    assert "seed: 0 there, 7 here" in said
    assert "optim" not in said


# Videos


def test_a_video_that_cannot_be_drawn(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    text = place.here / "text.mp4"
    text.write_text("this is no video\n")
    empty = place.here / "empty.mp4"
    empty.touch()
    for path, words in (
        (text, "cannot be read"),
        (empty, "is empty (0 bytes)"),
        (place.videos, "is a directory"),
        (place.here / "no.mp4", "does not exist"),
    ):
        given = [f"weights={place.pretrained}", f"video={path}", "run=debug"]
        said = refused(capsys, place.here, "reconstruct", *given)
        assert f"video={path}" in said
        assert words in said


@pytest.mark.parametrize("command", ["pretrain", "evaluate", "reconstruct"])
def test_a_decoder_that_is_none(
    place: Place, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    given = [*finetune_overrides(place), f"weights={place.classifier}", "data.decoder=ffmpeg"]
    if command == "pretrain":
        given = pretrain_overrides(place, video_list(place.here / "list.txt"))
        given.append("data.decoder=ffmpeg")
    if command == "reconstruct":
        given = [f"weights={place.pretrained}", f"video={place.videos}/0.mp4", "decoder=ffmpeg"]
    said = refused(capsys, place.here, command, *given)
    assert "'ffmpeg'" in said
    assert "decord" in said


# What happens to a command from outside


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted. Complete checkpoints are kept: resume=auto"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried\nmore words"),
            2,
            "Tried Set a smaller run.device_batch or run.recompute=full. Complete checkpoints",
        ),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            2,
            "can't allocate memory: you tried Set a smaller run.device_batch or",
        ),
    ],
)
def test_what_interrupts_the_evaluation_is_one_line(
    place: Place,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    status: int,
    words: str,
) -> None:
    def interrupt(*_: object) -> None:
        raise error

    monkeypatch.setattr("videomae.evaluation.scoring.predict_videos", interrupt)
    given = [*finetune_overrides(place), "max_steps=1", "output_dir=out"]
    assert call("finetune", *given) == status
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
    monkeypatch.undo()
    monkeypatch.chdir(place.here)
    assert call("finetune", *given, "resume=auto") == 0
    assert Path("out/results.json").is_file()


@pytest.mark.parametrize(
    ("start", "rows", "message"),
    [
        ("scratch", "[0, 1]", "weights=scratch have no head to map"),
        ("classifier", "[0]", "makes 1 classes of .*here they are"),
        ("pretrained", "[0, 1]", "is a pre-training model"),
    ],
)
def test_a_head_map_that_finetuning_would_not_use(
    place: Place, capsys: pytest.CaptureFixture[str], start: str, rows: str, message: str
) -> None:
    path = place.here / "rows.json"
    path.write_text(rows)
    overrides = [part for part in finetune_overrides(place) if not part.startswith("weights=")]
    given = start if start == "scratch" else getattr(place, start)
    said = refused(
        capsys, place.here, "finetune", *overrides, f"weights={given}", f"head_map={path}"
    )
    assert re.search(rf"head_map={path}.*{message}", said)
