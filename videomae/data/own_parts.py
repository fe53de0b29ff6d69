"""Parts of a folder of one's own videos: which are trained on, and which are held out to test on.

Videos that the starting weights have seen already stay in train, wherever a class has others.
"""

import logging
from collections import defaultdict
from collections.abc import Set
from dataclasses import replace
from pathlib import Path

from videomae.data.trained_on import UNREADABLE, trained_on_folder
from videomae.lists.own_folder import OwnFolder, OwnFolderError, in_words
from videomae.lists.published import TEST, TRAIN, VAL
from videomae.lists.sources import Labelled, held_out, sources_of

logger = logging.getLogger(__name__)

TEST_SHARE, VAL_SHARE = 0.2, 0.1
"""Shares of each class that are held out for the test list, and for a validation list."""
SHOWN = 5
"""Largest number of classes or videos that a log line names."""


def seen_by(prepared: Path | None, folder: OwnFolder) -> frozenset[str]:
    """Return the paths of the videos of a folder that a run was trained on.

    Args:
        prepared: directory of the lists that it made of a folder; None: there are none.
    """
    if prepared is None or not prepared.is_dir():
        return frozenset()
    try:
        known = trained_on_folder(prepared)
    except UNREADABLE as error:
        logger.warning(f"{prepared} does not tell which videos the weights have seen: {error}")
        return frozenset()
    sizes = {video.path: video.stamp[0] for video in folder.videos}
    return known.among(folder.root, sizes)


def with_parts(folder: OwnFolder, seen: Set[str], *, labels: bool, val: bool) -> OwnFolder:
    """Return the folder with videos held out for a test list, and a validation list if wanted.

    Args:
        seen: paths of the videos that should not be tested on.
        labels: whether there must be a test list, as in fine-tuning.

    Raises:
        OwnFolderError: there must be one, and would be none.
    """
    parts = {video.part for video in folder.videos}
    if VAL in parts and TEST not in parts:
        videos = [
            replace(video, part=TEST if video.part == VAL else video.part)
            for video in folder.videos
        ]
        folder = replace(folder, videos=videos)
        logger.info("the split val is what is tested on, as there is no split test")
        parts = {video.part for video in folder.videos}
    if len(folder.classes) < 2:
        return folder
    if TEST not in parts:
        folder = _held_out(folder, TEST, TEST_SHARE, seen)
    if val and VAL not in parts:
        folder = _held_out(folder, VAL, VAL_SHARE)
    if labels:
        for part in (TEST, *([VAL] if val else [])):
            if all(video.part != part for video in folder.videos):
                raise OwnFolderError(
                    f"data.videos={folder.root}: no class has a second video, so that the {part} "
                    "list would be empty: add videos"
                )
    return folder


def _held_out(
    folder: OwnFolder, part: str, share: float, seen: Set[str] = frozenset()
) -> OwnFolder:
    """Return the folder with a share of each class's training videos in another part."""
    labels = {name: label for label, name in enumerate(folder.classes)}
    trained = [
        Labelled(video.path, labels[video.class_name])
        for video in folder.videos
        if video.part == TRAIN
    ]
    every = [Labelled(video.path, labels[video.class_name]) for video in folder.videos]
    of_any = sources_of(every, folder.class_depth)
    sources = {path: of_any[path] for path, _ in trained}
    chosen, divided = held_out(trained, sources, share, seen)
    videos = [
        replace(video, part=part) if video.path in chosen else video for video in folder.videos
    ]
    num = len(set(sources.values()) - {None})
    how = f"in whole recordings; names tell {in_words(num, 'recording')}"
    if not num:
        how = "one by one, as the names tell no recordings"
    if chosen:
        logger.info(
            f"{len(chosen):,} of {in_words(len(trained), 'video')} "
            f"({len(chosen) / len(trained):.0%}) {'is' if len(chosen) == 1 else 'are'} held out "
            f"for {part}: about {share:.0%} of each class, {how}"
        )
    else:
        logger.info(f"no video is held out for {part}: no class has a second one")
    if divided and num:
        logger.info(
            "all videos of a class have one source "
            f"({_some([folder.classes[label] for label in divided])}): they are divided one by "
            "one, and the result says less of unseen footage"
        )
    tested = defaultdict(set)
    for video in videos:
        tested[video.part].add(video.class_name)
    if lacking := sorted(tested[TRAIN] - tested[part]):
        logger.info(f"classes with one video are not in {part}: {_some(lacking)}")
    return replace(folder, videos=videos)


def _some(names: list[str]) -> str:
    """Return the first of some names, and whether there are more."""
    return ", ".join(names[:SHOWN]) + ", ..." * (len(names) > SHOWN)
