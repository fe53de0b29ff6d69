"""Lines of a list to views: where the frames and the pixels come from, and what a bad file does.

Most tests read folders of frames whose pixels say where they are from: red is the column, green
the row, blue the number of the frame. The frames are so small that crops are not resized.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.conftest import write_video
from videomae.config import (
    AugmentConfig,
    ClipConfig,
    CropKind,
    DataConfig,
    MaskConfig,
    MaskKind,
    Sampling,
)
from videomae.data.dataset import (
    UNLABELLED,
    EvaluationClips,
    Example,
    Item,
    TrainingClips,
    ValidationClips,
)
from videomae.data.mask import Masking
from videomae.data.streams import Stream, random_stream
from videomae.lists.formats import Clip
from videomae.run.bad_files import BadFile
from videomae.video import interface
from videomae.video.folder import FrameFolder
from videomae.video.interface import Part
from videomae.video.opening import usable_decoders

GRID = (2, 4, 4)
MASKING = Masking(MaskConfig(kind=MaskKind.tube, ratio=0.75, decoder_ratio=0.5), GRID)
AUGMENT = AugmentConfig(crop=CropKind.multi_scale, antialias=True, scales=[1.0])
DATA = DataConfig(
    clip=ClipConfig(frames=4, stride=2, size=32), frame_template="{:03}.png", repeats=2
)


def write_coordinates(folder: Path, frames: int, height: int = 32, width: int = 48) -> None:
    """Frames whose pixels are (column, row, number of the frame)."""
    folder.mkdir()
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[..., 0] = np.arange(width)
    image[..., 1] = np.arange(height)[:, None]
    for number in range(frames):
        image[..., 2] = number
        Image.fromarray(image).save(folder / f"{number:03}.png")


def folder_clip(name: str, frames: int, line: int = 1, label: int | None = None) -> Clip:
    return Clip(name, line, label, start=0, total=frames)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of 1 to 24 frames, by their number of frames; 48 of 200."""
    folder = tmp_path_factory.mktemp("folders")
    for frames in (*range(1, 13), 24):
        write_coordinates(folder / str(frames), frames)
    write_coordinates(folder / "wide", 2, 32, 200)
    return folder


@pytest.fixture(scope="module")
def data(root: Path) -> DataConfig:
    return replace(DATA, root=str(root))


def numbers_of(view: Tensor) -> list[int]:
    """Which frames of the video a view (T, H, W, 3) is made of."""
    assert view[..., 2].eq(view[:, :1, :1, 2]).all()
    return view[:, 0, 0, 2].tolist()


def is_mirrored(view: Tensor) -> bool:
    columns = view[..., 0].int().diff(dim=2)
    assert columns.eq(columns[0, 0, 0]).all()
    return int(columns[0, 0, 0]) == -1


def left_of(view: Tensor) -> int:
    """The column where the crop starts; the same in every frame."""
    lefts = view[..., 0].amin((1, 2))
    assert lefts.eq(lefts[0]).all()
    return int(lefts[0])


def same(a: Example, b: Example) -> bool:
    """Whether two examples are equal in everything."""
    for one, other in zip(a, b, strict=True):
        if isinstance(one, Tensor) != isinstance(other, Tensor):
            return False
        if isinstance(one, Tensor) and not one.equal(other):
            return False
        if not isinstance(one, Tensor) and one != other:
            return False
    return True


# What an item gets is a function of (seed, epoch, index, view).


@pytest.mark.parametrize("masking", [MASKING, None])
def test_an_item_does_not_depend_on_what_was_read_before(
    data: DataConfig, masking: Masking | None
) -> None:
    clips = [folder_clip(str(frames), frames, line=frames) for frames in range(9, 13)]
    items = [Item(epoch, video) for epoch in (0, 1, 7) for video in range(4)]
    forwards = TrainingClips(clips, data, AUGMENT, masking, seed=5)
    backwards = TrainingClips(clips, data, AUGMENT, masking, seed=5)
    expected = {item: forwards[item] for item in items}
    torch.manual_seed(99)  # the global generators must not matter
    np.random.seed(99)
    for item in reversed(items):
        assert same(backwards[item], expected[item])


