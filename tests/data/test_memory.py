"""Memory of the processes that decode: one copy of the list for all, and none of what they read."""

import ctypes
import gc
import multiprocessing
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from tests.data.test_loader import AUGMENT, DATA, MASKING
from videomae.data.dataset import TrainingClips
from videomae.data.loader import MicroBatches, TrainingOrder, training_loader
from videomae.lists.clips import ClipList
from videomae.lists.formats import Clip
from videomae.video.opening import open_clip, usable_decoders

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="only Linux tells what is private"
)


def private_mb(process: int | str = "self") -> float:
    """Memory that no other process has a part in."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1e3


def look(clips: Sequence[Clip], answer: Connection) -> None:
    """Say what looking at every clip costs this process, in MB."""
    before = private_mb()
    assert all(clip.path for clip in clips)
    answer.send(private_mb() - before)


def owned_mb(clips: Sequence[Clip]) -> float:
    """What a process that decodes takes for the list."""
    gc.collect()
    gc.disable()  # it would write to this process's objects, and so make the other's its own
    try:
        here, there = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(target=look, args=(clips, there))
        process.start()
        found: float = here.recv()
        process.join()
        return found
    finally:
        gc.enable()


@pytest.fixture(scope="module")
def many() -> list[Clip]:
    """Their paths are 36 MB."""
    folder = "a folder with a long name/" * 4
    return [Clip(f"{folder}{number:012}.mp4", number + 1) for number in range(300_000)]


@pytest.mark.long
def test_processes_share_one_copy_of_the_list(many: list[Clip]) -> None:
    assert owned_mb(ClipList.of(many)) < 12  # a third of the paths; the rest is the heap's, as
    # what is made for a moment takes the gaps that earlier tests have left in many of its pages


def test_processes_do_not_share_python_objects(many: list[Clip]) -> None:
    """So that the test above could fail."""
    assert owned_mb(many) > 30


@pytest.mark.soak
def test_decoding_keeps_nothing(videos: Path) -> None:
    """Neither the process that decodes nor the one that trains grows by what it has seen."""
    batch, warm, steps = 8, 40, 100
    clips = [Clip(f"{number % 12}.mp4", number + 1) for number in range(batch * (warm + steps))]
    dataset = TrainingClips(clips, replace(DATA, root=str(videos)), AUGMENT, MASKING, seed=0)
    order = TrainingOrder(len(clips), batch, seed=0)
    micro_batches = MicroBatches(order, rank=0, world=1, size=batch, first=1, last=warm + steps)
    batches = iter(training_loader(dataset, micro_batches, size=batch, workers=1, pin=False))
    next(batches)
    (worker,) = (process.pid for process in multiprocessing.active_children())
    assert worker is not None
    for _ in range(warm):
        assert not next(batches).bad
    before = private_mb(worker), private_mb()
    for _ in range(steps - 8):  # the last ones are made while the first of these are taken
        next(batches)
    after = private_mb(worker), private_mb()
    batches.close()
    # 736 videos of 110 kB decoded, 12 kB a view
    assert after[0] - before[0] < 10
    assert after[1] - before[1] < 10


class MallocInfo(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = (("words", ctypes.c_size_t * 10),)


def allocated() -> int:
    """Bytes that native code holds."""
    gc.collect()
    library = ctypes.CDLL(None)
    library.mallinfo2.restype = MallocInfo
    words = library.mallinfo2().words
    return int(words[4] + words[7])  # hblkhd and uordblks: in mappings of their own, and in use


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33")
@pytest.mark.parametrize("decoder", usable_decoders())
def test_a_video_that_is_left_half_way_keeps_nothing(decoder: str, videos: Path) -> None:
    """Not even some hundred bytes: a long run opens millions."""
    data = replace(DATA, root=str(videos), decoder=decoder)

    def read(times: int) -> int:
        for number in range(times):
            open_clip(Clip(f"{number % 12}.mp4", 1), data).read([0, 2])
        return allocated()

    before = read(100)
    assert read(300) - before < 300 * 50
