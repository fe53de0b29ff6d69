"""Transcoding the videos of a clip list for a pack, each in a process of its own.

python -m videomae.pack calls it; videomae.video.packing writes what comes of it into shards.
"""

import json
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from videomae.config import ConfigError, PackConfig, UserError
from videomae.lists.clips import ClipList
from videomae.lists.formats import Clip
from videomae.lists.parquet import is_parquet, place_of, text_columns
from videomae.lists.tolerance import JUDGED_FROM, too_many_bad
from videomae.lists.tombstones import IDENTITIES
from videomae.run.cores import available_cores
from videomae.run.files import write_text
from videomae.run.worker_pool import run_all
from videomae.video.inspecting import Job
from videomae.video.inspection import Inspection
from videomae.video.packing import Packing
from videomae.video.packs import BAD, key_of
from videomae.video.transcode import Transcoded

logger = logging.getLogger(__name__)

MOST_LABEL = 2**31 - 1
"""A pack's index holds no larger one."""


class TooManyLeftOut(UserError):  # noqa: N818  # says what is wrong better than an -Error would
    """More videos than max_bad_fraction allows cannot be packed, or none of them can."""


def check_labels(lines: ClipList, source: Path) -> None:
    """Check that the index of a pack can hold the labels of a list.

    Raises:
        ConfigError: naming the first line whose label is too large.
    """
    large = np.flatnonzero(lines.labels() > MOST_LABEL)
    if len(large):
        clip = lines[int(large[0])]
        raise ConfigError(
            f"{place_of(source, clip.line)}: label {clip.label} is above {MOST_LABEL}"
        )


def distinct_videos(lines: ClipList) -> list[Clip]:
    """Return the first line of each video, in the order of the list."""
    first = {key_of(clip): clip for clip in reversed(lines)}
    return sorted(first.values(), key=lambda clip: clip.line)


def transcode_all(packing: Packing, config: PackConfig) -> None:
    """Transcode the clips of a pack that are not done.

    Raises:
        TooManyLeftOut: what is done is kept.
        OSError: there is no room for what is written; what is done is kept.
    """
    clips = packing.clips
    todo = [number for number in range(len(clips)) if number not in packing.done]
    workers = min(config.workers or available_cores(), max(1, len(todo)))
    program = [sys.executable, "-m", "videomae.video.transcode"]
    requests = ((n, [*_request(packing, n, config), config.max_clip_bytes]) for n in todo)
    tried = 0
    with packing.journal.bar("packing", total=len(clips), done=len(clips) - len(todo)) as bar:
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
                _check_left_out(packing, config.max_bad_fraction)
    _check_left_out(packing, config.max_bad_fraction)


def _request(packing: Packing, number: int, config: PackConfig) -> list[object]:
    """Return what videomae.video.transcode is asked, less the memory that it may take."""
    target = packing.staged(number).absolute()
    job = Job.of_clip(packing.clips[number], config)
    return [*job.request(), str(target), vars(packing.encoding)]


def _check_left_out(packing: Packing, max_bad_fraction: float) -> None:
    """Check that few enough of the videos that are done cannot be packed.

    Raises:
        TooManyLeftOut: naming how many, and why.
    """
    bad = {number: made for number, made in packing.done.items() if not made.source.ok}
    errors = [made.source.error for made in bad.values()]
    nothing = len(errors) == len(packing.clips)
    if nothing or too_many_bad(len(errors), len(packing.done), max_bad_fraction):
        reasons = Counter(str(error).partition(" (")[0] for error in errors)
        said = ", ".join(f"{reason}: {count:,}" for reason, count in reasons.most_common())
        raise TooManyLeftOut(
            f"{len(errors):,} of {len(packing.done):,} videos cannot be packed ({said}; limit "
            f"{max_bad_fraction:.1%}, max_bad_fraction; one video is always put up with). "
            f"The first is {packing.clips[min(bad)].path}; {packing.out / BAD} names all. Mend "
            "them or the root, or raise the limit; the same command goes on"
        )


def write_left_out(packing: Packing, lines: Sequence[Clip]) -> list[Clip]:
    """Write bad_files.jsonl of a pack, and return the lines of the list that it names."""
    errors = {
        key_of(packing.clips[number]): made.source.error
        for number, made in packing.done.items()
        if not made.source.ok
    }
    bad = [clip for clip in lines if key_of(clip) in errors]
    entries = []
    for clip in bad:
        entry = {"path": clip.path, "line": clip.line, "error": errors[key_of(clip)]}
        if clip.span is not None:
            entry |= {"start_frame": clip.start_frame, "end_frame": clip.end_frame}
        entries.append(json.dumps(entry) + "\n")
    write_text(packing.out / BAD, "".join(entries))
    return bad


def identities_of(source: Path, clips: Sequence[Clip]) -> dict[str, list[str | None]] | None:
    """Return what the index takes over from a Parquet list: its columns of IDENTITIES, a text for
    each clip; None: it is a text list.

    Raises:
        ClipListError: the list is damaged, or one of the columns is no text.
    """
    if not is_parquet(source):
        return None
    parts = list(text_columns(source, IDENTITIES))
    rows = pa.array([clip.line - 1 for clip in clips])
    return {
        name: pa.chunked_array([part[name] for part in parts]).take(rows).to_pylist()
        for name in (parts[0] if parts else ())
    }