def test_an_item_depends_on_its_own_line_only(data: DataConfig) -> None:
    clips = [folder_clip(str(frames), frames) for frames in (12, 11, 10)]
    others = [folder_clip("5", 5), clips[1], folder_clip("missing", 9)]
    for item in (Item(0, 1), Item(3, 1)):
        expected = TrainingClips(clips, data, AUGMENT, MASKING, seed=0)[item]
        assert same(TrainingClips(others, data, AUGMENT, MASKING, seed=0)[item], expected)


def test_seed_epoch_index_and_view_each_change_what_is_drawn(root: Path) -> None:
    """Of one and the same video: frames, crops and masks."""
    data = replace(DATA, root=str(root), repeats=8)
    clips = [folder_clip("24", 24)] * 8

    def drawn(seed: int, epoch: int, video: int, view: int) -> tuple[object, ...]:
        example = TrainingClips(clips, data, AUGMENT, MASKING, seed)[Item(epoch, video)]
        assert example.mask is not None
        assert example.decoder_mask is not None
        pixels = example.clip[view]
        masks = tuple(example.mask[view].tolist()), tuple(example.decoder_mask[view].tolist())
        return numbers_of(pixels)[0], left_of(pixels), *masks

    ways = {
        "seed": [drawn(n, 0, 0, 0) for n in range(8)],
        "epoch": [drawn(0, n, 0, 0) for n in range(8)],
        "index": [drawn(0, 0, n, 0) for n in range(8)],
        "view": [drawn(0, 0, 0, n) for n in range(8)],
    }
    for way, draws in ways.items():
        windows, lefts, masks, decoder_masks = (set(values) for values in zip(*draws, strict=True))
        assert len(windows) == 1 if way == "view" else len(windows) > 2, way
        assert len(lefts) > 1, way
        assert len(masks) > 4, way
        assert len(decoder_masks) > 1, way


def test_the_streams_of_random_numbers_differ() -> None:
    keys = [
        (seed, stream, e, v) for seed in (0, 1) for stream in Stream for e in (0, 1) for v in (0, 1)
    ]
    first = {key: random_stream(*key).integers(2**62) for key in keys}
    assert len(set(first.values())) == len(keys)
    assert first[1, Stream.view, 0, 1] == random_stream(1, Stream.view, 0, 1).integers(2**62)


# Frames.


def test_pretraining_draws_every_window_that_fits_and_its_views_share_it(root: Path) -> None:
    """12 frames: 4 at stride 2 take 8, so they start at 0 to 4."""
    clips = TrainingClips(
        [folder_clip("12", 12)], replace(DATA, root=str(root)), AUGMENT, MASKING, 0
    )
    starts = Counter[int]()
    for epoch in range(100):
        first, second = (numbers_of(view) for view in clips[Item(epoch, 0)].clip)
        assert first == second == [first[0] + step for step in (0, 2, 4, 6)]
        starts[first[0]] += 1
    assert set(starts) == {0, 1, 2, 3, 4}
    assert min(starts.values()) > 8  # about 20 each


def test_dense_finetuning_spreads_its_frames_over_a_window(data: DataConfig) -> None:
    """12 frames, a window of 8: it starts at 0 to 3; 8/3 frames from one to the next."""
    clips = TrainingClips([folder_clip("12", 12, label=1)], data, AUGMENT, None, 0)
    drawn = {tuple(numbers_of(clips[Item(epoch, 0)].clip[0])) for epoch in range(60)}
    assert drawn == {(0, 2, 5, 7), (1, 3, 6, 8), (2, 4, 7, 9), (3, 5, 8, 10)}


