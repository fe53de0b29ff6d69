"""Sources of clips by their names, and splits that keep sources whole."""

from collections import Counter

import pytest

from videomae.lists.sources import Labelled, held_out, source_of, sources_of


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("a/clip_012_of_beach.mp4", "beach"),
        ("a/beach_000123.mp4", "beach"),
        ("a/v_Archery_g07_c03.avi", "v_Archery_g07"),
        ("a/-x7WQ2iBlwE_000010_000020.mp4", "-x7WQ2iBlwE"),
        ("a/SOX5yA1l24A_10_20.mp4", "SOX5yA1l24A"),
        ("a/dog (2).mov", "dog"),
        ("a/dog-part3.mov", "dog"),
        ("a/海辺_003.mp4", "海辺"),
        ("a/day one/kitchen/1.mp4", "day one/kitchen"),
        ("a/g23_001.mp4", "g23"),
        ("a/IMG_0042.mov", None),
        ("a/video (3).mp4", None),
        ("a/0007.mp4", None),
        ("a/beach.mp4", None),
        ("a/видео 3.mp4", None),
        ("a/Запись экрана_2.mp4", None),
        ("a/動画 (3).mp4", None),
        ("a/视频_001.mp4", None),
        ("a/視頻 2.mp4", None),
        ("a/Aufnahme 12.mp4", None),
        ("a/vidéo 1.mp4", None),
        ("a/vide\u0301o 1.mp4", None),
        ("a/فيديو 4.mp4", None),
        ("a/वीडियो 4.mp4", None),
        ("a/WhatsApp Video (2).mp4", None),
        ("a/пляж_3.mp4", "пляж"),
    ],
)
def test_the_source_that_a_name_tells(path: str, source: str | None) -> None:
    assert source_of(path, 1) == source


def split(names: dict[str, int], share: float = 0.2) -> tuple[set[str], list[int]]:
    videos = [Labelled(path, label) for path, label in names.items()]
    return held_out(videos, sources_of(videos, 1), share)


def test_a_source_is_on_one_side_alone_even_where_several_classes_share_it() -> None:
    names = {
        f"{label}/{place}_{number:03}.mp4": label
        for label in range(3)
        for place in ("beach", "park", "street", "pool", "yard")
        for number in range(4)
    }
    chosen, divided = split(names)
    tested = {source_of(path, 1) for path in chosen}
    trained = {source_of(path, 1) for path in names.keys() - chosen}
    assert not tested & trained
    assert not divided
    assert Counter(names[path] for path in chosen) == {0: 4, 1: 4, 2: 4}  # a fifth of 20


def test_a_name_that_counts_through_the_classes_and_is_their_only_one_is_a_cameras() -> None:
    names = {f"{number % 4}/shotsofmine {number}.mp4": number % 4 for number in range(13)}
    names |= {f"{number % 4}/IMG_{number:04}.mp4": number % 4 for number in range(12)}
    videos = [Labelled(path, label) for path, label in names.items()]
    assert set(sources_of(videos, 1).values()) == {None}
    chosen, divided = split(names)
    assert Counter(names[path] for path in chosen) == {0: 1, 1: 1, 2: 1, 3: 1}
    assert not divided


def test_a_video_and_the_clips_that_were_cut_from_it_have_one_source() -> None:
    names = ["R6llTwEh07w", "R6llTwEh07w_000001_000003", "beach", "beach_2", "other", "a-b_c-12345"]
    names += ["a-b_c-12345_000001_000003", "IMG", "IMG_1"]
    videos = [Labelled(f"a/{name}.mp4", 0) for name in names]
    found = sources_of(videos, 1)
    assert [found[path] for path, _ in videos] == [
        *("R6llTwEh07w", "R6llTwEh07w", "beach", "beach", None, "a-b_c-12345", "a-b_c-12345"),
        *(None, None),
    ]


def test_a_recording_named_in_one_class_and_folders_in_several_are_believed() -> None:
    paths = ["0/beach_1.mp4", "0/beach_2.mp4", "0/day/1.mp4", "1/day/1.mp4", "1/IMG_1.mp4"]
    found = sources_of([Labelled(path, int(path[0])) for path in paths], 1)
    assert list(found.values()) == ["beach", "beach", "day", "day", None]


def test_names_that_tell_nothing_are_divided_one_by_one() -> None:
    names = {f"{label}/IMG_{number:04}.mp4": label for label in range(2) for number in range(20)}
    chosen, divided = split(names)
    assert Counter(names[path] for path in chosen) == {0: 4, 1: 4}
    assert not divided


def test_a_class_of_one_source_is_divided_and_said() -> None:
    names = {f"0/beach_{number}.mp4": 0 for number in range(10)}
    names |= {f"1/{place}_{number}.mp4": 1 for place in ("a1", "b2") for number in range(5)}
    chosen, divided = split(names)
    assert divided == [0]
    assert Counter(names[path] for path in chosen) == {0: 2, 1: 5}  # two sources: one of them


def test_no_class_loses_all_its_training_videos_to_a_source_that_another_wants() -> None:
    names = {"a/g1_1.mp4": 0} | {f"a/k1_{number}.mp4": 0 for number in range(9)}
    names |= {f"b/{source}_{number}.mp4": 1 for source in ("g1", "h1") for number in range(2)}
    chosen, _ = split(names)
    assert {names[path] for path in names.keys() - chosen} == {0, 1}
    assert {names[path] for path in chosen} == {0, 1}


def test_a_class_of_one_video_stays_in_train() -> None:
    chosen, _ = split({"0/x.mp4": 0, "1/y.mp4": 1, "1/z.mp4": 1})
    assert len(chosen) == 1
    assert chosen <= {"1/y.mp4", "1/z.mp4"}


def test_the_same_videos_are_held_out_in_any_order() -> None:
    names = {f"0/{number * 7919}.mp4": 0 for number in range(30)}
    assert split(names) == split(dict(reversed(names.items())))
