"""Engines of stage measure: what they have in common, and the one that uses this machine alone.

A process that dies, or takes too long, by its video's fault costs that video: it is tried once more
while nothing else runs, and then gets a row with an error. A process that others end, such as by
SIGKILL, costs nothing: its video is measured again.
"""

import logging
import os
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from videomae.config import EngineConfig, UserError
from videomae.curate.measuring import Measured, error_row
from videomae.curate.shards import Shards, write_measured
from videomae.run.console import progress_bar
from videomae.run.cores import available_cores
from videomae.run.worker_pool import Answer, ended_from_outside, run_all

logger = logging.getLogger(__name__)

PROGRAM = "videomae.curate.measuring"
"""Module that is run as the program that measures one video after another."""
MOST_KILLS = 20
"""How often in all a process may be ended from outside while it measures one video."""


@dataclass(frozen=True)
class VideoJob:
    """A video to measure."""

    path: Path
    source_sha256: str
    key: str
    """Key of its measurement."""
    failure_key: str
    """Key of its row with an error, which holds for one time limit and one limit of memory."""


@dataclass
class Totals:
    """Sums over the videos that were measured in this call."""

    videos: int = 0
    video_s: float = 0.0
    total_s: float = 0.0
    decode_s: float = 0.0
    failed: dict[Path, str] = field(default_factory=dict)
    """Reason by path of each video that was measured in part or not at all."""
    changed: dict[Path, str] = field(default_factory=dict)
    """Reason by path of each video that is not the one that stage sources saw."""
    began: float = field(default_factory=time.monotonic)

    def add(self, job: VideoJob, answer: Measured) -> None:
        """Add the answer about one video."""
        self.videos += 1
        self.video_s += answer.video_s
        self.total_s += answer.total_s
        self.decode_s += answer.decode_s
        if answer.error:
            (self.failed if answer.clips else self.changed)[job.path] = answer.error

    def note(self) -> str:
        """Return the speed and the share of decoding as a short text."""
        rate = self.videos / max(1e-9, time.monotonic() - self.began)
        share = f", {self.decode_s / self.total_s:.0%} decoding" if self.total_s else ""
        return f"{rate:.2f} videos/s{share}"


@dataclass(frozen=True)
class Lost:
    """The end of a measurement that its video did not cause: the video is measured again."""

    reason: str
    counts: bool = True
    """Whether it counts towards MOST_KILLS; not so where other videos were lost with it."""


Attempt = Iterator[tuple[VideoJob, Answer | Lost]]
"""Videos with their answers, in the order of the answers."""


