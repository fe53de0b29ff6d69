"""Inspect many videos in worker processes, with progress that a later call can resume.

Used by videomae.scan, and by videomae.prepare scan=strict and scan=quick.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from videomae.config import MAX_CLIP_BYTES
from videomae.config.lists import LinesConfig
from videomae.config.typed import check_types
from videomae.lists.formats import Clip, Span
from videomae.run.journal import Journal
from videomae.run.worker_pool import CRASHED, ended_from_outside, run_all
from videomae.video.inspection import Inspection

STRICT = (sys.executable, "-m", "videomae.video.inspection")
"""The program that decodes one video after another from its first frame to its last."""
QUICK = (sys.executable, "-m", "videomae.video.quick")
"""The program that reads three frames of one video after another."""
VERSION = 3
"""Version of the inspection: results of other versions in the progress file are ignored."""


@dataclass(frozen=True)
class Job:
    """A video to inspect."""

    path: Path
    frames: tuple[str, int, int | None] | None = None
    """File-name template, first number and count (None: all that are there) of a folder of frames;
    None: a video file."""
    span: Span | None = None
    """Range of the video file's frames; None: all of them."""

    @classmethod
    def of_clip(cls, clip: Clip, data: LinesConfig) -> "Job":
        """Return the job of inspecting the video of a list's line."""
        path = Path(str(data.root)).absolute() / clip.path
        if clip.start is None:
            return cls(path, None, clip.span)
        assert data.frame_template is not None  # read_clips has checked it
        return cls(path, (data.frame_template, clip.start, clip.total))

    def request(self) -> list[Any]:
        """Return the job as JSON holds it, as the first entries of a request to a program."""
        return [str(self.path), self.frames, self.span]


Stamp = tuple[int, int] | None
"""Size of a file in bytes and its modification time in ns; None: the file is missing."""


def inspect_resumably(
    jobs: Iterable[Job],
    progress: Path,
    workers: int,
    timeout_s: float,
    command: Sequence[str] = STRICT,
    max_bytes: int = MAX_CLIP_BYTES,
) -> dict[Job, Inspection]:
    """Inspect all videos, except those that an earlier call did and that have not changed since.

    Args:
        progress: file of JSON lines to which results are appended; each `command` needs its own.
        workers: number of processes, at most.
        timeout_s: seconds after which a video counts as damaged.
        max_bytes: bytes of memory that reading a video may take; more counts as damaged.
    """
    stamps = {job: _stamp(job.path) for job in jobs}
    settings = {"version": VERSION, "max_bytes": max_bytes, "program": command[-1]}
    with Journal(progress, settings) as journal:
        done = _done_before(journal.entries, stamps, max_bytes)
        todo = [job for job in stamps if job not in done]
        with journal.bar("scanning", total=len(stamps), done=len(done)) as bar:
            workers = min(workers, max(1, len(todo)))
            for job, found in inspect_all(todo, workers, timeout_s, command, max_bytes):
                done[job] = found
                journal.note(_entry(job, stamps[job], found, max_bytes))
                bar.advance()
    return done


def inspect_all(
    jobs: Iterable[Job],
    workers: int,
    timeout_s: float,
    command: Sequence[str] = STRICT,
    max_bytes: int = MAX_CLIP_BYTES,
) -> Iterator[tuple[Job, Inspection]]:
    """Inspect all videos; yield each job with its result, in the order in which they finish.

    Where a signal from outside ends the program, such as SIGKILL, its video is inspected once more,
    after the others: only one that meets it twice counts as damaged.
    """
    killed: list[Job] = []
    for waiting, again in ((jobs, False), (killed, True)):
        requests = ((job, [*job.request(), max_bytes]) for job in waiting)
        for job, answer in run_all(command, requests, workers, timeout_s):
            if not isinstance(answer, str):
                yield job, Inspection(**answer)
            elif ended_from_outside(answer) and not again:
                killed.append(job)
            else:
                yield job, Inspection(ok=False, error=answer)


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


def _entry(job: Job, stamp: Stamp, found: Inspection, max_bytes: int) -> dict[str, Any]:
    key: dict[str, Any] = {
        "version": VERSION,
        "path": str(job.path),
        "frames": job.frames,
        "stamp": stamp,
    }
    key |= {"max_bytes": max_bytes} | ({"span": job.span} if job.span else {})
    return key | {"found": asdict(found)}


def _done_before(
    entries: Iterable[Mapping[str, Any]], stamps: Mapping[Job, Stamp], max_bytes: int
) -> dict[Job, Inspection]:
    """Return the results of this version and memory limit for files that have not changed since.

    Lines that cannot be parsed are ignored, so that their videos are inspected again. So are those
    on which the program crashed: with other versions of its libraries it may not.
    """
    done: dict[Job, Inspection] = {}
    for entry in entries:
        if entry.get("version") != VERSION or entry.get("max_bytes") != max_bytes:
            continue
        try:
            frames, span = (tuple(entry.get(name) or ()) or None for name in ("frames", "span"))
            job = Job(Path(entry["path"]), frames, span)
            stamp = tuple(entry["stamp"]) if entry["stamp"] else None
            if stamp is not None and stamps.get(job) == stamp:
                found = Inspection(**entry["found"])
                check_types(found)
                if not (found.error or "").startswith(CRASHED):
                    done[job] = found
        except (KeyError, TypeError, ValueError):
            continue
    return done
