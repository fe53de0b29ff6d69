"""Pack a clip list: shrink its videos once, so that every epoch reads and decodes them fast.

    python -m videomae.pack list=LIST root=DIR out=PACK
    python -m videomae.pretrain +exp=NAME data.train_list=PACK/list.txt data.root=PACK

Each video is decoded strictly, shrunk to a short side of 256 pixels and encoded so that every
stride-th frame decodes without those between: pre-training's clips then decode a quarter of the
frames, to the same pixels. What was written is held against the source frame by frame. Written are

    PACK/shard-N.tar       the videos, MP4 files in plain tar archives, as WebDataset names them
    PACK/index.arrow       where each video lies, its checksum, frames, fps, size, label, source
    PACK/manifest.json     settings, counts, and the SHA-256 of every file
    PACK/list.txt          the list without the videos that could not be packed
    PACK/bad_files.jsonl   those, and why

A pack is a root: give it as data.root to any command, with its own list or with any other list of
the same paths. A killed run goes on with the same command, to the same bytes.

    stride=4            the data.clip.stride you train with
    crf=22 keyint=32    quality, and frames from one key frame to the next
    check=true          only read PACK again, and say what is damaged
"""

import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from videomae.config import ClipConfig, ConfigError, DataConfig, PackConfig, UserError
from videomae.data.checks import check_videos
from videomae.lists.clips import Clip, read_clips, write_without
from videomae.lists.tolerance import JUDGED_FROM, too_many_bad
from videomae.run.checks import check_place, require
from videomae.run.command import command
from videomae.run.console import Facts, log_to_console, progress_bar
from videomae.run.cores import available_cores
from videomae.run.files import sha256, write_text
from videomae.run.programs import run_all
from videomae.video.inspection import Inspection
from videomae.video.packing import Packing
from videomae.video.packs import BAD, LIST, MANIFEST, Pack, source_of
from videomae.video.transcode import Encoding, Transcoded

logger = logging.getLogger("videomae.pack")


class TooManyLeftOut(UserError):  # noqa: N818  # says what is wrong better than an -Error would
    """More videos than max_bad_fraction allows cannot be packed, or none of them can."""


MOST_LABEL = 2**31 - 1
"""A pack's index holds no larger one."""


@log_to_console()
def pack(config: PackConfig) -> None:
    """Pack config.list into config.out."""
    if config.check:
        require(config, "out")
        check_pack(Path(str(config.out)))
        return
    require(config, "list", "root", "out")
    source, out = Path(str(config.list)), Path(str(config.out))
    check_place("out", out)
    encoding = Encoding(config.short_side, config.stride, config.keyint, config.crf, config.preset)
    data = DataConfig(
        clip=ClipConfig(frames=1, stride=1, size=1),  # has no say here
        root=config.root,
        list_format=config.list_format,
        frame_template=config.frame_template,
        first_frame=config.first_frame,
    )
    lines = read_clips(source, data, labelled=False, key="list")
    large = np.flatnonzero(lines.labels() > MOST_LABEL)
    if len(large):
        clip = lines[int(large[0])]
        raise ConfigError(f"{source}:{clip.line}: label {clip.label} is above {MOST_LABEL}")
    check_videos(lines, data, "list")
    settings = {
        "list_sha256": sha256(source),
        "encoding": vars(encoding),
        "shard_mb": config.shard_mb,
    }
    if os.path.exists(out / MANIFEST):
        if Pack(out).manifest["settings"] != json.loads(json.dumps(settings)):
            raise ConfigError(
                f"{out} holds a pack of another list or of other settings: choose another out"
            )
        logger.info(f"{out} is complete; check=true reads it again")
        return
    first = {source_of(clip): clip for clip in reversed(lines)}  # a file named twice is packed once
    clips = sorted(first.values(), key=lambda clip: clip.line)
    shard_bytes = int(config.shard_mb * 1e6)
    with Packing(out, clips, encoding, shard_bytes, settings) as packing:
        try:
            _transcode(packing, data, config)
        finally:
            left_out = {
                source_of(clips[number]): made.source.error
                for number, made in sorted(packing.done.items())
                if not made.source.ok
            }
            bad = [clip for clip in lines if source_of(clip) in left_out]
            _write_bad(out / BAD, bad, left_out)
        note = f"{len(bad)} of {len(lines)} videos left out: see {BAD}" if bad else None
        write_without(out / LIST, source, {clip.line for clip in bad}, note)
        packing.finish()
    _report(out, left_out)