def test_segment_finetuning_takes_one_frame_from_each_part(data: DataConfig) -> None:
    data = replace(data, sampling=Sampling.segment)
    clips = TrainingClips([folder_clip("12", 12, label=1)], data, AUGMENT, None, 0)
    drawn = [numbers_of(clips[Item(epoch, 0)].clip[0]) for epoch in range(60)]
    for part in range(4):
        assert {numbers[part] for numbers in drawn} == {3 * part, 3 * part + 1, 3 * part + 2}
    assert len({tuple(numbers) for numbers in drawn}) > 30  # the parts are drawn apart


def test_pretraining_is_dense_whatever_the_sampling_of_finetuning(data: DataConfig) -> None:
    segment = replace(data, sampling=Sampling.segment)
    for epoch in range(5):
        item = Item(epoch, 0)
        clips = [folder_clip("12", 12)]
        expected = TrainingClips(clips, data, AUGMENT, MASKING, 0)[item]
        assert same(TrainingClips(clips, segment, AUGMENT, MASKING, 0)[item], expected)


# Short videos.


@pytest.mark.parametrize(
    ("frames", "numbers", "short"),
    [
        (1, [0, 0, 0, 0], True),
        (3, [0, 2, 2, 2], True),
        (5, [0, 2, 4, 4], True),
        (6, [0, 2, 4, 5], True),
        (7, [0, 2, 4, 6], False),
        (8, [0, 2, 4, 6], False),
    ],
)
def test_a_short_video_is_padded_and_counted_but_not_bad(
    data: DataConfig, frames: int, numbers: list[int], short: bool
) -> None:
    clips = TrainingClips([folder_clip(str(frames), frames)], data, AUGMENT, MASKING, 0)
    example = clips[Item(0, 0)]
    assert [numbers_of(view) for view in example.clip] == [numbers, numbers]
    assert example.short is short
    assert example.bad is None


@pytest.mark.parametrize("frames", range(1, 13))
def test_a_finetuning_clip_that_repeats_frames_is_counted_as_short(
    data: DataConfig, frames: int
) -> None:
    clips = TrainingClips([folder_clip(str(frames), frames)], data, AUGMENT, None, 0)
    example = clips[Item(0, 0)]
    assert example.short is (len(set(numbers_of(example.clip[0]))) < 4)


@pytest.mark.parametrize("frames", range(1, 13))
def test_short_in_pretraining_has_nothing_to_do_with_the_sampling_of_finetuning(
    data: DataConfig, frames: int
) -> None:
    """configs/data/ssv2.yaml is both: segment in fine-tuning, a stride of 2 in pre-training."""
    data = replace(data, sampling=Sampling.segment)
    clips = TrainingClips([folder_clip(str(frames), frames)], data, AUGMENT, MASKING, 0)
    assert clips[Item(0, 0)].short is (frames < 7)


def test_a_real_video_shorter_than_the_clip_repeats_its_last_frame(tmp_path: Path) -> None:
    write_video(tmp_path / "3.mp4", frames=3)
    whole = AugmentConfig(crop=CropKind.random_resized, antialias=False, area=[0.2, 0.2])
    data = replace(DATA, root=str(tmp_path), clip=ClipConfig(frames=4, stride=1, size=32))
    example = TrainingClips([Clip("3.mp4", 1)], data, whole, MASKING, 0)[Item(0, 0)]
    assert example.short
    assert example.bad is None
    for view in example.clip:
        assert view[3].equal(view[2])
        assert not view[2].equal(view[1])


# Crops.


def test_views_of_one_video_are_cropped_apart_and_keep_their_frames_together(root: Path) -> None:
    """32 of 48 columns: free are 16, in quarters of 4."""
    data = replace(DATA, root=str(root), repeats=4)
    clips = TrainingClips([folder_clip("12", 12)], data, AUGMENT, MASKING, 0)
    lefts = [[left_of(view) for view in clips[Item(epoch, 0)].clip] for epoch in range(40)]
    assert {left for views in lefts for left in views} == {0, 4, 8, 12, 16}
    assert sum(len(set(views)) > 1 for views in lefts) > 30


