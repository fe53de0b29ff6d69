"""Parts of a folder of one's own videos: which are trained on, and which are held out to test on.

Videos that the starting weights have seen already stay in train, wherever a class has others.
"""

import logging
import os
from collections import defaultdict
from collections.abc import Set
from dataclasses import dataclass, replace
from pathlib import Path

from videomae.config import ConfigError
from videomae.lists.own_folder import OwnFolder, OwnFolderError, in_words, stamps_of
from videomae.lists.prepared import read_prepared
from videomae.lists.published import TEST, TRAIN, VAL
from videomae.lists.sources import Labelled, held_out, sources_of
from videomae.lists.text_files import text_lines
from videomae.lists.walk import printable

logger = logging.getLogger(__name__)

TEST_SHARE, VAL_SHARE = 0.2, 0.1
"""Shares of each class that are held out for the test list, and for a validation list."""
SHOWN = 5
"""Largest number of classes or videos that a log line names."""


@dataclass(frozen=True)
class Seen:
    """The videos of a folder that an earlier run was trained on."""

    run: Path | None = None
    """Directory of that run; None: there is none, or nothing is known of its videos."""
    paths: frozenset[str] = frozenset()
    """Paths below the folder's root, with slashes."""


def seen_by(prepared: Path | None, folder: OwnFolder) -> Seen:
    """Return which videos of a folder a run was trained on, by the lists that it made of a folder.

    A video is the same if its file is, or if it has the same path below another folder, as after a
    move or a copy, and not another size there.

    Args:
        prepared: directory of those lists.
    """
    if prepared is None or not prepared.is_dir():
        return Seen()
    try:
        facts = read_prepared(prepared)
        files = [prepared / each.file for each in facts.lists if each.part == TRAIN]
        lines = [line for file in files for line in text_lines(file)]
    except (OSError, ValueError, ConfigError) as error:
        logger.warning(f"{prepared} does not tell which videos the weights have seen: {error}")
        return Seen()
    inner = {os.path.normpath(line.rpartition(" ")[0]) for line in lines}
    whole = {os.path.join(facts.root, path) for path in inner}
    ours, theirs = folder.root.resolve(), Path(facts.root)
    sizes = {path: stamp and stamp[0] for path, stamp in stamps_of(theirs, inner).items()}
    found = {
        video.path
        for video in folder.videos
        if str(ours / video.path) in whole
        or (video.path in inner and sizes[video.path] in (None, video.stamp[0]))
    }
    return Seen(prepared.parent, frozenset(found))


def with_parts(folder: OwnFolder, seen: Seen, *, labels: bool, val: bool) -> OwnFolder:
    """Return the folder with videos held out for a test list, and a validation list if wanted.

    Args:
        seen: the videos that should not be tested on.
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
        folder = _held_out(folder, TEST, TEST_SHARE, seen.paths)
    if val and VAL not in parts:
        folder = _held_out(folder, VAL, VAL_SHARE)
    if labels:
        for part in (TEST, *([VAL] if val else [])):
            if all(video.part != part for video in folder.videos):
                raise OwnFolderError(
                    f"data.videos={folder.root}: no class has a second video, so that the {part} "
                    "list would be empty: add videos"
                )
    _warn_of_seen(folder, seen)
    return folder


def _warn_of_seen(folder: OwnFolder, seen: Seen) -> None:
    """Warn of test videos that the starting weights have seen."""
    tested = [video.path for video in folder.videos if video.part == TEST]
    if known := sorted(seen.paths.intersection(tested)):
        were = "was" if len(known) == 1 else "were"
        logger.warning(
            f"{len(known):,} of the {in_words(len(tested), 'test video')} {were} trained on by "
            f"{seen.run}, such as {printable(known[0])}: the result may be better than on new "
            "videos. Pre-train on the folder as it is now, which leaves out what is tested on, or "
            "add new videos to these classes"
        )


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