class Engine(ABC):
    """Measures videos; a subclass says where.

    Args:
        settings: settings of the measurement, as the program takes them.
        shards: where the results go.
    """

    def __init__(self, config: EngineConfig, settings: dict[str, object], shards: Shards) -> None:
        self.config = config
        self.settings = settings
        self.shards = shards
        self.kills: Counter[VideoJob] = Counter()
        self.totals = Totals()

    @abstractmethod
    def attempt(self, jobs: Sequence[VideoJob], *, alone: bool) -> Attempt:
        """Measure videos, each once, and yield what became of each.

        Args:
            alone: whether nothing else may be measured while one of them is.
        """

    def measure(self, jobs: Sequence[VideoJob], done: int) -> Totals:
        """Measure videos, and put their results into the shards.

        Args:
            done: number of videos that were measured before, for the progress.

        Raises:
            OSError: the results cannot be written.
            UserError: something ends the process of one video again and again.
        """
        waiting = _Groups(self.shards, jobs, self.config.shard)
        with progress_bar("measuring", total=done + len(jobs), done=done) as bar:
            suspects: dict[VideoJob, str] = {}
            for job, answer in self._answers(jobs, alone=False):
                if isinstance(answer, str):
                    suspects[job] = answer
                    continue
                waiting.finish(job, self._take(job, answer))
                bar.advance(note=self.totals.note())
            for job, answer in self._answers(list(suspects), alone=True):
                if isinstance(answer, str):
                    self._give_up(job, answer)
                    waiting.finish(job, job.failure_key)
                else:
                    waiting.finish(job, self._take(job, answer))
                bar.advance(note=self.totals.note())
        return self.totals

    def _answers(
        self, jobs: Sequence[VideoJob], *, alone: bool
    ) -> Iterator[tuple[VideoJob, Answer]]:
        """Yield each job with its answer; those that were lost are tried again."""
        waiting = list(jobs)
        while waiting:
            again = []
            for job, answer in self.attempt(waiting, alone=alone):
                if not isinstance(answer, dict) and self.shards.file(job.key).exists():
                    yield job, dict(Measured().__dict__)  # it had finished, and could not say so
                elif isinstance(answer, Lost):
                    self._count_kill(job, answer)
                    again.append(job)
                else:
                    yield job, answer
            waiting = again

    def request(self, job: VideoJob) -> list[object]:
        """Return the request to the program that measures this video."""
        path, target = (os.path.abspath(each) for each in (job.path, self.shards.file(job.key)))
        return [path, job.source_sha256, self.settings, target, self.config.max_clip_bytes]

    def _count_kill(self, job: VideoJob, lost: Lost) -> None:
        self.kills[job] += lost.counts
        if self.kills[job] >= MOST_KILLS:
            raise UserError(
                f"{job.path}: its process was killed {MOST_KILLS} times (at last: {lost.reason}): "
                "the machine may lack memory (engine.workers=1, a smaller engine.max_clip_bytes), "
                "or remove the video. What is done is kept: the same command goes on"
            )

    def _take(self, job: VideoJob, answer: dict[str, object]) -> str | None:
        """Add an answer to the totals; return the key of its file, None if it wrote none."""
        found = Measured(**answer)  # type: ignore[arg-type]  # the program's own JSON
        if found.out_of_disk is not None:
            number, reason = found.out_of_disk
            raise OSError(number, reason, str(self.shards.file(job.key)))
        self.totals.add(job, found)
        return job.key if self.shards.file(job.key).exists() else None

    def _give_up(self, job: VideoJob, reason: str) -> None:
        """Write the row of a video that could not be measured twice."""
        reason = reason.replace("decod", "measur", 1) if reason.startswith("not") else reason
        write_measured(self.shards.file(job.failure_key), [error_row(job.source_sha256, reason)])
        self.totals.add(job, Measured(clips=1, error=reason))


class LocalEngine(Engine):
    """Measures videos in processes of this machine."""

    def attempt(self, jobs: Sequence[VideoJob], *, alone: bool) -> Attempt:
        workers = 1 if alone else min(self.config.workers or available_cores(), len(jobs))
        command = (sys.executable, "-m", PROGRAM)
        requests = ((job, self.request(job)) for job in jobs)
        for job, answer in run_all(command, requests, workers, self.config.timeout_s):
            yield job, told(answer)


def told(answer: Answer) -> Answer | Lost:
    """Return a program's answer; one that says that others have ended the program as Lost."""
    outside = isinstance(answer, str) and ended_from_outside(answer)
    return Lost(str(answer)) if outside else answer


class _Groups:
    """Videos that become a shard together, once all of them are measured.

    Args:
        size: number of videos of a shard.
    """

    def __init__(self, shards: Shards, jobs: Sequence[VideoJob], size: int) -> None:
        self.shards = shards
        self.group = {job: number // size for number, job in enumerate(jobs)}
        self.left = Counter(self.group.values())
        self.keys: dict[int, list[str]] = {}

    def finish(self, job: VideoJob, key: str | None) -> None:
        """Note that a video is done, with the key of its file; put its shard together if it is the
        last one."""
        number = self.group[job]
        if key is not None:
            self.keys.setdefault(number, []).append(key)
        self.left[number] -= 1
        if self.left[number] == 0:
            self.shards.compact(self.keys.pop(number, []))