@pytest.mark.parametrize("hflip", [True, False])
def test_views_are_mirrored_only_where_hflip_says_so(data: DataConfig, hflip: bool) -> None:
    data = replace(data, hflip=hflip)
    clips = TrainingClips([folder_clip("12", 12, label=1)], data, AUGMENT, None, 0)
    examples = [clips[Item(epoch, 0)] for epoch in range(100)]
    mirrored = [[is_mirrored(view) for view in example.clip] for example in examples]
    total = sum(map(sum, mirrored))
    assert 70 < total < 130 if hflip else total == 0  # of 200
    assert any(a != b for a, b in mirrored) is hflip


def test_masks_follow_the_config_and_differ_between_views(data: DataConfig) -> None:
    clips = [folder_clip("12", 12)]
    example = TrainingClips(clips, data, AUGMENT, MASKING, 0)[Item(0, 0)]
    assert example.mask is not None
    assert example.decoder_mask is not None
    assert example.mask.shape == example.decoder_mask.shape == (2, 32)
    assert example.mask.sum(1).tolist() == [24, 24]
    assert example.decoder_mask.sum(1).tolist() == [16, 16]
    assert not example.mask[0].equal(example.mask[1])
    assert example.label == UNLABELLED
    plain = Masking(MaskConfig(kind=MaskKind.tube, ratio=0.75, decoder_ratio=0), GRID)
    assert TrainingClips(clips, data, AUGMENT, plain, 0)[Item(0, 0)].decoder_mask is None
    labelled = TrainingClips([folder_clip("12", 12, label=7)], data, AUGMENT, None, 0)[Item(0, 0)]
    assert labelled.mask is labelled.decoder_mask is None
    assert labelled.label == 7


# Bad videos.


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """0.mp4 to 3.mp4, of which 1.mp4 is cut in half."""
    folder = tmp_path_factory.mktemp("damaged")
    for number in range(4):
        write_video(folder / f"{number}.mp4", seed=number)
    whole = folder / "1.mp4"
    (folder / "whole.mp4").write_bytes(whole.read_bytes())
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    return folder


@pytest.mark.parametrize("masking", [MASKING, None])
def test_a_bad_video_leaves_its_slot_blank_and_all_others_as_they_were(
    damaged: Path, masking: Masking | None
) -> None:
    data = replace(DATA, root=str(damaged))
    names = ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]
    clips = [Clip(name, 10 + line, label=line) for line, name in enumerate(names)]
    whole = [clips[0], clips[1]._replace(path="whole.mp4"), *clips[2:]]
    harmed = TrainingClips(clips, data, AUGMENT, masking, seed=0)
    intact = TrainingClips(whole, data, AUGMENT, masking, seed=0)
    for video in range(4):
        example, expected = harmed[Item(2, video)], intact[Item(2, video)]
        assert expected.bad is None
        if video != 1:
            assert same(example, expected)
            continue
        assert example.clip.shape == expected.clip.shape
        assert example.clip.dtype == torch.uint8
        assert not example.clip.any()
        assert (example.video, example.label) == (1, 1)
        assert example.bad is not None
        assert example.bad[:3] == (1, "1.mp4", 11)
        assert str(damaged / "1.mp4") in example.bad.error
        if masking is not None:  # the batch keeps its shape
            assert example.mask is not None
            assert example.decoder_mask is not None
            assert example.mask.sum(1).tolist() == [24, 24]
            assert example.decoder_mask.sum(1).tolist() == [16, 16]


def test_a_bad_video_of_a_test_list_is_blank_and_named(damaged: Path) -> None:
    data = replace(DATA, root=str(damaged), segments=2, crops=3)
    clips = [Clip("0.mp4", 1, label=3), Clip("1.mp4", 2, label=4)]
    good, bad = (EvaluationClips(clips, data)[index] for index in range(2))
    assert good.bad is None
    assert good.clip.any()
    assert bad.clip.shape == good.clip.shape
    assert not bad.clip.any()
    assert (bad.video, bad.label) == (1, 4)
    assert isinstance(bad.bad, BadFile)
    assert bad.bad[:3] == (1, "1.mp4", 2)
    assert str(damaged / "1.mp4") in bad.bad.error


