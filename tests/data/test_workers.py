"""Decoding processes that die and hang: the batches are those of an undisturbed run."""

import ctypes
import faulthandler
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import write_list
from tests.data.test_loader import AUGMENT, DATA, MASKING, assert_same
from videomae.config import MIN_CLIP_BYTES, DataConfig
from videomae.data import dataset, sliding_windows, workers, working
from videomae.data.dataset import EvaluationClips, TrainingClips
from videomae.data.loader import (
    Batch,
    MicroBatches,
    TrainingOrder,
    evaluation_loader,
    training_loader,
    window_loader,
)
from videomae.data.sliding_windows import VideoWindows, Windows
from videomae.data.workers import Loader, WorkerDied
from videomae.lists.clips import read_clips
from videomae.lists.formats import Clip
from videomae.video.interface import Video
from videomae.video.opening import open_clip

TIMEOUT_S = 3.0
"""Where a video hangs; the others are decoded in time beside other work, too."""


@pytest.fixture(scope="module")
def data(videos: Path) -> DataConfig:
    return replace(DATA, root=str(videos), classes=3, timeout_s=TIMEOUT_S)


@pytest.fixture(scope="module")
def clips(data: DataConfig, tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    lines = [f"{number}.mp4 {number % 3}" for number in range(12)]
    return read_clips(
        write_list(tmp_path_factory.mktemp("list") / "list.txt", lines), data, labelled=True
    )


def hang() -> None:
    """In native code, and without letting go of the interpreter, as a broken decoder does."""
    ctypes.PyDLL(None).sleep(600)


def kill(number: int) -> Callable[[], None]:
    """Ends the process as a crash would; pytest is not to report it as one."""

    def act() -> None:
        faulthandler.disable()
        os.kill(os.getpid(), number)

    return act


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """spoil({path: act}, times): opening the video of that path acts, so many times."""

    def install(acts: dict[str, Callable[[], None]], times: int) -> None:
        def opening(clip: Clip, data: DataConfig) -> Video:
            if clip.path in acts:
                tries = tmp_path / clip.path
                with tries.open("a") as file:
                    file.write("x")
                if tries.stat().st_size <= times:
                    acts[clip.path]()
            return open_clip(clip, data)

        for module in (dataset, sliding_windows):
            monkeypatch.setattr(module, "open_clip", opening)

    return install


def training(clips: list[Clip], data: DataConfig, num_workers: int = 2) -> Loader[Any, Batch]:
    batches = MicroBatches(TrainingOrder(12, 4, seed=3), rank=0, world=1, size=2, first=1, last=6)
    items = TrainingClips(clips, data, AUGMENT, MASKING, seed=3)
    return training_loader(items, batches, size=2, workers=num_workers, pin=False)


def evaluation(clips: list[Clip], data: DataConfig, num_workers: int = 2) -> Loader[Any, Batch]:
    return evaluation_loader(
        EvaluationClips(clips, data),
        rank=0,
        world=1,
        batch=5,
        workers=num_workers,
        pin=False,
    )


def windows_of(clips: list[Clip], data: DataConfig, num_workers: int = 2) -> Loader[int, Windows]:
    wanted = VideoWindows(clips, data, hop=1, batch=2)
    return window_loader(wanted, workers=num_workers, pin=False)


def sorted_windows(loader: Loader[int, Windows]) -> list[Windows]:
    """By video; those of one video stay in the order in which they came."""
    return sorted(loader, key=lambda some: some.video)


def without_dying(make: Any, clips: list[Clip], data: DataConfig) -> list[Any]:
    return list(make(clips, data, num_workers=0))


ACTS = {
    "hangs": (hang, "not decoded in time (3 s, data.timeout_s)"),
    "is killed": (kill(signal.SIGKILL), "decoder crashed (SIGKILL)"),
    "crashes": (kill(signal.SIGSEGV), "decoder crashed (SIGSEGV)"),
    "exits": (lambda: os._exit(7), "decoder ended its process, status 7"),
}


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("make", [training, evaluation])
def test_a_process_lost_once_changes_nothing(
    caplog: pytest.LogCaptureFixture,
    clips: list[Clip],
    data: DataConfig,
    spoil: Any,
    make: Any,
    act: str,
) -> None:
    expected = without_dying(make, clips, data)
    does, how = ACTS[act]
    spoil({"7.mp4": does}, times=1)
    for found, batch in zip(make(clips, data), expected, strict=True):
        assert_same(found, batch)
    assert caplog.messages == [f"7.mp4: {how}: tried again"]


@pytest.mark.parametrize("act", ACTS)
def test_windows_go_on_where_they_were(
    clips: list[Clip], data: DataConfig, spoil: Any, act: str
) -> None:
    expected = without_dying(windows_of, clips, data)
    spoil({"7.mp4": ACTS[act][0], "2.mp4": ACTS[act][0]}, times=1)
    found = sorted_windows(windows_of(clips, data))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.clip.equal(other.clip)
        assert one._replace(clip=other.clip) == other


@pytest.mark.parametrize("act", ACTS)
def test_a_video_that_takes_two_along_is_a_bad_file(
    caplog: pytest.LogCaptureFixture,
    clips: list[Clip],
    data: DataConfig,
    spoil: Any,
    act: str,
) -> None:
    does, how = ACTS[act]
    spoil({"7.mp4": does}, times=2)
    found = list(training(clips, data))
    bad = [file for batch in found for file in batch.bad]
    assert [(file.video, file.line, file.error) for file in bad] == [
        (7, 8, f"7.mp4: {how}, twice")
    ] * 2  # two epochs
    assert [said.rpartition(": ")[2] for said in caplog.messages] == ["tried again", "a bad file"]
    for batch in found:
        blank = batch.video == 7
        assert batch.valid.equal(~blank)
        assert not batch.clip[blank].any()
    good = without_dying(training, clips, data)
    for batch, other in zip(found, good, strict=True):
        valid = batch.valid
        assert batch.clip[valid].equal(other.clip[valid])
        assert batch.video.equal(other.video)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's data")
@pytest.mark.parametrize(
    "greed",  # more than what earlier tests may have left free in this process, which costs nothing
    [lambda: bytearray(4 * 10**9), lambda: torch.empty(10**9).fill_(1)],
)
@pytest.mark.parametrize("make", [training, evaluation, windows_of])
def test_a_video_that_takes_too_much_memory_is_a_bad_file(
    caplog: pytest.LogCaptureFixture,
    clips: list[Clip],
    data: DataConfig,
    spoil: Any,
    make: Any,
    greed: Callable[[], Any],
) -> None:
    spoil({"7.mp4": greed}, times=100)
    limited = replace(data, max_clip_bytes=MIN_CLIP_BYTES, timeout_s=DATA.timeout_s)
    found = list(make(clips, limited))
    each = [batch.bad for batch in found]
    bad = [file for some in each for file in (some if isinstance(some, list) else [some]) if file]
    assert {file.line for file in bad} == {8}
    assert all("memory does not suffice to read it" in file.error for file in bad)
    assert caplog.messages == []  # no process was lost


def test_a_video_that_spoils_windows_twice_is_a_bad_file(
    clips: list[Clip], data: DataConfig, spoil: Any
) -> None:
    spoil({"7.mp4": kill(signal.SIGKILL), "8.mp4": kill(signal.SIGKILL)}, times=2)
    found = sorted_windows(windows_of(clips, data))
    bad = [some for some in found if some.bad]
    assert [(some.video, some.last, some.starts) for some in bad] == [(7, True, []), (8, True, [])]
    assert {some.video for some in found if some.last} == set(range(12))


def test_processes_killed_at_any_moment_cost_no_batch(clips: list[Clip], data: DataConfig) -> None:
    expected = without_dying(training, clips, data)
    found = []
    loader = training(clips, data)
    for number, batch in enumerate(iter(loader)):
        found.append(batch)
        if number % 3 == 0:
            for child in torch.multiprocessing.active_children():
                child.kill()
    for batch, other in zip(found, expected, strict=True):
        assert_same(batch, other)


def test_processes_that_always_die_end_the_run(
    caplog: pytest.LogCaptureFixture,
    clips: list[Clip],
    data: DataConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(working, "_leave_signals_to", lambda _: kill(signal.SIGBUS)())
    with pytest.raises(WorkerDied, match=r"3 times.*SIGBUS.*resume=auto"):
        next(iter(training(clips, data)))
    assert len(caplog.messages) == workers.RESTARTS - 1
    assert not torch.multiprocessing.active_children()


def test_an_error_of_the_program_is_no_loss(
    clips: list[Clip], data: DataConfig, spoil: Any
) -> None:
    def fail() -> None:
        raise KeyError("a mistake")

    spoil({"7.mp4": fail}, times=99)
    with pytest.raises(KeyError, match="a mistake"):
        list(training(clips, data))


@pytest.mark.long
def test_slow_but_sure_is_no_loss(
    caplog: pytest.LogCaptureFixture,
    clips: list[Clip],
    data: DataConfig,
    spoil: Any,
) -> None:
    """The main process waits for longer than timeout_s, but for no video."""
    spoil({f"{n}.mp4": lambda: time.sleep(0.5 * TIMEOUT_S) for n in range(3)}, times=1)
    for batch, other in zip(
        training(clips, data, num_workers=1),
        without_dying(training, clips, data),
        strict=True,
    ):
        assert_same(batch, other)
    assert caplog.messages == []


def test_making_the_loader_anew_draws_no_random_numbers(
    clips: list[Clip], data: DataConfig, spoil: Any
) -> None:
    spoil({"7.mp4": kill(signal.SIGKILL)}, times=1)
    state = torch.random.get_rng_state()
    list(training(clips, data))
    assert torch.random.get_rng_state().equal(state)


def test_a_dead_child_raises_nothing_in_the_main_process(
    clips: list[Clip], data: DataConfig
) -> None:
    """Torch's own handler of SIGCHLD raises wherever the main process happens to be."""
    before = signal.getsignal(signal.SIGCHLD)
    batches: Iterator[Batch] = iter(training(clips, data))
    next(batches)
    assert signal.getsignal(signal.SIGCHLD) is before
    for child in torch.multiprocessing.active_children():
        child.kill()
        child.join()
    assert json.loads("[1]") == [1]
    assert len(list(batches)) == 11


def test_nothing_is_left_when_a_loader_is_dropped(clips: list[Clip], data: DataConfig) -> None:
    batches = iter(training(clips, data))
    next(batches)
    assert torch.multiprocessing.active_children()
    del batches
    assert not torch.multiprocessing.active_children()
