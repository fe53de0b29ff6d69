"""Checks of clip lists and their videos, made before a command begins its work."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from videomae.config import ClipConfig, ConfigError, DataConfig
from videomae.config.lists import ListedConfig
from videomae.data.forgetting import with_tombstones
from videomae.lists.clips import ClipList, read_clips
from videomae.lists.formats import Clip
from videomae.lists.overlaps import num_overlapping, num_ranges
from videomae.video.opening import pack_of
from videomae.video.packs import named

logger = logging.getLogger(__name__)

CHECKED = 100
"""Number of videos at the start of a list whose existence is checked before a run."""


def training_clips(data: DataConfig, *, labelled: bool) -> ClipList:
    """Read the training list, or the lists of all sources joined in their order.

    Raises:
        ClipListError: a list cannot be read.
        ConfigError: the videos of a list are missing.
    """
    lists = []
    for section, part in data.parts().items():
        key = f"{section}.train_list"
        clips = read_list(
            str(part.train_list), part, labelled=labelled, key=key, keeps_forgotten=True
        )
        lists.append(clips)
    return lists[0] if len(lists) == 1 else ClipList.joined(lists)


def read_list(
    path: str, data: DataConfig, *, labelled: bool, key: str, keeps_forgotten: bool = False
) -> ClipList:
    """Read a list whose videos a command uses, and check its first ones.

    How many of its lines are forgotten and how many are ranges is logged; the command tells by
    warn_of_unmatched of tombstones that no list of its matches.

    Args:
        labelled: whether each clip must have what data.target learns.
        key: the setting that names the list.
        keeps_forgotten: whether videos that data.tombstones names keep their lines, so that the
            others keep their numbers; they are marked. Or else they are left out.

    Raises:
        ClipListError: the list cannot be read.
        TombstoneError: the tombstones cannot be read.
        ConfigError: its videos are not there, or all are forgotten.
    """
    clips = with_tombstones(
        read_clips(path, data, labelled=labelled, key=key), Path(path), data, key
    )
    kept = clips.without_forgotten()
    for stones in clips.stones:
        logger.info(
            f"{key}: forgotten lines: {len(kept.left_out):,} of {len(clips):,}; {stones.setting} "
            f"({data.tombstones}) holds {len(stones):,} tombstones"
        )
    if not kept:
        raise ConfigError(f"data.tombstones={data.tombstones} names all videos of {key}={path}")
    check_videos(kept[:CHECKED], data, key)
    if count := num_ranges(kept):
        logger.info(
            f"{key}: ranges of videos: {count:,} of {len(kept):,} lines; lines that share frames "
            f"with another: {num_overlapping(kept):,}"
        )
    return clips if keeps_forgotten else kept


def labelled_clips(data: DataConfig, name: str) -> ClipList:
    """Return the clips of the labelled list that data.NAME names, such as test_list.

    Raises:
        ClipListError: the list cannot be read.
        ConfigError: its videos are not there.
    """
    return read_list(str(getattr(data, name)), data, labelled=True, key=f"data.{name}")


def listed_data(config: ListedConfig) -> DataConfig:
    """Return the data settings by which a command reads the videos of its own list.

    No clips are cut out of these videos: what the settings say of a clip has no effect.
    """
    return DataConfig(
        clip=ClipConfig(frames=1, stride=1, size=1),
        root=config.root,
        list_format=config.list_format,
        frame_template=config.frame_template,
        first_frame=config.first_frame,
        tombstones=config.tombstones,
    )


def check_videos(clips: Sequence[Clip], data: DataConfig, key: str) -> None:
    """Check that some of the list's first videos exist, since a wrong root would miss them all.

    Raises:
        ConfigError: all of them are missing, or files of a pack are. It names list and root.
    """
    first, prefix = clips[:CHECKED], key[: key.rfind(".") + 1]
    root, pack = Path(data.root or ""), pack_of(data)
    if pack and (damage := pack.damage(thorough=False)):
        raise ConfigError(
            f"the pack {prefix}root={pack.name} is not whole: {'; '.join(damage[:5])}. Copy it "
            f"again; python -m videomae.pack out={pack.name} check=true reads all of it"
        )
    if not any(pack.holds(clip) if pack else os.path.exists(root / clip.path) for clip in first):
        cut = [clip for clip in first if pack and pack.holds_file(clip)]
        if pack and cut:
            raise ConfigError(
                f"none of the first {len(first)} videos of {key} is in the pack {pack.name}, which "
                f"was made of other ranges of them: line {cut[0].line} means {named(cut[0])}. Pack "
                f"this list, or give the list that lies in the pack as {key}"
            )
        raise ConfigError(
            f"none of the first {len(first)} videos of {key} is there: line {first[0].line} means "
            f"{Path(data.root or '') / first[0].path}. Are {prefix}root={data.root} and "
            f"{prefix}list_format={data.list_format.name} right?"
        )


def warn_of_shared(test: ClipList, key: str, others: Mapping[str, ClipList]) -> dict[str, int]:
    """Warn of test videos whose files are also in a list for training or model selection.

    Args:
        key: the setting that names the list of `test`.
        others: the other lists, by the settings that name them.

    Returns:
        number of shared videos by the other list's setting; lists that share none are left out.
    """
    counts = {other: test.num_shared(clips) for other, clips in others.items()}
    shared = {other: count for other, count in counts.items() if count}
    for other, count in shared.items():
        ranges = num_ranges(test) or num_ranges(others[other])
        are = f"are of files that {other} uses too" if ranges else f"are in {other} too"
        logger.info(
            f"WARNING: {count} of {len(test)} videos of {key} {are}: the result is no measure of "
            "unseen videos"
        )
    return shared