@pytest.mark.parametrize("training", [True, False])
def test_a_bad_video_is_not_counted_as_short_too(
    tmp_path: Path, data: DataConfig, training: bool
) -> None:
    """Its clip is blank: it repeats no frame of a short video."""
    write_coordinates(tmp_path / "3", 3)
    (tmp_path / "3" / "002.png").unlink()
    data = replace(data, root=str(tmp_path))
    clips = [folder_clip("3", 3)]
    example = (
        TrainingClips(clips, data, AUGMENT, MASKING, 0)[Item(0, 0)]
        if training
        else EvaluationClips(clips, data)[0]
    )
    assert example.bad is not None
    assert not example.short


# Test views.


def test_test_views_are_all_crops_of_the_first_segment_then_of_the_next(data: DataConfig) -> None:
    """24 frames at stride 2 make 12; 8 to spare: 5 segments start at 0, 2, 4, 6, 8 of them."""
    data = replace(data, segments=5, crops=3)
    example = EvaluationClips([folder_clip("24", 24, label=2)], data)[0]
    assert example.clip.shape == (15, 4, 32, 32, 3)
    expected = [(4 * segment, left) for segment in range(5) for left in (0, 8, 16)]
    assert [(numbers_of(view)[0], left_of(view)) for view in example.clip] == expected
    for view in example.clip:
        numbers = numbers_of(view)
        assert numbers == list(range(numbers[0], numbers[0] + 8, 2))
        assert not is_mirrored(view)
    assert (example.video, example.label, example.short, example.bad) == (0, 2, False, None)
    assert example.mask is example.decoder_mask is None


def test_segment_test_views_interleave(data: DataConfig) -> None:
    """12 frames in 4 parts of 3; the second segment is half a part later."""
    data = replace(data, sampling=Sampling.segment, segments=2, crops=3)
    example = EvaluationClips([folder_clip("12", 12, label=2)], data)[0]
    assert example.clip.shape == (6, 4, 32, 32, 3)
    expected = [[0, 3, 6, 9]] * 3 + [[1, 4, 7, 10]] * 3
    assert [numbers_of(view) for view in example.clip] == expected
    assert [left_of(view) for view in example.clip] == [0, 8, 16, 0, 8, 16]


def test_one_test_view_is_the_middle(data: DataConfig) -> None:
    data = replace(data, segments=1, crops=1)
    example = EvaluationClips([folder_clip("12", 12), folder_clip("wide", 2)], data)
    assert [numbers_of(view) for view in example[0].clip] == [[2, 4, 6, 8]]
    assert left_of(example[0].clip[0]) == 8
    assert left_of(example[1].clip[0]) == 84
    assert example[0].label == UNLABELLED


@pytest.mark.parametrize(
    ("sampling", "folder", "expected"),
    [
        # A window of 4 x 2 frames ends at (8 + 24) // 2 = 16: 8, 10.67, 13.33, 16 -> 15
        (Sampling.dense, "24", [8, 10, 13, 15]),
        (Sampling.dense, "12", [2, 4, 7, 9]),
        (Sampling.segment, "24", [3, 9, 15, 21]),  # parts of 6
        (Sampling.segment, "12", [1, 4, 7, 10]),  # parts of 3
    ],
    ids=str,
)
def test_an_epoch_is_evaluated_on_what_training_could_draw_in_the_middle(
    data: DataConfig, sampling: Sampling, folder: str, expected: list[int]
) -> None:
    """Not on the single test view of the same video, whose frames lie otherwise."""
    data = replace(data, sampling=sampling, segments=1, crops=1)
    clips = [folder_clip(folder, int(folder), label=1)]
    example = ValidationClips(clips, replace(data, segments=5, crops=3))[0]
    assert [numbers_of(view) for view in example.clip] == [expected]
    assert left_of(example.clip[0]) == 8  # the middle crop
    assert (example.label, example.short) == (1, False)
    (test_view,) = EvaluationClips(clips, data)[0].clip
    assert numbers_of(test_view) != expected


