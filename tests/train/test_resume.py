"""A run that was stopped and goes on ends as if it had never stopped."""

import os
import re
import shlex
import shutil
import signal
import time
from collections.abc import Callable, Iterable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import composed, write_list
from tests.train import (
    PRETRAIN,
    STEPS,
    STEPS_PER_EPOCH,
    assert_same_run,
    finetuning,
    metrics,
    pretraining,
    step_of,
    train,
    video_list,
    weights,
)
from tests.train.processes import call_in, started
from videomae.run.directory import RunExistsError
from videomae.train import trainer
from videomae.train.objective import Inputs
from videomae.train.resuming import CheckpointError
from videomae.train.step import train_step
from videomae.weights.formats import read_weights
from videomae.weights.tensors import WeightsError

Make = Callable[..., Any]
stages = pytest.mark.parametrize("make", [pretraining, finetuning])


@pytest.fixture(scope="module")
def straight(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Make, Path]:
    """The undisturbed run of either stage. Tests that change it take a copy."""
    root = tmp_path_factory.mktemp("straight")
    return {make: train(make(videos, root / make.__name__)) for make in (pretraining, finetuning)}


def snapshot(directory: Path) -> dict[str, bytes]:
    """Every file below a directory."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


@stages
def test_a_run_learns_something(
    videos: Path, tmp_path: Path, straight: dict[Make, Path], make: Make
) -> None:
    """Else the comparisons below would compare nothing."""
    first = weights(train(make(videos, tmp_path / "run", max_steps=1)))  # at a rate of 0
    trained = weights(straight[make])
    assert [name for name in first if first[name].equal(trained[name])] == []
    assert len({row["loss"] for row in metrics(straight[make])}) == STEPS


@stages
def test_the_same_run_twice_is_the_same_and_another_seed_is_not(
    videos: Path, tmp_path: Path, straight: dict[Make, Path], make: Make
) -> None:
    assert_same_run(train(make(videos, tmp_path / "again")), straight[make])
    other = train(make(videos, tmp_path / "other", seed=1))
    assert metrics(other)[0]["loss"] != metrics(straight[make])[0]["loss"]


@stages
@pytest.mark.parametrize(("stop", "workers"), [(1, 0), (STEPS_PER_EPOCH, 2), (5, 0)])
def test_stopped_and_continued_is_the_same_as_never_stopped(
    videos: Path, tmp_path: Path, straight: dict[Make, Path], make: Make, stop: int, workers: int
) -> None:
    directory = train(make(videos, tmp_path / "run", max_steps=stop))
    assert metrics(directory) == metrics(straight[make])[:stop]
    train(make(videos, directory, f"run.workers={workers}", resume="auto"))
    assert_same_run(directory, straight[make])


def test_how_often_things_are_written_changes_nothing_that_is_learned(
    videos: Path, tmp_path: Path, straight: dict[Make, Path]
) -> None:
    often = (
        "run.checkpoint_every=2",
        "run.background_checkpoints=true",
        "run.log_every=2",
        "run.image_every=2",
        "run.workers=1",
    )
    directory = train(pretraining(videos, tmp_path / "run", *often))
    ours, theirs = weights(directory), weights(straight[pretraining])
    assert [name for name in theirs if not ours[name].equal(theirs[name])] == []


def test_going_on_with_a_finished_run_changes_nothing(
    videos: Path, tmp_path: Path, straight: dict[Make, Path]
) -> None:
    for make in (pretraining, finetuning):
        directory = shutil.copytree(straight[make], tmp_path / make.__name__)
        train(make(videos, directory, resume="auto"))
        assert_same_run(directory, straight[make])


class Crash(BaseException):
    """What no code expects."""


@stages
def test_what_was_logged_after_the_last_checkpoint_is_cut(
    videos: Path,
    tmp_path: Path,
    straight: dict[Make, Path],
    monkeypatch: pytest.MonkeyPatch,
    make: Make,
) -> None:
    def crash_in_step_6(*args: Any) -> Any:
        if step_of(args) == 6:
            raise Crash
        return train_step(*args)

    directory, often = tmp_path / "run", "run.checkpoint_every=3"
    monkeypatch.setattr(trainer, "train_step", crash_in_step_6)
    with pytest.raises(Crash):
        train(make(videos, directory, often))
    assert (directory / "checkpoints" / "last").read_text() == "step_3"
    assert [row["step"] for row in metrics(directory)] == [1, 2, 3, 4]
    with (directory / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "los')  # the crash came while a line was written
    monkeypatch.undo()
    train(make(videos, directory, often, resume="auto"))
    assert_same_run(directory, straight[make])


def test_a_checkpoint_that_was_not_finished_is_passed_over(
    videos: Path, tmp_path: Path, straight: dict[Make, Path]
) -> None:
    directory = train(pretraining(videos, tmp_path / "run", "run.checkpoint_every=2", max_steps=4))
    (directory / "checkpoints" / "step_4" / "run.json").unlink()
    train(pretraining(videos, directory, resume="auto"))
    assert_same_run(directory, straight[pretraining])


@stages
def test_never_refuses_a_directory_that_holds_a_run(
    videos: Path, straight: dict[Make, Path], make: Make
) -> None:
    before = snapshot(straight[make])
    with pytest.raises(RunExistsError) as error:
        train(make(videos, straight[make]))
    for words in (str(straight[make]), "resume=auto", "overwrite=true", "output_dir"):
        assert words in str(error.value)
    assert snapshot(straight[make]) == before


def test_overwrite_replaces_the_run_and_nothing_else(
    videos: Path, tmp_path: Path, straight: dict[Make, Path]
) -> None:
    directory = train(finetuning(videos, tmp_path / "run", seed=1))
    for name in ("notes.txt", "evaluation/results.json", "features/manifest.jsonl"):
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text("mine")
    train(pretraining(videos, directory, overwrite=True))
    assert_same_run(directory, straight[pretraining])
    assert not (directory / "results.json").exists()  # of the fine-tuning
    for name in ("notes.txt", "evaluation/results.json", "features/manifest.jsonl"):
        assert (directory / name).read_text() == "mine"


@pytest.mark.parametrize("linked", [False, True])
def test_no_checkpoint_of_a_replaced_run_is_gone_on_with(
    videos: Path,
    tmp_path: Path,
    straight: dict[Make, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    linked: bool,
) -> None:
    def crash(*_: Any, **__: Any) -> None:
        raise Crash

    directory, scratch = tmp_path / "run", tmp_path / "scratch"
    train(pretraining(videos, directory, "run.checkpoint_every=2", max_steps=4))
    if linked:
        shutil.move(directory / "checkpoints", scratch)
        (directory / "checkpoints").symlink_to(scratch)
        kept = snapshot(scratch)
    monkeypatch.setattr(trainer, "train_step", crash)
    with pytest.raises(Crash):
        train(pretraining(videos, directory, overwrite=True))
    monkeypatch.undo()
    capsys.readouterr()
    train(pretraining(videos, directory, resume="auto"))
    assert "going on from" not in capsys.readouterr().err
    assert_same_run(directory, straight[pretraining])
    assert sorted(path.name for path in (directory / "checkpoints").iterdir()) == ["last", "step_6"]
    if linked:
        assert snapshot(scratch) == kept


def test_a_run_goes_on_with_checkpoints_on_a_scratch_disk(
    videos: Path, tmp_path: Path, straight: dict[Make, Path]
) -> None:
    directory = train(pretraining(videos, tmp_path / "run", max_steps=3))
    shutil.move(directory / "checkpoints", tmp_path / "scratch")
    (directory / "checkpoints").symlink_to(tmp_path / "scratch")
    train(pretraining(videos, directory, resume="auto"))
    assert_same_run(directory, straight[pretraining])
    assert (tmp_path / "scratch" / "step_6" / "run.json").is_file()


def test_a_link_among_the_checkpoints_does_not_cost_what_it_leads_to(
    videos: Path, tmp_path: Path
) -> None:
    both = ("run.checkpoint_every=1", "run.keep_checkpoints=2")
    directory = train(pretraining(videos, tmp_path / "run", *both, max_steps=2))
    step = directory / "checkpoints" / "step_1"
    shutil.move(step, tmp_path / "mine")
    step.symlink_to(tmp_path / "mine")
    kept = snapshot(tmp_path / "mine")
    train(pretraining(videos, directory, *both, resume="auto", max_steps=4))
    assert not step.is_symlink()
    assert snapshot(tmp_path / "mine") == kept


def test_a_folder_of_others_is_refused_even_to_overwrite(videos: Path, tmp_path: Path) -> None:
    directory = tmp_path / "theirs"
    for name in ("figures/a.png", "wandb/run", "evaluation/results.json", "config.yaml"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text("theirs")
    before = snapshot(directory)
    with pytest.raises(RunExistsError, match="holds no run, but things"):
        train(pretraining(videos, directory, overwrite=True))
    assert snapshot(directory) == before


@pytest.mark.parametrize("resume", ["never", "auto"])
def test_a_start_that_fails_destroys_nothing(videos: Path, tmp_path: Path, resume: str) -> None:
    directory = train(pretraining(videos, tmp_path / "run", max_steps=1))
    before = snapshot(directory)
    settings = {"overwrite": True, "resume": resume}
    with pytest.raises(WeightsError):
        train(pretraining(videos, directory, weights=str(tmp_path / "nowhere"), **settings))
    empty = write_list(tmp_path / "short.txt", ["0.mp4"])
    with pytest.raises(ValueError, match="1 videos"):
        train(pretraining(videos, directory, train_list=empty, **settings))
    assert snapshot(directory) == before


@pytest.mark.long
def test_the_starting_weights_may_be_gone_but_not_be_others(videos: Path, tmp_path: Path) -> None:
    start, other = (
        train(pretraining(videos, tmp_path / name, seed=seed, name=name, max_steps=1))
        for seed, name in enumerate(("start", "other"))
    )
    settings = {"weights": str(start), "resume": "auto"}
    undisturbed = train(pretraining(videos, tmp_path / "straight", **settings))
    run = train(pretraining(videos, tmp_path / "run", max_steps=2, **settings))
    with pytest.raises(CheckpointError, match=r"sha256\(weights\)"):
        train(pretraining(videos, run, **settings | {"weights": str(other)}))
    start.rename(tmp_path / "elsewhere")
    train(pretraining(videos, run, **settings))
    assert_same_run(run, undisturbed)
    assert [link.name for link in read_weights(run).info.parents] == ["start"]
    assert read_weights(run).info.parents == read_weights(undisturbed).info.parents


def test_a_run_below_the_output_directory_is_another_run(videos: Path, tmp_path: Path) -> None:
    train(pretraining(videos, tmp_path, max_steps=1))
    inner = train(pretraining(videos, tmp_path / "inner", max_steps=2))
    before = snapshot(tmp_path)
    with pytest.raises(RunExistsError):
        train(pretraining(videos, tmp_path, resume=str(inner / "checkpoints" / "step_2")))
    assert snapshot(tmp_path) == before


def test_auto_starts_anew_where_there_is_nothing(
    videos: Path, tmp_path: Path, straight: dict[Make, Path]
) -> None:
    directory = train(pretraining(videos, tmp_path / "new" / "run", resume="auto"))
    assert_same_run(directory, straight[pretraining])


def test_auto_starts_anew_after_a_crash_before_the_first_checkpoint(
    videos: Path, tmp_path: Path, straight: dict[Make, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any, **__: Any) -> None:
        raise Crash

    monkeypatch.setattr(trainer, "train_step", crash)
    with pytest.raises(Crash):
        train(pretraining(videos, tmp_path / "run"))
    monkeypatch.undo()
    train(pretraining(videos, tmp_path / "run", resume="auto"))
    assert_same_run(tmp_path / "run", straight[pretraining])


def test_auto_does_not_replace_a_finished_run_without_checkpoints(
    videos: Path, tmp_path: Path, straight: dict[Make, Path]
) -> None:
    directory = shutil.copytree(straight[pretraining], tmp_path / "run")
    shutil.rmtree(directory / "checkpoints")  # to save room
    before = snapshot(directory)
    with pytest.raises(RunExistsError, match=r"weights\.safetensors"):
        train(pretraining(videos, directory, resume="auto"))
    assert snapshot(directory) == before


def test_a_path_is_where_another_run_begins(
    videos: Path, tmp_path: Path, straight: dict[Make, Path]
) -> None:
    first = train(pretraining(videos, tmp_path / "first", max_steps=3))
    before = snapshot(first)
    checkpoint = str(first / "checkpoints" / "step_3")
    second = train(pretraining(videos, tmp_path / "second", resume=checkpoint))
    assert snapshot(first) == before
    ours, theirs = weights(second), weights(straight[pretraining])
    assert [name for name in theirs if not ours[name].equal(theirs[name])] == []
    assert metrics(second) == metrics(straight[pretraining])[3:]
    with pytest.raises(RunExistsError):
        train(pretraining(videos, second, resume=checkpoint))
    with pytest.raises(CheckpointError, match="nowhere"):
        train(pretraining(videos, tmp_path / "third", resume="nowhere"))
    assert not (tmp_path / "third").exists()


def test_an_older_checkpoint_of_the_run_itself(
    videos: Path, tmp_path: Path, straight: dict[Make, Path]
) -> None:
    often = ("run.checkpoint_every=2", "run.keep_checkpoints=9")
    directory = train(pretraining(videos, tmp_path / "run", *often))
    checkpoint = str(directory / "checkpoints" / "step_2")
    train(pretraining(videos, directory, *often, resume=checkpoint))
    assert_same_run(directory, straight[pretraining])


def test_auto_goes_on_from_where_the_run_was_last(
    videos: Path, tmp_path: Path, straight: dict[Make, Path]
) -> None:
    """Back to step 2, stopped in step 3: auto goes on from there, and no row is lost."""
    often = ("run.checkpoint_every=2", "run.keep_checkpoints=9")
    directory = train(pretraining(videos, tmp_path / "run", *often))
    checkpoint = str(directory / "checkpoints" / "step_2")
    train(pretraining(videos, directory, *often, resume=checkpoint, max_steps=3))
    assert (directory / "checkpoints" / "last").read_text() == "step_3"
    train(pretraining(videos, directory, *often, resume="auto"))
    assert_same_run(directory, straight[pretraining])


def test_steps_left_out_are_still_counted_afterwards(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil_step_2(objective: Any, optimizer: Any, inputs: Iterable[Inputs], *rest: Any) -> Any:
        if step_of(rest) == 2:
            first, *others = inputs
            *tensors, weight = first.tensors
            inputs = [first._replace(tensors=(*tensors, weight * float("inf"))), *others]
        return train_step(objective, optimizer, inputs, *rest)

    monkeypatch.setattr(trainer, "train_step", spoil_step_2)
    undisturbed = train(pretraining(videos, tmp_path / "straight"))
    train(pretraining(videos, tmp_path / "run", max_steps=4))
    train(pretraining(videos, tmp_path / "run", resume="auto"))
    assert metrics(undisturbed)[-1]["num_skipped"] == 1
    assert_same_run(tmp_path / "run", undisturbed)


@stages
def test_bad_videos_are_known_after_going_on(videos: Path, tmp_path: Path, make: Make) -> None:
    label = " 1" if make is finetuning else ""
    names = [f"{number}.mp4{label}" for number in range(9)]
    lists = write_list(tmp_path / "list.txt", [f"gone.mp4{label}", *names, f"lost.mp4{label}"])
    limit = "data.max_bad_fraction=1"
    undisturbed = train(make(videos, tmp_path / "straight", limit, train_list=lists))
    assert metrics(undisturbed)[-1]["num_bad"] == 2
    for stop in (3, None):
        settings = {"resume": "auto", "max_steps": stop, "train_list": lists}
        train(make(videos, tmp_path / "run", limit, **settings))
    assert_same_run(tmp_path / "run", undisturbed)
    listed = [path / "bad_files.jsonl" for path in (tmp_path / "run", undisturbed)]
    assert listed[0].read_text() == listed[1].read_text()


def test_max_steps_stops_but_leaves_the_schedule(
    videos: Path, tmp_path: Path, straight: dict[Make, Path]
) -> None:
    directory = train(pretraining(videos, tmp_path / "run", max_steps=4))
    assert metrics(directory) == metrics(straight[pretraining])[:4]
    assert metrics(directory)[-1]["lr"] > 2 * metrics(straight[pretraining])[-1]["lr"]
    assert read_weights(directory).info.step == 4
    assert (directory / "checkpoints" / "last").read_text() == "step_4"
    beyond = train(pretraining(videos, tmp_path / "beyond", max_steps=1000))
    assert_same_run(beyond, straight[pretraining])


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("optim.global_batch=2", "optim.global_batch: 4 there, 2 here"),
        ("mask.ratio=0.5", "mask.ratio: 0.75 there, 0.5 here"),
        ("model.depth=3", "model.depth: 2 there, 3 here"),
        ("data.clip.stride=1", "data.clip.stride: 2 there, 1 here"),
        ("optim.epochs=4", "optim.epochs: 3 there, 4 here"),
    ],
)
def test_another_recipe_is_refused_before_anything_is_written(
    videos: Path, straight: dict[Make, Path], override: str, key: str
) -> None:
    directory = straight[pretraining]
    before = snapshot(directory)
    with pytest.raises(CheckpointError, match=re.escape(key)):
        train(pretraining(videos, directory, override, resume="auto"))
    assert snapshot(directory) == before


def test_another_list_is_refused_and_a_moved_one_is_not(
    videos: Path, tmp_path: Path, straight: dict[Make, Path]
) -> None:
    directory = train(pretraining(videos, tmp_path / "run", max_steps=2))
    other = video_list(tmp_path / "other.txt", [f"{number}.mp4" for number in range(10, -1, -1)])
    with pytest.raises(CheckpointError, match=r"sha256\(data.train_list\)"):
        train(pretraining(videos, directory, train_list=other, resume="auto"))
    moved = video_list(tmp_path / "moved.txt")
    shutil.copytree(videos, tmp_path / "videos")
    train(pretraining(tmp_path / "videos", directory, train_list=moved, resume="auto"))
    assert_same_run(directory, straight[pretraining])


def test_another_device_batch_gives_the_same_curve(
    videos: Path, tmp_path: Path, straight: dict[Make, Path]
) -> None:
    directory = train(pretraining(videos, tmp_path / "run", max_steps=3))
    train(pretraining(videos, directory, "run.device_batch=1", resume="auto"))
    for ours, theirs in zip(metrics(directory), metrics(straight[pretraining]), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)


# Real signals to a real process


def wait_for_steps(directory: Path, count: int, process: BaseProcess) -> None:
    """Until so many steps are logged."""
    deadline = time.monotonic() + 60
    path = directory / "metrics.jsonl"
    while not path.exists() or path.read_text().count("\n") < count:
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_process_says_how_to_go_on_and_that_works(
    videos: Path, tmp_path: Path, number: signal.Signals
) -> None:
    directory = tmp_path / "with a space"
    overrides = [
        *PRETRAIN,
        "optim.epochs=400",
        "run.workers=1",
        f"data.root={videos}",
        f"data.train_list={video_list(tmp_path / 'list.txt')}",
        f"output_dir={directory}",
        "resume=never",
    ]
    said_in = tmp_path / "said"
    process = started(call_in, tmp_path, said_in, "pretrain", overrides)
    try:
        wait_for_steps(directory, 3, process)
        os.kill(process.pid or 0, number)
        process.join(timeout=30)
    finally:
        process.kill()
    errors = said_in.read_text()
    assert process.exitcode == 128 + number
    assert "Traceback" not in errors
    stopped = int((directory / "checkpoints" / "last").read_text().removeprefix("step_"))
    assert 3 <= stopped < 800
    said = re.search(r"after step (\d+); its checkpoint is complete. Go on with: (.*)", errors)
    assert said, errors
    assert int(said[1]) == stopped
    program, flag, module, *arguments = shlex.split(said[2])
    assert (program, flag, module) == ("python", "-m", "videomae.pretrain")
    assert arguments == [*overrides[:-1], "resume=auto"]

    end = f"max_steps={stopped + 3}"
    train(composed("pretrain", *arguments, end))
    *recipe, _, _ = overrides
    undisturbed = tmp_path / "undisturbed"
    train(composed("pretrain", *recipe, f"output_dir={undisturbed}", end))
    assert len(metrics(directory)) == stopped + 3
    assert_same_run(directory, undisturbed)
