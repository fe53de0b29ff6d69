"""Pack the videos of a clip list: make them smaller once, so that every epoch decodes them fast.

    python -m videomae.pack list=LIST root=DIR out=PACK
    python -m videomae.pretrain +exp=NAME data.train_list=PACK/list.txt data.root=PACK

Each video is decoded strictly, shrunk to a short side of 256 pixels and encoded so that every
stride-th frame decodes without those between: pre-training's clips then decode a quarter of the
frames, to the same pixels. What was written is held against the source frame by frame. Written are

    PACK/shard-N.tar       the videos, MP4 files in plain tar archives, as WebDataset names them
    PACK/index.arrow       where each video lies, its checksum, frames, fps, size, label, source
    PACK/manifest.json     settings, counts, and the SHA-256 of every file
    PACK/list.txt          the list without the videos that could not be packed; list.parquet of a
                           Parquet list, whose ranges are cut out
    PACK/bad_files.jsonl   those, and why

A pack is a root: give it as data.root, or as root of extract and doctor, with its own list or with
another list of the same paths. A killed run goes on with the same command, to the same bytes. PACK
may be an address, s3://bucket/pack, to which each shard goes when it is complete.

    stride=4            the data.clip.stride you train with
    crf=22 keyint=32    quality, and frames from one key frame to the next
    check=true          only read PACK again, and say what is damaged
"""

import logging
from pathlib import Path
from typing import Any

from videomae.config import PackConfig
from videomae.run.command import command
from videomae.run.console import log_to_console

logger = logging.getLogger("videomae.pack")


@log_to_console()
def pack(config: PackConfig) -> None:
    """Pack the videos of config.list into config.out, or only read that pack again."""
    from videomae.data.checks import listed_data, read_list
    from videomae.data.forgetting import warn_of_unmatched
    from videomae.lists.clips import lines_hash, write_without
    from videomae.run.addresses import is_address
    from videomae.run.checks import check_place, require
    from videomae.run.files import sha256
    from videomae.video import transcoding
    from videomae.video.pack_target import PackTarget, is_complete
    from videomae.video.packing import Packing
    from videomae.video.packs import BAD, check_pack, list_of, print_pack, refuse_pack
    from videomae.video.transcode import Encoding

    if config.check:
        require(config, "out")
        check_pack(str(config.out))
        return
    require(config, "list", "root", "out")
    refuse_pack(Path(str(config.root)))
    source, out, target = Path(str(config.list)), Path(str(config.out)), None
    if is_address(config.out):
        target = PackTarget(str(config.out))
        out = target.staging(config.staging)
    name = target.name if target else str(out)
    check_place("staging" if target else "out", out)
    data = listed_data(config)
    lines = read_list(str(source), data, labelled=False, key="list")
    warn_of_unmatched({"list": lines})
    transcoding.check_labels(lines, source)

    encoding = Encoding(config.short_side, config.stride, config.keyint, config.crf, config.preset)
    shard_mb, list_hash = config.shard_mb, sha256(source)
    settings: dict[str, Any] = {
        "list_sha256": list_hash,
        "encoding": vars(encoding),
        "shard_mb": shard_mb,
    }
    if lines.left_out:
        settings["forgotten_sha256"] = lines_hash(lines.left_out)
    if is_complete(target or out, settings):
        logger.info(f"{name} is complete; check=true reads it again")
        return
    clips = transcoding.distinct_videos(lines)
    more = transcoding.identities_of(source, clips)
    listed = list_of(out, source)
    with Packing(out, clips, encoding, int(shard_mb * 1e6), settings, more, target) as packing:
        try:
            transcoding.transcode_all(packing, config)
        finally:
            bad = transcoding.write_left_out(packing, lines)
        note = f"{len(bad)} of {len(lines)} videos left out: see {BAD}" if bad else None
        without = {clip.line for clip in bad}.union(lines.left_out)
        write_without(listed, source, without, note)
        manifest = packing.finish()
    print_pack(name, manifest, source if target else listed)


main = command("pack")(pack)

if __name__ == "__main__":
    main()