def test_a_short_test_video_repeats_its_last_frame(data: DataConfig) -> None:
    data = replace(data, segments=2, crops=1)
    example = EvaluationClips([folder_clip("5", 5)], data)[0]
    assert [numbers_of(view) for view in example.clip] == [[0, 2, 4, 4]] * 2
    assert example.short
    assert example.bad is None


def test_test_views_draw_nothing(videos: Path) -> None:
    data = replace(DATA, root=str(videos), segments=2, crops=3, hflip=True)
    clips = [Clip(f"{number}.mp4", number + 1, label=0) for number in range(3)]
    first, second = EvaluationClips(clips, data), EvaluationClips(clips, data)
    expected = [first[index] for index in range(3)]
    for index in (2, 0, 1):
        assert same(second[index], expected[index])
    greys = [view[:, 4:28, 2:14].float().mean((1, 2, 3)) for view in expected[0].clip[::3]]
    for grey, numbers in zip(greys, ([0, 2, 4, 6], [4, 6, 8, 10]), strict=True):
        assert grey.tolist() == pytest.approx([20 + 12 * n for n in numbers], abs=3)


# Large frames


@pytest.mark.parametrize("decoder", usable_decoders())
def test_views_of_parts_are_those_of_the_whole(
    decoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is done to a clip is done to each frame by itself: to the bit."""
    write_video(tmp_path / "a.mp4", frames=30, height=80, width=112)
    clips, data = [Clip("a.mp4", 1, label=0)], replace(DATA, root=str(tmp_path), decoder=decoder)
    data = replace(data, repeats=3, hflip=True, clip=ClipConfig(frames=16, stride=1, size=32))
    finetuning = AugmentConfig(crop=CropKind.random_resized, antialias=False, rand_ops=4)
    masking = Masking(MaskConfig(kind=MaskKind.tube, ratio=0.75, decoder_ratio=0.5), (8, 4, 4))

    def views() -> list[Tensor]:
        found = [TrainingClips(clips, data, AUGMENT, masking, 0)[Item(e, 0)] for e in range(3)]
        found += [TrainingClips(clips, data, finetuning, None, 0)[Item(e, 0)] for e in range(3)]
        found.append(EvaluationClips(clips, replace(data, segments=3, crops=3))[0])
        assert not any(example.bad for example in found)
        return [example.clip for example in found]

    whole = views()
    monkeypatch.setattr(interface, "PART_BYTES", 4 * 80 * 112 * 3)
    for one, other in zip(views(), whole, strict=True):
        assert one.equal(other)


def test_a_video_read_anew_from_its_start_gives_its_last_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes again from place 0 on takes the place of what came before."""
    write_coordinates(tmp_path / "a", 24)
    real = FrameFolder.parts

    def again(self: FrameFolder, numbers: Sequence[int]) -> Iterator[Part]:
        yield from (part._replace(frames=255 - part.frames) for part in real(self, numbers[:5]))
        yield from real(self, numbers)

    data = replace(DATA, root=str(tmp_path), segments=2, crops=2)
    clips = [folder_clip("a", 24, label=0)]
    training, evaluation = (
        TrainingClips(clips, data, AUGMENT, MASKING, 0),
        EvaluationClips(clips, data),
    )
    expected = training[Item(0, 0)].clip, evaluation[0].clip
    monkeypatch.setattr(FrameFolder, "parts", again)
    assert training[Item(0, 0)].clip.equal(expected[0])
    assert evaluation[0].clip.equal(expected[1])


def test_a_narrow_video_is_evaluated_a_few_frames_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_coordinates(tmp_path / "a", 24, height=2, width=255)
    data = replace(DATA, root=str(tmp_path), segments=1, crops=3)
    clips = EvaluationClips([folder_clip("a", 24, label=0)], data)
    whole = clips[0].clip
    monkeypatch.setattr(interface, "PART_BYTES", 32 * 255 * 16 * 3)
    assert clips[0].clip.equal(whole)
