"""Damaged videos of a data set, found and taken out of its lists before they are written.

python -m videomae.prepare calls it with scan=quick or scan=strict.
"""

from pathlib import Path

from videomae.config import PrepareConfig, Scan
from videomae.lists.locate import Located, LocatedVideo
from videomae.lists.matching import MatchedLists
from videomae.lists.preparing import PrepareError
from videomae.run.cores import available_cores
from videomae.video.inspecting import QUICK, STRICT, Job, inspect_resumably


def without_damaged(
    lists: MatchedLists, located: Located, config: PrepareConfig, root: Path, out: Path
) -> MatchedLists:
    """Decode the videos of lists, and return the lists without those that cannot be decoded.

    Raises:
        PrepareError: there are no others.
    """

    def job(video: LocatedVideo) -> Job:
        path = root.absolute() / video.path
        if video.frames is None:
            return Job(path)
        assert located.frame_template is not None
        return Job(path, (located.frame_template, located.first_frame, video.frames))

    jobs = {job(video): video.path for video in lists.videos()}
    found = inspect_resumably(
        jobs,
        out / f"scan_{config.scan.name}.jsonl",
        config.workers or available_cores(),
        config.timeout_s,
        STRICT if config.scan is Scan.strict else QUICK,
        max_bytes=config.max_clip_bytes,
    )
    damaged = {path: str(found[job].error) for job, path in jobs.items() if not found[job].ok}
    if len(damaged) == len(jobs):
        path, why = next(iter(damaged.items()))
        raise PrepareError(
            f"none of the {len(jobs):,} videos can be decoded, such as {path}: {why}. "
            "python -m videomae.doctor says what is there to decode with; scan=off lists them all"
        )
    return lists.without(damaged)
