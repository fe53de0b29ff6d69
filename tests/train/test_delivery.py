"""Batches reach the device as they were decoded, however late the copies are made."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.conftest import write_list
from tests.data.test_loader import AUGMENT, DATA, MASKING, assert_same
from tests.train import assert_same_run, pretraining, train
from videomae.config import ConfigError, RunConfig
from videomae.data import loader as loader_module
from videomae.data.dataset import TrainingClips
from videomae.data.loader import (
    Batch,
    MicroBatches,
    TrainingOrder,
    delivered_batches,
    piece_size,
    training_loader,
)
from videomae.lists.clips import read_clips
from videomae.run.cores import own_cores
from videomae.run.parallel import KEPT_CORES, MOST_WORKERS, Processes
from videomae.train import delivery as delivery_module
from videomae.train.delivery import Delivery, delivery_to, trial

CPU = torch.device("cpu")


class Late(Delivery):
    """Copies at the last moment, as a device may; counts the memory that it has been told of."""

    def __init__(self) -> None:
        super().__init__(CPU)
        self.waiting: deque[tuple[Tensor, Tensor]] = deque()
        self.known: list[int] = []

    @property
    def register(self) -> Callable[[Tensor], Callable[[], None]]:
        def known(memory: Tensor) -> Callable[[], None]:
            place = memory.data_ptr()
            self.known.append(place)
            return lambda: self.known.remove(place)

        return known

    def put(self, room: Tensor, values: Tensor) -> None:
        self.waiting.append((room, values))

    def arrive(self, room: Tensor) -> Tensor:
        return room

    def settle(self, outstanding: int = 0) -> None:
        while len(self.waiting) > outstanding:
            room, values = self.waiting.popleft()
            room.copy_(values)


@pytest.fixture(scope="module")
def clips(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingClips:
    data = replace(DATA, root=str(videos), classes=3)
    lines = [f"{number}.mp4 {number % 3}" for number in range(12)]
    listed = write_list(tmp_path_factory.mktemp("list") / "list.txt", lines)
    return TrainingClips(read_clips(listed, data, labelled=True), data, AUGMENT, MASKING, seed=3)


def micro_batches() -> MicroBatches:
    return MicroBatches(TrainingOrder(12, 6, seed=3), rank=0, world=1, size=6, first=1, last=4)


def whole(clips: TrainingClips) -> list[Batch]:
    return list(training_loader(clips, micro_batches(), size=6, workers=0, pin=False))


def delivered(clips: TrainingClips, delivery: Delivery, workers: int) -> Iterator[Batch]:
    yield from delivered_batches(clips, micro_batches(), delivery, size=6, workers=workers)


def test_pieces_are_nearly_equal() -> None:
    assert [piece_size(size) for size in (1, 8, 9, 12, 16, 17, 31)] == [1, 8, 5, 6, 8, 6, 8]


@pytest.mark.parametrize("most", [1, 4, 8])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_pieces_make_the_batches_that_there_were(
    clips: TrainingClips, monkeypatch: pytest.MonkeyPatch, workers: int, most: int
) -> None:
    monkeypatch.setattr(loader_module, "PIECE", most)
    expected = whole(clips)
    for make in (lambda: Delivery(CPU), Late):
        late = make()
        found = []
        for batch in delivered(clips, late, workers):
            late.settle()  # what the device would wait for before it computes
            found.append(batch)
        assert len(found) == len(expected) == 4
        for ours, theirs in zip(found, expected, strict=True):
            assert_same(ours, theirs)


def test_memory_is_known_while_it_is_used_and_no_longer(clips: TrainingClips) -> None:
    late = Late()
    batches = delivered(clips, late, workers=2)
    next(batches)
    assert len(set(late.known)) == 2
    batches.close()  # type: ignore[attr-defined]
    assert not late.waiting
    assert late.known == []


def test_a_run_is_the_same_whatever_the_pieces(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = ("run.device_batch=4", "run.workers=2")
    plain = train(pretraining(videos, tmp_path / "plain", *ours))
    monkeypatch.setattr(loader_module, "PIECE", 1)
    assert_same_run(train(pretraining(videos, tmp_path / "pieces", *ours)), plain)


def test_on_a_cpu_there_is_no_choice() -> None:
    delivery, said = delivery_to(CPU)
    assert (delivery.stream, delivery.register, said) == (None, None, "")
    assert trial(delivery) is None


def test_other_bytes_are_noticed() -> None:
    class Wrong(Delivery):
        def put(self, room: Tensor, values: Tensor) -> None:
            room.copy_(values + 1)

    assert trial(Wrong(CPU)) == "other bytes arrived than were sent"


def test_what_a_device_cannot_do_is_said_and_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def unable(*_: object, aside: bool = False) -> Delivery:
        if aside:
            raise RuntimeError("operation not permitted\nmore")
        return plain

    plain = Delivery(CPU)
    monkeypatch.setattr(delivery_module, "Delivery", unable)
    delivery, said = delivery_to(torch.device("cuda", 0))
    assert delivery is plain
    assert said == "batches are copied on the stream that computes: operation not permitted"


def test_a_process_with_a_gpu_keeps_two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("videomae.run.cores.available_cores", lambda: 16)
    gpu = Processes(0, 2, 2, torch.device("cuda", 0))
    assert own_cores(2) == 8
    assert gpu.num_workers(RunConfig().workers) == 8 - KEPT_CORES == 6
    assert gpu.num_workers(3) == 3
    assert gpu.num_workers(8 * MOST_WORKERS) == 8 * MOST_WORKERS
    with pytest.raises(ConfigError, match=r"run.workers=257 is more than 32 .* at most 256"):
        gpu.num_workers(8 * MOST_WORKERS + 1)
    monkeypatch.setattr("videomae.run.cores.available_cores", lambda: 2)
    assert gpu.num_workers(None) == 1