def _write_bad(file: Path, bad: Sequence[Clip], errors: Mapping[str, str | None]) -> None:
    """Write a line of each video that is left out."""
    entries = (
        {"path": clip.path, "line": clip.line, "error": errors[source_of(clip)]} for clip in bad
    )
    write_text(file, "".join(json.dumps(entry) + "\n" for entry in entries))


def _transcode(packing: Packing, data: DataConfig, config: PackConfig) -> None:
    """Transcode the clips that are not done.

    Raises:
        TooManyLeftOut: what is done is kept.
        OSError: there is no room for what is written, likewise.
    """
    clips = packing.clips
    todo = [number for number in range(len(clips)) if number not in packing.done]
    if len(todo) < len(clips):
        logger.info(f"{len(clips) - len(todo):,} of {len(clips):,} videos are packed already")
    workers = min(config.workers or available_cores(), max(1, len(todo)))
    program = [sys.executable, "-m", "videomae.video.transcode"]
    requests = ((n, [*_request(packing, n, data), config.max_clip_bytes]) for n in todo)
    tried = 0
    with progress_bar("packing", total=len(clips), done=len(clips) - len(todo)) as bar:
        for number, answer in run_all(program, requests, workers, config.timeout_s):
            if isinstance(answer, str):
                made = Transcoded(Inspection(ok=False, error=answer))
            else:
                made = Transcoded(**(answer | {"source": Inspection(**answer["source"])}))
            if made.out_of_disk:
                raise OSError(*made.out_of_disk)
            packing.add(number, made)
            bar.advance()
            tried += 1
            if tried == JUDGED_FROM or (tried > JUDGED_FROM and not made.source.ok):
                _judge(packing, config)
    _judge(packing, config)


def _request(packing: Packing, number: int, data: DataConfig) -> list[object]:
    """What the program is asked, less the memory it may take: see videomae.video.transcode."""
    clip = packing.clips[number]
    path = Path(str(data.root)).absolute() / clip.path
    frames = None if clip.total is None else (data.frame_template, clip.start, clip.total)
    target = packing.staged(number).absolute()
    return [str(path), frames, str(target), vars(packing.encoding)]


def _judge(packing: Packing, config: PackConfig) -> None:
    """Stop where too many videos cannot be packed.

    Raises:
        TooManyLeftOut: naming how many, and why.
    """
    bad = {number: made for number, made in packing.done.items() if not made.source.ok}
    errors = [made.source.error for made in bad.values()]
    nothing = len(errors) == len(packing.clips)
    if nothing or too_many_bad(len(errors), len(packing.done), config.max_bad_fraction):
        reasons = Counter(str(error).partition(" (")[0] for error in errors)
        said = ", ".join(f"{reason}: {count:,}" for reason, count in reasons.most_common())
        raise TooManyLeftOut(
            f"{len(errors):,} of {len(packing.done):,} videos cannot be packed ({said}; limit "
            f"{config.max_bad_fraction:.1%}, max_bad_fraction; one video is always put up with). "
            f"The first is {packing.clips[min(bad)].path}; {packing.out / BAD} names all. Mend "
            "them or the root, or raise the limit; the same command goes on"
        )


def _report(out: Path, left_out: dict[str, str | None]) -> None:
    """Print what the pack holds, and how to use it."""
    manifest = Pack(out).manifest
    size = sum(shard["bytes"] for shard in manifest["shards"])
    rows = [
        ("videos", f"{manifest['num_videos']:,}", f"{manifest['num_frames']:,} frames"),
        ("left out", f"{len(left_out):,}", str(out / BAD) if left_out else ""),
        (
            "size",
            f"{size / 1e6:,.1f} MB",
            f"the sources have {manifest['source_bytes'] / 1e6:,.1f}",
        ),
        ("shards", f"{len(manifest['shards']):,}", ""),
    ]
    if manifest["num_videos"]:
        worst = f"of the luma against the shrunk sources; worst frame {manifest['min_psnr']:.1f}"
        rows.append(("PSNR", f"{manifest['psnr']:.1f} dB", worst))
    logger.info(Facts(f"{out}", rows))
    logger.info(f"use it as a root: data.train_list={out / LIST} data.root={out}")


def check_pack(out: Path) -> None:
    """Read all of a pack.

    Raises:
        UserError: files are missing or damaged, which the message names.
    """
    if damage := Pack(out).damage(thorough=True):
        raise UserError(
            f"{out} is damaged: {'; '.join(damage)}. Copy these files again, or pack anew"
        )
    logger.info(f"{out}: every byte is as it was written")


main = command("pack")(pack)

if __name__ == "__main__":
    main()
